//! What a call through a closed breaker allocates: nothing.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service};
use tower_relay::{
    circuit_breaker::{CircuitBreakerLayer, KeyedCircuitBreakerLayer},
    policy::breaker::BreakerConfig,
};

/// A server that allocates nothing.
#[derive(Clone)]
struct Quiet;

impl<Req> Service<Req> for Quiet {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let body = Full::new(Bytes::from_static(b"{}"));
        ready(Ok(http::Response::new(body)))
    }
}

/// A request with the six headers that a client sends.
fn request() -> http::Request<Full<Bytes>> {
    let names = [
        "accept",
        "authorization",
        "content-type",
        "host",
        "user-agent",
        "x-request-id",
    ];
    let builder = names
        .iter()
        .fold(http::Request::post("/"), |builder, name| {
            builder.header(*name, "1")
        });
    builder
        .body(Full::new(Bytes::from_static(b"{}")))
        .expect("it is valid")
}

/// Makes a call, and reads its answer to the end.
fn call<S, B>(service: &mut S, request: http::Request<Full<Bytes>>)
where
    S: Service<http::Request<Full<Bytes>>, Response = http::Response<B>>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) else {
        panic!("it answers at once");
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok());
    }
}

fn allocated<S, B>(service: &mut S) -> u64
where
    S: Service<http::Request<Full<Bytes>>, Response = http::Response<B>>,
    B: Body,
{
    // What is allocated once, as the clock's origin and a key's breaker, is not the calls'.
    call(service, request());
    let requests: Vec<_> = (0..1_000).map(|_| request()).collect();
    let count = allocation_counter::measure(|| {
        requests
            .into_iter()
            .for_each(|request| call(service, request));
    });
    count.count_total
}

#[test]
fn a_call_through_a_closed_breaker_allocates_nothing_to_its_bodys_end() {
    let layer = CircuitBreakerLayer::http(BreakerConfig::default());
    assert_eq!(allocated(&mut layer.layer(Quiet)), 0);
    assert_eq!(allocated(&mut layer.gate().layer(layer.layer(Quiet))), 0);
    assert_eq!(layer.handle().snapshot().calls(), 2_002);
}

#[test]
fn a_call_of_a_known_key_allocates_nothing() {
    let key = |request: &http::Request<Full<Bytes>>| request.method().clone();
    let layer = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), key)
        .protocol(tower_relay::http::Http);
    assert_eq!(allocated(&mut layer.layer(Quiet)), 0);
}

#[test]
fn a_key_takes_at_most_256_bytes_beside_the_map() {
    let key = |n: &u32| *n;
    let layer = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), key);
    let mut service = layer.layer(Quiet);
    drop(service.call(0_u32));
    let key = allocation_counter::measure(|| {
        for n in 1..=1_000_u32 {
            drop(service.call(n));
        }
    });
    // The map and the circle of keys: two words and a bit each, with room to grow.
    let map = 2 * (24 + 4);
    let each = key.bytes_current / 1_000;
    assert!(each <= 256 + map, "{each}");
    assert_eq!(layer.handle().keys(), 1_001);
}
