//! Limit, calls in flight and the server's queue over time, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::{scenario::Scenario, world::Record};

/// Draws one run; returns what went wrong, if anything.
pub(crate) fn draw(
    directory: &Path,
    scenario: &Scenario,
    who: &str,
    record: &Record,
) -> Result<(), Box<dyn std::error::Error>> {
    let file = scenario.name.to_lowercase().replace([' ', ',', '×'], "-");
    let path = directory.join(format!("{file}.svg"));
    let area = SVGBackend::new(&path, (960, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let seconds = record.limit.len() as f64 / 10.0;
    let series = [&record.limit, &record.in_flight, &record.queue];
    let most = series.iter().flat_map(|values| values.iter()).max();
    let most = f64::from(most.copied().unwrap_or(1)) * 1.1;
    let caption = format!("{}: {who}", scenario.name);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("calls")
        .light_line_style(WHITE)
        .draw()?;
    let colors = [
        RGBColor(200, 60, 40),
        RGBColor(60, 110, 180),
        RGBColor(120, 160, 60),
    ];
    let names = ["limit", "in flight", "waiting at the server"];
    // At most a thousand points, so that the picture stays small; their highest.
    let stride = record.limit.len().div_ceil(1_000).max(1);
    for ((values, color), name) in series.iter().zip(colors).zip(names).rev() {
        let points = values.chunks(stride).enumerate().map(|(number, chunk)| {
            let at = (number * stride) as f64 / 10.0;
            (at, f64::from(chunk.iter().max().copied().unwrap_or(0)))
        });
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(1)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    if let Some(best) = &scenario.best {
        let best = best.clone();
        let points = (0..=seconds as u32).map(|second| {
            let second = f64::from(second);
            let step = best.iter().rev().find(|(from, _)| *from <= second);
            (second, step.map_or(0.0, |(_, limit)| *limit))
        });
        chart
            .draw_series(LineSeries::new(points, BLACK.mix(0.6).stroke_width(1)))?
            .label("best limit")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
