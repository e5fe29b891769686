use std::time::Duration;

use super::{Unit, nanos, quota::LONGEST_PERIOD};

/// How many limits one answer can show.
const MOST: usize = 4;
/// No quota is larger; what claims to be is a mistake.
const LARGEST: u64 = 1_000_000_000_000_000;

/// What one answer shows of one of the server's limits.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Reading, Unit};
///
/// let reading = Reading::new(Unit::INPUT_TOKENS, Duration::from_secs(60))
///     .limit(400_000)
///     .remaining(16_000)
///     .rounded_to(1_000);
/// assert_eq!(reading.bounds(), (15_500, 16_500));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Reading {
    unit: Unit,
    /// In nanoseconds; zero if that is not known.
    period: u64,
    /// Zero if that is not known.
    limit: u64,
    remaining: u64,
    rounding: u64,
    /// In nanoseconds, of a window; zero where the limit refills.
    resets_in: u64,
    /// Whether only the limit is told.
    is_of_limit: bool,
}

impl Reading {
    /// A reading of the limit of `unit` over `period`, at most 400 days; zero is a period that is
    /// not known, which only the one limit of its unit can be.
    ///
    /// Until more is said nothing remains, in a limit that refills.
    pub const fn new(unit: Unit, period: Duration) -> Self {
        let period = if period.as_nanos() > LONGEST_PERIOD.as_nanos() {
            0
        } else {
            nanos(period)
        };
        Self {
            unit,
            period,
            limit: 0,
            remaining: 0,
            rounding: 1,
            resets_in: 0,
            is_of_limit: false,
        }
    }

    /// What a period grants. Zero and more than 10¹⁵ make no sense and are not known.
    pub const fn limit(mut self, limit: u64) -> Self {
        self.limit = if limit > LARGEST { 0 } else { limit };
        self
    }

    /// What is left after the call that this answers, at most 10¹⁵.
    pub const fn remaining(mut self, remaining: u64) -> Self {
        self.remaining = if remaining > LARGEST {
            LARGEST
        } else {
            remaining
        };
        self
    }

    /// The server rounds what is left to the nearest multiple of this. Default: 1, whole units,
    /// rounded down.
    pub const fn rounded_to(mut self, units: u64) -> Self {
        self.rounding = if units == 0 { 1 } else { units };
        self
    }

    /// The limit is a window, which is whole again after this time and does not refill before.
    pub const fn resets_in(mut self, wait: Duration) -> Self {
        self.resets_in = nanos(wait);
        if self.resets_in == 0 {
            self.resets_in = 1;
        }
        self
    }

    /// What is metered.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The period of the limit, if it is known.
    #[must_use]
    pub const fn period(&self) -> Option<Duration> {
        match self.period {
            0 => None,
            period => Some(Duration::from_nanos(period)),
        }
    }

    /// The least and the most that can be left, in whole units.
    #[must_use]
    pub const fn bounds(&self) -> (u64, u64) {
        let half = self.rounding / 2;
        (
            self.remaining.saturating_sub(half),
            self.remaining.saturating_add(half),
        )
    }

    /// This reading of the limit, if it tells one, as if all of it remained.
    fn of_a_full_limit(mut self) -> Option<Self> {
        self.remaining = self.amount()?;
        self.is_of_limit = true;
        Some(self)
    }

    pub(super) const fn is_of_limit(&self) -> bool {
        self.is_of_limit
    }

    pub(super) const fn period_nanos(&self) -> Option<u64> {
        match self.period {
            0 => None,
            period => Some(period),
        }
    }

    pub(super) const fn amount(&self) -> Option<u64> {
        match self.limit {
            0 => None,
            limit => Some(limit),
        }
    }

    pub(super) const fn window(&self) -> Option<u64> {
        match self.resets_in {
            0 => None,
            wait => Some(wait),
        }
    }
}

/// What one answer shows of the server's limits: up to four of them, without allocation.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Reading, Readings, Unit};
///
/// assert!(Readings::NONE.is_empty());
/// let minute = Duration::from_secs(60);
/// let requests = Reading::new(Unit::REQUESTS, minute).limit(50).remaining(49);
/// let readings = Readings::NONE.with(requests);
/// assert_eq!(readings.iter().collect::<Vec<_>>(), [&requests]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Readings {
    shown: [Option<Reading>; MOST],
    refusal: Refusal,
    /// What the server counts while it answers.
    counted_later: Option<Unit>,
}

impl Readings {
    /// Nothing is shown.
    pub const NONE: Self = Self {
        shown: [None; MOST],
        refusal: Refusal::None,
        counted_later: None,
    };

    /// These and another. A fifth is not taken.
    pub const fn with(mut self, reading: Reading) -> Self {
        let mut place = 0;
        while place < MOST {
            if self.shown[place].is_none() {
                self.shown[place] = Some(reading);
                return self;
            }
            place += 1;
        }
        self
    }

