//! What a call is charged once its end is known.

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    outcome::{Effect, Ending, Outcome, Usage, Verdict},
    policy::{Cost, Quota, Unit},
    protocol::Guard as _,
    rate_limit::{Permit, RateLimitLayer},
    testing::{Reply, Scripted},
};

use crate::support::*;

/// Sends one call that reserves 100 input and 50 output tokens of 1,000 and 500, ends it, and
/// reads what is left of both and of their sum, out of 1,500.
async fn left_after(end: impl FnOnce(Permit)) -> [i64; 3] {
    let quota = built(
        Quota::builder()
            .input_tokens_per_minute(1_000)
            .output_tokens_per_minute(500)
            .tokens_per_minute(1_500)
            .burst(Unit::INPUT_TOKENS, 1_000)
            .burst(Unit::OUTPUT_TOKENS, 500)
            .burst(Unit::TOKENS, 1_500),
    );
    let service = RateLimitLayer::new(quota)
        .protocol(Holding)
        .cost(|cost: &Cost| *cost)
        .layer(echo::<Cost>());
    let cost = input(100).output_tokens(50);
    let (_, guard) = service.clone().oneshot(cost).await.expect("served");
    assert_eq!(service.handle().snapshot().active(), 1);
    end(guard);
    assert_eq!(service.handle().snapshot().active(), 0);
    [Unit::INPUT_TOKENS, Unit::OUTPUT_TOKENS, Unit::TOKENS]
        .map(|unit| service.handle().available(unit).expect("metered"))
}

const KNOWN: Usage = Usage::UNKNOWN;

#[tokio::test(start_paused = true)]
async fn exact_usage_refunds_and_surcharges() {
    let usage = KNOWN.input_tokens(30).output_tokens(70);
    let left = left_after(|guard| guard.finish(Ending::complete(usage))).await;
    assert_eq!(left, [970, 430, 1_400]);
}

#[tokio::test(start_paused = true)]
async fn cached_input_that_is_not_reported_is_not_charged() {
    let usage = KNOWN.input_tokens(0).output_tokens(50);
    let left = left_after(|guard| guard.finish(Ending::complete(usage))).await;
    assert_eq!(left, [1_000, 450, 1_450]);
}

#[tokio::test(start_paused = true)]
async fn what_a_complete_answer_does_not_tell_stays_as_reserved() {
    let left = left_after(|guard| guard.finish(Ending::complete(KNOWN.input_tokens(40)))).await;
    assert_eq!(left, [960, 450, 1_410]);
    let left = left_after(|guard| guard.finish(Ending::complete(KNOWN))).await;
    assert_eq!(left, [900, 450, 1_350]);
}

#[tokio::test(start_paused = true)]
async fn a_partial_answer_never_refunds() {
    let usage = KNOWN.input_tokens(30).output_tokens(10);
    let left = left_after(|guard| guard.finish(Ending::partial(usage))).await;
    assert_eq!(left, [900, 450, 1_350]);
}

