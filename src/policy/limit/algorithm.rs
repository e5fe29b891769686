use super::Sample;
use crate::policy::Timestamp;

/// How many calls may be in flight, learned from what becomes of them.
///
/// An algorithm hears of every call that ended, or got its first byte, once, and of an answer
/// that began well and then broke off for lack of room a second time, as a loss. It answers at any
/// time how many may be in flight. It has no clock and no lock; whoever drives it admits calls
/// below the limit and records the samples in the order they come in.
///
/// ```
/// use tower_relay::policy::{Timestamp, limit::{Change, LimitAlgorithm, Reason, Sample, Signal}};
///
/// /// Half of what it was after every loss.
/// struct Halve(usize);
///
/// impl LimitAlgorithm for Halve {
///     fn limit(&self) -> usize {
///         self.0
///     }
///     fn record(&mut self, sample: &Sample, _: Timestamp) -> Option<Change> {
///         if sample.signal() != Signal::Loss || self.0 == 1 {
///             return None;
///         }
///         let from = self.0;
///         self.0 /= 2;
///         Some(Change::new(from, self.0, Reason::Loss))
///     }
/// }
///
/// let mut limit = Halve(8);
/// let loss = Sample::new(Signal::Loss, Timestamp::ZERO, 8, 8);
/// limit.record(&loss, Timestamp::ZERO);
/// assert_eq!(limit.limit(), 4);
/// ```
pub trait LimitAlgorithm {
    /// How many calls may be in flight now; never 0.
    #[must_use]
    fn limit(&self) -> usize;

    /// Takes in one call. Returns the change, if the limit is another now.
    fn record(&mut self, sample: &Sample, now: Timestamp) -> Option<Change>;

    /// When a successful call is to be recorded. Losses and failures are recorded as soon as they
    /// are known. The first byte by default: it comes early, and waiting for it is queueing.
    fn when(&self) -> When {
        When::FirstByte
    }
}

impl<A: LimitAlgorithm + ?Sized> LimitAlgorithm for Box<A> {
    fn limit(&self) -> usize {
        (**self).limit()
    }

    fn record(&mut self, sample: &Sample, now: Timestamp) -> Option<Change> {
        (**self).record(sample, now)
    }

    fn when(&self) -> When {
        (**self).when()
    }
}

/// When a successful call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum When {
    /// At the answer's first byte.
    FirstByte,
    /// At the answer's end, when its total latency and its size are known. An answer that its
    /// caller broke off is not recorded then.
    End,
    /// Never, nor is any other call: the algorithm does not learn.
    Never,
}

/// A limit that became another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    from: usize,
    to: usize,
    reason: Reason,
}

impl Change {
    /// From one limit to another.
    #[must_use]
    pub const fn new(from: usize, to: usize, reason: Reason) -> Self {
        Self { from, to, reason }
    }

    /// What the limit was.
    #[must_use]
    pub const fn from(&self) -> usize {
        self.from
    }

    /// What it is now.
    #[must_use]
    pub const fn to(&self) -> usize {
        self.to
    }

    /// Why it changed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

/// Why a limit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It was used up and the server showed room for more.
    Room,
    /// Calls wait at the server, or are slower than they may be.
    Queue,
    /// The server refused a call for lack of room.
    Loss,
    /// The server answers nothing but failures.
    Outage,
    /// It is lowered for a moment to see how fast the server is when nobody waits.
    Probe,
    /// That moment is over.
    ProbeEnd,
}

impl Reason {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Queue => "queue",
            Self::Loss => "loss",
            Self::Outage => "outage",
            Self::Probe => "probe",
            Self::ProbeEnd => "probe_end",
        }
    }
}
