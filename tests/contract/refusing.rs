//! What holds of each layer that refuses calls, the queues at their end and the half-open breaker.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Semaphore, time::sleep};
use tower::{
    Layer, Service, ServiceExt, balance::p2c::Balance, buffer::Buffer, discover::ServiceList,
    limit::ConcurrencyLimit, load::Constant, load_shed::LoadShed,
};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    circuit_breaker::CircuitBreakerLayer,
    error::{BoxError, Rejected},
    key_rotation::KeyRotationLayer,
    policy::{breaker::BreakerConfig, limit::Fixed},
    rate_limit::RateLimitLayer,
    testing::ReadinessProbe,
};

use crate::{
    BREAK, Holds, PANIC, Relay, Server, claims, one_key, server, support::*, ten_per_second,
};

/// One is served, and the others are refused by our layer, which says when to come back.
fn assert_one_served(ends: &[Result<u32, BoxError>]) {
    let refused: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    assert_eq!(refused.len(), ends.len() - 1);
    for error in refused {
        let rejected = Rejected::find(&**error).expect("our layer refuses");
        let wait = rejected.retry_after().expect("it says when");
        assert!(wait > Duration::ZERO && wait <= ms(1_000), "{wait:?}");
    }
}

mod checks {
    use super::*;

    pub(super) async fn an_idle_ready_clone_holds_nothing<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<ReadinessProbe<Server>, Service: Relay> + Holds,
    {
        let (layer, server) = (layer().await, server());
        let service = layer.layer(ReadinessProbe::new(server.clone()));
        let mut idle = service.clone();
        idle.ready().await.expect("ready");
        assert_eq!(layer.held(), 0);
        assert_eq!(service.oneshot(1).await.expect("served"), 1);
        assert_eq!(wholes(&server.sent_after()), [0]);
    }

    pub(super) async fn one_layer_over_two_services_and_their_clones_refuses_as_one<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<Server, Service: Relay> + Clone,
    {
        let (layer, server) = (layer().await, server());
        let first = layer.layer(server.clone());
        let second = layer.clone().layer(server.clone());
        let calls = [&first, &second, &first, &second].map(|service| service.clone().oneshot(0));
        assert_one_served(&join_all(calls).await);
        assert_eq!(wholes(&server.sent_after()), [0]);
    }

    pub(super) async fn a_refused_call_takes_no_permit_of_an_inner_layer<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<ConcurrencyLimit<Server>, Service: Relay>,
    {
        let permits = Arc::new(Semaphore::new(3));
        let inner = ConcurrencyLimit::with_semaphore(server(), Arc::clone(&permits));
        let service = layer().await.layer(inner);
        let calls = tokio::spawn(join_all((0..3).map(|n| service.clone().oneshot(n))));
        settle().await;
        assert_eq!(permits.available_permits(), 2);
        assert_one_served(&calls.await.expect("no panic"));
    }

    pub(super) async fn load_shed_hands_a_refusal_on<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Server, Service: Relay>,
    {
        let service = LoadShed::new(layer().await.layer(server()));
        let calls = (0..3).map(|n| service.clone().oneshot(n));
        assert_one_served(&join_all(calls).await);
    }

    pub(super) async fn a_refusal_kills_no_buffer<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Server, Service: Relay>,
    {
        let service = Buffer::new(layer().await.layer(server()), 8);
        let calls = (1..=2).map(|n| service.clone().oneshot(n));
        assert_one_served(&join_all(calls).await);
        assert_eq!(service.oneshot(3).await.expect("served"), 3);
    }

    pub(super) async fn a_refusal_evicts_no_endpoint_of_a_balancer<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<ReadinessProbe<Server>, Service: Relay>,
    {
        let probe = || ReadinessProbe::new(server());
        let endpoints = [layer().await, layer().await];
        let endpoints = endpoints.map(|layer| Constant::new(layer.layer(probe()), 1));
        let mut balance = Balance::new(ServiceList::new::<u32>(endpoints));
        let mut calls = Vec::new();
        for n in 0..20 {
            calls.push(balance.ready().await.expect("ready").call(n));
        }
        let ends = join_all(calls).await;
        let refused = ends.iter().filter(|end| end.is_err()).count();
        assert!((18..20).contains(&refused), "{refused}");
        assert_eq!(balance.len(), 2);
    }

    pub(super) async fn a_call_dropped_in_any_state_gives_back_what_it_held<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<ReadinessProbe<Server>, Service: Relay> + Holds,
    {
        // Not polled, waiting for the answer, panicking, failing, answered.
        for (ask, polled) in [
            (0, false),
            (0, true),
            (PANIC, true),
            (BREAK, true),
            (1, true),
        ] {
            let layer = layer().await;
            let service = layer.layer(ReadinessProbe::new(server()));
            let mut ready = service.clone();
            let call = ready.ready().await.expect("ready").call(ask);
            if polled {
                let task = tokio::spawn(call);
                settle().await;
                assert_eq!(layer.held(), usize::from(ask < BREAK), "{ask}");
                if ask == 0 {
                    task.abort();
                } else {
                    sleep(ms(100)).await;
                }
                drop(task.await);
            } else {
                drop(call);
            }
            assert_eq!(layer.held(), 0, "{ask} {polled}");
        }
    }
}

claims! {
    checks: [
        an_idle_ready_clone_holds_nothing
        one_layer_over_two_services_and_their_clones_refuses_as_one
        a_refused_call_takes_no_permit_of_an_inner_layer
        load_shed_hands_a_refusal_on
        a_refusal_kills_no_buffer
        a_refusal_evicts_no_endpoint_of_a_balancer
        a_call_dropped_in_any_state_gives_back_what_it_held
    ]
    rate_limit: RateLimitLayer::new(ten_per_second()).max_waiting(0);
    key_rotation: KeyRotationLayer::new(one_key(ten_per_second())).max_waiting(0);
    adaptive_concurrency: AdaptiveConcurrencyLayer::new(Fixed::of(1)).max_waiting(0);
    circuit_breaker: half_open().await;
}

/// A breaker that waits for one probe, whose success closes it.
async fn half_open() -> CircuitBreakerLayer {
    let config = BreakerConfig::builder()
        .open(ms(5_000), ms(5_000))
        .jitter_percent(0)
        .probes(1)
        .successes(1)
        .ramp(Duration::ZERO);
    let layer = CircuitBreakerLayer::new(config.build().expect("it is valid"));
    let service = layer.layer(server());
    for _ in 0..5 {
        assert!(service.clone().oneshot(BREAK).await.is_err());
    }
    sleep(ms(5_000)).await;
    layer
}
