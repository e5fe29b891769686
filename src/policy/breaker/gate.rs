use super::{
    Breaker, BreakerConfig, Mode, Ticket, admission::Role, half_open::Probes, phase::Phase,
    window::Kind,
};
use crate::policy::Timestamp;

/// What a breaker lets pass, for an owner that takes what is behind it out of a choice instead of
/// asking for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Gate {
    /// Every call.
    Closed,
    /// None before this instant.
    Until(Timestamp),
    /// One more probe.
    Place,
    /// No more probes until one is back, or this instant.
    Full(Timestamp),
}

/// A ticket without its lease, for an owner that knows when it was taken and keeps it as long as
/// the call lasts.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Mark {
    generation: u32,
    place: u8,
}

impl Breaker {
    /// What passes now. A ramp has no part in it.
    pub(in crate::policy) fn gate(&self, config: &BreakerConfig, now: Timestamp) -> Gate {
        match &self.phase {
            Phase::Closed(_) => Gate::Closed,
            Phase::Open(open) if open.until > now => Gate::Until(open.until),
            Phase::Open(_) => Gate::Place,
            Phase::HalfOpen(probes) if probes.is_full(config, now) => {
                Gate::Full(probes.next_end(now))
            }
            Phase::HalfOpen(_) => Gate::Place,
        }
    }

    /// What a call is that passes because the breaker is closed.
    #[inline]
    pub(in crate::policy) const fn counted(&self) -> Mark {
        Mark {
            generation: self.generation,
            place: Mark::NOWHERE,
        }
    }

    /// A place for a probe taken now, if there is one.
    pub(in crate::policy) fn probe(
        &mut self,
        config: &BreakerConfig,
        now: Timestamp,
    ) -> Option<Mark> {
        if self.gate(config, now) == Gate::Place && !matches!(self.phase, Phase::HalfOpen(_)) {
            self.half_open();
        }
        let Phase::HalfOpen(probes) = &mut self.phase else {
            return None;
        };
        let ticket = probes.enter(config, self.generation, now)?;
        Some(Mark {
            generation: ticket.generation,
            place: ticket.place,
        })
    }

    /// Counts a success that changes nothing else, as nearly all do, and says whether it did. What
    /// it has not counted is to be [reported](Self::report).
    #[inline]
    pub(in crate::policy) fn succeed(
        &mut self,
        config: &BreakerConfig,
        mark: Mark,
        now: Timestamp,
    ) -> bool {
        match &mut self.phase {
            Phase::Closed(closed) if mark.generation == self.generation && self.growth == 0 => {
                (closed.run, closed.hinted) = (0, Timestamp::ZERO);
                closed.window.count(config.span, Kind::Good, now);
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(in crate::policy) fn has_transition(&self) -> bool {
        self.has_news()
    }

    pub(in crate::policy) const fn generation(&self) -> u32 {
        self.generation
    }

    /// The same in another generation: of no ticket that was given out before.
    pub(in crate::policy) const fn of_generation(mut self, generation: u32) -> Self {
        self.generation = generation;
        self
    }

    /// Lets probes pass, if it is open.
    pub(in crate::policy) fn half_open(&mut self) {
        if let Phase::Open(_) = self.phase {
            self.enter(Phase::HalfOpen(Probes::default()));
        }
    }
}

impl BreakerConfig {
    /// The same without a ramp.
    pub(in crate::policy) const fn without_ramp(mut self) -> Self {
        self.ramp = std::time::Duration::ZERO;
        self
    }

    pub(in crate::policy) const fn is_normal(&self) -> bool {
        matches!(self.mode, Mode::Normal)
    }
}

impl Mark {
    /// Not a probe.
    const NOWHERE: u8 = u8::MAX;

    #[inline]
    pub(in crate::policy) const fn is_probe(self) -> bool {
        self.place != Self::NOWHERE
    }

    /// The ticket of a call that was taken at this instant.
    pub(in crate::policy) fn ticket(self, config: &BreakerConfig, taken: Timestamp) -> Ticket {
        if !self.is_probe() {
            return Ticket::new(Role::Counted, self.generation);
        }
        Ticket {
            until: taken + config.lease,
            generation: self.generation,
            role: Role::Probe,
            place: self.place,
        }
    }
}
