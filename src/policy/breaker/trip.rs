use std::time::Duration;

use super::window::{Counts, ONE};

/// A ratio of one, in the unit of ratios: a millionth.
pub(super) const WHOLE: u32 = 1_000_000;

/// Why a breaker opened.
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Admission, Breaker, BreakerConfig, Cause, Signal},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// while let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Fixed) {
///     breaker.report(&config, ticket, Signal::FAILURE, now, &mut Fixed);
/// }
/// let cause = breaker.snapshot(&config, now).cause();
/// assert_eq!(cause, Some(Cause::ConsecutiveFailures));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// So many calls in a row failed.
    ConsecutiveFailures,
    /// Too large a share of the window's calls failed.
    FailureRatio,
    /// Even the lower bound of the failure ratio is too high.
    LowerBound,
    /// Too large a share of the window's calls were slow.
    SlowCalls,
    /// A probe failed.
    ProbeFailed,
    /// A probe was slow.
    ProbeSlow,
}

impl Cause {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRatio => "failure_ratio",
            Self::LowerBound => "lower_bound",
            Self::SlowCalls => "slow_calls",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeSlow => "probe_slow",
        }
    }
}

/// How sure a [lower bound](super::BreakerConfigBuilder::lower_bound) is: the chance that the
/// true ratio lies above it, if calls fail independently of each other.
///
/// The surer, the more calls it takes. A breaker that is to open at half of all calls opens
/// after so many calls of which all failed:
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Admission, Breaker, BreakerConfig, Confidence, Signal, State},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// for (confidence, calls) in [
///     (Confidence::P90, 2),
///     (Confidence::P95, 3),
///     (Confidence::P99, 6),
///     (Confidence::P999, 10),
/// ] {
///     let config = BreakerConfig::builder().no_conditions().lower_bound(0.5, confidence).build()?;
///     let now = Timestamp::ZERO;
///     let mut breaker = Breaker::new(&config, now);
///     let mut failed = 0;
///     while let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Fixed) {
///         breaker.report(&config, ticket, Signal::FAILURE, now, &mut Fixed);
///         failed += 1;
///     }
///     assert_eq!(failed, calls);
/// }
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Confidence {
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
}

impl Confidence {
    /// The square of the one-sided normal quantile, in millionths.
    const fn z_squared(self) -> u128 {
        match self {
            Self::P90 => 1_642_374,
            Self::P95 => 2_705_543,
            Self::P99 => 5_411_894,
            Self::P999 => 9_549_536,
        }
    }
}

/// A share of the calls, once there are enough of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// In millionths.
    pub(super) ratio: u32,
    pub(super) minimum: u32,
}

/// What opens a closed breaker: each of these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Zero for never.
    pub(super) run: u16,
    pub(super) failures: Option<Share>,
    pub(super) bound: Option<(u32, Confidence)>,
    /// The time to the first byte above which a success is slow.
    pub(super) slow: Option<(Duration, Share)>,
}

impl Conditions {
    pub(super) const NONE: Self = Self {
        run: 0,
        failures: None,
        bound: None,
        slow: None,
    };

    #[inline]
    pub(super) fn is_slow(&self, first_byte: Duration) -> bool {
        self.slow.is_some_and(|(most, _)| first_byte > most)
    }

    /// Why to open, after so many failures in a row and with these counts.
    pub(super) fn met(&self, run: u16, counts: Counts) -> Option<Cause> {
        let Counts {
            calls,
            failures,
            slow,
        } = counts;
        if self.run != 0 && run >= self.run {
            return Some(Cause::ConsecutiveFailures);
        }
        if self
            .failures
            .is_some_and(|most| most.holds(failures, calls))
        {
            return Some(Cause::FailureRatio);
        }
        if let Some((ratio, confidence)) = self.bound {
            if is_bound_reached(failures, calls, ratio, confidence) {
                return Some(Cause::LowerBound);
            }
        }
        if self.slow.is_some_and(|(_, most)| most.holds(slow, calls)) {
            return Some(Cause::SlowCalls);
        }
        None
    }
}

impl Share {
    fn holds(&self, part: u64, calls: u64) -> bool {
        calls >= u64::from(self.minimum) * ONE
            && u128::from(part) * u128::from(WHOLE) >= u128::from(calls) * u128::from(self.ratio)
    }
}

/// Whether the lower end of the Wilson score interval of `failures` in `calls` is `ratio` or
/// more.
///
/// The interval is the set of ratios `r` with `(f - r n)² <= z² r (1 - r) n` (Wilson 1927), so
/// its lower end needs no root: it lies above `r` where `f` is above `r n` by that much.
fn is_bound_reached(failures: u64, calls: u64, ratio: u32, confidence: Confidence) -> bool {
    let (whole, ratio) = (u128::from(WHOLE), u128::from(ratio));
    // Counts are below 2⁴¹ and ratios below 2²⁰, so that no square overflows.
    let expected = u128::from(calls) * ratio;
    let Some(excess) = (u128::from(failures) * whole).checked_sub(expected) else {
        return false;
    };
    let variance = ratio * (whole - ratio) * u128::from(calls) * u128::from(ONE);
    excess * excess >= variance / whole * confidence.z_squared()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [(Confidence, f64); 4] = [
        (Confidence::P90, 1.281_551_565_5),
        (Confidence::P95, 1.644_853_626_9),
        (Confidence::P99, 2.326_347_874_0),
        (Confidence::P999, 3.090_232_306_2),
    ];

    /// The lower end as textbooks write it.
    fn wilson(failures: f64, calls: f64, z: f64) -> f64 {
        let (p, zz) = (failures / calls, z * z);
        let spread = z * (p * (1.0 - p) / calls + zz / (4.0 * calls * calls)).sqrt();
        (p + zz / (2.0 * calls) - spread) / (1.0 + zz / calls)
    }

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (confidence, z) in LEVELS {
            let stated = confidence.z_squared() as f64 / 1e6;
            assert!((stated - z * z).abs() < 1e-6, "{confidence:?}: {}", z * z);
        }
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        let most = 10 * (1 << 21) * ONE;
        assert!(is_bound_reached(most, most, 1, Confidence::P999));
        assert!(is_bound_reached(most, most, WHOLE - 1, Confidence::P999));
        assert!(!is_bound_reached(
            most / 2,
            most,
            WHOLE / 2,
            Confidence::P90
        ));
    }

    #[test]
    fn a_share_needs_its_minimum_and_is_reached_at_equality() {
        let share = |ratio, minimum| Share { ratio, minimum };
        assert!(share(70_000, 100).holds(7 * ONE, 100 * ONE));
        assert!(!share(70_001, 100).holds(7 * ONE, 100 * ONE));
        assert!(!share(70_000, 101).holds(7 * ONE, 100 * ONE));
        assert!(!share(70_000, 100).holds(7 * ONE - 1, 100 * ONE));
    }

    proptest! {
        #[test]
        fn the_bound_is_that_of_the_textbook(
            calls in 1_u64..5_000,
            share in 0.0..=1.0_f64,
            ratio in 1_000_u32..999_000,
            level in 0_usize..4,
        ) {
            let failures = (calls as f64 * share).round() as u64;
            let (confidence, z) = LEVELS[level];
            let lower = wilson(failures as f64, calls as f64, z);
            let ratio_f = f64::from(ratio) / 1e6;
            prop_assume!((lower - ratio_f).abs() > 1e-5);
            let reached = is_bound_reached(failures * ONE, calls * ONE, ratio, confidence);
            prop_assert_eq!(reached, lower > ratio_f);
        }
    }
}
