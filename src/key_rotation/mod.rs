//! Calls served with the keys of a pool: which key, and when.
//!
//! # The problem
//!
//! Five accounts of one provider are five quotas. Used blindly, one is drained while others idle,
//! a throttled one is asked again and again, and a revoked key fails every fifth call for ever.
//! This layer knows what is left of each account's quota, waits exactly as long as the soonest of
//! them needs, leaves alone what the server refuses for as long as the cause lasts, and puts the
//! picked credential into the request at the instant of sending.
//!
//! The rules are those of [`policy::pool`](crate::policy::pool): quotas belong to **scopes** (an
//! organisation, project or deployment), per class of models; keys of one scope share them.
//!
//! # Where it stands
//!
//! Inside retry and outside the circuit breaker and the timeout, in the place of a rate limit, of
//! which it is the form for several accounts. Where calls of all scopes together have a limit of
//! their own, give it to this layer with [`rate_limit`](KeyRotationLayer::rate_limit) and
//! [`concurrency`](KeyRotationLayer::concurrency): one queue then admits to all at once, under one
//! lock, so that no token grows old in a second queue.
//!
//! What a server says of a key is **absorbed**: the pool rests, probes or drops what failed, and
//! tells the layers outside when *this very call* can be served here: now, if another scope is
//! free. A retry layer then waits for nothing else, and spends no attempt and no budget on it.
//!
//! Faults of the server take no key out, with one exception: a key that fails more than 15 % of its
//! calls **while the others succeed** is left alone by a breaker of its own and comes back through
//! probes; see [`PoolConfig::key_breaker`](crate::policy::pool::PoolConfig::key_breaker). What an
//! endpoint does to all keys is for the circuit breaker inside this layer.
//!
//! Keys can also be asked about without a call: [`probe`](KeyRotationHandle::probe) does that with a
//! function of yours, in a task of yours.
//!
//! # With defaults
//!
//! ```
//! use std::time::Duration;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_relay::{
//!     key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
//!     policy::Quota,
//!     retry::RetryLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! # // A server that refuses one of the two accounts.
//! # let client = tower::service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
//! #     let response = http::Response::builder();
//! #     let response = match request.headers()["authorization"].to_str().unwrap() {
//! #         "Bearer secret-1" => response.status(429).header("retry-after", "60"),
//! #         key => response.header("seen", key),
//! #     };
//! #     response.body(Full::<bytes::Bytes>::from("{}"))
//! # });
//! let quota = Quota::builder().requests_per_minute(600).build()?;
//! let pool = KeyPool::builder()
//!     .scope(Scope::new("org-a").quota(quota.clone()).key("a1", Source::value("secret-1")))
//!     .scope(Scope::new("org-b").quota(quota).key("b1", Source::value("secret-2")))
//!     .build()?;
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::http().assume_idempotent())
//!     .layer(KeyRotationLayer::bearer(pool))
//!     .service(client);
//!
//! let start = tokio::time::Instant::now();
//! let request = http::Request::post("http://localhost/v1/messages").body(Full::from("{}"))?;
//! let response = service.oneshot(request).await?;
//! // org-a refused the call for a minute; org-b served it at once.
//! assert_eq!(response.headers()["seen"], "Bearer secret-2");
//! assert_eq!(start.elapsed(), Duration::ZERO);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! Anything can be asked with a key, not only HTTP; the credential is injected by a closure.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     key_rotation::{ExposeSecret, Key, KeyPool, KeyRotationLayer, Scope, Source},
//!     outcome::Verdict,
//!     policy::{Quota, limit::Fixed, pool::Strategy},
//! };
//!
//! #[derive(Default)]
//! struct Question {
//!     model: String,
//!     signed_by: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let small = Quota::builder().requests_per_minute(50).build()?;
//! let large = Quota::builder().requests_per_minute(4_000).max_in_flight(100).build()?;
//! let scope = Scope::new("org-a")
//!     .quota_for(["opus-*"], small)
//!     .quota(large)
//!     .weighted_key("a1", 3, Source::value("first-secret"))
//!     .weighted_key("a2", 1, Source::value("second-secret"));
//! let pool = KeyPool::builder().scope(scope).strategy(Strategy::Weighted).build()?;
//!
//! let layer = KeyRotationLayer::new(pool)
//!     .rate_limit(Quota::builder().requests_per_second(50).build()?)
//!     .concurrency(Fixed::of(64))
//!     .max_wait(Duration::from_secs(60))
//!     .model(|question: &Question| Some(question.model.as_str()))
//!     .authorize(|question: &mut Question, key: &Key| {
//!         question.signed_by = key.secret().expose_secret().to_uppercase();
//!     });
//! let handle = layer.handle();
//! let service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(async |question: Question| Ok::<_, Infallible>(question.signed_by)));
//!
//! assert_eq!(service.oneshot(Question::default()).await?, "FIRST-SECRET");
//! assert_eq!(handle.scopes()[0].keys()[0].totals().get(Verdict::Success), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Shares
//!
//! Without [`shares`](KeyRotationLayer::shares) calls are served in the order of arrival among those who
//! can use the same keys. With them classes of callers share the pool, with all that is joined to it,
//! by weight: as in the [rate limit](crate::rate_limit#shares), with the time that all scopes together
//! take to grant a call ([`Pool::time_of`](crate::policy::pool::Pool::time_of)) as what it counts. Where
//! nothing but places in flight limits calls, they count alike.
//!
//! # Secrets
//!
//! A secret is held in a [`SecretString`], wiped when the last call that
//! uses it has ended, and shown by nothing: errors, logs, snapshots and `Debug` name keys by their
//! alias. It reaches a request through [`Protocol::authorize`](crate::protocol::Protocol::authorize)
//! alone, never its URL.
//!
//! # What differs
//!
//! Tower has no such layer; `tower::balance` picks the least loaded of several *services*, knows
//! nothing of quotas, and drops none for what its server says.
//!
//! # Known limits
//!
//! - What a failure is about is read from status and headers. Where only a body tells (a 429 that
//!   means an empty account, a 400 for a bad key), an inner service that has read it can put the
//!   [`Outcome`](crate::outcome::Outcome) into the response's extensions. A 403 is taken to deny the
//!   model to the key, a 451 the region to the scope, until [`enable`](KeyRotationHandle::enable),
//!   [`reopen`](KeyRotationHandle::reopen) or a reload; where callers can provoke either,
//!   [`classify`](KeyRotationLayer::classify) them otherwise.
//! - What one process does not send it does not know, unless answers show it: pace below a quota
//!   that others share where the server shows nothing.
//! - What answers show of a quota is heard for the scope and the class of models that the call
//!   belongs to. Where the server meters models apart that are in one class here, the class keeps
//!   to whichever has least left: give each its own [`quota_for`](Scope::quota_for), be it
//!   [learned](crate::policy::Quota::learned).
//! - A call's key is the pool's choice; no call can ask for one.
//! - The probe of a scope that was out of credit lasts until its call is reported or over: bound
//!   the time of calls with a timeout inside.
//! - The wait for a place in flight is unknown, so a deadline cannot foresee it.

mod future;
mod handle;
mod key;
mod keys;
mod layer;
mod pool;
mod probe;
mod service;
mod source;

/// How a protocol reads the secret of a [`Key`], without a dependency of its own.
pub use secrecy::{ExposeSecret, SecretString};

pub use self::{
    future::{Permit, ResponseFuture},
    handle::KeyRotationHandle,
    key::Key,
    layer::{KeyRotationLayer, Transition},
    pool::{KeyPool, KeyPoolBuilder, Scope},
    probe::Probe,
    service::KeyRotation,
    source::Source,
};
