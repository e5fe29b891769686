use super::{Bounds, Change, LimitAlgorithm, Reason, Sample, Signal, losses::Losses};
use crate::policy::Timestamp;

/// As many calls as the server takes without refusing one: additive increase, multiplicative
/// decrease.
///
/// For servers that refuse what is too much instead of queueing it. It never looks at latency,
/// so before a server that only queues it grows to its highest limit; [`SizedVegas`] does not.
///
/// Slow start adds one for each success until the first loss. A loss takes a tenth, more if the
/// cut limit loses again. Then the limit grows by one for each limit's worth of successes, faster
/// far below the level of the last loss, and stays just below that for 150 successes. Only calls
/// sent at nine tenths of the limit or more count for growth.
///
/// Sources: Chiu and Jain 1989 (additive increase, multiplicative decrease), TCP's slow start and
/// fast recovery (RFC 5681: one cut per window), the plateau below the last loss from CUBIC (RFC
/// 9438). Deviations: the epoch of a loss is decided by the limit at admission and the time of
/// sending instead of sequence numbers, the growth back to the ceiling is exponential rather than
/// cubic and independent of the clock, and failures only count when nothing else comes back.
///
/// [`SizedVegas`]: super::SizedVegas
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Timestamp, limit::{Aimd, LimitAlgorithm, Sample, Signal}};
///
/// let mut limit = Aimd::default();
/// assert_eq!(limit.limit(), 8);
/// let now = Timestamp::ZERO + Duration::from_secs(1);
/// limit.record(&Sample::new(Signal::Success, Timestamp::ZERO, 8, 8), now);
/// assert_eq!(limit.limit(), 9);
/// // Two refusals of one burst are one cut.
/// limit.record(&Sample::new(Signal::Loss, Timestamp::ZERO, 9, 9), now);
/// limit.record(&Sample::new(Signal::Loss, Timestamp::ZERO, 9, 9), now);
/// assert_eq!(limit.limit(), 8);
/// ```
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    limit: f64,
    /// Below this, growth is by one for each success.
    slow_start: f64,
    losses: Losses,
}

impl Aimd {
    /// Starts at the first limit of `bounds`.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            limit: bounds.initial() as f64,
            slow_start: f64::INFINITY,
            losses: Losses::new(bounds),
        }
    }

    fn success(&mut self, sample: &Sample, now: Timestamp) -> Option<Reason> {
        if let Some(before) = self.losses.success(sample, now) {
            self.slow_start = before;
        }
        if !sample.is_at_limit() || sample.limit() > self.limit as usize {
            return None;
        }
        let step = if self.limit < self.slow_start {
            1.0
        } else {
            let distance = self.losses.ceiling() - self.limit;
            let share = if distance.is_finite() {
                (distance * CATCH_UP).max(1.0)
            } else {
                1.0
            };
            share / self.limit
        };
        let most = self.losses.cap().max(self.limit);
        self.limit = self.bounds.clamp((self.limit + step).min(most));
        Some(Reason::Room)
    }
}

/// Share of the way back to the last ceiling that a limit's worth of successes makes: most of it
/// within ten round trips, and never as one burst.
const CATCH_UP: f64 = 0.25;

impl Default for Aimd {
    /// From 8, between 1 and 1,000.
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl LimitAlgorithm for Aimd {
    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn record(&mut self, sample: &Sample, now: Timestamp) -> Option<Change> {
        let from = self.limit();
        let reason = match sample.signal() {
            Signal::Success => self.success(sample, now)?,
            Signal::Neutral => return None,
            signal => {
                let (limit, reason) = self.losses.setback(signal, sample, self.limit, now)?;
                self.limit = limit;
                self.slow_start = 0.0;
                reason
            }
        };
        let to = self.limit();
        (from != to).then(|| Change::new(from, to, reason))
    }
}
