//! What holds of each layer that limits the calls in flight, here to three. A breaker's
//! probes are a matter of its own tests.

use futures::future::join_all;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    key_rotation::KeyRotationLayer,
    policy::{Quota, QuotaBuilder, Unit, limit::Fixed},
    rate_limit::RateLimitLayer,
    testing::ReadinessProbe,
};

use crate::{BREAK, Holds, PANIC, Relay, Server, claims, one_key, server, support::*};

mod checks {
    use super::*;

    pub(super) async fn no_more_than_the_limit_are_in_flight_however_calls_end<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<ReadinessProbe<Server>, Service: Relay> + Holds,
    {
        let (layer, server) = (layer().await, server());
        let service = layer.layer(ReadinessProbe::new(server.clone()));
        for _ in 0..10 {
            let calls = [0, 1, 2, BREAK, PANIC, 3, 4, 5, 6, 7];
            let calls = calls.map(|n| tokio::spawn(service.clone().oneshot(n)));
            settle().await;
            assert_eq!((layer.held(), server.in_flight()), (3, 3));
            // One that is in flight, and one that waits if it may.
            calls[1].abort();
            calls[9].abort();
            sleep(ms(50)).await;
            assert!(layer.held() <= 3);
            drop(join_all(calls).await);
            assert_eq!((layer.held(), server.in_flight()), (0, 0));
        }
        assert_eq!(server.peak_in_flight(), 3);
    }
}

claims! {
    checks: [
        no_more_than_the_limit_are_in_flight_however_calls_end
    ]
    rate_limit: RateLimitLayer::new(three_at_once());
    key_rotation: KeyRotationLayer::new(one_key(three_at_once()));
    joint: KeyRotationLayer::new(one_key(plenty().build().expect("it is valid")))
        .concurrency(Fixed::of(3));
    adaptive_concurrency: AdaptiveConcurrencyLayer::new(Fixed::of(3));
}

fn plenty() -> QuotaBuilder {
    Quota::builder()
        .requests_per_second(1_000)
        .burst(Unit::REQUESTS, 1_000)
}

fn three_at_once() -> Quota {
    plenty().max_in_flight(3).build().expect("it is valid")
}
