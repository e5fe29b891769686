//! Client-side adaptive throttling, Google SRE book, chapter 21.

use std::collections::VecDeque;

use crate::{
    chance::Chance,
    controller::{Controller, Gate, Seen, WORKERS},
    upstream::{Nanos, SECOND},
};

/// Turns a call away with probability (requests − 2 × accepts) / (requests + 1) over the last two
/// minutes. It limits nothing else.
pub(crate) struct AdaptiveThrottling {
    /// Second, requests, accepts.
    seconds: VecDeque<(u64, u64, u64)>,
    requests: u64,
    accepts: u64,
    chance: Chance,
}

impl AdaptiveThrottling {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seconds: VecDeque::new(),
            requests: 0,
            accepts: 0,
            chance: Chance::new(seed, 10),
        }
    }

    fn count(&mut self, now: Nanos, requests: u64, accepts: u64) {
        let second = now / SECOND;
        match self.seconds.back_mut() {
            Some(last) if last.0 == second => {
                last.1 += requests;
                last.2 += accepts;
            }
            _ => self.seconds.push_back((second, requests, accepts)),
        }
        self.requests += requests;
        self.accepts += accepts;
        while self
            .seconds
            .front()
            .is_some_and(|old| old.0 + 120 <= second)
        {
            if let Some((_, requests, accepts)) = self.seconds.pop_front() {
                self.requests -= requests;
                self.accepts -= accepts;
            }
        }
    }
}

impl Controller for AdaptiveThrottling {
    fn limit(&self) -> usize {
        WORKERS
    }

    fn gate(&mut self, now: Nanos, in_flight: usize) -> Gate {
        if in_flight >= WORKERS {
            return Gate::Wait;
        }
        let excess = self.requests as f64 - 2.0 * self.accepts as f64;
        let probability = (excess / (self.requests as f64 + 1.0)).max(0.0);
        self.count(now, 1, 0);
        if self.chance.even() < probability {
            Gate::TurnedAway
        } else {
            Gate::Go
        }
    }

    fn ended(&mut self, seen: &Seen) {
        if seen.is_success() {
            self.count(seen.now, 0, 1);
        }
    }
}
