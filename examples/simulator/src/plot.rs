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
    let most = f64::from(most.copied().unwrap_or(1)) * 1.4;
    let caption = format!("{}: {who}", scenario.name);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        // The last label of the axis stands half outside.
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("calls")
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_label_formatter(&|calls| format!("{calls:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    // At most a thousand points, so that the picture stays small; their highest.
    let stride = record.limit.len().div_ceil(1_000).max(1);
    let points = |values: &[u32]| -> Vec<(f64, f64)> {
        let chunks = values.chunks(stride).enumerate();
        let point = |(number, chunk): (usize, &[u32])| {
            let at = (number * stride) as f64 / 10.0;
            (at, f64::from(chunk.iter().max().copied().unwrap_or(0)))
        };
        chunks.map(point).collect()
    };
    let (limit, waiting) = (RGBColor(190, 40, 30), RGBColor(30, 90, 160));
    let in_flight = RGBColor(195, 215, 238);
    // Saturated, as many are in flight as the limit allows: two lines would be one.
    chart
        .draw_series(AreaSeries::new(
            points(&record.in_flight),
            0.0,
            in_flight.filled(),
        ))?
        .label("in flight")
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], in_flight.filled()));
    let lines = [
        (&record.queue, waiting, "waiting at the server"),
        (&record.limit, limit, "limit"),
    ];
    for (values, color, name) in lines {
        chart
            .draw_series(LineSeries::new(points(values), color.stroke_width(1)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    if let Some(best) = &scenario.best {
        let ends = best.iter().skip(1).map(|(from, _)| *from).chain([seconds]);
        let steps = best.iter().zip(ends);
        let points = steps.flat_map(|((from, limit), end)| [(*from, *limit), (end, *limit)]);
        chart
            .draw_series(DashedLineSeries::new(points, 6, 4, BLACK.stroke_width(1)))?
            .label("best limit (dashed)")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
