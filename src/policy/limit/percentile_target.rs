use std::time::Duration;

use super::{Bounds, Change, LimitAlgorithm, Reason, Sample, Signal, When, losses::Losses};
use crate::policy::{InvalidConfig, Timestamp};

/// As many calls as keep a percentile of the latency under a target: P99 unless told otherwise.
///
/// For those who promise a latency. The only algorithm here that needs to know what is slow, so
/// it has no default target.
///
/// A percentile is kept if few enough calls exceed the target, so exceeding calls are all that is
/// counted, in windows in which two may be expected (200 calls for P99). None in a window: the
/// limit grows by half its square root, if it was used up. Three: it is cut at once, by the share
/// that exceeded, between a tenth and a half. Between the two it stays. In balance somewhat fewer
/// calls exceed the target than allowed. Before the first cut it doubles with each half limit's
/// worth of calls that keep the target. Growth waits for two targets after each change, because
/// quick calls come back first. Refusals and failures count as for [`Aimd`](super::Aimd).
///
/// Source: the sign test for a quantile, as a control rule of our own; no percentile is ever
/// computed.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Timestamp, limit::{LimitAlgorithm, PercentileTarget, Sample, Signal}};
///
/// let mut limit = PercentileTarget::p99(Duration::from_secs(2))?;
/// for _ in 0..3 {
///     let slow = Sample::new(Signal::Success, Timestamp::ZERO, 8, 8)
///         .first_byte(Duration::from_secs(3));
///     limit.record(&slow, Timestamp::ZERO + Duration::from_secs(3));
/// }
/// assert_eq!(limit.limit(), 4);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct PercentileTarget {
    bounds: Bounds,
    target: Duration,
    /// Calls in which two may exceed the target.
    window: u32,
    when: When,
    limit: f64,
    slow_start: f64,
    /// Calls in the window, those that exceeded, and those sent at the limit.
    count: u32,
    exceeded: u32,
    at_limit: u32,
    /// Only calls sent since the last change count.
    since: Timestamp,
    /// Whether the slow ones of these can be back, too.
    is_settled: bool,
    losses: Losses,
}

/// Calls that may exceed the target in a window: enough to tell too many from bad luck.
const EXPECTED: f64 = 2.0;

/// Fewest exceeding calls that are a cut, and the share of what may be expected. With two
/// expected these are the same.
const TOO_MANY: f64 = 3.0;
const TOO_MUCH: f64 = 1.5;

/// The share of what may be expected below which there is room: with two expected, none. The
/// balance of cuts and growth lies at about seven tenths of what is allowed.
const LITTLE: f64 = 0.35;

/// Shares of the limit that a cut takes: a tenth when a few calls exceed, half when all do.
const MILDEST: f64 = 0.1;
const HARSHEST: f64 = 0.5;

impl PercentileTarget {
    /// Keeps 99 of 100 calls under `target`, from 8 calls, between 1 and 1,000.
    ///
    /// # Errors
    ///
    /// If the target is zero.
    pub fn p99(target: Duration) -> Result<Self, InvalidConfig> {
        Self::new(Bounds::default(), 0.99, target)
    }

    /// Keeps the share `quantile` of calls under `target`.
    ///
    /// # Errors
    ///
    /// If the target is zero or the quantile is not within 0.5 to 0.9999: below the half nothing
    /// typical is bounded, and above, a window would be more than 20,000 calls.
    pub fn new(bounds: Bounds, quantile: f64, target: Duration) -> Result<Self, InvalidConfig> {
        if target.is_zero() {
            return Err(InvalidConfig::new(
                "target",
                "no call takes no time; write the longest latency that is acceptable",
            ));
        }
        if !(0.5..=0.9999).contains(&quantile) {
            return Err(InvalidConfig::new(
                "quantile",
                format!("{quantile} is not within 0.5 to 0.9999; write 0.99 for P99"),
            ));
        }
        Ok(Self {
            bounds,
            target,
            window: (EXPECTED / (1.0 - quantile)).round() as u32,
            when: When::FirstByte,
            limit: bounds.initial() as f64,
            slow_start: f64::INFINITY,
            count: 0,
            exceeded: 0,
            at_limit: 0,
            since: Timestamp::ZERO,
            is_settled: false,
            losses: Losses::new(bounds),
        })
    }

    /// Judges by the time to the answer's end instead of the first byte.
    #[must_use]
    pub const fn to_end(mut self) -> Self {
        self.when = When::End;
        self
    }

    fn success(&mut self, sample: &Sample, now: Timestamp) -> Option<Reason> {
        if let Some(before) = self.losses.success(sample, now) {
            self.slow_start = before;
            self.restart(now);
        }
        let latency = match self.when {
            When::End => sample.to_end(),
            When::FirstByte | When::Never => sample.to_first_byte().or_else(|| sample.to_end()),
        }?;
        if sample.sent() < self.since {
            return None;
        }
        if !self.is_settled && now >= self.since + self.target.saturating_mul(2) {
            self.is_settled = true;
            self.empty();
        }
        self.count = self.count.saturating_add(1);
        let is_at_limit = u32::from(sample.is_at_limit());
        self.at_limit = self.at_limit.saturating_add(is_at_limit);
        if latency > self.target {
            self.exceeded += 1;
            let too_many = TOO_MANY.max(TOO_MUCH * self.expected());
            if f64::from(self.exceeded) < too_many {
                return None;
            }
            let share = f64::from(self.exceeded) / f64::from(self.count);
            let kept = 1.0 - share.clamp(MILDEST, HARSHEST);
            self.limit = self.bounds.clamp((self.limit * kept).min(self.limit - 1.0));
            self.slow_start = 0.0;
            self.restart(now);
            return Some(Reason::Queue);
        }
        let is_slow_start = self.limit < self.slow_start;
        let enough = if is_slow_start {
            self.window.min(((self.limit / 2.0) as u32).max(4))
        } else {
            self.window
        };
        if !self.is_settled || self.count < enough {
            return None;
        }
        let is_kept = f64::from(self.exceeded) < LITTLE * self.expected();
        if !is_kept || self.at_limit.saturating_mul(2) <= self.count {
            self.empty();
            return None;
        }
        let step = if is_slow_start {
            self.limit
        } else {
            self.limit.sqrt() / 2.0
        };
        let most = self.losses.cap().max(self.limit);
        self.limit = self.bounds.clamp((self.limit + step).min(most));
        self.restart(now);
        Some(Reason::Room)
    }

    /// How many of the calls so far may exceed the target.
    fn expected(&self) -> f64 {
        EXPECTED * f64::from(self.count) / f64::from(self.window)
    }

    /// Begins a window of calls sent from now on.
    fn restart(&mut self, now: Timestamp) {
        self.empty();
        self.since = now;
        self.is_settled = false;
    }

    const fn empty(&mut self) {
        self.count = 0;
        self.exceeded = 0;
        self.at_limit = 0;
    }
}

impl LimitAlgorithm for PercentileTarget {
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
                self.restart(now);
                reason
            }
        };
        let to = self.limit();
        (from != to).then(|| Change::new(from, to, reason))
    }

    fn when(&self) -> When {
        self.when
    }
}
