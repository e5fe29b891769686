//! The layers before a real client and a real server, which judges them by its own books.
#![cfg(all(feature = "rate-limit", feature = "retry", feature = "provider"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests against a real server run in real time"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use embedded_provider::{Faults, Latency, Limits, Provider, Scope};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_relay::{
    call::{FactsLayer, RequestLayer},
    error::BoxError,
    http::Http,
    policy::{Backoff, Growth, Quota, RetryPolicy, Unit},
    provider::JsonFacts,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

type Request = http::Request<Full<Bytes>>;
type HttpClient = Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn provider(scale: f64, limits: Limits, latency: Latency, faults: Faults) -> Provider {
    Provider::builder()
        .time_scale(scale)
        .scope(Scope::new("org", ["key-1"], limits))
        .latency(latency)
        .faults(faults)
        .start()
        .await
        .expect("it starts")
}

fn request(provider: &Provider, key: &str, is_stream: bool) -> Request {
    let body = format!(
        r#"{{"model":"m","max_tokens":100,"stream":{is_stream},"messages":[{{"role":"user","content":"how are you?"}}]}}"#
    );
    http::Request::post(format!("{}/v1/messages", provider.url()))
        .header("x-api-key", key)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a valid request")
}

/// Backs off for milliseconds, where the server gives no hint.
fn hasty(attempts: u32) -> RetryPolicy {
    let backoff = Backoff::new(
        Growth::Constant,
        Duration::from_millis(5),
        Duration::from_millis(5),
    );
    let builder = RetryPolicy::builder().attempts(attempts);
    let builder = builder.backoff(backoff.expect("a valid backoff"));
    builder.build().expect("a valid policy")
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let limits = Limits {
        requests_per_minute: Some(60),
        ..Limits::default()
    };
    let provider = provider(1.0, limits, Latency::default(), Faults::default()).await;
    let stack = RetryLayer::http().layer(client());
    let first = stack.clone().oneshot(request(&provider, "key-1", false));
    assert_eq!(first.await.expect("an answer").status(), 200);
    let start = Instant::now();
    let second = stack.oneshot(request(&provider, "key-1", false)).await;
    assert_eq!(second.expect("an answer").status(), 200);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let counters = provider.counters();
    assert_eq!((counters.answered, counters.refused), (2, 1));
}

#[tokio::test]
async fn a_refused_key_is_asked_once() {
    let provider = provider(
        1.0,
        Limits::default(),
        Latency::default(),
        Faults::default(),
    )
    .await;
    let retry = RetryLayer::http().assume_idempotent();
    let stack = retry.layer(client());
    let answer = stack.oneshot(request(&provider, "revoked", false)).await;
    assert_eq!(answer.expect("the answer as it was").status(), 401);
    assert_eq!(provider.counters().calls, 1);
}

#[tokio::test]
async fn nobody_listening_is_a_failure_without_effect() {
    let provider = provider(
        1.0,
        Limits::default(),
        Latency::default(),
        Faults::default(),
    )
    .await;
    let dead = request(&provider, "key-1", false);
    drop(provider);
    let limit = RateLimitLayer::http(
        Quota::builder()
            .requests_per_hour(10)
            .burst(Unit::REQUESTS, 10)
            .build()
            .expect("a valid quota"),
    );
    // A POST, not known to be idempotent: sent again all the same.
    let retry = RetryLayer::new(hasty(3)).protocol(Http);
    let stack = retry.layer(limit.layer(client()));
    stack.oneshot(dead).await.expect_err("nobody listens");
    assert_eq!(retry.handle().snapshot().retries(), 2);
    assert_eq!(limit.handle().snapshot().admitted(), 3);
    assert_eq!(limit.handle().available(Unit::REQUESTS), Some(10));
}