#[tokio::test(start_paused = true)]
async fn a_partial_answer_adds_what_was_seen_above_the_reservation() {
    let usage = KNOWN.input_tokens(30).output_tokens(80);
    let left = left_after(|guard| guard.finish(Ending::partial(usage))).await;
    assert_eq!(left, [900, 420, 1_320]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_or_unknown_answer_keeps_the_reservation() {
    assert_eq!(left_after(drop).await, [900, 450, 1_350]);
    let left = left_after(|guard| guard.finish(Ending::UNKNOWN)).await;
    assert_eq!(left, [900, 450, 1_350]);
}

#[tokio::test(start_paused = true)]
async fn overspend_is_carried_as_debt() {
    let service = RateLimitLayer::new(built(tokens(60, 10)))
        .protocol(Holding)
        .cost(|cost: &Cost| *cost)
        .layer(echo::<Cost>());
    let (_, guard) = service.clone().oneshot(input(1)).await.expect("served");
    guard.finish(Ending::complete(KNOWN.input_tokens(40)));
    assert_eq!(service.handle().available(Unit::INPUT_TOKENS), Some(-30));
    let start = Instant::now();
    // Even a call that takes nothing from the dimension in debt waits for it.
    let free = service.clone().oneshot(Cost::REQUEST);
    free.await.expect("served").1.finish(Ending::UNKNOWN);
    assert_eq!(since(start), 30_000);
    let next = service.clone().oneshot(input(1));
    next.await.expect("served").1.finish(Ending::UNKNOWN);
    assert_eq!(since(start), 31_000);
}

#[tokio::test(start_paused = true)]
async fn a_surcharge_delays_those_who_wait() {
    let service = RateLimitLayer::new(built(tokens(60, 1)))
        .protocol(Holding)
        .cost(|cost: &Cost| *cost)
        .layer(echo::<Cost>());
    let (_, guard) = service.clone().oneshot(input(1)).await.expect("served");
    let start = Instant::now();
    let waiting = tokio::spawn(service.clone().oneshot(input(1)));
    sleep(ms(500)).await;
    guard.finish(Ending::complete(KNOWN.input_tokens(5)));
    let _held = waiting.await.expect("no panic").expect("served");
    assert_eq!(since(start), 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_failure_inside_the_answer_is_no_success() {
    let service = RateLimitLayer::new(built(tokens(60, 10)))
        .protocol(Holding)
        .layer(echo::<u32>());
    let (_, guard) = service.clone().oneshot(1).await.expect("served");
    guard.finish(Ending::complete(KNOWN).failed(Outcome::new(Verdict::Overloaded)));
    let (_, guard) = service.clone().oneshot(1).await.expect("served");
    drop(guard);
    assert_eq!(service.handle().snapshot().success_share(), Some(0.5));
}

type Failing = Scripted<fn(&u32) -> Reply<u32>>;

fn hourly() -> Quota {
    built(Quota::builder().requests_per_hour(1).max_in_flight(1))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_from_inside_refunds_everything() {
    let inner = RateLimitLayer::per_hour(1).max_waiting(0);
    let outer = RateLimitLayer::new(built(
        Quota::builder()
            .requests_per_hour(5)
            .burst(Unit::REQUESTS, 5)
            .max_in_flight(1),
    ));
    let service = outer.layer(inner.layer(echo::<u32>()));
    service.clone().oneshot(1).await.expect("served");
    for _ in 0..3 {
        let error = service.clone().oneshot(2).await.expect_err("spent");
        assert!(matches!(rejected(&error), Rejected::QueueFull(_)));
    }
    let handle = service.handle();
    assert_eq!(handle.available(Unit::REQUESTS), Some(4));
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.completed(), snapshot.active()), (1, 0));
    assert_eq!(snapshot.success_share(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_stays_charged() {
    let server: Failing = Scripted::new(|_| Reply::fail("reset by peer"));
    let service = RateLimitLayer::new(hourly()).layer(server);
    service.clone().oneshot(1).await.expect_err("it fails");
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(0));
    assert_eq!(service.handle().snapshot().success_share(), Some(0.0));
    assert_eq!(service.handle().snapshot().active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_reached_the_server_refunds_fully() {
    let unsent = |result: Result<&u32, &BoxError>| match result {
        Ok(_) => Outcome::SUCCESS,
        Err(_) => Outcome::new(Verdict::ServerFault).with_effect(Effect::None),
    };
    let server: Failing = Scripted::new(|_| Reply::fail("connection refused"));
    let service = RateLimitLayer::new(hourly()).classify(unsent).layer(server);
    service.clone().oneshot(1).await.expect_err("it fails");
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(1));
    assert_eq!(service.handle().snapshot().success_share(), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_stays_charged() {
    let server: Failing = Scripted::new(|_| Reply::fail("429"));
    let throttled = |result: Result<&u32, &BoxError>| match result {
        Ok(_) => Outcome::SUCCESS,
        Err(_) => Outcome::new(Verdict::Throttled),
    };
    let layer = RateLimitLayer::new(hourly()).classify(throttled);
    let service = layer.layer(server);
    service.clone().oneshot(1).await.expect_err("it fails");
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(0));
}

#[tokio::test(start_paused = true)]
async fn any_of_three_own_units_can_be_metered() {
    const IMAGES: Unit = Unit::custom(0, "images");
    let quota = built(Quota::builder().rate(IMAGES, 2, ms(1_000)).burst(IMAGES, 4));
    let server = echo::<Cost>();
    let layer = RateLimitLayer::new(quota).cost(|cost: &Cost| *cost);
    let service = layer.layer(server.clone());
    for _ in 0..3 {
        let cost = Cost::REQUEST.of(IMAGES, 3);
        service.clone().oneshot(cost).await.expect("served");
    }
    assert_eq!(wholes(&server.sent_after()), [0, 1_000, 2_500]);
}
