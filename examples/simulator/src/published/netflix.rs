//! Netflix concurrency-limits: `VegasLimit`, `Gradient2Limit`, `AIMDLimit`, `WindowedLimit`.

use tower_relay::policy::limit::Signal;

use crate::{
    chance::Chance,
    controller::{Controller, Seen},
    upstream::{Nanos, SECOND},
};

/// What a Netflix limit hears: a round trip in seconds, calls in flight, whether one was dropped.
pub(crate) trait NetflixLimit {
    fn limit(&self) -> f64;
    fn update(&mut self, round_trip: f64, in_flight: usize, is_dropped: bool);
}

/// A limit updated with every sample.
pub(crate) struct Raw<L>(pub(crate) L);

impl<L: NetflixLimit> Controller for Raw<L> {
    fn limit(&self) -> usize {
        self.0.limit() as usize
    }

    fn ended(&mut self, seen: &Seen) {
        let is_dropped = seen.signal == Signal::Loss;
        self.0.update(seen.latency(), seen.in_flight, is_dropped);
    }
}

/// Vegas: initial 20, at most 1,000, alpha 3 and beta 6 times log10 of the limit, the round trip
/// without load forgotten every 15 to 30 times the limit samples.
pub(crate) struct NetflixVegas {
    limit: f64,
    unloaded: f64,
    samples: f64,
    jitter: f64,
    chance: Chance,
}

impl NetflixVegas {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 10);
        Self {
            limit: 20.0,
            unloaded: 0.0,
            samples: 0.0,
            jitter: 0.5 + chance.even() / 2.0,
            chance,
        }
    }
}

impl NetflixLimit for NetflixVegas {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, round_trip: f64, in_flight: usize, is_dropped: bool) {
        self.samples += 1.0;
        if self.jitter * 30.0 * self.limit <= self.samples {
            self.jitter = 0.5 + self.chance.even() / 2.0;
            self.samples = 0.0;
            self.unloaded = round_trip;
            return;
        }
        if self.unloaded == 0.0 || round_trip < self.unloaded {
            self.unloaded = round_trip;
            return;
        }
        let log = self.limit.log10().floor().max(1.0);
        let queue = (self.limit * (1.0 - self.unloaded / round_trip)).ceil();
        let next = if is_dropped {
            self.limit - log
        } else if (in_flight as f64) * 2.0 < self.limit {
            return;
        } else if queue <= log {
            self.limit + 6.0 * log
        } else if queue < 3.0 * log {
            self.limit + log
        } else if queue > 6.0 * log {
            self.limit - log
        } else {
            return;
        };
        self.limit = next.clamp(1.0, 1_000.0);
    }
}

/// Gradient2: initial and least 20, at most 200, 600 samples' memory, tolerance 1.5, smoothing
/// 0.2, queue 4.
pub(crate) struct NetflixGradient2 {
    limit: f64,
    long: f64,
    samples: u32,
    sum: f64,
}

impl NetflixGradient2 {
    pub(crate) const fn new() -> Self {
        Self {
            limit: 20.0,
            long: 0.0,
            samples: 0,
            sum: 0.0,
        }
    }
}

impl NetflixLimit for NetflixGradient2 {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, round_trip: f64, in_flight: usize, _: bool) {
        if self.samples < 10 {
            self.samples += 1;
            self.sum += round_trip;
            self.long = self.sum / f64::from(self.samples);
        } else {
            self.long += (round_trip - self.long) * 2.0 / 601.0;
        }
        if self.long / round_trip > 2.0 {
            self.long *= 0.95;
        }
        if (in_flight as f64) < self.limit / 2.0 {
            return;
        }
        let gradient = (1.5 * self.long / round_trip).clamp(0.5, 1.0);
        let next = self.limit * gradient + 4.0;
        self.limit = (self.limit * 0.8 + next * 0.2).clamp(20.0, 200.0);
    }
}

/// AIMD: initial and least 20, at most 200, a tenth off for a drop or a round trip above 5 s.
pub(crate) struct NetflixAimd {
    limit: f64,
    least: f64,
    timeout: f64,
}

impl NetflixAimd {
    pub(crate) const fn new() -> Self {
        Self {
            limit: 20.0,
            least: 20.0,
            timeout: 5.0,
        }
    }

    /// Without a timeout and down to 1, as one would set it for slow calls.
    pub(crate) const fn tuned() -> Self {
        Self {
            limit: 20.0,
            least: 1.0,
            timeout: f64::INFINITY,
        }
    }
}

impl NetflixLimit for NetflixAimd {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, round_trip: f64, in_flight: usize, is_dropped: bool) {
        if is_dropped || round_trip > self.timeout {
            self.limit = (self.limit * 0.9).floor();
        } else if in_flight as f64 * 2.0 >= self.limit {
            self.limit += 1.0;
        }
        self.limit = self.limit.clamp(self.least, 200.0);
    }
}

/// A limit updated once a second with the mean round trip, if more than 10 samples came.
pub(crate) struct Windowed<L> {
    limit: L,
    next: Nanos,
    count: u32,
    sum: f64,
    in_flight: usize,
    is_dropped: bool,
}

impl<L> Windowed<L> {
    pub(crate) const fn new(limit: L) -> Self {
        Self {
            limit,
            next: 0,
            count: 0,
            sum: 0.0,
            in_flight: 0,
            is_dropped: false,
        }
    }
}

impl<L: NetflixLimit> Controller for Windowed<L> {
    fn limit(&self) -> usize {
        self.limit.limit() as usize
    }

    fn ended(&mut self, seen: &Seen) {
        self.in_flight = self.in_flight.max(seen.in_flight);
        if seen.is_success() {
            self.count += 1;
            self.sum += seen.latency();
        } else {
            self.is_dropped = true;
        }
        if seen.now < self.next {
            return;
        }
        self.next = seen.now + SECOND;
        if self.count > 10 {
            let mean = self.sum / f64::from(self.count);
            self.limit.update(mean, self.in_flight, self.is_dropped);
        }
        self.count = 0;
        self.sum = 0.0;
        self.in_flight = 0;
        self.is_dropped = false;
    }
}
