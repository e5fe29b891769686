//! Who waits, for how long, and who is served first.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    error::{BoxError, Rejected},
    policy::Shares,
};

use crate::support::*;

fn refusal(error: &BoxError) -> &Rejected {
    Rejected::find(&**error).expect("the layer refused")
}

#[tokio::test(start_paused = true)]
async fn the_limit_in_flight_is_reached_and_never_exceeded() {
    let server = slow(100);
    let service = AdaptiveConcurrencyLayer::new(fixed(3)).layer(server.clone());
    let calls = (0..10).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(server.peak_in_flight(), 3);
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 0, 0, 100, 100, 100, 200, 200, 200, 300]
    );
}

#[tokio::test(start_paused = true)]
async fn first_come_is_first_served() {
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(slow(10));
    let calls: Vec<_> = (0..50).map(|n| service.clone().call(n)).collect();
    let start = Instant::now();
    // Polled in any order but that of arrival.
    let calls = calls
        .into_iter()
        .enumerate()
        .rev()
        .map(|(n, call)| async move {
            call.await.expect("served");
            (n, since(start))
        });
    for (n, at) in futures::future::join_all(calls).await {
        assert_eq!(at, 10 * (n as u64 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_is_refused_at_once() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1)).max_waiting(2);
    let service = layer.layer(slow(100));
    let calls: Vec<_> = (0..3)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    settle().await;
    let start = Instant::now();
    let error = service.clone().oneshot(9).await.expect_err("it is full");
    assert_eq!(since(start), 0);
    assert!(matches!(refusal(&error), Rejected::QueueFull(_)), "{error}");
    assert!(
        error.to_string().starts_with("adaptive concurrency"),
        "{error}"
    );
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(layer.handle().snapshot().refused(), 1);
    service.oneshot(9).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_wait_longer_is_refused_then() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1)).max_wait(ms(150));
    let server = slow(100);
    let service = layer.layer(server.clone());
    let start = Instant::now();
    let calls = (0..4).map(|n| service.clone().oneshot(n));
    let ends = futures::future::join_all(calls).await;
    let served: Vec<_> = ends.iter().map(Result::is_ok).collect();
    assert_eq!(served, [true, true, false, false]);
    assert_eq!(since(start), 200);
    for error in ends.iter().filter_map(|end| end.as_ref().err()) {
        assert!(matches!(refusal(error), Rejected::TooLate(_)), "{error}");
    }
    assert_eq!(server.sent_after().len(), 2);
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_one_that_has_passed_begins_none() {
    let start = Instant::now();
    let layer = AdaptiveConcurrencyLayer::new(fixed(1))
        .deadline(move |n: &u32| (*n > 0).then(|| start + ms(u64::from(*n))));
    let service = layer.layer(slow(100));
    let holds = tokio::spawn(service.clone().call(0));
    settle().await;
    let error = service.clone().oneshot(50).await.expect_err("too late");
    assert_eq!(since(start), 50);
    assert!(matches!(refusal(&error), Rejected::TooLate(_)), "{error}");
    let error = service.clone().oneshot(20).await.expect_err("passed");
    assert_eq!(since(start), 50);
    assert!(matches!(refusal(&error), Rejected::TooLate(_)), "{error}");
    service.clone().oneshot(150).await.expect("in time");
    assert_eq!(since(start), 200);
    holds.await.expect("no panic").expect("served");
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_larger_limit_lets_waiters_in_at_once() {
    let server = slow(1_000);
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(server.clone());
    let calls: Vec<_> = (0..4)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(300)).await;
    service.handle().set_algorithm(fixed(3));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(wholes(&server.sent_after()), [0, 300, 300, 1_000]);
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_takes_effect_while_calls_wait() {
    let server = slow(1_000);
    let service = AdaptiveConcurrencyLayer::new(fixed(4)).layer(server.clone());
    let calls: Vec<_> = (0..8)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(300)).await;
    service.handle().set_algorithm(fixed(1));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 0, 0, 0, 1_000, 2_000, 3_000, 4_000]
    );
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn classes_share_the_places_by_weight() {
    let shares = Shares::builder()
        .class("hurry", 1)
        .class("batch", 3)
        .build();
    let layer = AdaptiveConcurrencyLayer::new(fixed(2)).shares(shares.expect("valid"));
    let layer = layer.class(|n: &u32| Some(["hurry", "batch"][*n as usize % 2]));
    let handle = layer.handle();
    let service = layer.layer(slow(1_000));
    let calls = (0..200).map(|n| tokio::spawn(service.clone().oneshot(n)));
    let calls: Vec<_> = calls.collect();
    sleep(ms(39_500)).await;
    let admitted: Vec<_> = handle
        .shares()
        .iter()
        .map(|share| share.admitted())
        .collect();
    // The first two, one of each, found nobody waiting.
    assert_eq!(admitted, [0, 21, 59]);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}
