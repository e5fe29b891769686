//! No secret in anything that is printed.
//!
//! A test binary of its own: the log of everything in the process is captured.
#![cfg(all(feature = "stack", feature = "hyper-util", feature = "tracing"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests against a real server run in real time"
)]

#[path = "live/judge.rs"]
mod judge;

use std::{
    error::Error,
    fmt::Debug,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use embedded_provider::{Denial, Faults, Limits, Provider, Scope};
use futures::FutureExt;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    error::{BoxError, KeyFailed, Rejected},
    http::{Endpoint, StackLayer, stack},
    key_rotation::{self, KeyPool, KeyPoolBuilder, KeyRotationLayer, Source},
    outcome::{Outcome, Verdict},
    policy::{Backoff, Growth, Quota, RetryPolicy},
    provider::Profile,
    retry::RetryLayer,
};

use judge::{Format, Request, client};

/// The first six characters of every secret here, and part of nothing else.
const MARK: &str = "Zq7Xw9";
/// The same of what the caller sends for a key.
const CALLERS: &str = "Yk3Vb8";

fn secret(name: &str) -> String {
    format!("{MARK}-{name}-and-more")
}

fn hasty() -> RetryPolicy {
    let moment = Duration::from_millis(1);
    let backoff = Backoff::new(Growth::Constant, moment, moment).expect("a valid backoff");
    let policy = RetryPolicy::builder().attempts(3).backoff(backoff).build();
    policy.expect("a valid policy")
}

/// All that was printed, by whomever.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn add(&self, text: &str) {
        let mut printed = self.0.lock().expect("not poisoned");
        printed.extend_from_slice(text.as_bytes());
        printed.push(b'\n');
    }

    fn show(&self, thing: &dyn Debug) {
        self.add(&format!("{thing:?}"));
        self.add(&format!("{thing:#?}"));
    }

    fn error(&self, error: &BoxError) {
        let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            self.add(&error.to_string());
            self.show(&error);
            next = error.source();
        }
    }

    fn text(&self) -> String {
        let printed = self.0.lock().expect("not poisoned");
        String::from_utf8_lossy(&printed).into_owned()
    }
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints each request after the credential was put in, and panics on demand with it.
#[derive(Clone, Debug)]
struct Inspect<S> {
    inner: S,
    printed: Printed,
}

impl Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printed")
    }
}

impl<S: Service<Request>> Service<Request> for Inspect<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        let text = format!("{request:?}");
        assert!(text.contains("Sensitive"), "there is no credential in it");
        self.printed.add(&text);
        if request.headers().contains_key("x-panic") {
            panic!("a request that is not to be sent: {request:?}");
        }
        self.inner.call(request)
    }
}

/// A server of each kind of failure, by its scope, and one that works.
struct World {
    printed: Printed,
    provider: Provider,
    /// Answers with HTTP/2 too, always 401 or 200.
    modern: String,
    /// Breaks every answer off.
    broken: String,
    /// Does not listen.
    nobody: String,
}

const SCOPES: [&str; 5] = ["fine", "revoked", "exhausted", "denied", "throttled"];

