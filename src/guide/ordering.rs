//! The order of the layers, and what happens when two are swapped.
//!
//! From the outside:
//!
//! 1. request facts, read once however often a call is sent
//!    (`facts_are_read_once_however_often_a_call_is_sent`);
//! 2. retry;
//! 3. what waits: concurrency limit, then key rotation or rate limit;
//! 4. circuit breaker;
//! 5. the timeout of an attempt;
//! 6. the provider layer, which reads each response once for all outside;
//! 7. the client.
//!
//! ```
//! use std::time::Duration;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer,
//!     circuit_breaker::CircuitBreakerLayer,
//!     error::BoxError,
//!     policy::{Quota, breaker::BreakerConfig, limit::SizedVegas},
//!     rate_limit::RateLimitLayer,
//!     retry::RetryLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let client = service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
//! #     Ok::<_, BoxError>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
//! # });
//! let quota = Quota::builder().requests_per_minute(600).build()?;
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::http().assume_idempotent())
//!     .layer(AdaptiveConcurrencyLayer::http(SizedVegas::default()))
//!     .layer(RateLimitLayer::http(quota))
//!     .layer(CircuitBreakerLayer::http(BreakerConfig::default()))
//!     .timeout(Duration::from_secs(120))
//!     .service(client);
//! let request = http::Request::post("http://localhost/v1/messages").body(Full::from("{}"))?;
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # The breaker outside the queue
//!
//! Whoever waits has then passed the breaker already, and reaches the dead provider in his turn.
//! Inside, the breaker is asked at the instant of sending, and its refusal gives back what the queue
//! granted. A hundred callers, two places, a provider that dies after a second:
//!
//! ```
//! use std::{num::NonZeroUsize, sync::{Arc, atomic::{AtomicUsize, Ordering}}, time::Duration};
//! use futures::future::join_all;
//! use tokio::time::{Instant, sleep};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer, circuit_breaker::CircuitBreakerLayer,
//!     error::BoxError, policy::limit::Fixed,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let reached = Arc::new(AtomicUsize::new(0));
//! let provider = |start: Instant| {
//!     let reached = Arc::clone(&reached);
//!     service_fn(move |()| {
//!         let is_down = start.elapsed() >= Duration::from_secs(1);
//!         reached.fetch_add(usize::from(is_down), Ordering::Relaxed);
//!         async move {
//!             sleep(Duration::from_millis(100)).await;
//!             if is_down { Err(BoxError::from("connection reset")) } else { Ok(()) }
//!         }
//!     })
//! };
//! let places = || AdaptiveConcurrencyLayer::new(Fixed::new(NonZeroUsize::new(2).expect("not zero")));
//!
//! let outside = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::default())
//!     .layer(places())
//!     .service(provider(Instant::now()));
//! join_all((0..100).map(|_| outside.clone().oneshot(()))).await;
//! assert!(reached.swap(0, Ordering::Relaxed) >= 75);
//!
//! let inside = ServiceBuilder::new()
//!     .layer(places())
//!     .layer(CircuitBreakerLayer::default())
//!     .service(provider(Instant::now()));
//! join_all((0..100).map(|_| inside.clone().oneshot(()))).await;
//! // Five in a row open it; one more was under way.
//! assert!(reached.load(Ordering::Relaxed) <= 6);
//! # }
//! ```
//!
//! In `tests/circuit_breaker/order.rs` for each kind of queue:
//! `callers_queued_in_a_rate_limit_when_the_endpoint_dies_do_not_reach_it`, `.._for_a_key_..`,
//! `.._for_a_slot_..`, and `a_refusal_refunds_everything_a_rate_limit_took`.
//!
//! # The gate outermost
//!
//! The breaker inside the queue tells a caller that the provider is down when it is the caller's
//! turn. Who would rather fail at once puts the breaker's
//! [`gate`](crate::circuit_breaker::CircuitBreakerLayer::gate) outermost too: it refuses while the
//! breaker would, counts nothing and takes no probe. It does not replace the breaker inside, because
//! it is no better at stopping those who already wait. (`with_its_gate_outside_the_queue_callers_fail_at_once`)
//!
//! ```
//! use std::time::Duration;
//! use futures::future::join_all;
//! use tokio::time::Instant;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     circuit_breaker::CircuitBreakerLayer, error::BoxError, policy::breaker::Mode,
//!     rate_limit::RateLimitLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let provider = service_fn(async |()| Ok::<_, BoxError>(()));
//! let breaker = CircuitBreakerLayer::default();
//! breaker.handle().set_mode(Mode::ForcedOpen);
//!
//! let gated = ServiceBuilder::new()
//!     .layer(breaker.gate())
//!     .layer(RateLimitLayer::per_second(1))
//!     .layer(breaker)
//!     .service(provider);
//! let start = Instant::now();
//! let refused = join_all((0..5).map(|_| gated.clone().oneshot(()))).await;
//! assert!(refused.iter().all(Result::is_err));
//! assert_eq!(start.elapsed(), Duration::ZERO);
//! # }
//! ```
//!
//! # Tokens outside a second queue
//!
//! A token of a quota is granted for this instant. If the call then waits for a place in flight, the
//! token grows old, and when places come free, calls with old tokens are sent all at once: more than
//! the provider's own count allows. Taken last, tokens are as old as the call. One layer that takes
//! both at once, under one lock, is better still: a quota with
//! [`max_in_flight`](crate::policy::QuotaBuilder::max_in_flight), or a key rotation with a
//! [`rate_limit`](crate::key_rotation::KeyRotationLayer::rate_limit) and a
//! [`concurrency`](crate::key_rotation::KeyRotationLayer::concurrency). (For that form:
//! `callers_queued_when_an_endpoint_dies_do_not_reach_it_and_cost_nothing` in
//! `tests/key_rotation/endpoint.rs`.)
//!
//! ```
//! use std::{num::NonZeroUsize, sync::{Arc, Mutex}, time::Duration};
//! use futures::future::join_all;
//! use tokio::time::{Instant, sleep};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer, error::BoxError, policy::limit::Fixed,
//!     rate_limit::RateLimitLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let sent = Arc::new(Mutex::new(Vec::new()));
//! // Calls sent in the first five seconds hang until then.
//! let provider = |start: Instant| {
//!     let sent = Arc::clone(&sent);
//!     service_fn(move |()| {
//!         let at = start.elapsed();
//!         sent.lock().unwrap().push(at);
//!         async move {
//!             sleep(Duration::from_secs(5).saturating_sub(at)).await;
//!             Ok::<_, BoxError>(())
//!         }
//!     })
//! };
//! let sent_in_the_sixth_second = || {
//!     let times = std::mem::take(&mut *sent.lock().unwrap());
//!     times.iter().filter(|at| at.as_secs() == 5).count()
//! };
//! let places = || AdaptiveConcurrencyLayer::new(Fixed::new(NonZeroUsize::new(8).expect("not zero")));
//!
//! let first = ServiceBuilder::new()
//!     .layer(RateLimitLayer::per_second(10))
//!     .layer(places())
//!     .service(provider(Instant::now()));
//! join_all((0..100).map(|_| first.clone().oneshot(()))).await;
//! assert!(sent_in_the_sixth_second() > 50);
//!
//! let last = ServiceBuilder::new()
//!     .layer(places())
//!     .layer(RateLimitLayer::per_second(10))
//!     .service(provider(Instant::now()));
//! join_all((0..100).map(|_| last.clone().oneshot(()))).await;
//! assert!(sent_in_the_sixth_second() <= 11);
//! # }
//! ```
//!
//! # Retry inside
//!
//! Outside, each attempt is admitted and charged anew (`every_attempt_is_admitted_and_charged_anew`
//! in `tests/stack.rs`), its place is free during the wait
//! (`the_place_of_a_failed_attempt_is_free_during_the_wait`), and a refusal by a layer inside is
//! waited out without an attempt (`a_local_refusal_is_waited_out_without_an_attempt`). Inside, a
//! retried call is sent again without a token, holds its place while it waits, and the breaker hears
//! only of the last of its attempts:
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{error::BoxError, policy::Quota, rate_limit::RateLimitLayer, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Every second call is refused.
//! let calls = Arc::new(AtomicUsize::new(0));
//! let client = {
//!     let calls = Arc::clone(&calls);
//!     service_fn(move |_: http::Request<Full<bytes::Bytes>>| {
//!         let is_refused = calls.fetch_add(1, Ordering::Relaxed) % 2 == 0;
//!         let response = http::Response::builder().status(if is_refused { 429 } else { 200 });
//!         let response = response.body(Full::<bytes::Bytes>::from("{}")).map_err(BoxError::from);
//!         std::future::ready(response)
//!     })
//! };
//! let request = || http::Request::post("http://localhost/").body(Full::from("{}"));
//! let quota = Quota::builder().requests_per_minute(600).build()?;
//!
//! let limit = RateLimitLayer::http(quota.clone());
//! let handle = limit.handle();
//! let outside = ServiceBuilder::new().layer(RetryLayer::http()).layer(limit).service(client.clone());
//! assert_eq!(outside.oneshot(request()?).await?.status(), 200);
//! assert_eq!(handle.snapshot().admitted(), 2);
//!
//! let limit = RateLimitLayer::http(quota);
//! let handle = limit.handle();
//! let inside = ServiceBuilder::new().layer(limit).layer(RetryLayer::http()).service(client);
//! assert_eq!(inside.oneshot(request()?).await?.status(), 200);
//! // The provider counted two.
//! assert_eq!(handle.snapshot().admitted(), 1);
//! assert_eq!(calls.load(Ordering::Relaxed), 4);
//! # Ok(())
//! # }
//! ```
//!
//! # The timeout outside
//!
//! A timeout of the attempt stands inside the breaker, which counts its error. Outside the queue it
//! would also count the wait, and end calls that were never sent; for the time of the whole
//! give the call a deadline, which bounds queue and retries alike
//! (`a_deadline_beside_the_request_bounds_the_queue_and_the_retries`).
