//! `[[upstream.scope.quota]]`: what a provider grants, for all models or for some.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket, Unit};

use super::{problem::Problem, reader::Node};

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
}

impl ClassQuota {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Problem> {
        let limits = LIMITS.map(|(name, ..)| name);
        let known = [&["models"], &limits[..], &["max_in_flight", "burst"]].concat();
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
        let quota = quota.build().map_err(|error| match error.field() {
            "quota" => table.wrong("limits nothing; add a limit, such as requests_per_minute"),
            field => table.wrong_in(field, format!("cannot be: {}", error.problem())),
        })?;

        // Words that are answered with one: no call of a language model is smaller.
        let smallest = Cost::REQUEST.input_tokens(1).output_tokens(1);
        let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
        if let Err(error) = bucket.ready_at(&smallest) {
            let unit = error.unit().name();
            let problem = format!(
                "never admits a call: even the smallest needs {} {unit} at once; raise that limit",
                error.cost()
            );
            return Err(table.wrong(problem));
        }
        Ok(Self { models, quota })
    }
}

/// A day ends at midnight UTC. No two providers agree on when theirs does; where it ends sooner
/// nothing is lost but a part of that day, and where it ends later the server says so.
fn until_midnight() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    DAY - Duration::from_secs(seconds % DAY.as_secs())
}
