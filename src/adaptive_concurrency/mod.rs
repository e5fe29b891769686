//! A limit of calls in flight that learns what the server can take.
//!
//! # The problem
//!
//! How many calls a server can work on at once is written nowhere, and changes. With too few in
//! flight it idles; with too many they queue there, time out, or are refused. A fixed number is
//! right for an hour. This layer admits as many as a
//! [`LimitAlgorithm`](crate::policy::limit::LimitAlgorithm) has learned from what became of the
//! calls before, and lets the others wait in order of arrival.
//!
//! # Where it stands
//!
//! Inside retry, outside the circuit breaker and the timeout. A quota is no concurrency: put a
//! rate limit or a key rotation before it for what is metered by the minute.
//!
//! # With defaults
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer,
//!     policy::limit::{Bounds, SizedVegas},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let layer = AdaptiveConcurrencyLayer::new(SizedVegas::new(Bounds::new(1..=200)?));
//! let handle = layer.handle();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |n: u32| {
//!     tokio::time::sleep(Duration::from_millis(100)).await;
//!     Ok::<_, Infallible>(n)
//! }));
//!
//! let calls = (0..500).map(|n| service.clone().oneshot(n));
//! futures::future::try_join_all(calls).await?;
//! // Nothing ever queued at the server, so the limit has grown.
//! assert!(handle.limit() > 8);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer,
//!     policy::limit::{Aimd, Bounds},
//! };
//!
//! let limit = AdaptiveConcurrencyLayer::new(Aimd::new(Bounds::new(4..=64)?.starting_at(16)?))
//!     .max_waiting(500)
//!     .max_wait(Duration::from_secs(60))
//!     .on_change(|change| println!("{} -> {}", change.from(), change.to()));
//! assert_eq!(limit.handle().limit(), 16);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # What differs from tower's `ConcurrencyLimit`
//!
//! Tower's number is fixed, and its permits are reserved in `poll_ready`, where an idle service
//! holds what others wait for, and end with the response's head.
//!
//! # Known limits
//!
//! - A timeout inside looks like any other failure of the server's, unless the protocol
//!   [classifies](AdaptiveConcurrencyLayer::classify) it as an overload.
//! - Nobody knows when a call ends: the wait for a place is no part of the estimate by which a call
//!   with a deadline is refused at once.

mod future;
mod handle;
mod layer;
mod service;

pub use self::{
    future::{Permit, ResponseFuture},
    handle::AdaptiveConcurrencyHandle,
    layer::AdaptiveConcurrencyLayer,
    service::AdaptiveConcurrency,
};
