//! The scenarios, with what the best possible client would get.

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
}

const LLM_LONG: f64 = 0.3;

fn fifo(servers: &[(f64, f64)], variation: f64, down: Option<(f64, f64)>) -> Model {
    Model::Fifo {
        servers: servers.to_vec(),
        service: Spread::new(0.1, variation),
        down,
    }
}

fn llm(batch: f64, long: &[(f64, f64)]) -> Model {
    Model::Llm {
        batch: vec![(0.0, batch)],
        queue: 64,
        long: long.to_vec(),
        first_token: Spread::new(0.5, 0.3),
        per_token: 0.015,
    }
}

fn saturated(name: &str, model: Model, end: f64, warm_up: f64, best: &[(f64, f64)]) -> Scenario {
    Scenario {
        name: name.to_owned(),
        setting: Setting {
            model,
            load: Load::Saturated,
            end,
            warm_up,
            known_rate: None,
        },
        best: Some(best.to_vec()),
    }
}

/// S1 to S8 as written in the project's scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let fifty = [(0.0, 50.0)];
    let step = [(0.0, 50.0), (60.0, 15.0), (120.0, 50.0)];
    let mut s7 = saturated(
        "S7",
        Model::Bucket {
            rate: 10.0,
            burst: 10.0,
            service: Spread::new(2.0, 0.6),
        },
        900.0,
        120.0,
        &[],
    );
    s7.setting.known_rate = Some(10);
    s7.best = None;
    vec![
        saturated("S1", fifo(&fifty, 1.0, None), 180.0, 60.0, &fifty),
        saturated("S2", fifo(&fifty, 3.0, None), 180.0, 60.0, &fifty),
        saturated("S3", fifo(&step, 1.0, None), 180.0, 0.0, &step),
        saturated(
            "S4",
            llm(64.0, &[(0.0, LLM_LONG)]),
            1800.0,
            600.0,
            &[(0.0, 64.0)],
        ),
        Scenario {
            name: "S5".to_owned(),
            setting: Setting {
                model: llm(400.0, &[(0.0, 0.1), (300.0, 0.6)]),
                load: Load::Open(1.7),
                end: 1500.0,
                warm_up: 300.0,
                known_rate: None,
            },
            best: None,
        },
        saturated(
            "S6",
            Model::Slots {
                slots: vec![(0.0, 40.0)],
                service: Spread::new(8.0, 0.8),
            },
            1800.0,
            300.0,
            &[(0.0, 40.0)],
        ),
        s7,
        saturated(
            "S8",
            fifo(&fifty, 1.0, Some((60.0, 90.0))),
            240.0,
            0.0,
            &fifty,
        ),
    ]
}

/// Settings beside the written ones: the same servers a quarter to four times as large, a tenth to
/// ten times as slow, other mixes, steps, and little load.
pub(crate) fn varied() -> Vec<Scenario> {
    let mut list = Vec::new();
    for size in [0.25_f64, 0.5, 2.0, 4.0] {
        let servers = [(0.0, (50.0 * size).round())];
        list.push(saturated(
            &format!("S1 ×{size} servers"),
            fifo(&servers, 1.0, None),
            180.0,
            60.0,
            &servers,
        ));
        let batch = (64.0 * size).round();
        list.push(saturated(
            &format!("S4 ×{size} batch"),
            llm(batch, &[(0.0, LLM_LONG)]),
            1800.0,
            600.0,
            &[(0.0, batch)],
        ));
        let slots = [(0.0, (40.0 * size).round())];
        list.push(saturated(
            &format!("S6 ×{size} slots"),
            Model::Slots {
                slots: slots.to_vec(),
                service: Spread::new(8.0, 0.8),
            },
            1800.0,
            300.0,
            &slots,
        ));
    }
    for slower in [0.1, 10.0] {
        let servers = [(0.0, 50.0)];
        for variation in [1.0, 3.0] {
            list.push(saturated(
                &format!("S{} ×{slower} latency", if variation < 2.0 { 1 } else { 2 }),
                Model::Fifo {
                    servers: servers.to_vec(),
                    service: Spread::new(0.1, variation).times(slower),
                    down: None,
                },
                180.0 * f64::max(slower, 0.3),
                60.0 * f64::max(slower, 0.3),
                &servers,
            ));
        }
        list.push(saturated(
            &format!("S4 ×{slower} latency"),
            Model::Llm {
                batch: vec![(0.0, 64.0)],
                queue: 64,
                long: vec![(0.0, LLM_LONG)],
                first_token: Spread::new(0.5, 0.3).times(slower),
                per_token: 0.015 * slower,
            },
            1800.0 * slower.max(0.3),
            600.0 * slower.max(0.3),
            &[(0.0, 64.0)],
        ));
    }
    for long in [0.0, 0.05, 0.9] {
        list.push(saturated(
            &format!("S4 {long} long"),
            llm(64.0, &[(0.0, long)]),
            1800.0,
            600.0,
            &[(0.0, 64.0)],
        ));
    }
    let steps = [(0.0, 64.0), (600.0, 16.0), (1200.0, 64.0)];
    list.push(saturated(
        "S4 batch 64, 16, 64",
        Model::Llm {
            batch: steps.to_vec(),
            queue: 64,
            long: vec![(0.0, LLM_LONG)],
            first_token: Spread::new(0.5, 0.3),
            per_token: 0.015,
        },
        1800.0,
        0.0,
        &steps,
    ));
    let steps = [(0.0, 40.0), (600.0, 10.0), (1200.0, 40.0)];
    list.push(saturated(
        "S6 slots 40, 10, 40",
        Model::Slots {
            slots: steps.to_vec(),
            service: Spread::new(8.0, 0.8),
        },
        1800.0,
        0.0,
        &steps,
    ));
    let steps = [(0.0, 15.0), (60.0, 60.0), (120.0, 30.0)];
    list.push(saturated(
        "S3 15, 60, 30",
        fifo(&steps, 1.0, None),
        180.0,
        0.0,
        &steps,
    ));
    for (name, servers, mean) in [
        ("4 servers of 1 s", 4.0, 1.0),
        ("4 servers of 4 s", 4.0, 4.0),
    ] {
        let servers = [(0.0, servers)];
        list.push(saturated(
            name,
            Model::Fifo {
                servers: servers.to_vec(),
                service: Spread::new(mean, 1.0),
                down: None,
            },
            1800.0,
            300.0,
            &servers,
        ));
    }
    for rate in [1.0, 5.0] {
        list.push(Scenario {
            name: format!("{rate} a second, 64 places"),
            setting: Setting {
                model: llm(64.0, &[(0.0, LLM_LONG)]),
                load: Load::Open(rate),
                end: 1500.0,
                warm_up: 300.0,
                known_rate: None,
            },
            best: None,
        });
    }
    list
}
