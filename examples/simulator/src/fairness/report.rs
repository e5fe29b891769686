//! Tables.

use std::{fs, io, path::Path};

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{
    setting::{Order, Part},
    verdict::{self, Verdict},
};

/// Between these the tables stand in a document.
const MARKS: [&str; 2] = ["<!-- fairness -->", "<!-- end of fairness -->"];

pub(super) fn tables(verdicts: &[Verdict]) -> String {
    let parts = [
        (Part::Sizes, "Two sizes of calls, 500 and 30,000 tokens"),
        (Part::Hurry, "Interactive calls beside a saturated batch"),
        (Part::Three, "Three classes that want everything, 50:30:20"),
    ];
    let of = |part| {
        let wanted = verdicts.iter().filter(move |one| one.setting.part == part);
        wanted.collect::<Vec<_>>()
    };
    let tables = parts.map(|(part, title)| match &of(part)[..] {
        [] => String::new(),
        rows => format!("### {title}\n\n{}\n", table(rows, verdicts)),
    });
    tables.join("\n")
}

fn table(rows: &[&Verdict], verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "row",
        "order",
        "class",
        "wait P50, P99",
        "of the quota",
        "promised",
        "after a pause",
        "oldest at the end",
        "polls",
        "used",
        "targets",
    ]);
    for verdict in rows {
        let setting = &verdict.setting;
        let (order, is_fair) = match &setting.order {
            Order::Arrival => ("arrival".to_owned(), false),
            Order::Shares(weights) => (list(&weights[1..]), true),
        };
        let fifo = verdicts.iter().find(|other| {
            other.setting.order == Order::Arrival && other.setting.name == setting.name
        });
        let kept = match (is_fair, verdict::miss(verdict, fifo).is_empty()) {
            (false, _) => "",
            (true, true) => "kept",
            (true, false) => "**missed**",
        };
        for (number, figures) in verdict.classes.iter().enumerate() {
            let first = |text: &str| match number {
                0 => text.to_owned(),
                _ => String::new(),
            };
            table.add_row([
                first(&setting.name),
                first(&order),
                setting.classes[number].name.to_owned(),
                format!("{:.2} s, {:.2} s", figures.p50, figures.p99),
                percent(figures.got),
                if is_fair {
                    percent(setting.promised(number))
                } else {
                    String::new()
                },
                if setting.part == Part::Three {
                    percent(figures.after_pause)
                } else {
                    String::new()
                },
                format!("{:.1} s", figures.oldest),
                format!("{:.2}", figures.polls),
                first(&percent(verdict.used)),
                first(kept),
            ]);
        }
    }
    table
}

fn list(weights: &[u32]) -> String {
    let weights: Vec<_> = weights.iter().map(u32::to_string).collect();
    weights.join(":")
}

/// Puts the tables between the marks of the document at `path`, or makes one of nothing else.
pub(super) fn write(path: &Path, verdicts: &[Verdict]) -> io::Result<()> {
    let [begin, end] = MARKS;
    let marked = format!("{begin}\n\n{}\n{end}", tables(verdicts));
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

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
