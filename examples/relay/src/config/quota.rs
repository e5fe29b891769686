//! `[[upstream.scope.quota]]`: what a provider grants, for all models or for some.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_relay::policy::{
    Cost, InvalidConfig, Quota, QuotaBuilder, Ramp, RampState, Timestamp, TokenBucket, Unit,
};

use super::{
    problem::Problem,
    reader::Node,
    unknown::{ramps, searches},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Limits of a day are windows, because pacing a thousand requests over a day would serve the
/// first two a minute and a half apart.
const LIMITS: [(&str, Unit, Duration); 10] = [
    ("requests_per_second", Unit::REQUESTS, SECOND),
    ("requests_per_minute", Unit::REQUESTS, MINUTE),
    ("requests_per_hour", Unit::REQUESTS, HOUR),
    ("requests_per_day", Unit::REQUESTS, DAY),
    ("input_tokens_per_minute", Unit::INPUT_TOKENS, MINUTE),
    ("input_tokens_per_day", Unit::INPUT_TOKENS, DAY),
    ("output_tokens_per_minute", Unit::OUTPUT_TOKENS, MINUTE),
    ("output_tokens_per_day", Unit::OUTPUT_TOKENS, DAY),
    ("tokens_per_minute", Unit::TOKENS, MINUTE),
    ("tokens_per_day", Unit::TOKENS, DAY),
];

const OTHERS: [&str; 6] = ["max_in_flight", "burst", "margin", "learn", "seek", "ramp"];

const BURSTS: [(&str, Unit); 4] = [
    ("requests", Unit::REQUESTS),
    ("input_tokens", Unit::INPUT_TOKENS),
    ("output_tokens", Unit::OUTPUT_TOKENS),
    ("tokens", Unit::TOKENS),
];

/// The quota of a class of models.
#[derive(Clone, Debug)]
pub(crate) struct ClassQuota {
    /// Patterns; none for all models that no other quota names.
    pub(crate) models: Vec<String>,
    pub(crate) quota: Quota,
    /// The quota without its bounds of growth, which go on where they were before a restart.
    steady: QuotaBuilder,
    ramps: Vec<(Unit, Ramp)>,
}

impl ClassQuota {
    fn new(
        models: Vec<String>,
        steady: QuotaBuilder,
        ramps: Vec<(Unit, Ramp)>,
    ) -> Result<Self, InvalidConfig> {
        let all = ramps.iter().cloned();
        let quota = all.fold(steady.clone(), |quota, (unit, ramp)| quota.ramp(unit, ramp));
        Ok(Self {
            quota: quota.build()?,
            models,
            steady,
            ramps,
        })
    }

    /// The quota of all models.
    pub(crate) fn of_all(quota: QuotaBuilder) -> Result<Self, InvalidConfig> {
        Self::new(Vec::new(), quota, Vec::new())
    }

    /// The units whose growth is bounded.
    pub(crate) fn ramped(&self) -> impl Iterator<Item = Unit> {
        self.ramps.iter().map(|(unit, _)| *unit)
    }

    /// Goes on with what was used of `unit`, saved so long ago. What was saved over another window
    /// is not taken.
    pub(crate) fn resume(&mut self, unit: Unit, state: &RampState, age: Duration) {
        let mut ramps = self.ramps.clone();
        for (bounded, ramp) in &mut ramps {
            if *bounded == unit {
                *ramp = ramp.clone().resume(state.clone(), age);
            }
        }
        let resumed = Self::new(self.models.clone(), self.steady.clone(), ramps);
        if let Ok(resumed) = resumed {
            *self = resumed;
        }
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Problem> {
        let limits = LIMITS.map(|(name, ..)| name);
        let known = [&["models"], &limits[..], &OTHERS[..]].concat();
        let table = node.table(&known)?;

        let mut models = Vec::new();
        if let Some(list) = table.get("models") {
            for model in list.list("models")? {
                models.push(model.text()?.to_owned());
            }
            if models.is_empty() {
                return Err(list.wrong("is empty; name a model, or leave it out for all models"));
            }
        }

        let mut quota = Quota::builder();
        for (name, unit, period) in LIMITS {
            let Some(node) = table.get(name) else {
                continue;
            };
            let amount = node.whole(1..=u64::MAX)?;
            quota = match period {
                DAY => quota.window(unit, amount, DAY, until_midnight()),
                period => quota.rate(unit, amount, period),
            };
        }
        if let Some(node) = table.get("max_in_flight") {
            let calls = node.whole(1..=u64::MAX)?;
            quota = quota.max_in_flight(usize::try_from(calls).unwrap_or(usize::MAX));
        }
        if let Some(node) = table.get("burst") {
            let bursts = node.table(&BURSTS.map(|(name, _)| name))?;
            for (name, unit) in BURSTS {
                if let Some(node) = bursts.get(name) {
                    quota = quota.burst(unit, node.whole(1..=u64::MAX)?);
                }
            }
        }
        if let Some(node) = table.get("margin") {
            let margin = node.fraction()?;
            if !(0.0..=0.5).contains(&margin) {
                return Err(node.wrong("is not from 0 to 0.5 of each limit; 0.01 is usual"));
            }
            quota = quota.margin_per_mille((margin * 1e3).round() as u16);
        }
        let learn = table.get("learn").map(|node| node.yes_or_no());
        if learn.transpose()? == Some(true) {
            quota = quota.learn();
        }
        if let Some(node) = table.get("seek") {
            for (unit, search) in searches(&node)? {
                quota = quota.seek(unit, search);
            }
        }
        let ramps = table
            .get("ramp")
            .map_or(Ok(Vec::new()), |node| ramps(&node))?;
        let class = Self::new(models, quota, ramps).map_err(|error| match error.field() {
            "quota" => table.wrong("limits nothing; add a limit, such as requests_per_minute"),
            field => table.wrong_in(field, format!("cannot be: {}", error.problem())),
        })?;

        // Words that are answered with one: no call of a language model is smaller.
        let smallest = Cost::REQUEST.input_tokens(1).output_tokens(1);
        let bucket = TokenBucket::new(&class.quota, Timestamp::ZERO);
        if let Err(error) = bucket.ready_at(&smallest) {
            let unit = error.unit().name();
            let problem = format!(
                "never admits a call: even the smallest needs {} {unit} at once; raise that limit",
                error.cost()
            );
            return Err(table.wrong(problem));
        }
        Ok(class)
    }
}

/// A day ends at midnight UTC. No two providers agree on when theirs does; where it ends sooner
/// nothing is lost but a part of that day, and where it ends later the server says so.
fn until_midnight() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    DAY - Duration::from_secs(seconds % DAY.as_secs())
}
