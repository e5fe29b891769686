//! Sessions on their keys: how many calls stay, how even the loads are, and what it costs.

mod figures;
mod report;
mod row;
mod run;

use std::path::PathBuf;

use clap::Args;

use self::{
    figures::{Figures, Verdict},
    row::Row,
};
use crate::score::on_all_cores;

/// The library's affinity beside its choice by headroom, with sessions of all sizes.
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
    /// How long each run lasts, in minutes of virtual time.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Fail, and say where, if a row misses its targets in any run.
    #[arg(long)]
    check: bool,
    /// Put the table between the marks of this document, or at its end.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Everything asked for; returns the targets that were missed, if they are to be checked.
pub(crate) fn run(arguments: &Arguments) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    if arguments.seeds == 0 {
        return Err("--seeds: without a run there is nothing to tell; write at least 1".into());
    }
    if arguments.minutes < 8 {
        return Err("--minutes: loads settle for two minutes twice; write at least 8".into());
    }
    let is_wanted = |row: &Row| {
        let name = row.name();
        arguments.row.is_empty() || arguments.row.iter().any(|part| name.contains(part))
    };
    let rows: Vec<_> = row::all().into_iter().filter(is_wanted).collect();
    if rows.is_empty() {
        return Err("--row: there is none of that name; see the table for their names".into());
    }
    let seeds = || (arguments.first_seed..).take(arguments.seeds as usize);
    let jobs: Vec<_> = rows
        .iter()
        .flat_map(|row| seeds().map(move |seed| (row, seed)))
        .collect();
    let runs = on_all_cores(&jobs, |(row, seed)| {
        let run = |is_affine| run::run(row, *seed, arguments.minutes, is_affine);
        let twin = row
            .twin()
            .map(|twin| run::run(&twin, *seed, arguments.minutes, true));
        Figures::new(row, &run(true), &run(false), twin.as_ref())
    });
    let verdicts: Vec<_> = rows
        .iter()
        .zip(runs.chunks(arguments.seeds as usize))
        .map(|(row, runs)| Verdict {
            row: *row,
            runs: runs.to_vec(),
        })
        .collect();
    println!("{}", report::table(&verdicts));
    if let Some(path) = &arguments.markdown {
        report::write(path, &verdicts)?;
    }
    if !arguments.check {
        return Ok(Vec::new());
    }
    Ok(verdicts.iter().flat_map(Verdict::misses).collect())
}
