//! What a call admitted at once costs in each layer: nanoseconds, instructions, allocations.
//!
//! `cargo bench -p tower-relay-benches --bench overhead`. Instructions are counted by callgrind
//! where valgrind is installed.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures with the real clock"
)]

use std::{
    hint::black_box,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use tower::{Layer, Service};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    circuit_breaker::CircuitBreakerLayer,
    http::Http,
    key_rotation::{KeyPool, KeyRotationLayer, Source},
    policy::{
        Cost, Quota, Unit,
        breaker::BreakerConfig,
        limit::{Bounds, SizedVegas},
    },
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};
use tower_relay_benches::{Bare, Request, ample, call, nanos, request};

const TIMES: u32 = 20_000;

/// Name, the figure that must be kept, and the one aimed at.
const CASES: [(&str, Option<(u32, u32)>); 11] = [
    ("bare", None),
    ("rate limit, until the body ends", Some((95, 70))),
    ("rate limit, three dimensions", None),
    ("retry", None),
    ("retry and rate limit", None),
    ("key rotation, until the body ends", Some((150, 120))),
    ("key rotation, rate limit, slots", None),
    ("circuit breaker, until the body ends", Some((85, 60))),
    ("retry, rate limit, breaker, adaptive", Some((320, 250))),
    ("adaptive, until the body ends", Some((120, 90))),
    ("retry, all five", Some((450, 300))),
];

/// Runs `work` on the service of a case.
fn with_case<T>(case: usize, work: impl FnOnce(&mut dyn FnMut(Request)) -> T) -> T {
    let limit = || RateLimitLayer::http(ample());
    match case {
        0 => work(&mut calls(Bare)),
        1 => work(&mut calls(limit().layer(Bare))),
        2 => {
            let cost = |_: &Request| Cost::REQUEST.input_tokens(1_200).output_tokens(800);
            let quota = Quota::builder()
                .requests_per_second(1_000_000_000)
                .input_tokens_per_minute(1_000_000_000_000_000)
                .output_tokens_per_minute(1_000_000_000_000_000)
                .burst(Unit::REQUESTS, 1_000_000_000)
                .build()
                .expect("a valid quota");
            work(&mut calls(
                RateLimitLayer::http(quota).cost(cost).layer(Bare),
            ))
        }
        3 => work(&mut calls(RetryLayer::http().layer(Bare))),
        4 => work(&mut calls(RetryLayer::http().layer(limit().layer(Bare)))),
        5 => work(&mut calls(rotation().layer(Bare))),
        6 => work(&mut calls(
            rotation()
                .rate_limit(ample())
                .concurrency(tower_relay::policy::limit::Fixed::of(1_000))
                .layer(Bare),
        )),
        7 => work(&mut calls(breaker().layer(Bare))),
        8 => {
            let inner = limit().layer(adaptive().layer(breaker().layer(Bare)));
            work(&mut calls(RetryLayer::http().layer(inner)))
        }
        9 => work(&mut calls(adaptive().layer(Bare))),
        _ => {
            let inner = rotation().layer(limit().layer(breaker().layer(Bare)));
            work(&mut calls(
                RetryLayer::http().layer(adaptive().layer(inner)),
            ))
        }
    }
}

fn adaptive() -> AdaptiveConcurrencyLayer<Http> {
    let bounds = Bounds::new(1..=200).expect("valid bounds");
    AdaptiveConcurrencyLayer::http(SizedVegas::new(bounds))
}

fn breaker() -> CircuitBreakerLayer<Http> {
    CircuitBreakerLayer::http(BreakerConfig::default())
}

/// Five accounts with a key each, which goes nowhere: what the caller's header map allocates for
/// it is not the layer's.
fn rotation() -> KeyRotationLayer<Http> {
    let keys = ["1", "2", "3", "4", "5"].map(|key| (key, Source::value(format!("secret-{key}"))));
    let pool = KeyPool::accounts(ample(), keys).expect("a valid pool");
    KeyRotationLayer::new(pool).protocol(Http)
}

fn calls<S, B>(mut service: S) -> impl FnMut(Request)
where
    S: Service<Request, Response = http::Response<B>>,
    B: http_body::Body,
{
    move |request| call(&mut service, request)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _context = runtime.enter();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, flag, case, headers, times] if flag == "--count" => {
            let number = |text: &String| text.parse::<usize>().expect("a number");
            count(number(case), headers == "6", number(times));
        }
        _ => table(),
    }
}

/// The loop that callgrind looks at.
fn count(case: usize, has_headers: bool, times: usize) {
    with_case(case, |call| {
        for _ in 0..times {
            call(request(has_headers));
        }
    });
}

fn table() {
    let atomic = AtomicU64::new(0);
    let clock = nanos(TIMES, || {
        black_box(tokio::time::Instant::now());
    });
    let swap = nanos(TIMES, || {
        black_box(atomic.swap(1, Ordering::AcqRel));
    });
    println!("here a clock reading takes {clock:.0} ns and an atomic exchange {swap:.0} ns");
    println!("a call includes the bare service and the making of the request\n");
    println!(
        "{:36} {:>7} {:>7} {:>9} {:>13} {:>11} {:>9}",
        "", "headers", "ns", "over bare", "instructions", "allocations", "of layers"
    );
    for (case, (name, figure)) in CASES.iter().enumerate() {
        for has_headers in [false, true] {
            row(case, name, *figure, has_headers);
        }
    }
}

fn row(case: usize, name: &str, figure: Option<(u32, u32)>, has_headers: bool) {
    let time = |case| with_case(case, |call| nanos(TIMES, || call(request(has_headers))));
    // Turn by turn, so that both see the same machine.
    let (bare, own) = (0..3).fold((f64::INFINITY, f64::INFINITY), |(bare, own), _| {
        (time(0).min(bare), time(case).min(own))
    });
    let made = request(has_headers);
    let copied = allocation_counter::measure(|| drop(black_box(made.clone()))).count_total;
    let allocated = with_case(case, |call| {
        // What is allocated once, as the clock's origin, is not the call's.
        call(request(has_headers));
        let one = request(has_headers);
        allocation_counter::measure(|| call(one)).count_total
    });
    let copies = if name.contains("retry") { copied } else { 0 };
    println!(
        "{name:36} {:>7} {own:>7.0} {:>9.0} {:>13} {allocated:>11} {:>9}{}",
        if has_headers { 6 } else { 0 },
        own - bare,
        instructions(case, has_headers).map_or_else(|| "-".into(), |count| count.to_string()),
        allocated.saturating_sub(copies),
        figure.map_or(String::new(), |(must, aim)| format!(
            "   must {must}, aim {aim} with a bare call of 23"
        )),
    );
}

/// Instructions of one call: the difference of two runs, so that starting up does not count.
fn instructions(case: usize, has_headers: bool) -> Option<u64> {
    let run = |times: u64| {
        let this = std::env::current_exe().ok()?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(this)
            .args(["--count", &case.to_string()])
            .arg(if has_headers { "6" } else { "0" })
            .arg(times.to_string())
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    Some((run(3_000)? - run(1_000)?) / 2_000)
}
