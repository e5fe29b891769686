//! What a provider has seen.

use crate::charging::Charge;
use std::time::Duration;

/// A snapshot of what was counted since the start or the last
/// [`reset_counters`](crate::Provider::reset_counters).
///
/// At any moment `calls` is the sum of `answered`, `refused`, `unauthorized`, `exhausted`, `denied`,
/// `invalid`, `server_errors` and `overloaded`: a call is counted when its outcome is decided, which for an
/// answer is its admission. The outcome is counted by its meaning, not by its status, which differs
/// between the formats. Counters of a scope or a key leave out what never reached one: unknown keys,
/// paths and methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests received, whatever the answer.
    pub calls: u64,
    /// Admitted and answered with 200, those included that the client did not read to the end.
    pub answered: u64,
    /// Refused with 429 because of the scope's limits.
    pub refused: u64,
    /// Refused with 401.
    pub unauthorized: u64,
    /// Refused because the scope's credit is spent.
    pub exhausted: u64,
    /// Refused because the model is denied to the key or to its scope.
    pub denied: u64,
    /// Refused as a wrong request: any other status of the 4xx class.
    pub invalid: u64,
    /// Admitted and failed with 500.
    pub server_errors: u64,
    /// Failed with 529, or 503 in OpenAI's format: admitted and failed by chance, or turned away
    /// because the line was full.
    pub overloaded: u64,
    /// Streams among `answered` that were ended half-way by an injected error.
    pub stream_errors: u64,
    /// Calls admitted, each of them charged as one request.
    pub requests_charged: u64,
    /// What the calls admitted were charged for input, less what was given back.
    pub input_tokens_charged: u64,
    /// What the calls admitted were charged for output, less what was given back; by default the sum
    /// of their `max_tokens`.
    pub output_tokens_charged: u64,
    /// Output tokens sent.
    pub output_tokens_produced: u64,
    /// Calls between their admission and the end of their response body; a reset leaves it alone.
    pub in_flight: u64,
    /// The largest `in_flight`.
    pub peak_in_flight: u64,
    /// Admitted calls whose client went away before the end of the body.
    pub disconnected: u64,
    /// When the first call was admitted, in provider time since the start or reset.
    pub first_admission: Option<Duration>,
    /// When the last call was admitted, likewise.
    pub last_admission: Option<Duration>,
}

/// What became of a call; each call has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Refused,
    Unauthorized,
    Exhausted,
    Denied,
    Invalid,
    ServerError,
    Overloaded,
}

impl Counters {
    pub(crate) fn decided(&mut self, outcome: Outcome) {
        self.calls += 1;
        *match outcome {
            Outcome::Answered => &mut self.answered,
            Outcome::Refused => &mut self.refused,
            Outcome::Unauthorized => &mut self.unauthorized,
            Outcome::Exhausted => &mut self.exhausted,
            Outcome::Denied => &mut self.denied,
            Outcome::Invalid => &mut self.invalid,
            Outcome::ServerError => &mut self.server_errors,
            Outcome::Overloaded => &mut self.overloaded,
        } += 1;
    }

    pub(crate) fn settled(&mut self, old: Charge, new: Charge) {
        let settle = |sum: &mut u64, old, new| *sum = sum.saturating_sub(old) + new;
        settle(&mut self.input_tokens_charged, old.input, new.input);
        settle(&mut self.output_tokens_charged, old.output, new.output);
    }

    pub(crate) fn admitted(&mut self, input_tokens: u64, output_tokens: u64, now: Duration) {
        self.requests_charged += 1;
        self.input_tokens_charged += input_tokens;
        self.output_tokens_charged += output_tokens;
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
        self.first_admission.get_or_insert(now);
        self.last_admission = Some(now);
    }

    /// Starts again at zero, but for the calls still in flight.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            in_flight: self.in_flight,
            peak_in_flight: self.in_flight,
            ..Self::default()
        };
    }
}
