//! What is sent again, and when.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_relay::{
    error::BoxError,
    outcome::{Hint, Idempotency, Outcome, Verdict},
    policy::{Reason, RetryBudget},
    protocol::{Guard, Protocol},
    retry::RetryLayer,
};

use super::world::*;

// === which ===

/// Calls are idempotent, and it is counted how often that is asked.
#[derive(Clone, Copy)]
struct Asked<'a>(&'a AtomicU32);

impl Protocol<Ask, Answer> for Asked<'_> {
    type Response<G: Guard> = Answer;

    fn hold<G: Guard>(&self, answer: Answer, _: G) -> Answer {
        answer
    }

    fn idempotency(&self, _: &Ask) -> Idempotency {
        self.0.fetch_add(1, Relaxed);
        Idempotency::Idempotent
    }

    fn classify(&self, result: Result<&Answer, &BoxError>) -> Outcome {
        Api.classify(result)
    }
}

#[tokio::test(start_paused = true)]
async fn only_after_a_failure_it_is_asked_whether_the_request_may_be_sent_twice() {
    let asked = AtomicU32::new(0);
    let retry = layer(exact()).protocol(Asked(&asked));
    let answer = retry.layer(Server::default()).oneshot(Ask::default()).await;
    assert!(answer.expect("it was answered").outcome.is_success());
    assert_eq!(asked.load(Relaxed), 0);

    // Both may have had an effect, so that it matters.
    let server = Server::new([Reply::Fail(1), Reply::Fail(2)]);
    let answer = retry.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.expect("it was answered").outcome.is_success());
    assert_eq!((server.calls(), asked.load(Relaxed)), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn where_no_copy_is_kept_the_reason_still_knows_whether_it_could_be_sent_twice() {
    let once = layer(exact().attempts(1));
    let failing = || Server::new([Reply::Fail(1)]);
    let result = once.layer(failing()).oneshot(Ask::default()).await;
    assert!(result.is_err());
    assert_eq!(once.handle().snapshot().given_up(Reason::NotIdempotent), 1);

    let asked = AtomicU32::new(0);
    let once = layer(exact().attempts(1)).protocol(Asked(&asked));
    let result = once.layer(failing()).oneshot(Ask::default()).await;
    assert!(result.is_err());
    assert_eq!(once.handle().snapshot().given_up(Reason::AttemptsSpent), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failure_is_returned_as_it_was() {
    // An error that may have had an effect, and a request that nobody calls idempotent.
    let server = Server::new([Reply::Fail(7)]);
    let error = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    let error = error.expect_err("it failed");
    assert_eq!(error.downcast_ref::<Broken>().map(|error| error.0), Some(7));
    assert_eq!(server.calls(), 1);

    let server = Server::new([say(Verdict::CallerFault)]);
    let answer = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    let answer = answer.unwrap();
    assert_eq!(answer.outcome.verdict(), Verdict::CallerFault);
    assert_eq!(answer.annotated, None);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_sent_again_when_the_request_is_idempotent() {
    let server = Server::new([Reply::Fail(1), Reply::Fail(2)]);
    let layer = layer(exact()).assume_idempotent();
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.waits(), [100 * MS, 200 * MS]);
}

#[tokio::test(start_paused = true)]
async fn with_an_empty_budget_the_failure_is_returned_as_it_was() {
    let server = Server::new(repeat(9, || hinted(Verdict::Throttled, SECOND)));
    let layer = layer(exact()).budget(RetryBudget::new(5, 5, 5).unwrap());
    let answer = layer
        .layer(server.clone())
        .oneshot(Ask::default())
        .await
        .unwrap();
    assert_eq!(answer.outcome.verdict(), Verdict::Throttled);
    assert_eq!(server.waits(), [SECOND]);
    assert_eq!(layer.handle().snapshot().given_up(Reason::BudgetEmpty), 1);
}

// === when ===

#[tokio::test(start_paused = true)]
async fn a_hint_is_obeyed_and_neither_multiplied_nor_undercut() {
    let server = Server::new(repeat(4, || hinted(Verdict::Throttled, 20 * SECOND)));
    let layer = RetryLayer::default().protocol(Api);
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.calls(), 5);
    // A timer rounds up to the next millisecond.
    for wait in server.waits() {
        assert!(20 * SECOND <= wait && wait <= 22 * SECOND + MS, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_deadline_fails_now_with_the_hint_attached() {
    let start = Instant::now();
    let server = Server::new([hinted(Verdict::Throttled, 11 * SECOND)]);
    let layer = layer(exact());
    let ask = Ask::within(10 * SECOND);
    let answer = layer.layer(server.clone()).oneshot(ask).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let attached = answer.annotated.expect("it is annotated").hint();
    assert_eq!(attached, Some(Hint::After(11 * SECOND)));
    let snapshot = layer.handle().snapshot();
    assert_eq!(snapshot.given_up(Reason::Deadline), 1);
    assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
}

#[tokio::test(start_paused = true)]
async fn an_absurd_hint_fails_now_with_the_hint_attached() {
    let absurd = Duration::from_secs(14 * 24 * 3600);
    for hint in [absurd, Duration::MAX, 121 * SECOND] {
        let start = Instant::now();
        let server = Server::new([hinted(Verdict::Throttled, hint)]);
        let answer = layer(exact())
            .layer(server)
            .oneshot(Ask::default())
            .await
            .unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        let attached = answer.annotated.and_then(|outcome| outcome.hint());
        assert_eq!(attached, Some(Hint::After(hint)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_counts_against_max_elapsed() {
    let mut server = Server::new(repeat(9, || say(Verdict::ServerFault)));
    server.latency = 4 * SECOND;
    let layer = layer(exact().attempts(9).max_elapsed(10 * SECOND));
    let start = Instant::now();
    let answer = layer
        .layer(server.clone())
        .oneshot(Ask::default())
        .await
        .unwrap();
    assert!(!answer.outcome.is_success());
    // 4 + 0.1 + 4 + 0.2 + 4 s; a fourth attempt would begin after 12.7 s.
    assert_eq!(start.elapsed(), Duration::from_millis(12_300));
    assert_eq!(layer.handle().snapshot().given_up(Reason::MaxElapsed), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_out_a_local_refusal_costs_no_attempt_and_no_budget() {
    let server = Server::new(repeat(20, || hinted(Verdict::RefusedLocally, 3 * SECOND)));
    let layer = layer(exact().attempts(2));
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.waits(), [3 * SECOND; 20]);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 20));
    assert_eq!(snapshot.budget_level(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_local_refusal_that_says_never_is_final() {
    let server = Server::new([Reply::Say(Outcome::new(Verdict::RefusedLocally))]);
    let answer = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    assert_eq!(answer.unwrap().outcome.verdict(), Verdict::RefusedLocally);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_out_a_blackout_costs_no_attempt_and_no_budget() {
    let again = || Reply::Again(Verdict::Throttled, 30 * SECOND);
    let server = Server::new(repeat(15, again));
    let layer = layer(exact().attempts(2));
    let ask = Ask::within(500 * SECOND);
    assert!(
        layer
            .layer(server.clone())
            .oneshot(ask)
            .await
            .unwrap()
            .outcome
            .is_success()
    );
    assert_eq!(server.waits(), [30 * SECOND; 15]);
    assert_eq!(layer.handle().snapshot().budget_level(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_costs_neither_wait_nor_budget_when_another_can_serve() {
    let start = Instant::now();
    let server = Server::new([Reply::Again(Verdict::KeyRejected, Duration::ZERO)]);
    let layer = layer(exact());
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    // One millisecond is what keeps it from being a hot loop; a timer may round it up.
    assert!(start.elapsed() <= 2 * MS);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 1));

    let server = Server::new([say(Verdict::KeyRejected)]);
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert_eq!(answer.unwrap().outcome.verdict(), Verdict::KeyRejected);
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_a_timer_reaches_is_waited_to_its_end() {
    let long = Duration::from_secs(40 * 24 * 3600);
    let server = Server::new([Reply::Again(Verdict::Exhausted, long)]);
    let layer = layer(exact().max_elapsed(Duration::MAX));
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    let waited = server.waits()[0];
    assert!(long <= waited && waited <= long + 2 * MS, "{waited:?}");
}
