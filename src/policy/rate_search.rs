//! How a rate that nobody told is sought: the setting of a quota.

use std::{ops::RangeInclusive, time::Duration};

use super::{InvalidConfig, LearnedRate, Unit, learned_rate::Rule};

/// How a rate that nobody told is sought, a setting for
/// [`QuotaBuilder::seek`](super::QuotaBuilder::seek).
///
/// It stays within its bounds and begins at the lower of them. What happens in between is the
/// rule of [`LearnedRate`], or of the simpler [`halving`](Self::halving). Bounds are checked by
/// [`QuotaBuilder::build`](super::QuotaBuilder::build): from a hundred-thousandth a second to 10⁹.
///
/// ```
/// use tower_relay::policy::{Quota, RateSearch, Timestamp, TokenBucket, Unit};
///
/// let search = RateSearch::per_minute(60.0..=60_000.0).starting_at(300.0);
/// let quota = Quota::builder().seek(Unit::REQUESTS, search).build()?;
/// let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
/// assert_eq!(bucket.sought_rate(Unit::REQUESTS), Some(5.0));
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RateSearch {
    bounds: RangeInclusive<f64>,
    start: Option<f64>,
    /// The time that these are for, in seconds.
    per: f64,
    rule: Rule,
}

impl RateSearch {
    /// Between so many a second, in the unit that is limited. It begins at the lower bound.
    pub const fn per_second(bounds: RangeInclusive<f64>) -> Self {
        Self {
            bounds,
            start: None,
            per: 1.0,
            rule: Rule::Cubic,
        }
    }

    /// Between so many a minute.
    pub const fn per_minute(bounds: RangeInclusive<f64>) -> Self {
        Self {
            per: 60.0,
            ..Self::per_second(bounds)
        }
    }

    /// Begins at this rate, given over the same time as the bounds. Too low is better than too
    /// high: until the first refusal the rate doubles in ten seconds.
    pub const fn starting_at(mut self, rate: f64) -> Self {
        self.start = Some(rate);
        self
    }

    /// Halves the rate at a refusal and adds 5 % for each call that is not refused, at most ten
    /// times a second.
    ///
    /// For those who know it from elsewhere: at 10 a second it is refused fourteen times as often as the
    /// default, for no more of the quota.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{
    ///     Cost, Quota, RateSearch, Readings, Timestamp, TokenBucket, Unit,
    /// };
    ///
    /// let search = RateSearch::per_second(1.0..=100.0).starting_at(10.0).halving();
    /// let quota = Quota::builder().seek(Unit::REQUESTS, search).build()?;
    /// let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// let call = bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    /// bucket.observe(&call, &Readings::NONE.of_refusal(), Timestamp::ZERO);
    /// assert_eq!(bucket.sought_rate(Unit::REQUESTS), Some(5.0));
    ///
    /// let again = bucket.ready_at(&Cost::REQUEST)?;
    /// assert_eq!(again.since(Timestamp::ZERO), Duration::from_millis(200));
    /// bucket.take(&Cost::REQUEST, again);
    /// assert_eq!(bucket.sought_rate(Unit::REQUESTS), Some(5.25));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn halving(mut self) -> Self {
        self.rule = Rule::Halving;
        self
    }

    /// The setting as the bucket needs it.
    pub(super) fn checked(&self, unit: Unit) -> Result<Search, InvalidConfig> {
        let invalid = |problem| Err(InvalidConfig::new("seek", problem));
        let rate = |rate: f64| rate / self.per;
        let (floor, ceiling) = (rate(*self.bounds.start()), rate(*self.bounds.end()));
        let start = self.start.map_or(floor, rate);
        if !(floor >= LOWEST && floor <= ceiling && ceiling <= HIGHEST) {
            return invalid(
                "the bounds must begin at 0.00001 a second or above, and end no lower and at most \
                 at 10⁹ a second: 0.1..=100.0 is fine",
            );
        }
        if !(floor..=ceiling).contains(&start) {
            return invalid("the start must lie within the bounds");
        }
        Ok(Search {
            unit,
            floor: amount_of(floor),
            ceiling: amount_of(ceiling),
            start: amount_of(start),
            rule: self.rule,
        })
    }
}

const LOWEST: f64 = 1e-5;
const HIGHEST: f64 = 1e9;

/// What a limit whose rate moves counts its amount over, in nanoseconds: so long that every rate
/// is a whole amount, to a thousandth at the lowest, and so short that the exact arithmetic of
/// the bucket does not overflow. No quota that is written down can have it.
pub(super) const MOVING_PERIOD: u64 = 100_000_000_000_000_000;
const MOVING_SECONDS: f64 = Duration::from_nanos(MOVING_PERIOD).as_secs() as f64;

/// The amount over [`MOVING_PERIOD`] of a rate per second, at least one.
pub(super) fn amount_of(rate: f64) -> u64 {
    // A rate of 10⁹ is 10¹⁷, far from the largest; a float that is no number becomes one.
    ((rate.min(HIGHEST) * MOVING_SECONDS).round() as u64).max(1)
}

/// The rate per second of an amount over [`MOVING_PERIOD`].
pub(super) fn rate_of(amount: u64) -> f64 {
    amount as f64 / MOVING_SECONDS
}

/// A checked search of a unit's rate, in amounts over [`MOVING_PERIOD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) unit: Unit,
    floor: u64,
    pub(super) ceiling: u64,
    start: u64,
    rule: Rule,
}

impl Search {
    pub(super) fn learner(&self) -> LearnedRate {
        let bounds = rate_of(self.floor)..=rate_of(self.ceiling);
        let learned = LearnedRate::new(bounds, rate_of(self.start));
        learned.expect("checked before").with_rule(self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Quota;

    fn problem(search: RateSearch) -> String {
        let quota = Quota::builder().seek(Unit::REQUESTS, search).build();
        quota.expect_err("it is not valid").to_string()
    }

    #[test]
    fn bounds_that_cannot_work_are_one_clear_error() {
        for bounds in [
            0.0..=1.0,
            -1.0..=1.0,
            2.0..=1.0,
            f64::NAN..=1.0,
            1.0..=f64::NAN,
            1.0..=f64::INFINITY,
            1e-6..=1.0,
        ] {
            let problem = problem(RateSearch::per_second(bounds));
            assert!(problem.starts_with("seek: the bounds"), "{problem}");
        }
        for start in [0.5, 3.0, f64::NAN] {
            let search = RateSearch::per_second(1.0..=2.0).starting_at(start);
            assert_eq!(
                problem(search),
                "seek: the start must lie within the bounds"
            );
        }
        let twice = Quota::builder()
            .seek(Unit::TOKENS, RateSearch::per_second(1.0..=2.0))
            .seek(Unit::TOKENS, RateSearch::per_second(1.0..=2.0));
        let problem = twice.build().expect_err("it is not valid").to_string();
        assert_eq!(
            problem,
            "seek: the rate of tokens is sought twice; keep one of the two"
        );
    }

    #[test]
    fn the_extremes_are_exact_enough() {
        for rate in [LOWEST, 0.1, 1.0, 1e6, HIGHEST] {
            assert!((rate_of(amount_of(rate)) / rate - 1.0).abs() < 1e-3);
        }
        assert_eq!(amount_of(f64::INFINITY), amount_of(HIGHEST));
        assert_eq!(amount_of(f64::NAN), amount_of(HIGHEST));
        assert_eq!(amount_of(-1.0), 1);
    }
}
