//! Concurrency limits against servers whose optimum is known.

mod chance;
mod contender;
mod controller;
mod published;
mod scenario;
mod upstream;
mod world;

use contender::Contender;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let which = args.get(1).map_or("S", |s| s.as_str());
    let seeds: u64 = args.get(2).map_or(5, |s| s.parse().unwrap());
    let who = args.get(3).map_or("", |s| s.as_str());
    let mut list = scenario::all();
    if which.starts_with('v') {
        list = scenario::varied();
    }
    let list: Vec<_> = list
        .into_iter()
        .filter(|s| s.name.contains(which.trim_start_matches('v')))
        .collect();
    for scenario in &list {
        let contenders: Vec<_> = Contender::ALL
            .iter()
            .filter(|c| c.name().contains(who) || **c == Contender::Best)
            .collect();
        let jobs: Vec<_> = contenders
            .iter()
            .flat_map(|c| (0..seeds).map(move |s| (**c, s)))
            .collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some((c, seed)) = jobs.get(i) else { break };
                        let mut controller = c.controller(scenario, *seed);
                        let record = world::run(&scenario.setting, controller.as_mut(), *seed);
                        results.lock().unwrap().push((*c, *seed, record));
                    }
                });
            }
        });
        let results = results.into_inner().unwrap();
        println!("== {}", scenario.name);
        for c in &contenders {
            let (mut g, mut l, mut r, mut n, mut lim, mut w) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
            let mut sq = 0.0;
            let mut s3 = 0.0;
            let mut rec = 0.0;
            for (_, seed, record) in results.iter().filter(|x| x.0 == **c) {
                let best = &results
                    .iter()
                    .find(|x| x.0 == Contender::Best && x.1 == *seed)
                    .unwrap()
                    .2;
                let x = record.succeeded as f64 / best.succeeded as f64;
                g += x;
                sq += x * x;
                l += (record.latency / record.succeeded as f64)
                    / (best.latency / best.succeeded as f64);
                r += record.refused as f64 / record.succeeded as f64;
                let from = (scenario.setting.warm_up * 10.0) as usize;
                let lims = &record.limit[from..];
                lim += lims.iter().map(|x| f64::from(*x)).sum::<f64>() / lims.len() as f64;
                w += record.wasted as f64;
                if scenario.name == "S3" {
                    s3 += record.limit[1000..1200]
                        .iter()
                        .map(|x| f64::from(*x))
                        .sum::<f64>()
                        / 200.0;
                    rec += (600..1200)
                        .find(|i| {
                            let m = record.limit[*i..*i + 50]
                                .iter()
                                .map(|x| f64::from(*x))
                                .sum::<f64>()
                                / 50.0;
                            (11.25..=18.75).contains(&m)
                        })
                        .map_or(99.0, |i| (i - 600) as f64 / 10.0);
                }
                if scenario.name == "S8" {
                    rec += (910..2370)
                        .find(|i| record.successes[*i..*i + 30].iter().sum::<u32>() >= 1350)
                        .map_or(99.0, |i| (i - 900) as f64 / 10.0);
                }
                n += 1.0;
            }
            let m: f64 = g / n;
            let ci = 1.96 * ((sq / n - m * m).max(0.0) / n).sqrt();
            println!(
                "{:26} good {:.3} ±{:.3} lat {:.2} refused {:.4} limit {:.1} wasted {:.0} s3 {:.1} rec {:.1}",
                c.name(),
                m,
                ci,
                l / n,
                r / n,
                lim / n,
                w / n,
                s3 / n,
                rec / n
            );
        }
    }
}
