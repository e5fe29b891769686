//! Servers that punish growth, and the library's bucket that bounds it.
//!
//! None is to be provoked, whichever way it compares and whenever its windows begin; and what is
//! sent meanwhile is to be near what the rule allows.

use std::time::Duration;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use tower_relay::policy::{
    Cost, Quota, Ramp, RampState, Readings, Reservation, Timestamp, TokenBucket, Unit,
};

use crate::{
    chance::Chance,
    report::cell,
    score::{Estimate, on_all_cores},
};

const WINDOW: f64 = 900.0;
const MINUTE: f64 = 60.0;
const GROWTH: f64 = 1.5;
/// Tokens a minute up to which nobody is punished.
const FLOOR: f64 = 60_000.0;
/// What somebody wants who wants all.
const ALL: f64 = 1e9;
/// The share of calls that fail for another reason, and are sent again.
const FAILING: f64 = 0.03;

/// How a server compares.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// The last fifteen minutes with those before.
    Windows,
    /// The last minute with that of a quarter of an hour ago.
    Minutes,
    /// The last minute with the mean of the last step, which began at an instant of its own.
    Steps,
}

impl Rule {
    const ALL: [Self; 3] = [Self::Windows, Self::Minutes, Self::Steps];

    const fn name(self) -> &'static str {
        match self {
            Self::Windows => "sliding windows",
            Self::Minutes => "minute by minute",
            Self::Steps => "in steps",
        }
    }
}

/// What is wanted, in tokens a minute, for so many seconds.
type Demand = Vec<(f64, f64)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Bounded,
    /// For comparison.
    Unbounded,
}

struct Server {
    rule: Rule,
    /// When its steps begin.
    phase: f64,
    /// When what arrived, summed up.
    arrivals: Vec<(f64, f64)>,
}

impl Server {
    fn until(&self, at: f64) -> f64 {
        let place = self.arrivals.partition_point(|(arrived, _)| *arrived <= at);
        place
            .checked_sub(1)
            .map_or(0.0, |last| self.arrivals[last].1)
    }

    fn between(&self, from: f64, to: f64) -> f64 {
        self.until(to) - self.until(from)
    }

    /// A call arrives, later than all before; whether it provokes.
    fn provokes(&mut self, size: f64, now: f64) -> bool {
        let sum = self.arrivals.last().map_or(0.0, |(_, sum)| *sum);
        self.arrivals.push((now, sum + size));
        let compare = |length: f64| {
            let before = self.between(now - WINDOW - length, now - WINDOW);
            let most = (GROWTH * before).max(FLOOR * length / MINUTE);
            self.between(now - length, now) > most
        };
        let provokes = match self.rule {
            Rule::Windows => compare(WINDOW),
            Rule::Minutes => compare(MINUTE),
            Rule::Steps => {
                let begin = ((now - self.phase) / WINDOW).floor() * WINDOW + self.phase;
                let before = self.between(begin - WINDOW, begin) * MINUTE / WINDOW;
                self.between(now - MINUTE, now) > (GROWTH * before).max(FLOOR)
            }
        };
        if provokes {
            // What is refused was not used.
            self.arrivals.pop();
        }
        provokes
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    provoked: f64,
    sent: f64,
    /// Seconds until ten times the floor is allowed.
    tenfold: f64,
}

fn instant(seconds: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(seconds)
}

fn bucket_of(client: Client, resumed: Option<(RampState, f64)>, now: f64) -> TokenBucket {
    let mut ramp = Ramp::above_per_minute(FLOOR as u64);
    if let Some((state, age)) = resumed {
        ramp = ramp.resume(state, Duration::from_secs_f64(age));
    }
    let quota = Quota::builder().input_tokens_per_minute(ALL as u64);
    let quota = match client {
        Client::Bounded => quota.ramp(Unit::INPUT_TOKENS, ramp),
        Client::Unbounded => quota,
    };
    TokenBucket::new(
        &quota.build().expect("what is written here is valid"),
        instant(now),
    )
}

/// A restart after each part of the demand: without what was known, or with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Restarts {
    None,
    Empty,
    Resumed,
}

