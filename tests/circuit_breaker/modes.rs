//! Modes, the handle, and the gate.

use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_relay::{
    outcome::Verdict,
    policy::breaker::{Cause, Mode, Refused, State},
    testing::ReadinessProbe,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn forced_open_refuses_all_and_says_no_time() {
    let (service, server, handle) = watched(plain());
    handle.set_mode(Mode::ForcedOpen);
    for _ in 0..3 {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await),
            (Refused::Forced, None)
        );
        tokio::time::sleep(ms(600_000)).await;
    }
    assert_eq!((handle.refused(), server.sent_after().len()), (3, 0));
    handle.set_mode(Mode::Normal);
    assert_serves(&service).await;
}

#[tokio::test(start_paused = true)]
async fn forced_closed_counts_and_opens_never_also_if_it_was_open() {
    let (service, server, handle) = watched(plain());
    open(&service, &handle).await;
    handle.set_mode(Mode::ForcedClosed);
    for _ in 0..50 {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.failures()), (State::Closed, 50));
    assert_eq!((server.sent_after().len(), handle.refused()), (55, 0));
}

#[tokio::test(start_paused = true)]
async fn disabled_counts_nothing_and_refuses_nothing() {
    let (service, server, handle) = watched(plain().mode(Mode::Disabled));
    for _ in 0..50 {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.calls()), (State::Closed, 0));
    assert_eq!(server.sent_after().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn one_that_observes_opens_probes_and_closes_and_refuses_nothing() {
    let (service, server, handle) = watched(plain().mode(Mode::ObserveOnly));
    open(&service, &handle).await;
    // Spared, and not counted.
    for _ in 0..20 {
        assert!(service.clone().oneshot(Ask::Good).await.is_ok());
    }
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.state(), snapshot.cause().is_some()),
        (State::Open, true)
    );
    tokio::time::sleep(ms(5_000)).await;
    drop(service.oneshot(Ask::Good).await);
    assert_eq!(handle.snapshot().state(), State::Closed);
    assert_eq!((server.sent_after().len(), handle.refused()), (26, 0));
}

#[tokio::test(start_paused = true)]
async fn a_mode_to_start_in_holds_from_the_first_call() {
    let (service, server, _) = watched(plain().mode(Mode::ForcedOpen));
    assert_eq!(refusal(service.oneshot(Ask::Good).await).0, Refused::Forced);
    assert_eq!(server.sent_after().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reset_closes_it_and_forgets() {
    let (service, _, handle) = watched(plain());
    open(&service, &handle).await;
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.cause(), snapshot.growth()),
        (Some(Cause::ConsecutiveFailures), 1)
    );
    handle.reset();
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.state(), snapshot.calls(), snapshot.growth()),
        (State::Closed, 0, 0)
    );
    drop(service.clone().oneshot(Ask::Good).await);
    assert_eq!(handle.snapshot().calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gate_refuses_with_the_same_words_and_records_nothing() {
    let layer = layer(plain());
    let (handle, server) = (layer.handle(), server());
    let behind = layer.gate().layer(server.clone());
    // What passes the gate alone is nobody's business.
    for _ in 0..50 {
        drop(behind.clone().oneshot(Ask::Break).await);
    }
    assert_eq!(handle.snapshot().calls(), 0);
    open(&layer.layer(server.clone()), &handle).await;
    let until = handle.snapshot().until();
    for _ in 0..10 {
        assert_eq!(
            refusal(behind.clone().oneshot(Ask::Good).await),
            (Refused::Open, Some(5_000))
        );
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls(), snapshot.until()), (5, until));
    assert_eq!((handle.refused(), server.sent_after().len()), (10, 55));
}

#[tokio::test(start_paused = true)]
async fn a_gate_takes_no_probe_and_lets_the_probes_pass() {
    let layer = layer(plain());
    let handle = layer.handle();
    let stack = ServiceBuilder::new()
        .layer(layer.gate())
        .layer(layer.clone())
        .service(ReadinessProbe::new(server()));
    open(&stack, &handle).await;
    tokio::time::sleep(ms(5_000)).await;
    // Through a gate alone it does not even become half-open.
    let alone = layer.gate().layer(server());
    assert!(alone.clone().oneshot(Ask::Break).await.is_err());
    assert_eq!(handle.snapshot().state(), State::Open);
    let probe = sent(&stack, Ask::Late(100, Verdict::Success)).await;
    assert_eq!(handle.snapshot().probes(), 1);
    assert_eq!(refusal(alone.oneshot(Ask::Good).await).0, Refused::HalfOpen);
    assert!(probe.await.expect("served").is_success());
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_by_the_gate_is_counted_once() {
    let layer = layer(plain());
    let stack = ServiceBuilder::new()
        .layer(layer.gate())
        .layer(layer.clone())
        .service(server());
    open(&stack, &layer.handle()).await;
    drop(stack.clone().oneshot(Ask::Good).await);
    assert_eq!(layer.handle().refused(), 1);
}
