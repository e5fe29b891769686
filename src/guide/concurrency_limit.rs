//! Choosing a concurrency limit.
//!
//! # First: is one wanted?
//!
//! A quota (requests or tokens a minute) and a concurrency limit answer different questions. Where
//! the quota binds first, the number in flight is already decided: by Little's law it is the rate
//! times the latency, and a limit below that leaves quota unused. Ten calls a second of two seconds
//! each are twenty in flight; a limit of eight makes six a second of them:
//!
//! ```
//! use std::{convert::Infallible, num::NonZeroUsize, time::Duration};
//! use futures::future::try_join_all;
//! use tokio::time::{Instant, sleep};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer, error::BoxError, policy::limit::Fixed,
//!     rate_limit::RateLimitLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let server = service_fn(async |()| {
//!     sleep(Duration::from_secs(2)).await;
//!     Ok::<_, Infallible>(())
//! });
//!
//! let quota = RateLimitLayer::per_second(10);
//! let handle = quota.handle();
//! let alone = ServiceBuilder::new().layer(quota).service(server);
//! let start = Instant::now();
//! try_join_all((0..100).map(|_| alone.clone().oneshot(()))).await?;
//! assert!(start.elapsed() < Duration::from_secs(13));
//! assert!((19..=21).contains(&handle.snapshot().peak_active()));
//!
//! let eight = AdaptiveConcurrencyLayer::new(Fixed::new(NonZeroUsize::new(8).expect("not zero")));
//! let both = ServiceBuilder::new()
//!     .layer(eight)
//!     .layer(RateLimitLayer::per_second(10))
//!     .service(server);
//! let start = Instant::now();
//! try_join_all((0..100).map(|_| both.clone().oneshot(()))).await?;
//! assert!(start.elapsed() > Duration::from_secs(25));
//! # Ok(())
//! # }
//! ```
//!
//! So with a hosted model whose quota is known, configure the quota and leave the limit out. In the
//! scoreboard's S7 every algorithm of ours behind the known quota gets 1.000 of it, as no limit
//! does. Use a limit where the server's own capacity binds: a model that you host, a batch
//! endpoint, a provider that answers 529 long before the quota is used; as a guard beside a quota
//! that rarely binds; or where a provider states a number in flight, which is
//! [`max_in_flight`](crate::policy::QuotaBuilder::max_in_flight) of a quota.
//!
//! # Which for which server
//!
//! | server | algorithm |
//! |---|---|
//! | capacity known and constant | [`Fixed`] |
//! | unknown, or not what it was yesterday; calls queue there | [`SizedVegas`], **the default** |
//! | refuses what is too much (429, 529) and never queues | [`Aimd`] |
//! | whatever it is, a latency was promised | [`PercentileTarget`], with the target not tight |
//! | a quota binds first | none |
//!
//! ```
//! use std::{convert::Infallible, sync::Arc, time::Duration};
//! use futures::future::try_join_all;
//! use tokio::{sync::Semaphore, time::sleep};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     adaptive_concurrency::AdaptiveConcurrencyLayer,
//!     error::BoxError,
//!     policy::limit::{Aimd, Bounds, SizedVegas},
//! };
//!
//! /// The limit after 5,000 calls from 400 callers to a server that works on 50 at once and
//! /// queues the others.
//! async fn learned(layer: AdaptiveConcurrencyLayer) -> Result<usize, BoxError> {
//!     let handle = layer.handle();
//!     let workers = Arc::new(Semaphore::new(50));
//!     let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
//!         let workers = Arc::clone(&workers);
//!         async move {
//!             let _one = workers.acquire().await.expect("it is never closed");
//!             sleep(Duration::from_millis(100)).await;
//!             Ok::<_, Infallible>(())
//!         }
//!     }));
//!     try_join_all((0..400).map(|_| async {
//!         for _ in 0..25 {
//!             service.clone().oneshot(()).await?;
//!         }
//!         Ok::<_, BoxError>(())
//!     }))
//!     .await?;
//!     Ok(handle.limit())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let bounds = Bounds::new(1..=300)?;
//! // By its queue, the server's capacity shows, and a few calls stay in line.
//! let limit = learned(AdaptiveConcurrencyLayer::new(SizedVegas::new(bounds))).await?;
//! assert!((50..75).contains(&limit), "{limit}");
//! // It refuses nothing, so whoever goes by refusals fills the queue.
//! let limit = learned(AdaptiveConcurrencyLayer::new(Aimd::new(bounds))).await?;
//! assert_eq!(limit, 300);
//! # Ok(())
//! # }
//! ```
//!
//! # The evidence
//!
//! `docs/scoreboard.md` in the repository has every figure, `cargo run --release -p simulator` makes
//! them. Goodput by the best that a client who knew the server could get, in brackets the mean
//! latency by the same client's, then refused calls for each success; 20 seeds:
//!
//! | | S1 | S2 | S3 | S4 | S5 | S6 | S8 |
//! |---|---|---|---|---|---|---|---|
//! | `SizedVegas` | 0.996 (1.13×) | 0.995 (1.13×) | 0.986 (1.16×) | 0.997 (1.11×) | 1.000 | 1.001, 0.0040 | 0.984 (1.13×), 0.0068 |
//! | `Aimd` | 1.000 (20×) | 1.000 (20×) | 0.999 (26×) | 1.000 (2.00×), 0.0029 | 1.000 | 1.000, 0.0043 | 1.006 (20×), 0.0072 |
//! | `PercentileTarget` | 0.999 (1.52×) | 0.999 (2.39×) | 0.903 (1.67×) | 0.856 | 1.000 | 0.950, 0.0009 | 0.947 (1.69×), 0.0075 |
//! | no limit, 200 workers | 1.000 (4.00×) | 1.000 (4.00×) | 1.000 (5.21×) | 1.000 (2.00×), 219 | 1.000 | 1.000, 639 | 1.002 (3.99×), 1 |
//! | Netflix Gradient2 | 1.000 (1.71×) | 0.999 (1.56×) | 0.880 (1.29×) | 0.361 | 0.769 | 0.501 | 0.944 (1.59×), 0.3945 |
//! | Netflix AIMD, tuned | 1.000 (4.00×) | 1.000 (4.00×) | 1.000 (5.21×) | 1.000 (1.94×), 0.0784 | 1.000 | 0.975, 0.2080 | 0.999 (3.99×), 0.0065 |
//! | Vector | 0.997 (1.27×) | 0.980 (1.13×) | 0.940 (1.56×) | 0.638 | 0.814 | 0.810, 0.1297 | 0.919 (1.17×), 0.0454 |
//!
//! - **The default** keeps .98 of the goodput everywhere, and the latency within 1.2 times the best.
//!   Nothing else in the table does both. After the outage S8 it is back in 1.6 s.
//! - **[`Aimd`]** is the simpler and as good in S6 and S7, and back at once in S8. In S1 it
//!   multiplies the latency by twenty and in S4 by two: it knows no queue.
//! - **[`Fixed`]**, set right, is the oracle of the other rows: nothing beats it, and nothing is
//!   simpler. Set wrong, or right for what the server was last week, it idles or queues. In S3 the
//!   best number moves from 50 to 15 and back.
//! - **[`PercentileTarget`]** does what it is told and nothing else. The scoreboard gives it 1.25
//!   times the unloaded P99, which leaves a seventh of S4 unused, and as it needs hundreds of calls
//!   a decision, one seed of twenty stayed at .480 in S6. Take it for a promise, not for
//!   throughput, and with a target of twice the P99 or more.
//! - **No limit** loses nothing on goodput. It costs latency (S1 to S3) or refusals (in S6, 639 for
//!   each success), both of which a provider may answer with worse.
//!
//! # Where the default is weak
//!
//! - **Few places.** The line it keeps is 0.85 roots of what is served. With four servers that is
//!   1.5 times the best latency, with two 1.8, with one 2.4, at full goodput; and one server of
//!   four seconds needs an hour until it is known. If you know that there are four, write [`Fixed`].
//! - **A start far above the capacity.** What it sees first may be a line, so the first probe halves
//!   the limit until the latency no longer follows: from 200 before 8 or 15 servers it comes
//!   down to 1.3 times the best latency within a minute. Still, those 200 wait in line first. Leave
//!   the first limit low (it is 8) and let it double.
//! - **Much growth at once.** Where five servers become two hundred, it needs most of a minute.
//! - **Refusals after a deep step.** Where 40 places become 10 and 40 again and nobody queues, it
//!   keeps .80: after a refusal a ceiling is believed for 150 successes, which at ten places of eight
//!   seconds each are two minutes, and then looked beyond in doubling steps.
//! - **Chance.** S3's mean over 20 seeds is .986 and its worst seed .980; of a hundred the worst
//!   has .970. A probe that meets calls quick by chance costs some seconds of capacity.
//! - **[`by_size`](crate::policy::limit::SizedVegas::by_size)** judges by the whole answer, for servers that send their
//!   first byte at once; with a mix of few or many long answers it loses up to five percent more.
//!
//! # Its numbers
//!
//! Only the bounds are yours. The highest limit is a guard against mistakes: set it to what your
//! own process can hold. The lowest is 1; raise it if a lone caller must never wait. Wherever the
//! limit stands, callers wait in order; bound their wait with
//! [`max_wait`](crate::adaptive_concurrency::AdaptiveConcurrencyLayer::max_wait).
//!
//! [`Fixed`]: crate::policy::limit::Fixed
//! [`SizedVegas`]: crate::policy::limit::SizedVegas
//! [`Aimd`]: crate::policy::limit::Aimd
//! [`PercentileTarget`]: crate::policy::limit::PercentileTarget
