//! Tables and JSON.

use std::{fs, io, path::Path};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use super::figures::{Figures, Verdict};

/// Between these the table stands in a document.
const MARKS: [&str; 2] = ["<!-- accuracy -->", "<!-- end of accuracy -->"];

pub(super) fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "row",
        "binding",
        "used",
        "worst",
        "as a whole",
        "refused",
        "worst",
        "first minute",
        "overshoot",
        "calls per answer",
        "lost",
        "wait P50, P99",
        "targets",
    ]);
    for verdict in verdicts {
        let used = |run: &Figures| run.binding().1;
        let binding = verdict.runs.first().map_or("", |run| run.binding().0);
        let seconds = |wait: fn(&Figures) -> f64| format!("{:.1} s", verdict.mean(wait));
        let waits = [
            seconds(|run| run.p50.as_secs_f64()),
            seconds(|run| run.p99.as_secs_f64()),
        ];
        table.add_row([
            verdict.name.to_owned(),
            binding.replace('_', " "),
            percent(verdict.mean(used), 2),
            percent(verdict.least(used), 2),
            percent(verdict.mean(Figures::used_as_a_whole), 2),
            percent(verdict.mean(Figures::refused), 3),
            percent(verdict.most(Figures::refused), 3),
            percent(verdict.mean(Figures::refused_while_warming), 2),
            percent(verdict.most(Figures::overshoot), 2),
            format!("{:.4}", verdict.mean(Figures::calls_per_answer)),
            verdict
                .runs
                .iter()
                .map(|run| run.lost)
                .sum::<u64>()
                .to_string(),
            waits.join(", "),
            if verdict.holds() {
                "kept"
            } else {
                "**missed**"
            }
            .into(),
        ]);
    }
    table
}

pub(super) fn json(verdicts: &[Verdict]) -> Value {
    let rows = verdicts.iter().map(|verdict| {
        json!({
            "row": verdict.name,
            "target": { "used": verdict.target.used, "refused": verdict.target.refused },
            "runs": verdict.runs.iter().map(run).collect::<Vec<_>>(),
        })
    });
    json!({ "rows": rows.collect::<Vec<_>>() })
}

fn run(run: &Figures) -> Value {
    let (binding, used) = run.binding();
    let books = run.last.books.dimensions.iter().map(|(name, book)| {
        json!({
            "dimension": name,
            "charged": book.charged,
            "wasted": book.wasted,
            "refilled": book.refilled,
            "held": book.held,
            "deepest_debt": book.deepest_debt,
        })
    });
    json!({
        "seed": run.seed,
        "drift": run.secrets.drift,
        "burst_s": run.secrets.burst.as_secs_f64(),
        "shown_burst_s": run.secrets.shown.map(|burst| burst.as_secs_f64()),
        "jitter_s": run.secrets.jitter.as_secs_f64(),
        "binding": binding,
        "used": used,
        "used_as_a_whole": run.used_as_a_whole(),
        "refused": run.refused(),
        "refused_while_warming": run.refused_while_warming(),
        "overshoot": run.overshoot(),
        "calls_per_answer": run.calls_per_answer(),
        "calls": run.last.counters.calls,
        "answered": run.answered,
        "lost": run.lost,
        "first_loss": run.first_loss,
        "wait_p50_s": run.p50.as_secs_f64(),
        "wait_p99_s": run.p99.as_secs_f64(),
        "books": books.collect::<Vec<_>>(),
    })
}

/// Puts the table between the marks of the document at `path`, or makes one of nothing else.
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
        Some((before, after))
    });
    let (before, after) = around.unwrap_or((&document, "\n"));
    fs::write(path, format!("{before}{marked}{after}"))
}

fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$} %", share * 100.0)
}
