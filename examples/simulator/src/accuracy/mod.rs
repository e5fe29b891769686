//! The library's own layers against a provider that charges as real ones do, in virtual time.
//!
//! What counts are the provider's books. Its clock drifts, requests arrive late and out of order, its
//! buckets hold more or less than a client would like, and the client is told none of it.

mod figures;
mod load;
mod report;
mod row;
mod run;

use std::path::PathBuf;

use clap::Args;

use self::{figures::Verdict, row::Row};
use crate::score::on_all_cores;

/// The library's layers, by the books of a provider that charges as real ones do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only rows whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    row: Vec<String>,
    /// Runs of each row.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// The first of their seeds.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// How long each run lasts, in minutes of virtual time; the first warms up.
    #[arg(long, default_value_t = 11)]
    minutes: u64,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Fail, and say where, if a row misses its targets in any run.
    #[arg(long)]
    check: bool,
    /// Rows, by their whole names, that are known to miss: with `--check` they do not fail. Of those
    /// that miss no longer one is told.
    #[arg(long, value_delimiter = ',', requires = "check")]
    known: Vec<String>,
    /// Put the table between the marks of this document, or into a new one.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Everything asked for; returns the targets that were missed, if they are to be checked.
pub(crate) fn run(arguments: &Arguments) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    if arguments.seeds == 0 {
        return Err("--seeds: without a run there is nothing to tell; write at least 1".into());
    }
    if arguments.minutes < 2 {
        return Err("--minutes: the first warms up; write at least 2".into());
    }
    let is_wanted = |row: &Row| {
        let is_part = |part: &String| row.name.contains(part.as_str());
        arguments.row.is_empty() || arguments.row.iter().any(is_part)
    };
    let rows: Vec<_> = row::all().into_iter().filter(is_wanted).collect();
    if rows.is_empty() {
        return Err("--row: there is none of that name; see the table for their names".into());
    }
    let verdicts = judge(&rows, arguments);
    if arguments.json {
        println!("{}", report::json(&verdicts));
    } else {
        println!("{}", report::table(&verdicts));
    }
    if let Some(path) = &arguments.markdown {
        report::write(path, &verdicts)?;
    }
    if !arguments.check {
        return Ok(Vec::new());
    }
    Ok(verdicts
        .iter()
        .flat_map(|verdict| surprises(verdict, &arguments.known))
        .collect())
}

/// The misses of a row, unless it is known to miss. That it no longer does is no failure: two runs of
/// a seed are not the same to the last call, and a row may lie on its target.
fn surprises(verdict: &Verdict, known: &[String]) -> Vec<String> {
    let (name, misses) = (verdict.name, verdict.misses());
    if !known.iter().any(|known| known == name) {
        return misses;
    }
    if misses.is_empty() {
        eprintln!("{name}: kept its targets; if it always does, take it out of --known");
    }
    Vec::new()
}

fn judge(rows: &[Row], arguments: &Arguments) -> Vec<Verdict> {
    let seeds = || (arguments.first_seed..).take(arguments.seeds as usize);
    let jobs: Vec<_> = rows
        .iter()
        .flat_map(|row| seeds().map(move |seed| (row, seed)))
        .collect();
    let runs = on_all_cores(&jobs, |(row, seed)| run::run(row, *seed, arguments.minutes));
    rows.iter()
        .zip(runs.chunks(arguments.seeds as usize))
        .map(|(row, runs)| Verdict::new(row, runs.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests;
