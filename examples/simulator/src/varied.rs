//! Settings beside the written ones, each with loose bounds: what is tuned to the written ones
//! breaks here.

use crate::{
    scenario::{LLM_LONG, Scenario, Target, fifo, llm},
    upstream::{Model, Shape, Spread, Steps},
    world::Load,
};

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let mut list = sizes();
    list.extend(paces());
    list.extend(mixes());
    list.extend(steps());
    list.extend(little_load());
    list.extend(starts());
    list.extend(small());
    list.extend(shapes());
    list.extend(drifts());
    list.extend(refusals());
    list.extend(demands());
    list
}

fn slots(slots: &[(f64, f64)]) -> Model {
    Model::Slots {
        slots: slots.to_vec(),
        service: Spread::new(8.0, 0.8),
    }
}

fn queue(servers: &[(f64, f64)], service: Spread) -> Model {
    Model::Fifo {
        servers: servers.to_vec(),
        service,
        pace: Steps::new(),
        down: None,
    }
}

/// The same servers a quarter to four times as large.
fn sizes() -> Vec<Scenario> {
    let of_size = |size: f64| {
        let [servers, batch, places] =
            [50.0, 64.0, 40.0].map(|places: f64| [(0.0, (places * size).round())]);
        let line = if size < 1.0 { 1.5 } else { 1.25 };
        let name = |name| format!("{name} ×{size}");
        [
            Scenario::saturated(&name("S1 servers"), fifo(&servers, 1.0, None), &servers)
                .lasting(180.0, 60.0)
                .target(Target::goodput(0.98).latency(line)),
            Scenario::saturated(&name("S4 batch"), llm(&batch, &[(0.0, LLM_LONG)]), &batch)
                .lasting(1800.0, 600.0)
                .target(Target::goodput(0.98).latency(line).refused(0.001)),
            Scenario::saturated(&name("S6 slots"), slots(&places), &places)
                .target(Target::goodput(0.95).refused(0.01)),
        ]
    };
    [0.25, 0.5, 2.0, 4.0]
        .into_iter()
        .flat_map(of_size)
        .collect()
}

/// A tenth to ten times as slow.
fn paces() -> Vec<Scenario> {
    let mut list = Vec::new();
    let (servers, batch) = ([(0.0, 50.0)], [(0.0, 64.0)]);
    for slower in [0.1, 10.0] {
        let longer = f64::max(slower, 0.3);
        for (name, variation) in [("S1", 1.0), ("S2", 3.0)] {
            let service = Spread::new(0.1, variation).times(slower);
            let name = format!("{name} ×{slower} latency");
            list.push(
                Scenario::saturated(&name, queue(&servers, service), &servers)
                    .lasting(180.0 * longer, 60.0 * longer)
                    .target(Target::goodput(0.98).latency(1.3)),
            );
        }
        let model = Model::Llm {
            batch: batch.to_vec(),
            queue: 64,
            long: vec![(0.0, LLM_LONG)],
            first_token: Spread::new(0.5, 0.3).times(slower),
            per_token: 0.015 * slower,
        };
        list.push(
            Scenario::saturated(&format!("S4 ×{slower} latency"), model, &batch)
                .lasting(1800.0 * longer, 600.0 * longer)
                .target(Target::goodput(0.98).latency(1.3).refused(0.001)),
        );
    }
    list
}

/// Fewer and more long answers.
fn mixes() -> Vec<Scenario> {
    let batch = [(0.0, 64.0)];
    [0.0, 0.05, 0.9]
        .into_iter()
        .map(|long| {
            Scenario::saturated(
                &format!("S4 {long} long"),
                llm(&batch, &[(0.0, long)]),
                &batch,
            )
            .lasting(1800.0, 600.0)
            .target(Target::goodput(0.98).latency(1.3).refused(0.001))
        })
        .collect()
}