    /// These of a server that counts `unit` while it answers and not when it is asked: what remains
    /// then says nothing of the calls in flight, and only the limit is taken.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Reading, Readings, Timestamp, TokenBucket, Unit};
    ///
    /// let quota = Quota::builder().output_tokens_per_minute(6_000).build()?;
    /// let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// let call = bucket.take(&Cost::REQUEST.output_tokens(50), Timestamp::ZERO);
    /// let reading = Reading::new(Unit::OUTPUT_TOKENS, Duration::from_secs(60)).limit(6_000);
    /// let seen = Readings::NONE.with(reading.remaining(0)).counting_later(Unit::OUTPUT_TOKENS);
    /// let before = bucket.ready_at(&Cost::REQUEST.output_tokens(50));
    /// bucket.observe(&call, &seen, Timestamp::ZERO);
    /// assert_eq!(bucket.ready_at(&Cost::REQUEST.output_tokens(50)), before);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub const fn counting_later(mut self, unit: Unit) -> Self {
        self.counted_later = Some(unit);
        self
    }

    /// These, shown with the refusal of a call for a limit on the rate.
    pub const fn of_refusal(mut self) -> Self {
        self.refusal = Refusal::Rate;
        self
    }

    /// These, shown with the refusal of a call because the rate has grown too fast. It says nothing
    /// of a limit: only what [governs the growth](crate::policy::QuotaBuilder::ramp) or [seeks a
    /// rate](crate::policy::QuotaBuilder::seek) heeds it.
    ///
    /// ```
    /// use tower_relay::policy::{Cost, Quota, Ramp, Readings, Timestamp, TokenBucket, Unit};
    ///
    /// let ramp = Ramp::above_per_minute(60_000);
    /// let quota = Quota::builder().ramp(Unit::INPUT_TOKENS, ramp).build()?;
    /// let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// let before = bucket.ramp(Unit::INPUT_TOKENS, Timestamp::ZERO).expect("it has one").allowed();
    ///
    /// let call = bucket.take(&Cost::REQUEST.input_tokens(10), Timestamp::ZERO);
    /// bucket.observe(&call, &Readings::NONE.of_ramp_refusal(), Timestamp::ZERO);
    /// let after = bucket.ramp(Unit::INPUT_TOKENS, Timestamp::ZERO).expect("it has one");
    /// assert!(after.allowed() < 0.8 * before);
    /// assert!(after.held_until().is_some());
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub const fn of_ramp_refusal(mut self) -> Self {
        self.refusal = Refusal::Ramp;
        self
    }

    /// Whether nothing is shown.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.shown[0].is_none()
    }

    /// What is shown, in the order of [`with`](Self::with).
    pub fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.shown.iter().flatten()
    }

    /// What is shown, and of what is counted later the limit alone.
    pub(super) fn told(&self) -> impl Iterator<Item = Reading> {
        self.iter().filter_map(|reading| {
            if self.counted_later == Some(reading.unit) {
                reading.of_a_full_limit()
            } else {
                Some(*reading)
            }
        })
    }

    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self.refusal, Refusal::Rate)
    }

    pub(super) const fn refusal(&self) -> Refusal {
        self.refusal
    }
}

/// For what the server has refused a call, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    None,
    /// A limit on the rate.
    Rate,
    /// A limit on its growth.
    Ramp,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_makes_no_sense_is_not_known() {
        let reading = Reading::new(Unit::REQUESTS, MINUTE).limit(0);
        assert_eq!(reading.amount(), None);
        assert_eq!(reading.limit(u64::MAX).amount(), None);
        assert_eq!(reading.remaining(u64::MAX).bounds(), (LARGEST, LARGEST));
        assert_eq!(Reading::new(Unit::REQUESTS, Duration::MAX).period(), None);
        assert_eq!(reading.rounded_to(0).bounds(), (0, 0));
    }

    #[test]
    fn rounding_widens_what_can_be_left_and_never_below_nothing() {
        let reading = Reading::new(Unit::TOKENS, MINUTE).rounded_to(1_000);
        assert_eq!(reading.bounds(), (0, 500));
        assert_eq!(reading.remaining(3_000).bounds(), (2_500, 3_500));
        let most = reading.rounded_to(u64::MAX).remaining(u64::MAX);
        assert_eq!(most.bounds().0, 0);
    }

    #[test]
    fn a_fifth_reading_is_not_taken() {
        let one = Reading::new(Unit::REQUESTS, MINUTE);
        let full = (0..5).fold(Readings::NONE, |all, n| all.with(one.remaining(n)));
        let left: Vec<_> = full.iter().map(|reading| reading.bounds().0).collect();
        assert_eq!(left, [0, 1, 2, 3]);
        assert!(!full.is_refusal());
        assert!(full.of_refusal().is_refusal());
    }
}
