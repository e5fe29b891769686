//! Envoy's adaptive concurrency filter, gradient controller.

use crate::{
    chance::Chance,
    controller::{Controller, Seen},
    upstream::{Nanos, SECOND},
};

/// A percentile of the latency every 100 ms against the same percentile of 50 calls at a
/// concurrency of 3, measured every 60 s (and after 5 windows at the least concurrency) with up
/// to 10 % jitter; buffer 25 %, at most 1,000.
pub(crate) struct Envoy {
    percentile: f64,
    limit: f64,
    /// The limit to return to while the least round trip is measured.
    deferred: Option<f64>,
    least: f64,
    samples: Vec<f64>,
    /// When the current measurement of either kind began, and ends.
    began: Nanos,
    next_update: Nanos,
    next_least: Nanos,
    at_least: u32,
    chance: Chance,
}

const LEAST: f64 = 3.0;
const MOST: f64 = 1_000.0;
const CALLS: usize = 50;
const INTERVAL: Nanos = SECOND / 10;

impl Envoy {
    pub(crate) fn new(percentile: f64, seed: u64) -> Self {
        Self {
            percentile,
            limit: LEAST,
            deferred: Some(LEAST),
            least: 0.0,
            samples: Vec::new(),
            began: 0,
            next_update: 0,
            next_least: 0,
            at_least: 0,
            chance: Chance::new(seed, 10),
        }
    }

    fn take_percentile(&mut self) -> f64 {
        let rank = (self.samples.len() as f64 * self.percentile) as usize;
        let rank = rank.min(self.samples.len() - 1);
        let (_, value, _) = self.samples.select_nth_unstable_by(rank, f64::total_cmp);
        let value = *value;
        self.samples.clear();
        value
    }

    fn measure_least(&mut self, now: Nanos) {
        self.deferred = Some(self.limit);
        self.limit = LEAST;
        self.samples.clear();
        self.began = now;
        self.at_least = 0;
    }

    fn update(&mut self, now: Nanos) {
        self.next_update = now + INTERVAL;
        if self.samples.is_empty() {
            return;
        }
        let sample = self.take_percentile();
        let gradient = (self.least * 1.25 / sample).clamp(0.5, 2.0);
        let limit = self.limit * gradient;
        self.limit = (limit + limit.sqrt()).floor().clamp(LEAST, MOST);
        self.at_least = if self.limit <= LEAST {
            self.at_least + 1
        } else {
            0
        };
        if self.at_least >= 5 {
            self.measure_least(now);
        }
    }
}

impl Controller for Envoy {
    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn ended(&mut self, seen: &Seen) {
        let now = seen.now;
        if self.deferred.is_none() {
            if now >= self.next_least {
                self.measure_least(now);
            } else if now >= self.next_update {
                self.update(now);
            }
        }
        if seen.sent < self.began {
            return;
        }
        self.samples.push(seen.latency());
        if let Some(limit) = self.deferred {
            if self.samples.len() >= CALLS {
                self.least = self.take_percentile();
                self.limit = limit;
                self.deferred = None;
                self.next_update = now + INTERVAL;
                let jitter = 1.0 + 0.1 * self.chance.even();
                self.next_least = now + (60.0 * jitter * 1e9) as Nanos;
            }
        }
    }
}
