//! The rate is delivered and never exceeded.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep, sleep_until};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    policy::{Quota, Unit},
    rate_limit::RateLimitLayer,
    testing::{Reply, Scripted},
};

use crate::support::*;

type Echo = Scripted<fn(&u64) -> Reply<u64>>;

/// Sends `calls` at once under `quota`; what happens meanwhile is `meanwhile`.
async fn sends(quota: Quota, calls: u64, meanwhile: impl Future<Output = ()>) -> Vec<Duration> {
    let server: Echo = echo();
    let service = RateLimitLayer::new(quota)
        .max_waiting(usize::MAX)
        .layer(server.clone());
    let tasks: Vec<_> = (0..calls)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    meanwhile.await;
    for task in tasks {
        task.await.expect("no panic").expect("served");
    }
    server.sent_after()
}

fn assert_delivered(sends: &[Duration], rate: u64) {
    let last = sends.last().expect("there are some").as_secs_f64();
    let ideal = (sends.len() - 1) as f64 / rate as f64;
    assert!(
        last <= ideal / 0.98,
        "{rate}/s: {last} s instead of {ideal} s"
    );
}

#[tokio::test(start_paused = true)]
async fn many_waiters_get_the_full_rate_with_burst_one() {
    for rate in [50, 500, 5_000, 20_000] {
        let sends = sends(per_second(rate), rate.max(200), async {}).await;
        assert_delivered(&sends, rate);
        assert_envelope(&sends, 1, rate, SLACK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_period_of_ten_milliseconds_delivers_the_full_rate() {
    let quota = built(Quota::builder().rate(Unit::REQUESTS, 1, ms(10)));
    let sends = sends(quota, 101, async {}).await;
    assert_eq!(whole(sends[100]), 1_000);
    assert_envelope(&sends, 1, 100, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn workers_in_a_loop_get_the_full_rate() {
    for rate in [50, 500, 5_000, 20_000] {
        let server: Echo = echo();
        let service = RateLimitLayer::per_second(rate).layer(server.clone());
        let workers: Vec<_> = (0..64)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move {
                    for n in 0..(rate / 64).max(4) {
                        service.clone().oneshot(n).await.expect("served");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.expect("no panic");
        }
        assert_delivered(&server.sent_after(), rate);
        assert_envelope(&server.sent_after(), 1, rate, SLACK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_caller_in_a_loop_stays_in_the_envelope() {
    let server: Echo = echo();
    let service = RateLimitLayer::per_second(5_000).layer(server.clone());
    for n in 0..500 {
        service.clone().oneshot(n).await.expect("served");
    }
    assert_envelope(&server.sent_after(), 1, 5_000, SLACK);
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_there_is_no_catch_up_burst() {
    for rate in [50, 500, 5_000] {
        let sends = sends(per_second(rate), rate * 2, async {
            sleep(ms(203)).await;
            advance(ms(500)).await;
            sleep(ms(101)).await;
            advance(ms(1)).await;
            advance(ms(300)).await;
        })
        .await;
        assert_envelope(&sends, 1, rate, SLACK);
    }
}

#[tokio::test(start_paused = true)]
async fn arrivals_after_an_idle_hour_make_no_burst() {
    let server: Echo = echo();
    let service = RateLimitLayer::per_second(100).layer(server.clone());
    advance(Duration::from_secs(3_600)).await;
    let calls = (0..50).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_envelope(&server.sent_after(), 1, 100, Duration::ZERO);
}

/// Takes a place in the run queue at `at`, and the whole runtime for `time`.
async fn block(at: Instant, time: Duration) {
    sleep_until(at).await;
    advance(time).await;
}

/// A small generator of pseudo-random numbers, enough to spread events.
fn spread(seed: u64, n: u64, below: u64) -> u64 {
    let mixed = (seed * 1_000_003 + n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 33) % below
}

#[tokio::test(start_paused = true)]
async fn tasks_that_block_the_runtime_break_no_envelope() {
    for (seed, rate) in (0..24).zip([50, 500, 1_000, 5_000].into_iter().cycle()) {
        let server: Echo = echo();
        let service = RateLimitLayer::per_second(rate).layer(server.clone());
        let start = Instant::now();
        let tasks: Vec<_> = (0..rate.min(1_000))
            .map(|n| {
                // Between the callers' tasks, so that grants are seen late.
                let (at, time) = (spread(seed, n, 300), 1 + spread(seed, n + 1, 7));
                let blocker = n % 9 == 0;
                let call = service.clone().call(n);
                if blocker {
                    tokio::spawn(block(start + ms(at), ms(time)));
                }
                tokio::spawn(call)
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("served");
        }
        assert_envelope(&server.sent_after(), 1, rate, SLACK);
    }
}

#[tokio::test(start_paused = true)]
async fn grants_seen_late_and_grants_made_late_do_not_add_up() {
    let server: Echo = echo();
    let service = RateLimitLayer::per_second(1_000).layer(server.clone());
    service.clone().oneshot(0).await.expect("served");
    let mut calls: Vec<_> = (1..40).map(|n| Box::pin(service.clone().call(n))).collect();
    for call in &mut calls {
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    // The first six are granted ten milliseconds late and seen another five later, together
    // with those that are granted then.
    advance(ms(10)).await;
    drop(service.clone().call(99));
    advance(ms(5)).await;
    drop(service.clone().call(99));
    futures::future::try_join_all(calls).await.expect("served");
    assert_envelope(&server.sent_after(), 1, 1_000, SLACK);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_bridges_the_slack_needs_none() {
    for (rate, burst) in [(100, 10), (1_000, 10), (5_000, 100)] {
        let quota = built(
            Quota::builder()
                .requests_per_second(rate)
                .burst(Unit::REQUESTS, burst),
        );
        let sends = sends(quota, rate, async {
            sleep(ms(53)).await;
            advance(ms(211)).await;
        })
        .await;
        assert_envelope(&sends, burst, rate, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn all_dimensions_are_kept_at_once() {
    let quota = built(Quota::builder().requests_per_second(100).rate(
        Unit::REQUESTS,
        1_000,
        Duration::from_secs(60),
    ));
    let sends = sends(quota, 120, async {}).await;
    assert_envelope(&sends, 1, 100, SLACK);
    assert_eq!(whole(sends[119]), 7_140);
}

#[tokio::test(start_paused = true)]
async fn a_slack_of_zero_replays_nothing() {
    let quota = built(Quota::builder().requests_per_second(500).slack(ms(0)));
    let sends = sends(quota, 100, async {
        sleep(ms(20)).await;
        advance(ms(77)).await;
    })
    .await;
    assert_envelope(&sends, 1, 500, ms(0));
}

#[tokio::test(start_paused = true)]
async fn a_new_quota_brings_its_own_slack() {
    let with_slack = |slack| built(Quota::builder().requests_per_second(100).slack(ms(slack)));
    // Of 40 ms as much is replayed as the slack allows.
    for (slack, at_once) in [(0, 1), (25, 3), (100, 4)] {
        let server: Echo = echo();
        let service = RateLimitLayer::new(with_slack(5)).layer(server.clone());
        let handle = service.handle();
        let tasks: Vec<_> = (0..10)
            .map(|n| tokio::spawn(service.clone().call(n)))
            .collect();
        settle().await;
        handle.set_quota(&with_slack(slack));
        advance(ms(40)).await;
        settle().await;
        assert_eq!(server.sent_after().len(), 1 + at_once, "{slack} ms");
        for task in tasks {
            task.await.expect("no panic").expect("served");
        }
    }
}
