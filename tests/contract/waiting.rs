//! What holds of each layer that has calls wait.

use std::{pin::pin, sync::Arc};

use futures::{
    future::{join_all, try_join_all},
    poll,
};
use tokio::{sync::Semaphore, time::Instant};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, load_shed::LoadShed};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer, error::BoxError,
    key_rotation::KeyRotationLayer, policy::limit::Fixed, rate_limit::RateLimitLayer,
    testing::ReadinessProbe,
};
use tower_test::mock::{self, Mock};

use crate::{Holds, Relay, Server, claims, one_key, server, support::*, ten_per_second};

mod checks {
    use super::*;

    pub(super) async fn poll_ready_never_asks_the_inner_service<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Mock<u32, u32>, Service: Service<u32, Error = BoxError>>,
    {
        let (inner, mut mock) = mock::pair();
        mock.allow(0);
        let mut service = layer().await.layer(inner);
        assert!(poll!(pin!(service.ready())).is_ready());
        mock.send_error("gone");
        assert!(matches!(
            poll!(pin!(service.ready())),
            std::task::Poll::Ready(Ok(_))
        ));
    }

    pub(super) async fn every_inner_call_follows_readiness_of_that_instance<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<ReadinessProbe<Server>, Service: Relay>,
    {
        let server = server();
        let mut service = layer().await.layer(ReadinessProbe::new(server.clone()));
        let calls: Vec<_> = (0..50)
            .map(|n| match n % 2 {
                0 => service.call(n),
                _ => service.clone().call(n),
            })
            .collect();
        try_join_all(calls).await.expect("served");
        let due: Vec<_> = (0..50).map(|n| n * 100).collect();
        assert_eq!(wholes(&server.sent_after()), due);
    }

    pub(super) async fn one_layer_over_two_services_and_their_clones_is_one_limit<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<Server, Service: Relay> + Holds,
    {
        let (layer, server) = (layer().await, server());
        let first = layer.layer(server.clone());
        let second = layer.clone().layer(server.clone());
        let calls = [&first, &second, &first, &second].map(|service| service.clone().oneshot(0));
        let calls = tokio::spawn(try_join_all(calls));
        settle().await;
        assert_eq!(layer.held(), 1);
        calls.await.expect("no panic").expect("served");
        assert_eq!(wholes(&server.sent_after()), [0, 100, 200, 300]);
        assert_eq!(layer.held(), 0);
    }

    pub(super) async fn a_queued_call_does_not_sit_on_an_inner_permit<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<ConcurrencyLimit<Server>, Service: Relay>,
    {
        let permits = Arc::new(Semaphore::new(3));
        let inner = ConcurrencyLimit::with_semaphore(server(), Arc::clone(&permits));
        let service = layer().await.layer(inner);
        let calls = tokio::spawn(join_all((0..3).map(|n| service.clone().oneshot(n))));
        settle().await;
        assert_eq!(permits.available_permits(), 2);
        let ends = calls.await.expect("no panic");
        assert!(ends.iter().all(Result::is_ok));
    }

    pub(super) async fn load_shed_sheds_nothing_that_can_wait<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Server, Service: Relay>,
    {
        let service = LoadShed::new(layer().await.layer(server()));
        let start = Instant::now();
        let calls = (0..3).map(|n| service.clone().oneshot(n));
        try_join_all(calls).await.expect("served");
        assert_eq!(since(start), 300);
    }

    pub(super) async fn a_call_dropped_in_the_queue_leaves_its_turn_to_the_next<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<Server, Service: Relay> + Holds,
    {
        let (layer, server) = (layer().await, server());
        let service = layer.layer(server.clone());
        let calls = [0, 1, 2].map(|n| tokio::spawn(service.clone().oneshot(n)));
        settle().await;
        calls[1].abort();
        let [first, second, third] = calls;
        assert!(second.await.expect_err("it is dropped").is_cancelled());
        for call in [first, third] {
            call.await.expect("no panic").expect("served");
        }
        assert_eq!(wholes(&server.sent_after()), [0, 100]);
        assert_eq!(layer.held(), 0);
    }
}

claims! {
    checks: [
        poll_ready_never_asks_the_inner_service
        every_inner_call_follows_readiness_of_that_instance
        one_layer_over_two_services_and_their_clones_is_one_limit
        a_queued_call_does_not_sit_on_an_inner_permit
        load_shed_sheds_nothing_that_can_wait
        a_call_dropped_in_the_queue_leaves_its_turn_to_the_next
    ]
    rate_limit: RateLimitLayer::new(ten_per_second());
    key_rotation: KeyRotationLayer::new(one_key(ten_per_second()));
    adaptive_concurrency: AdaptiveConcurrencyLayer::new(Fixed::of(1));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not ready")]
async fn the_readiness_probe_catches_an_unready_call() {
    let mut probe = ReadinessProbe::new(server());
    probe.ready().await.expect("ready");
    drop(probe.clone().call(1));
}
