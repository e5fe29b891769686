//! What the tests share: a server that says what it is told, pools, and a provider.

use std::{net::SocketAddr, time::Duration};

use ::axum::{Router, extract::ConnectInfo};
use embedded_provider::{Builder, Latency, Limits, Provider, Scope};
use tokio::net::TcpListener;
use tower_relay::{
    http::{StackLayer, stack},
    key_rotation::{KeyPool, Source},
    policy::{Backoff, Growth, Quota, RetryPolicy},
    provider::Profile,
};

pub(crate) const SECRETS: [&str; 2] = ["sk-first-s3cret", "sk-second-s3cret"];
const ALIASES: [&str; 2] = ["first", "second"];

/// Where `app` listens, over HTTP/1.1 and HTTP/2.
pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(::axum::serve(listener, app).into_future());
    format!("http://{address}")
}

/// Whence a connection comes, which tells it from others.
pub(crate) async fn whence(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let address = listener.and_then(|listener| listener.local_addr());
    format!("http://{}", address.expect("a free port"))
}

/// A provider with an account for each secret.
pub(crate) async fn provider(limits: Limits, latency: Latency) -> Provider {
    let scopes = SECRETS.map(|secret| Scope::new(secret, [secret], limits));
    let builder = Provider::builder().latency(latency);
    let builder = scopes.into_iter().fold(builder, Builder::scope);
    builder.start().await.expect("it starts")
}

pub(crate) fn quick() -> Latency {
    Latency {
        first_token: Duration::from_millis(1),
        per_token: Duration::from_millis(1),
    }
}

/// The recommended layers over an account for each secret; tries twice, with hardly a pause.
pub(crate) fn layers(profile: Profile, quota: Quota) -> StackLayer {
    let keys = ALIASES.into_iter().zip(SECRETS.map(Source::value));
    let pool = KeyPool::accounts(quota, keys).expect("a valid pool");
    stack(pool, profile).retry(|layer| layer.policy(hasty(2)))
}

pub(crate) fn ample() -> Quota {
    let quota = Quota::builder().requests_per_minute(60_000).build();
    quota.expect("a valid quota")
}

pub(crate) fn one_at_a_time() -> Quota {
    let quota = Quota::builder().max_in_flight(1).build();
    quota.expect("a valid quota")
}

/// Backs off for milliseconds, and waits for nothing that takes more than seconds.
pub(crate) fn hasty(attempts: u32) -> RetryPolicy {
    let pause = Duration::from_millis(2);
    let backoff = Backoff::new(Growth::Constant, pause, pause)
        .and_then(|backoff| backoff.throttled_base(pause))
        .expect("a valid backoff");
    let builder = RetryPolicy::builder()
        .attempts(attempts)
        .max_elapsed(Duration::from_secs(5));
    builder.backoff(backoff).build().expect("a valid policy")
}

/// Lets other tasks run until `holds`; a claim that never comes true fails.
pub(crate) async fn eventually(claim: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(5), "not so: {claim}");
        tokio::task::yield_now().await;
    }
}

/// Neither a secret nor a part of one.
pub(crate) fn assert_no_secret(text: &str) {
    for part in ["s3cret", "sk-"] {
        assert!(!text.contains(part), "{text}");
    }
}
