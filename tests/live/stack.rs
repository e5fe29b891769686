//! The recommended layers in one, and boxed.

use std::{fmt::Debug, time::Duration};

use axum::{Router, response::IntoResponse};
use bytes::Bytes;
use embedded_provider::{Latency, Limits, Provider, Scope};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::BoxError,
    http::{BoxedStackService, Endpoint, StackLayer, stack},
    key_rotation::{self, KeyPool, KeyPoolBuilder, KeyRotationHandle, Source},
    policy::{Quota, Unit},
    provider::{CredentialHeader, Profile},
};

use crate::judge::{Format, Request, client};

async fn provider(name: &str, keys: &[&str]) -> Provider {
    let latency = Latency {
        first_token: Duration::from_millis(2),
        per_token: Duration::from_millis(1),
    };
    Provider::builder()
        .scope(Scope::new(name, keys.to_vec(), Limits::default()))
        .latency(latency)
        .start()
        .await
        .expect("it starts")
}

fn pool(scopes: impl IntoIterator<Item = key_rotation::Scope>) -> KeyPool {
    let scopes = scopes.into_iter();
    scopes
        .fold(KeyPool::builder(), KeyPoolBuilder::scope)
        .build()
        .expect("a valid pool")
}

fn two_keys(quota: Quota) -> KeyPool {
    let scope = key_rotation::Scope::new("org-a").quota(quota);
    let scope = scope.key("a1", Source::value("secret-a1"));
    pool([scope.key("a2", Source::value("secret-a2"))])
}

fn one_at_a_time() -> Quota {
    let quota = Quota::builder().max_in_flight(1).build();
    quota.expect("a valid quota")
}

/// What a pool without quotas holds of calls: all, per scope, class and key.
fn in_flight(handle: &KeyRotationHandle) -> [u64; 4] {
    let scopes = handle.scopes();
    let sum = |count: &dyn Fn(&tower_relay::policy::pool::ScopeSnapshot) -> usize| {
        scopes.iter().map(count).sum::<usize>() as u64
    };
    [
        handle.snapshot().active(),
        sum(&|scope| scope.in_flight()),
        sum(&|scope| scope.classes().iter().map(|class| class.in_flight()).sum()),
        sum(&|scope| scope.keys().iter().map(|key| key.in_flight()).sum()),
    ]
}