impl World {
    async fn new(printed: &Printed) -> Self {
        let scope = |name: &str| {
            let requests_per_minute = (name == "throttled").then_some(1);
            let limits = Limits {
                requests_per_minute,
                ..Limits::default()
            };
            Scope::new(name, [secret(name)], limits)
        };
        let scopes = SCOPES.into_iter().map(scope);
        let provider = scopes
            .fold(Provider::builder(), |builder, scope| builder.scope(scope))
            .start()
            .await
            .expect("it starts");
        provider.revoke_key(&secret("revoked")).expect("known");
        provider.exhaust_credit("exhausted").expect("known");
        provider
            .deny_model("denied", "m", Denial::Forbidden)
            .expect("known");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let modern = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(async |headers: HeaderMap| {
            let is_revoked = headers
                .values()
                .any(|value| value.to_str().is_ok_and(|text| text.contains("revoked")));
            match is_revoked {
                true => (StatusCode::UNAUTHORIZED, "no"),
                false => (StatusCode::OK, "yes"),
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let broken = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"}]}") {
                    socket.read_buf(&mut request).await.expect("a request");
                }
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf";
                socket.write_all(head).await.expect("the client reads");
            }
        });

        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let nobody = format!("http://{}", gone.local_addr().expect("an address"));
        drop(gone);
        Self {
            printed: printed.clone(),
            provider,
            modern,
            broken,
            nobody,
        }
    }

    fn pool(&self, names: &[&str]) -> KeyPool {
        let scopes = names.iter().map(|&name| {
            let url = match name {
                "broken" => &self.broken,
                "nobody" => &self.nobody,
                _ => &self.provider.url(),
            };
            let endpoint = Endpoint::new(url).expect("a valid URL");
            let endpoint = endpoint.header("x-project", &secret("project"));
            key_rotation::Scope::new(name)
                .quota(Quota::builder().max_in_flight(9).build().expect("valid"))
                .key(name, Source::value(secret(name)))
                .attach(endpoint.expect("a valid header"))
        });
        let builder = scopes.fold(KeyPool::builder(), KeyPoolBuilder::scope);
        self.printed.show(&builder);
        let pool = builder.build().expect("a valid pool");
        self.printed.show(&pool);
        self.printed.show(&pool.keys().collect::<Vec<_>>());
        pool
    }

    fn stack(&self, names: &[&str], format: Format) -> StackLayer {
        let (first, second) = (self.printed.clone(), self.printed.clone());
        stack(self.pool(names), format.profile())
            .retry(|layer| {
                layer
                    .policy(hasty())
                    .on_retry(move |event| first.show(event))
            })
            .key_rotation(|layer| layer.on_transition(move |change| second.show(change)))
    }

    /// Whom to ask is the scopes' to say. It comes with keys of the caller's own.
    fn request(&self, format: Format, is_stream: bool) -> Request {
        let mut request = format.request("http://localhost:9", "m", is_stream);
        for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
            let name = http::HeaderName::from_static(name);
            let own = format!("{CALLERS}-of-the-caller");
            request
                .headers_mut()
                .insert(name, own.parse().expect("visible"));
        }
        request
    }

    /// Sends one call through a stack over scopes of these names, and prints all there is.
    async fn call(&self, names: &[&str], format: Format, is_stream: bool, times: usize) -> String {
        let stack = self.stack(names, format);
        let (handle, retries) = (stack.handle(), stack.retry_handle());
        let service = stack.layer(Inspect {
            inner: client(),
            printed: self.printed.clone(),
        });
        self.printed.show(&stack);
        self.printed.show(&stack.clone().boxed::<Full<Bytes>>());
        self.printed.show(&service);
        let mut last = String::new();
        for _ in 0..times {
            let call = service.clone().call(self.request(format, is_stream));
            self.printed.show(&call);
            match call.await {
                Ok(response) => {
                    self.printed.show(&response);
                    last = response.status().as_str().to_owned();
                    match response.into_body().collect().await {
                        Ok(body) => self.printed.show(&body.to_bytes()),
                        Err(error) => {
                            self.printed.error(&error.into());
                            last = "broken".into();
                        }
                    }
                }
                Err(error) => {
                    self.printed.error(&error);
                    last = match Rejected::find(&*error) {
                        Some(_) => "refused".into(),
                        None => "failed".into(),
                    };
                }
            }
            self.printed.show(&handle.scopes());
            self.printed.show(&handle.snapshot());
            self.printed.show(&handle);
            self.printed.show(&retries);
        }
        let unknown = handle.enable("nobody-of-this-name");
        self.printed.error(&unknown.expect_err("unknown").into());
        let again: Vec<_> = names.iter().rev().copied().collect();
        let changes = handle.reload(self.pool(&again[1.min(again.len() - 1)..]));
        self.printed.show(&changes);
        last
    }
}

async fn failures_of_a_server(world: &World) {
    for format in [Format::Messages, Format::Chat] {
        for (name, times, expected) in [
            ("fine", 2, "200"),
            ("revoked", 2, "refused"),
            ("denied", 2, "refused"),
            ("nobody", 1, "failed"),
            // Five failures open the breaker.
            ("nobody", 2, "refused"),
            ("broken", 2, "broken"),
        ] {
            let found = world.call(&[name], format, false, times).await;
            assert_eq!(found, expected, "{name}");
        }
        let found = world.call(&SCOPES, format, true, 12).await;
        assert_eq!(found, "200", "all together");
        // All of the only scope: the second call could only wait.
        let found = world
            .call(&["exhausted", "revoked"], format, false, 1)
            .await;
        assert!(
            found == "400" || found == "429" || found == "401",
            "{found}"
        );
    }
    let faults = Faults {
        server_error_share: 0.3,
        overloaded_share: 0.3,
        stream_error_share: 1.0,
    };
    world.provider.set_faults(faults).expect("valid shares");
    world.call(&["fine"], Format::Messages, true, 6).await;
}

async fn failures_of_http_2(world: &World) {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let keys = ["revoked", "fine"].map(|name| (name, Source::value(secret(name))));
    let quota = Quota::builder().requests_per_minute(600).build();
    let pool = KeyPool::accounts(quota.expect("valid"), keys).expect("valid");
    let service = stack(pool, Profile::generic()).layer(Inspect {
        inner: client,
        printed: world.printed.clone(),
    });
    for _ in 0..2 {
        let request = Format::Chat.request(&world.modern, "m", false);
        let response = service.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), http::Version::HTTP_2);
        world.printed.show(&response);
        response.into_body().collect().await.expect("a body");
    }
}

/// A service that panics with the request in its message.
async fn panics(world: &World) {
    let stack = world.stack(&["fine"], Format::Chat);
    let handle = stack.handle();
    let service = stack.layer(Inspect {
        inner: client(),
        printed: world.printed.clone(),
    });
    let mut request = world.request(Format::Chat, false);
    request
        .headers_mut()
        .insert("x-panic", "1".parse().expect("visible"));
    let call = tokio::spawn(async move { service.oneshot(request).await.map(drop) });
    let panic = call.await.expect_err("it panics").into_panic();
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("Sensitive"));
    world.printed.add(message);
    world.printed.show(&handle.scopes());
    assert_eq!(handle.snapshot().active(), 0);
}

