//! Five accounts of one provider, used to the full and never refused.
//! Run it with `cargo run --example pool --features full`.
use bytes::Bytes;
use embedded_provider::{Builder, Limits, Provider, Scope};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Layer, ServiceExt};
use tower_relay::key_rotation::{KeyPool, Source};
use tower_relay::{error::BoxError, http::stack, policy::Quota, provider::Profile};

const ACCOUNTS: [&str; 5] = ["key-a", "key-b", "key-c", "key-d", "key-e"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let limits = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let scopes = ACCOUNTS.map(|key| Scope::new(key, [key], limits));
    let api = scopes.into_iter().fold(Provider::builder(), Builder::scope);
    let api = api.start().await?;

    let quota = Quota::builder().requests_per_minute(600).build()?;
    let keys = ACCOUNTS.map(|key| (&key[4..], Source::value(key)));
    let pool = KeyPool::accounts(quota, keys)?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let service = stack(pool, Profile::anthropic()).layer(client);

    let calls = (0..100).map(|_| {
        let body = r#"{"model": "m", "max_tokens": 9, "messages": [{"content": "Hi!"}]}"#;
        let request = http::Request::post(api.url() + "/v1/messages");
        let request = request.body(Full::<Bytes>::from(body));
        service.clone().oneshot(request.expect("it is valid"))
    });
    futures::future::try_join_all(calls).await?;
    println!("{:?}", api.counters());
    Ok(())
}
