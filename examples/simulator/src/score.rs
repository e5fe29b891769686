//! What a run is worth, over all seeds.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    contender::Contender,
    scenario::{Scenario, Target},
    world::{self, Record},
};

/// A mean with half the width of its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) within: f64,
}

impl Estimate {
    pub(crate) fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        if values.len() < 2 {
            return Self { mean, within: 0.0 };
        }
        let freedom = count - 1.0;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // Student's quantile for 95 %, to within a percent from four degrees of freedom on.
        let student = 1.96 + 2.37 / freedom + 2.8 / (freedom * freedom);
        let within = student * (squares / freedom / count).sqrt();
        Self { mean, within }
    }
}

/// One contender in one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) target: Target,
    pub(crate) contender: &'static str,
    pub(crate) is_default: bool,
    /// Successes, by the oracle's.
    pub(crate) goodput: Estimate,
    /// The same of the seed that came off worst.
    pub(crate) worst: f64,
    pub(crate) worst_seed: u64,
    /// Mean latency, by the oracle's.
    pub(crate) latency: Estimate,
    /// Refused calls for each success.
    pub(crate) refused: Estimate,
    pub(crate) limit: Estimate,
    /// Seconds: S3 until the limit is within a quarter of 15, S8 until nine tenths are back.
    pub(crate) settling: Option<Estimate>,
    /// S3: the mean limit in the last 20 s at 15 servers. S8: attempts while it was down.
    pub(crate) special: Option<Estimate>,
}

/// The longest settling: nothing within the time there is.
const NEVER: f64 = 99.0;

