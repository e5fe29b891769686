use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

#[cfg(feature = "tracing")]
use crate::log;
#[cfg(feature = "tracing")]
use crate::policy::breaker::{Cause, State};
use crate::{
    clock,
    error::{BreakerOpen, Rejected},
    outcome::Outcome,
    policy::{
        Rng, Timestamp,
        breaker::{
            self, Admission, Breaker, BreakerConfig, Mode, Receipt, Refusal, Signal, Ticket,
            Transition,
        },
    },
};

/// What the breakers of one layer have in common.
pub(super) struct Settings {
    pub(super) config: BreakerConfig,
    pub(super) on_transition: Option<OnTransition>,
}

pub(super) type OnTransition = Arc<dyn Fn(&Transition) + Send + Sync>;

/// One breaker, shared by all clones of a service.
pub(super) struct Shared {
    settings: Arc<Settings>,
    core: Mutex<Core>,
    /// What can be known without the lock, written under it. A call that reads it just before a
    /// change has asked just before the change.
    brief: AtomicU64,
    refused: AtomicU64,
}

struct Core {
    breaker: Breaker,
    chance: Chance,
}

impl Shared {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let breaker = Breaker::new(&settings.config, clock::now());
        Self {
            brief: AtomicU64::new(Brief::of(&breaker).0),
            core: Mutex::new(Core {
                breaker,
                chance: Chance(fastrand::Rng::new()),
            }),
            settings,
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.settings.config
    }

    pub(super) fn on_transition(&self) -> Option<&OnTransition> {
        self.settings.on_transition.as_ref()
    }

    /// Asks for a call that is about to be sent.
    #[inline]
    pub(super) fn ask(self: &Arc<Self>) -> Result<Pass, Rejected> {
        let Some(generation) = self.brief().unasked() else {
            return self.ask_breaker();
        };
        Ok(Pass {
            entry: Some((Arc::clone(self), Ticket::counted(generation))),
            sent: self.config().times_calls().then(clock::now_shared),
        })
    }

    fn ask_breaker(self: &Arc<Self>) -> Result<Pass, Rejected> {
        let now = clock::now();
        let (admission, transition) =
            self.change(|core, config| core.breaker.ask(config, now, &mut core.chance));
        let answer = match admission {
            Admission::Pass(ticket) => Ok(Pass {
                entry: Some((Arc::clone(self), ticket)),
                sent: Some(now),
            }),
            Admission::Refuse(refusal) => Err(self.refuse(refusal)),
        };
        // Not before: if a listener panics, a probe must give its place back.
        if let Some(transition) = transition {
            self.tell(&transition);
        }
        answer
    }

    /// How a call would be refused now; takes nothing.
    pub(super) fn peek(&self) -> Option<Refusal> {
        let now = clock::now();
        self.with(|core, config| core.breaker.peek(config, now, &mut core.chance))
    }

    #[cold]
    pub(super) fn refuse(&self, refusal: Refusal) -> Rejected {
        self.refused.fetch_add(1, Relaxed);
        let rejected = Rejected::BreakerOpen(BreakerOpen { refusal });
        #[cfg(feature = "tracing")]
        log::refusal(LAYER, &rejected);
        rejected
    }

    /// Whether a call would be refused now, so that the inner service need not be asked.
    #[inline]
    pub(super) fn is_refusing(&self) -> bool {
        !self.brief().is_closed() && self.peek().is_some()
    }

    /// The refusal of a call for which the inner service was not asked.
    #[cold]
    pub(super) fn refuse_unasked(&self) -> Rejected {
        let refusal = self.peek().unwrap_or(Refusal::AT_ONCE);
        self.refuse(refusal)
    }

    /// Whether it is closed, has counted nothing of late, and is past its ramp.
    pub(super) fn is_pristine(&self) -> bool {
        let core = self.lock();
        core.breaker.is_idle(self.config(), clock::now())
    }

    /// Counts nothing and tells nothing from now on; what was forced open stays so.
    pub(super) fn stop_watching(&self) {
        if self.config().starting_mode() != Mode::ForcedOpen {
            let now = clock::now();
            let _ = self.change(|core, config| core.breaker.set_mode(config, Mode::Disabled, now));
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Core, &BreakerConfig) -> T) -> T {
        let (result, transition) = self.change(work);
        if let Some(transition) = transition {
            self.tell(&transition);
        }
        result
    }

    /// Works under the lock, and says what there is to [tell](Self::tell).
    fn change<T>(
        &self,
        work: impl FnOnce(&mut Core, &BreakerConfig) -> T,
    ) -> (T, Option<Transition>) {
        let mut core = self.lock();
        let result = work(&mut core, &self.settings.config);
        let transition = core.breaker.next_transition();
        if transition.is_some() || self.brief().unasked().is_none() {
            self.brief.store(Brief::of(&core.breaker).0, Relaxed);
        }
        (result, transition)
    }

    fn brief(&self) -> Brief {
        Brief(self.brief.load(Relaxed))
    }

