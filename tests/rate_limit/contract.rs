//! What the limit makes of the contract: `tests/contract` has what holds of every layer.

use std::convert::Infallible;

use futures::future::try_join_all;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{policy::Unit, rate_limit::RateLimitLayer};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_handles_of_two_services_are_their_layers() {
    let layer = RateLimitLayer::per_second(50);
    let server = echo::<u32>();
    let services = [
        layer.layer(server.clone()),
        layer.clone().layer(server.clone()),
    ];
    try_join_all((0..4).map(|n| services[n % 2].clone().oneshot(0)))
        .await
        .expect("served");
    assert_eq!(wholes(&server.sent_after()), [0, 20, 40, 60]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    for service in services {
        assert_eq!(service.handle().snapshot().completed(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_which_layer_refused_why_and_for_how_long() {
    let layer = RateLimitLayer::per_second(1).max_waiting(0);
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    assert_eq!(service.clone().oneshot(1).await.expect("served"), 1);
    let error = service.oneshot(2).await.expect_err("it is over the limit");
    assert_eq!(
        error.to_string(),
        "rate limit refused: its limit is spent, admission in 1s"
    );
    assert_eq!(rejected(&error).retry_after(), Some(ms(1_000)));
}

#[tokio::test(start_paused = true)]
async fn a_closure_as_cost_keeps_the_service_clone_and_its_future_send() {
    let layer = RateLimitLayer::new(built(tokens(60, 10))).cost(|n: &u64| input(*n));
    let service = layer.layer(echo::<u64>());
    let task = tokio::spawn(service.clone().oneshot(4));
    assert_eq!(task.await.expect("no panic").expect("served"), 4);
    assert_eq!(service.handle().available(Unit::INPUT_TOKENS), Some(6));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_the_limits_and_where_a_call_stands() {
    let layer = RateLimitLayer::per_second(1).max_waiting(7);
    let service = layer.clone().protocol(Holding).layer(echo::<u32>());
    let (_, guard) = service.clone().oneshot(0).await.expect("served");
    for shown in [format!("{layer:?}"), format!("{service:?}")] {
        assert!(shown.contains("max_waiting: 7"), "{shown}");
    }
    let shown = format!("{:?}", service.handle());
    assert!(shown.contains("active: 1"), "{shown}");
    let shown = format!("{guard:?}");
    assert!(shown.contains("progress: Answered(Success)"), "{shown}");
    let queued = service.clone().call(1);
    assert_eq!(format!("{queued:?}"), "rate_limit::ResponseFuture(queued)");
}
