use std::time::Duration;

use crate::{outcome::Verdict, policy::Timestamp};

/// What a finished call says about the server's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// It was served: its latency counts.
    Success,
    /// The server had no room for it: a 429, a 529, a timeout.
    Loss,
    /// It failed otherwise; how long that took says nothing.
    Failure,
    /// It says nothing: cancelled, refused locally, or wrong in itself.
    Neutral,
}

impl From<Verdict> for Signal {
    /// What concerns a key, an account or the request itself says nothing of capacity. A timeout
    /// has no verdict of its own: whoever knows of it says [`Signal::Loss`].
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Success,
            Verdict::Throttled | Verdict::RampLimit | Verdict::Overloaded => Self::Loss,
            Verdict::ServerFault => Self::Failure,
            Verdict::Exhausted
            | Verdict::KeyRejected
            | Verdict::ModelDenied
            | Verdict::Region
            | Verdict::CallerFault
            | Verdict::Cancelled
            | Verdict::RefusedLocally => Self::Neutral,
        }
    }
}

/// What a limit algorithm hears of one call, told when its latency is known.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Timestamp, limit::{Sample, Signal}};
///
/// let sent = Timestamp::ZERO + Duration::from_secs(5);
/// let sample = Sample::new(Signal::Success, sent, 7, 10)
///     .first_byte(Duration::from_millis(400))
///     .size(1_500);
/// assert_eq!((sample.in_flight(), sample.limit()), (7, 10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Sample {
    signal: Signal,
    sent: Timestamp,
    in_flight: usize,
    limit: usize,
    first_byte: Option<Duration>,
    total: Option<Duration>,
    size: Option<u64>,
}

impl Sample {
    /// A call sent at `sent` as one of `in_flight`, itself included, under `limit` at that
    /// instant. For a call that did not succeed `in_flight` is what there was when that was known,
    /// if it is more: the first of a burst is sent alone and refused with the others there.
    #[inline]
    pub const fn new(signal: Signal, sent: Timestamp, in_flight: usize, limit: usize) -> Self {
        Self {
            signal,
            sent,
            in_flight,
            limit,
            first_byte: None,
            total: None,
            size: None,
        }
    }

    /// This sample with the time from sending to the first byte of the answer.
    #[inline]
    pub const fn first_byte(mut self, latency: Duration) -> Self {
        self.first_byte = Some(latency);
        self
    }

    /// This sample with the time from sending to the answer's end.
    #[inline]
    pub const fn total(mut self, latency: Duration) -> Self {
        self.total = Some(latency);
        self
    }

    /// This sample with what the call's service time grows with, in any unit: for a language
    /// model the output tokens.
    #[inline]
    pub const fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// What the call says.
    #[must_use]
    pub const fn signal(&self) -> Signal {
        self.signal
    }

    /// When the call was sent.
    #[must_use]
    pub const fn sent(&self) -> Timestamp {
        self.sent
    }

    /// How many calls were in flight when it was sent, itself included; for one that did not
    /// succeed, when that was known, if it is more.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The limit when it was sent.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// From sending to the first byte, if that was seen.
    #[must_use]
    pub const fn to_first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// From sending to the end, if that was waited for.
    #[must_use]
    pub const fn to_end(&self) -> Option<Duration> {
        self.total
    }

    /// What the service time grows with, if known.
    #[must_use]
    pub const fn known_size(&self) -> Option<u64> {
        self.size
    }

    /// The latency to judge by: to the first byte, else to the end.
    pub(super) fn latency(&self) -> Option<f64> {
        self.first_byte
            .or(self.total)
            .map(|latency| latency.as_secs_f64())
    }

    /// Whether the limit was what held further calls back when this one was sent: nine tenths of
    /// it were in use. A call sent below says nothing about more room.
    pub(super) const fn is_at_limit(&self) -> bool {
        self.in_flight.saturating_mul(10) >= self.limit.saturating_mul(9)
    }
}
