//! Who is served, when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::poll;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    policy::{Quota, Unit},
    rate_limit::{RateLimitLayer, Transition},
    testing::{Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn calls_are_served_in_order_of_arrival() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let server = Scripted::new(move |n: &u64| {
        seen.lock().expect("no panic").push(*n);
        Reply::now(())
    });
    let layer = RateLimitLayer::new(built(tokens(600, 10))).cost(|n: &u64| input(1 + n % 5));
    let service = layer.layer(server);
    service.clone().oneshot(9).await.expect("served");
    service.clone().oneshot(9).await.expect("served");
    // Polled in another order than called makes no difference: `call` takes the place.
    let mut calls: Vec<_> = (100..160).map(|n| service.clone().call(n)).collect();
    calls.reverse();
    futures::future::try_join_all(calls).await.expect("served");
    let expected: Vec<_> = [9, 9].into_iter().chain(100..160).collect();
    assert_eq!(*order.lock().expect("no panic"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_large_call_is_not_starved_by_small_ones() {
    let layer = RateLimitLayer::new(built(tokens(60, 10))).cost(|n: &u64| input(*n));
    let service = layer.layer(echo::<u64>());
    service.clone().oneshot(10).await.expect("served");
    let start = Instant::now();
    let large = tokio::spawn({
        let service = service.clone();
        async move {
            service.oneshot(10).await.expect("served");
            since(start)
        }
    });
    settle().await;
    let small = tokio::spawn({
        let service = service.clone();
        async move {
            service.oneshot(1).await.expect("served");
            since(start)
        }
    });
    assert_eq!(large.await.expect("no panic"), 10_000);
    assert_eq!(small.await.expect("no panic"), 11_000);
}

#[tokio::test(start_paused = true)]
async fn five_parallel_calls_use_what_one_limit_has() {
    let quota = built(tokens(100, 100));
    let layer = RateLimitLayer::new(quota).cost(|n: &u64| input(*n));
    let server = echo::<u64>();
    let service = layer.layer(server.clone());
    let tasks: Vec<_> = (0..5)
        .map(|_| tokio::spawn(service.clone().oneshot(60)))
        .collect();
    settle().await;
    assert_eq!(server.sent_after().len(), 1);
    for task in tasks {
        task.await.expect("no panic").expect("served");
    }
    // 60 of 100 at once; then 20 are missing, then 60 each, at 100 per minute.
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 12_000, 48_000, 84_000, 120_000]
    );
}

#[tokio::test(start_paused = true)]
async fn sleeping_does_not_credit_the_waited_time_twice() {
    let server = echo::<u32>();
    let service = RateLimitLayer::per_second(10).layer(server.clone());
    for n in 0..31 {
        service.clone().oneshot(n).await.expect("served");
    }
    assert_eq!(whole(server.sent_after()[30]), 3_000);
}

#[tokio::test(start_paused = true)]
async fn a_refund_wakes_the_next_at_once() {
    let layer = RateLimitLayer::new(built(tokens(1, 10)))
        .protocol(Holding)
        .cost(|n: &u64| input(*n));
    let service = layer.layer(echo::<u64>());
    let (_, guard) = service.clone().oneshot(10).await.expect("served");
    let start = Instant::now();
    let next = tokio::spawn(service.clone().oneshot(4));
    sleep(ms(250)).await;
    let used = tower_relay::outcome::Usage::UNKNOWN.input_tokens(6);
    tower_relay::protocol::Guard::finish(guard, tower_relay::outcome::Ending::complete(used));
    let _held = next.await.expect("no panic").expect("served");
    assert_eq!(since(start), 250);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_delays_nobody_behind_it() {
    let service = RateLimitLayer::per_second(1).layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let start = Instant::now();
    let never_polled = service.clone().call(1);
    let (second, third) = (service.clone().call(2), service.clone().call(3));
    let times = tokio::join!(async { second.await.map(|_| since(start)) }, async {
        third.await.map(|_| since(start))
    },);
    assert_eq!(times.0.expect("served"), 2_000);
    assert_eq!(times.1.expect("served"), 3_000);
    drop(never_polled);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_polled_once_and_never_again_delays_nobody_behind_it() {
    let service = RateLimitLayer::per_second(1).layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let start = Instant::now();
    let mut left_alone = std::pin::pin!(service.clone().call(1));
    assert!(poll!(left_alone.as_mut()).is_pending());
    let (second, third) = (service.clone().call(2), service.clone().call(3));
    // In tasks of their own, so that waking the first does not poll the others.
    let second = tokio::spawn(second);
    let third = tokio::spawn(third);
    second.await.expect("no panic").expect("served");
    assert_eq!(since(start), 2_000);
    third.await.expect("no panic").expect("served");
    assert_eq!(since(start), 3_000);
}

/// W1 is granted, left alone beyond the slack, and comes back when others have gone before it.
#[tokio::test(start_paused = true)]
async fn a_grant_picked_up_late_is_sent_at_its_own_new_instant() {
    let server = echo::<u32>();
    let service = RateLimitLayer::per_second(1).layer(server.clone());
    service.clone().oneshot(0).await.expect("served");
    let mut late = std::pin::pin!(service.clone().call(1));
    assert!(poll!(late.as_mut()).is_pending());
    for n in 2..4 {
        service.clone().call(n).await.expect("served");
    }
    late.await.expect("served");
    assert_envelope(&server.sent_after(), 1, 1, SLACK);
    assert_eq!(wholes(&server.sent_after()), [0, 2_000, 3_000, 4_000]);
}

#[tokio::test(start_paused = true)]
async fn a_recalled_grant_leaves_no_stale_claim_behind() {
    // Surcharges move the claimant's instant while the call behind it keeps an older one.
    let layer = RateLimitLayer::new(built(tokens(60, 1)))
        .protocol(Holding)
        .cost(|n: &u64| input(*n));
    let service = layer.layer(echo::<u64>());
    let used = |n| {
        let usage = tower_relay::outcome::Usage::UNKNOWN.input_tokens(n);
        tower_relay::outcome::Ending::complete(usage)
    };
    let (_, a) = service.clone().oneshot(1).await.expect("served");
    sleep(ms(1_000)).await;
    let (_, b) = service.clone().oneshot(1).await.expect("served");
    let start = Instant::now();
    let mut first = std::pin::pin!(service.clone().call(1));
    let mut second = std::pin::pin!(service.clone().call(1));
    assert!(poll!(first.as_mut()).is_pending());
    assert!(poll!(second.as_mut()).is_pending());
    advance(ms(1_000)).await;
    // A call that comes and goes serves the first, which nobody polls.
    drop(service.clone().call(1));
    advance(ms(200)).await;
    tower_relay::protocol::Guard::finish(a, used(3));
    advance(ms(300)).await;
    assert!(poll!(first.as_mut()).is_pending());
    advance(ms(500)).await;
    tower_relay::protocol::Guard::finish(b, used(6));
    let (first, second) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(
            async {
                let held = first.await.expect("served");
                (since(start), held)
            },
            async {
                let held = second.await.expect("served");
                (since(start), held)
            },
        )
    })
    .await
    .expect("both are served");
    assert_eq!((first.0, second.0), (8_000, 9_000));
}

#[tokio::test(start_paused = true)]
async fn transitions_are_told_outside_the_lock() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let handle = Arc::new(Mutex::new(None::<tower_relay::rate_limit::RateLimitHandle>));
    let layer = RateLimitLayer::per_second(10).on_transition({
        let (told, handle) = (Arc::clone(&told), Arc::clone(&handle));
        move |transition| {
            let handle = handle.lock().expect("no panic");
            let handle = handle.as_ref().expect("set before the first call");
            let waiting = handle.snapshot().waiting();
            handle.set_quota(&per_second(10));
            told.lock().expect("no panic").push((transition, waiting));
        }
    });
    *handle.lock().expect("no panic") = Some(layer.handle());
    let service = layer.layer(echo::<u32>());
    let calls = (0..3).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(
        *told.lock().expect("no panic"),
        [(Transition::Saturated, 1), (Transition::Cleared, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_handle_reads_right_without_traffic() {
    let quota = built(
        Quota::builder()
            .requests_per_second(10)
            .burst(Unit::REQUESTS, 5),
    );
    let service = RateLimitLayer::new(quota).layer(echo::<u32>());
    for n in 0..5 {
        service.clone().oneshot(n).await.expect("served");
    }
    let handle = service.handle();
    let mut seen = vec![handle.available(Unit::REQUESTS)];
    for _ in 0..6 {
        advance(ms(100)).await;
        seen.push(handle.available(Unit::REQUESTS));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 5].map(Some));
    assert_eq!(handle.available(Unit::TOKENS), None);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_counts_what_is_under_way_and_what_was() {
    let server = Scripted::new(|n: &u32| match n {
        0 => Reply::fail("broken"),
        n => Reply::after(ms(10), *n),
    });
    let service = RateLimitLayer::per_second(100).layer(server);
    let calls: Vec<_> = (0..3).map(|n| service.clone().call(n)).collect();
    let handle = service.handle();
    assert_eq!(
        (handle.snapshot().active(), handle.snapshot().waiting()),
        (1, 2)
    );
    futures::future::join_all(calls).await;
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.admitted(), snapshot.completed()), (3, 3));
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    assert_eq!(snapshot.success_share(), Some(2.0 / 3.0));
    assert!(snapshot.peak_active() >= 1);
    let mean = snapshot.mean_latency().expect("three ended");
    assert_eq!(mean.as_micros(), 6_666);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_picked_up_late_is_served_all_the_same() {
    let layer = RateLimitLayer::per_minute(1);
    let service = layer.layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let mut waits = std::pin::pin!(service.clone().call(1));
    assert!(poll!(waits.as_mut()).is_pending());
    // Woken to set its timer 10 ms ahead, and polled when that has passed.
    layer.handle().set_quota(&per_second(100));
    advance(ms(20)).await;
    let start = Instant::now();
    waits.await.expect("served");
    assert_eq!(since(start), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_claimant_whose_claim_comes_nearer_delays_nobody() {
    let layer = RateLimitLayer::per_minute(1);
    let service = layer.layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let never_polled = service.clone().call(1);
    let mut parked = std::pin::pin!(service.clone().call(2));
    let next = tokio::spawn(service.clone().oneshot(3));
    tokio::task::yield_now().await;
    drop(never_polled);
    assert!(poll!(parked.as_mut()).is_pending());
    let start = Instant::now();
    layer.handle().set_quota(&per_second(100));
    next.await.expect("no panic").expect("served");
    assert!(since(start) <= 25, "{} ms", since(start));
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_claimant_does_not_keep_a_freed_place_from_the_next() {
    let quota = built(Quota::builder().requests_per_second(10).max_in_flight(3));
    let server: Scripted<fn(&u32) -> Reply<u32>> = Scripted::new(|n: &u32| {
        let lasts = if *n < 10 { ms(60_000) } else { ms(0) };
        Reply::after(lasts, *n)
    });
    let service = RateLimitLayer::new(quota).layer(server);
    let busy: Vec<_> = (0..3)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    sleep(ms(250)).await;
    let mut parked = std::pin::pin!(service.clone().call(10));
    assert!(poll!(parked.as_mut()).is_pending());
    let next = tokio::spawn(service.clone().oneshot(11));
    tokio::task::yield_now().await;
    busy[0].abort();
    busy[1].abort();
    let start = Instant::now();
    next.await.expect("no panic").expect("served");
    assert!(since(start) <= 250, "{} ms", since(start));
}
