//! Coming from `governor`.
//!
//! Both are token buckets: with the same rate and burst, the same may be sent. What differs is what is around
//! them: governor's is a check, here it is a queue.
//!
//! | governor | here |
//! |---|---|
//! | `Quota::per_second(50)` | `Quota::builder().requests_per_second(50).burst(Unit::REQUESTS, 50)` |
//! | `.allow_burst(10)` | `.burst(Unit::REQUESTS, 10)` |
//! | `Quota::with_period(period)` | `Quota::builder().rate(Unit::REQUESTS, 1, period)` |
//! | `RateLimiter::direct(quota)` | [`RateLimitLayer::new`]`(quota)`; without a service, [`TokenBucket`] |
//! | `until_ready().await`, then the call | the call |
//! | `check()` | the call, with [`max_waiting`]`(0)`; [`TokenBucket::ready_at`] |
//! | `check_n(n)`, `until_n_ready(n)` | [`cost`], of any number of units at once |
//! | `RateLimiter::keyed(quota)` | [`KeyedRateLimitLayer`] |
//! | `FakeRelativeClock` | paused tokio time; policies take the time as an argument |
//!
//! # A limit that waits
//!
//! ```ignore
//! let limiter = Arc::new(RateLimiter::direct(Quota::per_second(nonzero!(50u32))));
//! limiter.until_ready().await;
//! let answer = client.call(request).await?;
//! ```
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use futures::future::try_join_all;
//! use tokio::time::Instant;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{error::BoxError, policy::{Quota, Unit}, rate_limit::RateLimitLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let client = service_fn(async |()| Ok::<_, Infallible>(Instant::now()));
//! let quota = Quota::builder().requests_per_second(50).burst(Unit::REQUESTS, 50).build()?;
//! let service = ServiceBuilder::new().layer(RateLimitLayer::new(quota)).service(client);
//!
//! let start = Instant::now();
//! let sent = try_join_all((0..52).map(|_| service.clone().oneshot(()))).await?;
//! assert_eq!(sent[49] - start, Duration::ZERO, "the burst, as with governor");
//! assert_eq!(sent[50] - start, Duration::from_millis(20));
//! assert_eq!(sent[51] - start, Duration::from_millis(40));
//! # Ok(())
//! # }
//! ```
//!
//! # A check for each caller
//!
//! ```ignore
//! let limiter = RateLimiter::keyed(Quota::per_minute(nonzero!(60u32)));
//! if let Err(not_until) = limiter.check_key(&tenant) {
//!     return too_many_requests(not_until.wait_time_from(clock.now()));
//! }
//! ```
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{error::Rejected, policy::{Quota, Unit}, rate_limit::KeyedRateLimitLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let quota = Quota::builder().requests_per_minute(60).burst(Unit::REQUESTS, 60).build()?;
//! let limit = KeyedRateLimitLayer::new(quota, |tenant: &&'static str| *tenant).max_waiting(0);
//! let service = ServiceBuilder::new()
//!     .layer(limit)
//!     .service(service_fn(async |_: &'static str| Ok::<_, Infallible>(())));
//! for _ in 0..60 {
//!     service.clone().oneshot("a").await?;
//! }
//! let error = service.clone().oneshot("a").await.unwrap_err();
//! let refused = Rejected::find(&*error).expect("a limit refused");
//! assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
//! assert!(service.oneshot("b").await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # A check without a service
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket};
//!
//! let quota = Quota::builder().requests_per_second(50).build()?;
//! let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
//! bucket.take(&Cost::REQUEST, Timestamp::ZERO);
//! let now = Timestamp::ZERO + Duration::from_millis(5);
//! assert!(!bucket.is_ready(&Cost::REQUEST, now));
//! assert_eq!(bucket.ready_at(&Cost::REQUEST)?.since(now), Duration::from_millis(15));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What changes
//!
//! - **The burst** is one unless it is said; governor's is the whole quota. Providers enforce minutes
//!   over seconds, so a burst of a minute's worth is mostly refused.
//! - **Order.** Callers of `until_ready` sleep and ask again, and whoever asks first is served. Here they
//!   are served in the order of their calls, or by [shares](crate::policy::Shares).
//! - **Waiting is bounded**, by [`max_waiting`] (10,000), [`max_wait`] and the caller's deadline: a call that
//!   would be too late is refused at once.
//! - **What was taken can come back**: a call that was dropped while it waited takes nothing, and what
//!   an answer did not use is settled.
//! - **Keys** are at most 10,000 unless [`max_keys`] says otherwise. One that is as good as new is forgotten
//!   when its place is needed; if there is none, a new key is refused. Governor's are kept until `retain_recent`.
//! - **Jitter** is not needed: nobody sleeps towards the same instant.
//!
//! # What you lose
//!
//! - *Atomics.* Governor decides by compare-and-swap. Here a mutex is held for some arithmetic,
//!   for several dimensions and a queue. For millions of checks a second in front of nothing slower than
//!   memory keep governor.
//! - *Other runtimes and `no_std`.* The layers need tokio's timer. A [`TokenBucket`] needs neither clock
//!   nor runtime, but `std`, and `&mut`: put a lock of yours around it.
//! - *Stores and middleware of your own.* What there is to see is in
//!   [handles](crate::rate_limit::RateLimitHandle) and [events](crate::guide::observability).
//!
//! [`RateLimitLayer::new`]: crate::rate_limit::RateLimitLayer::new
//! [`max_waiting`]: crate::rate_limit::RateLimitLayer::max_waiting
//! [`max_wait`]: crate::rate_limit::RateLimitLayer::max_wait
//! [`cost`]: crate::rate_limit::RateLimitLayer::cost
//! [`max_keys`]: crate::rate_limit::KeyedRateLimitLayer::max_keys
//! [`KeyedRateLimitLayer`]: crate::rate_limit::KeyedRateLimitLayer
//! [`TokenBucket`]: crate::policy::TokenBucket
//! [`TokenBucket::ready_at`]: crate::policy::TokenBucket::ready_at
