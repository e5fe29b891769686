use super::{BreakerConfig, Ticket, admission::Role};
use crate::policy::Timestamp;

/// The most probes at once; each has a place in the breaker's fixed memory.
pub(super) const MOST_PROBES: usize = 10;

/// The probes under way, and how many have succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes {
    /// When the lease on each place ends; the place is free from then on.
    leases: [Timestamp; MOST_PROBES],
    successes: u16,
}

impl Probes {
    /// How many places are held.
    pub(super) fn held(&self, now: Timestamp) -> usize {
        self.leases.iter().filter(|&&until| until > now).count()
    }

    pub(super) fn is_full(&self, config: &BreakerConfig, now: Timestamp) -> bool {
        self.held(now) >= usize::from(config.probes)
    }

    /// When the first lease of those that run ends.
    pub(super) fn next_end(&self, now: Timestamp) -> Timestamp {
        let running = self.leases.iter().filter(|&&until| until > now);
        running.min().copied().unwrap_or(now)
    }

    /// Gives a place to a call, if one is free.
    pub(super) fn enter(
        &mut self,
        config: &BreakerConfig,
        generation: u32,
        now: Timestamp,
    ) -> Option<Ticket> {
        if self.is_full(config, now) {
            return None;
        }
        let place = self.leases.iter().position(|&until| until <= now)?;
        let until = now + config.lease;
        self.leases[place] = until;
        Some(Ticket {
            until,
            generation,
            role: Role::Probe,
            place: place as u8,
        })
    }

    /// Gives a probe's place back, if it is still the probe's own.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        let lease = &mut self.leases[usize::from(ticket.place)];
        let is_own = *lease == ticket.until;
        if is_own {
            *lease = Timestamp::ZERO;
        }
        is_own
    }

    /// Counts a success, and says how many there are.
    pub(super) const fn succeed(&mut self) -> u16 {
        self.successes = self.successes.saturating_add(1);
        self.successes
    }
}
