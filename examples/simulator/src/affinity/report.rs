//! The table.

use std::{fs, io, path::Path};

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::figures::{Figures, Verdict};

/// Between these the table stands in a document.
const MARKS: [&str; 2] = ["<!-- affinity -->", "<!-- end of affinity -->"];

pub(super) fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "pool, load",
        "with the main key",
        "worst",
        "without",
        "largest key",
        "worst",
        "served",
        "worst",
        "moved",
        "cached",
        "without",
        "wait P50, P99",
        "without",
        "targets",
    ]);
    for verdict in verdicts {
        let share = |figure: fn(&Figures) -> f64| format!("{:.3}", verdict.mean(figure));
        let seconds = |figure: fn(&Figures) -> f64| format!("{:.1} s", verdict.mean(figure));
        let waits = [
            seconds(|run| run.p50.as_secs_f64()),
            seconds(|run| run.p99.as_secs_f64()),
        ];
        table.add_row([
            verdict.row.name(),
            share(|run| run.stayed),
            format!("{:.3}", verdict.least(|run| run.stayed)),
            share(|run| run.stayed_without),
            share(|run| run.largest),
            format!("{:.3}", verdict.most(|run| run.largest)),
            share(|run| run.used),
            format!("{:.3}", verdict.least(|run| run.used)),
            moved(verdict),
            share(|run| run.cached),
            share(|run| run.cached_without),
            waits.join(", "),
            seconds(|run| run.p99_without.as_secs_f64()),
            if verdict.misses().is_empty() {
                "kept"
            } else {
                "**missed**"
            }
            .into(),
        ]);
    }
    table
}

/// Sessions that moved, and how many moved without the removal.
fn moved(verdict: &Verdict) -> String {
    let moved = verdict.mean(|run| run.moved as f64);
    match verdict.row.twin() {
        None => format!("{moved:.1}"),
        Some(_) => format!(
            "{moved:.1} for {:.1}",
            moved - verdict.mean(Figures::moved_more)
        ),
    }
}

/// Puts the table between the marks of the document at `path`, at its end if it has none.
pub(super) fn write(path: &Path, verdicts: &[Verdict]) -> io::Result<()> {
    let table = table(verdicts);
    let [begin, end] = MARKS;
    let marked = format!("{begin}\n\n{table}\n\n{end}");
    let document = match fs::read_to_string(path) {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let around = document.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{marked}{after}"))
    });
    fs::write(
        path,
        around.unwrap_or_else(|| format!("{document}\n{marked}\n")),
    )
}
