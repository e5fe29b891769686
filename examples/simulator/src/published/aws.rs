//! The client-side rate limiter of the AWS SDKs' adaptive retry mode.

use crate::{
    controller::{Controller, Gate, Seen, WORKERS},
    upstream::Nanos,
};

/// A send rate that follows CUBIC: beta 0.7, scale 0.4, at most twice the measured rate, at least
/// 0.5 a second; unlimited until the first throttle.
pub(crate) struct AwsCubic {
    is_enabled: bool,
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled: f64,
    measured: f64,
    half_second: f64,
    sent: u32,
    last_most: f64,
    last_throttle: f64,
    time_window: f64,
}

impl AwsCubic {
    pub(crate) const fn new() -> Self {
        Self {
            is_enabled: false,
            rate: 0.0,
            capacity: 0.0,
            tokens: 0.0,
            filled: 0.0,
            measured: 0.0,
            half_second: 0.0,
            sent: 0,
            last_most: 0.0,
            last_throttle: 0.0,
            time_window: 0.0,
        }
    }

    fn refill(&mut self, now: f64) {
        let added = (now - self.filled) * self.rate;
        self.tokens = (self.tokens + added).min(self.capacity);
        self.filled = now;
    }

    fn set_window(&mut self) {
        self.time_window = (self.last_most * (1.0 - 0.7) / 0.4).cbrt();
    }
}

impl Controller for AwsCubic {
    fn limit(&self) -> usize {
        WORKERS
    }

    fn gate(&mut self, now: Nanos, in_flight: usize) -> Gate {
        if in_flight >= WORKERS {
            return Gate::Wait;
        }
        if !self.is_enabled {
            return Gate::Go;
        }
        self.refill(now as f64 / 1e9);
        if self.tokens >= 1.0 - 1e-9 {
            return Gate::Go;
        }
        Gate::Until(now + 1 + ((1.0 - self.tokens) / self.rate * 1e9) as Nanos)
    }

    fn sent(&mut self, _: Nanos) {
        if self.is_enabled {
            self.tokens -= 1.0;
        }
    }

    fn ended(&mut self, seen: &Seen) {
        let now = seen.now as f64 / 1e9;
        let half = (now * 2.0).floor() / 2.0;
        self.sent += 1;
        if half > self.half_second {
            let current = f64::from(self.sent) / (half - self.half_second);
            self.measured = current * 0.8 + self.measured * 0.2;
            self.sent = 0;
            self.half_second = half;
        }
        let wanted = if seen.is_success() {
            self.set_window();
            let since = now - self.last_throttle - self.time_window;
            0.4 * since.powi(3) + self.last_most
        } else {
            let used = if self.is_enabled {
                self.measured.min(self.rate)
            } else {
                self.measured
            };
            self.last_most = used;
            self.set_window();
            self.last_throttle = now;
            if !self.is_enabled {
                self.is_enabled = true;
                self.filled = now;
            }
            used * 0.7
        };
        let next = wanted.min(2.0 * self.measured).max(0.5);
        self.refill(now);
        self.rate = next;
        self.capacity = next.max(1.0);
        self.tokens = self.tokens.min(self.capacity);
    }
}
