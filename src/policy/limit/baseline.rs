use super::window::Centre;

/// The latency when nobody waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baseline {
    pub(super) mean: f64,
    pub(super) variance: f64,
    pub(super) count: f64,
    /// Whether a lower limit has shown that nobody waited.
    pub(super) is_confirmed: bool,
    /// How far the last readings lay on one side of it, in standard errors, older ones fading.
    lean: f64,
}

impl Baseline {
    pub(super) const fn of(centre: Centre, is_confirmed: bool) -> Self {
        Self {
            mean: centre.mean,
            variance: centre.variance,
            count: centre.count,
            is_confirmed,
            lean: 0.0,
        }
    }

    /// Averages the reading of a probe in. Where readings keep to one side the server itself
    /// is changing, and what was read long ago counts no more than this.
    pub(super) fn follow(&mut self, centre: Centre) {
        let off = (centre.mean - self.mean)
            / (self.variance + centre.variance)
                .sqrt()
                .max(f64::MIN_POSITIVE);
        self.lean = LEAN_KEPT * self.lean + off;
        if self.is_leaning() {
            self.count = self.count.min(centre.count);
            self.variance = self.variance.max(centre.variance);
        }
        self.merge(centre);
    }

    pub(super) fn is_leaning(&self) -> bool {
        self.lean.abs() > LEANING
    }

    /// Whether the reading is lower by more than chance explains.
    pub(super) fn is_well_above(&self, centre: Centre) -> bool {
        self.mean - centre.mean > 3.0 * (self.variance + centre.variance).sqrt()
    }

    /// Averages another reading in, each with the weight of its calls.
    pub(super) fn merge(&mut self, centre: Centre) {
        let share = centre.count / (self.count + centre.count);
        self.mean += share * (centre.mean - self.mean);
        let keep = 1.0 - share;
        self.variance = keep * keep * self.variance + share * share * centre.variance;
        self.count = (self.count + centre.count).min(BASELINE_MEMORY);
    }
}

/// Calls after which a new reading of the baseline replaces the old: some five probes.
const BASELINE_MEMORY: f64 = 1_024.0;

/// The share of a lean that the next reading leaves, and the lean that chance explains in one of
/// ten: half of it is what two readings a standard error off add up to.
const LEAN_KEPT: f64 = 0.5;
const LEANING: f64 = 1.8;

#[cfg(test)]
mod tests {
    use super::*;

    fn centre(mean: f64, error: f64, count: f64) -> Centre {
        Centre {
            mean,
            variance: error * error,
            count,
        }
    }

    #[test]
    fn readings_average_by_their_calls() {
        let mut baseline = Baseline::of(centre(1.0, 0.1, 300.0), true);
        baseline.merge(centre(2.0, 0.2, 100.0));
        assert!((baseline.mean - 1.25).abs() < 1e-9, "{baseline:?}");
        // (3/4 × 0.1)² + (1/4 × 0.2)²
        assert!((baseline.variance - 0.008_125).abs() < 1e-9, "{baseline:?}");
        assert_eq!(baseline.count, 400.0);
        baseline.merge(centre(1.0, 0.1, 5_000.0));
        assert_eq!(baseline.count, BASELINE_MEMORY);
    }

    #[test]
    fn only_what_chance_does_not_explain_is_well_below() {
        let baseline = Baseline::of(centre(1.0, 0.04, 100.0), true);
        // The error of the difference is 0.05.
        assert!(baseline.is_well_above(centre(0.84, 0.03, 100.0)));
        assert!(!baseline.is_well_above(centre(0.86, 0.03, 100.0)));
        assert!(!baseline.is_well_above(centre(1.5, 0.03, 100.0)));
    }

    #[test]
    fn readings_on_both_sides_are_chance_and_on_one_side_a_change() {
        let mut baseline = Baseline::of(centre(1.0, 0.01, 1_000.0), true);
        for off in [0.1, -0.1, 0.1, -0.1] {
            baseline.follow(centre(1.0 + off, 0.1, 100.0));
            assert!(!baseline.is_leaning(), "{baseline:?}");
        }
        assert!((baseline.mean - 1.0).abs() < 0.01, "{baseline:?}");
        for side in [1.0, -1.0] {
            let mut moved = baseline;
            for _ in 0..4 {
                moved.follow(centre(1.0 + side * 0.15, 0.1, 100.0));
            }
            // Two thirds of the way, where a mean over all calls would make a third.
            assert!((moved.mean - 1.0) * side > 0.1, "{moved:?}");
            assert!(moved.count <= 500.0, "{moved:?}");
        }
    }
}
