//! Testing your policies, in virtual time.
//!
//! | what is tested | how | time |
//! |---|---|---|
//! | a rule: when it waits, when it gives up | the [policy](crate::policy) alone | an argument |
//! | what your closures make of requests and responses | call them | none |
//! | layers together: order, waits, what is in flight | a [`Scripted`] service under the stack | tokio's, paused |
//! | the client, sockets and streams too | a server on loopback | real: assert counts, not times |
//!
//! Assert numbers, and break each rule once: a test that does not fail then tests nothing.
//!
//! # A policy alone
//!
//! A policy reads no clock and draws no chance of its own, so that a test says both. Whether the settings
//! of a retry do what they are meant to:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{
//!     outcome::{Effect, Idempotency, Outcome, Verdict},
//!     policy::{
//!         Attempts, Decision, InvalidConfig, Reason, RetryBudget, RetryPolicy, Rng, Timestamp,
//!     },
//! };
//!
//! /// The longest wait that jitter can make.
//! struct Unlucky;
//! impl Rng for Unlucky {
//!     fn next_u64(&mut self) -> u64 {
//!         u64::MAX
//!     }
//! }
//!
//! /// What is decided at once after the first attempt, in a call that has ten seconds left.
//! fn decided(policy: &RetryPolicy, outcome: Outcome) -> Decision {
//!     let now = Timestamp::ZERO;
//!     let mut call = Attempts::new(now, Some(now + Duration::from_secs(10)), Idempotency::Unknown);
//!     call.decide(policy, &outcome, now, &mut RetryBudget::default(), &mut Unlucky)
//! }
//!
//! let ours = RetryPolicy::builder().attempts(3).longest_hint(Duration::from_secs(5)).build()?;
//! let throttled = Outcome::new(Verdict::Throttled);
//!
//! let Decision::Retry { at, .. } = decided(&ours, throttled.after(Duration::from_secs(2))) else {
//!     panic!("it should wait");
//! };
//! let wait = at.since(Timestamp::ZERO);
//! assert!((2.0..2.5).contains(&wait.as_secs_f64()), "{wait:?}");
//!
//! let too_long = decided(&ours, throttled.after(Duration::from_secs(6)));
//! assert!(matches!(too_long, Decision::GiveUp(Reason::HintTooLong)));
//! let fault = Outcome::new(Verdict::ServerFault).with_effect(Effect::Possible);
//! assert!(matches!(decided(&ours, fault), Decision::GiveUp(Reason::NotIdempotent)));
//! # Ok::<(), InvalidConfig>(())
//! ```
//!
//! The same goes for buckets, breakers, limits of calls in flight and pools: the chapters on
//! [breakers](crate::guide::breaker_settings) and on [quotas](crate::guide::whole_quota) play an hour
//! to them in no time. A limit of your own implements
//! [`LimitAlgorithm`](crate::policy::limit::LimitAlgorithm), which is as pure; drive it with
//! [`Sample`](crate::policy::limit::Sample)s.
//!
//! # What your closures say
//!
//! Give them names, and call them. A classification is an ordinary function:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{error::BoxError, outcome::{Outcome, Verdict}, retry::RetryLayer};
//!
//! enum Reply {
//!     Busy { seconds: u64 },
//!     Done,
//! }
//!
//! fn classify(reply: Result<&Reply, &BoxError>) -> Outcome {
//!     match reply {
//!         Ok(Reply::Busy { seconds }) => {
//!             Outcome::new(Verdict::Throttled).after(Duration::from_secs(*seconds))
//!         }
//!         Ok(Reply::Done) => Outcome::SUCCESS,
//!         Err(_) => Outcome::new(Verdict::ServerFault),
//!     }
//! }
//!
//! assert_eq!(classify(Ok(&Reply::Busy { seconds: 3 })).verdict(), Verdict::Throttled);
//! assert_eq!(classify(Ok(&Reply::Done)).verdict(), Verdict::Success);
//! assert_eq!(classify(Err(&"reset".into())).verdict(), Verdict::ServerFault);
//! let layer = RetryLayer::default().classify(classify);
//! # let _ = layer;
//! ```
//!
//! # Layers together
//!
//! With `test-util` there is a service that answers as it is told and remembers when it was asked. In a
//! runtime whose time is paused (`#[tokio::test(start_paused = true)]`) waits of hours are over at once
//! and exact:
//!
//! ```
//! use std::{sync::atomic::{AtomicU32, Ordering::Relaxed}, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_relay::{
//!     error::BoxError,
//!     outcome::{Outcome, Verdict},
//!     rate_limit::RateLimitLayer,
//!     retry::RetryLayer,
//!     testing::{ReadinessProbe, Reply, Scripted},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // It is busy for the first two calls, and takes 50 ms for each.
//! static ASKED: AtomicU32 = AtomicU32::new(0);
//! let server = Scripted::new(|_: &()| {
//!     let is_busy = ASKED.fetch_add(1, Relaxed) < 2;
//!     Reply::after(Duration::from_millis(50), is_busy)
//! });
//! let classify = |is_busy: Result<&bool, &BoxError>| match is_busy {
//!     Ok(true) => Outcome::new(Verdict::Throttled).after(Duration::from_secs(60)),
//!     Ok(false) => Outcome::SUCCESS,
//!     Err(_) => Outcome::new(Verdict::ServerFault),
//! };
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::default().classify(classify))
//!     .layer(RateLimitLayer::per_second(1))
//!     .service(ReadinessProbe::new(server.clone()));
//!
//! assert_eq!(service.oneshot(()).await?, false);
//! let sent = server.sent_after();
//! assert_eq!((sent.len(), sent[0]), (3, Duration::ZERO));
//! assert!(sent[1] >= Duration::from_secs(60) && sent[2] >= Duration::from_secs(120));
//! assert_eq!((server.in_flight(), server.peak_in_flight()), (0, 1));
//! # Ok(())
//! # }
//! ```
//!
//! A layer of your own is under test between [`ReadinessProbe`]s: the one below panics if an instance is
//! called that was not ready. Drop its futures at each state and ask [`Scripted::in_flight`] what is left.
//!
//! # What goes wrong in such tests
//!
//! - **Paused time needs a runtime of one thread**, and jumps when nothing else is to be done. With a
//!   socket in it, it jumps while bytes are under way: timeouts expire at once. Keep sockets out, or run
//!   that test in real time.
//! - **`std::time::Instant` does not jump**, nor does `std::thread::sleep`. Use `tokio::time::Instant`.
//! - **Clones share.** What one test has taken from a layer's quota is gone for the next: a layer for
//!   each test.
//! - **Jitter.** Layers draw their own: assert bounds, as above, or test the policy with an [`Rng`] of
//!   yours.
//! - **Buckets begin full.** The first call, or the first burst, waits for nothing; assert rates over what
//!   comes after.
//!
//! [`Scripted`]: crate::testing::Scripted
//! [`Scripted::in_flight`]: crate::testing::Scripted::in_flight
//! [`ReadinessProbe`]: crate::testing::ReadinessProbe
//! [`Rng`]: crate::policy::Rng