/// Runs jobs on all cores, in the order given.
pub(crate) fn on_all_cores<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((number, job)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(number).map(|job| (number, job))
                } {
                    let result = work(job);
                    done.lock().expect("no job panics").push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no job panics");
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

pub(crate) fn record(scenario: &Scenario, contender: Contender, seed: u64) -> Record {
    let mut controller = contender.controller(scenario, seed);
    world::run(&scenario.setting, controller.as_mut(), seed)
}

/// All contenders in one scenario.
pub(crate) fn rows(scenario: &Scenario, contenders: &[Contender], seeds: &[u64]) -> Vec<Row> {
    let jobs: Vec<_> = std::iter::once(&Contender::Best)
        .chain(contenders)
        .flat_map(|contender| seeds.iter().map(|seed| (*contender, *seed)))
        .collect();
    let records = on_all_cores(&jobs, |(contender, seed)| {
        Figures::of(scenario, &record(scenario, *contender, *seed))
    });
    let (best, rest) = records.split_at(seeds.len());
    contenders
        .iter()
        .zip(rest.chunks(seeds.len()))
        .map(|(contender, runs)| row(scenario, *contender, (runs, best), seeds))
        .collect()
}

/// What is left of a run.
struct Figures {
    succeeded: f64,
    latency: f64,
    refused: f64,
    limit: f64,
    settling: f64,
    special: f64,
}

impl Figures {
    fn of(scenario: &Scenario, record: &Record) -> Self {
        let succeeded = (record.succeeded as f64).max(1.0);
        let from = (scenario.setting.warm_up * 10.0) as usize;
        let (settling, special) = match scenario.name.as_str() {
            "S3" => (settled_at_15(record), mean(&record.limit[1_000..1_200])),
            "S8" => (recovery(record), record.wasted as f64),
            _ => (0.0, 0.0),
        };
        Self {
            succeeded,
            latency: record.latency / succeeded,
            refused: record.refused as f64 / succeeded,
            limit: mean(&record.limit[from..]),
            settling,
            special,
        }
    }
}

fn mean(values: &[u32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
}

/// Seconds after 60 until the limit is within a quarter of 15, and stays there on average for a
/// second.
fn settled_at_15(record: &Record) -> f64 {
    let is_near = |limit: f64| (11.25..=18.75).contains(&limit);
    (600..1_190)
        .find(|&tenth| {
            is_near(f64::from(record.limit[tenth]))
                && is_near(mean(&record.limit[tenth..tenth + 10]))
        })
        .map_or(NEVER, |tenth| (tenth - 599) as f64 / 10.0)
}

/// Seconds after 90 until three seconds bring nine tenths of 500 a second, from 91 s on.
fn recovery(record: &Record) -> f64 {
    (910..2_370)
        .find(|&tenth| record.successes[tenth..tenth + 30].iter().sum::<u32>() >= 1_350)
        .map_or(NEVER, |tenth| (tenth - 900) as f64 / 10.0)
}

fn row(
    scenario: &Scenario,
    contender: Contender,
    (runs, best): (&[Figures], &[Figures]),
    seeds: &[u64],
) -> Row {
    let over = |figure: &dyn Fn(&Figures, &Figures) -> f64| {
        let values: Vec<_> = runs
            .iter()
            .zip(best)
            .map(|(run, best)| figure(run, best))
            .collect();
        Estimate::of(&values)
    };
    let has_more = matches!(scenario.name.as_str(), "S3" | "S8");
    let goodputs = runs
        .iter()
        .zip(best)
        .map(|(run, best)| run.succeeded / best.succeeded);
    let worst = seeds
        .iter()
        .zip(goodputs)
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    let (worst_seed, worst) = worst.unwrap_or((&0, 0.0));
    Row {
        worst,
        worst_seed: *worst_seed,
        scenario: scenario.name.clone(),
        target: scenario.target,
        contender: contender.name(),
        is_default: contender == Contender::SizedVegas,
        goodput: over(&|run, best| run.succeeded / best.succeeded),
        latency: over(&|run, best| run.latency / best.latency),
        refused: over(&|run, _| run.refused),
        limit: over(&|run, _| run.limit),
        settling: has_more.then(|| over(&|run, _| run.settling)),
        special: has_more.then(|| over(&|run, _| run.special)),
    }
}

/// What the default must reach in a scenario; empty if it does.
pub(crate) fn misses(row: &Row) -> Vec<String> {
    let mut misses = Vec::new();
    let mut check = |what: &str, is: f64, bound: f64, at_least: bool| {
        let holds = if at_least { is >= bound } else { is <= bound };
        if !holds {
            let relation = if at_least { "below" } else { "above" };
            misses.push(format!(
                "{}: {what} {is:.4} is {relation} {bound}",
                row.scenario
            ));
        }
    };
    let Target {
        goodput,
        latency,
        refused,
    } = row.target;
    check("goodput", row.goodput.mean, goodput, true);
    check("latency", row.latency.mean, latency, false);
    check("refused per success", row.refused.mean, refused, false);
    if let (Some(settling), Some(special)) = (row.settling, row.special) {
        if row.scenario == "S3" {
            // Twenty round trips of 100 ms.
            check(
                "seconds until the limit is near 15",
                settling.mean,
                2.0,
                false,
            );
        } else {
            check("seconds until it recovers", settling.mean, 5.0, false);
            check("attempts wasted", special.mean, 1_000.0, false);
        }
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_equal_values_has_no_width() {
        let estimate = Estimate::of(&[2.0; 5]);
        assert_eq!((estimate.mean, estimate.within), (2.0, 0.0));
    }

    #[test]
    fn an_interval_is_students() {
        let values: Vec<_> = (0..20).map(f64::from).collect();
        let estimate = Estimate::of(&values);
        // 2.093 × 5.916 / √20
        assert!((estimate.within - 2.769).abs() < 0.01, "{estimate:?}");
    }

    #[test]
    fn jobs_come_back_in_order() {
        let jobs: Vec<_> = (0..100).collect();
        let squares = on_all_cores(&jobs, |job| job * job);
        assert!(
            squares
                .iter()
                .enumerate()
                .all(|(i, square)| *square == i * i)
        );
    }
}
