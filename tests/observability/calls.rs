//! The recommended stack over HTTP, with every layer, in front of a provider that does as it is
//! told.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    adaptive_concurrency::{AdaptiveConcurrencyHandle, AdaptiveConcurrencyLayer},
    call::{FactsLayer, RequestLayer},
    circuit_breaker::{CircuitBreakerHandle, CircuitBreakerLayer},
    error::BoxError,
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer, Scope, Source},
    metrics::{Labels, waits},
    observe::ObserveLayer,
    policy::{
        Quota, RetryPolicy,
        breaker::BreakerConfig,
        limit::{Aimd, Fixed},
    },
    provider::{Profile, ProviderLayer},
    rate_limit::{RateLimitHandle, RateLimitLayer},
    retry::{RetryHandle, RetryLayer},
};

use super::run::MARK;

pub(crate) type Request = http::Request<Full<Bytes>>;
type Body = BoxBody<Bytes, BoxError>;
pub(crate) type Response = http::Response<Body>;

/// What the provider is told to do, in a header.
const DO: &str = "x-do";

pub(crate) struct Stack {
    pub(crate) service: BoxCloneSyncService<Request, Response, BoxError>,
    pub(crate) keys: KeyRotationHandle,
    pub(crate) places: AdaptiveConcurrencyHandle,
    pub(crate) rate: RateLimitHandle,
    pub(crate) breaker: CircuitBreakerHandle,
    pub(crate) retries: RetryHandle,
}

pub(crate) fn labels() -> Labels {
    Labels::new().label("upstream", "u")
}

pub(crate) fn pool() -> KeyPool {
    let quota = Quota::builder().requests_per_minute(60_000).build();
    let quota = quota.expect("a valid quota");
    let scope = |name: &'static str, alias: &'static str| {
        Scope::new(name)
            .quota_for(["large-*"], quota.clone())
            .quota(quota.clone())
            .key(alias, Source::value(format!("{MARK}-{alias}")))
    };
    let pool = KeyPool::builder()
        .scope(scope("a", "a1"))
        .scope(scope("b", "b1"));
    pool.build().expect("a valid pool")
}

impl Stack {
    pub(crate) fn new() -> Self {
        let profile = Profile::openai();
        let quota = Quota::builder()
            .requests_per_second(1_000)
            .max_in_flight(100);
        let observe = ObserveLayer::of(&profile)
            .server_address("api.example.com")
            .models(["large-*"])
            .labels(labels());
        let policy = RetryPolicy::builder().attempts(2).build();
        let retry = RetryLayer::default()
            .policy(policy.expect("a valid policy"))
            .protocol(profile.clone())
            .noted();
        let places = AdaptiveConcurrencyLayer::new(Fixed::of(100))
            .on_wait(waits("adaptive concurrency", &labels()))
            .protocol(profile.clone())
            .noted();
        let keys = KeyRotationLayer::new(pool())
            .rate_limit(
                Quota::builder()
                    .requests_per_second(1_000)
                    .build()
                    .expect("valid"),
            )
            .concurrency(Aimd::default())
            .on_wait(waits("key rotation", &labels()))
            .protocol(profile.clone())
            .noted();
        let rate = RateLimitLayer::new(quota.build().expect("a valid quota"))
            .on_wait(waits("rate limit", &labels()))
            .protocol(profile.clone())
            .noted();
        let breaker = BreakerConfig::builder()
            .no_conditions()
            .consecutive_failures(4)
            .probes(1)
            .successes(1);
        let breaker = CircuitBreakerLayer::new(breaker.build().expect("a valid breaker"))
            .protocol(profile.clone())
            .noted();
        Self {
            keys: keys.handle(),
            places: places.handle(),
            rate: rate.handle(),
            breaker: breaker.handle(),
            retries: retry.handle(),
            service: BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .layer(FactsLayer::new(profile.facts()))
                    .layer(observe.noted())
                    .layer(retry)
                    .layer(places)
                    .layer(keys)
                    .layer(rate)
                    .layer(breaker)
                    .layer(RequestLayer)
                    .layer(ProviderLayer::new(profile))
                    .service_fn(provider)
                    .map_response(|response: http::Response<_>| {
                        response.map(|body| BodyExt::map_err(body, Into::into).boxed())
                    }),
            ),
        }
    }

    pub(crate) fn publish(&self) {
        self.keys.publish(&labels());
        self.places.publish(&labels());
        self.rate.publish(&labels());
        self.breaker.publish(&labels());
        self.retries.publish(&labels());
    }

    /// Has the provider do this, and reads its answer to the end; whether all of it was well.
    pub(crate) async fn call(&self, what: &str) -> bool {
        self.ask(what, "large-1").await
    }

    pub(crate) async fn ask(&self, what: &str, model: &str) -> bool {
        let response = self.service.clone().oneshot(request(what, model)).await;
        match response {
            Ok(response) if response.status() == 200 => {
                response.into_body().collect().await.is_ok()
            }
            Ok(response) => response.into_body().collect().await.is_err(),
            Err(_) => false,
        }
    }
}

pub(crate) fn request(what: &str, model: &str) -> Request {
    let body = format!(r#"{{"model": "{model}", "max_tokens": 10}}"#);
    let request = http::Request::post("http://localhost/v1/chat/completions").header(DO, what);
    request.body(Full::from(body)).expect("a valid request")
}

async fn provider(request: Request) -> Result<http::Response<Body>, BoxError> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let key = request.headers()["authorization"].to_str().expect("text");
    assert!(key.contains(MARK), "a key is there");
    let what = request.headers()[DO].to_str().expect("text");
    let (status, text) = match what {
        "well" => (
            200,
            r#"{"choices": [{}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}"#,
        ),
        "throttle" => (429, r#"{"error": {"code": "rate_limit_exceeded"}}"#),
        "reject" => (401, r#"{"error": {"code": "invalid_api_key"}}"#),
        "deny" => (404, r#"{"error": {"code": "model_not_found"}}"#),
        "break" => (200, ""),
        "fail" => (500, "{}"),
        other => panic!("nobody knows how to {other}"),
    };
    let response = http::Response::builder().status(status);
    if what == "break" {
        let text = "data: {\"choices\": [{\"delta\": {\"content\": \"x\"}}]}\n\n";
        let frames = [
            Ok(http_body::Frame::data(Bytes::from(text))),
            Err(BoxError::from("reset")),
        ];
        let body = StreamBody::new(futures::stream::iter(frames));
        let response = response.header("content-type", "text/event-stream");
        return Ok(response.body(BodyExt::boxed(body))?);
    }
    let response = response.header("content-type", "application/json");
    let body = Full::<Bytes>::from(text).map_err(|never| match never {});
    Ok(response.body(body.boxed())?)
}
