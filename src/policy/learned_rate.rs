//! The rate of a server that tells nobody what its quota is.

use std::{ops::RangeInclusive, time::Duration};

use super::{InvalidConfig, Timestamp};

/// After a cut the rate is back at what the server granted after this time, and as far above it
/// after twice as long.
const RECOVERY: f64 = 20.0;
/// How much of what the server granted is left after a cut.
const KEPT: f64 = 0.95;
/// Until the first refusal the rate doubles in this time.
const DOUBLING: f64 = 10.0;
/// Fewer calls between two refusals measure nothing.
const FEWEST: u32 = 20;
/// What [`Rule::Halving`] adds for a call, and the time after which it adds again.
const STEP: f64 = 1.05;
const STEP_EVERY: Duration = Duration::from_millis(100);

/// How a rate grows and is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Cubic,
    /// Half at a refusal, 5 % more for a call that is not refused.
    Halving,
}

/// Finds the rate that a server grants from nothing but its refusals.
///
/// A token bucket is empty at a refusal. Between two of them it granted what flowed in, unless it
/// was full for a while, so what was granted is no more than the quota, and the rate at which it
/// refused no less. The middle of the two is where the learner returns to: it sets the rate to
/// 95 % of it, and from there grows as CUBIC does (RFC 9438, section 4.2): fast at first, hardly
/// where the quota seems to be, and then ever faster, so that a quota that has grown is found.
/// Until the first refusal it doubles every ten seconds.
///
/// With a burst of a second's worth it uses 96 to 100 % of the quota, at one refusal in 60 calls
/// at two a second, one in 300 at ten, and fewer above. Where the burst is a single call, each
/// refusal costs the time that the server wants to be left alone, and 91 % are used.
///
/// Deviations from CUBIC: the origin is that middle instead of the rate at which the refusal
/// came; the cut is small, because a rate that is a little too high costs one refusal and no lost
/// packets; the time of recovery is the same for all rates; calls that were sent before the last
/// cut cut nothing, and time in which nobody waited for the rate does not raise it.
///
/// Rates are per second, in whatever the caller counts: requests or tokens.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{LearnedRate, Timestamp};
///
/// let mut learned = LearnedRate::new(1.0..=1_000.0, 40.0)?;
/// let mut now = Timestamp::ZERO;
/// // The server grants 20 a second and refuses what exceeds it.
/// learned.refused(1.0, now, now);
/// for _ in 0..800 {
///     now = now + Duration::from_millis(50);
///     learned.sent(1.0);
///     learned.wanted(now);
/// }
/// let too_much = learned.rate();
/// learned.refused(0.0, now, now);
/// let middle = (20.0 + too_much) / 2.0;
/// assert!((learned.rate() / middle - 0.95).abs() < 0.001);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct LearnedRate {
    floor: f64,
    ceiling: f64,
    /// What the server last granted or, before the first refusal, where to begin.
    origin: f64,
    is_measured: bool,
    /// How long callers have waited for the rate since the last cut, in seconds.
    wanted: f64,
    advanced: Timestamp,
    /// The last cut, and what has been sent and not been refused since.
    cut: Option<Timestamp>,
    granted: f64,
    /// How many calls that was.
    calls: u32,
    rule: Rule,
    /// When the last step was made.
    stepped: Timestamp,
    /// Whether somebody waited for the rate until the last instant that it was told of.
    is_wanted: bool,
}

impl LearnedRate {
    /// A rate that stays within `bounds` and begins at `start`, per second.
    ///
    /// # Errors
    ///
    /// If the floor is not positive, above the ceiling or above 10⁹, or `start` is outside.
    pub fn new(bounds: RangeInclusive<f64>, start: f64) -> Result<Self, InvalidConfig> {
        let (floor, ceiling) = bounds.into_inner();
        if !(floor > 0.0 && floor <= ceiling && ceiling <= 1e9) {
            return Err(InvalidConfig::new(
                "bounds",
                "must begin above 0, and end no lower and at most at 10⁹: 0.1..=100.0 is fine",
            ));
        }
        if !(floor..=ceiling).contains(&start) {
            return Err(InvalidConfig::new("start", "must lie within the bounds"));
        }
        Ok(Self {
            floor,
            ceiling,
            origin: start,
            is_measured: false,
            wanted: 0.0,
            advanced: Timestamp::ZERO,
            cut: None,
            granted: 0.0,
            calls: 0,
            rule: Rule::Cubic,
            stepped: Timestamp::ZERO,
            is_wanted: false,
        })
    }

