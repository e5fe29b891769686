use super::{
    Breaker, BreakerConfig, Cause, Mode,
    phase::Phase,
    window::{Counts, ONE},
};
use crate::policy::Timestamp;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass, to find out.
    HalfOpen,
}

impl State {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What a [`Breaker`] looks like at an instant.
///
/// ```
/// use tower_relay::policy::{
///     Rng, Timestamp,
///     breaker::{Admission, Breaker, BreakerConfig, Signal, State},
/// };
///
/// # struct Fixed;
/// # impl Rng for Fixed {
/// #     fn next_u64(&mut self) -> u64 { 0 }
/// # }
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Fixed) else { panic!("closed") };
/// breaker.report(&config, ticket, Signal::FAILURE, now, &mut Fixed);
///
/// let snapshot = breaker.snapshot(&config, now);
/// assert_eq!(snapshot.state(), State::Closed);
/// assert_eq!((snapshot.calls(), snapshot.failures()), (1, 1));
/// assert_eq!(snapshot.failure_ratio(), 1.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    state: State,
    mode: Mode,
    counts: Counts,
    run: u16,
    opened: Option<(Cause, Timestamp)>,
    probes: usize,
    growth: u8,
}

impl Breaker {
    /// What it looks like now.
    #[must_use]
    pub fn snapshot(&self, config: &BreakerConfig, now: Timestamp) -> Snapshot {
        let mut snapshot = Snapshot {
            state: State::Closed,
            mode: self.mode,
            counts: Counts::default(),
            run: 0,
            opened: None,
            probes: 0,
            growth: self.growth,
        };
        match &self.phase {
            Phase::Closed(closed) => {
                snapshot.counts = closed.window.counts(config.span, now);
                snapshot.run = closed.run;
            }
            Phase::Open(open) => {
                snapshot.state = State::Open;
                snapshot.counts = open.counts;
                snapshot.opened = Some((open.cause, open.until));
            }
            Phase::HalfOpen(probes) => {
                snapshot.state = State::HalfOpen;
                snapshot.probes = probes.held(now);
            }
        }
        if self.mode == Mode::ForcedOpen {
            snapshot.state = State::Open;
        }
        snapshot
    }
}

impl Snapshot {
    /// Where it stands. Forced open is open, forced closed and disabled are closed; one that only
    /// observes says where it would stand.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it decides by itself.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Calls in the window, rounded; of an open breaker those that opened it. None while it is
    /// half-open.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        rounded(self.counts.calls)
    }

    /// Those of the [`calls`](Self::calls) that failed.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        rounded(self.counts.failures)
    }

    /// Those of the [`calls`](Self::calls) that succeeded late.
    #[must_use]
    pub const fn slow(&self) -> u64 {
        rounded(self.counts.slow)
    }

    /// The failed share of the calls, from 0 to 1; 0 without calls.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        ratio(self.counts.failures, self.counts.calls)
    }

    /// The slow share of the calls, from 0 to 1; 0 without calls.
    #[must_use]
    pub fn slow_ratio(&self) -> f64 {
        ratio(self.counts.slow, self.counts.calls)
    }

    /// How many calls in a row have failed, while it is closed.
    #[must_use]
    pub const fn consecutive_failures(&self) -> u16 {
        self.run
    }

    /// From when on an open breaker lets probes pass; none if it is not open or forced open.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.opened.map(|(_, until)| until)
    }

    /// Why it is open; none if it is not open or forced open.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.opened.map(|(cause, _)| cause)
    }

    /// How many probes are under way.
    #[must_use]
    pub const fn probes(&self) -> usize {
        self.probes
    }

    /// How often the shortest time open will be doubled when it opens next; shrinks with health.
    #[must_use]
    pub const fn growth(&self) -> u8 {
        self.growth
    }
}

const fn rounded(weighted: u64) -> u64 {
    (weighted + ONE / 2) / ONE
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}
