//! What a call that is admitted at once allocates to the end of its body: nothing.

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
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    circuit_breaker::{CircuitBreakerLayer, KeyedCircuitBreakerLayer},
    http::Http,
    key_rotation::{KeyPool, KeyPoolBuilder, KeyRotationLayer, Scope, Source},
    policy::{
        Quota, Unit,
        breaker::BreakerConfig,
        limit::{Aimd, Bounds, Fixed, SizedVegas},
        pool::{Affinity, Strategy},
    },
    rate_limit::{KeyedRateLimitLayer, RateLimitLayer},
    retry::RetryLayer,
};

use crate::one_key;

const CALLS: u64 = 1_000;

type Request = http::Request<Full<Bytes>>;

/// A server that allocates nothing.
#[derive(Clone)]
struct Quiet;

impl Service<Request> for Quiet {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        let body = Full::new(Bytes::from_static(b"{}"));
        ready(Ok(http::Response::new(body)))
    }
}

/// A request with the six headers that a client sends, and room for another: what the caller's
/// header map allocates to take a key is not the layer's.
fn request(path: &str) -> Request {
    let names = [
        "accept",
        "authorization",
        "content-type",
        "host",
        "user-agent",
        "x-request-id",
    ];
    let builder = http::Request::post(path);
    let builder = names
        .iter()
        .fold(builder, |builder, name| builder.header(*name, "1"));
    let body = Full::new(Bytes::from_static(b"{}"));
    let mut request = builder.body(body).expect("it is valid");
    request.headers_mut().reserve(1);
    request
}

/// Makes a call, and reads its answer to the end.
fn call<S, B>(service: &mut S, request: Request)
where
    S: Service<Request, Response = http::Response<B>>,
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
    assert!(body.is_end_stream());
}

/// Allocations of so many calls.
fn allocated<S, B>(mut service: S) -> u64
where
    S: Service<Request, Response = http::Response<B>>,
    B: Body,
{
    let asks = |calls: u64| -> Vec<_> {
        let paths = ["/m-1", "/other"].into_iter().cycle();
        paths.zip(0..calls).map(|(path, _)| request(path)).collect()
    };
    // What is allocated once, as the clock's origin, a model's class and a key's breaker, is not
    // the calls'.
    for request in asks(100) {
        call(&mut service, request);
    }
    let asks = asks(CALLS);
    let count = allocation_counter::measure(|| {
        asks.into_iter().for_each(|ask| call(&mut service, ask));
    });
    count.count_total
}

fn large() -> Quota {
    let quota = Quota::builder()
        .requests_per_second(1_000)
        .burst(Unit::REQUESTS, 1_000_000)
        .output_tokens_per_minute(1_000_000)
        .max_in_flight(1_000);
    quota.build().expect("it is valid")
}

fn method(request: &Request) -> http::Method {
    request.method().clone()
}

#[test]
fn a_call_within_a_rate_limit_allocates_nothing() {
    assert_eq!(allocated(RateLimitLayer::http(large()).layer(Quiet)), 0);
}

#[test]
fn a_call_within_the_rate_limit_of_a_known_key_allocates_nothing() {
    let layer = KeyedRateLimitLayer::new(large(), method).protocol(Http);
    assert_eq!(allocated(layer.layer(Quiet)), 0);
}

#[test]
fn a_call_within_a_learned_limit_allocates_nothing_whatever_the_algorithm() {
    let bounds = || Bounds::new(1..=10).expect("they are in order");
    for (index, layer) in [
        AdaptiveConcurrencyLayer::http(Fixed::of(10)),
        AdaptiveConcurrencyLayer::http(Aimd::new(bounds())),
        AdaptiveConcurrencyLayer::http(SizedVegas::new(bounds())),
        AdaptiveConcurrencyLayer::http(SizedVegas::new(bounds()).by_size()),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(allocated(layer.layer(Quiet)), 0, "algorithm {index}");
        assert_eq!(layer.handle().snapshot().active(), 0);
    }
}

#[test]
fn a_call_through_a_closed_breaker_allocates_nothing() {
    let layer = CircuitBreakerLayer::http(BreakerConfig::default());
    assert_eq!(allocated(layer.layer(Quiet)), 0);
    assert_eq!(allocated(layer.gate().layer(layer.layer(Quiet))), 0);
    assert_eq!(layer.handle().snapshot().calls(), 2 * (CALLS + 100));
}

#[test]
fn a_call_through_the_breaker_of_a_known_key_allocates_nothing() {
    let layer = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), method).protocol(Http);
    assert_eq!(allocated(layer.layer(Quiet)), 0);
}

#[test]
fn a_call_with_a_key_allocates_nothing_plain_or_joint_whatever_the_choice() {
    for strategy in [
        Strategy::MostHeadroom,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LeastInFlight,
        Strategy::LeastRecentlyUsed,
    ] {
        let scopes = (0..10).map(|n| {
            let scope = Scope::new(n.to_string()).quota(large());
            let scope = ["a", "b"].iter().fold(scope, |scope, key| {
                scope.key(format!("{n}{key}"), Source::value(format!("hush-{n}{key}")))
            });
            scope.quota_for(["/m-*"], large())
        });
        let pool = scopes.fold(KeyPool::builder(), |builder, scope| builder.scope(scope));
        let pool = pool.strategy(strategy);
        let sticky = pool.clone().affinity(Affinity::new());
        let layer =
            |pool: KeyPoolBuilder| KeyRotationLayer::bearer(pool.build().expect("it is valid"));
        let plain = layer(pool);
        let joint = plain
            .clone()
            .rate_limit(large())
            .concurrency(Fixed::of(100));
        for layer in [plain, joint, layer(sticky)] {
            let layer = layer
                .model(|request: &Request| Some(request.uri().path()))
                .affinity(|request: &Request| Some(request.uri().path().len() as u64));
            assert_eq!(allocated(layer.layer(Quiet)), 0, "{strategy:?} {layer:?}");
            assert_eq!(layer.handle().snapshot().active(), 0);
        }
    }
}

#[test]
fn retry_allocates_the_callers_own_clone_and_nothing_else_alone_or_around_the_others() {
    let one = request("/other");
    let clone = allocation_counter::measure(|| drop(one.clone())).count_total;
    assert!(
        clone > 0,
        "what the caller's own clone allocates is counted"
    );
    let retry = RetryLayer::http();
    assert_eq!(allocated(retry.layer(Quiet)), CALLS * clone);

    let inner = CircuitBreakerLayer::http(BreakerConfig::default()).layer(Quiet);
    let inner = AdaptiveConcurrencyLayer::http(Fixed::of(10)).layer(inner);
    let inner = RateLimitLayer::http(large()).layer(inner);
    let inner = KeyRotationLayer::bearer(one_key(large())).layer(inner);
    assert_eq!(allocated(retry.layer(inner)), CALLS * clone);
}
