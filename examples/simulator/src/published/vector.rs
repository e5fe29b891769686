//! Vector's adaptive request concurrency (RFC 1858).

use tower_relay::policy::limit::Signal;

use crate::{
    controller::{Controller, Seen},
    upstream::Nanos,
};

/// Once a round trip: one more if the mean round trip is no longer than it used to be and the
/// limit was reached, a tenth less after back pressure or at 2.5 deviations above. Initial 1, at
/// most 200, smoothing 0.4.
pub(crate) struct VectorArc {
    limit: f64,
    past: Option<(f64, f64)>,
    sum: f64,
    count: u32,
    next: Nanos,
    has_pressure: bool,
    has_reached: bool,
}

impl VectorArc {
    pub(crate) const fn new() -> Self {
        Self {
            limit: 1.0,
            past: None,
            sum: 0.0,
            count: 0,
            next: 0,
            has_pressure: false,
            has_reached: false,
        }
    }
}

impl Controller for VectorArc {
    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn ended(&mut self, seen: &Seen) {
        self.has_reached |= seen.in_flight >= self.limit as usize;
        if seen.signal == Signal::Loss {
            self.has_pressure = true;
        } else {
            self.sum += seen.latency();
            self.count += 1;
        }
        if seen.now < self.next {
            return;
        }
        let current = (self.count > 0).then(|| self.sum / f64::from(self.count));
        let (mean, deviation) = match (self.past, current) {
            (Some((mean, variance)), _) => (mean, variance.sqrt()),
            (None, Some(current)) => {
                self.past = Some((current, 0.0));
                self.next = seen.now + (current * 1e9) as Nanos;
                self.reset();
                return;
            }
            (None, None) => return,
        };
        let is_slow = current.is_some_and(|current| current >= mean + 2.5 * deviation);
        let is_quick = current.is_some_and(|current| current <= mean);
        if self.has_reached && !self.has_pressure && is_quick {
            self.limit = (self.limit + 1.0).min(200.0);
        } else if self.has_pressure || (is_slow && !is_quick) {
            self.limit = (self.limit * 0.9).floor().max(1.0);
        }
        if let (Some((mean, variance)), Some(current)) = (&mut self.past, current) {
            let off = current - *mean;
            let step = 0.4 * off;
            *mean += step;
            *variance = 0.6 * (*variance + off * step);
            self.next = seen.now + (*mean * 1e9) as Nanos;
        } else {
            self.next = seen.now + (mean * 1e9) as Nanos;
        }
        self.reset();
    }
}

impl VectorArc {
    const fn reset(&mut self) {
        self.sum = 0.0;
        self.count = 0;
        self.has_pressure = false;
        self.has_reached = false;
    }
}
