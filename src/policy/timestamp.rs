use std::{fmt, time::Duration};

/// An instant on a policy's own time line, in nanoseconds.
///
/// Policies never read a clock: whoever drives them says what time it is. A timestamp can be
/// made anywhere, so that a test can hand a policy any history it likes. All arithmetic
/// saturates: time going backwards counts as no time, and the far future is [`Timestamp::MAX`].
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::Timestamp;
///
/// let start = Timestamp::ZERO;
/// let later = start + Duration::from_millis(20);
/// assert_eq!(later.since(start), Duration::from_millis(20));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of the time line.
    pub const ZERO: Self = Self(0);
    /// The last instant of the time line, some 584 years after its beginning; used for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the beginning.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this instant, zero if `earlier` is not earlier.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved back by `duration`, at most to the beginning.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// A duration in nanoseconds; what does not fit is the longest that does.
#[inline]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    // Saturating on purpose: seconds that overflow give the maximum, whatever is added.
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO + Duration::MAX, Timestamp::MAX);
        assert_eq!(
            Timestamp::from_nanos(5).before(Duration::from_nanos(2)),
            Timestamp::from_nanos(3)
        );
        assert_eq!(
            Timestamp::from_nanos(5).before(Duration::from_nanos(9)),
            Timestamp::ZERO
        );
        assert_eq!(format!("{:?}", Timestamp::from_nanos(1_500_000)), "1.5ms");
    }
}
