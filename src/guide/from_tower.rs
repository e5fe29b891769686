//! Coming from tower's own limits.
//!
//! | tower | here |
//! |---|---|
//! | `.rate_limit(10, second)` | [`RateLimitLayer::per_second`]`(10)`, with `.burst(10)` for bursts |
//! | `.concurrency_limit(100)` | [`max_in_flight`] of a quota, or [`AdaptiveConcurrencyLayer`] with [`Fixed`] |
//! | `.buffer(n)`, to share a limit or to queue | nothing: clones share, and [`max_waiting`] bounds the queue |
//! | `.load_shed()` | [`max_waiting`]`(0)`, or [`max_wait`] |
//! | `.retry(policy)` | [`RetryLayer`] |
//! | `.timeout(..)`, `.balance`, `.filter` | stay; a timeout of an attempt goes inside retry and limits |
//!
//! # Rate and buffer
//!
//! Tower's `RateLimit` counts calls in windows and is not `Clone`, hence the buffer. Both, side by side:
//! one call, and forty more nine tenths of a second later.
//!
//! ```
//! use std::{sync::{Arc, Mutex}, time::Duration};
//! use futures::future::join_all;
//! use tokio::time::{Instant, sleep};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
//! use tower_relay::{error::BoxError, rate_limit::RateLimitLayer};
//!
//! type Client = BoxCloneService<(), (), BoxError>;
//!
//! /// The most calls that were sent within a tenth of a second.
//! async fn busiest<S>(limited: impl FnOnce(Client) -> S) -> usize
//! where
//!     S: Service<(), Response = (), Error = BoxError> + Clone,
//! {
//!     let sent = Arc::new(Mutex::new(Vec::new()));
//!     let log = Arc::clone(&sent);
//!     let service = limited(BoxCloneService::new(service_fn(move |()| {
//!         log.lock().unwrap().push(Instant::now());
//!         std::future::ready(Ok(()))
//!     })));
//!     service.clone().oneshot(()).await.expect("the first");
//!     sleep(Duration::from_millis(900)).await;
//!     join_all((0..40).map(|_| service.clone().oneshot(()))).await;
//!     let sent = sent.lock().unwrap();
//!     let within = |from: &Instant| {
//!         let end = *from + Duration::from_millis(101);
//!         sent.iter().filter(|at| (*from..end).contains(at)).count()
//!     };
//!     sent.iter().map(within).max().expect("calls were sent")
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let before = busiest(|client| {
//!     ServiceBuilder::new().buffer(64).rate_limit(10, Duration::from_secs(1)).service(client)
//! });
//! let after = busiest(|client| {
//!     ServiceBuilder::new().layer(RateLimitLayer::per_second(10)).service(client)
//! });
//! assert_eq!(before.await, 19, "what was left of a window, and all of the next");
//! assert_eq!(after.await, 2, "one each tenth of a second");
//! # }
//! ```
//!
//! # Concurrency and shedding
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use futures::future::join_all;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{error::Rejected, policy::Quota, rate_limit::RateLimitLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::policy::InvalidConfig> {
//! let client = service_fn(async |()| {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, Infallible>(())
//! });
//! let before = ServiceBuilder::new().load_shed().concurrency_limit(2).service(client);
//! let answers = join_all((0..3).map(|_| before.clone().oneshot(()))).await;
//! assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
//!
//! let quota = Quota::builder().max_in_flight(2).build()?;
//! let limit = RateLimitLayer::new(quota).max_waiting(0);
//! let after = ServiceBuilder::new().layer(limit).service(client);
//! let answers = join_all((0..3).map(|_| after.clone().oneshot(()))).await;
//! let error = answers[2].as_ref().unwrap_err();
//! assert!(matches!(Rejected::find(&**error), Some(Rejected::QueueFull(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # Retry
//!
//! A policy of tower's decides on the result, clones the request and makes the future to wait on:
//!
//! ```ignore
//! impl<E> tower::retry::Policy<Request, Response, E> for Attempts {
//!     type Future = std::future::Ready<()>;
//!
//!     fn retry(&mut self, _: &mut Request, result: &mut Result<Response, E>) -> Option<Self::Future> {
//!         let failed = result.as_ref().map_or(true, |response| response.status().is_server_error());
//!         (failed && self.0 > 0).then(|| { self.0 -= 1; std::future::ready(()) })
//!     }
//!
//!     fn clone_request(&mut self, request: &Request) -> Option<Request> {
//!         Some(request.clone())
//!     }
//! }
//! let service = ServiceBuilder::new().retry(Attempts(3)).service(client);
//! ```
//!
//! Here it is a value, and what a response means comes from the protocol:
//!
//! ```
//! use tower_relay::{policy::RetryPolicy, retry::RetryLayer};
//!
//! let layer = RetryLayer::http().policy(RetryPolicy::builder().attempts(4).build()?);
//! assert_eq!(layer.handle().snapshot().retries(), 0);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! See [from retry loops](crate::guide::from_retry_loops) for what changes.
//!
//! # What changes
//!
//! - **Where a call waits.** Tower's limits wait in `poll_ready`; here a service is always ready and its
//!   future waits, in the order of the calls. A future that is made and not polled holds its place.
//! - **Bursts.** By default there are none: the budget of a second is not sent at once. `.burst(n)`
//!   saves up so many while idle.
//! - **A place in flight** ends with the future at tower. With [`RateLimitLayer::http`] it ends
//!   with the response's body.
//! - **Errors** are [`BoxError`](crate::error::BoxError), as behind a buffer. A refusal is a
//!   [`Rejected`](crate::error::Rejected) and knows when to come back; tower's `Overloaded` does not.
//! - **Clones** share a limit by themselves, and so do all services that one layer makes.
//!
//! # What you lose
//!
//! - *Backpressure through readiness.* `load_shed`, `balance` and `steer` see a service that is always
//!   ready. Shed by [`max_waiting`] or [`max_wait`]; balance accounts with
//!   [key rotation](crate::key_rotation).
//! - *Services that are not `Clone`.* The layers call a clone of the inner service. Keep a `Buffer`
//!   innermost for one that cannot be cloned.
//! - *The error's type*, at tower kept by `RateLimit`, `ConcurrencyLimit` and `Retry`: downcast it from
//!   the `BoxError`.
//!
//! [`RateLimitLayer::per_second`]: crate::rate_limit::RateLimitLayer::per_second
//! [`RateLimitLayer::http`]: crate::rate_limit::RateLimitLayer::http
//! [`max_waiting`]: crate::rate_limit::RateLimitLayer::max_waiting
//! [`max_wait`]: crate::rate_limit::RateLimitLayer::max_wait
//! [`max_in_flight`]: crate::policy::QuotaBuilder::max_in_flight
//! [`AdaptiveConcurrencyLayer`]: crate::adaptive_concurrency::AdaptiveConcurrencyLayer
//! [`Fixed`]: crate::policy::limit::Fixed
//! [`RetryLayer`]: crate::retry::RetryLayer