    /// Tells a change outside the lock.
    #[cold]
    fn tell(&self, transition: &Transition) {
        note(transition);
        // A second panic would end the process.
        let callback = self.settings.on_transition.as_ref();
        if let Some(callback) = callback.filter(|_| !thread::panicking()) {
            callback(transition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.lock().breaker.snapshot(self.config(), clock::now());
        f.debug_struct("CircuitBreaker")
            .field("state", &snapshot.state())
            .field("mode", &snapshot.mode())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "tracing")]
const LAYER: &str = "circuit breaker";

#[cfg(feature = "tracing")]
fn note(transition: &Transition) {
    let is = |state: State, cause: Option<&Cause>, until: Option<&Timestamp>| {
        let wait = until.map(|until| tracing::field::debug(until.since(clock::now())));
        let (state, cause) = (state.name(), cause.map(|cause| cause.name()));
        tracing::info!(layer = LAYER, state, cause, wait, "the breaker has changed");
    };
    match transition {
        Transition::Opened { until, cause, .. } => is(State::Open, Some(cause), Some(until)),
        Transition::HalfOpened => is(State::HalfOpen, None, None),
        Transition::Closed => is(State::Closed, None, None),
        Transition::ModeSet(mode) => {
            tracing::info!(
                layer = LAYER,
                mode = mode.name(),
                "the breaker's mode is set"
            );
        }
    }
}

#[cfg(not(feature = "tracing"))]
const fn note(_: &Transition) {}

/// A generation, and above it two bits.
#[derive(Clone, Copy)]
struct Brief(u64);

impl Brief {
    /// Whether it is closed: then the inner service is asked if it is ready.
    const CLOSED: u64 = 1 << 32;
    /// Whether all calls of the generation pass and are counted.
    const UNASKED: u64 = 1 << 33;

    fn of(breaker: &Breaker) -> Self {
        let closed = if breaker.is_closed() { Self::CLOSED } else { 0 };
        let unasked = breaker.unasked();
        Self(closed | unasked.map_or(0, |generation| u64::from(generation) | Self::UNASKED))
    }

    const fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    const fn unasked(self) -> Option<u32> {
        if self.0 & Self::UNASKED == 0 {
            return None;
        }
        Some(self.0 as u32)
    }
}

struct Chance(fastrand::Rng);

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

// === impl Pass ===

/// What a call that passed holds until its head is there. Dropped before, it counts as nothing.
pub(super) struct Pass {
    /// None when it is reported.
    entry: Option<(Arc<Shared>, Ticket)>,
    /// None if it does not matter.
    sent: Option<Timestamp>,
}

impl Pass {
    /// Takes in how the call went as far as its head tells.
    #[inline]
    pub(super) fn report(mut self, outcome: &Outcome) -> Watch {
        let now = clock::now_shared();
        let (shared, ticket) = self.entry.take().expect("it is reported once");
        let first_byte = self.sent.map_or(Duration::ZERO, |sent| now.since(sent));
        let signal = Signal::of(outcome, first_byte);
        let receipt = shared.with(|core, config| {
            core.breaker
                .report(config, ticket, signal, now, &mut core.chance)
        });
        Watch {
            shared,
            receipt: Some(receipt),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match self.entry.take() {
            // Only a probe has a place to give back.
            Some((shared, ticket)) if ticket.is_probe() => {
                shared.with(|core, _| core.breaker.release(ticket));
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("ticket", &self.entry.as_ref().map(|(_, ticket)| ticket))
            .finish_non_exhaustive()
    }
}

// === impl Watch ===

/// Watches an answer to its end, so that one that breaks off after its head counts as a failure.
pub(super) struct Watch {
    shared: Arc<Shared>,
    receipt: Option<Receipt>,
}

impl Watch {
    /// The answer has failed after its head.
    #[cold]
    pub(super) fn amend(&mut self, failure: &Outcome) {
        let Some(receipt) = self.receipt.take() else {
            return;
        };
        let now = clock::now();
        let signal = Signal::of(failure, Duration::ZERO);
        self.shared.with(|core, config| {
            core.breaker
                .amend(config, receipt, signal, now, &mut core.chance);
        });
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("receipt", &self.receipt)
            .finish_non_exhaustive()
    }
}

/// Reads and changes a running breaker.
///
/// ```
/// use tower_relay::{
///     circuit_breaker::CircuitBreakerLayer,
///     policy::breaker::{Mode, State},
/// };
///
/// let handle = CircuitBreakerLayer::default().handle();
/// assert_eq!(handle.snapshot().state(), State::Closed);
/// handle.set_mode(Mode::ForcedOpen);
/// assert_eq!(handle.snapshot().state(), State::Open);
/// assert_eq!(handle.refused(), 0);
/// ```
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    pub(super) shared: Arc<Shared>,
}

impl CircuitBreakerHandle {
    /// Where the breaker stands, and what it has counted.
    #[must_use]
    pub fn snapshot(&self) -> breaker::Snapshot {
        let now = clock::now();
        let core = self.shared.lock();
        core.breaker.snapshot(self.shared.config(), now)
    }

    /// How many calls it has refused, its gates included.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Lets the breaker decide, observe only, or do as it is told.
    pub fn set_mode(&self, mode: Mode) {
        let now = clock::now();
        self.shared
            .with(|core, config| core.breaker.set_mode(config, mode, now));
    }

    /// Closes the breaker and forgets what it has seen.
    pub fn reset(&self) {
        let now = clock::now();
        self.shared
            .with(|core, config| core.breaker.reset(config, now));
    }
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
