//! Rates that nobody told: the library's bucket with a search, before servers that only refuse.

use std::{collections::VecDeque, time::Duration};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use tower_relay::policy::{
    Cost, Quota, RateSearch, Readings, Reservation, Timestamp, TokenBucket, Unit,
};

use crate::{
    chance::Chance,
    contender::Contender,
    report::cell,
    scenario::{self, Scenario},
    score::{self, Estimate, on_all_cores},
    world,
};

/// Used of what can be, at least, and refused for each success, at most; none is only shown.
type Target = Option<(f64, f64)>;

/// How long it takes to be refused, in seconds.
const REFUSAL: f64 = 0.05;

/// A server and its client, who always has work but in `idle`.
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    /// What the server grants a second from when on, in calls or tokens.
    granted: Vec<(f64, f64)>,
    /// In seconds' worth.
    burst: f64,
    unit: Unit,
    /// What somebody else takes of it a second, by chance.
    others: f64,
    search: RateSearch,
    idle: Option<(f64, f64)>,
    /// After a refusal nothing is sent for so long, as a pool does when it is told.
    rest: f64,
    warm_up: f64,
    end: f64,
    target: Target,
}

fn search(low: f64, high: f64, start: f64) -> RateSearch {
    RateSearch::per_second(low..=high).starting_at(start)
}

impl Case {
    fn requests(name: &'static str, rate: f64, start: f64) -> Self {
        Self {
            name,
            granted: vec![(0.0, rate)],
            burst: 1.0,
            unit: Unit::REQUESTS,
            others: 0.0,
            search: search(0.01, 100_000.0, start),
            idle: None,
            rest: 0.0,
            warm_up: 120.0,
            end: 900.0,
            target: Some((0.95, 0.03)),
        }
    }
}

fn cases() -> Vec<Case> {
    let ten = |name| Case::requests(name, 10.0, 1.0);
    let tokens = |name, start| Case {
        unit: Unit::INPUT_TOKENS,
        search: search(100.0, 1e7, start),
        burst: 10.0,
        ..Case::requests(name, 1e6 / 60.0, 1.0)
    };
    vec![
        Case {
            rest: 1.05,
            ..ten("10 a second, resting 1 s")
        },
        Case::requests("2 a second", 2.0, 1.0),
        Case::requests("50 a second", 50.0, 1.0),
        Case::requests("1000 a second", 1000.0, 1.0),
        Case {
            granted: vec![(0.0, 10.0), (300.0, 5.0), (600.0, 10.0)],
            target: Some((0.9, 0.03)),
            ..ten("10, then 5, then 10 a second")
        },
        Case {
            granted: vec![(0.0, 10.0), (300.0, 20.0), (600.0, 10.0)],
            target: Some((0.9, 0.03)),
            ..ten("10, then 20, then 10 a second")
        },
        Case::requests("10 a second from 0.1", 10.0, 0.1),
        Case::requests("10 a second from 1000", 10.0, 1000.0),
        Case {
            others: 4.0,
            target: Some((0.8, 0.03)),
            ..ten("10 a second, 4 of others")
        },
        tokens("1 M tokens a minute, mixed", 1e3),
        tokens("the same from 100 times as much", 1.7e6),
        Case {
            idle: Some((300.0, 900.0)),
            warm_up: 900.0,
            end: 1_500.0,
            ..ten("10 a second after ten idle minutes")
        },
        Case {
            search: search(0.01, 100_000.0, 1.0).halving(),
            target: None,
            ..ten("10 a second, halving")
        },
    ]
}

struct Server<'a> {
    case: &'a Case,
    level: f64,
    at: f64,
    /// When somebody else calls next.
    other: f64,
}

impl Server<'_> {
    fn rate(&self, now: f64) -> f64 {
        let granted = &self.case.granted;
        let last = granted.iter().rev().find(|(from, _)| *from <= now);
        last.map_or(0.0, |(_, rate)| *rate)
    }

    fn fill(&mut self, now: f64) {
        let rate = self.rate(now);
        self.level = (self.level + (now - self.at) * rate).min(rate * self.case.burst);
        self.at = now;
    }

    fn admits(&mut self, size: f64, now: f64, chance: &mut Chance) -> bool {
        while self.case.others > 0.0 && self.other <= now {
            self.fill(self.other);
            if self.level >= 1.0 {
                self.level -= 1.0;
            }
            self.other += chance.exponential(1.0 / self.case.others);
        }
        self.fill(now);
        let admits = self.level >= size - 1e-7;
        if admits {
            self.level -= size;
        }
        admits
    }
}

