use std::ops::RangeInclusive;

use crate::policy::InvalidConfig;

/// Between what a limit may move, and where it starts.
///
/// ```
/// use tower_relay::policy::limit::Bounds;
///
/// let bounds = Bounds::new(2..=200)?.starting_at(20)?;
/// assert_eq!((bounds.min(), bounds.initial(), bounds.max()), (2, 20, 200));
/// assert!(Bounds::new(0..=10).is_err());
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    min: usize,
    max: usize,
    initial: usize,
}

impl Bounds {
    /// Lowest limit: one call keeps asking, or nobody would learn that the server is back.
    pub const DEFAULT_MIN: usize = 1;
    /// Highest limit: no limit at all for one process, and still a bound on what a mistake costs.
    pub const DEFAULT_MAX: usize = 1_000;
    /// First limit: small enough for any server, and six doublings from hundreds.
    pub const DEFAULT_INITIAL: usize = 8;

    /// The limits of `range`, starting at 8 or the nearest to it.
    ///
    /// # Errors
    ///
    /// If the range is empty or begins at zero: with no call in flight nothing is ever learned.
    pub fn new(range: RangeInclusive<usize>) -> Result<Self, InvalidConfig> {
        let (min, max) = range.into_inner();
        if min == 0 {
            return Err(InvalidConfig::new(
                "min",
                "with no call in flight nothing is ever learned; write at least 1",
            ));
        }
        if min > max {
            return Err(InvalidConfig::new(
                "max",
                format!("{max} is below the lowest limit, {min}; exchange them"),
            ));
        }
        let initial = Self::DEFAULT_INITIAL.clamp(min, max);
        Ok(Self { min, max, initial })
    }

    /// These bounds with another first limit.
    ///
    /// # Errors
    ///
    /// If it is outside them.
    pub fn starting_at(mut self, initial: usize) -> Result<Self, InvalidConfig> {
        if !(self.min..=self.max).contains(&initial) {
            let Self { min, max, .. } = self;
            return Err(InvalidConfig::new(
                "initial",
                format!("{initial} is not within {min} to {max}"),
            ));
        }
        self.initial = initial;
        Ok(self)
    }

    /// The lowest limit.
    #[must_use]
    pub const fn min(&self) -> usize {
        self.min
    }

    /// The highest limit.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// The first limit.
    #[must_use]
    pub const fn initial(&self) -> usize {
        self.initial
    }

    /// The nearest allowed value; what is not a number becomes the lowest.
    pub(super) fn clamp(&self, limit: f64) -> f64 {
        // In this order NaN gives the minimum.
        limit.max(self.min as f64).min(self.max as f64)
    }
}

impl Default for Bounds {
    /// 1 to 1,000, starting at 8.
    fn default() -> Self {
        Self {
            min: Self::DEFAULT_MIN,
            max: Self::DEFAULT_MAX,
            initial: Self::DEFAULT_INITIAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_cannot_work_are_refused_with_what_to_write() {
        for ((min, max), initial, expected) in [
            (
                (0, 5),
                1,
                "min: with no call in flight nothing is ever learned; write at least 1",
            ),
            (
                (6, 5),
                5,
                "max: 5 is below the lowest limit, 6; exchange them",
            ),
            ((2, 5), 1, "initial: 1 is not within 2 to 5"),
            ((2, 5), 6, "initial: 6 is not within 2 to 5"),
        ] {
            let bounds = Bounds::new(min..=max).and_then(|bounds| bounds.starting_at(initial));
            assert_eq!(bounds.expect_err("it is refused").to_string(), expected);
        }
    }

    #[test]
    fn the_first_limit_is_the_nearest_to_eight() {
        for (range, initial) in [(1..=3, 3), (10..=20, 10), (1..=100, 8), (4..=4, 4)] {
            assert_eq!(Bounds::new(range).map(|b| b.initial()), Ok(initial));
        }
    }

    #[test]
    fn every_number_is_clamped_and_what_is_none_is_the_lowest() {
        let bounds = Bounds::new(2..=9).expect("it is valid");
        for (limit, clamped) in [
            (f64::NAN, 2.0),
            (f64::INFINITY, 9.0),
            (f64::NEG_INFINITY, 2.0),
            (4.5, 4.5),
            (9.1, 9.0),
        ] {
            assert_eq!(bounds.clamp(limit), clamped);
        }
    }
}