fn run(rule: Rule, demand: &Demand, restarts: Restarts, client: Client, seed: u64) -> Outcome {
    let mut chance = Chance::new(seed, 3);
    let mut bucket = bucket_of(client, None, 0.0);
    let mut server = Server {
        rule,
        phase: chance.even() * WINDOW,
        arrivals: Vec::new(),
    };
    let mut outcome = Outcome {
        provoked: 0.0,
        sent: 0.0,
        tenfold: f64::INFINITY,
    };
    let (mut now, mut part_ends, mut arrived) = (0.0_f64, 0.0, 0.0_f64);
    let mut again: Option<f64> = None;
    for &(lasts, wanted) in demand {
        part_ends += lasts;
        let mut asked = now;
        loop {
            let drawn = chance.lognormal(600.0, 0.8).clamp(50.0, 1_800.0).round();
            let size = again.take().unwrap_or(drawn);
            if wanted < ALL {
                asked += chance.exponential(size * MINUTE / wanted);
            }
            let cost = Cost::ZERO.input_tokens(size as u64);
            let ready = bucket.ready_at(&cost).expect("it fits").as_nanos() as f64 / 1e9 + 1e-9;
            let at = ready.max(now).max(asked);
            if at >= part_ends || wanted <= 0.0 {
                break;
            }
            now = at;
            let call: Reservation = bucket.take(&cost, instant(now));
            // Some ways are longer than others.
            arrived = arrived.max(now + 0.2 * chance.even());
            if server.provokes(size, arrived) {
                outcome.provoked += 1.0;
                bucket.observe(&call, &Readings::NONE.of_ramp_refusal(), instant(now));
            } else {
                outcome.sent += size;
            }
            if chance.even() < FAILING {
                again = Some(size);
            }
            let is_tenfold = || server.between(arrived - MINUTE, arrived) >= 10.0 * FLOOR;
            if outcome.tenfold.is_infinite() && is_tenfold() {
                outcome.tenfold = now;
            }
        }
        now = part_ends;
        match restarts {
            Restarts::None => {}
            Restarts::Empty => bucket = bucket_of(client, None, now),
            Restarts::Resumed => {
                let away = 30.0 * chance.even();
                let known = bucket.ramp(Unit::INPUT_TOKENS, instant(now));
                let state = known.map(|known| (known.state().clone(), away));
                now += away;
                part_ends += away;
                bucket = bucket_of(client, state, now);
            }
        }
    }
    outcome
}

/// What the rule allows who knows nothing of the server's phase and keeps to all three at once, in
/// tokens until `end`, and when ten times the floor is reached.
fn optimum(end: f64) -> (f64, f64) {
    let mut sums = vec![0.0];
    let mut tenfold = f64::INFINITY;
    let window = WINDOW as usize;
    for second in 0..end as usize {
        let sum = |ago: usize| sums[second.saturating_sub(ago)];
        // What is used never falls, so the oldest of the windows to compare with is the least.
        let before = (sum(window) - sum(2 * window)) / WINDOW;
        let rate = (GROWTH * before).max(FLOOR / MINUTE);
        if tenfold.is_infinite() && rate >= 10.0 * FLOOR / MINUTE {
            tenfold = second as f64;
        }
        sums.push(sums[second] + rate);
    }
    (sums[end as usize], tenfold)
}

/// And who knows when its steps begin.
fn informed(end: f64) -> (f64, f64) {
    let steps = (end / WINDOW).ceil() as i32;
    let sent = (0..steps).map(|step| {
        let lasts = (end - f64::from(step) * WINDOW).min(WINDOW);
        FLOOR / MINUTE * GROWTH.powi(step) * lasts
    });
    let tenfold = 10.0_f64.ln() / GROWTH.ln();
    (sent.sum(), tenfold.ceil() * WINDOW)
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    rule: Rule,
    provoked: Estimate,
    /// Of the optimum, where all is wanted all the time.
    sent: Option<Estimate>,
    tenfold: Option<Estimate>,
    client: Client,
}

/// A demand of idles, bursts and whatever lies between.
fn random(seed: u64) -> Demand {
    let mut chance = Chance::new(seed, 4);
    let part = |chance: &mut Chance| {
        let lasts = chance.exponential(900.0).clamp(10.0, 3_600.0);
        let wanted = match chance.even() {
            idle if idle < 0.25 => 0.0,
            all if all < 0.6 => ALL,
            _ => FLOOR * (chance.even() * 3.0).exp2(),
        };
        (lasts, wanted)
    };
    (0..16).map(|_| part(&mut chance)).collect()
}

/// How long it takes to ten times the floor, a little longer than needed.
const LONG: f64 = 11.0 * WINDOW;

