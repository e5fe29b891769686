use std::time::Duration;

use super::{
    Admission, BreakerConfig, Cause, Mode, Receipt, Refusal, Refused, Signal, Ticket,
    admission::{Reported, Role},
    half_open::Probes,
    phase::{Closed, Open, Pace, Phase},
    window::{Counts, Kind},
};
use crate::policy::{Rng, Timestamp};

/// Whether calls to one endpoint, host, model or key pass; see the [module](super).
///
/// It takes 128 bytes, whatever happens, and a call costs a few instructions; only a failure
/// counts the window up.
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Admission, Breaker, BreakerConfig, Signal},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// match breaker.ask(&config, now, &mut Fixed) {
///     Admission::Pass(ticket) => {
///         breaker.report(&config, ticket, Signal::Neutral, now, &mut Fixed);
///     }
///     other => panic!("{other:?}"),
/// }
/// assert!(size_of::<Breaker>() <= 128);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub(super) phase: Phase,
    /// What a ticket must know to have a say.
    pub(super) generation: u32,
    /// How often the shortest time open is doubled next.
    pub(super) growth: u8,
    pub(super) mode: Mode,
    news: News,
}

/// What happened to a [`Breaker`], for logs and callbacks.
///
/// ```
/// use tower_relay::policy::{Timestamp, breaker::{Breaker, BreakerConfig, Mode, Transition}};
///
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// assert_eq!(breaker.next_transition(), None);
/// breaker.set_mode(&config, Mode::ObserveOnly, now);
/// assert_eq!(breaker.next_transition(), Some(Transition::ModeSet(Mode::ObserveOnly)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Transition {
    /// It refuses calls.
    #[non_exhaustive]
    Opened {
        /// The instant from which on it lets probes pass.
        until: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// It lets probes pass.
    HalfOpened,
    /// It lets calls pass, at first in a growing share.
    Closed,
    /// Somebody has set its mode.
    ModeSet(Mode),
}

