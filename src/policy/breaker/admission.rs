use std::time::Duration;

use crate::policy::Timestamp;

/// A breaker's answer to a call that wants to be sent.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Admission {
    /// Send it, and tell how it went.
    Pass(Ticket),
    /// Do not send it.
    Refuse(Refusal),
}

/// What a call that passed holds until it is [reported](super::Breaker::report) or
/// [released](super::Breaker::release).
///
/// It cannot be cloned, so no call is counted twice. One that is dropped instead counts as
/// nothing; if it was a probe's, its place is lost until the lease ends.
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Admission, Breaker, BreakerConfig},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Fixed) else { panic!("closed") };
/// assert!(!ticket.is_probe());
/// breaker.release(ticket); // the caller went away
/// assert_eq!(breaker.snapshot(&config, now).calls(), 0);
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a call that passed must be reported or released"]
pub struct Ticket {
    /// When the lease on a probe's place ends; tells it from the next one's at that place.
    pub(super) until: Timestamp,
    pub(super) generation: u32,
    pub(super) role: Role,
    pub(super) place: u8,
}

/// What a call is to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of those that the window counts.
    Counted,
    /// One of those that decide a half-open state.
    Probe,
    /// One that would have been refused.
    Spared,
    /// One that nobody counts.
    Untracked,
}

/// What is left of a reported success, by which it can be [amended](super::Breaker::amend) when
/// the answer fails after its head. It can be dropped without effect.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(super) of: Reported,
}

/// What was reported, and in which generation it can be amended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    /// Nothing that can be amended.
    Nothing,
    /// A success that the window counts.
    Counted(u32),
    /// A probe's success, in the generation that it led to.
    Probe(u32),
}

/// Why a call must not be sent, and when to ask again.
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Breaker, BreakerConfig, Mode, Refused},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// breaker.set_mode(&config, Mode::ForcedOpen, now);
/// let refusal = breaker.peek(&config, now, &mut Fixed).expect("it is open");
/// assert_eq!(refusal.why(), Refused::Forced);
/// assert_eq!(refusal.retry_after(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    why: Refused,
    retry_after: Option<Duration>,
}

/// Why a call must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The breaker is open.
    Open,
    /// It is half-open, and there are as many probes under way as may be.
    HalfOpen,
    /// It has just closed, and only a share of the calls pass.
    Ramp,
    /// Somebody has [forced](super::Mode::ForcedOpen) it open.
    Forced,
}

// === impl Ticket ===

impl Ticket {
    pub(super) const fn new(role: Role, generation: u32) -> Self {
        Self {
            until: Timestamp::ZERO,
            generation,
            role,
            place: 0,
        }
    }

    /// Of a call that a closed breaker lets pass in this generation.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) const fn counted(generation: u32) -> Self {
        Self::new(Role::Counted, generation)
    }

    /// Whether the call is one of the few that decide if the breaker closes. Its result counts
    /// until the lease ends, so tell it as soon as the first byte has come.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        matches!(self.role, Role::Probe)
    }

    /// Whether the call passed only because the breaker [observes](super::Mode::ObserveOnly).
    #[must_use]
    pub const fn is_spared(&self) -> bool {
        matches!(self.role, Role::Spared)
    }
}

// === impl Receipt ===

impl Receipt {
    pub(super) const NONE: Self = Self::new(Reported::Nothing);

    pub(super) const fn new(of: Reported) -> Self {
        Self { of }
    }
}

// === impl Refusal ===

impl Refusal {
    pub(super) const FORCED: Self = Self {
        why: Refused::Forced,
        retry_after: None,
    };

    /// Of a call that may pass when it asks again.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) const AT_ONCE: Self = Self::new(Refused::HalfOpen, Duration::from_millis(1));

    pub(super) const fn new(why: Refused, retry_after: Duration) -> Self {
        Self {
            why,
            retry_after: Some(retry_after),
        }
    }

    /// Why the call must not be sent.
    #[must_use]
    pub const fn why(&self) -> Refused {
        self.why
    }

    /// When to ask again, never zero; none if nobody knows.
    ///
    /// Of an open breaker this is the time that is really left, the same for all who ask: add a
    /// jitter before obeying it. The others are jittered.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
