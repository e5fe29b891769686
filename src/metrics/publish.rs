use super::{Labels, names::*};
#[cfg(feature = "adaptive-concurrency")]
use crate::adaptive_concurrency::AdaptiveConcurrencyHandle;
#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::CircuitBreakerHandle;
#[cfg(feature = "rate-limit")]
use crate::rate_limit::RateLimitHandle;
#[cfg(feature = "key-rotation")]
use crate::{clock, key_rotation::KeyRotationHandle, outcome::Verdict, policy::pool};
#[cfg(feature = "retry")]
use crate::{policy::Reason, retry::RetryHandle};

/// What every layer that waits has.
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency"
))]
fn queue(labels: &Labels, snapshot: &crate::snapshot::Snapshot) {
    labels.gauge(WAITING).set(snapshot.waiting() as f64);
    labels.gauge(IN_FLIGHT).set(snapshot.active() as f64);
    labels.counter(ADMITTED).absolute(snapshot.admitted());
    labels.counter(REFUSED).absolute(snapshot.refused());
    labels.counter(CANCELLED).absolute(snapshot.cancelled());
    labels.counter(SUCCEEDED).absolute(snapshot.succeeded());
    labels.counter(FAILED).absolute(snapshot.failed());
}

#[cfg(any(feature = "rate-limit", feature = "key-rotation"))]
fn remaining(labels: &Labels, remaining: &[(crate::policy::Unit, i64)]) {
    for (unit, left) in remaining {
        let unit = unit.name().replace(' ', "_");
        let labels = labels.clone().label("unit", unit);
        labels.gauge(REMAINING).set(*left as f64);
    }
}

/// One series for each state, of which one is 1.
#[cfg(any(feature = "key-rotation", feature = "circuit-breaker"))]
fn state(labels: &Labels, name: &'static str, all: &[&'static str], present: &str) {
    for state in all {
        let is_present = f64::from(u8::from(*state == present));
        labels.and("state", state).gauge(name).set(is_present);
    }
}

#[cfg(feature = "rate-limit")]
impl RateLimitHandle {
    /// Sets the metrics of this limit to what they are now. Call it when metrics are collected, or
    /// from a timer; see [`metrics`](crate::metrics).
    ///
    /// ```
    /// use metrics_util::debugging::DebuggingRecorder;
    /// use tower_relay::{rate_limit::RateLimitLayer, metrics::Labels};
    ///
    /// let recorder = DebuggingRecorder::new();
    /// let snapshotter = recorder.snapshotter();
    /// let handle = RateLimitLayer::per_second(50).handle();
    /// metrics::with_local_recorder(&recorder, || handle.publish(&Labels::new()));
    /// assert!(!snapshotter.snapshot().into_vec().is_empty());
    /// ```
    pub fn publish(&self, labels: &Labels) {
        let labels = labels.and("layer", "rate limit");
        queue(&labels, &self.snapshot());
        remaining(&labels, &self.remaining());
        if let Some(limit) = self.max_in_flight() {
            labels.gauge(LIMIT).set(limit as f64);
        }
    }
}

#[cfg(feature = "adaptive-concurrency")]
impl AdaptiveConcurrencyHandle {
    /// Sets the metrics of this limit to what they are now. Call it when metrics are collected, or
    /// from a timer; see [`metrics`](crate::metrics).
    ///
    /// ```
    /// use metrics_util::debugging::DebuggingRecorder;
    /// use tower_relay::{adaptive_concurrency::AdaptiveConcurrencyLayer, policy::limit::Fixed, metrics::Labels};
    ///
    /// let recorder = DebuggingRecorder::new();
    /// let snapshotter = recorder.snapshotter();
    /// let handle = AdaptiveConcurrencyLayer::new(Fixed::of(64)).handle();
    /// metrics::with_local_recorder(&recorder, || handle.publish(&Labels::new()));
    /// assert!(!snapshotter.snapshot().into_vec().is_empty());
    /// ```
    pub fn publish(&self, labels: &Labels) {
        let labels = labels.and("layer", "adaptive concurrency");
        queue(&labels, &self.snapshot());
        labels.gauge(LIMIT).set(self.limit() as f64);
    }
}

#[cfg(feature = "circuit-breaker")]
impl CircuitBreakerHandle {
    /// Sets the metrics of this breaker to what they are now. Call it when metrics are collected,
    /// or from a timer; see [`metrics`](crate::metrics).
    ///
    /// Those of a map of breakers are published one by one, by who knows that its keys are few.
    ///
    /// ```
    /// use metrics_util::debugging::DebuggingRecorder;
    /// use tower_relay::{circuit_breaker::CircuitBreakerLayer, metrics::Labels};
    ///
    /// let recorder = DebuggingRecorder::new();
    /// let snapshotter = recorder.snapshotter();
    /// let handle = CircuitBreakerLayer::default().handle();
    /// metrics::with_local_recorder(&recorder, || handle.publish(&Labels::new()));
    /// assert!(!snapshotter.snapshot().into_vec().is_empty());
    /// ```
    pub fn publish(&self, labels: &Labels) {
        let labels = labels.and("layer", "circuit breaker");
        let snapshot = self.snapshot();
        let states = ["closed", "open", "half_open"];
        state(&labels, BREAKER_STATE, &states, snapshot.state().name());
        labels.counter(BREAKER_REFUSED).absolute(self.refused());
        labels.gauge(BREAKER_CALLS).set(snapshot.calls() as f64);
        labels.gauge(BREAKER_FAILURES).set(snapshot.failure_ratio());
    }
}

