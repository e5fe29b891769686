//! A profile as the strategy of every layer outside, and an outcome beside a 200 that is a failure.

use std::time::Duration;

use http::{HeaderName, Request};
use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    call::{FactsLayer, RequestLayer},
    circuit_breaker::CircuitBreakerLayer,
    error::Rejected,
    http::stack,
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    outcome::{Outcome, Verdict},
    policy::{
        Quota, Unit,
        breaker::{BreakerConfig, Mode, State},
        limit::{Aimd, Bounds, Fixed},
        pool::KeyState,
    },
    provider::{CredentialHeader, Profile, ProviderLayer},
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

use crate::support::{Answer, Client, Step, answer, data, events, json, read, request};

fn provider() -> ProviderLayer {
    ProviderLayer::new(Profile::generic())
}

/// A 200 of which a layer inside has found out that it is none.
fn failed(verdict: Verdict) -> Answer {
    events([data("data: 1\n\n"), data("data: 2\n\n"), Step::Trailers]).known(Outcome::new(verdict))
}

fn fine() -> Answer {
    json(200, "{}")
}

fn pool(scopes: impl IntoIterator<Item = Scope>) -> KeyPool {
    let pool = scopes
        .into_iter()
        .fold(KeyPool::builder(), |pool, scope| pool.scope(scope));
    pool.build().expect("a valid pool")
}

