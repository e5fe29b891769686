use crate::policy::Timestamp;

/// The successes since the last decision: where their latencies lie, and how many came.
///
/// Latencies are counted in buckets whose width is a sixteenth to a thirty-second of their
/// position, from eight microseconds to over an hour, so that a window of any number of calls
/// takes the same memory and the same time per call.
#[derive(Clone, Debug)]
pub(super) struct Window {
    counts: Box<[u32; BUCKETS]>,
    /// Used buckets lie in `lowest..=highest`.
    lowest: usize,
    highest: usize,
    count: u32,
    /// Of those, calls sent at the limit.
    at_limit: u32,
    /// What finishes before is not counted.
    opened: Timestamp,
    /// The count at which to look again.
    next_look: u32,
}

/// Sixteen buckets an octave: interpolation within one leaves an error below half a percent.
const STEPS_LOG2: u32 = 4;
const SHIFT: u32 = 52 - STEPS_LOG2;
/// 2⁻¹⁷ seconds.
const FIRST: u64 = (1023 - 17) << STEPS_LOG2;
/// Up to 2¹² seconds.
const BUCKETS: usize = (17 + 12) << STEPS_LOG2;

/// The part of the sorted latencies whose mean is taken. The fastest tenth may be answers that
/// never queued, from a cache; above the middle lie the long calls that make a mean worthless.
/// What every call waits longer moves all of it alike.
const FROM: f64 = 0.1;
const TO: f64 = 0.6;