/// What has not been told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Nothing,
    /// The phase is a new one.
    Phase,
    Mode,
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker that has seen nothing, in the configured mode.
    #[must_use]
    pub const fn new(config: &BreakerConfig, now: Timestamp) -> Self {
        Self {
            phase: Phase::Closed(Closed::new(config, Pace::Full, now)),
            generation: 0,
            growth: 0,
            mode: config.mode,
            news: News::Nothing,
        }
    }

    /// Whether a call may be sent now; to be asked at the instant of sending.
    #[inline]
    pub fn ask(&mut self, config: &BreakerConfig, now: Timestamp, rng: &mut impl Rng) -> Admission {
        let role = match self.mode {
            Mode::Normal => match &self.phase {
                Phase::Closed(closed) if closed.pace == Pace::Full => Role::Counted,
                _ => {
                    return match self.admit(config, now, rng) {
                        Ok(ticket) => Admission::Pass(ticket),
                        Err(refusal) => Admission::Refuse(refusal),
                    };
                }
            },
            Mode::ForcedOpen => return Admission::Refuse(Refusal::FORCED),
            Mode::ForcedClosed => Role::Counted,
            Mode::Disabled => Role::Untracked,
            Mode::ObserveOnly => match self.admit(config, now, rng) {
                Ok(ticket) => return Admission::Pass(ticket),
                Err(_) => Role::Spared,
            },
        };
        Admission::Pass(Ticket::new(role, self.generation))
    }

    /// Whether it is closed, and so refuses nothing but what a ramp does.
    #[must_use]
    #[inline]
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_)) && !matches!(self.mode, Mode::ForcedOpen)
    }

    /// The generation in which every call passes and is counted, without a change to anything:
    /// until the next [transition](Self::next_transition) nobody needs to [ask](Self::ask).
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn unasked(&self) -> Option<u32> {
        let counts = !matches!(self.mode, Mode::ForcedOpen | Mode::Disabled);
        match &self.phase {
            Phase::Closed(closed) if counts && closed.pace == Pace::Full => Some(self.generation),
            _ => None,
        }
    }

    /// Whether a new one would do as well, but for how long it opens: it is closed, past its
    /// ramp, in the mode it began in, and what it has counted has left the window.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn is_idle(&self, config: &BreakerConfig, now: Timestamp) -> bool {
        let Phase::Closed(closed) = &self.phase else {
            return false;
        };
        self.mode == config.mode
            && (closed.pace == Pace::Full || now.since(closed.mark) >= config.ramp)
            && closed.window.counts(config.span, now).calls == 0
    }

    /// Whether a call would be refused now, and how; takes no place and changes nothing. What a
    /// ramp would refuse it does not know, because that is a matter of turns.
    #[must_use]
    pub fn peek(
        &self,
        config: &BreakerConfig,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Option<Refusal> {
        match (self.mode, &self.phase) {
            (Mode::ForcedOpen, _) => Some(Refusal::FORCED),
            (Mode::Normal, Phase::Open(open)) => open.refusal(now),
            (Mode::Normal, Phase::HalfOpen(probes)) if probes.is_full(config, now) => {
                Some(Refusal::new(Refused::HalfOpen, config.until_place(rng)))
            }
            _ => None,
        }
    }

    /// Takes in how a call went: as soon as its head says, or its failure to have one.
    ///
    /// A result from an earlier state, or of a probe whose lease is over, decides nothing. The
    /// receipt of a success allows to [amend](Self::amend) it.
    #[inline]
    pub fn report(
        &mut self,
        config: &BreakerConfig,
        ticket: Ticket,
        signal: Signal,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Receipt {
        if ticket.generation != self.generation {
            return Receipt::NONE;
        }
        match (ticket.role, &mut self.phase, signal) {
            (Role::Counted, Phase::Closed(closed), Signal::Success { first_byte }) => {
                (closed.run, closed.hinted) = (0, Timestamp::ZERO);
                if config.conditions.is_slow(first_byte) {
                    closed.window.count(config.span, Kind::Slow, now);
                    self.check(config, now, rng);
                } else {
                    closed.window.count(config.span, Kind::Good, now);
                    if self.growth > 0 {
                        self.recover(config, now);
                    }
                }
            }
            (Role::Counted, Phase::Closed(_), Signal::Failure { hint }) => {
                self.fail(config, hint, now, rng);
                return Receipt::NONE;
            }
            (Role::Probe, Phase::HalfOpen(_), _) => {
                return self.probed(config, &ticket, signal, now, rng);
            }
            _ => return Receipt::NONE,
        }
        Receipt::new(Reported::Counted(ticket.generation))
    }

    /// Gives a ticket back whose call has nothing to say: it was cancelled or never sent.
    #[inline]
    pub fn release(&mut self, ticket: Ticket) {
        if ticket.generation == self.generation {
            if let (Role::Probe, Phase::HalfOpen(probes)) = (ticket.role, &mut self.phase) {
                probes.leave(&ticket);
            }
        }
    }

    /// Makes a reported success a failure, because its answer broke off or turned into an error
    /// after the head. Decides nothing if the state has changed since. Any other signal changes
    /// nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{
    ///     Rng, Timestamp,
    ///     breaker::{Admission, Breaker, BreakerConfig, Signal},
    /// };
    ///
    /// # struct Fixed;
    /// # impl Rng for Fixed {
    /// #     fn next_u64(&mut self) -> u64 { 0 }
    /// # }
    /// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
    /// let mut breaker = Breaker::new(&config, now);
    /// let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Fixed) else { panic!("closed") };
    /// let head = Signal::Success { first_byte: Duration::from_millis(300) };
    /// let receipt = breaker.report(&config, ticket, head, now, &mut Fixed);
    /// breaker.amend(&config, receipt, Signal::FAILURE, now, &mut Fixed);
    /// let snapshot = breaker.snapshot(&config, now);
    /// assert_eq!((snapshot.calls(), snapshot.failures()), (1, 1));
    /// ```
    pub fn amend(
        &mut self,
        config: &BreakerConfig,
        receipt: Receipt,
        signal: Signal,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let Signal::Failure { hint } = signal else {
            return;
        };
        match (receipt.of, &mut self.phase) {
            (Reported::Counted(of), Phase::Closed(closed)) if of == self.generation => {
                closed.window.take_back();
                self.fail(config, hint, now, rng);
            }
            (Reported::Probe(of), Phase::Closed(_)) if of == self.generation => {
                self.fail(config, hint, now, rng);
            }
            (Reported::Probe(of), Phase::HalfOpen(_)) if of == self.generation => {
                self.reopen(config, Cause::ProbeFailed, hint, now, rng);
            }
            _ => {}
        }
    }

    /// Sets the mode. Between normal and observing everything else stays; otherwise it begins
    /// anew, closed, and after [`Mode::ForcedOpen`] with a ramp.
    pub fn set_mode(&mut self, config: &BreakerConfig, mode: Mode, now: Timestamp) {
        if mode == self.mode {
            return;
        }
        let was = std::mem::replace(&mut self.mode, mode);
        if !(was.is_running() && mode.is_running()) {
            let pace = match was {
                Mode::ForcedOpen => Pace::Ramp,
                _ => Pace::Full,
            };
            self.growth = 0;
            self.enter(Phase::Closed(Closed::new(config, pace, now)));
        }
        self.news = News::Mode;
    }

    /// Closes it and forgets what it has seen; the mode stays.
    pub fn reset(&mut self, config: &BreakerConfig, now: Timestamp) {
        self.growth = 0;
        self.enter(Phase::Closed(Closed::new(config, Pace::Full, now)));
    }

    /// What has happened, if it has not been told yet; to be asked after every other method that
    /// changes something, because only the last is kept. At most one happens in each of them.
    #[inline]
    pub fn next_transition(&mut self) -> Option<Transition> {
        if self.news == News::Nothing {
            return None;
        }
        self.tell()
    }

    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.news != News::Nothing
    }

    #[cold]
    fn tell(&mut self) -> Option<Transition> {
        let news = std::mem::replace(&mut self.news, News::Nothing);
        Some(match (news, &self.phase) {
            (News::Nothing, _) => return None,
            (News::Mode, _) => Transition::ModeSet(self.mode),
            (News::Phase, Phase::Closed(_)) => Transition::Closed,
            (News::Phase, Phase::HalfOpen(_)) => Transition::HalfOpened,
            (News::Phase, &Phase::Open(Open { until, cause, .. })) => {
                Transition::Opened { until, cause }
            }
        })
    }

    /// Whether a running breaker lets a call pass.
    fn admit(
        &mut self,
        config: &BreakerConfig,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Result<Ticket, Refusal> {
        if let Phase::Open(open) = &self.phase {
            if let Some(refusal) = open.refusal(now) {
                return Err(refusal);
            }
            self.enter(Phase::HalfOpen(Probes::default()));
        }
        match &mut self.phase {
            Phase::Closed(closed) => {
                closed.pass(config, now, rng)?;
                Ok(Ticket::new(Role::Counted, self.generation))
            }
            Phase::HalfOpen(probes) => probes
                .enter(config, self.generation, now)
                .ok_or_else(|| Refusal::new(Refused::HalfOpen, config.until_place(rng))),
            Phase::Open(_) => unreachable!("it has just become half-open"),
        }
    }

    /// Takes in what a probe has found.
    fn probed(
        &mut self,
        config: &BreakerConfig,
        ticket: &Ticket,
        signal: Signal,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Receipt {
        let Phase::HalfOpen(probes) = &mut self.phase else {
            return Receipt::NONE;
        };
        let is_late = !probes.leave(ticket) || now >= ticket.until;
        match signal {
            Signal::Success { first_byte } if config.conditions.is_slow(first_byte) => {
                if !is_late {
                    self.reopen(config, Cause::ProbeSlow, None, now, rng);
                }
            }
            // A late one too: where every answer takes longer than a lease, nothing else would
            // ever close it.
            Signal::Success { .. } => {
                if probes.succeed() >= config.successes {
                    let pace = if config.ramp.is_zero() {
                        Pace::Full
                    } else {
                        Pace::Ramp
                    };
                    self.enter(Phase::Closed(Closed::new(config, pace, now)));
                }
                return Receipt::new(Reported::Probe(self.generation));
            }
            Signal::Failure { hint } if !is_late => {
                self.reopen(config, Cause::ProbeFailed, hint, now, rng);
            }
            Signal::Failure { .. } | Signal::Neutral => {}
        }
        Receipt::NONE
    }

    /// Counts a failure while closed.
    fn fail(
        &mut self,
        config: &BreakerConfig,
        hint: Option<Duration>,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let Phase::Closed(closed) = &mut self.phase else {
            return;
        };
        closed.window.count(config.span, Kind::Failed, now);
        closed.run = closed.run.saturating_add(1);
        closed.hinted = closed.hinted.max(now + hint.unwrap_or_default());
        self.check(config, now, rng);
    }

    /// Opens if a condition is met.
    fn check(&mut self, config: &BreakerConfig, now: Timestamp, rng: &mut impl Rng) {
        let Phase::Closed(closed) = &self.phase else {
            return;
        };
        let counts = closed.window.counts(config.span, now);
        if self.mode != Mode::ForcedClosed {
            if let Some(cause) = config.conditions.met(closed.run, counts) {
                let hint = closed.hinted.since(now);
                self.open(config, cause, counts, hint, now, rng);
            }
        }
    }

    fn reopen(
        &mut self,
        config: &BreakerConfig,
        cause: Cause,
        hint: Option<Duration>,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let hint = hint.unwrap_or_default();
        self.open(config, cause, Counts::default(), hint, now, rng);
    }

    #[cold]
    fn open(
        &mut self,
        config: &BreakerConfig,
        cause: Cause,
        counts: Counts,
        hint: Duration,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let until = now + config.time_open(self.growth, hint, rng);
        if config.can_grow(self.growth) {
            self.growth += 1;
        }
        self.enter(Phase::Open(Open {
            until,
            cause,
            counts,
        }));
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
        self.news = News::Phase;
    }

    /// Takes one doubling back, if it has been closed for long enough.
    fn recover(&mut self, config: &BreakerConfig, now: Timestamp) {
        if let Phase::Closed(closed) = &mut self.phase {
            if closed.pace == Pace::Full && now.since(closed.mark) >= config.recovery {
                self.growth -= 1;
                closed.mark = now;
            }
        }
    }
}
