//! A key that fails while others do well: who serves meanwhile, and how it comes back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::{advance, timeout};
use tower::{Layer, ServiceExt};
use tower_relay::{
    key_rotation::{KeyRotationLayer, Transition},
    outcome::{Outcome, Verdict},
    policy::pool::{self, KeyState},
    testing::Reply,
};

use crate::support::*;

/// The breakers' changes that a layer tells.
fn listening<P>(layer: KeyRotationLayer<P>) -> (KeyRotationLayer<P>, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let writes = Arc::clone(&told);
    let layer = layer.on_transition(move |transition| {
        let told = match transition {
            Transition::Pool(pool::Transition::BreakerOpened { alias, .. }) => {
                format!("{alias} opened")
            }
            Transition::Pool(pool::Transition::BreakerClosed { alias }) => {
                format!("{alias} closed")
            }
            _ => return,
        };
        writes.lock().expect("no panic").push(told);
    });
    (layer, told)
}

#[tokio::test(start_paused = true)]
async fn others_carry_the_load_of_a_key_that_fails_a_third_until_it_is_well() {
    let (calls, sick) = (AtomicU64::new(0), Arc::new(AtomicU64::new(1)));
    let (calls, is_sick) = (Arc::new(calls), Arc::clone(&sick));
    let (server, log) = server(move |ask| {
        let is_third = ask.alias() == "b1" && calls.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        if is_third && is_sick.load(Ordering::Relaxed) == 1 {
            say(ask, Verdict::ServerFault)
        } else {
            ok(ask)
        }
    });
    let (layer, told) = listening(layer(accounts(4, &plenty())));
    let (handle, service) = (layer.handle(), layer.layer(server));
    let mut failed = 0;
    for _ in 0..2_000 {
        advance(100 * MS).await;
        let answer = within(once(&service, Ask::default()))
            .await
            .expect("answered");
        failed += u64::from(!answer.outcome.is_success());
    }
    // Blindly, 500 would have gone there and 167 failed.
    let there = log.calls_with("b1");
    assert!((20..=70).contains(&there), "{there}");
    assert!((7..=20).contains(&failed), "{failed}");
    assert!(
        told.lock()
            .expect("told")
            .iter()
            .all(|told| told == "b1 opened")
    );
    assert_eq!(state(&handle, "a1"), KeyState::Usable);
    // Well again, it closes after its time and ten probes.
    sick.store(0, Ordering::Relaxed);
    for _ in 0..3_000 {
        advance(100 * MS).await;
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    assert_eq!(state(&handle, "b1"), KeyState::Usable);
    assert_eq!(
        told.lock().expect("told").last().map(|told| &**told),
        Some("b1 closed")
    );
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn an_outage_takes_no_key_out_and_one_key_is_never_taken_out() {
    for keys in [1, 4] {
        for verdict in [Verdict::Overloaded, Verdict::ServerFault] {
            let count = Arc::new(AtomicU64::new(0));
            let (server, log) = server(move |ask| match count.fetch_add(1, Ordering::Relaxed) {
                0..100 => ok(ask),
                _ => say(ask, verdict),
            });
            let (layer, told) = listening(layer(accounts(keys, &plenty())));
            let (handle, service) = (layer.handle(), layer.layer(server));
            for _ in 0..500 {
                advance(50 * MS).await;
                within(once(&service, Ask::default()))
                    .await
                    .expect("answered");
            }
            assert!(told.lock().expect("told").is_empty());
            assert_eq!(log.calls_with("a1"), 500 / usize::from(keys));
            assert_eq!(state(&handle, "a1"), KeyState::Usable);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_gives_its_place_back_and_one_that_hangs_loses_it_with_its_lease() {
    let phase = Arc::new(AtomicU64::new(0));
    let reads = Arc::clone(&phase);
    let (server, log) = server(
        move |ask| match (&*ask.alias(), reads.load(Ordering::Relaxed)) {
            ("b1", 0) => say(ask, Verdict::ServerFault),
            ("b1", _) => Reply::after(MINUTE, answer(ask, Outcome::SUCCESS)),
            _ => ok(ask),
        },
    );
    let layer = layer(accounts(2, &plenty()));
    let (handle, service) = (layer.handle(), layer.layer(server));
    while state(&handle, "b1") == KeyState::Usable {
        advance(100 * MS).await;
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    let before = log.calls_with("b1");
    // Nine came before ten of the other key's could speak for the endpoint.
    assert_eq!(before, 29);
    phase.store(1, Ordering::Relaxed);
    advance(6 * SECOND).await;
    // Calls are sent, and given up after a second, one after the other: each probe's place is free
    // again, so half of all go there.
    for _ in 0..12 {
        let _given_up = timeout(SECOND, once(&service, Ask::default())).await;
    }
    assert_eq!(log.calls_with("b1") - before, 6);
    assert_idle(&handle);
    // Three that hang take all places, and others serve, until the leases end.
    let hanging: Vec<_> = (0..6)
        .map(|_| tokio::spawn(service.clone().oneshot(Ask::default())))
        .collect();
    settle().await;
    assert_eq!(log.calls_with("b1") - before, 9);
    for _ in 0..20 {
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    assert_eq!(log.calls_with("b1") - before, 9);
    advance(31 * SECOND).await;
    let next = tokio::spawn(service.clone().oneshot(Ask::default()));
    let after = tokio::spawn(service.clone().oneshot(Ask::default()));
    settle().await;
    assert_eq!(log.calls_with("b1") - before, 10);
    for task in hanging.into_iter().chain([next, after]) {
        within(task).await.expect("no panic").expect("answered");
    }
    assert_idle(&handle);
}
