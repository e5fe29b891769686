//! Many waiters: few wake-ups, near-linear work, order kept.

use std::time::{Duration, Instant as RealInstant};

use tokio::time::sleep;
use tower::{Layer, Service};
use tower_relay::{
    policy::{Quota, Unit},
    rate_limit::RateLimitLayer,
    testing::{Reply, Scripted},
};

use crate::support::*;

type Echo = Scripted<fn(&u64) -> Reply<u64>>;

/// The most polls that any of `calls` waiters under `quota` needs for a server that is instant.
async fn most_polls(quota: Quota, calls: u64, server: Echo) -> usize {
    let service = RateLimitLayer::new(quota).layer(server);
    let tasks: Vec<_> = (0..calls)
        .map(|n| tokio::spawn(Counted::new(service.clone().call(n))))
        .collect();
    let mut most = 0;
    for task in tasks {
        let (answer, polls) = task.await.expect("no panic");
        answer.expect("served");
        most = most.max(polls);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_polled_three_times_each_at_most() {
    for rate in [1, 10, 150, 1_000, 20_000] {
        let most = most_polls(per_second(rate), 1_000, echo()).await;
        assert!(most <= 3, "{rate}/s: {most} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_for_slots_are_polled_three_times_each_at_most() {
    // One poll more than for the wait: the server's own time.
    let server: Echo = Scripted::new(|n| Reply::after(ms(10), *n));
    let quota = built(Quota::builder().max_in_flight(7));
    let most = most_polls(quota, 1_000, server).await;
    assert!(most <= 3 + 1, "{most} polls");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_with_a_bound_on_their_wait_are_polled_as_seldom() {
    let service = RateLimitLayer::per_second(100)
        .max_wait(Duration::from_secs(60))
        .layer(echo());
    let tasks: Vec<_> = (0..1_000u64)
        .map(|n| tokio::spawn(Counted::new(service.clone().call(n))))
        .collect();
    for task in tasks {
        let (answer, polls) = task.await.expect("no panic");
        answer.expect("served");
        assert!(polls <= 3, "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_smaller_quota_costs_each_waiter_few_polls() {
    let service = RateLimitLayer::per_second(1_000).layer(echo());
    let tasks: Vec<_> = (0..1_000u64)
        .map(|n| tokio::spawn(Counted::new(service.clone().call(n))))
        .collect();
    sleep(ms(10)).await;
    service.handle().set_quota(&per_second(100));
    let mut all = 0;
    for task in tasks {
        let (answer, polls) = task.await.expect("no panic");
        answer.expect("served");
        all += polls;
        assert!(polls <= 16, "{polls} polls");
    }
    assert!(all <= 15_000, "{all} polls");
}

/// The real time that arrival, cancellation of a third and service of the rest take.
async fn crowd(calls: u64) -> Duration {
    let start = RealInstant::now();
    let server: Echo = echo();
    let quota = built(
        Quota::builder()
            .requests_per_second(1_000_000)
            .burst(Unit::REQUESTS, 1),
    );
    let service = RateLimitLayer::new(quota)
        .max_waiting(usize::MAX)
        .layer(server.clone());
    let tasks: Vec<_> = (0..calls)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    settle().await;
    assert!(service.handle().snapshot().waiting() as u64 > calls / 2);
    for task in tasks.iter().skip(1).step_by(3) {
        task.abort();
    }
    for task in tasks {
        let _ = task.await;
    }
    assert_envelope(&server.sent_after(), 1, 1_000_000, SLACK);
    let snapshot = service.handle().snapshot();
    assert_eq!((snapshot.waiting(), snapshot.active()), (0, 0));
    assert!(snapshot.admitted() + snapshot.cancelled() == calls);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_waiters_cost_ten_times_ten_thousand() {
    let _warm = crowd(1_000).await;
    let few = crowd(10_000).await;
    let many = crowd(100_000).await;
    assert!(many < few * 40, "{few:?} for 10,000, {many:?} for 100,000");
}

#[tokio::test(start_paused = true)]
async fn leaving_in_any_order_costs_no_more() {
    let start = RealInstant::now();
    let service = RateLimitLayer::per_hour(1)
        .max_waiting(usize::MAX)
        .layer(echo::<u64>());
    for round in 0..2 {
        let mut calls: Vec<_> = (0..50_000).map(|n| Some(service.clone().call(n))).collect();
        if round == 0 {
            calls.reverse();
        }
        for index in 0..calls.len() {
            calls[index * 7_919 % 50_000] = None;
        }
        assert_eq!(service.handle().snapshot().waiting(), 0);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}