/// Servers that grow and shrink.
fn steps() -> Vec<Scenario> {
    let batch = [(0.0, 64.0), (600.0, 16.0), (1200.0, 64.0)];
    let places = [(0.0, 40.0), (600.0, 10.0), (1200.0, 40.0)];
    let servers = [(0.0, 15.0), (60.0, 60.0), (120.0, 30.0)];
    let wide = [(0.0, 5.0), (60.0, 200.0), (120.0, 5.0)];
    vec![
        Scenario::saturated(
            "S4 batch 64, 16, 64",
            llm(&batch, &[(0.0, LLM_LONG)]),
            &batch,
        )
        .lasting(1800.0, 0.0)
        .target(Target::goodput(0.95).latency(1.4).refused(0.01)),
        Scenario::saturated("S6 slots 40, 10, 40", slots(&places), &places)
            .lasting(1800.0, 0.0)
            .target(Target::goodput(0.75).refused(0.02)),
        Scenario::saturated("S3 15, 60, 30", fifo(&servers, 1.0, None), &servers)
            .lasting(180.0, 0.0)
            .target(Target::goodput(0.95).latency(1.4)),
        Scenario::saturated("S3 5, 200, 5", fifo(&wide, 1.0, None), &wide)
            .lasting(180.0, 0.0)
            .target(Target::goodput(0.8).latency(2.0)),
    ]
}

/// Less than the server can do.
fn little_load() -> Vec<Scenario> {
    let thirty_seconds = queue(&[(0.0, 64.0)], Spread::new(30.0, 0.5));
    let mut list = vec![
        // Thirty in flight on average, where at first eight may be.
        Scenario::open("1 a second of 30 s", thirty_seconds, Load::Open(1.0))
            .lasting(3600.0, 600.0)
            .target(Target::goodput(0.99).latency(1.1)),
    ];
    for rate in [1.0, 5.0] {
        let name = format!("{rate} a second, 64 places");
        let model = llm(&[(0.0, 64.0)], &[(0.0, LLM_LONG)]);
        list.push(
            Scenario::open(&name, model, Load::Open(rate))
                .lasting(1500.0, 300.0)
                .target(Target::goodput(0.99).latency(1.1)),
        );
    }
    list
}

/// A first limit far above the capacity, also where that is the highest.
fn starts() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (servers, max) in [(15.0, 1_000), (15.0, 200), (8.0, 200), (50.0, 200)] {
        let best = [(0.0, servers)];
        let line = if servers < 10.0 { 2.0 } else { 1.5 };
        let name = format!("from 200 of {max} at {servers} servers");
        list.push(
            Scenario::saturated(&name, fifo(&best, 1.0, None), &best)
                .lasting(180.0, 60.0)
                .starting_at(200, max)
                .target(Target::goodput(0.97).latency(line)),
        );
    }
    let batch = [(0.0, 64.0)];
    let model = llm(&batch, &[(0.0, LLM_LONG)]);
    list.push(
        Scenario::saturated("from 120 of 120 at a batch of 64", model, &batch)
            .lasting(1800.0, 600.0)
            .starting_at(120, 120)
            .target(Target::goodput(0.97).latency(1.3)),
    );
    let places = [(0.0, 10.0)];
    list.push(
        Scenario::saturated("from 200 at 10 slots", slots(&places), &places)
            .starting_at(200, 200)
            .target(Target::goodput(0.95).refused(0.02)),
    );
    list
}

/// A few servers, where the line weighs most.
fn small() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (servers, line) in [(1.0, 3.5), (2.0, 2.2), (4.0, 1.8), (8.0, 1.6)] {
        for mean in [0.1, 1.0, 4.0] {
            let best = [(0.0, servers)];
            let name = format!("{servers} servers of {mean} s");
            list.push(
                Scenario::saturated(&name, queue(&best, Spread::new(mean, 1.0)), &best)
                    .lasting(1800.0 * f64::max(mean, 1.0), 300.0 * f64::max(mean, 1.0))
                    .target(Target::goodput(0.95).latency(line)),
            );
        }
    }
    list
}