/// The share used of what there is for us, and refusals for each success.
fn run(case: &Case, seed: u64) -> (f64, f64) {
    let quota = Quota::builder().seek(case.unit, case.search.clone());
    let quota = quota.build().expect("what is written here is valid");
    let instant = |seconds: f64| Timestamp::ZERO + Duration::from_secs_f64(seconds);
    let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    let mut chance = Chance::new(seed, 1);
    let mut server = Server {
        case,
        level: case.granted[0].1 * case.burst,
        at: 0.0,
        other: 0.0,
    };
    let mut refused: VecDeque<(f64, Reservation)> = VecDeque::new();
    let (mut now, mut rests) = (0.0_f64, 0.0_f64);
    let (mut used, mut successes, mut refusals) = (0.0, 0.0, 0.0);
    while now < case.end {
        let size = match case.unit {
            Unit::REQUESTS => 1,
            _ if chance.even() < 0.1 => chance.lognormal(10_000.0, 0.5).clamp(1.0, 60_000.0) as u64,
            _ => chance.lognormal(500.0, 1.0).max(1.0) as u64,
        };
        let cost = Cost::ZERO.of(case.unit, size);
        // What is refused is heard before, and may change the instant.
        let at = loop {
            let ready = bucket
                .ready_at(&cost)
                .expect("a sought limit has no largest call");
            let ready = ready.as_nanos() as f64 / 1e9 + 1e-9;
            let mut at = ready.max(now).max(rests);
            if let Some((from, until)) = case.idle {
                if (from..until).contains(&at) {
                    at = until;
                }
            }
            let Some((told, call)) = heard(&mut refused, at) else {
                break at;
            };
            now = now.max(told);
            bucket.observe(&call, &Readings::NONE.of_refusal(), instant(told));
            if case.rest > 0.0 {
                rests = told + case.rest;
            }
        };
        now = at;
        let call = bucket.take(&cost, instant(now));
        let counts = f64::from(u8::from((case.warm_up..case.end).contains(&now)));
        // The way there takes a while, not always the same.
        if server.admits(size as f64, now + 0.002 * chance.even(), &mut chance) {
            used += counts * size as f64;
            successes += counts;
        } else {
            refusals += counts;
            refused.push_back((now + REFUSAL, call));
        }
    }
    let mut granted = 0.0;
    for (place, (from, rate)) in case.granted.iter().enumerate() {
        let until = case.granted.get(place + 1).map_or(case.end, |next| next.0);
        granted += (until - from.max(case.warm_up)).max(0.0) * (rate - case.others);
    }
    (used / granted, refusals / successes)
}

/// The first refusal, if it is heard by then.
fn heard(refused: &mut VecDeque<(f64, Reservation)>, until: f64) -> Option<(f64, Reservation)> {
    let (at, _) = refused.front()?;
    (*at <= until).then(|| refused.pop_front())?
}

/// S7 without the quota: by whom, what is sought, and what must be reached.
fn unknown() -> [(&'static str, RateSearch, Contender, Target); 4] {
    let (bounds, target) = ((0.1, 1_000.0, 1.0), Some((0.97, 0.03)));
    let sought = || search(bounds.0, bounds.1, bounds.2);
    [
        ("S7, sought", sought(), Contender::NoLimit, target),
        (
            "S7, sought, and SizedVegas",
            sought(),
            Contender::SizedVegas,
            None,
        ),
        (
            "S7, sought by halving",
            sought().halving(),
            Contender::NoLimit,
            None,
        ),
        (
            "S7, sought from 100 times",
            search(0.1, 1_000.0, 1_000.0),
            Contender::NoLimit,
            target,
        ),
    ]
}

fn s7() -> Scenario {
    let mut all = scenario::all().into_iter();
    all.find(|one| one.name == "S7").expect("it is one of them")
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: &'static str,
    used: Estimate,
    worst: f64,
    refused: Estimate,
    target: Target,
}

fn row(name: &'static str, runs: &[(f64, f64)], target: Target) -> Row {
    let used: Vec<_> = runs.iter().map(|(used, _)| *used).collect();
    let refused: Vec<_> = runs.iter().map(|(_, refused)| *refused).collect();
    Row {
        name,
        used: Estimate::of(&used),
        worst: used.iter().copied().fold(f64::INFINITY, f64::min),
        refused: Estimate::of(&refused),
        target,
    }
}

/// Everything, over these seeds.
pub(crate) fn rows(seeds: &[u64]) -> Vec<Row> {
    let known = s7();
    let mut rows = Vec::new();
    for (name, search, contender, target) in unknown() {
        let runs = on_all_cores(seeds, |seed| {
            let best = score::record(&known, Contender::Best, *seed);
            let mut unknown = known.clone();
            let quota = Quota::builder().seek(Unit::REQUESTS, search.clone());
            unknown.setting.quota = Some(quota.build().expect("what is written here is valid"));
            let mut controller = contender.controller(&unknown, *seed);
            let record = world::run(&unknown.setting, controller.as_mut(), *seed);
            let refused = record.refused as f64 / record.succeeded as f64;
            (record.succeeded as f64 / best.succeeded as f64, refused)
        });
        rows.push(row(name, &runs, target));
    }
    for case in cases() {
        let runs = on_all_cores(seeds, |seed| run(&case, *seed));
        rows.push(row(case.name, &runs, case.target));
    }
    rows
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "a rate that is sought",
        "used",
        "worst seed",
        "refused per success",
    ]);
    for row in rows {
        table.add_row([
            row.name.to_owned(),
            cell(row.used, 3),
            format!("{:.3}", row.worst),
            cell(row.refused, 4),
        ]);
    }
    format!("### Rates\n\n{table}\n")
}

pub(crate) fn misses(rows: &[Row]) -> Vec<String> {
    let mut misses = Vec::new();
    for row in rows {
        let Some((used, refused)) = row.target else {
            continue;
        };
        if row.used.mean < used {
            misses.push(format!(
                "{}: used {:.4} is below {used}",
                row.name, row.used.mean
            ));
        }
        if row.refused.mean > refused {
            let is = row.refused.mean;
            misses.push(format!(
                "{}: refused per success {is:.4} is above {refused}",
                row.name
            ));
        }
    }
    misses
}
