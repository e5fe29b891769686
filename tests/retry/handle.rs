//! Seeing and changing a layer at work.

use std::sync::{Arc, Mutex, atomic::Ordering::Relaxed};

use futures::future::join_all;
use tower::{Layer, ServiceExt};
use tower_relay::{
    outcome::{Outcome, Verdict},
    policy::{Charge, Reason},
    retry::RetryLayer,
};

use super::world::*;

#[tokio::test(start_paused = true)]
async fn the_callback_may_use_the_handle_and_sees_every_retry() {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let base = layer(exact());
    let (handle, events) = (base.handle(), seen.clone());
    let layer = base.on_retry(move |event| {
        // With the lock held this would not return.
        handle.set_policy(exact().attempts(4).build().unwrap());
        let paid = event.charge() != Charge::Free;
        let verdict = event.outcome().verdict();
        events
            .lock()
            .unwrap()
            .push((event.resends(), event.wait(), paid, verdict));
    });
    let server = Server::new([
        hinted(Verdict::Throttled, SECOND),
        hinted(Verdict::RefusedLocally, 3 * SECOND),
        say(Verdict::ServerFault),
    ]);
    let answer = layer.layer(server).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (1, SECOND, true, Verdict::Throttled),
            (2, 3 * SECOND, false, Verdict::RefusedLocally),
            (3, 200 * MS, true, Verdict::ServerFault),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_set_at_run_time_holds_for_calls_under_way() {
    let server = Server::new(repeat(9, || say(Verdict::ServerFault)));
    let layer = layer(exact());
    let handle = layer.handle();
    let ask = Ask::default();
    let copies = ask.copies.clone();
    let call = tokio::spawn(layer.layer(server.clone()).oneshot(ask));
    tokio::time::sleep(150 * MS).await;
    assert_eq!(server.calls(), 2);
    handle.set_policy(exact().attempts(3).build().unwrap());
    let answer = call.await.unwrap().unwrap();
    assert!(!answer.outcome.is_success());
    assert_eq!(server.calls(), 3);
    assert_eq!(handle.policy().attempts(), 3);
    // The third attempt is known to be the last.
    assert_eq!(copies.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_counts_what_happened() {
    let server = Server::new([
        say(Verdict::ServerFault),
        say(Verdict::Throttled),
        Reply::Say(Outcome::SUCCESS),
        say(Verdict::CallerFault),
        Reply::Say(Outcome::SUCCESS),
    ]);
    let layer = layer(exact());
    let retry = layer.layer(server);
    for level in [486, 486, 487] {
        let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
        assert_eq!(layer.handle().snapshot().budget_level(), level);
    }
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls(), snapshot.successes()), (3, 2));
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (2, 0));
    assert_eq!(snapshot.given_up(Reason::Final), 1);
    assert_eq!(snapshot.given_up(Reason::AttemptsSpent), 0);
    assert_eq!(snapshot.budget_capacity(), 500);
}

#[tokio::test(start_paused = true)]
async fn successes_after_a_drained_budget_fill_it_again() {
    let server = Server::new([say(Verdict::ServerFault), say(Verdict::CallerFault)]);
    let layer = layer(exact());
    let retry = layer.layer(server);
    let level = || layer.handle().snapshot().budget_level();
    let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
    assert_eq!(level(), 486);
    for _ in 0..20 {
        let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
    }
    assert_eq!(level(), 500);
}

#[tokio::test(start_paused = true)]
async fn callers_who_failed_together_do_not_come_back_together() {
    let server = Server::new(repeat(50, || hinted(Verdict::Throttled, 60 * SECOND)));
    let retry = RetryLayer::default().protocol(Api).layer(server.clone());
    let calls = (0..50).map(|_| retry.clone().oneshot(Ask::default()));
    for answer in join_all(calls).await {
        assert!(answer.unwrap().outcome.is_success());
    }
    let seen = &server.log.lock().unwrap().seen;
    let (first, last) = (seen[50].0, seen[99].0);
    assert!(last - first > 4 * SECOND, "within {:?}", last - first);
}
