//! Shares among classes of callers, through the library's own layers, in virtual time.

mod report;
mod run;
mod setting;
mod verdict;

use std::path::PathBuf;

use clap::Args;

use self::{setting::Setting, verdict::Verdict};
use crate::score::on_all_cores;

/// Shares among classes of callers, beside the order of arrival.
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
    /// Fail, and say where, if a row misses its targets.
    #[arg(long)]
    check: bool,
    /// Put the tables between the marks of this document, or into a new one.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Everything asked for; returns the targets that were missed, if they are to be checked.
pub(crate) fn run(arguments: &Arguments) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    if arguments.seeds == 0 {
        return Err("--seeds: without a run there is nothing to tell; write at least 1".into());
    }
    let is_wanted = |setting: &Setting| {
        let is_part = |part: &String| setting.name.contains(part.as_str());
        arguments.row.is_empty() || arguments.row.iter().any(is_part)
    };
    let settings: Vec<_> = setting::all().into_iter().filter(is_wanted).collect();
    if settings.is_empty() {
        return Err("--row: there is none of that name; see the tables for their names".into());
    }
    let verdicts = judge(&settings, arguments);
    println!("{}", report::tables(&verdicts));
    if let Some(path) = &arguments.markdown {
        report::write(path, &verdicts)?;
    }
    Ok(match arguments.check {
        true => verdict::misses(&verdicts),
        false => Vec::new(),
    })
}

fn judge(settings: &[Setting], arguments: &Arguments) -> Vec<Verdict> {
    let seeds = || (arguments.first_seed..).take(arguments.seeds as usize);
    let jobs: Vec<_> = settings
        .iter()
        .flat_map(|setting| seeds().map(move |seed| (setting, seed)))
        .collect();
    let runs = on_all_cores(&jobs, |(setting, seed)| run::run(setting, *seed));
    settings
        .iter()
        .zip(runs.chunks(arguments.seeds as usize))
        .map(|(setting, runs)| Verdict::new(setting, runs))
        .collect()
}
