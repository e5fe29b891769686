//! Who takes part.

use std::time::Duration;

use tower_relay::policy::limit::{Aimd, PercentileTarget, SizedVegas};

use crate::{
    controller::{Controller, Gate, Ours, Seen, WORKERS, fixed},
    published::{
        AdaptiveThrottling, AwsCubic, Envoy, NetflixAimd, NetflixGradient2, NetflixVegas, Raw,
        VectorArc, Windowed,
    },
    scenario::Scenario,
};

/// One contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Best,
    SizedVegas,
    SizedVegasBySize,
    Aimd,
    PercentileTarget,
    NoLimit,
    NetflixVegas,
    NetflixVegasWindowed,
    NetflixGradient2,
    NetflixAimd,
    NetflixAimdTuned,
    EnvoyP50,
    EnvoyP90,
    Vector,
    GoogleSre,
    AwsCubic,
}

impl Contender {
    pub(crate) const ALL: &[Self] = &[
        Self::Best,
        Self::SizedVegas,
        Self::SizedVegasBySize,
        Self::Aimd,
        Self::PercentileTarget,
        Self::NoLimit,
        Self::NetflixVegas,
        Self::NetflixVegasWindowed,
        Self::NetflixGradient2,
        Self::NetflixAimd,
        Self::NetflixAimdTuned,
        Self::EnvoyP50,
        Self::EnvoyP90,
        Self::Vector,
        Self::GoogleSre,
        Self::AwsCubic,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Best => "best fixed limit",
            Self::SizedVegas => "SizedVegas (default)",
            Self::SizedVegasBySize => "SizedVegas by size",
            Self::Aimd => "Aimd",
            Self::PercentileTarget => "PercentileTarget",
            Self::NoLimit => "no limit, 200 workers",
            Self::NetflixVegas => "Netflix Vegas, raw",
            Self::NetflixVegasWindowed => "Netflix Vegas, windowed",
            Self::NetflixGradient2 => "Netflix Gradient2",
            Self::NetflixAimd => "Netflix AIMD",
            Self::NetflixAimdTuned => "Netflix AIMD, tuned",
            Self::EnvoyP50 => "Envoy gradient, p50",
            Self::EnvoyP90 => "Envoy gradient, p90",
            Self::Vector => "Vector ARC",
            Self::GoogleSre => "Google SRE throttling",
            Self::AwsCubic => "AWS CUBIC rate",
        }
    }

    /// Whether it is one of the library's, or their measure.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Best
                | Self::SizedVegas
                | Self::SizedVegasBySize
                | Self::Aimd
                | Self::PercentileTarget
        )
    }

    pub(crate) fn controller(self, scenario: &Scenario, seed: u64) -> Box<dyn Controller> {
        match self {
            Self::Best => match &scenario.best {
                Some(steps) => Box::new(Stepped::new(steps.clone())),
                None => Box::new(fixed(100_000)),
            },
            Self::SizedVegas => Box::new(Ours(SizedVegas::new(scenario.bounds))),
            Self::SizedVegasBySize => Box::new(Ours(SizedVegas::new(scenario.bounds).by_size())),
            Self::Aimd => Box::new(Ours(Aimd::new(scenario.bounds))),
            Self::PercentileTarget => {
                let target = Duration::from_secs_f64(scenario.setting.model.unloaded_p99() * 1.25);
                let limit = PercentileTarget::new(scenario.bounds, 0.99, target);
                Box::new(Ours(limit.expect("the target is not zero")))
            }
            Self::NoLimit => Box::new(fixed(WORKERS)),
            Self::NetflixVegas => Box::new(Raw(NetflixVegas::new(seed))),
            Self::NetflixVegasWindowed => Box::new(Windowed::new(NetflixVegas::new(seed))),
            Self::NetflixGradient2 => Box::new(Windowed::new(NetflixGradient2::new())),
            Self::NetflixAimd => Box::new(Raw(NetflixAimd::new())),
            Self::NetflixAimdTuned => Box::new(Raw(NetflixAimd::tuned())),
            Self::EnvoyP50 => Box::new(Envoy::new(0.5, seed)),
            Self::EnvoyP90 => Box::new(Envoy::new(0.9, seed)),
            Self::Vector => Box::new(VectorArc::new()),
            Self::GoogleSre => Box::new(AdaptiveThrottling::new(seed)),
            Self::AwsCubic => Box::new(AwsCubic::new()),
        }
    }
}

/// The best limit at every moment, known beforehand.
struct Stepped {
    steps: Vec<(f64, f64)>,
    limit: usize,
}

impl Stepped {
    fn new(steps: Vec<(f64, f64)>) -> Self {
        let limit = steps.first().map_or(1, |(_, limit)| *limit as usize);
        Self { steps, limit }
    }
}

impl Controller for Stepped {
    fn limit(&self) -> usize {
        self.limit
    }

    fn gate(&mut self, now: u64, in_flight: usize) -> Gate {
        let now = now as f64 / 1e9;
        let step = self.steps.iter().rev().find(|(from, _)| *from <= now);
        self.limit = step.map_or(1, |(_, limit)| *limit as usize);
        if in_flight < self.limit {
            Gate::Go
        } else {
            Gate::Wait
        }
    }

    fn ended(&mut self, _: &Seen) {}
}