async fn answers_plain_and_streamed<S, B>(
    service: S,
    provider: &Provider,
    handle: KeyRotationHandle,
) where
    S: Service<Request, Response = http::Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Error: Debug> + Unpin,
{
    for (format, last) in [
        (Format::Messages, &b"\"message_stop\"}\n\n"[..]),
        (Format::Chat, b"data: [DONE]\n\n"),
    ] {
        let call = |is_stream| {
            let request = format.request(&provider.url(), "m", is_stream);
            service.clone().oneshot(request)
        };
        let plain = call(false).await.expect("an answer");
        assert_eq!(plain.status(), 200);
        let length = plain.headers()["content-length"].clone();
        let body = plain.into_body().collect().await.expect("a body");
        let body = body.to_bytes();
        assert_eq!(length, body.len().to_string());
        assert!(serde_json::from_slice::<Value>(&body).is_ok());
        assert_eq!(in_flight(&handle), [0; 4]);

        let stream = call(true).await.expect("a stream");
        assert_eq!(
            stream.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(in_flight(&handle), [1; 4]);
        let body = stream.into_body().collect().await.expect("a whole stream");
        assert!(body.to_bytes().ends_with(last));
        assert_eq!(in_flight(&handle), [0; 4]);

        // Dropped half-way, with the only place of the scope.
        let mut half = call(true).await.expect("a stream");
        let first = half.body_mut().frame().await.expect("a frame");
        assert!(first.is_ok_and(|frame| frame.is_data()));
        assert_eq!(in_flight(&handle), [1; 4]);
        let waiting = call(false);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(handle.snapshot().waiting(), 1);
        drop(half);
        assert_eq!(in_flight(&handle), [1; 4], "the waiter has it");
        let next = waiting.await.expect("an answer");
        assert_eq!(next.status(), 200);
        drop(next);
        assert_eq!(in_flight(&handle), [0; 4]);
    }
    while provider.counters().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let counters = provider.counters();
    assert_eq!((counters.calls, counters.answered), (8, 8));
    assert!(counters.disconnected >= 2);
    assert_eq!(handle.snapshot().completed(), 8);
}

/// Either path takes either credential.
fn one_place() -> StackLayer {
    stack(two_keys(one_at_a_time()), Profile::generic())
}

#[tokio::test]
async fn the_stack_carries_plain_and_streamed_answers_and_gives_back_dropped_ones() {
    let provider = provider("org-a", &["secret-a1", "secret-a2"]).await;
    let stack = one_place();
    let handle = stack.handle();
    answers_plain_and_streamed(stack.layer(client()), &provider, handle).await;
}

#[tokio::test]
async fn so_does_the_boxed_stack_under_one_name() {
    struct Caller {
        service: BoxedStackService<Full<Bytes>, Bytes>,
    }
    let provider = provider("org-a", &["secret-a1", "secret-a2"]).await;
    let stack = one_place();
    let handle = stack.handle();
    let caller = Caller {
        service: stack.boxed().layer(client()),
    };
    answers_plain_and_streamed(caller.service, &provider, handle).await;
}

#[tokio::test]
async fn calls_from_many_tasks_are_all_answered_through_a_boxed_stack() {
    let keys = ["secret-a1", "secret-a2"];
    let provider = provider("org-a", &keys).await;
    let stack = stack(
        two_keys(Quota::builder().max_in_flight(4).build().expect("valid")),
        Format::Chat.profile(),
    );
    let handle = stack.handle();
    let service = stack.boxed().layer(client());
    let calls = (0..60).map(|number| {
        let request = Format::Chat.request(&provider.url(), "m", number % 2 == 0);
        let service = service.clone();
        tokio::spawn(async move {
            let response = service.oneshot(request).await.expect("an answer");
            let status = response.status();
            response.into_body().collect().await.expect("a body");
            status
        })
    });
    for status in join_all(calls).await {
        assert_eq!(status.expect("no panic"), 200);
    }
    assert_eq!(in_flight(&handle), [0; 4]);
    assert_eq!(provider.counters().answered, 60);
    assert!(provider.counters().peak_in_flight <= 4);
    assert_eq!(handle.snapshot().peak_active(), 4);
    for key in keys {
        let answered = provider.key_counters(key).expect("a known key").answered;
        assert!(
            answered > 20,
            "keys of a scope take turns: {answered} of 60"
        );
    }
}

#[tokio::test]
async fn two_keys_of_one_scope_share_its_quota() {
    let provider = provider("org-a", &["secret-a1", "secret-a2"]).await;
    let quota = Quota::builder()
        .requests_per_hour(10)
        .burst(Unit::REQUESTS, 10)
        .build()
        .expect("a valid quota");
    let stack = stack(two_keys(quota), Format::Messages.profile());
    let handle = stack.handle();
    let service = stack.layer(client());
    let mut calls: Vec<_> = (0..12)
        .map(|_| {
            let request = Format::Messages.request(&provider.url(), "m", false);
            Box::pin(service.clone().oneshot(request))
        })
        .collect();
    let waiting = calls.split_off(10);
    let waiting = tokio::spawn(join_all(waiting));
    for answer in join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_eq!(handle.snapshot().waiting(), 2);
    for key in ["secret-a1", "secret-a2"] {
        assert_eq!(provider.key_counters(key).expect("a known key").calls, 5);
    }
    waiting.abort();
    assert!(waiting.await.expect_err("it was aborted").is_cancelled());
    assert_eq!(handle.snapshot().waiting(), 0);
    assert_eq!(provider.counters().calls, 10);
}

#[tokio::test]
async fn each_scope_is_asked_at_its_own_server() {
    let (here, there) = (
        provider("org-a", &["secret-a1"]).await,
        provider("org-b", &["secret-b1"]).await,
    );
    let at = |provider: &Provider| Endpoint::new(&provider.url()).expect("a valid URL");
    let pool = pool([
        key_rotation::Scope::new("org-a")
            .key("a1", Source::value("secret-a1"))
            .attach(at(&here)),
        key_rotation::Scope::new("org-b")
            .key("b1", Source::value("secret-b1"))
            .attach(at(&there)),
    ]);
    let stack = stack(pool, Format::Chat.profile());
    let service = stack.boxed().layer(client());
    let call = async || {
        // Nobody listens there.
        let request = Format::Chat.request("http://localhost:9", "m", false);
        service
            .clone()
            .oneshot(request)
            .await
            .expect("an answer")
            .status()
    };
    for _ in 0..20 {
        assert_eq!(call().await, 200);
    }
    for provider in [&here, &there] {
        let counters = provider.counters();
        assert_eq!((counters.calls, counters.answered), (10, 10));
    }
    // What the one refuses the other serves.
    here.revoke_key("secret-a1").expect("a known key");
    for _ in 0..10 {
        assert_eq!(call().await, 200);
    }
    assert_eq!(here.counters().unauthorized, 1);
    assert_eq!(there.counters().answered, 20);
    assert_eq!(there.counters().unauthorized, 0);
}

const CREDENTIALS: [&str; 5] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-own-key",
];

