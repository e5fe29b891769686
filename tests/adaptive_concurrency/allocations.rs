//! What a call that is admitted at once allocates: nothing.

use std::{
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service};
use tower_relay::{adaptive_concurrency::AdaptiveConcurrencyLayer, error::BoxError};

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

#[test]
fn a_call_admitted_at_once_allocates_nothing_whatever_the_algorithm() {
    let layers = [
        AdaptiveConcurrencyLayer::new(fixed(10)),
        AdaptiveConcurrencyLayer::new(aimd(1, 10, 10)),
        AdaptiveConcurrencyLayer::new(vegas(1, 10, 10)),
        AdaptiveConcurrencyLayer::new(vegas(1, 10, 10).by_size()),
    ];
    for (index, layer) in layers.into_iter().enumerate() {
        let mut service = layer.layer(Quiet);
        for n in 0..10 {
            assert!(poll_once(service.call(n)).is_ready());
        }
        let count = allocation_counter::measure(|| {
            for n in 0..1_000 {
                assert!(poll_once(service.call(n)).is_ready());
            }
        });
        assert_eq!(count.count_total, 0, "algorithm {index}");
        assert_idle(&layer.handle());
    }
}
