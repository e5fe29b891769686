//! An axum app between the layers: a limit for each of its callers, and a pool of keys in its state
//! for what it calls itself.

use std::time::Duration;

use ::axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use embedded_provider::{Latency, Limits, Provider};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    http::{BoxedStackService, StackLayer},
    key_rotation::KeyRotationHandle,
    policy::{Quota, Unit},
    provider::Profile,
    rate_limit::KeyedRateLimitLayer,
};

use crate::support::{
    SECRETS, ample, assert_no_secret, eventually, layers, one_at_a_time, provider, quick, serve,
};

#[derive(Clone)]
struct App {
    upstream: BoxedStackService<Full<Bytes>, Bytes>,
    url: String,
}

async fn forward(State(app): State<App>, question: Bytes) -> Response {
    let request = http::Request::post(format!("{}/v1/messages", app.url));
    let request = request.body(Full::from(question)).expect("a valid request");
    match app.upstream.oneshot(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => refuse(error).await,
    }
}

async fn refuse(error: BoxError) -> Response {
    match Rejected::find(&*error) {
        Some(rejected) => rejected.into(),
        None => {
            let mut response = Response::new(error.to_string().into());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

/// An app before `api` whose callers may each send `burst` at once; where it is, and its pool.
async fn app(api: &Provider, stack: StackLayer, burst: u64) -> (String, KeyRotationHandle) {
    let handle = stack.handle();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let app = App {
        upstream: stack.boxed().layer(client),
        url: api.url(),
    };
    let quota = Quota::builder().requests_per_minute(2);
    let quota = quota
        .burst(Unit::REQUESTS, burst)
        .build()
        .expect("a valid quota");
    let caller = |request: &Request| request.headers().get("x-caller").cloned();
    let inbound = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(KeyedRateLimitLayer::new(quota, caller).max_waiting(0));
    let router = Router::new().route("/ask", post(forward)).with_state(app);
    (serve(router.layer(inbound)).await, handle)
}

async fn ask(
    url: &str,
    caller: &'static str,
    is_stream: bool,
) -> http::Response<::hyper::body::Incoming> {
    let body = format!(
        r#"{{"model": "m", "max_tokens": 9, "stream": {is_stream}, "messages": [{{"content": "Hi!"}}]}}"#
    );
    let request = http::Request::post(format!("{url}/ask")).header("x-caller", caller);
    let request = request
        .body(Full::<Bytes>::from(body))
        .expect("a valid request");
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request).await.expect("an answer")
}

async fn text(response: http::Response<::hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.expect("a body");
    String::from_utf8(body.to_bytes().into()).expect("text")
}

#[tokio::test]
async fn each_caller_has_a_quota_and_is_told_when_to_come_back() {
    let api = provider(Limits::default(), quick()).await;
    let (url, _) = app(&api, layers(Profile::anthropic(), ample()), 2).await;
    for (caller, status) in [("alice", 200), ("alice", 200), ("alice", 429), ("bob", 200)] {
        let answer = ask(&url, caller, false).await;
        assert_eq!(answer.status(), status, "{caller}");
        if status == 429 {
            assert_eq!(answer.headers()[RETRY_AFTER], "30");
            assert!(text(answer).await.starts_with("rate limit refused"));
        }
    }
    assert_eq!(api.counters().calls, 3);
}

#[tokio::test]
async fn a_refusal_of_the_pool_is_an_answer_without_a_secret() {
    let api = provider(Limits::default(), quick()).await;
    for secret in SECRETS {
        api.revoke_key(secret).expect("it is known");
    }
    let (url, _) = app(&api, layers(Profile::anthropic(), ample()), 9).await;
    // The provider's own answer, then the pool's: it has nobody left to ask with.
    assert_eq!(ask(&url, "alice", false).await.status(), 401);
    let refused = ask(&url, "alice", false).await;
    assert_eq!(refused.status(), 503);
    let text = text(refused).await;
    assert_no_secret(&text);
    assert!(text.contains("first") && text.contains("second"), "{text}");
    assert_eq!(api.counters().unauthorized, 2);
}

#[tokio::test]
async fn a_caller_who_hangs_up_frees_the_pool_and_the_provider() {
    let slow = Latency {
        per_token: Duration::from_secs(60),
        ..quick()
    };
    let api = provider(Limits::default(), slow).await;
    let (url, handle) = app(&api, layers(Profile::anthropic(), one_at_a_time()), 9).await;
    let mut stream = ask(&url, "alice", true).await;
    let first = stream.body_mut().frame().await.expect("a frame");
    assert!(first.is_ok_and(|frame| frame.is_data()));
    assert_eq!(handle.snapshot().active(), 1);
    drop(stream);
    eventually("the place is free", || handle.snapshot().active() == 0).await;
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
}
