//! The scenarios, with what the best possible client would get.

use tower_relay::policy::{Quota, limit::Bounds};

use crate::{
    upstream::{Model, Spread},
    world::{Load, Setting},
};

/// A named setting.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) setting: Setting,
    /// The best limit, by seconds; none where no limit is best.
    pub(crate) best: Option<Vec<(f64, f64)>>,
    /// Where our algorithms start, and how far they may go.
    pub(crate) bounds: Bounds,
    pub(crate) target: Target,
}

/// What the default must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Successes by the oracle's, at least.
    pub(crate) goodput: f64,
    /// Mean latency by the oracle's, at most.
    pub(crate) latency: f64,
    /// Refused calls for each success, at most.
    pub(crate) refused: f64,
}

impl Target {
    pub(crate) const NONE: Self = Self::goodput(0.0);

    pub(crate) const fn goodput(goodput: f64) -> Self {
        Self {
            goodput,
            latency: f64::INFINITY,
            refused: f64::INFINITY,
        }
    }

    pub(crate) const fn latency(mut self, latency: f64) -> Self {
        self.latency = latency;
        self
    }

    pub(crate) const fn refused(mut self, refused: f64) -> Self {
        self.refused = refused;
        self
    }
}

impl Scenario {
    /// There is always another call; `best` is the limit that serves most.
    pub(crate) fn saturated(name: &str, model: Model, best: &[(f64, f64)]) -> Self {
        Self {
            name: name.to_owned(),
            setting: Setting {
                model,
                load: Load::Saturated,
                end: 1800.0,
                warm_up: 300.0,
                quota: None,
            },
            best: Some(best.to_vec()),
            bounds: Bounds::default(),
            target: Target::NONE,
        }
    }

    /// Calls come by themselves, and no limit is best.
    pub(crate) fn open(name: &str, model: Model, load: Load) -> Self {
        let mut scenario = Self::saturated(name, model, &[]);
        scenario.setting.load = load;
        scenario.best = None;
        scenario
    }

    /// What counts is what happens from `warm_up` to `end`, in seconds.
    pub(crate) const fn lasting(mut self, end: f64, warm_up: f64) -> Self {
        self.setting.end = end;
        self.setting.warm_up = warm_up;
        self
    }

    pub(crate) const fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    pub(crate) fn starting_at(mut self, initial: usize, max: usize) -> Self {
        let bounds = Bounds::new(1..=max).and_then(|bounds| bounds.starting_at(initial));
        self.bounds = bounds.expect("what is written here is valid");
        self
    }
}

pub(crate) const LLM_LONG: f64 = 0.3;

/// Servers of a tenth of a second.
pub(crate) fn fifo(servers: &[(f64, f64)], variation: f64, down: Option<(f64, f64)>) -> Model {
    Model::Fifo {
        servers: servers.to_vec(),
        service: Spread::new(0.1, variation),
        pace: Vec::new(),
        down,
    }
}

pub(crate) fn llm(batch: &[(f64, f64)], long: &[(f64, f64)]) -> Model {
    Model::Llm {
        batch: batch.to_vec(),
        queue: 64,
        long: long.to_vec(),
        first_token: Spread::new(0.5, 0.3),
        per_token: 0.015,
    }
}

/// S1 to S8 as written in the project's scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let (fifty, forty, batch) = ([(0.0, 50.0)], [(0.0, 40.0)], [(0.0, 64.0)]);
    let step = [(0.0, 50.0), (60.0, 15.0), (120.0, 50.0)];
    let down = Some((60.0, 90.0));
    let slots = Model::Slots {
        slots: forty.to_vec(),
        service: Spread::new(8.0, 0.8),
    };
    let bucket = Model::Bucket {
        rate: 10.0,
        burst: 10.0,
        service: Spread::new(2.0, 0.6),
    };
    let mut s7 = Scenario::open("S7", bucket, Load::Saturated)
        .lasting(900.0, 120.0)
        .target(Target::goodput(0.98).refused(0.0));
    let quota = Quota::builder().requests_per_second(10).build();
    s7.setting.quota = Some(quota.expect("what is written here is valid"));
    vec![
        Scenario::saturated("S1", fifo(&fifty, 1.0, None), &fifty)
            .lasting(180.0, 60.0)
            .target(Target::goodput(0.99).latency(1.3)),
        Scenario::saturated("S2", fifo(&fifty, 3.0, None), &fifty)
            .lasting(180.0, 60.0)
            .target(Target::goodput(0.99).latency(1.3)),
        Scenario::saturated("S3", fifo(&step, 1.0, None), &step)
            .lasting(180.0, 0.0)
            .target(Target::goodput(0.97)),
        Scenario::saturated("S4", llm(&batch, &[(0.0, LLM_LONG)]), &batch)
            .lasting(1800.0, 600.0)
            .target(Target::goodput(0.98).latency(1.25).refused(0.001)),
        Scenario::open(
            "S5",
            llm(&[(0.0, 400.0)], &[(0.0, 0.1), (300.0, 0.6)]),
            Load::Open(1.7),
        )
        .lasting(1500.0, 300.0)
        .target(Target::goodput(0.99)),
        Scenario::saturated("S6", slots, &forty)
            .lasting(1800.0, 300.0)
            .target(Target::goodput(0.95).refused(0.01)),
        s7,
        Scenario::saturated("S8", fifo(&fifty, 1.0, down), &fifty).lasting(240.0, 0.0),
    ]
}