#[tokio::test]
async fn a_stream_keeps_its_place_until_it_ends_or_is_dropped() {
    let latency = Latency {
        first_token: Duration::from_millis(2),
        per_token: Duration::from_millis(1),
    };
    let provider = provider(1.0, Limits::default(), latency, Faults::default()).await;
    let quota = Quota::builder().max_in_flight(1).build().expect("valid");
    let limit = RateLimitLayer::http(quota);
    let stack = limit.layer(client());
    let call = || {
        let request = request(&provider, "key-1", true);
        stack.clone().oneshot(request)
    };
    let whole = call().await.expect("a stream");
    assert_eq!(limit.handle().snapshot().active(), 1);
    let text = whole.into_body().collect().await.expect("a whole stream");
    assert!(text.to_bytes().ends_with(b"\"message_stop\"}\n\n"));
    assert_eq!(limit.handle().snapshot().active(), 0);

    let mut half = call().await.expect("a stream");
    let first = half.body_mut().frame().await.expect("a frame");
    assert!(first.expect("no error").is_data());
    assert_eq!(limit.handle().snapshot().active(), 1);
    drop(half);
    assert_eq!(limit.handle().snapshot().active(), 0);
    // The provider sees that its client is gone, and then the place there is free as well.
    drop(call().await.expect("another stream"));
    while provider.counters().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(provider.counters().disconnected, 2);
}

#[tokio::test]
async fn a_quota_is_never_overdrawn() {
    let limits = Limits {
        requests_per_minute: Some(3_000),
        output_tokens_per_minute: Some(240_000),
        // A call may arrive 200 ms after it was sent and still find room.
        burst: Duration::from_secs(1),
        ..Limits::default()
    };
    let latency = Latency {
        first_token: Duration::from_millis(300),
        per_token: Duration::from_millis(5),
    };
    let provider = provider(5.0, limits, latency, Faults::default()).await;
    // The provider's minute passes in twelve seconds.
    let scaled = Duration::from_secs(12);
    let quota = Quota::builder()
        .rate(Unit::REQUESTS, 3_000, scaled)
        .rate(Unit::OUTPUT_TOKENS, 240_000, scaled)
        .build()
        .expect("a valid quota");
    let limit = RateLimitLayer::http(quota).noted();
    let stack = ServiceBuilder::new()
        .layer(FactsLayer::new(JsonFacts::new()))
        .layer(RetryLayer::http().noted())
        .layer(limit.clone())
        .layer(RequestLayer)
        .service(client());
    let answers: Vec<u16> = stream::iter(0..300)
        .map(|_| send(stack.clone(), request(&provider, "key-1", false)))
        .buffer_unordered(60)
        .collect()
        .await;
    assert!(answers.iter().all(|status| *status == 200));
    let counters = provider.counters();
    assert_eq!(counters.refused, 0, "no call was sent to be refused");
    assert_eq!(counters.answered, 300);
    assert_eq!(limit.handle().snapshot().completed(), 300);
    // How much of it is used depends on this machine's load; `relay demo` prints it.
}

async fn send<S, B>(service: S, request: Request) -> u16
where
    S: Service<Request, Response = http::Response<B>, Error = BoxError>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let response = service.oneshot(request).await.expect("an answer");
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("a body");
    status
}

#[tokio::test]
async fn faults_are_retried_and_the_books_agree() {
    let faults = Faults {
        overloaded_share: 0.1,
        server_error_share: 0.1,
        ..Faults::default()
    };
    let provider = provider(1.0, Limits::default(), Latency::default(), faults).await;
    let retry = RetryLayer::new(hasty(10))
        .protocol(Http)
        .assume_idempotent();
    let stack = retry.layer(client());
    let statuses: Vec<u16> = stream::iter(0..300)
        .map(|_| send(stack.clone(), request(&provider, "key-1", false)))
        .buffer_unordered(10)
        .collect()
        .await;
    let answered = statuses.iter().filter(|status| **status == 200).count() as u64;
    let counters = provider.counters();
    let snapshot = retry.handle().snapshot();
    assert_eq!(counters.answered, answered);
    assert_eq!(counters.calls, 300 + snapshot.retries());
    // One call in five fails, which the budget can just pay for.
    assert!(answered >= 290, "{answered} of 300");
    assert!(counters.overloaded > 0 && counters.server_errors > 0);
}
