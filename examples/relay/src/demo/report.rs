//! Rows, from the provider's counters and the client's books, and how they are printed.

use std::{
    io::{self, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use embedded_provider::Counters;
use serde::Serialize;

use super::load::Load;

/// How the calls of a row are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// One after the other, without layers.
    Sequential,
    /// By many workers, without layers.
    Blind,
    /// By many workers through the layers.
    Layers,
}

/// What distinguishes one row from the others.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) way: Way,
    pub(super) accounts: usize,
    pub(super) workers: usize,
    pub(super) documents: usize,
    pub(super) time_scale: u32,
}

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
    /// Calls that brought no answer.
    upstream_wasted: u64,
    calls_per_answer: f64,
    way: Way,
    accounts: usize,
    workers: usize,
    documents: usize,
    answered: u64,
    seconds: f64,
    time_scale: u32,
    books_agree: bool,
    /// Where the client's books and the provider's differ.
    differences: Vec<String>,
    note: String,
}

/// What one account's pool and the provider have counted for it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) by_pool: u64,
    pub(super) by_provider: u64,
}

impl Row {
    pub(super) fn new(
        setting: &Setting,
        load: &Load,
        provider: &Counters,
        quota_used_share: f64,
    ) -> Self {
        let &Setting {
            way,
            accounts,
            workers,
            documents,
            time_scale,
            ..
        } = setting;
        let mut latencies = load.latencies.clone();
        latencies.sort_unstable();
        let milliseconds = |latency: Duration| (latency * time_scale).as_secs_f64() * 1e3;
        let seconds = (load.elapsed * time_scale).as_secs_f64();
        let differences = differences(documents as u64, load, provider);
        Self {
            name: setting.name.clone(),
            throughput_rps: rounded(ratio(provider.answered as f64, seconds), 3),
            p50_ms: rounded(milliseconds(percentile(&latencies, 50)), 1),
            p99_ms: rounded(milliseconds(percentile(&latencies, 99)), 1),
            refused_share: rounded(ratio(provider.refused as f64, provider.calls as f64), 5),
            quota_used_share: rounded(quota_used_share, 5),
            upstream_calls: provider.calls,
            upstream_refused: provider.refused,
            upstream_wasted: provider.calls.saturating_sub(provider.answered),
            calls_per_answer: rounded(ratio(provider.calls as f64, provider.answered as f64), 3),
            way,
            accounts,
            workers,
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

    /// This row with the books of a pool, which keeps one for each account.
    pub(super) fn pool_books(mut self, accounts: &[Account]) -> Self {
        let differs = accounts
            .iter()
            .filter(|account| account.by_pool != account.by_provider);
        self.differences.extend(differs.map(|account| {
            format!(
                "answers of {}: pool {}, provider {}",
                account.name, account.by_pool, account.by_provider
            )
        }));
        self.books_agree = self.differences.is_empty();
        self
    }

    fn beside(&self, other: &Self) -> String {
        format!(
            "  beside \"{}\": {:.2}x the throughput, {:.2}x the P99, {:.2}x the calls per answer, \
             {} calls wasted instead of {}",
            other.name,
            ratio(self.throughput_rps, other.throughput_rps),
            ratio(self.p99_ms, other.p99_ms),
            ratio(self.calls_per_answer, other.calls_per_answer),
            counted(self.upstream_wasted),
            counted(other.upstream_wasted),
        )
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
pub(crate) fn counted(number: u64) -> String {
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
    dimensions of charged / (burst + rate x time), of all accounts together, from the first admission \
    to the last.\n";

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

/// Each row through the layers beside the blind one before it and the first through the layers.
fn comparison(rows: &[Row]) -> String {
    let mut lines = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        if row.way != Way::Layers {
            continue;
        }
        lines.push(format!(
            "{}: {} refused, {} of the quota, {:.2} calls per answer",
            row.name,
            counted(row.upstream_refused),
            percent(row.quota_used_share),
            row.calls_per_answer,
        ));
        let before = &rows[..place];
        let blind = before.iter().rfind(|other| other.way == Way::Blind);
        let first = before.iter().find(|other| other.way == Way::Layers);
        let beside = blind.into_iter().chain(first);
        lines.extend(beside.map(|other| row.beside(other)));
    }
    lines.join("\n")
}

/// Whether the client's books are the provider's, and where not.
fn verdict(rows: &[Row]) -> String {
    if rows.iter().all(|row| row.books_agree) {
        return "books agree: client and provider counted the same calls, answers, refusals and \
                tokens in every row, and the pools the same answers of every account"
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
