use std::time::Duration;

use super::{
    BreakerConfig, Cause, Refusal, Refused,
    half_open::Probes,
    window::{Counts, Window},
};
use crate::policy::{Rng, Timestamp, backoff::SHORTEST, nanos};

/// The whole of a ramp's share: fine enough for any share to be told from its neighbours.
const ALL: u64 = 10_000;
/// The share of calls that pass at a ramp's beginning: a tenth is felt, and never nothing.
const FIRST: u64 = ALL / 10;

/// What a breaker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed(Closed),
    Open(Open),
    HalfOpen(Probes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) window: Window,
    /// Until when the server wants to be left alone, by the failures of the present row; a
    /// success takes its word back.
    pub(super) hinted: Timestamp,
    /// When the ramp began, then when the growth last shrank.
    pub(super) mark: Timestamp,
    /// Failures in a row.
    pub(super) run: u16,
    /// What the share of calls that pass has saved up.
    credit: u16,
    pub(super) pace: Pace,
}

/// Which calls a closed breaker lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// All.
    Full,
    /// A growing share.
    Ramp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) until: Timestamp,
    pub(super) cause: Cause,
    /// The counts that opened it.
    pub(super) counts: Counts,
}

// === impl Closed ===

impl Closed {
    pub(super) const fn new(config: &BreakerConfig, pace: Pace, now: Timestamp) -> Self {
        Self {
            window: Window::new(config.span, now),
            hinted: Timestamp::ZERO,
            mark: now,
            run: 0,
            // The first call passes.
            credit: (ALL - FIRST) as u16,
            pace,
        }
    }

    /// Lets the share of calls pass that the ramp allows: each adds the share to the credit, and
    /// one whole is a call.
    pub(super) fn pass(
        &mut self,
        config: &BreakerConfig,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        if self.pace == Pace::Full {
            return Ok(());
        }
        let (ramp, passed) = (config.ramp, now.since(self.mark));
        if passed >= ramp {
            self.pace = Pace::Full;
            return Ok(());
        }
        // A ramp is shorter than 2⁴⁷ nanoseconds.
        let grown = (ALL - FIRST) * nanos(passed) / nanos(ramp);
        let credit = u64::from(self.credit) + FIRST + grown;
        if credit >= ALL {
            self.credit = (credit - ALL) as u16;
            return Ok(());
        }
        self.credit = credit as u16;
        // Those refused come back spread over the rest of it.
        let wait = Duration::from_nanos(rng.up_to(nanos(ramp - passed)));
        Err(Refusal::new(Refused::Ramp, wait.max(SHORTEST)))
    }
}

// === impl Open ===

impl Open {
    /// The time left, if there is any.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<Refusal> {
        if now >= self.until {
            return None;
        }
        Some(Refusal::new(Refused::Open, self.until.since(now)))
    }
}