fn two_scopes() -> KeyPool {
    pool([
        Scope::new("org-a").key("a1", Source::value("secret-a1")),
        Scope::new("org-b").key("b1", Source::value("secret-b1")),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_a_200_is_retried_and_the_last_one_reaches_the_caller_whole() {
    let client = Client::new([failed(Verdict::ServerFault), fine()]);
    let retry = RetryLayer::default().protocol(Profile::generic());
    let service = retry.layer(provider().layer(client.clone()));
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(read(response.into_body()).await, "{}");
    assert_eq!(client.asked().len(), 2);

    let client = Client::new((0..5).map(|_| failed(Verdict::Overloaded)));
    let service = retry.layer(provider().layer(client.clone()));
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(client.asked().len(), 5);
    assert_eq!(read(response.into_body()).await, "data: 1\n\ndata: 2\n\n#");
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_a_200_opens_the_breaker() {
    let breaker = CircuitBreakerLayer::default().protocol(Profile::generic());
    let client = Client::new((0..9).map(|_| failed(Verdict::Overloaded)));
    let service = breaker.layer(provider().layer(client.clone()));
    for _ in 0..5 {
        let response = service.clone().oneshot(request("{}")).await;
        assert_eq!(response.expect("an answer").status(), 200);
    }
    let error = service
        .oneshot(request("{}"))
        .await
        .expect_err("it is open");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::BreakerOpen(_))
    ));
    assert_eq!(client.asked().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_a_200_takes_the_key_out() {
    let keys = KeyRotationLayer::new(two_scopes()).protocol(Profile::generic());
    let retry = RetryLayer::default().protocol(Profile::generic());
    let client = Client::new([failed(Verdict::KeyRejected), fine(), fine(), fine()]);
    let service = retry.layer(keys.layer(provider().layer(client.clone())));
    for _ in 0..3 {
        let response = service.clone().oneshot(request("{}")).await;
        assert_eq!(read(response.expect("ok").into_body()).await, "{}");
    }
    let seen = client.seen("authorization");
    assert_eq!(seen.len(), 4);
    assert_ne!(seen[0], seen[1]);
    assert!(seen[1..].iter().all(|key| *key == seen[1]), "{seen:?}");
    let scopes = keys.handle().scopes();
    let states = scopes.iter().flat_map(|scope| scope.keys());
    let rejected = states.filter(|key| key.state() == KeyState::Rejected(None));
    assert_eq!(rejected.count(), 1);
    assert_eq!(client.asked(), [0, 0, 0, 0], "it cost no wait");
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_a_200_lowers_a_learned_limit() {
    let bounds = Bounds::new(1..=64).expect("valid");
    let limit = AdaptiveConcurrencyLayer::new(Aimd::new(bounds)).protocol(Profile::generic());
    let handle = limit.handle();
    let service = limit.layer(provider().layer(Client::new([failed(Verdict::Overloaded)])));
    let before = handle.limit();
    let response = service.oneshot(request("{}")).await.expect("an answer");
    read(response.into_body()).await;
    assert!(handle.limit() < before, "{} of {before}", handle.limit());
}

#[tokio::test(start_paused = true)]
async fn calls_may_be_repeated_though_they_are_posts() {
    for (status, sent) in [(500, 2), (400, 1), (429, 2)] {
        let client = Client::new([json(status, "{}"), fine()]);
        let retry = RetryLayer::default().protocol(Profile::generic());
        let service = retry.layer(provider().layer(client.clone()));
        service.oneshot(request("{}")).await.expect("an answer");
        assert_eq!(client.asked().len(), sent, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_goes_where_the_profile_says_in_the_place_of_all_others() {
    let own = CredentialHeader::Named("x-run-time".parse().expect("a valid name"));
    for (profile, header, value) in [
        (Profile::openai(), "authorization", "Bearer secret-a1"),
        (Profile::gemini(), "x-goog-api-key", "secret-a1"),
        (Profile::azure_openai(), "api-key", "secret-a1"),
        (
            Profile::generic().credential(own),
            "x-run-time",
            "secret-a1",
        ),
    ] {
        let scope = Scope::new("org-a").key("a1", Source::value("secret-a1"));
        let keys = KeyRotationLayer::new(pool([scope])).protocol(profile.clone());
        let client = Client::new([fine()]);
        let service = keys.layer(ProviderLayer::new(profile).layer(client.clone()));
        let mut request = request("{}");
        let others = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
        for name in others {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .insert(name, "the caller's".parse().expect("visible"));
        }
        service.oneshot(request).await.expect("an answer");
        for name in others.into_iter().chain(["x-run-time"]) {
            let expected = if name == header { value } else { "" };
            assert_eq!(client.seen(name), [expected], "{header}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failures_head_is_enough_where_nobody_has_read_its_body() {
    // Outside a layer that takes the outcome away.
    let client = Client::new([json(429, "{}").header("retry-after", "3"), fine()]);
    let inner = provider().layer(client.clone());
    let forget = tower::service_fn(
        move |request: Request<http_body_util::Full<bytes::Bytes>>| {
            let answer = inner.clone().oneshot(request);
            async move {
                let mut response = answer.await?;
                response.extensions_mut().clear();
                Ok::<_, &str>(response)
            }
        },
    );
    let retry = RetryLayer::default().protocol(Profile::generic());
    let response = retry.layer(forget).oneshot(request("{}")).await;
    assert_eq!(response.expect("an answer").status(), 200);
    let asked = client.asked();
    assert!((3_000..=3_301).contains(&asked[1]), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn one_profile_serves_every_layer_with_facts_beside_the_request() {
    let profile = Profile::generic();
    let quota = || {
        Quota::builder()
            .tokens_per_minute(60)
            .burst(Unit::TOKENS, 5_000)
            .build()
    };
    let limit = RateLimitLayer::new(quota().expect("valid"))
        .protocol(profile.clone())
        .noted();
    let handle = limit.handle();
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(profile.facts()))
        .layer(RetryLayer::default().protocol(profile.clone()).noted())
        .layer(
            AdaptiveConcurrencyLayer::new(Fixed::of(9))
                .protocol(profile.clone())
                .noted(),
        )
        .layer(limit)
        .layer(
            KeyRotationLayer::new(two_scopes())
                .protocol(profile.clone())
                .noted(),
        )
        .layer(
            CircuitBreakerLayer::default()
                .protocol(profile.clone())
                .noted(),
        )
        .layer(RequestLayer)
        .layer(ProviderLayer::new(profile))
        .service(Client::new([json(200, "no JSON at all")]));
    let body = r#"{"max_tokens":900,"n":2,"model":"m"}"#;
    let response = service.oneshot(request(body)).await.expect("an answer");
    let reserved = 1_800 + (body.len() as i64 + 3) / 4;
    assert_eq!(handle.available(Unit::TOKENS), Some(5_000 - reserved));
    assert_eq!(handle.snapshot().active(), 1);
    assert_eq!(read(response.into_body()).await, "no JSON at all");
    assert_eq!(handle.snapshot().active(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_recommended_stack_stops_calling_what_is_down() {
    let client = Client::new((0..40).map(|_| json(500, "{}")));
    let config = BreakerConfig::builder().consecutive_failures(3);
    let config = config
        .open(Duration::from_secs(60), Duration::from_secs(60))
        .build();
    let stack = stack(two_scopes(), Profile::generic())
        .circuit_breaker(|layer| layer.config(config.expect("valid")));
    let breaker = stack.circuit_breaker_handle();
    let keys = stack.handle();
    let service = stack.layer(client.clone());
    let mut request = request("{}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    request
        .extensions_mut()
        .insert(tower_relay::http::Deadline::at(deadline));
    let error = service.oneshot(request).await.expect_err("it is open");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::BreakerOpen(_))
    ));
    assert_eq!(client.asked().len(), 3);
    assert_eq!(breaker.snapshot().state(), State::Open);
    assert_eq!(keys.snapshot().active(), 0);
    let scopes = keys.scopes();
    let mut states = scopes.iter().flat_map(|scope| scope.keys());
    assert!(
        states.all(|key| key.state() == KeyState::Usable),
        "no key is to blame"
    );

    breaker.set_mode(Mode::Disabled);
    assert_eq!(breaker.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_recommended_stack_can_be_boxed_and_passes_its_settings_on() {
    let stuck = answer(529, "text/plain", [Step::Never]);
    let client = Client::new([stuck, fine()]);
    let wait = Duration::from_millis(70);
    let stack = stack(two_scopes(), Profile::generic())
        .provider(|layer| layer.max_error_wait(wait))
        .key_rotation(|layer| layer.concurrency(Fixed::of(2)));
    // A body whose errors are texts is boxed as well.
    let service = stack.boxed().layer(client.clone());
    let response = service.oneshot(request("{}")).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "{}");
    assert!(client.asked()[1] >= 70);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_the_count_of_sends_are_read_as_everywhere() {
    use tower_relay::http::{Deadline, Resends};

    let client = Client::new([json(429, "{}").header("retry-after", "30"), fine()]);
    let retry = RetryLayer::default().protocol(Profile::generic());
    let service = retry.layer(provider().layer(client.clone()));
    let mut late: Request<_> = request("{}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(9);
    late.extensions_mut().insert(Deadline::at(deadline));
    let response = service.oneshot(late).await.expect("the refusal");
    assert_eq!((response.status().as_u16(), client.asked().len()), (429, 1));

    let counted = tower::service_fn(async |request: Request<_>| {
        let sent: Option<&Resends> = request.extensions().get();
        let sent = sent.map_or(0, |resends| resends.count());
        let _: http_body_util::Full<bytes::Bytes> = request.into_body();
        let status = if sent < 2 { 503 } else { 200 };
        Ok::<_, &str>(answer(status, "text/plain", []).0)
    });
    let service = retry.layer(provider().layer(counted));
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
}
