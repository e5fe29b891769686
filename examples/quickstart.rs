//! A hyper client that keeps to a quota and tries again what fails for a moment.
//! Run it with `cargo run --example quickstart --features full`.
use bytes::Bytes;
use embedded_provider::{Limits, Provider, Scope};
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_relay::{error::BoxError, policy::Quota, rate_limit::RateLimitLayer, retry::RetryLayer};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Somebody else's API, which refuses what exceeds 600 requests a minute.
    let limits = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let scope = Scope::new("org", ["key"], limits);
    let api = Provider::builder().scope(scope).start().await?;

    // For `https`, `build(connector)` with one of hyper-rustls in the place of `build_http()`, and for
    // HTTP/2 hyper-util's feature `http2`; the layers stay as they are.
    let quota = Quota::builder().requests_per_minute(600).build()?;
    let client = ServiceBuilder::new()
        .layer(RetryLayer::http().assume_idempotent())
        .layer(RateLimitLayer::http(quota))
        .service(Client::builder(TokioExecutor::new()).build_http());

    for _ in 0..30 {
        let body = r#"{"model": "m", "max_tokens": 9, "messages": [{"content": "Hi!"}]}"#;
        let request = Request::post(api.url() + "/v1/messages").header("x-api-key", "key");
        let request = request.body(Full::<Bytes>::from(body))?;
        assert_eq!(client.clone().oneshot(request).await?.status(), 200);
    }
    let seen = api.counters();
    println!("{} answers, {} refused", seen.answered, seen.refused);
    assert_eq!((seen.answered, seen.refused), (30, 0));
    Ok(())
}
