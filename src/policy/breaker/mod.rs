//! When to stop calling an endpoint that is down, and when to call it again.
//!
//! A [`Breaker`] is **closed** while calls go well, and counts how they go. Too many failures
//! **open** it: calls are refused for a time that grows with every relapse. After that it is
//! **half-open**: a few calls pass as probes, and close or open it again. After it has closed,
//! the share of calls that pass grows to all of them over a short ramp.
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{
//!     Rng, Timestamp,
//!     breaker::{Admission, Breaker, BreakerConfig, Signal, Transition},
//! };
//!
//! # struct Fixed;
//! # impl Rng for Fixed {
//! #     fn next_u64(&mut self) -> u64 { 0 }
//! # }
//! # let mut rng = Fixed;
//! let config = BreakerConfig::default();
//! let mut now = Timestamp::ZERO;
//! let mut breaker = Breaker::new(&config, now);
//!
//! // Five failures in a row are enough.
//! for _ in 0..5 {
//!     let Admission::Pass(ticket) = breaker.ask(&config, now, &mut rng) else { panic!("closed") };
//!     breaker.report(&config, ticket, Signal::FAILURE, now, &mut rng);
//! }
//! assert!(matches!(breaker.next_transition(), Some(Transition::Opened { .. })));
//! let Admission::Refuse(refusal) = breaker.ask(&config, now, &mut rng) else { panic!("open") };
//! assert_eq!(refusal.retry_after(), Some(Duration::from_millis(500)));
//!
//! // Then three probes decide.
//! now = now + Duration::from_millis(500);
//! for _ in 0..3 {
//!     let Admission::Pass(probe) = breaker.ask(&config, now, &mut rng) else { panic!("a place") };
//!     assert!(probe.is_probe());
//!     let answer = Signal::Success { first_byte: Duration::from_millis(300) };
//!     breaker.report(&config, probe, answer, now, &mut rng);
//! }
//! assert_eq!(breaker.next_transition(), Some(Transition::Closed));
//! ```
//!
//! With other conditions:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::breaker::{BreakerConfig, Confidence, Mode};
//!
//! let config = BreakerConfig::builder()
//!     .no_conditions()
//!     .window(Duration::from_secs(60))
//!     .lower_bound(0.3, Confidence::P95)
//!     .slow_calls(Duration::from_secs(20), 0.8, 10)
//!     .probes(1)
//!     .successes(2)
//!     .mode(Mode::ObserveOnly)
//!     .build()?;
//! assert_ne!(config, BreakerConfig::default());
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # What counts
//!
//! Each call counts once, by its [`Signal`]: as a success, as a success with a late first byte,
//! or as a failure, and if nobody can blame the endpoint for it, not at all. A limit (429) says
//! that the endpoint is alive and nothing more, so it neither opens nor closes.
//!
//! Only a failure, or a success that came late, opens: one that is well in time never does, even
//! if it is the one that completes a minimum of calls, or if older successes have left the window.
//!
//! # Windows
//!
//! A window of time is a ring of ten slices, each a ninth of it long: the present one, eight
//! whole ones, and the oldest, which counts by the part of it that is still inside. So nothing
//! is ever forgotten at once, and a count is wrong by at most the number of calls in the oldest
//! slice; it is exact if those were spread evenly. A slice with more than two million calls of a
//! kind is halved whole, which keeps its ratio. A window of calls is a ring of bits, exact, up to 256.
//!
//! # Who holds what
//!
//! The [`BreakerConfig`] is handed to every method, not kept: a map with a breaker per host or
//! key keeps 128 bytes each beside one configuration. Nothing is allocated, and the time a call
//! takes does not depend on how many came before.
//!
//! Every change of state begins a new generation, and a [`Ticket`] knows its own: a result from
//! an earlier state decides nothing. A probe has a place, and a lease on it. A result or a
//! release gives the place back at once, and a probe that is never heard of loses it with the
//! lease, so a half-open breaker is never stuck.
//!
//! Sources: Michael Nygard, "Release It!", 2007 (the three states); resilience4j (count and time
//! windows, slow calls, modes); E. B. Wilson, "Probable Inference, the Law of Succession, and
//! Statistical Inference", 1927 (the lower bound); Envoy (slow start after a return).
//! Deviations: successes never open; the weighted oldest slice; probes have leases; a limit is
//! neutral; the time open shrinks again only with successes.
//!
//! # Known limits
//!
//! - An endpoint that hangs shows only when its calls end: bound their time inside the breaker.
//! - Where calls run in parallel, "in a row" is the order in which they end.
//! - An observing breaker lets calls pass that it would have refused. They are not counted, so
//!   what it tells of an outage's end is what its own probes would have found.

mod admission;
mod config;
mod gate;
mod half_open;
mod mode;
mod phase;
mod signal;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod trip;
mod window;

pub(in crate::policy) use self::gate::{Gate, Mark};
pub use self::{
    admission::{Admission, Receipt, Refusal, Refused, Ticket},
    config::{BreakerConfig, BreakerConfigBuilder},
    mode::Mode,
    signal::Signal,
    snapshot::{Snapshot, State},
    state::{Breaker, Transition},
    trip::{Cause, Confidence},
};
