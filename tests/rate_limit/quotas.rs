//! Quotas that change, and quotas that reset.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::Rejected,
    policy::{Quota, Unit},
    rate_limit::{RateLimit, RateLimitLayer},
    testing::{Reply, Scripted},
};

use crate::support::*;

type Limited = RateLimit<Scripted<fn(&u32) -> Reply<u32>>, tower_relay::protocol::Plain>;

/// One call served, `waiting` queued in tasks that tell when they were served.
async fn queued(
    service: &Limited,
    waiting: u32,
) -> (Instant, Vec<tokio::task::JoinHandle<Option<u64>>>) {
    service.clone().oneshot(0).await.expect("served");
    let start = Instant::now();
    let tasks = (0..waiting)
        .map(|n| {
            let call = service.clone().call(n);
            tokio::spawn(async move { call.await.ok().map(|_| since(start)) })
        })
        .collect();
    settle().await;
    (start, tasks)
}

async fn times(tasks: Vec<tokio::task::JoinHandle<Option<u64>>>) -> Vec<Option<u64>> {
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.expect("no panic"));
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_larger_quota_serves_those_who_wait_sooner() {
    let service = RateLimitLayer::per_second(1).layer(echo());
    let (_, tasks) = queued(&service, 3).await;
    sleep(ms(500)).await;
    service.handle().set_quota(&per_second(10));
    // Half a request is still spent, which now drains in 50 ms.
    assert_eq!(times(tasks).await, [550, 650, 750].map(Some));
}

#[tokio::test(start_paused = true)]
async fn a_larger_burst_serves_those_who_wait_at_once() {
    let service = RateLimitLayer::per_minute(1).layer(echo());
    let (_, tasks) = queued(&service, 3).await;
    sleep(ms(500)).await;
    let more = Quota::builder()
        .requests_per_minute(1)
        .burst(Unit::REQUESTS, 4);
    service.handle().set_quota(&built(more));
    assert_eq!(times(tasks).await, [500, 500, 500].map(Some));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_quota_serves_those_who_wait_later() {
    let service = RateLimitLayer::per_second(10).layer(echo());
    let (_, tasks) = queued(&service, 3).await;
    sleep(ms(50)).await;
    service.handle().set_quota(&per_second(1));
    assert_eq!(times(tasks).await, [550, 1_550, 2_550].map(Some));
    assert_eq!(service.handle().snapshot().admitted(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_quota_too_small_for_a_queued_call_refuses_it_and_serves_the_rest() {
    let service = RateLimitLayer::new(built(tokens(60, 10)))
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    service.clone().oneshot(10).await.expect("served");
    let start = Instant::now();
    let large = tokio::spawn(service.clone().call(10));
    let small = tokio::spawn(service.clone().call(2));
    sleep(ms(1_000)).await;
    service.handle().set_quota(&built(tokens(60, 5)));
    let error = large.await.expect("no panic").expect_err("too large");
    assert_eq!(since(start), 1_000);
    let Rejected::CostTooLarge(why) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!((why.cost(), why.capacity()), (10, 5));
    small.await.expect("no panic").expect("served");
    // Nine are spent when the capacity becomes five: six must drain for two to fit.
    assert_eq!(since(start), 7_000);
    let snapshot = service.handle().snapshot();
    assert_eq!((snapshot.refused(), snapshot.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_spent_stays_spent_when_the_quota_changes() {
    let service = RateLimitLayer::new(built(tokens(60, 10)))
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    service.clone().oneshot(10).await.expect("served");
    let handle = service.handle();
    handle.set_quota(&built(tokens(120, 20)));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(10));
    handle.set_quota(&built(tokens(60, 4)));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(-6));
}

fn daily(amount: u64, resets_in: u64) -> Quota {
    let day = Duration::from_secs(86_400);
    built(Quota::builder().window(Unit::REQUESTS, amount, day, Duration::from_secs(resets_in)))
}

#[tokio::test(start_paused = true)]
async fn a_reset_lets_waiters_through() {
    let service = RateLimitLayer::new(daily(2, 10)).layer(echo());
    let (_, tasks) = queued(&service, 5).await;
    let day = 86_400_000;
    assert_eq!(
        times(tasks).await,
        [0, 10_000, 10_000, 10_000 + day, 10_000 + day].map(Some)
    );
}

#[tokio::test(start_paused = true)]
async fn a_spent_window_tells_when_it_resets() {
    let layer = RateLimitLayer::new(daily(1, 3_600)).max_waiting(0);
    let service = layer.layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    advance(ms(600_000)).await;
    assert_eq!(retry_after(service.clone().oneshot(1).await), 3_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_window_paired_with_a_rate_never_passes_twice_the_rate() {
    let second = ms(1_000);
    let quota = built(
        Quota::builder()
            .window(Unit::REQUESTS, 100, second, ms(500))
            .rate(Unit::REQUESTS, 1_000, ms(10_000)),
    );
    let server: Scripted<fn(&u32) -> Reply<u32>> = echo();
    let service = RateLimitLayer::new(quota).layer(server.clone());
    advance(ms(400)).await;
    let calls = (0..300).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_envelope(&server.sent_after(), 1, 100, SLACK);
}

#[tokio::test(start_paused = true)]
async fn a_refund_of_an_earlier_window_is_not_paid_into_the_next() {
    let window =
        |amount| built(Quota::builder().window(Unit::INPUT_TOKENS, amount, ms(1_000), ms(1_000)));
    let service = RateLimitLayer::new(window(10))
        .protocol(Holding)
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    let exactly = |n| {
        let usage = tower_relay::outcome::Usage::UNKNOWN.input_tokens(n);
        tower_relay::outcome::Ending::complete(usage)
    };
    let (_, early) = service.clone().oneshot(8).await.expect("served");
    advance(ms(1_000)).await;
    let (_, late) = service.clone().oneshot(8).await.expect("served");
    let handle = service.handle();
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(2));
    tower_relay::protocol::Guard::finish(early, exactly(1));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(2));
    tower_relay::protocol::Guard::finish(late, exactly(3));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_after_a_reset_can_still_be_refunded() {
    let quota = built(Quota::builder().window(Unit::INPUT_TOKENS, 10, ms(1_000), ms(1_000)));
    let service = RateLimitLayer::new(quota)
        .protocol(Holding)
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    let _spent = service.clone().oneshot(10).await.expect("served");
    let queued = service.clone().call(10);
    // The call waits for the reset and is granted three milliseconds after it.
    advance(ms(1_003)).await;
    let (_, guard) = queued.await.expect("served");
    let usage = tower_relay::outcome::Usage::UNKNOWN.input_tokens(4);
    tower_relay::protocol::Guard::finish(guard, tower_relay::outcome::Ending::complete(usage));
    assert_eq!(service.handle().available(Unit::INPUT_TOKENS), Some(6));
}
