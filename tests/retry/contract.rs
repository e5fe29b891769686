//! What Tower asks of a service.

use std::{sync::atomic::Ordering::Relaxed, task::Poll};

use futures::{future::join_all, poll};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};
use tower_relay::{
    outcome::Verdict,
    policy::{Reason, RetryBudget},
};

use super::world::*;

#[tokio::test(start_paused = true)]
async fn every_attempt_follows_readiness_of_the_instance_it_calls() {
    // The server panics otherwise.
    let server = Server::new(repeat(3, || say(Verdict::ServerFault)));
    let mut retry = layer(exact()).layer(server.clone());
    let first = retry.ready().await.unwrap().call(Ask::default());
    // What is left behind starts unready, and so does a clone.
    let second = retry.clone().oneshot(Ask::default());
    let third = retry.ready().await.unwrap().call(Ask::default());
    for result in [first.await, second.await, third.await] {
        assert!(result.unwrap().outcome.is_success());
    }
    assert_eq!(server.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_its_error_are_the_inner_services() {
    let server = Server::default();
    let mut retry = layer(exact()).layer(server.clone());
    server.unready.store(true, Relaxed);
    assert!(poll!(retry.ready()).is_pending());
    server.unready.store(false, Relaxed);
    assert!(poll!(retry.ready()).is_ready());

    let mut retry = layer(exact()).layer(Mortal::default());
    let _ = retry.ready().await.unwrap().call(Ask::default()).await;
    let error = poll!(retry.ready()).map_err(|error| error.downcast::<Broken>().unwrap().0);
    assert!(matches!(error, Poll::Ready(Err(2))));
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed_buffered_and_under_load_shedding() {
    let server = Server::new(repeat(2, || say(Verdict::ServerFault)));
    let stack = ServiceBuilder::new()
        .boxed_clone_sync()
        .layer(BufferLayer::new(4))
        .layer(LoadShedLayer::new())
        .layer(layer(exact()))
        .layer(TimeoutLayer::new(SECOND))
        .service(server.clone());
    let answers = join_all([
        stack.clone().oneshot(Ask::default()),
        stack.oneshot(Ask::default()),
    ]);
    for answer in answers.await {
        assert!(answer.unwrap().outcome.is_success());
    }
    assert_eq!(server.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn every_service_of_one_layer_shares_one_budget() {
    let layer = layer(exact().attempts(2)).budget(RetryBudget::new(20, 10, 10).unwrap());
    let servers: [_; 3] =
        std::array::from_fn(|_| Server::new(repeat(2, || say(Verdict::ServerFault))));
    for (server, calls) in servers.iter().zip([2, 2, 1]) {
        let answer = layer.clone().layer(server.clone()).oneshot(Ask::default());
        assert!(!answer.await.unwrap().outcome.is_success());
        assert_eq!(server.calls(), calls);
    }
    assert_eq!(layer.handle().snapshot().given_up(Reason::BudgetEmpty), 1);
    assert_eq!(layer.handle().snapshot().budget_level(), 0);
}

#[tokio::test(start_paused = true)]
async fn everything_is_debug_and_shows_no_request() {
    let layer = layer(exact());
    let mut retry = layer.layer(Mortal::default());
    let call = retry.ready().await.unwrap().call(Ask::default());
    for (shown, name) in [
        (format!("{layer:?}"), "RetryLayer { state: State {"),
        (
            format!("{retry:?}"),
            "Retry { inner: Mortal { called: true }",
        ),
        (format!("{call:?}"), "ResponseFuture { attempts: Attempts {"),
        (
            format!("{:?}", layer.handle()),
            "RetryHandle(RetrySnapshot {",
        ),
    ] {
        assert!(shown.starts_with(name), "{shown}");
        assert!(!shown.contains("Ask"), "{shown}");
    }
}
