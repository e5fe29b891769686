//! What the breaker makes of the contract: `tests/contract` has what holds of every layer.

use std::pin::pin;

use futures::poll;
use tower::{Layer, Service, ServiceExt, load_shed::LoadShed};
use tower_relay::{
    circuit_breaker::{CircuitBreakerLayer, KeyedCircuitBreakerLayer},
    outcome::Outcome,
    policy::breaker::{BreakerConfig, Mode, Refused, State},
    testing::{Reply, Scripted},
};
use tower_test::mock;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_ready_without_asking_the_inner_service() {
    let (inner, mut mock) = mock::pair::<Ask, Outcome>();
    mock.allow(0);
    let layer = layer(plain());
    let handle = layer.handle();
    let mut service = layer.layer(inner.clone());
    assert!(poll!(pin!(service.ready())).is_pending(), "closed, it asks");
    handle.set_mode(Mode::ForcedOpen);
    assert!(poll!(pin!(service.ready())).is_ready());
    let error = service.call(Ask::Good).await.expect_err("it is open");
    assert_eq!(
        error.to_string(),
        "circuit breaker refused: it was forced open"
    );
    assert_eq!(refusal::<()>(Err(error)), (Refused::Forced, None));

    let mut gate = layer.gate().layer(inner);
    assert!(poll!(pin!(gate.ready())).is_ready());
    assert_eq!(refusal(gate.call(Ask::Good).await).0, Refused::Forced);
}

#[tokio::test(start_paused = true)]
async fn load_shed_lets_the_open_breaker_say_it_itself() {
    let (service, _, handle) = watched(plain());
    let service = LoadShed::new(service);
    open(&service, &handle).await;
    assert_eq!(
        refusal(service.oneshot(Ask::Good).await),
        (Refused::Open, Some(5_000))
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_because_it_was_open_is_refused_though_it_has_closed() {
    let (mut service, server, handle) = watched(plain());
    open(&service, &handle).await;
    service.ready().await.expect("ready");
    handle.reset();
    let (_, wait) = refusal(service.call(Ask::Good).await);
    assert!(wait.is_some(), "it may ask again");
    assert_eq!(server.sent_after().len(), 5);
    // Only that one.
    let answer = service.ready().await.expect("ready").call(Ask::Good).await;
    assert!(answer.expect("served").is_success());
}

#[tokio::test(start_paused = true)]
async fn a_clone_forgets_that_nobody_asked() {
    let layer = layer(plain());
    let (mut service, handle) = (layer.layer(server()), layer.handle());
    handle.set_mode(Mode::ForcedOpen);
    service.ready().await.expect("ready");
    // Called without being asked, which this server bears, to see what is remembered.
    let mut clone = service.clone();
    handle.set_mode(Mode::ForcedClosed);
    assert!(clone.call(Ask::Good).await.expect("served").is_success());
    assert!(service.call(Ask::Good).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn asking_again_after_it_has_closed_asks_the_inner_service() {
    let (mut service, _, handle) = watched(plain());
    open(&service, &handle).await;
    service.ready().await.expect("ready");
    handle.reset();
    service.ready().await.expect("ready");
    assert!(service.call(Ask::Good).await.expect("served").is_success());
}

#[tokio::test(start_paused = true)]
async fn readiness_from_before_it_opened_does_not_let_a_call_pass() {
    let (mut service, server, handle) = watched(plain());
    service.ready().await.expect("ready");
    open(&service, &handle).await;
    assert_eq!(
        refusal(service.call(Ask::Good).await),
        (Refused::Open, Some(5_000))
    );
    assert_eq!(server.sent_after().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn every_inner_call_follows_readiness_of_that_instance_in_every_state() {
    let (mut service, server, handle) = watched(plain().open(ms(1_000), ms(1_000)));
    let gate = CircuitBreakerLayer::default().gate();
    for n in 0..200_u64 {
        let ask = if n % 40 < 8 { Ask::Break } else { Ask::Good };
        // One instance again and again, and fresh clones between.
        if n % 3 == 0 {
            drop(service.clone().oneshot(ask).await);
        } else {
            drop(service.ready().await.expect("ready").call(ask).await);
        }
        if ask == Ask::Good {
            drop(gate.layer(service.clone()).oneshot(ask).await);
        }
        tokio::time::sleep(ms(500)).await;
    }
    assert!(handle.refused() >= 10, "{}", handle.refused());
    assert!(server.sent_after().len() > 100);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_hands_on_only_errors_of_the_inner_service() {
    let (inner, mock) = mock::pair::<Ask, Outcome>();
    let layer = layer(plain());
    let mut service = layer.layer(inner);
    drop(mock);
    let Err(closed) = service.ready().await else {
        panic!("the mock is gone");
    };
    assert!(closed.is::<mock::error::Closed>(), "{closed}");
    layer.handle().set_mode(Mode::ForcedOpen);
    assert!(service.ready().await.is_ok(), "open, it does not ask");
}

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_breaker() {
    let (layer, server) = (layer(plain()), server());
    let first = layer.layer(server.clone());
    let second = layer.clone().layer(server.clone());
    for service in [&first, &second, &first, &second, &first] {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    for service in [&first, &second] {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::Open
        );
        assert_eq!(service.handle().refused(), layer.handle().refused());
    }
    assert_eq!(second.handle().refused(), 2);
    assert_eq!(server.sent_after().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_where_it_stands_and_no_request() {
    let layer = CircuitBreakerLayer::default();
    let inner = Scripted::new(|_: &String| Reply::now(String::from("hush")));
    let service = layer.layer(inner.clone());
    let keyed = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), |ask: &String| ask.clone());
    let keyed_service = keyed.layer(inner);
    drop(keyed_service.clone().oneshot("hush".into()).await);
    let called = service.clone().call("hush".into());
    let by_key = keyed_service.clone().call("hush".into());
    let shown = format!(
        "{called:?} {by_key:?} {keyed:?} {keyed_service:?} {:?}",
        keyed.handle()
    );
    assert!(
        shown.starts_with("circuit_breaker::ResponseFuture(called)"),
        "{shown}"
    );
    assert!(!shown.contains("hush"), "{shown}");
    layer.handle().set_mode(Mode::ForcedOpen);
    assert_eq!(layer.handle().snapshot().state(), State::Open);
    let refused = service.clone().call("hush".into());
    assert_eq!(
        format!("{refused:?}"),
        "circuit_breaker::ResponseFuture(refused)"
    );
    for shown in [
        format!("{layer:?}"),
        format!("{service:?}"),
        format!("{:?}", layer.handle()),
        format!("{:?}", layer.gate()),
    ] {
        assert!(shown.contains("state: Open, mode: ForcedOpen"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