#[cfg(feature = "retry")]
impl RetryHandle {
    /// Sets the metrics of these retries to what they are now. Call it when metrics are collected,
    /// or from a timer; see [`metrics`](crate::metrics).
    ///
    /// ```
    /// use metrics_util::debugging::DebuggingRecorder;
    /// use tower_relay::{retry::RetryLayer, metrics::Labels};
    ///
    /// let recorder = DebuggingRecorder::new();
    /// let snapshotter = recorder.snapshotter();
    /// let handle = RetryLayer::default().handle();
    /// metrics::with_local_recorder(&recorder, || handle.publish(&Labels::new()));
    /// assert!(!snapshotter.snapshot().into_vec().is_empty());
    /// ```
    pub fn publish(&self, labels: &Labels) {
        let labels = labels.and("layer", "retry");
        let snapshot = self.snapshot();
        let succeeded = snapshot.successes();
        labels.counter(RETRY_SUCCEEDED).absolute(succeeded);
        for reason in Reason::ALL {
            let labels = labels.and("reason", reason.name());
            let count = snapshot.given_up(*reason);
            labels.counter(RETRY_GIVEN_UP).absolute(count);
        }
        labels.counter(RETRY_RESENT).absolute(snapshot.retries());
        let waited_out = snapshot.waited_out();
        labels.counter(RETRY_WAITED_OUT).absolute(waited_out);
        labels.gauge(RETRY_WAITING).set(snapshot.waiting() as f64);
        labels.gauge(BUDGET_LEVEL).set(snapshot.budget_level());
        let capacity = snapshot.budget_capacity();
        labels.gauge(BUDGET_CAPACITY).set(capacity);
    }
}

#[cfg(feature = "key-rotation")]
impl KeyRotationHandle {
    /// Sets the metrics of this pool, of its scopes and of its keys to what they are now. Call it
    /// when metrics are collected, or from a timer; see [`metrics`](crate::metrics).
    ///
    /// Labels name scopes, keys by their alias, and classes of models by their patterns, all from
    /// the pool's configuration; never a secret, never a model that only a request has named.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, KeyRotationLayer, Source},
    ///     metrics::Labels,
    ///     policy::Quota,
    /// };
    ///
    /// let quota = Quota::builder().requests_per_minute(600).build()?;
    /// let pool = KeyPool::accounts(quota, [("a1", Source::value("secret"))])?;
    /// let handle = KeyRotationLayer::new(pool).handle();
    /// handle.publish(&Labels::new().label("upstream", "openai"));
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub fn publish(&self, labels: &Labels) {
        let labels = labels.and("layer", "key rotation");
        queue(&labels, &self.snapshot());
        remaining(&labels, &self.remaining());
        if let Some(limit) = self.concurrency() {
            labels.gauge(LIMIT).set(limit.get() as f64);
        }
        for scope in self.scopes() {
            publish_scope(&labels.clone().label("scope", scope.name()), &scope);
        }
    }
}

#[cfg(feature = "key-rotation")]
fn publish_scope(labels: &Labels, scope: &pool::ScopeSnapshot) {
    let states = ["open", "exhausted", "probing", "region"];
    state(labels, SCOPE_STATE, &states, scope.state().name());
    let now = clock::now();
    for class in scope.classes() {
        let models: Vec<_> = class.models().collect();
        let models = match models.is_empty() {
            true => EVERY_OTHER_MODEL.to_owned(),
            false => models.join(","),
        };
        let labels = labels.clone().label("gen_ai.request.model", models);
        remaining(&labels, class.remaining());
        labels.gauge(HEADROOM).set(class.headroom());
        let rest = class.rests_until().map(|until| until.since(now));
        labels
            .gauge(REST)
            .set(rest.unwrap_or_default().as_secs_f64());
        let in_flight = class.in_flight() as f64;
        labels.gauge(SCOPE_IN_FLIGHT).set(in_flight);
    }
    for key in scope.keys() {
        publish_key(&labels.clone().label("key.alias", key.alias()), key);
    }
}

#[cfg(feature = "key-rotation")]
fn publish_key(labels: &Labels, key: &pool::KeySnapshot) {
    let states = [
        "usable",
        "disabled",
        "draining",
        "rejected",
        "on_trial",
        "breaker_open",
        "half_open",
    ];
    state(labels, KEY_STATE, &states, key.state().name());
    labels.gauge(KEY_IN_FLIGHT).set(key.in_flight() as f64);
    let totals = key.totals();
    for verdict in Verdict::ALL {
        let count = totals.get(*verdict);
        // There is always a series of successes; the others begin when there is something to tell.
        let labels = match verdict {
            Verdict::Success => labels.clone(),
            _ if count == 0 => continue,
            _ => labels.and("error.type", verdict.name()),
        };
        labels.counter(KEY_CALLS).absolute(count);
    }
    for (kind, tokens) in [
        ("input", totals.input_tokens()),
        ("output", totals.output_tokens()),
    ] {
        let labels = labels.and("gen_ai.token.type", kind);
        labels.counter(KEY_TOKENS).absolute(tokens);
    }
}

/// The class of models that no other class names.
#[cfg(feature = "key-rotation")]
const EVERY_OTHER_MODEL: &str = "*";
