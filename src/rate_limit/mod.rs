//! Token-bucket rate limiting over any number of dimensions, and of calls in flight.
//!
//! # The problem
//!
//! A provider meters requests, input tokens and output tokens at once and refuses what exceeds
//! any of them. A limiter that counts one of them, or that polls, sends calls that are refused
//! or leaves quota unused. This layer takes all dimensions of a [`Quota`](crate::policy::Quota)
//! and the place in flight together, in order of arrival, and sends a call at the instant it can
//! be served.
//!
//! # Where it stands
//!
//! Inside retry, so that every attempt is charged; outside the circuit breaker and the timeout,
//! whose refusals refund what was taken here. The layer is always ready: a call takes its place
//! in the queue when it is made and waits in its future.
//!
//! # With defaults
//!
//! ```
//! use std::convert::Infallible;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::rate_limit::RateLimitLayer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::per_second(50))
//!     .service(service_fn(async |n: u32| Ok::<_, Infallible>(n + 1)));
//!
//! let start = tokio::time::Instant::now();
//! let calls = (0..51).map(|n| service.clone().oneshot(n));
//! let answers = futures::future::try_join_all(calls).await?;
//! assert_eq!(answers[50], 51);
//! // One at once, then one each 20 ms.
//! assert_eq!(start.elapsed().as_millis(), 1_000);
//! # Ok::<(), tower_relay::error::BoxError>(())
//! # })?;
//! # Ok::<(), tower_relay::error::BoxError>(())
//! ```
//!
//! # Customised
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{
//!     policy::{Cost, Quota},
//!     rate_limit::RateLimitLayer,
//! };
//!
//! struct Prompt {
//!     text: String,
//!     max_tokens: u64,
//! }
//!
//! let quota = Quota::builder()
//!     .requests_per_minute(4_000)
//!     .input_tokens_per_minute(400_000)
//!     .output_tokens_per_minute(80_000)
//!     .max_in_flight(100)
//!     .build()?;
//! let layer = RateLimitLayer::new(quota)
//!     .cost(|prompt: &Prompt| {
//!         Cost::REQUEST
//!             .input_tokens(prompt.text.len() as u64 / 4)
//!             .output_tokens(prompt.max_tokens)
//!     })
//!     .max_waiting(500)
//!     .max_wait(Duration::from_secs(60));
//! # let _ = layer;
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # Shares
//!
//! Without [`shares`](RateLimitLayer::shares) calls are served in the order of arrival. With them every
//! class of callers gets its part of the quota by weight while others wait too, whatever the sizes of
//! its calls, and first come first served within:
//!
//! - what counts is what a call reserves of the scarcest of the quota's limits, as time
//!   ([`TokenBucket::time_of`](crate::policy::TokenBucket::time_of)); what it turns out to have used
//!   is settled with the quota, not with its class;
//! - the class that is behind is next, and a call in its turn is waited for, however large it is:
//!   nobody starves, and nothing that merely fits goes before it;
//! - what a class leaves goes to the others; it saves nothing up for later;
//! - a backlog of one class does not keep others out: when `max_waiting` calls wait, a class may still
//!   queue as many as its weight's part of that. All together never are twice `max_waiting`;
//! - a wait is foretold by what the weights serve first, so that a call with a deadline is not refused
//!   for a backlog that it does not wait for.
//!
//! What all wait, weighed by their load, is the same in any order: a class that waits less than before
//! makes others wait longer. One that has a fifth more by its weight than it uses waits no longer than
//! in the order of arrival, or hardly; `docs/scoreboard.md` has figures.
//!
//! # What the server shows
//!
//! Where the [protocol](crate::protocol::Protocol::readings) reads the headers that show what is left
//! of a quota, each answer corrects ours: clocks that differ, another process on the same account
//! and a quota that was lowered are found out, and a quota that nobody configured is learned
//! ([`Quota::learned`](crate::policy::Quota::learned)). The rule is
//! [`TokenBucket::observe`](crate::policy::TokenBucket::observe). Where a server shows nothing,
//! keep a [margin](crate::policy::QuotaBuilder::margin_per_mille) against its clock.
//!
//! # What differs from tower's `RateLimit`
//!
//! Tower's counts requests in fixed windows, so twice its rate can pass at a boundary; it is
//! not `Clone`, so each connection gets a limit of its own; and it reserves in `poll_ready`,
//! where an idle service holds what others wait for.
//!
//! # Known limits
//!
//! - A call that waits alone is woken by a timer of 1 ms resolution: a single caller in a loop
//!   reaches some 500 calls per second, however high the rate. Many callers reach the rate.
//! - A place in flight frees when a call ends, which nobody can foresee: the wait for it is not
//!   part of the estimate by which a call with a deadline is refused at once.
//! - With shares, a call whose task is not polled when its turn has come may hold others up by a
//!   quarter of what they have waited.
//! - One process knows only what it sends itself and what answers show. Pace below the quota if
//!   others share it and the server shows nothing.

mod future;
mod handle;
mod keyed;
mod layer;
mod service;

pub use self::{
    future::{Permit, ResponseFuture},
    handle::{RateLimitHandle, Transition},
    keyed::{KeyedRateLimit, KeyedRateLimitHandle, KeyedRateLimitLayer},
    layer::RateLimitLayer,
    service::RateLimit,
};