/// Other distributions of service times.
fn shapes() -> Vec<Scenario> {
    let mut list = Vec::new();
    let bimodal = |share, ratio| Shape::Bimodal { share, ratio };
    for (name, shape) in [
        ("all alike", Shape::Lognormal(0.05)),
        ("a power law of 2.1", Shape::Pareto(2.1)),
        ("a power law of 1.5", Shape::Pareto(1.5)),
        ("a tenth of 20 times", bimodal(0.1, 20.0)),
        ("half of 10 times", bimodal(0.5, 10.0)),
        ("quick or 50 times", bimodal(0.7, 50.0)),
    ] {
        for servers in [20.0, 100.0] {
            let best = [(0.0, servers)];
            let name = format!("{servers} servers, {name}");
            list.push(
                Scenario::saturated(&name, queue(&best, Spread::of(0.2, shape)), &best)
                    .lasting(300.0, 60.0)
                    .target(Target::goodput(0.95).latency(1.5)),
            );
        }
    }
    list
}

/// Service times that change by themselves.
fn drifts() -> Vec<Scenario> {
    let best = [(0.0, 50.0)];
    let mut list = Vec::new();
    for (name, pace) in [
        (
            "slowly to 3 times and back",
            vec![(0.0, 1.0), (300.0, 3.0), (600.0, 1.0)],
        ),
        (
            "at once to 3 times and back",
            vec![
                (0.0, 1.0),
                (199.0, 1.0),
                (200.0, 3.0),
                (399.0, 3.0),
                (400.0, 1.0),
                (600.0, 1.0),
            ],
        ),
        ("slowly to a third", vec![(0.0, 1.0), (600.0, 0.33)]),
    ] {
        let model = Model::Fifo {
            servers: best.to_vec(),
            service: Spread::new(0.1, 1.0),
            pace,
            down: None,
        };
        list.push(
            Scenario::saturated(&format!("S1 {name}"), model, &best)
                .lasting(600.0, 60.0)
                .target(Target::goodput(0.95).latency(1.5)),
        );
    }
    list
}

/// Servers that refuse.
fn refusals() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (places, mean) in [(1.0, 2.0), (3.0, 2.0), (10.0, 0.5), (100.0, 2.0)] {
        let best = [(0.0, places)];
        let model = Model::Slots {
            slots: best.to_vec(),
            service: Spread::new(mean, 1.0),
        };
        list.push(
            Scenario::saturated(&format!("{places} slots of {mean} s"), model, &best)
                .target(Target::goodput(0.93).refused(0.02)),
        );
    }
    let best = [(0.0, 40.0)];
    // Twenty-five of the forty on average.
    list.push(
        Scenario::open("3 a second at 40 slots", slots(&best), Load::Open(3.125))
            .target(Target::goodput(0.98).refused(0.01)),
    );
    list
}

/// Demand that comes and goes.
fn demands() -> Vec<Scenario> {
    let servers = [(0.0, 50.0)];
    let burst = |on, off| Load::Bursts {
        rate: 450.0,
        on,
        off,
    };
    let bursts = |name: &str, load| {
        let mut scenario = Scenario::open(name, fifo(&servers, 1.0, None), load)
            .lasting(600.0, 60.0)
            .target(Target::goodput(0.97).latency(1.3));
        scenario.best = Some(servers.to_vec());
        scenario
    };
    let places = [(0.0, 40.0)];
    let mut refusing = Scenario::open(
        "bursts at 40 slots",
        slots(&places),
        Load::Bursts {
            rate: 9.0,
            on: 120.0,
            off: 240.0,
        },
    )
    .target(Target::goodput(0.9).refused(0.02));
    refusing.best = Some(places.to_vec());
    vec![
        bursts("bursts of 5 s", burst(5.0, 10.0)),
        bursts("bursts of 60 s", burst(60.0, 60.0)),
        refusing,
    ]
}
