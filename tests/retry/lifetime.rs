//! What is held, copied and left behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures::poll;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_relay::{outcome::Verdict, policy::Reason, retry::Replay};

use super::world::*;

// === what is held ===

#[tokio::test(start_paused = true)]
async fn the_failed_response_is_dropped_before_the_wait() {
    let server = Server::new([say(Verdict::ServerFault)]);
    let layer = layer(exact());
    let call = layer.layer(server.clone()).oneshot(Ask::default());
    let mut call = Box::pin(call);
    assert!(poll!(&mut call).is_pending());
    // The script takes a zero-length sleep to answer.
    advance(2 * MS).await;
    assert!(poll!(&mut call).is_pending());
    assert_eq!(server.calls(), 1);
    assert_eq!(layer.handle().snapshot().waiting(), 1);
    assert!(!server.last_is_alive());
    assert!(call.await.unwrap().outcome.is_success());
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_a_failed_attempt_is_free_during_the_wait() {
    let server = Server::new([hinted(Verdict::Throttled, 60 * SECOND)]);
    let stack = ServiceBuilder::new()
        .layer(layer(exact()))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(server);
    let start = Instant::now();
    let refused = tokio::spawn(stack.clone().oneshot(Ask::default()));
    tokio::time::sleep(SECOND).await;
    let other = stack.oneshot(Ask::default()).await.unwrap();
    assert!(other.outcome.is_success());
    assert!(start.elapsed() < 2 * SECOND);
    assert!(refused.await.unwrap().unwrap().outcome.is_success());
    assert!(start.elapsed() >= 60 * SECOND);
}

// === replay ===

#[tokio::test(start_paused = true)]
async fn the_last_attempt_does_not_clone() {
    for (attempts, failures, copies) in [(1, 1, 0), (3, 9, 2), (3, 0, 1), (5, 1, 2)] {
        let server = Server::new(repeat(failures, || say(Verdict::ServerFault)));
        let ask = Ask::default();
        let counter = ask.copies.clone();
        let layer = layer(exact().attempts(attempts));
        let _ = layer.layer(server).oneshot(ask).await.unwrap();
        assert_eq!(
            counter.load(Relaxed),
            copies,
            "{attempts} attempts, {failures} failures"
        );
    }
}

/// Copies as long as it is told to, and then says so.
#[derive(Clone, Default)]
struct Fickle {
    copies: bool,
    spoilt: Arc<AtomicBool>,
}

impl Replay<Once> for Fickle {
    type Request = Ask;

    fn prepare(&self, request: Once) -> Ask {
        request.0
    }

    fn copy(&self, request: &Ask) -> Option<Ask> {
        self.copies.then(|| request.clone())
    }

    fn can_replay(&self, _: &Ask) -> bool {
        !self.spoilt.load(Relaxed)
    }
}

/// A request that is not `Clone`.
struct Once(Ask);

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_replayed_is_sent_once_and_its_failure_returned() {
    let spoilt = Arc::new(AtomicBool::new(true));
    for replay in [
        Fickle::default(),
        Fickle {
            copies: true,
            spoilt,
        },
    ] {
        let server = Server::new([say(Verdict::Overloaded)]);
        let layer = layer(exact()).replay(replay);
        let answer = layer
            .layer(server.clone())
            .oneshot(Once(Ask::default()))
            .await;
        assert_eq!(answer.unwrap().outcome.verdict(), Verdict::Overloaded);
        assert_eq!(server.calls(), 1);
        assert_eq!(layer.handle().snapshot().given_up(Reason::NotReplayable), 1);
        assert_eq!(layer.handle().snapshot().budget_level(), 500);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_strategy_may_change_the_requests_type() {
    let server = Server::new([say(Verdict::Overloaded)]);
    let replay = Fickle {
        copies: true,
        ..Fickle::default()
    };
    let layer = layer(exact()).replay(replay);
    let answer = layer
        .layer(server.clone())
        .oneshot(Once(Ask::default()))
        .await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.resends(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn nested_retries_see_the_count() {
    let server = Server::new(repeat(3, || say(Verdict::ServerFault)));
    let (outer, inner) = (layer(exact()), layer(exact().attempts(2)));
    let stack = outer.layer(inner.layer(server.clone()));
    assert!(
        stack
            .oneshot(Ask::default())
            .await
            .unwrap()
            .outcome
            .is_success()
    );
    // The inner layer's two attempts, then the outer layer's second with two more.
    assert_eq!(server.resends(), [0, 1, 1, 2]);

    let server = Server::new([say(Verdict::ServerFault)]);
    let ask = Ask {
        resends: 7,
        ..Ask::default()
    };
    let _ = layer(exact()).layer(server.clone()).oneshot(ask).await;
    assert_eq!(server.resends(), [7, 8]);
}

// === cancelling ===

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_leaves_nothing_behind() {
    let layer = layer(exact());
    // Dropped during the first attempt, the wait, the readiness after it, the second attempt.
    for (until, sent) in [(50, 0), (150, 1), (250, 1), (270, 1)] {
        let mut server = Server::new([say(Verdict::ServerFault)]);
        server.latency = 100 * MS;
        let mut retry = layer.clone().layer(server.clone());
        let call = retry.ready().await.unwrap().call(Ask::default());
        let mut call = Box::pin(call);
        for ms in 0..until {
            if ms == 190 {
                server.unready.store(true, Relaxed);
            }
            if ms == 260 {
                server.unready.store(false, Relaxed);
            }
            assert!(poll!(&mut call).is_pending());
            advance(MS).await;
        }
        let snapshot = layer.handle().snapshot();
        let waiting = u64::from((150..260).contains(&until));
        assert_eq!(snapshot.waiting(), waiting, "after {until} ms");
        drop(call);
        assert_eq!(server.calls(), sent, "after {until} ms");
        assert!(!server.last_is_alive());
        let snapshot = layer.handle().snapshot();
        assert_eq!(snapshot.waiting(), 0);
        assert_eq!(snapshot.calls(), 0);
        // Only a retry that was sent has cost anything.
        let level = if until == 270 { 486 } else { 500 };
        assert_eq!(snapshot.budget_level(), level, "after {until} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_dies_during_the_wait_ends_the_call() {
    let layer = layer(exact()).assume_idempotent();
    let mut retry = layer.layer(Mortal::default());
    let mut call = Box::pin(retry.ready().await.unwrap().call(Ask::default()));
    let error = (&mut call).await.expect_err("it died");
    assert_eq!(error.downcast_ref::<Broken>().map(|error| error.0), Some(2));
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls(), snapshot.waiting()), (1, 0));
    assert_eq!(snapshot.budget_level(), 500);
    drop(call);
}
