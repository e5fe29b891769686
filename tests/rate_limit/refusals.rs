//! Who is refused, when, and what the refusal says.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::Rejected,
    outcome::{Ending, Usage},
    policy::{Cost, Quota, Unit},
    protocol::Guard as _,
    rate_limit::{RateLimitLayer, Transition},
    testing::{Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn without_a_queue_a_refusal_tells_the_real_remainder() {
    let service = RateLimitLayer::per_second(2)
        .max_waiting(0)
        .layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    for (wait, remainder) in [(0, 500), (100, 400), (399, 1)] {
        advance(ms(wait)).await;
        assert_eq!(retry_after(service.clone().oneshot(1).await), remainder);
    }
    advance(ms(1)).await;
    service.clone().oneshot(1).await.expect("served");
    assert_eq!(service.handle().snapshot().refused(), 3);
}

#[tokio::test(start_paused = true)]
async fn coming_back_when_told_succeeds() {
    let layer = RateLimitLayer::new(built(tokens(7, 7))).max_waiting(0);
    let service = layer.cost(|n: &u64| input(*n)).layer(echo::<u64>());
    service.clone().oneshot(7).await.expect("served");
    let error = service.clone().oneshot(3).await.expect_err("spent");
    let wait = rejected(&error).retry_after().expect("it says when");
    sleep(wait).await;
    service.clone().oneshot(3).await.expect("served");
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_says_how_long_it_is() {
    let service = RateLimitLayer::per_second(1)
        .max_waiting(3)
        .layer(echo::<u32>());
    let calls: Vec<_> = (0..4).map(|n| service.clone().call(n)).collect();
    let error = service.clone().oneshot(4).await.expect_err("full");
    let Rejected::QueueFull(full) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!(full.waiting(), 3);
    assert_eq!(whole(full.retry_after()), 4_000);
    assert_eq!(
        error.to_string(),
        "rate limit refused: 3 calls wait already, admission in 4s"
    );
    futures::future::try_join_all(calls).await.expect("served");
    service.clone().oneshot(5).await.expect("there is room");
}

#[tokio::test(start_paused = true)]
async fn a_queue_whose_calls_are_due_is_not_full() {
    let service = RateLimitLayer::per_second(1)
        .max_waiting(1)
        .layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    let waiting = service.clone().call(1);
    // The runtime stalls: the timer of the one that waits has not been seen to.
    advance(ms(5_000)).await;
    let next = service.clone().call(2);
    let start = Instant::now();
    waiting.await.expect("served");
    next.await.expect("the queue had room for it");
    // A second after the first, whose late grant is replayed by the slack.
    assert_eq!(since(start), 995);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_in_time_is_refused_at_once() {
    let service = RateLimitLayer::per_second(1)
        .max_wait(ms(2_000))
        .layer(echo::<u32>());
    let calls: Vec<_> = (0..3).map(|n| service.clone().call(n)).collect();
    let start = Instant::now();
    advance(ms(250)).await;
    let error = service.clone().oneshot(4).await.expect_err("too late");
    let Rejected::TooLate(late) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!(
        (late.bound(), whole(late.retry_after())),
        (ms(2_000), 2_750)
    );
    assert_eq!(
        error.to_string(),
        "rate limit refused: admission in 2.75s, later than the 2s this call can wait"
    );
    assert_eq!(since(start), 250);
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(
        since(start),
        2_000,
        "waiting just as long as allowed is fine"
    );
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_deadline_bounds_the_wait() {
    let start = Instant::now();
    let layer = RateLimitLayer::per_second(1)
        .max_wait(ms(60_000))
        .deadline(move |n: &u64| Some(start + ms(*n)));
    let service = layer.layer(echo::<u64>());
    let first = service.clone().call(0);
    let in_time = service.clone().call(1_000);
    assert_eq!(retry_after(service.clone().oneshot(1_999).await), 2_000);
    let also_in_time = service.clone().call(2_000);
    assert_eq!(since(start), 0);
    for call in [first, in_time, also_in_time] {
        call.await.expect("served");
    }
    assert_eq!(since(start), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_cost_above_the_capacity_fails_at_once_with_the_numbers() {
    let service = RateLimitLayer::new(built(tokens(1_000, 500)))
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    let error = service.clone().oneshot(501).await.expect_err("too large");
    let Rejected::CostTooLarge(large) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!(
        (large.unit(), large.cost(), large.capacity()),
        (Unit::INPUT_TOKENS, 501, 500)
    );
    assert_eq!(rejected(&error).retry_after(), None);
    assert_eq!(
        error.to_string(),
        "the call costs 501 input tokens, but the quota never admits more than 500 at once"
    );
    service.clone().oneshot(500).await.expect("it just fits");
    let snapshot = service.handle().snapshot();
    assert_eq!((snapshot.refused(), snapshot.admitted()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_paced_quota_admits_whatever_its_period_can_hold() {
    let quota = built(Quota::builder().input_tokens_per_minute(600));
    let service = RateLimitLayer::new(quota)
        .cost(|n: &u64| input(*n))
        .layer(echo::<u64>());
    let start = Instant::now();
    service.clone().oneshot(600).await.expect("served");
    service.clone().oneshot(600).await.expect("served");
    assert_eq!(since(start), 60_000);
    let error = service.clone().oneshot(601).await.expect_err("too large");
    assert!(matches!(rejected(&error), Rejected::CostTooLarge(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_grows_after_arrival_ends_at_its_bound() {
    let service = RateLimitLayer::new(built(tokens(60, 1)))
        .max_wait(ms(3_000))
        .protocol(Holding)
        .cost(|cost: &Cost| *cost)
        .layer(echo::<Cost>());
    let (_, guard) = service.clone().oneshot(input(1)).await.expect("served");
    let start = Instant::now();
    let calls: Vec<_> = (0..3)
        .map(|_| tokio::spawn(service.clone().oneshot(input(1))))
        .collect();
    settle().await;
    guard.finish(Ending::complete(Usage::UNKNOWN.input_tokens(11)));
    for call in calls {
        let error = call.await.expect("no panic").expect_err("too late");
        // A call that comes back finds nobody before it: debt of 11, drained for 3 s.
        assert_eq!(whole(rejected(&error).retry_after().expect("known")), 8_000);
        assert_eq!(since(start), 3_000);
    }
    assert_eq!(service.handle().snapshot().refused(), 3);
    assert_eq!(service.handle().snapshot().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_slot_ends_at_its_bound_with_the_mean_latency_as_hint() {
    let server = Scripted::new(|n: &u64| Reply::after(ms(*n), ()));
    let quota = built(Quota::builder().max_in_flight(1));
    let service = RateLimitLayer::new(quota)
        .max_wait(ms(100))
        .layer(server.clone());
    service.clone().oneshot(300).await.expect("served");
    let running = tokio::spawn(service.clone().oneshot(500));
    settle().await;
    let start = Instant::now();
    assert_eq!(retry_after(service.clone().oneshot(1).await), 300);
    assert_eq!(since(start), 100);
    running.await.expect("no panic").expect("served");
    assert_eq!(server.sent_after().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_want_of_a_slot_is_never_zero() {
    let server = Scripted::new(|_: &u32| Reply::<()>::never());
    let quota = built(Quota::builder().max_in_flight(1));
    let service = RateLimitLayer::new(quota).max_waiting(0).layer(server);
    let mut running = Box::pin(service.clone().call(0));
    assert!(futures::poll!(running.as_mut()).is_pending());
    let wait = retry_after(service.clone().oneshot(1).await);
    assert_eq!(wait, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_makes_no_transition() {
    let told = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&told);
    let layer = RateLimitLayer::per_second(1)
        .max_waiting(0)
        .on_transition(move |_: Transition| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    let service = layer.layer(echo::<u32>());
    service.clone().oneshot(0).await.expect("served");
    service.clone().oneshot(0).await.expect_err("spent");
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_far_beyond_any_timer_is_survived() {
    let year = Duration::from_secs(365 * 24 * 3_600);
    let quota = built(Quota::builder().rate(Unit::REQUESTS, 1, year));
    let service = RateLimitLayer::new(quota).layer(echo::<u32>());
    let start = Instant::now();
    service.clone().oneshot(0).await.expect("served");
    let call = tokio::spawn(Counted::new(service.clone().oneshot(1)));
    let (answer, polls) = call.await.expect("no panic");
    answer.expect("served");
    assert_eq!(start.elapsed().as_secs(), year.as_secs());
    assert!(polls <= 30, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_is_refused_even_if_nothing_is_spent() {
    let over = Instant::now();
    advance(ms(1)).await;
    let server = echo::<u32>();
    let layer = RateLimitLayer::per_second(1).deadline(move |_: &u32| Some(over));
    let error = layer.layer(server.clone()).oneshot(1).await;
    let error = error.expect_err("nobody waits for the answer");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::TooLate(_))
    ));
    assert!(server.sent_after().is_empty());
    assert_eq!(layer.handle().snapshot().refused(), 1);
}