/// Errors in the place of answers, and refusals before any is sought.
async fn errors(world: &World) {
    let layer = || {
        let pool = world.pool(&["fine", "revoked"]);
        KeyRotationLayer::header(pool, http::HeaderName::from_static("x-api-key"))
    };
    let failing = service_fn(
        async |request: Request| -> Result<Response<Full<Bytes>>, BoxError> {
            Err(format!("the client failed with {request:?}").into())
        },
    );
    let classify = |result: Result<&Response<Full<Bytes>>, &BoxError>| match result {
        Ok(_) => Outcome::SUCCESS,
        Err(_) => Outcome::new(Verdict::KeyRejected),
    };
    let service = RetryLayer::http()
        .assume_idempotent()
        .layer(layer().classify(classify).layer(failing));
    let call = || service.clone().oneshot(world.request(Format::Chat, false));
    let error = call().await.expect_err("it failed");
    assert!(KeyFailed::find(&*error).is_some());
    world.printed.error(&error);
    let error = call().await.expect_err("nobody is left");
    assert!(Rejected::find(&*error).is_some());
    world.printed.error(&error);
    world.printed.show(&service);

    let layer = layer()
        .concurrency(tower_relay::policy::limit::Fixed::of(1))
        .max_waiting(1);
    let service = layer.layer(client());
    let busy = service.clone().call(world.request(Format::Chat, false));
    let mut waiting = Box::pin(service.clone().call(world.request(Format::Chat, false)));
    assert!(futures::poll!(&mut waiting).is_pending());
    world.printed.show(&busy);
    world.printed.show(&waiting);
    world.printed.show(&layer);
    let full = service.clone().oneshot(world.request(Format::Chat, false));
    let error = full.await.expect_err("the queue is full");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::QueueFull(_))
    ));
    world.printed.error(&error);
    drop((busy, waiting));
    let service = layer.max_wait(Duration::from_millis(1)).layer(client());
    let busy = service.clone().call(world.request(Format::Chat, false));
    let late = service.oneshot(world.request(Format::Chat, false));
    let error = late.await.expect_err("it cannot wait");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::TooLate(_))
    ));
    world.printed.error(&error);
    drop(busy);

    for wrong in [
        KeyPool::accounts(
            Quota::builder().max_in_flight(9).build().expect("valid"),
            ["a", "b"].map(|alias| (alias, Source::value(secret("twice")))),
        ),
        KeyPool::builder()
            .scope(key_rotation::Scope::new("a").key("a", Source::value(secret("a b"))))
            .build(),
        KeyPool::builder()
            .scope(key_rotation::Scope::new("a").key("a", Source::env(secret("env"))))
            .build(),
    ] {
        let error = wrong.expect_err("it is invalid");
        world.printed.error(&error.into());
    }
    for wrong in [
        format!("http://{MARK}:{MARK}@localhost/"),
        format!("http://localhost/?key={MARK}"),
        format!("ftp://localhost/{MARK}"),
    ] {
        let error = Endpoint::new(&wrong).expect_err("it is invalid");
        world.printed.error(&error.into());
    }
    let endpoint = Endpoint::new("http://localhost").expect("valid");
    let error = endpoint.header("authorization", MARK).expect_err("invalid");
    world.printed.error(&error.into());
}

#[tokio::test]
async fn no_log_error_panic_or_debug_output_holds_a_secret_or_the_first_six_characters_of_one() {
    let (logged, printed) = (Printed::default(), Printed::default());
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("there is no other");
    let hooked = printed.clone();
    std::panic::set_hook(Box::new(move |panic| hooked.add(&panic.to_string())));
    let scenario = async {
        let world = World::new(&printed).await;
        failures_of_a_server(&world).await;
        failures_of_http_2(&world).await;
        panics(&world).await;
        errors(&world).await;
    };
    let ended = AssertUnwindSafe(scenario).catch_unwind().await;
    drop(std::panic::take_hook());
    let (logged, printed) = (logged.text(), printed.text());
    if ended.is_err() {
        let tail: Vec<_> = printed.lines().rev().take(3).collect();
        panic!("the scenario panicked: {tail:#?}");
    }

    for target in [
        "tower_relay::key_rotation",
        "tower_relay::retry",
        "hyper_util",
        " h2::",
    ] {
        assert!(logged.contains(target), "{target} has logged nothing");
    }
    for said in [
        "Sensitive",
        "not to be sent",
        "no key can serve",
        "alias: \"revoked\"",
    ] {
        assert!(printed.contains(said), "`{said}` was not printed");
    }
    for (what, text) in [("logged", logged), ("printed", printed)] {
        for mark in [MARK, CALLERS] {
            let leaks: Vec<_> = text.lines().filter(|line| line.contains(mark)).collect();
            assert!(leaks.is_empty(), "{what}: {leaks:#?}");
        }
    }
}
