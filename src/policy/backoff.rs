use std::time::Duration;

use super::{InvalidConfig, Rng, nanos};

/// The shortest delay: a timer's resolution, and what keeps a retry from being a hot loop.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

/// How the delay grows from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Growth {
    /// 1, 2, 4, 8 times the base: leaves an overloaded server alone soonest.
    #[default]
    Exponential,
    /// 1, 2, 3, 4 times the base.
    Linear,
    /// 1, 2, 3, 5, 8 times the base: between linear and exponential.
    Fibonacci,
    /// The base every time.
    Constant,
}

/// How much of a delay is left to chance, so that callers who failed together do not come back
/// together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// All of it: anything up to the grown delay.
    #[default]
    Full,
    /// Half of it: from half the grown delay to the whole.
    Equal,
    /// Nothing: the grown delay itself. For tests, and for a caller who is alone.
    None,
}

/// What a retry comes after, as far as backoff and budget care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryCause {
    /// The server failed or is out of capacity: another call may make it worse.
    Fault,
    /// A limit was hit: the server is well, and said so cheaply.
    Throttle,
}

/// How long to leave the server alone before each retry.
///
/// The delay starts at a base, grows with the number of retries, never exceeds a cap, and is
/// jittered. It is computed in whole nanoseconds and saturates, for any number of retries.
///
/// Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
/// Deviations: a delay is never below one millisecond, where full jitter may draw zero; a
/// throttled call has a base of its own.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Backoff, Growth, Jitter, RetryCause, Rng};
///
/// struct Top;
/// impl Rng for Top {
///     fn next_u64(&mut self) -> u64 {
///         u64::MAX
///     }
/// }
///
/// let backoff = Backoff::new(Growth::Exponential, Duration::from_millis(200), Duration::from_secs(10))?
///     .jitter(Jitter::Full);
/// assert_eq!(backoff.delay(1, RetryCause::Fault, &mut Top), Duration::from_millis(200));
/// assert_eq!(backoff.delay(4, RetryCause::Fault, &mut Top), Duration::from_millis(1_600));
/// assert_eq!(backoff.delay(u32::MAX, RetryCause::Fault, &mut Top), Duration::from_secs(10));
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    growth: Growth,
    jitter: Jitter,
    base: Duration,
    throttled_base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Base of the delay after a failure: half a second, because most single failures (a
    /// deploy, a broken connection) are over by then.
    pub const DEFAULT_BASE: Duration = Duration::from_millis(500);
    /// Base of the delay after a throttle: a second, because the limits of the APIs called
    /// here refill by the second or slower.
    pub const DEFAULT_THROTTLED_BASE: Duration = Duration::from_secs(1);
    /// Longest delay: half a minute, because longer ones cost the caller more after a recovery
    /// than they spare the server before it.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(30);

    /// A backoff that starts at `base` and never exceeds `cap`, with full jitter. After a
    /// throttle it starts at twice the base, or at the cap if that is less.
    ///
    /// # Errors
    ///
    /// If `base` is shorter than a millisecond or longer than `cap`.
    pub fn new(growth: Growth, base: Duration, cap: Duration) -> Result<Self, InvalidConfig> {
        check("base", base, cap)?;
        Ok(Self {
            growth,
            jitter: Jitter::Full,
            base,
            throttled_base: base.saturating_mul(2).min(cap),
            cap,
        })
    }

    /// This backoff with another amount of chance.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// This backoff with another base after a throttle.
    ///
    /// # Errors
    ///
    /// If `base` is shorter than a millisecond or longer than the cap.
    pub fn throttled_base(mut self, base: Duration) -> Result<Self, InvalidConfig> {
        check("throttled_base", base, self.cap)?;
        self.throttled_base = base;
        Ok(self)
    }

    /// The delay before the `retry`-th retry, counted from 1: at least a millisecond, at most
    /// the cap.
    pub fn delay(&self, retry: u32, cause: RetryCause, rng: &mut impl Rng) -> Duration {
        let base = match cause {
            RetryCause::Fault => self.base,
            RetryCause::Throttle => self.throttled_base,
        };
        let grown = nanos(base)
            .saturating_mul(self.growth.factor(retry.max(1)))
            .min(nanos(self.cap));
        let least = match self.jitter {
            Jitter::Full => nanos(SHORTEST),
            Jitter::Equal => (grown / 2).max(nanos(SHORTEST)),
            Jitter::None => return Duration::from_nanos(grown),
        };
        Duration::from_nanos(least + rng.up_to(grown - least))
    }
}

impl Default for Backoff {
    /// Exponential with full jitter: base 0.5 s, 1 s after a throttle, cap 30 s.
    fn default() -> Self {
        Self {
            growth: Growth::Exponential,
            jitter: Jitter::Full,
            base: Self::DEFAULT_BASE,
            throttled_base: Self::DEFAULT_THROTTLED_BASE,
            cap: Self::DEFAULT_CAP,
        }
    }
}

impl Growth {
    /// How many times the base the delay before the `retry`-th retry is.
    fn factor(self, retry: u32) -> u64 {
        match self {
            Self::Exponential => 1_u64.checked_shl(retry - 1).unwrap_or(u64::MAX),
            Self::Linear => u64::from(retry),
            Self::Fibonacci => fibonacci(retry),
            Self::Constant => 1,
        }
    }
}

/// 1, 2, 3, 5, 8 and so on, saturating.
fn fibonacci(n: u32) -> u64 {
    // The 93rd is the first that does not fit.
    let (mut before, mut value) = (1_u64, 1_u64);
    for _ in 1..n.min(93) {
        (before, value) = (value, value.saturating_add(before));
    }
    value
}

