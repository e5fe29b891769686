//! What the tests of the breaker share: a server that does what each call asks for.

#[path = "../support/mod.rs"]
mod shared;

pub(crate) use self::shared::*;

use std::time::Duration;

use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    circuit_breaker::{CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer},
    error::{BoxError, Rejected},
    outcome::{Outcome, Verdict},
    policy::breaker::{BreakerConfig, BreakerConfigBuilder, Refused, State},
    protocol::{self, Guard, Protocol},
    testing::{ReadinessProbe, Reply, Scripted},
};

/// What a call asks the server to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Good,
    Answer(Verdict),
    Break,
    Hang,
    Panic,
    /// To answer so after so many milliseconds.
    Late(u64, Verdict),
}

pub(crate) const BAD: Ask = Ask::Answer(Verdict::ServerFault);

/// Answers are what they mean; a guard is dropped with the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api;

impl<Req> Protocol<Req, Outcome> for Api {
    type Response<G: Guard> = Outcome;

    fn hold<G: Guard>(&self, answer: Outcome, _: G) -> Outcome {
        answer
    }

    fn classify(&self, result: Result<&Outcome, &BoxError>) -> Outcome {
        match result {
            Ok(outcome) => *outcome,
            Err(error) => protocol::classify(Err(error)),
        }
    }
}

pub(crate) type Server = Scripted<fn(&Ask) -> Reply<Outcome>>;
pub(crate) type Watched = CircuitBreaker<ReadinessProbe<Server>, Api>;

pub(crate) fn server() -> Server {
    Scripted::new(|ask| match *ask {
        Ask::Good => Reply::now(Outcome::SUCCESS),
        Ask::Answer(verdict) => Reply::now(Outcome::new(verdict)),
        Ask::Break => Reply::fail("connection reset"),
        Ask::Hang => Reply::never(),
        Ask::Panic => Reply::panic(),
        Ask::Late(wait, verdict) => Reply::after(ms(wait), Outcome::new(verdict)),
    })
}

/// Opens after five failures in a row for five seconds, closes after one success of one probe,
/// and lets all calls pass at once then.
pub(crate) fn plain() -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .open(Duration::from_secs(5), Duration::from_secs(300))
        .jitter_percent(0)
        .probes(1)
        .successes(1)
        .ramp(Duration::ZERO)
}

pub(crate) fn layer(config: BreakerConfigBuilder) -> CircuitBreakerLayer<Api> {
    CircuitBreakerLayer::new(config.build().expect("the test's breaker is valid")).protocol(Api)
}

/// A breaker over a server that insists on readiness.
pub(crate) fn watched(config: BreakerConfigBuilder) -> (Watched, Server, CircuitBreakerHandle) {
    let (layer, server) = (layer(config), server());
    let handle = layer.handle();
    (
        layer.layer(ReadinessProbe::new(server.clone())),
        server,
        handle,
    )
}

/// A call that has been sent and not been polled.
pub(crate) async fn sent<S, Req>(service: &S, request: Req) -> S::Future
where
    S: Service<Req> + Clone,
    S::Error: std::fmt::Debug,
{
    let mut service = service.clone();
    service.ready().await.expect("a breaker is always ready");
    service.call(request)
}

/// Fails five calls, and asserts that this opens it.
pub(crate) async fn open<S>(service: &S, handle: &CircuitBreakerHandle)
where
    S: Service<Ask, Response = Outcome, Error = BoxError> + Clone,
{
    for _ in 0..5 {
        assert_eq!(handle.snapshot().state(), State::Closed);
        assert!(service.clone().oneshot(Ask::Break).await.is_err());
    }
    assert_eq!(handle.snapshot().state(), State::Open);
}

/// Asserts that a call is served, and well.
pub(crate) async fn assert_serves<S>(service: &S)
where
    S: Service<Ask, Response = Outcome, Error = BoxError> + Clone,
{
    let answer = service.clone().oneshot(Ask::Good).await;
    assert!(answer.expect("served").is_success());
}

/// Opens it and waits until it lets probes pass.
pub(crate) async fn open_and_wait<S>(service: &S, handle: &CircuitBreakerHandle)
where
    S: Service<Ask, Response = Outcome, Error = BoxError> + Clone,
{
    open(service, handle).await;
    tokio::time::sleep(ms(5_000)).await;
}

/// Why the breaker refused, and for how many milliseconds.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, BoxError>) -> (Refused, Option<u64>) {
    let error = result.expect_err("the breaker refuses");
    match Rejected::find(&*error) {
        Some(Rejected::BreakerOpen(open)) => (open.why(), open.retry_after().map(whole)),
        _ => panic!("the breaker has not refused this: {error}"),
    }
}
