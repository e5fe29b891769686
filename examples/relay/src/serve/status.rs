//! What `/-/status` tells of an upstream: never a secret, keys by their alias.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use serde::Serialize;
use tower_relay::{
    circuit_breaker::CircuitBreakerHandle,
    outcome::Verdict,
    policy::{
        Learned, RampSnapshot, Timestamp, Unit,
        breaker::State,
        pool::{ClassSnapshot, KeySnapshot, KeyState, ScopeSnapshot, ScopeState, Totals},
    },
    snapshot::{ShareSnapshot, Snapshot},
};

/// Everything that is served.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) upstreams: Vec<UpstreamStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct UpstreamStatus {
    pub(super) name: String,
    pub(super) provider: &'static str,
    pub(super) base_url: String,
    pub(super) paths: Vec<String>,
    pub(super) queue: QueueStatus,
    /// Of each class of callers, the others first; none if there are no shares.
    pub(super) shares: Option<Vec<ShareStatus>>,
    /// How many sessions are kept at their keys; none if there is no affinity.
    pub(super) sessions: Option<usize>,
    /// What answers have taught, by model; none if nothing is estimated.
    pub(super) learned: Option<BTreeMap<String, LearnedStatus>>,
    /// None if it is not enabled.
    pub(super) concurrency: Option<ConcurrencyStatus>,
    /// None if they are not enabled.
    pub(super) breakers: Option<Vec<BreakerStatus>>,
    pub(super) scopes: Vec<ScopeStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct QueueStatus {
    waiting: usize,
    active: u64,
    peak_active: u64,
    admitted: u64,
    refused: u64,
    cancelled: u64,
    completed: u64,
    success_share: Option<f64>,
    mean_latency_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShareStatus {
    class: String,
    weight: u32,
    waiting: usize,
    admitted: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LearnedStatus {
    /// Real tokens of input for each that was estimated from the request's bytes.
    input_ratio: f64,
    /// Of how many kinds of calls, by size, the lengths of answers are known.
    kinds: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct ConcurrencyStatus {
    limit: usize,
    in_flight: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct BreakerStatus {
    /// The host that it keeps calls away from.
    host: String,
    state: &'static str,
    /// When a call is risked, if it is open.
    retried_in_ms: Option<f64>,
    /// Of the calls in its window.
    failure_ratio: f64,
    calls: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ScopeStatus {
    name: String,
    state: &'static str,
    /// When a call is risked on it, if it is out for a time.
    retried_in_ms: Option<f64>,
    in_flight: usize,
    totals: Tally,
    classes: Vec<ClassStatus>,
    keys: Vec<KeyStatus>,
}

#[derive(Debug, Serialize)]
struct ClassStatus {
    /// None for the models that no other class names.
    models: Vec<String>,
    rests_for_ms: Option<f64>,
    /// Left of each unit that is limited.
    remaining: BTreeMap<String, i64>,
    /// The rates that are sought, per minute.
    sought: BTreeMap<String, f64>,
    /// What each bounded growth allows.
    ramps: BTreeMap<String, RampStatus>,
    headroom: f64,
    in_flight: usize,
}

#[derive(Debug, Serialize)]
struct RampStatus {
    allowed_per_minute: f64,
    /// How long it is held there because the provider has refused growth.
    held_for_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct KeyStatus {
    alias: String,
    state: &'static str,
    retried_in_ms: Option<f64>,
    denied_models: Vec<String>,
    in_flight: usize,
    totals: Tally,
}

/// How calls ended, without what never happened.
type Tally = BTreeMap<&'static str, u64>;

// === impl QueueStatus ===

impl From<&Snapshot> for QueueStatus {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            waiting: snapshot.waiting(),
            active: snapshot.active(),
            peak_active: snapshot.peak_active(),
            admitted: snapshot.admitted(),
            refused: snapshot.refused(),
            cancelled: snapshot.cancelled(),
            completed: snapshot.completed(),
            success_share: snapshot.success_share(),
            mean_latency_ms: snapshot.mean_latency().map(millis),
        }
    }
}

// === impl ShareStatus ===

impl From<&ShareSnapshot> for ShareStatus {
    fn from(share: &ShareSnapshot) -> Self {
        Self {
            class: share.name().unwrap_or("others").to_owned(),
            weight: share.weight(),
            waiting: share.waiting(),
            admitted: share.admitted(),
            refused: share.refused(),
        }
    }
}

// === impl LearnedStatus ===

impl LearnedStatus {
    /// None before the first answer.
    pub(super) fn new(learned: &Learned) -> Option<Self> {
        Some(Self {
            input_ratio: learned.input_ratio()?,
            kinds: learned.kinds(),
        })
    }
}

// === impl ConcurrencyStatus ===

impl ConcurrencyStatus {
    pub(super) fn new(limit: NonZeroUsize, queue: &Snapshot) -> Self {
        Self {
            limit: limit.get(),
            in_flight: queue.active(),
        }
    }
}

// === impl BreakerStatus ===

impl BreakerStatus {
    /// None of `host`'s calls has been sent yet if there is no breaker.
    pub(super) fn new(host: String, breaker: Option<CircuitBreakerHandle>, now: Timestamp) -> Self {
        let snapshot = breaker.as_ref().map(CircuitBreakerHandle::snapshot);
        let until = snapshot.as_ref().and_then(|snapshot| snapshot.until());
        Self {
            host,
            state: match snapshot.as_ref().map(|snapshot| snapshot.state()) {
                None | Some(State::Closed) => "closed",
                Some(State::Open) => "open",
                Some(State::HalfOpen) => "half_open",
                Some(_) => "other",
            },
            retried_in_ms: until.map(|at| millis(at.since(now))),
            failure_ratio: snapshot.as_ref().map_or(0.0, |it| it.failure_ratio()),
            calls: snapshot.as_ref().map_or(0, |it| it.calls()),
            refused: breaker.map_or(0, |breaker| breaker.refused()),
        }
    }
}

// === impl ScopeStatus ===

impl ScopeStatus {
    pub(super) fn new(scope: &ScopeSnapshot, now: Timestamp) -> Self {
        let (state, retried) = match scope.state() {
            ScopeState::Open => ("open", None),
            ScopeState::Exhausted(until) => ("exhausted", Some(until)),
            ScopeState::Probing => ("probing", None),
            ScopeState::Region => ("region", None),
            _ => ("other", None),
        };
        Self {
            name: scope.name().to_owned(),
            state,
            retried_in_ms: retried.map(|at| millis(at.since(now))),
            in_flight: scope.in_flight(),
            totals: tally(scope.totals()),
            classes: scope
                .classes()
                .iter()
                .map(|class| ClassStatus::new(class, now))
                .collect(),
            keys: scope
                .keys()
                .iter()
                .map(|key| KeyStatus::new(key, now))
                .collect(),
        }
    }
}

impl ClassStatus {
    fn new(class: &ClassSnapshot, now: Timestamp) -> Self {
        let rests_until = class.rests_until();
        let remaining = class.remaining().iter();
        Self {
            models: class.models().map(str::to_owned).collect(),
            rests_for_ms: rests_until.map(|until| millis(until.since(now))),
            remaining: remaining
                .map(|(unit, left)| (field(*unit), *left))
                .collect(),
            sought: class
                .sought()
                .map(|(unit, rate)| (field(unit), rate * 60.0))
                .collect(),
            ramps: class
                .ramps()
                .iter()
                .map(|(unit, ramp)| (field(*unit), RampStatus::new(ramp, now)))
                .collect(),
            headroom: class.headroom(),
            in_flight: class.in_flight(),
        }
    }
}

impl RampStatus {
    fn new(ramp: &RampSnapshot, now: Timestamp) -> Self {
        let held_until = ramp.held_until();
        Self {
            allowed_per_minute: ramp.allowed() * 60.0,
            held_for_ms: held_until.map(|until| millis(until.since(now))),
        }
    }
}

impl KeyStatus {
    fn new(key: &KeySnapshot, now: Timestamp) -> Self {
        let (state, retried) = match key.state() {
            KeyState::Usable => ("usable", None),
            KeyState::Disabled => ("disabled", None),
            KeyState::Draining => ("draining", None),
            KeyState::Rejected(at) => ("rejected", at),
            KeyState::OnTrial => ("on_trial", None),
            KeyState::BreakerOpen(at) => ("breaker_open", Some(at)),
            KeyState::HalfOpen => ("half_open", None),
            _ => ("other", None),
        };
        Self {
            alias: key.alias().to_owned(),
            state,
            retried_in_ms: retried.map(|at| millis(at.since(now))),
            denied_models: key.denied().map(str::to_owned).collect(),
            in_flight: key.in_flight(),
            totals: tally(key.totals()),
        }
    }
}

/// A unit as the name of a field.
fn field(unit: Unit) -> String {
    unit.name().replace(' ', "_")
}

fn tally(totals: &Totals) -> Tally {
    let counts = Verdict::ALL
        .iter()
        .map(|verdict| (verdict.name(), totals.get(*verdict)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn millis(duration: Duration) -> f64 {
    // Whole microseconds: more would be noise.
    duration.as_micros() as f64 / 1e3
}
