//! Concurrency limits and retry budgets against servers whose optimum is known, and the layers
//! against a provider that keeps its own books.
//!
//! Every run is decided by its seed. `cargo run --release -p simulator -- --help` tells the rest.

mod accuracy;
mod affinity;
mod chance;
mod contender;
mod controller;
mod fairness;
mod plot;
mod published;
mod report;
mod retries;
mod scenario;
mod score;
mod upstream;
mod varied;
mod world;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{contender::Contender, retries::Funding, scenario::Scenario, score::Row};

/// Concurrency limits and retry budgets against servers whose optimum is known.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these scenarios: S1 to S8, R1, or a part of a varied one's name.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only contenders whose name contains this.
    #[arg(long, default_value = "")]
    contender: String,
    /// Runs of each pair.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of their seeds.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// The settings beside the written ones, with the library's algorithms.
    #[arg(long)]
    varied: bool,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// Fail, and say where, if the default misses a target of the design.
    #[arg(long)]
    check: bool,
    /// Draw limit, calls in flight and queue of the default in each scenario into this directory.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Accuracy(accuracy::Arguments),
    Affinity(affinity::Arguments),
    Fairness(fairness::Arguments),
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        let is_part = |part: &String| {
            if self.varied {
                name.contains(part.as_str())
            } else {
                name.eq_ignore_ascii_case(part)
            }
        };
        self.scenario.is_empty() || self.scenario.iter().any(is_part)
    }

    fn all_seeds(&self) -> Vec<u64> {
        (self.first_seed..).take(self.seeds as usize).collect()
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let all = if self.varied {
            varied::all()
        } else {
            scenario::all()
        };
        all.into_iter()
            .filter(|one| self.wants(&one.name))
            .collect()
    }

    fn contenders(&self) -> Vec<Contender> {
        let all = Contender::ALL.iter().copied();
        all.filter(|one| !self.varied || one.is_ours())
            // Nobody needs the published ones to know whether the default keeps its targets.
            .filter(|one| !self.check || *one == Contender::SizedVegas)
            .filter(|one| one.name().contains(self.contender.as_str()))
            .collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Accuracy(arguments)) => accuracy::run(arguments),
        Some(Command::Affinity(arguments)) => affinity::run(arguments),
        Some(Command::Fairness(arguments)) => fairness::run(arguments),
        None => run(&arguments),
    };
    match outcome {
        Ok(misses) if misses.is_empty() => ExitCode::SUCCESS,
        Ok(misses) => {
            for miss in misses {
                eprintln!("missed: {miss}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything asked for; returns the targets that were missed, if they are to be checked.
fn run(arguments: &Arguments) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    if arguments.seeds == 0 {
        return Err("--seeds: without a run there is nothing to tell; write at least 1".into());
    }
    let scenarios = arguments.scenarios();
    let wants_retries = !arguments.varied && arguments.wants("R1");
    if scenarios.is_empty() && !wants_retries {
        return Err("--scenario: there is none of that name; write S1 to S8 or R1".into());
    }
    if let Some(directory) = &arguments.plots {
        std::fs::create_dir_all(directory)?;
        for scenario in &scenarios {
            let record = score::record(scenario, Contender::SizedVegas, arguments.first_seed);
            plot::draw(directory, scenario, Contender::SizedVegas.name(), &record)?;
        }
    }
    let contenders = arguments.contenders();
    let mut rows: Vec<Row> = Vec::new();
    for scenario in &scenarios {
        let new = score::rows(scenario, &contenders, &arguments.all_seeds());
        if !arguments.json {
            println!("{}", report::table(scenario, &new));
        }
        rows.extend(new);
    }
    let budgets = if wants_retries {
        report::retries(Funding::ALL, &arguments.all_seeds())
    } else {
        Vec::new()
    };
    if arguments.json {
        println!("{}", report::json(&rows, &budgets));
    } else if !budgets.is_empty() {
        println!("{}", report::retry_table(&budgets));
    }
    if !arguments.check {
        return Ok(Vec::new());
    }
    let defaults = rows.iter().filter(|row| row.is_default);
    let mut misses: Vec<_> = defaults.flat_map(score::misses).collect();
    misses.extend(report::retry_miss(&budgets));
    Ok(misses)
}
