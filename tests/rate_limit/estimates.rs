//! What a call reserves where answers teach what to expect.

use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::{CallSize, Cost, Estimator, Quota, Unit},
    protocol::{Guard, Protocol},
    rate_limit::{Permit, RateLimit, RateLimitLayer},
};

use crate::support::*;

/// Requests are their sizes, and the guard is the test's to end.
#[derive(Clone, Copy, Debug)]
struct Sizing;

impl Protocol<CallSize, CallSize> for Sizing {
    type Response<G: Guard> = G;

    fn hold<G: Guard>(&self, _: CallSize, guard: G) -> G {
        guard
    }

    fn cost(&self, size: &CallSize) -> Cost {
        size.cost()
    }

    fn size(&self, size: &CallSize) -> Option<CallSize> {
        Some(*size)
    }

    fn model<'a>(&self, _: &'a CallSize) -> Option<&'a str> {
        Some("m")
    }
}

const BURST: u64 = 10_000;
const KNOWN: Usage = Usage::UNKNOWN;

fn size() -> CallSize {
    CallSize::new(100, 4_096).as_produced()
}

fn quota() -> Quota {
    built(
        Quota::builder()
            .input_tokens_per_minute(60)
            .output_tokens_per_minute(60)
            .burst(Unit::INPUT_TOKENS, BURST)
            .burst(Unit::OUTPUT_TOKENS, BURST),
    )
}

type Limited = RateLimit<tower_relay::testing::Scripted<Echo>, Sizing>;
type Echo = fn(&CallSize) -> tower_relay::testing::Reply<CallSize>;

fn limited() -> Limited {
    let layer = RateLimitLayer::new(quota()).protocol(Sizing);
    layer.estimate(Estimator::new()).layer(echo())
}

async fn send(service: &Limited, size: CallSize) -> Permit {
    let call = service.clone().oneshot(size);
    call.await.expect("there is room")
}

/// What is left of input and output.
fn left(service: &Limited) -> [i64; 2] {
    let handle = service.handle();
    [Unit::INPUT_TOKENS, Unit::OUTPUT_TOKENS].map(|unit| handle.available(unit).expect("metered"))
}

/// What a call of this size reserves of both; it is gone without a trace in the books.
async fn reserved(service: &Limited, size: CallSize) -> [i64; 2] {
    let before = left(service);
    let permit = send(service, size).await;
    let after = left(service);
    permit.finish(Ending::partial(KNOWN));
    tokio::time::sleep(std::time::Duration::from_secs(20_000)).await;
    [before[0] - after[0], before[1] - after[1]]
}

async fn teach(service: &Limited, usage: Usage, answers: usize) {
    for _ in 0..answers {
        send(service, size()).await.finish(Ending::complete(usage));
        tokio::time::sleep(std::time::Duration::from_secs(20_000)).await;
    }
}

fn answers(service: &Limited) -> u64 {
    let learned = service.handle().learned(Some("m"));
    learned.expect("it estimates").answers()
}

#[tokio::test(start_paused = true)]
async fn the_first_call_reserves_its_limit_and_later_ones_what_answers_were() {
    let service = limited();
    assert_eq!(reserved(&service, size()).await, [100, 4_096]);
    teach(&service, KNOWN.input_tokens(250).output_tokens(15), 19).await;
    assert_eq!(reserved(&service, size()).await, [250, 15]);
    let larger = CallSize::new(110, 7).as_produced();
    assert_eq!(reserved(&service, larger).await, [275, 7], "its own limit");
    let learned = service.handle().learned(Some("m")).expect("it estimates");
    assert_eq!((learned.answers(), learned.kinds()), (19, 1));
    assert_eq!(learned.input_ratio(), Some(2.5));
}

#[tokio::test(start_paused = true)]
async fn what_was_reserved_is_what_is_settled() {
    let service = limited();
    teach(&service, KNOWN.input_tokens(250).output_tokens(15), 19).await;
    let burst = BURST as i64;
    let permit = send(&service, size()).await;
    assert_eq!(left(&service), [burst - 250, burst - 15]);
    // In the same instant, so that nothing flows in.
    permit.finish(Ending::complete(KNOWN.input_tokens(300).output_tokens(90)));
    assert_eq!(left(&service), [burst - 300, burst - 90]);
    let permit = send(&service, size()).await;
    permit.finish(Ending::complete(KNOWN.input_tokens(0).output_tokens(0)));
    assert_eq!(left(&service), [burst - 300, burst - 90]);
    drop(service.clone().oneshot(size()));
    assert_eq!(left(&service), [burst - 300, burst - 90], "never sent");
}

