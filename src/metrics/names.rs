use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

// Of the queue of a layer that waits.
pub(super) const WAITING: &str = "tower_relay.queue.waiting";
pub(super) const IN_FLIGHT: &str = "tower_relay.queue.in_flight";
pub(super) const ADMITTED: &str = "tower_relay.queue.admitted";
pub(super) const REFUSED: &str = "tower_relay.queue.refused";
pub(super) const CANCELLED: &str = "tower_relay.queue.cancelled";
pub(super) const SUCCEEDED: &str = "tower_relay.queue.succeeded";
pub(super) const FAILED: &str = "tower_relay.queue.failed";
pub(super) const LIMIT: &str = "tower_relay.concurrency.limit";

// Of quotas, scopes and keys.
pub(super) const REMAINING: &str = "tower_relay.quota.remaining";
pub(super) const HEADROOM: &str = "tower_relay.quota.headroom";
pub(super) const REST: &str = "tower_relay.quota.rest";
pub(super) const SCOPE_STATE: &str = "tower_relay.scope.state";
pub(super) const SCOPE_IN_FLIGHT: &str = "tower_relay.scope.in_flight";
pub(super) const KEY_STATE: &str = "tower_relay.key.state";
pub(super) const KEY_IN_FLIGHT: &str = "tower_relay.key.in_flight";
pub(super) const KEY_CALLS: &str = "tower_relay.key.calls";
pub(super) const KEY_TOKENS: &str = "tower_relay.key.tokens";

// Of breakers.
pub(super) const BREAKER_STATE: &str = "tower_relay.breaker.state";
pub(super) const BREAKER_REFUSED: &str = "tower_relay.breaker.refused";
pub(super) const BREAKER_CALLS: &str = "tower_relay.breaker.calls";
pub(super) const BREAKER_FAILURES: &str = "tower_relay.breaker.failure_ratio";

// Of retries.
pub(super) const RETRY_SUCCEEDED: &str = "tower_relay.retry.succeeded";
pub(super) const RETRY_GIVEN_UP: &str = "tower_relay.retry.given_up";
pub(super) const RETRY_RESENT: &str = "tower_relay.retry.resent";
pub(super) const RETRY_WAITED_OUT: &str = "tower_relay.retry.waited_out";
pub(super) const RETRY_WAITING: &str = "tower_relay.retry.waiting";
pub(super) const BUDGET_LEVEL: &str = "tower_relay.retry.budget.level";
pub(super) const BUDGET_CAPACITY: &str = "tower_relay.retry.budget.capacity";

/// The histogram of [`waits`](super::waits), in seconds.
pub const QUEUE_WAIT: &str = "tower_relay.queue.wait";
/// The histogram of whole calls, retries and the body included, in seconds; recorded by an
/// [`ObserveLayer`](crate::observe::ObserveLayer).
pub const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";
/// The histogram of the tokens of a call; recorded by an
/// [`ObserveLayer`](crate::observe::ObserveLayer).
pub const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
/// The histogram of the times until the head of a successful answer, in seconds; recorded by an
/// [`ObserveLayer`](crate::observe::ObserveLayer).
pub const TIME_TO_FIRST_BYTE: &str = "tower_relay.call.time_to_first_byte";

/// Upper bounds of buckets for the histograms of seconds, as OpenTelemetry advises for
/// [`OPERATION_DURATION`]: from 10 ms to a minute and a half, doubling.
pub const DURATION_BUCKETS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Upper bounds of buckets for [`TOKEN_USAGE`], as OpenTelemetry advises: from 1 to 67 million, in
/// powers of four.
pub const TOKEN_BUCKETS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Tells the recorder the unit and the meaning of every metric, once it is installed. Recorders
/// that do not ask for it need not be told.
///
/// ```
/// use metrics_util::debugging::DebuggingRecorder;
///
/// let recorder = DebuggingRecorder::new();
/// metrics::with_local_recorder(&recorder, tower_relay::metrics::describe);
/// ```
pub fn describe() {
    let gauges = [
        (WAITING, "calls in the queue"),
        (IN_FLIGHT, "calls admitted whose answers have not ended"),
        (LIMIT, "how many calls may be in flight"),
        (
            REMAINING,
            "what can be taken of a quota now, negative in debt",
        ),
        (SCOPE_STATE, "1 for the state that a scope is in"),
        (SCOPE_IN_FLIGHT, "calls in flight of a class of models"),
        (KEY_STATE, "1 for the state that a key is in"),
        (KEY_IN_FLIGHT, "calls in flight with a key"),
        (BREAKER_STATE, "1 for the state that a breaker is in"),
        (BREAKER_CALLS, "calls in a breaker's window"),
        (RETRY_WAITING, "calls that wait to be sent again"),
        (BUDGET_LEVEL, "tokens left in the retry budget"),
        (BUDGET_CAPACITY, "tokens of a full retry budget"),
    ];
    for (name, what) in gauges {
        describe_gauge!(name, Unit::Count, what);
    }
    // Without a unit: it is one, and "percent" would be wrong.
    describe_gauge!(HEADROOM, "the share that is left of a quota, 0 to 1");
    describe_gauge!(
        BREAKER_FAILURES,
        "the failed share of the calls in a breaker's window, 0 to 1"
    );
    let rest = "how long a class of models rests yet";
    describe_gauge!(REST, Unit::Seconds, rest);
    let counters = [
        (ADMITTED, "calls admitted"),
        (REFUSED, "calls refused by a layer's queue"),
        (CANCELLED, "calls that ended without a word of the server's"),
        (SUCCEEDED, "admitted calls that ended well"),
        (FAILED, "admitted calls that failed"),
        (KEY_CALLS, "attempts with a key, by how they ended"),
        (KEY_TOKENS, "tokens that answers said were used with a key"),
        (BREAKER_REFUSED, "calls refused by a breaker"),
        (RETRY_SUCCEEDED, "calls that ended well, at any attempt"),
        (RETRY_GIVEN_UP, "calls whose failure was returned, and why"),
        (RETRY_RESENT, "requests sent again at a cost"),
        (
            RETRY_WAITED_OUT,
            "requests sent again for nothing, after a wait for a layer inside",
        ),
    ];
    for (name, what) in counters {
        describe_counter!(name, Unit::Count, what);
    }
    let seconds = [
        (QUEUE_WAIT, "how long calls that waited did so"),
        (
            OPERATION_DURATION,
            "calls with all attempts, to the end of the answer",
        ),
        (TIME_TO_FIRST_BYTE, "until the head of a successful answer"),
    ];
    for (name, what) in seconds {
        describe_histogram!(name, Unit::Seconds, what);
    }
    describe_histogram!(TOKEN_USAGE, Unit::Count, "tokens of a call");
}
