//! Listeners: told once, outside the lock, and harmless.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use futures::FutureExt;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    circuit_breaker::CircuitBreakerHandle,
    policy::breaker::{Mode, State, Transition},
};

use crate::support::*;

fn name(transition: &Transition) -> &'static str {
    match transition {
        Transition::Opened { .. } => "opened",
        Transition::HalfOpened => "half-opened",
        Transition::Closed => "closed",
        Transition::ModeSet(_) => "mode set",
        _ => "other",
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_is_told_once_and_in_order() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let layer = layer(plain()).on_transition(move |transition| {
        tells.lock().expect("no panic").push(name(transition));
    });
    let handle = layer.handle();
    let service = layer.layer(server());
    open(&service, &handle).await;
    for _ in 0..10 {
        drop(service.clone().oneshot(Ask::Good).await);
    }
    tokio::time::sleep(ms(5_000)).await;
    drop(service.clone().oneshot(Ask::Break).await);
    tokio::time::sleep(ms(10_000)).await;
    for _ in 0..10 {
        drop(service.clone().oneshot(Ask::Good).await);
    }
    handle.set_mode(Mode::ForcedOpen);
    handle.set_mode(Mode::ForcedOpen);
    drop(service.clone().oneshot(Ask::Good).await);
    handle.set_mode(Mode::Normal);
    assert_eq!(
        *told.lock().expect("no panic"),
        [
            "opened",
            "half-opened",
            "opened",
            "half-opened",
            "closed",
            "mode set",
            "mode set"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_uses_the_handle_and_calls_does_not_deadlock() {
    let slot = Arc::new(OnceLock::<CircuitBreakerHandle>::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layer = layer(plain()).on_transition({
        let (slot, seen) = (Arc::clone(&slot), Arc::clone(&seen));
        move |transition| {
            let handle = slot.get().expect("it is set before the first call");
            let state = handle.snapshot().state();
            seen.lock()
                .expect("no panic")
                .push((name(transition), state));
            // Tells itself, once.
            handle.set_mode(Mode::ObserveOnly);
            let _ = format!("{handle:?}");
        }
    });
    slot.set(layer.handle()).expect("it is set once");
    let service = layer.layer(server());
    for _ in 0..5 {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    assert_eq!(
        *seen.lock().expect("no panic"),
        [("opened", State::Open), ("mode set", State::Open)]
    );
}

/// A breaker whose listener panics while the switch is on.
fn panicking() -> (Watchful, CircuitBreakerHandle, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let panics = Arc::clone(&switch);
    let layer = layer(plain()).on_transition(move |_| {
        assert!(!panics.load(SeqCst), "a listener's panic");
    });
    let handle = layer.handle();
    (layer.layer(server()), handle, switch)
}

type Watchful = tower_relay::circuit_breaker::CircuitBreaker<Server, Api>;

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_when_it_opens_leaves_it_open() {
    let (service, handle, _) = panicking();
    for _ in 0..4 {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    let fifth = tokio::spawn(service.clone().oneshot(Ask::Break));
    assert!(fifth.await.expect_err("it panics").is_panic());
    assert_eq!(handle.snapshot().state(), State::Open);
    assert_eq!(refusal(service.oneshot(Ask::Good).await).1, Some(5_000));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_when_it_lets_a_probe_pass_costs_no_place() {
    let (mut service, handle, switch) = panicking();
    switch.store(false, SeqCst);
    open_and_wait(&service, &handle).await;
    switch.store(true, SeqCst);
    service.ready().await.expect("ready");
    let call = AssertUnwindSafe(|| drop(service.call(Ask::Good)));
    assert!(std::panic::catch_unwind(call).is_err());
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 0));
    switch.store(false, SeqCst);
    assert_serves(&service).await;
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_when_it_closes_leaves_it_closed() {
    let (service, handle, switch) = panicking();
    switch.store(false, SeqCst);
    open_and_wait(&service, &handle).await;
    let probe = sent(&service, Ask::Good).await;
    switch.store(true, SeqCst);
    assert!(AssertUnwindSafe(probe).catch_unwind().await.is_err());
    assert_eq!(handle.snapshot().state(), State::Closed);
    assert_serves(&service).await;
}