    pub(super) const fn with_rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// The rate per second, always finite and within the bounds.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let grown = match self.cut {
            _ if self.rule == Rule::Halving => self.origin,
            None => self.origin * (self.wanted / DOUBLING).exp2(),
            Some(_) => {
                let past = self.wanted / RECOVERY - 1.0;
                self.origin * (1.0 + (1.0 - KEPT) * past * past * past)
            }
        };
        grown.clamp(self.floor, self.ceiling)
    }

    /// Time has passed until `now`, and callers were waiting for the rate all the while.
    pub fn wanted(&mut self, now: Timestamp) {
        let passed = now.as_nanos().saturating_sub(self.advanced.as_nanos());
        self.wanted += Duration::from_nanos(passed).as_secs_f64();
        self.idle(now);
        self.is_wanted = true;
    }

    /// Time has passed until `now`, and nobody waited: what was not asked for was not refused.
    pub fn idle(&mut self, now: Timestamp) {
        self.advanced = self.advanced.max(now);
        self.is_wanted = false;
    }

    /// Whether somebody waited for the rate until the last instant that it was told of.
    pub(super) const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// A call of this size is sent.
    pub fn sent(&mut self, amount: f64) {
        self.granted += amount.max(0.0);
        self.calls = self.calls.saturating_add(1);
        let is_due = self.advanced >= self.stepped + STEP_EVERY;
        if self.rule == Rule::Halving && self.is_wanted && is_due {
            self.origin = (self.origin * STEP).min(self.ceiling);
            self.stepped = self.advanced;
        }
    }

    /// The call sent at `sent` has turned out to be larger by this, or smaller.
    ///
    /// ```
    /// use tower_relay::policy::{LearnedRate, Timestamp};
    ///
    /// let mut learned = LearnedRate::new(1.0..=1_000.0, 40.0)?;
    /// learned.sent(30.0);
    /// learned.resized(-20.0, Timestamp::ZERO);
    /// assert_eq!(learned.rate(), 40.0);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub fn resized(&mut self, by: f64, sent: Timestamp) {
        if !self.is_before_cut(sent) {
            self.granted = (self.granted + by).max(0.0);
        }
    }

    /// What was sent before the last cut is not in what has been granted since.
    fn is_before_cut(&self, sent: Timestamp) -> bool {
        self.cut.is_some_and(|cut| sent < cut)
    }

    /// A call of this size that was sent at `sent` has been refused for its rate. Whether that
    /// was a cut.
    pub fn refused(&mut self, amount: f64, sent: Timestamp, now: Timestamp) -> bool {
        if self.is_before_cut(sent) {
            return false;
        }
        self.granted = (self.granted - amount.max(0.0)).max(0.0);
        self.calls = self.calls.saturating_sub(1);
        let rate = self.rate();
        if self.rule == Rule::Halving {
            self.origin = (rate / 2.0).max(self.floor);
            (self.cut, self.stepped) = (Some(now), now);
            return true;
        }
        let origin = match self.measured(now) {
            Some(granted) => {
                self.is_measured = true;
                granted.min(rate).midpoint(rate)
            }
            // Refused again so soon: the quota is not what it was.
            None if self.is_measured && self.calls < FEWEST => 0.75 * rate.min(self.origin),
            None if self.is_measured => rate.min(self.origin),
            // All that is known is that it was too much.
            None => rate / 2.0,
        };
        self.origin = origin.clamp(self.floor, self.ceiling);
        (self.cut, self.granted, self.wanted) = (Some(now), 0.0, 0.0);
        self.calls = 0;
        true
    }

    /// What the server has granted since the last cut, if it was asked for all that it could.
    fn measured(&self, now: Timestamp) -> Option<f64> {
        let seconds = now.since(self.cut?).as_secs_f64();
        let asked = self.calls >= FEWEST && self.wanted >= 0.9 * seconds;
        asked.then(|| self.granted / seconds)
    }
}

#[cfg(test)]
mod tests;