fn header(name: &str) -> HeaderName {
    name.parse().expect("a valid name")
}

/// Tells what has arrived, with 401 for the first key.
async fn echo(uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    let text = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| value.to_str().expect("visible").into());
        values.collect()
    };
    let credentials: Vec<_> = CREDENTIALS
        .iter()
        .flat_map(|name| text(name).into_iter().map(move |value| (*name, value)))
        .collect();
    let is_first = credentials.iter().any(|(_, value)| value.contains("a1"));
    let status = match is_first {
        true => StatusCode::UNAUTHORIZED,
        false => StatusCode::OK,
    };
    let seen = json!({
        "credentials": credentials,
        "path": uri.to_string(),
        "host": text("host"),
        "project": text("x-project"),
    });
    (status, seen.to_string())
}

#[tokio::test]
async fn exactly_one_credential_arrives_also_when_it_is_the_second_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let host = listener.local_addr().expect("an address").to_string();
    let app = Router::new().fallback(echo);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let at = |base: &str, project| {
        let endpoint = Endpoint::new(&format!("http://{host}{base}")).expect("a valid URL");
        endpoint
            .header("x-project", project)
            .expect("a valid header")
    };
    for (credential, expected) in [
        (
            CredentialHeader::Bearer,
            json!(["authorization", "Bearer secret-b1"]),
        ),
        (
            CredentialHeader::Named(header("x-api-key")),
            json!(["x-api-key", "secret-b1"]),
        ),
        (
            CredentialHeader::Named(header("x-own-key")),
            json!(["x-own-key", "secret-b1"]),
        ),
    ] {
        let pool = pool([
            key_rotation::Scope::new("org-a")
                .key("a1", Source::value("secret-a1"))
                .attach(at("/one", "1")),
            key_rotation::Scope::new("org-b")
                .key("b1", Source::value("secret-b1"))
                .attach(at("/two/", "2")),
        ]);
        let stack = stack(pool, Profile::generic().credential(credential));
        let (handle, retries) = (stack.handle(), stack.retry_handle());
        let service = stack.boxed().layer(client());
        let mut request = Format::Chat.request("http://localhost:9", "m", false);
        // Of the headers that no provider reads, only the one that is set is known for a credential.
        let own_key = expected[0].as_str().expect("a name");
        for name in CREDENTIALS[..4].iter().copied().chain([own_key]) {
            let own = HeaderValue::from_static("the caller's own");
            request.headers_mut().append(header(name), own.clone());
            request.headers_mut().append(header(name), own);
        }
        request
            .headers_mut()
            .insert("x-project", HeaderValue::from_static("the caller's"));
        for waited_out in [1, 1] {
            let response = service.clone().oneshot(request.clone()).await;
            let response = response.expect("an answer");
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.expect("a body");
            let seen: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
            let expected = json!({
                "credentials": [expected],
                "path": "/two/v1/chat/completions",
                "host": [host],
                "project": ["2"],
            });
            assert_eq!(seen, expected);
            assert_eq!(retries.snapshot().waited_out(), waited_out);
        }
        assert_eq!(in_flight(&handle), [0; 4]);
    }
    server.abort();
}