fn check(field: &'static str, base: Duration, cap: Duration) -> Result<(), InvalidConfig> {
    if base < SHORTEST {
        return Err(InvalidConfig::new(
            field,
            format!("{base:?} is too short; write at least {SHORTEST:?}"),
        ));
    }
    if base > cap {
        return Err(InvalidConfig::new(
            field,
            format!("{base:?} is above the cap of {cap:?}; lower it or raise the cap"),
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod testing {
    use crate::policy::Rng;

    /// Chance that always falls the same way.
    pub(in crate::policy) struct Fixed(pub(in crate::policy) u64);

    impl Rng for Fixed {
        fn next_u64(&mut self) -> u64 {
            self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{testing::Fixed, *};

    const MS: Duration = Duration::from_millis(1);

    fn delays<const N: usize>(growth: Growth, cap: u32) -> [u128; N] {
        let backoff = Backoff::new(growth, 10 * MS, cap * MS)
            .expect("it is valid")
            .jitter(Jitter::None);
        std::array::from_fn(|i| {
            let retry = u32::try_from(i).expect("it is small") + 1;
            backoff
                .delay(retry, RetryCause::Fault, &mut Fixed(0))
                .as_millis()
        })
    }

    #[test]
    fn each_growth_has_its_own_sequence_up_to_the_cap() {
        use Growth::{Constant, Exponential, Fibonacci, Linear};
        assert_eq!(delays(Exponential, 100), [10, 20, 40, 80, 100, 100]);
        assert_eq!(delays(Linear, 45), [10, 20, 30, 40, 45, 45]);
        assert_eq!(delays(Fibonacci, 140), [10, 20, 30, 50, 80, 130, 140]);
        assert_eq!(delays(Constant, 100), [10, 10, 10]);
    }

    #[test]
    fn the_largest_numbers_saturate() {
        assert_eq!(fibonacci(92), 12_200_160_415_121_876_738);
        assert_eq!(fibonacci(93), u64::MAX);
        assert_eq!(fibonacci(u32::MAX), u64::MAX);
        assert_eq!(Growth::Exponential.factor(64), 1 << 63);
        assert_eq!(Growth::Exponential.factor(65), u64::MAX);
        let forever =
            Backoff::new(Growth::Exponential, Duration::MAX, Duration::MAX).expect("it is valid");
        assert_eq!(
            forever.delay(u32::MAX, RetryCause::Throttle, &mut Fixed(u64::MAX)),
            Duration::from_nanos(u64::MAX)
        );
    }

    #[test]
    fn jitter_spans_what_it_says() {
        let exact = Backoff::default().jitter(Jitter::None);
        let range = |jitter| {
            let backoff = exact.jitter(jitter);
            let at = |bits| backoff.delay(3, RetryCause::Fault, &mut Fixed(bits)) / 1_000_000;
            (at(0).as_nanos(), at(u64::MAX).as_nanos())
        };
        assert_eq!(range(Jitter::Full), (1, 2_000));
        assert_eq!(range(Jitter::Equal), (1_000, 2_000));
        assert_eq!(range(Jitter::None), (2_000, 2_000));
    }

    #[test]
    fn a_throttle_starts_at_its_own_base() {
        let first = |backoff: Backoff, cause| {
            backoff
                .jitter(Jitter::None)
                .delay(1, cause, &mut Fixed(0))
                .as_millis()
        };
        let backoff = Backoff::default();
        assert_eq!(first(backoff, RetryCause::Fault), 500);
        assert_eq!(first(backoff, RetryCause::Throttle), 1_000);
        let own = Backoff::new(Growth::Linear, 20 * MS, 30 * MS).expect("it is valid");
        assert_eq!(first(own, RetryCause::Throttle), 30);
        let own = own.throttled_base(25 * MS).expect("it is valid");
        assert_eq!(first(own, RetryCause::Throttle), 25);
        assert_eq!(first(own, RetryCause::Fault), 20);
    }

    #[test]
    fn retry_zero_is_taken_for_the_first() {
        let backoff = Backoff::default().jitter(Jitter::None);
        let delay = backoff.delay(0, RetryCause::Fault, &mut Fixed(0));
        assert_eq!(delay, Duration::from_millis(500));
    }

    #[test]
    fn a_base_that_cannot_work_is_refused() {
        let exponential = |base, cap| Backoff::new(Growth::Exponential, base, cap);
        let field = |result: Result<Backoff, InvalidConfig>| {
            result.expect_err("it is invalid").field().to_owned()
        };
        assert_eq!(field(exponential(Duration::ZERO, MS)), "base");
        assert_eq!(field(exponential(2 * MS, MS)), "base");
        assert!(exponential(MS, MS).is_ok());
        let backoff = Backoff::default();
        let zero = backoff.throttled_base(Duration::ZERO);
        assert_eq!(field(zero), "throttled_base");
        assert_eq!(
            backoff
                .throttled_base(Duration::from_secs(31))
                .expect_err("it is invalid")
                .to_string(),
            "throttled_base: 31s is above the cap of 30s; lower it or raise the cap"
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_and_never_above_the_cap(
            growth in prop::sample::select(vec![
                Growth::Exponential, Growth::Linear, Growth::Fibonacci, Growth::Constant,
            ]),
            jitter in prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::None]),
            base in 1_000_000_u64..,
            room in any::<u64>(),
            retry in any::<u32>(),
            bits in any::<u64>(),
        ) {
            let base = Duration::from_nanos(base);
            let cap = base + Duration::from_nanos(room);
            let backoff = Backoff::new(growth, base, cap).expect("it is valid").jitter(jitter);
            for cause in [RetryCause::Fault, RetryCause::Throttle] {
                let delay = backoff.delay(retry, cause, &mut Fixed(bits));
                prop_assert!(SHORTEST <= delay && delay <= cap);
            }
        }
    }
}
