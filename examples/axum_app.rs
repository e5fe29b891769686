//! An axum app between two limits: callers of its own, each with a quota that is answered with
//! 429 when it is spent, and an API of somebody else's, called through retry and rate limit.
//!
//! Run it with `cargo run --example axum_app --features full`. It plays its own callers and ends.

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use embedded_provider::{Limits, Provider, Scope};
use http::{StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    error::{BoxError, Rejected},
    policy::{Quota, Unit},
    rate_limit::{KeyedRateLimitLayer, RateLimitLayer},
    retry::RetryLayer,
};

const QUESTION: &str = r#"{"model": "m", "max_tokens": 9, "messages": [{"content": "Hello!"}]}"#;

/// The client stack that every handler shares.
type Upstream = BoxCloneSyncService<http::Request<Full<Bytes>>, Response, BoxError>;

#[derive(Clone)]
struct App {
    upstream: Upstream,
    url: String,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let limits = Limits {
        requests_per_minute: Some(6_000),
        ..Limits::default()
    };
    let api = Provider::builder()
        .scope(Scope::new("org", ["secret"], limits))
        .start()
        .await?;
    let app = App {
        upstream: upstream(Quota::builder().requests_per_minute(6_000).build()?),
        url: format!("{}/v1/messages", api.url()),
    };

    // Each caller may send two at once and then one every 30 s.
    let per_caller = Quota::builder()
        .requests_per_minute(2)
        .burst(Unit::REQUESTS, 2)
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(axum::serve(listener, router(app, per_caller)).into_future());

    for (caller, expected) in [
        ("alice", StatusCode::OK),
        ("alice", StatusCode::OK),
        ("alice", StatusCode::TOO_MANY_REQUESTS),
        ("bob", StatusCode::OK),
    ] {
        let (status, retry_after, body) = ask(&format!("http://{address}/ask"), caller).await?;
        println!("{caller}: {status}, retry-after {retry_after:?}, {body}");
        assert_eq!(status, expected);
        assert_eq!(retry_after.is_some(), status == 429);
    }
    // What was refused at the door has not cost a call of the API.
    assert_eq!(api.counters().calls, 3);
    server.abort();
    Ok(())
}

/// Outbound: retry around rate limit around a hyper client.
fn upstream(quota: Quota) -> Upstream {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let service = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .layer(RetryLayer::http().assume_idempotent())
        .layer(RateLimitLayer::http(quota))
        .service(client);
    BoxCloneSyncService::new(service)
}

/// Inbound: a limit for each caller that refuses at once instead of letting anybody wait.
fn router(app: App, per_caller: Quota) -> Router {
    let caller = |request: &Request| request.headers().get("x-caller").cloned();
    let limit = KeyedRateLimitLayer::new(per_caller, caller).max_waiting(0);
    Router::new()
        .route("/ask", post(forward))
        .with_state(app)
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |error| refuse(&error)))
                .layer(limit),
        )
}

async fn forward(State(app): State<App>, question: Bytes) -> Response {
    let request = http::Request::post(app.url)
        .header("x-api-key", "secret")
        .body(Full::from(question))
        .expect("the URL and the header are valid");
    match app.upstream.oneshot(request).await {
        Ok(answer) => answer,
        Err(error) => refuse(&error),
    }
}

/// A refusal of one of our limits says when to come back; anything else is the API's failure.
fn refuse(error: &BoxError) -> Response {
    match Rejected::find(&**error) {
        Some(rejected) => rejected.into(),
        None => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// One of the app's callers: status, `retry-after` and the beginning of the body.
async fn ask(url: &str, caller: &str) -> Result<(StatusCode, Option<u64>, String), BoxError> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::post(url)
        .header("x-caller", caller)
        .body(Full::from(QUESTION))?;
    let response = client.request(request).await?;
    let status = response.status();
    let retry_after = match response.headers().get(RETRY_AFTER) {
        Some(seconds) => Some(seconds.to_str()?.parse()?),
        None => None,
    };
    let body = response.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).chars().take(60).collect();
    Ok((status, retry_after, body))
}
