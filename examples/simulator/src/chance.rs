//! Random numbers by seed.

use tower_relay::policy::Rng;

/// A seeded source of the distributions that the scenarios are written in.
#[derive(Clone, Debug)]
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(fastrand::Rng::with_seed(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03),
        ))
    }

    /// Evenly in 0..1.
    pub(crate) fn even(&mut self) -> f64 {
        self.0.f64()
    }

    /// Exponential with a mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.even()).ln()
    }

    /// Lognormal with a mean and a coefficient of variation.
    pub(crate) fn lognormal(&mut self, mean: f64, variation: f64) -> f64 {
        let variance = (1.0 + variation * variation).ln();
        let normal =
            (-2.0 * (1.0 - self.even()).ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos();
        (mean.ln() - variance / 2.0 + variance.sqrt() * normal).exp()
    }

    /// A power law with a mean and an exponent above 1.
    pub(crate) fn pareto(&mut self, mean: f64, exponent: f64) -> f64 {
        let least = mean * (exponent - 1.0) / exponent;
        least * (1.0 - self.even()).powf(-1.0 / exponent)
    }
}

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_mean_and_the_variation_asked_for() {
        let mut chance = Chance::new(1, 0);
        let mut check = |draw: fn(&mut Chance) -> f64, mean: f64, variation: f64| {
            let drawn: Vec<_> = (0..200_000).map(|_| draw(&mut chance)).collect();
            let count = drawn.len() as f64;
            let is = drawn.iter().sum::<f64>() / count;
            let variance = drawn.iter().map(|x| (x - is).powi(2)).sum::<f64>() / count;
            assert!((is / mean - 1.0).abs() < 0.02, "mean {is}");
            assert!((variance.sqrt() / is / variation - 1.0).abs() < 0.05);
        };
        check(|c| c.lognormal(0.1, 1.0), 0.1, 1.0);
        check(|c| c.lognormal(8.0, 0.8), 8.0, 0.8);
        check(|c| c.exponential(3.0), 3.0, 1.0);
        // 1 / √(α (α - 2))
        check(|c| c.pareto(2.0, 6.0), 2.0, 0.204);
    }
}