#[tokio::test(start_paused = true)]
async fn only_complete_answers_of_successes_teach() {
    let service = limited();
    let usage = KNOWN.input_tokens(900).output_tokens(9);
    send(&service, size()).await.finish(Ending::partial(usage));
    drop(send(&service, size()).await);
    let failure = Outcome::new(Verdict::Overloaded);
    let failed = Ending::complete(usage).failed(failure);
    send(&service, size()).await.finish(failed);
    let mut unsent = service.clone();
    drop(unsent.ready().await.expect("always").call(size()));
    send(&service, size()).await.finish(Ending::complete(KNOWN));
    assert_eq!(answers(&service), 0);
    assert_eq!(
        service
            .handle()
            .learned(Some("m"))
            .expect("it is on")
            .input_ratio(),
        None
    );

    send(&service, CallSize::new(100, 50))
        .await
        .finish(Ending::complete(usage));
    assert_eq!(answers(&service), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_leaves_the_reservation_as_it_was_teaches_too() {
    let service = limited();
    let fixed = CallSize::new(100, 50).larger();
    let before = left(&service);
    send(&service, fixed)
        .await
        .finish(Ending::complete(KNOWN.prompt_tokens(300)));
    assert_eq!(left(&service), [before[0] - 100, before[1]]);
    assert_eq!(answers(&service), 1);
    assert_eq!(reserved(&service, fixed).await, [300, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_guess_is_cut_to_what_fits_and_a_request_that_does_not_fails_with_the_numbers() {
    let service = limited();
    let long = CallSize::new(100, 50_000).as_produced();
    assert_eq!(reserved(&service, long).await, [100, BURST as i64]);
    teach(&service, KNOWN.input_tokens(1_000).output_tokens(15), 19).await;
    // Ten times as much as stated is expected, and only what is stated is certain.
    let large = CallSize::new(2_000, 10).as_produced();
    assert_eq!(reserved(&service, large).await, [BURST as i64, 10]);

    for size in [
        CallSize::new(BURST + 1, 10).as_produced(),
        CallSize::new(10, BURST + 1),
    ] {
        let error: BoxError = service.clone().oneshot(size).await.expect_err("too large");
        let Some(Rejected::CostTooLarge(why)) = Rejected::find(&*error) else {
            panic!("{error}");
        };
        assert!(why.cost() > BURST && why.capacity() == BURST, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_estimator_a_call_costs_what_it_says() {
    let service = RateLimitLayer::new(quota()).protocol(Sizing).layer(echo());
    teach(&service, KNOWN.input_tokens(250).output_tokens(15), 30).await;
    assert_eq!(reserved(&service, size()).await, [100, 4_096]);
    assert_eq!(service.handle().learned(Some("m")), None);
}

#[tokio::test(start_paused = true)]
async fn another_quota_keeps_what_was_learned_and_all_clones_share_it() {
    let service = limited();
    teach(
        &service.clone(),
        KNOWN.input_tokens(250).output_tokens(15),
        19,
    )
    .await;
    service.handle().set_quota(&quota());
    assert_eq!(reserved(&service.clone(), size()).await, [250, 15]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_keep_what_they_wanted_when_they_came() {
    let service = limited();
    let all = CallSize::new(100, BURST);
    let first = send(&service, all).await;
    let waiting = tokio::spawn(service.clone().oneshot(size()));
    settle().await;
    assert_eq!(service.handle().snapshot().waiting(), 1);
    first.finish(Ending::complete(KNOWN.prompt_tokens(200).output_tokens(0)));
    let permit = waiting.await.expect("no panic").expect("served");
    assert_eq!(left(&service), [9_800, BURST as i64 - 4_096]);
    permit.finish(Ending::complete(KNOWN.input_tokens(200).output_tokens(1)));
    assert_eq!(answers(&service), 2);
}
