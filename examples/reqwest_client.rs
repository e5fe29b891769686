//! A reqwest client that keeps to a quota and tries again what fails for a moment.
//! Run it with `cargo run --example reqwest_client --features full`.
use bytes::Bytes;
use embedded_provider::{Faults, Limits, Provider, Scope};
use futures::future::try_join_all;
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_relay::{
    builder::ServiceBuilderExt, error::BoxError, policy::Quota, reqwest::ReqwestClient,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Somebody else's API, which refuses what exceeds 6,000 requests a minute and fails now and then.
    let limits = Limits {
        requests_per_minute: Some(6_000),
        ..Limits::default()
    };
    let faults = Faults {
        overloaded_share: 0.1,
        ..Faults::default()
    };
    let scope = Scope::new("org", ["key"], limits);
    let api = Provider::builder().scope(scope).faults(faults).seed(3);
    let api = api.start().await?;

    // For an API that is not on loopback: without `no_proxy`, and with reqwest's feature `rustls`.
    let reqwest = reqwest::Client::builder().no_proxy();
    let client = ServiceBuilder::new()
        .retry_http_assume_idempotent()
        .rate_limit_http(Quota::builder().requests_per_minute(6_000).build()?)
        .service(ReqwestClient::build(reqwest)?);

    let calls = (0..50).map(async |_| {
        let body = r#"{"model": "m", "max_tokens": 9, "messages": [{"content": "Hi!"}]}"#;
        let request = http::Request::post(api.url() + "/v1/messages").header("x-api-key", "key");
        let request = request.body(Full::<Bytes>::from(body))?;
        let response = client.clone().oneshot(request).await?;
        // Back to reqwest's own response, for its conveniences.
        let response = reqwest::Response::from(response.map(reqwest::Body::wrap));
        let text = response.error_for_status()?.text().await?;
        Ok::<_, BoxError>(text)
    });
    let answers = try_join_all(calls).await?;
    println!("the first answer: {}", answers[0]);

    let seen = api.counters();
    println!(
        "{} answers; {} failures met on the way, {} refusals",
        seen.answered, seen.overloaded, seen.refused
    );
    assert_eq!((answers.len(), seen.answered, seen.refused), (50, 50, 0));
    Ok(())
}
