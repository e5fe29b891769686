//! Rows, from the provider's counters and the client's books, and how they are printed.

use std::{
    io::{self, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use embedded_provider::Counters;
use serde::Serialize;

use super::load::Load;

/// What became of one row; times and rates are the provider's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    name: String,
    /// Documents answered, as the provider counts them, over the time from the first question to
    /// the last answer.
    throughput_rps: f64,
    /// Of answered documents as the client sees them, waits and repetitions included.
    p50_ms: f64,
    p99_ms: f64,
    /// Calls the provider refused, of all that it received.
    refused_share: f64,
    /// Of the quota that the provider had to give between its first admission and its last.
    quota_used_share: f64,
    upstream_calls: u64,
    upstream_refused: u64,
    calls_per_answer: f64,
    documents: usize,
    answered: u64,
    seconds: f64,
    time_scale: u32,
    books_agree: bool,
    /// Where the client's books and the provider's differ.
    differences: Vec<String>,
    note: String,
}

impl Row {
    pub(super) fn new(
        name: &str,
        time_scale: u32,
        documents: usize,
        load: &Load,
        provider: &Counters,
        quota_used_share: f64,
    ) -> Self {
        let mut latencies = load.latencies.clone();
        latencies.sort_unstable();
        let milliseconds = |latency: Duration| (latency * time_scale).as_secs_f64() * 1e3;
        let seconds = (load.elapsed * time_scale).as_secs_f64();
        let differences = differences(documents as u64, load, provider);
        Self {
            name: name.to_owned(),
            throughput_rps: rounded(ratio(provider.answered as f64, seconds), 3),
            p50_ms: rounded(milliseconds(percentile(&latencies, 50)), 1),
            p99_ms: rounded(milliseconds(percentile(&latencies, 99)), 1),
            refused_share: rounded(ratio(provider.refused as f64, provider.calls as f64), 5),
            quota_used_share: rounded(quota_used_share, 5),
            upstream_calls: provider.calls,
            upstream_refused: provider.refused,
            calls_per_answer: rounded(ratio(provider.calls as f64, provider.answered as f64), 3),
            documents,
            answered: provider.answered,
            seconds: rounded(seconds, 3),
            time_scale,
            books_agree: differences.is_empty(),
            differences,
            note: String::new(),
        }
    }

    /// This row with a word on how it came about.
    pub(super) fn note(self, note: String) -> Self {
        Self { note, ..self }
    }
}

/// Where what the client counted is not what the provider counted.
fn differences(documents: u64, client: &Load, provider: &Counters) -> Vec<String> {
    let failed =
        provider.unauthorized + provider.invalid + provider.server_errors + provider.overloaded;
    let pairs = [
        ("calls", client.calls, provider.calls),
        ("answers", client.answered, provider.answered),
        ("refusals", client.refused, provider.refused),
        ("other failures", client.failed, failed),
        (
            "input tokens",
            client.input_tokens,
            provider.input_tokens_charged,
        ),
        (
            "output tokens",
            client.output_tokens,
            provider.output_tokens_produced,
        ),
        ("answers not read to the end", 0, provider.disconnected),
        ("calls still in flight", 0, provider.in_flight),
        ("documents", documents, client.latencies.len() as u64),
    ];
    let differs = |(what, client, provider): (&str, u64, u64)| {
        (client != provider).then(|| match what {
            "documents" => format!("{provider} of {client} documents were answered"),
            _ => format!("{what}: client {client}, provider {provider}"),
        })
    };
    let mut found: Vec<_> = pairs.into_iter().filter_map(differs).collect();
    found.extend(client.problem.clone());
    found
}

/// Nearest rank; zero of nothing.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// A number with commas: 1,200.
pub(super) fn counted(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Prints rows: as JSON when each is known, as one table at the end.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    rows: Vec<Row>,
}

impl Report {
    pub(super) const fn new(json: bool) -> Self {
        let rows = Vec::new();
        Self { json, rows }
    }

    /// A text for people; JSON goes without.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(io::stdout(), "{text}")
    }

    pub(super) fn add(&mut self, row: Row) -> io::Result<()> {
        if self.json {
            let line = serde_json::to_string(&row)?;
            writeln!(io::stdout(), "{line}")?;
        }
        self.rows.push(row);
        Ok(())
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        self.print(&format!("\n{}\n", table(&self.rows)))?;
        for row in &self.rows {
            self.print(&format!("{}: {}.", row.name, row.note))?;
        }
        self.print(FOOTNOTE)?;
        self.print(&comparison(&self.rows))?;
        self.print(&verdict(&self.rows))
    }

    pub(super) fn books_agree(&self) -> bool {
        self.rows.iter().all(|row| row.books_agree)
    }
}

const FOOTNOTE: &str = "Counts are the provider's own. P50 and P99 are what the client sees of \
    answered documents, waits and repetitions included.\nQuota used is the largest over its \
    dimensions of charged / (burst + rate x time), from the first admission to the last.\n";

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header([
            "",
            "documents\nper second",
            "P50\ns",
            "P99\ns",
            "refused",
            "quota\nused",
            "upstream\ncalls",
            "upstream\nrefused",
            "calls per\nanswer",
        ]);
    for row in rows {
        table.add_row([
            row.name.clone(),
            format!("{:.2}", row.throughput_rps),
            format!("{:.2}", row.p50_ms / 1e3),
            format!("{:.2}", row.p99_ms / 1e3),
            percent(row.refused_share),
            percent(row.quota_used_share),
            counted(row.upstream_calls),
            counted(row.upstream_refused),
            format!("{:.2}", row.calls_per_answer),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The last row beside the others.
fn comparison(rows: &[Row]) -> String {
    let Some((last, others)) = rows.split_last() else {
        return String::new();
    };
    let beside: Vec<_> = others
        .iter()
        .map(|row| {
            format!(
                "\n  beside \"{}\": {:.2}x the throughput, {:.2}x the P99, {:.2}x the calls per answer",
                row.name,
                ratio(last.throughput_rps, row.throughput_rps),
                ratio(last.p99_ms, row.p99_ms),
                ratio(last.calls_per_answer, row.calls_per_answer),
            )
        })
        .collect();
    format!(
        "{}: {} refused, {} of the quota, {:.2} calls per answer{}",
        last.name,
        counted(last.upstream_refused),
        percent(last.quota_used_share),
        last.calls_per_answer,
        beside.concat(),
    )
}

/// Whether the client's books are the provider's, and where not.
fn verdict(rows: &[Row]) -> String {
    if rows.iter().all(|row| row.books_agree) {
        return "books agree: client and provider counted the same calls, answers, refusals and \
                tokens in every row"
            .to_owned();
    }
    let lines: Vec<_> = rows
        .iter()
        .filter(|row| !row.books_agree)
        .map(|row| format!("\n  {}: {}", row.name, row.differences.join("; ")))
        .collect();
    format!("books differ:{}", lines.concat())
}

#[cfg(test)]
mod tests;
