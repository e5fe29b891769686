//! Choosing a breaker's settings.
//!
//! The defaults suit an API called a few times a second or more. Each setting below says when
//! another value is better; the examples drive the bare policy, which needs no time to pass.
//!
//! | if | set |
//! |---|---|
//! | fewer than a call a second | [`lower_bound`], or a longer [`window`] |
//! | an answer is late long before it fails | [`slow_calls`] |
//! | short blackouts must be over at once | [`open`] with two equal times, one [`probes`] |
//! | the endpoint starts cold | [`ramp`] |
//! | several hosts or models behind one client | a [keyed](crate::circuit_breaker::KeyedCircuitBreakerLayer) breaker |
//! | callers would rather fail than queue | the [`gate`](crate::circuit_breaker::CircuitBreakerLayer::gate) outermost as well |
//! | nobody trusts it yet | [`Mode::ObserveOnly`] |
//!
//! # A window of time, or of calls
//!
//! A window of time forgets what is old however few calls there are, so it holds what is known about *now*,
//! and at a low rate that is little. A window of calls always holds as many, at a low rate from
//! hours ago. Take time (the default, 30 s) unless calls come in batches with hours between, and then calls
//! ([`last_calls`], up to 256).
//!
//! # The minimum, and what to do at one call a second
//!
//! Half of two calls is one failure: a ratio needs a minimum of calls, 20 by default. A window of 30 s
//! reaches it at two thirds of a call a second. Below that the ratio never counts, and only failures in
//! a row open the breaker. An endpoint that fails two calls of three then stays in use for ever. The
//! lower end of the ratio's confidence interval needs no minimum, because few calls make it low:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{
//!     InvalidConfig, Rng, Timestamp,
//!     breaker::{Admission, Breaker, BreakerConfig, Confidence, Signal},
//! };
//!
//! struct NoJitter;
//! impl Rng for NoJitter {
//!     fn next_u64(&mut self) -> u64 {
//!         0
//!     }
//! }
//!
//! /// After how many calls it opens, of three hundred with so much time between, where `fails` says
//! /// how each goes.
//! fn opens_after(config: &BreakerConfig, pause: Duration, fails: fn(u32) -> bool) -> Option<u32> {
//!     let mut now = Timestamp::ZERO;
//!     let mut breaker = Breaker::new(config, now);
//!     for call in 0..300 {
//!         let Admission::Pass(ticket) = breaker.ask(config, now, &mut NoJitter) else {
//!             return Some(call);
//!         };
//!         let first_byte = Duration::from_millis(300);
//!         let signal = if fails(call) { Signal::FAILURE } else { Signal::Success { first_byte } };
//!         breaker.report(config, ticket, signal, now, &mut NoJitter);
//!         now = now + pause;
//!     }
//!     None
//! }
//!
//! let two_of_three = |call| call % 3 != 2;
//! let now_and_then = |call| call % 10 == 0;
//! let (second, three) = (Duration::from_secs(1), Duration::from_secs(3));
//!
//! let default = BreakerConfig::default();
//! let opened = opens_after(&default, second, two_of_three);
//! assert!(opened.is_some_and(|calls| (20..=26).contains(&calls)), "{opened:?}");
//! assert_eq!(opens_after(&default, three, two_of_three), None);
//!
//! let surely_above_a_third = BreakerConfig::builder().lower_bound(0.33, Confidence::P95).build()?;
//! let opened = opens_after(&surely_above_a_third, three, two_of_three);
//! assert!(opened.is_some_and(|calls| calls <= 10), "{opened:?}");
//! assert_eq!(opens_after(&surely_above_a_third, second, now_and_then), None);
//!
//! // The other way: a window in which the minimum is reached.
//! let longer = BreakerConfig::builder().window(Duration::from_secs(120)).build()?;
//! let opened = opens_after(&longer, three, two_of_three);
//! assert!(opened.is_some_and(|calls| (20..=26).contains(&calls)), "{opened:?}");
//! # Ok::<(), InvalidConfig>(())
//! ```
//!
//! The ratio of a bound lies below that of a plain condition: it is what is *proven*. With 0.33 at 95 % a call
//! in ten that fails opens nothing, and a dead endpoint shows after the third failure. With a
//! ratio below 0.27 the first failure of all is proof enough, which is seldom meant.
//!
//! # How long it stays open
//!
//! While it is open nobody knows how the endpoint is, so the time to the next probe is how late a
//! recovery is found. The time doubles with each failed probe, so the lateness grows with the
//! outage: nobody is kept out for much longer than the endpoint was down, and an endpoint that is
//! down for an hour is asked every five minutes. `shortest` decides about blackouts of seconds. It
//! is half a second by default; with five seconds, a blackout of one costs five.
//!
//! Where a bound in seconds is wanted instead, the longest must be that bound. Half a second, twice, with
//! one probe costs the dead endpoint two calls a second:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{
//!     InvalidConfig, Rng, Timestamp,
//!     breaker::{Admission, Breaker, BreakerConfig, Signal},
//! };
//!
//! struct NoJitter;
//! impl Rng for NoJitter {
//!     fn next_u64(&mut self) -> u64 {
//!         0
//!     }
//! }
//!
//! const STEP: Duration = Duration::from_millis(10);
//!
//! /// How long after a blackout of so long the first call succeeds, where one is tried every 10 ms
//! /// and answered at once.
//! fn lateness(config: &BreakerConfig, blackout: Duration) -> Duration {
//!     let (mut now, end) = (Timestamp::ZERO, Timestamp::ZERO + blackout);
//!     let mut breaker = Breaker::new(config, now);
//!     loop {
//!         if let Admission::Pass(ticket) = breaker.ask(config, now, &mut NoJitter) {
//!             if now >= end {
//!                 return now.since(end);
//!             }
//!             breaker.report(config, ticket, Signal::FAILURE, now, &mut NoJitter);
//!         }
//!         now = now + STEP;
//!     }
//! }
//!
//! let default = BreakerConfig::default();
//! let (half, minute) = (Duration::from_millis(500), Duration::from_secs(60));
//! for tenths in 1..600 {
//!     let blackout = Duration::from_millis(tenths * 100);
//!     assert!(lateness(&default, blackout) <= blackout + half, "{blackout:?}");
//! }
//! assert!(lateness(&default, Duration::from_secs(3)) < Duration::from_secs(1));
//! // Unlucky: it was asked just before.
//! assert!(lateness(&default, Duration::from_secs(4)) > Duration::from_secs(3));
//!
//! let five = BreakerConfig::builder().open(Duration::from_secs(5), 5 * minute).build()?;
//! assert!(lateness(&five, Duration::from_secs(1)) > Duration::from_secs(4));
//!
//! let bounded = BreakerConfig::builder().open(half, half).probes(1).build()?;
//! for tenths in 1..600 {
//!     assert!(lateness(&bounded, Duration::from_millis(tenths * 100)) <= half);
//! }
//! # Ok::<(), InvalidConfig>(())
//! ```
//!
//! What also counts: a probe that hangs is an answer only when it times out. So bound the time of an
//! attempt inside the breaker; the [`lease`] merely frees the probe's place. Jitter adds up to a tenth.
//!
//! # Slow calls
//!
//! A provider that is overloaded often answers late before it answers 529. [`slow_calls`] counts successes
//! whose first byte took longer than a threshold. It knows no load: put the threshold at what
//! nobody would wait for, several times the P99, and the ratio high. Below, the
//! [adaptive concurrency](crate::guide::concurrency_limit) is the better answer, because it sends fewer calls instead of none.
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     circuit_breaker::CircuitBreakerLayer,
//!     error::{BoxError, Rejected},
//!     policy::breaker::BreakerConfig,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = BreakerConfig::builder()
//!     .window(Duration::from_secs(3600))
//!     .slow_calls(Duration::from_secs(20), 0.8, 10)
//!     .build()?;
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(config))
//!     .service(service_fn(async |seconds: u64| {
//!         tokio::time::sleep(Duration::from_secs(seconds)).await;
//!         Ok::<_, BoxError>(())
//!     }));
//! for _ in 0..10 {
//!     service.clone().oneshot(2).await?;
//! }
//! // Forty more make it four fifths. It opens on the last of them, as on any bad news.
//! for _ in 0..40 {
//!     service.clone().oneshot(30).await?;
//! }
//! let error = service.clone().oneshot(2).await.unwrap_err();
//! assert!(matches!(Rejected::find(&*error), Some(Rejected::BreakerOpen(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # One, or one for each
//!
//! One breaker for several hosts opens for all when one is down, or for none, because the others'
//! successes hide it. Key it by what fails together: the host, with several regions; the model,
//! where a provider's models have fleets of their own; never the API key or the caller, whose failures are not the endpoint's.
//! A key's breaker sees only its share of the calls, so a minimum is reached later: take
//! the bound. For the same reason a gate outside, whose calls all wait in one queue, is worth most
//! where there is one endpoint.
//!
//! # By hand
//!
//! [`Mode::ObserveOnly`] tells of everything and refuses nothing, which is how to begin.
//! [`Mode::ForcedOpen`] takes an endpoint out for maintenance, [`Mode::ForcedClosed`] is for who knows better,
//! [`Mode::Disabled`] costs and counts nothing.
//!
//! ```
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     circuit_breaker::CircuitBreakerLayer,
//!     error::{BoxError, Rejected},
//!     policy::breaker::{Mode, State},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let breaker = CircuitBreakerLayer::default();
//! let handle = breaker.handle();
//! handle.set_mode(Mode::ObserveOnly);
//! let down = service_fn(async |()| Err::<(), _>(BoxError::from("connection refused")));
//! let service = ServiceBuilder::new().layer(breaker).service(down);
//! for _ in 0..20 {
//!     let error = service.clone().oneshot(()).await.unwrap_err();
//!     assert!(Rejected::find(&*error).is_none(), "it reached the endpoint");
//! }
//! assert_eq!(handle.snapshot().state(), State::Open, "it would have refused");
//!
//! handle.set_mode(Mode::ForcedOpen);
//! let error = service.clone().oneshot(()).await.unwrap_err();
//! let refused = Rejected::find(&*error).expect("by the operator");
//! assert_eq!(refused.retry_after(), None, "nobody knows until when");
//! # }
//! ```
//!
//! [`lower_bound`]: crate::policy::breaker::BreakerConfigBuilder::lower_bound
//! [`window`]: crate::policy::breaker::BreakerConfigBuilder::window
//! [`last_calls`]: crate::policy::breaker::BreakerConfigBuilder::last_calls
//! [`slow_calls`]: crate::policy::breaker::BreakerConfigBuilder::slow_calls
//! [`open`]: crate::policy::breaker::BreakerConfigBuilder::open
//! [`probes`]: crate::policy::breaker::BreakerConfigBuilder::probes
//! [`lease`]: crate::policy::breaker::BreakerConfigBuilder::lease
//! [`ramp`]: crate::policy::breaker::BreakerConfigBuilder::ramp
//! [`Mode::ObserveOnly`]: crate::policy::breaker::Mode::ObserveOnly
//! [`Mode::ForcedOpen`]: crate::policy::breaker::Mode::ForcedOpen
//! [`Mode::ForcedClosed`]: crate::policy::breaker::Mode::ForcedClosed
//! [`Mode::Disabled`]: crate::policy::breaker::Mode::Disabled