pub(crate) fn rows(seeds: &[u64]) -> Vec<Row> {
    let steady: fn(u64) -> Demand = |_| vec![(LONG, ALL)];
    let parts: fn(u64) -> Demand = |_| vec![(1_000.0, ALL); 12];
    let idles: fn(u64) -> Demand = |_| {
        let mut demand = vec![(LONG / 2.0, ALL)];
        demand.extend([
            (600.0, 0.0),
            (60.0, ALL),
            (1_200.0, FLOOR),
            (2_700.0, ALL),
            (60.0, 0.0),
        ]);
        demand.extend([(2_700.0, ALL), (3_600.0, 0.0), (3_600.0, ALL)]);
        demand
    };
    let by_chance: fn(u64) -> Demand = random;
    let unbounded: fn(u64) -> Demand = random_short;
    let settings = [
        ("all is wanted", steady, Restarts::None, Client::Bounded),
        (
            "bursts after idling",
            idles,
            Restarts::None,
            Client::Bounded,
        ),
        ("by chance", by_chance, Restarts::None, Client::Bounded),
        (
            "restarts, nothing saved",
            parts,
            Restarts::Empty,
            Client::Bounded,
        ),
        (
            "restarts, resumed",
            parts,
            Restarts::Resumed,
            Client::Bounded,
        ),
        (
            "by chance, no bound",
            unbounded,
            Restarts::None,
            Client::Unbounded,
        ),
    ];
    let mut rows = Vec::new();
    for (name, demand, restarts, client) in settings {
        for rule in Rule::ALL {
            let runs = on_all_cores(seeds, |seed| {
                run(rule, &demand(*seed), restarts, client, *seed)
            });
            let over = |figure: &dyn Fn(&Outcome) -> f64| {
                Estimate::of(&runs.iter().map(figure).collect::<Vec<_>>())
            };
            let is_steady = name == "all is wanted";
            let (most, _) = optimum(LONG);
            rows.push(Row {
                name: name.to_owned(),
                rule,
                provoked: over(&|run| run.provoked),
                sent: is_steady.then(|| over(&|run| run.sent / most)),
                tenfold: is_steady.then(|| over(&|run| run.tenfold / MINUTE)),
                client,
            });
        }
    }
    rows
}

/// What is unbounded sends far more calls.
fn random_short(seed: u64) -> Demand {
    let demand = random(seed).into_iter().take(6);
    demand
        .map(|(lasts, wanted)| (lasts, wanted.min(20.0 * FLOOR)))
        .collect()
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "demand",
        "server compares",
        "calls that provoked",
        "sent, of the optimum",
        "tenfold after, min",
    ]);
    for row in rows {
        let shown = |estimate: Option<Estimate>, digits| {
            estimate.map_or_else(String::new, |estimate| cell(estimate, digits))
        };
        table.add_row([
            row.name.clone(),
            row.rule.name().to_owned(),
            cell(row.provoked, 1),
            shown(row.sent, 3),
            shown(row.tenfold, 1),
        ]);
    }
    let (sent, tenfold) = optimum(LONG);
    let (more, sooner) = informed(LONG);
    format!(
        "### Ramps\n\n{table}\n\nThe optimum of all three rules, without knowing when steps begin, has \
         ten times the floor after {:.1} min. Who knew would have it after {:.1} min and would have sent \
         {:.2} times as much.\n",
        tenfold / MINUTE,
        sooner / MINUTE,
        more / sent
    )
}

/// Nobody is provoked, at four fifths of what the rule allows.
pub(crate) fn misses(rows: &[Row]) -> Vec<String> {
    let mut misses = Vec::new();
    for row in rows.iter().filter(|row| row.client == Client::Bounded) {
        let name = format!("ramps, {}, {}", row.name, row.rule.name());
        if row.provoked.mean > 0.0 {
            misses.push(format!("{name}: {} calls provoked", row.provoked.mean));
        }
        if let Some(sent) = row.sent.filter(|sent| sent.mean < 0.8) {
            misses.push(format!(
                "{name}: sent {:.3} of the optimum is below 0.8",
                sent.mean
            ));
        }
    }
    for row in rows.iter().filter(|row| row.client == Client::Unbounded) {
        if row.provoked.mean == 0.0 {
            misses.push(format!(
                "ramps, {}: a server that nobody provokes judges nothing",
                row.name
            ));
        }
    }
    misses
}
