/// How much longer a call takes for each unit of its size, learned from calls as they finish.
///
/// A least-squares slope over the last five hundred calls or so, older ones fading. What calls
/// wait does not depend on their size, so a queue does not bend the slope.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizing {
    calls: f64,
    size: f64,
    latency: f64,
    size_variance: f64,
    covariance: f64,
}

/// Calls over which the slope is learned: enough for a few long ones among many short.
const MEMORY: f64 = 512.0;

impl Sizing {
    /// Takes in a call, and gives its latency as it would be at size zero.
    pub(super) fn normalised(&mut self, latency: f64, size: u64) -> f64 {
        let size = size as f64;
        self.calls = (self.calls + 1.0).min(MEMORY);
        let share = 1.0 / self.calls;
        let (size_off, latency_off) = (size - self.size, latency - self.latency);
        self.size += share * size_off;
        self.latency += share * latency_off;
        let keep = 1.0 - share;
        self.size_variance = keep * (self.size_variance + share * size_off * size_off);
        self.covariance = keep * (self.covariance + share * size_off * latency_off);
        let slope = if self.size_variance > 0.0 {
            (self.covariance / self.size_variance).max(0.0)
        } else {
            0.0
        };
        (latency - slope * size).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_size_explains_is_taken_out() {
        let mut sizing = Sizing::default();
        let normalised: Vec<_> = (0..2_000u64)
            .map(|i| {
                let size = (i * 37) % 1_000;
                sizing.normalised(0.5 + 0.015 * size as f64, size)
            })
            .collect();
        for latency in &normalised[1_000..] {
            assert!((latency - 0.5).abs() < 0.05, "{latency}");
        }
    }

    #[test]
    fn a_wait_shows_whatever_the_size() {
        let mut sizing = Sizing::default();
        let call = |sizing: &mut Sizing, i: u64, wait: f64| {
            let size = (i * 37) % 1_000;
            sizing.normalised(wait + 0.015 * size as f64, size)
        };
        for i in 0..1_000 {
            call(&mut sizing, i, 0.5);
        }
        let normalised: Vec<_> = (0..50).map(|i| call(&mut sizing, i, 3.5)).collect();
        let mean = normalised.iter().sum::<f64>() / 50.0;
        assert!((mean - 3.5).abs() < 0.3, "{mean}");
    }

    #[test]
    fn equal_sizes_leave_the_latency_as_it_is() {
        let mut sizing = Sizing::default();
        for _ in 0..10 {
            assert_eq!(sizing.normalised(2.0, 7), 2.0);
        }
    }
}
