//! A caller that goes away, at any point, leaves the books right.

use std::{
    future::Future,
    sync::{Arc, mpsc},
    task::{Context, Wake, Waker},
};

use futures::poll;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    policy::{Quota, Unit},
    rate_limit::{RateLimitLayer, Transition},
    testing::{Reply, Scripted},
};

use crate::support::*;

/// One call is served; three wait; one of those goes away after half a second.
async fn served_when_one_leaves(leaver: usize) -> Vec<u64> {
    let service = RateLimitLayer::per_second(1).layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let start = Instant::now();
    let mut calls: Vec<_> = (1..4)
        .map(|n| {
            let call = service.clone().call(n);
            tokio::spawn(async move { call.await.map(|_| since(start)) })
        })
        .collect();
    settle().await;
    advance(ms(500)).await;
    calls.remove(leaver).abort();
    let mut times = Vec::new();
    for call in calls {
        times.push(call.await.expect("no panic").expect("served"));
    }
    let snapshot = service.handle().snapshot();
    assert_eq!((snapshot.admitted(), snapshot.cancelled()), (3, 1));
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    times
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_from_anywhere_in_the_queue_loses_nothing() {
    for leaver in 0..3 {
        assert_eq!(served_when_one_leaves(leaver).await, [1_000, 2_000]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_dropped_unseen_goes_to_the_next() {
    let server = echo::<u32>();
    let service = RateLimitLayer::per_second(1).layer(server.clone());
    service.clone().oneshot(0).await.expect("served");
    let first = service.clone().call(1);
    let mut first = Box::pin(first);
    let mut second = std::pin::pin!(service.clone().call(2));
    assert!(poll!(first.as_mut()).is_pending());
    assert!(poll!(second.as_mut()).is_pending());
    advance(ms(1_000)).await;
    // A third arrives and thereby serves the first, whose task then goes away.
    let third = service.clone().call(3);
    assert_eq!(service.handle().snapshot().admitted(), 2);
    drop(first);
    assert_eq!(service.handle().snapshot().admitted(), 2, "now the second");
    second.await.expect("served");
    third.await.expect("served");
    assert_eq!(wholes(&server.sent_after()), [0, 1_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_dropped_long_after_refunds_nothing_that_has_drained() {
    let server = echo::<u32>();
    let service = RateLimitLayer::per_second(1).layer(server.clone());
    service.clone().oneshot(0).await.expect("served");
    let mut left_alone = Box::pin(service.clone().call(1));
    assert!(poll!(left_alone.as_mut()).is_pending());
    service.clone().call(2).await.expect("served");
    service.clone().call(3).await.expect("served");
    drop(left_alone);
    service.clone().call(4).await.expect("served");
    assert_envelope(&server.sent_after(), 1, 1, SLACK);
}

#[tokio::test(start_paused = true)]
async fn an_admitted_call_whose_server_is_not_ready_refunds_when_dropped() {
    let (inner, mut server) = tower_test::mock::pair::<u32, u32>();
    server.allow(0);
    let quota = built(Quota::builder().requests_per_hour(1).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(inner);
    let handle = service.handle();
    let mut call = Box::pin(service.clone().call(1));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(handle.snapshot().active(), 1);
    assert_eq!(handle.available(Unit::REQUESTS), Some(0));
    drop(call);
    assert_eq!(handle.snapshot().active(), 0);
    assert_eq!(handle.available(Unit::REQUESTS), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_its_readiness_costs_nothing() {
    let (inner, mut server) = tower_test::mock::pair::<u32, u32>();
    let quota = built(Quota::builder().requests_per_hour(1).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(inner);
    server.send_error("gone");
    let error = service.clone().oneshot(1).await.expect_err("gone");
    assert_eq!(error.to_string(), "gone");
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(1));
    assert_eq!(service.handle().snapshot().active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refund_of_what_was_held_long_makes_no_burst() {
    let (inner, mut server) = tower_test::mock::pair::<u32, u32>();
    server.allow(0);
    let service = RateLimitLayer::per_second(1).layer(inner);
    let mut held = Box::pin(service.clone().call(1));
    assert!(poll!(held.as_mut()).is_pending());
    advance(ms(10_000)).await;
    let fresh = service.clone().call(2);
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(0));
    drop(held);
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(0));
    drop(fresh);
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_sent_call_that_is_dropped_stays_charged_and_frees_its_slot() {
    let server = Scripted::new(|_: &u32| Reply::<u32>::never());
    let quota = built(Quota::builder().requests_per_hour(1).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(server.clone());
    let mut call = Box::pin(service.clone().call(1));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(server.in_flight(), 1);
    drop(call);
    assert_eq!(server.in_flight(), 0);
    let handle = service.handle();
    assert_eq!(handle.available(Unit::REQUESTS), Some(0));
    let snapshot = handle.snapshot();
    assert_eq!(
        (
            snapshot.active(),
            snapshot.cancelled(),
            snapshot.completed()
        ),
        (0, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_releases_everything() {
    let server = Scripted::new(|_: &u32| Reply::<u32>::panic());
    let quota = built(
        Quota::builder()
            .requests_per_hour(2)
            .burst(Unit::REQUESTS, 2)
            .max_in_flight(1),
    );
    let service = RateLimitLayer::new(quota).layer(server);
    let first = tokio::spawn(service.clone().oneshot(1));
    let second = tokio::spawn(service.clone().oneshot(2));
    assert!(first.await.expect_err("it panics").is_panic());
    assert!(second.await.expect_err("it panics").is_panic());
    let handle = service.handle();
    assert_eq!(handle.snapshot().active(), 0);
    assert_eq!(handle.available(Unit::REQUESTS), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_itself_releases_everything() {
    let server = Scripted::new(|_: &u32| -> Reply<u32> { panic!("in call") });
    let quota = built(Quota::builder().requests_per_hour(1).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(server);
    let task = tokio::spawn(service.clone().oneshot(1));
    assert!(task.await.expect_err("it panics").is_panic());
    assert_eq!(service.handle().snapshot().active(), 0);
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(0));
}

/// A waker that keeps a call alive, as a task that only its waker owns does.
struct Owner<F>(#[allow(dead_code, reason = "owned, to be dropped")] F);

impl<F: Send + Sync + 'static> Wake for Owner<F> {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_is_the_last_owner_of_another_call_deadlocks_nothing() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let service = RateLimitLayer::new(built(Quota::builder().max_in_flight(1)));
        let service = service.layer(echo::<u32>());
        let _holds_the_slot = service.clone().call(0);
        for is_polled_by_another in [true, false] {
            let mut call = Box::pin(service.clone().call(1));
            let owner = Waker::from(Arc::new(Owner(service.clone().call(2))));
            let polled = call.as_mut().poll(&mut Context::from_waker(&owner));
            assert!(polled.is_pending());
            drop(owner);
            if is_polled_by_another {
                let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
            }
            drop(call);
            assert_eq!(service.handle().snapshot().waiting(), 0);
        }
        done.send(()).expect("the test waits for it");
    });
    let waited = is_done.recv_timeout(ms(900));
    assert!(waited.is_ok(), "it dropped a waker inside its lock");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_loses_neither_grant_nor_process() {
    let quota = built(Quota::builder().requests_per_second(10).max_in_flight(1));
    let layer = RateLimitLayer::new(quota).on_transition(|transition| {
        assert_ne!(transition, Transition::Cleared, "the callback is broken");
    });
    let service = layer.layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let waits = tokio::spawn(service.clone().oneshot(1));
    waits
        .await
        .expect_err("the callback's panic is the caller's");
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    let next = service.oneshot(2).await;
    next.expect("what was granted is there again");
}