/// Where latencies lie: the mean of those from the tenth to the sixtieth percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Centre {
    /// Seconds.
    pub(super) mean: f64,
    /// The square of its standard error.
    pub(super) variance: f64,
    pub(super) count: f64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            lowest: BUCKETS,
            highest: 0,
            count: 0,
            at_limit: 0,
            opened: Timestamp::ZERO,
            next_look: 0,
        }
    }

    /// Starts anew, looking first when `first_look` latencies are in.
    pub(super) fn reopen(&mut self, now: Timestamp, first_look: u32) {
        if self.lowest <= self.highest {
            self.counts[self.lowest..=self.highest].fill(0);
        }
        self.lowest = BUCKETS;
        self.highest = 0;
        self.count = 0;
        self.at_limit = 0;
        self.opened = now;
        self.next_look = first_look;
    }

    /// Takes in a success. Whether there are enough to look at.
    pub(super) fn add(
        &mut self,
        latency: f64,
        is_at_limit: bool,
        sent: Timestamp,
        now: Timestamp,
    ) -> bool {
        if self.count == 0 && self.opened == Timestamp::ZERO {
            self.opened = sent;
        }
        if now < self.opened {
            return false;
        }
        let position = (latency.max(0.0).to_bits() >> SHIFT).saturating_sub(FIRST);
        let bucket = (position as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.lowest = self.lowest.min(bucket);
        self.highest = self.highest.max(bucket);
        self.count = self.count.saturating_add(1);
        self.at_limit = self.at_limit.saturating_add(u32::from(is_at_limit));
        self.count >= self.next_look
    }

    /// Look again when there are twice as many.
    pub(super) const fn look_later(&mut self) {
        self.next_look = if self.count < 2 {
            2
        } else {
            self.count.saturating_mul(2)
        };
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    pub(super) const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// Whether most calls were sent at the limit.
    pub(super) const fn is_saturated(&self) -> bool {
        self.at_limit.saturating_mul(2) > self.count
    }

    /// Successes a second, if any time has passed.
    pub(super) fn rate(&self, now: Timestamp) -> Option<f64> {
        let seconds = now.since(self.opened).as_secs_f64();
        (seconds > 0.0).then(|| f64::from(self.count) / seconds)
    }

    /// Where the latencies lie; `None` without any.
    pub(super) fn centre(&self) -> Option<Centre> {
        if self.count == 0 {
            return None;
        }
        let total = f64::from(self.count);
        let (from, to) = (total * FROM, total * TO);
        let (mut below, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let (mut low, mut high) = (None, 0.0);
        for bucket in self.lowest..=self.highest {
            let count = f64::from(self.counts[bucket]);
            let above = below + count;
            let (first, last) = (from.max(below), to.min(above));
            if last > first {
                let (start, width) = (start(bucket), start(bucket + 1) - start(bucket));
                // Within a bucket they are taken to lie evenly.
                let at = |rank: f64| start + width * (rank - below) / count;
                let middle = at(f64::midpoint(first, last));
                sum += middle * (last - first);
                squares += middle * middle * (last - first);
                low = low.or_else(|| Some(at(first)));
                high = at(last);
            }
            below = above;
        }
        let low = low.unwrap_or(high);
        let mean = sum / (to - from);
        // The error of a trimmed mean (Tukey and McLaughlin 1963): the tails pulled in to the
        // outermost values kept.
        let pulled_in = (sum + low * from + high * (total - to)) / total;
        let pulled_in_squares = (squares + low * low * from + high * high * (total - to)) / total;
        let spread = (pulled_in_squares - pulled_in * pulled_in).max(0.0);
        let kept = TO - FROM;
        Some(Centre {
            mean,
            // Few calls do not know how far they lie apart, and come out too sure of themselves.
            variance: spread / (kept * kept * total) * (1.0 + 8.0 / total),
            count: total,
        })
    }
}

/// Where a bucket begins, in seconds.
fn start(bucket: usize) -> f64 {
    f64::from_bits((FIRST + bucket as u64) << SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(latencies: impl IntoIterator<Item = f64>) -> Window {
        let mut window = Window::new();
        for latency in latencies {
            window.add(latency, true, Timestamp::ZERO, Timestamp::ZERO);
        }
        window
    }

    #[test]
    fn the_centre_is_the_mean_from_the_tenth_to_the_sixtieth_percentile() {
        let even = window((0..1_000).map(|i| 0.1 + f64::from(i) * 0.0001));
        let centre = even.centre().expect("it is not empty");
        assert!((centre.mean - 0.135).abs() < 0.0005, "{centre:?}");
        assert_eq!(centre.count, 1_000.0);
    }

    #[test]
    fn what_everybody_waits_longer_moves_the_centre_by_as_much() {
        let skewed = |i: i32| 0.01 * f64::from(i).exp2().min(1e4) + 0.02;
        let before = window((0..800).map(|i| skewed(i % 9))).centre();
        let after = window((0..800).map(|i| skewed(i % 9) + 0.3)).centre();
        let moved = after.expect("filled").mean - before.expect("filled").mean;
        assert!((moved - 0.3).abs() < 0.01, "{moved}");
    }

    #[test]
    fn the_tails_do_not_count() {
        let plain = window((0..100).map(|i| 0.1 + f64::from(i) * 0.001));
        let wild = window((0..100).map(|i| match i {
            0..=4 => 1e-9,
            65.. => 1e9,
            _ => 0.1 + f64::from(i) * 0.001,
        }));
        let (plain, wild) = (plain.centre(), wild.centre());
        let apart = plain.expect("filled").mean - wild.expect("filled").mean;
        assert!(apart.abs() < 0.002, "{apart}");
    }

    #[test]
    fn its_error_shrinks_with_the_root_of_the_count() {
        let error = |n: u32| {
            let even = window((0..n).map(|i| 0.1 + f64::from(i % 100) * 0.001));
            even.centre().expect("filled").variance.sqrt()
        };
        let ratio = error(1_000) / error(16_000);
        assert!((ratio - 4.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn an_empty_window_has_no_centre_and_a_filled_one_empties() {
        let mut window = window([0.5, 1.0]);
        assert!(window.centre().is_some());
        window.reopen(Timestamp::from_nanos(5), 1);
        assert_eq!(window.centre(), None);
        assert_eq!(window.counts.iter().sum::<u32>(), 0);
        assert_eq!(
            window.rate(Timestamp::from_nanos(5)),
            None,
            "no time passed"
        );
    }
}
