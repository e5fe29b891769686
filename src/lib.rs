//! Composable [Tower](https://docs.rs/tower) middleware for calling other people's rate-limited,
//! failing APIs, providers of language models first.
//!
//! Each layer wraps any `Service<Request>`. Stack them in front of a hyper, reqwest or
//! async-openai client or inside an axum app, take one alone, or take a [policy] without Tower
//! and test it in virtual time.
//!
//! ```
//! use std::time::Duration;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{policy::Quota, rate_limit::RateLimitLayer, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! // In a program this is a hyper client; here it refuses the first call.
//! let mut calls = 0;
//! let client = service_fn(move |_: http::Request<Full<bytes::Bytes>>| {
//!     calls += 1;
//!     let status = if calls == 1 { 429 } else { 200 };
//!     let response = http::Response::builder().status(status).header("retry-after", "2");
//!     std::future::ready(response.body(Full::<bytes::Bytes>::from("{}")))
//! });
//! # let client = tower::buffer::Buffer::new(client, 8);
//!
//! let quota = Quota::builder().requests_per_minute(600).max_in_flight(50).build()?;
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::http().assume_idempotent())
//!     .layer(RateLimitLayer::http(quota))
//!     .service(client);
//!
//! let start = tokio::time::Instant::now();
//! let request = http::Request::post("http://localhost/v1/messages").body(Full::from("{}"))?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! assert!(start.elapsed() >= Duration::from_secs(2));
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! | module | feature | what it is |
//! |---|---|---|
//! | [`policy`], [`outcome`] | always | the rules, without clock, lock or runtime: buckets, estimates, shares, searches, pools, breakers, limits, retries |
//! | `rate_limit` | `rate-limit` | token buckets over any dimensions and calls in flight, keyed too |
//! | `key_rotation` | `key-rotation` | a pool of accounts and their keys, each used to its quota |
//! | `circuit_breaker` | `circuit-breaker` | keeps calls away from what is down, one or one a key |
//! | `adaptive_concurrency` | `adaptive-concurrency` | a limit of calls in flight that learns |
//! | `retry` | `retry` | retries by verdict, hint, deadline and a success-funded budget |
//! | `http` | `http` | what status codes, headers and bodies mean |
//! | `provider` | `provider` | what is particular to language models: profiles, and the layer that reads responses |
//! | `reqwest`, `async_openai` | `reqwest`, `async-openai` | these clients behind the layers |
//! | `builder` | `builder` | the layers as methods of `tower::ServiceBuilder` |
//! | `protocol`, `call`, `error` | any but `tracing` | one strategy a layer, facts beside the request, refusals |
//! | `snapshot` | a layer in which calls wait | totals, and what waits |
//! | `observe` | `tracing` or `metrics` | a span and histograms of whole calls |
//! | `metrics` | `metrics` | what the handles of layers publish |
//! | `guide` | `provider` and all layers | chapters, see below |
//! | `testing` | `test-util` | services to test layers with |
//!
//! The feature `stack` adds `http::stack`, the recommended order in one layer.
//! `full` is all but `test-util`, with the clients that some of it is for; a program names what it
//! needs. `hyper-util` recognises its client's failures to connect; `tracing`
//! logs changes of state, refusals and retries. Features only add. All events, fields, metrics and
//! labels are in one table, `guide::observability`.
//!
//! # The guide
//!
//! Chapters are modules whose examples are tests: `guide::ordering` (what changes when layers are
//! swapped), `whole_quota` (what calls cost, who goes first, prompt caches, quotas that nobody told),
//! `concurrency_limit` (which for which server), `breaker_settings`, `observability` (all events and
//! metrics), `testing_policies` (with `test-util`), `running_the_relay`, and, for those who come from
//! something else, `from_tower`, `from_governor` and `from_retry_loops`.
//!
//! # Order
//!
//! From the outside: request facts, retry, adaptive concurrency, key rotation or rate limit, circuit
//! breaker, timeout of an attempt, provider, client. Each attempt is then admitted and charged anew, nothing is
//! held while a retry waits, and the breaker is asked at the instant of sending. `guide::ordering`
//! shows what happens otherwise. `http::stack` is this order; its limits are those of the key
//! rotation.
//!
//! # Errors
//!
//! Every layer's error is a `BoxError`: the client's own, or a `Rejected` that says why a layer
//! refused and when to come back.
//!
//! # Promises
//!
//! No task is spawned, no future boxed, nothing polls, and the layers allocate nothing for a call
//! admitted at once; what a retry layer keeps is the request's own clone, reading facts keeps
//! the model's name, and reading an answer what is unfinished of it. A call that has to wait needs a tokio runtime with its timer enabled.
//! The minimum Rust version is 1.85 and is raised in minor releases only. Defaults may change in
//! minor releases, with a line in the changelog; each says where it is defined why it is so.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod outcome;
pub mod policy;

#[cfg(feature = "adaptive-concurrency")]
pub mod adaptive_concurrency;
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency"
))]
mod admit;
#[cfg(feature = "async-openai")]
pub mod async_openai;
#[cfg(feature = "builder")]
pub mod builder;
#[cfg(feature = "_service")]
pub mod call;
#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
#[cfg(feature = "_service")]
mod clock;
#[cfg(feature = "_service")]
pub mod error;
#[cfg(all(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "circuit-breaker",
    feature = "adaptive-concurrency",
    feature = "retry",
    feature = "provider"
))]
pub mod guide;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "key-rotation")]
pub mod key_rotation;
#[cfg(all(feature = "_service", feature = "tracing"))]
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(all(feature = "_service", any(feature = "tracing", feature = "metrics")))]
pub mod observe;
#[cfg(feature = "_service")]
pub mod protocol;
#[cfg(feature = "provider")]
pub mod provider;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency"
))]
pub mod snapshot;
#[cfg(feature = "test-util")]
pub mod testing;

#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
mod readme {}
