//! What a call that is admitted at once allocates: nothing.

use std::{
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service};
use tower_relay::{
    error::BoxError,
    key_rotation::{Key, KeyPool, KeyRotationLayer},
    policy::{
        Quota, Unit,
        pool::{Affinity, Strategy},
    },
};

use crate::support::*;

/// A server that allocates nothing.
#[derive(Clone)]
struct Quiet;

impl Service<u32> for Quiet {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn large() -> Quota {
    let quota = Quota::builder()
        .requests_per_second(1_000)
        .burst(Unit::REQUESTS, 1_000_000)
        .output_tokens_per_minute(1_000_000)
        .max_in_flight(1_000);
    built(quota)
}

#[test]
fn a_call_admitted_at_once_allocates_nothing_plain_or_joint_whatever_the_choice() {
    for strategy in [
        Strategy::MostHeadroom,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LeastInFlight,
        Strategy::LeastRecentlyUsed,
    ] {
        for (is_joint, is_affine) in [(false, false), (true, false), (false, true), (true, true)] {
            let scopes = (0..10).map(|n| {
                let keys = [format!("{n}a"), format!("{n}b")];
                let scope = scope(&n.to_string(), &[&keys[0], &keys[1]]).quota(large());
                scope.quota_for(["m-*"], large())
            });
            let builder = scopes.fold(KeyPool::builder(), |builder, scope| builder.scope(scope));
            let builder = builder.strategy(strategy);
            let builder = match is_affine {
                true => builder.affinity(Affinity::new()),
                false => builder,
            };
            let pool = builder.build().expect("it is valid");
            let mut layer = KeyRotationLayer::new(pool);
            if is_joint {
                layer = layer.rate_limit(large()).concurrency(Fixed::of(100));
            }
            let layer = layer
                .model(|n: &u32| Some(if n % 2 == 0 { "m-1" } else { "other" }))
                .affinity(|n: &u32| Some(u64::from(n % 50)))
                .authorize(|n: &mut u32, key: &Key| *n += key.prepared(|_| 1_u32));
            let mut service = layer.layer(Quiet);
            // The first calls learn the models and prepare the keys.
            for n in 0..100 {
                assert!(poll_once(service.call(n)).is_ready());
            }
            let count = allocation_counter::measure(|| {
                for n in 0..1_000 {
                    assert!(poll_once(service.call(n)).is_ready());
                }
            });
            assert_eq!(
                count.count_total, 0,
                "{strategy:?}, joint: {is_joint}, affine: {is_affine}"
            );
            assert_idle(&layer.handle());
        }
    }
}
