//! The oracles against theory, and every run against itself.

use tower_relay::policy::limit::SizedVegas;

use crate::{
    contender::Contender,
    controller::{Ours, fixed},
    scenario::{self, Scenario},
    score,
    world::{self, Load},
};

fn named(name: &str) -> Scenario {
    let found = scenario::all().into_iter().find(|one| one.name == name);
    found.expect("it is one of them")
}

/// Successes a second and mean latency of a fixed limit.
fn with_limit(scenario: &Scenario, limit: usize) -> (f64, f64) {
    let record = world::run(&scenario.setting, &mut fixed(limit), 7);
    let seconds = scenario.setting.end - scenario.setting.warm_up;
    let succeeded = record.succeeded as f64;
    (succeeded / seconds, record.latency / succeeded)
}

#[test]
fn a_saturated_queue_serves_as_fast_as_its_servers() {
    let s1 = named("S1");
    for (limit, rate, latency) in [(25, 250.0, 0.1), (50, 500.0, 0.1), (100, 500.0, 0.2)] {
        let (is, took) = with_limit(&s1, limit);
        assert!((is / rate - 1.0).abs() < 0.02, "{limit}: {is} a second");
        assert!((took / latency - 1.0).abs() < 0.02, "{limit}: {took} s");
    }
}

#[test]
fn an_open_queue_is_as_long_as_erlang_says() {
    // M/M/c is close enough to lognormal service of the same variation: P(wait) by Erlang C
    // for 50 servers at 45 erlangs is 0.37, the mean wait of exponential service 7.4 ms.
    let mut s1 = named("S1");
    s1.setting.load = Load::Open(450.0);
    let (rate, latency) = with_limit(&s1, 100_000);
    assert!((rate / 450.0 - 1.0).abs() < 0.02, "{rate}");
    assert!((latency - 0.1074).abs() < 0.004, "{latency}");
}

#[test]
fn a_batch_of_64_serves_what_its_tokens_allow() {
    // 492 tokens at 15 ms, a quarter slower at 64 busy, after half a second: 9.77 s each.
    let (rate, latency) = with_limit(&named("S4"), 64);
    assert!((rate / 6.55 - 1.0).abs() < 0.04, "{rate}");
    assert!((latency / 9.77 - 1.0).abs() < 0.04, "{latency}");
}

#[test]
fn forty_slots_of_eight_seconds_serve_five_a_second() {
    let (rate, latency) = with_limit(&named("S6"), 40);
    assert!((rate / 5.0 - 1.0).abs() < 0.03, "{rate}");
    assert!((latency / 8.0 - 1.0).abs() < 0.03, "{latency}");
}

#[test]
fn a_known_quota_is_used_up_without_a_refusal() {
    let s7 = named("S7");
    let record = world::run(&s7.setting, &mut fixed(1_000), 3);
    assert_eq!(record.refused, 0);
    let rate = record.succeeded as f64 / (s7.setting.end - s7.setting.warm_up);
    assert!((rate / 10.0 - 1.0).abs() < 0.01, "{rate}");
}

#[test]
fn a_seed_decides_everything() {
    let scenario = named("S8");
    let run = |seed| {
        let record = world::run(&scenario.setting, &mut Ours(SizedVegas::default()), seed);
        (record.limit, record.successes)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn the_limit_is_never_exceeded_but_where_it_was_just_cut() {
    let scenario = named("S3");
    let record = score::record(&scenario, Contender::SizedVegas, 1);
    let over = record
        .in_flight
        .iter()
        .zip(&record.limit)
        .filter(|(in_flight, limit)| in_flight > limit)
        .count();
    assert!(over * 20 < record.limit.len(), "{over} tenths of a second");
}

#[test]
fn few_quick_calls_do_not_pass_for_the_server() {
    // In this run a probe of 32 calls reads two thirds of the latency that nobody waits with.
    let row = score::rows(&named("S3"), &[Contender::SizedVegas], &[3]);
    assert!(row[0].worst > 0.96, "{}", row[0].worst);
}
