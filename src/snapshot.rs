//! What a layer has done and is doing.

use std::{fmt, time::Duration};

use crate::admit::{ClassCounts, Stats};

/// A layer's totals since its creation and what is under way, read under one short lock.
///
/// ```
/// use tower_relay::rate_limit::RateLimitLayer;
///
/// let snapshot = RateLimitLayer::per_second(50).handle().snapshot();
/// assert_eq!((snapshot.admitted(), snapshot.waiting()), (0, 0));
/// assert_eq!(snapshot.success_share(), None);
/// ```
#[derive(Clone, Copy)]
pub struct Snapshot {
    stats: Stats,
}

impl Snapshot {
    pub(crate) const fn new(stats: Stats) -> Self {
        Self { stats }
    }

    /// Calls admitted.
    #[must_use]
    pub const fn admitted(&self) -> u64 {
        self.stats.admitted
    }

    /// Calls refused by this layer.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.stats.refused
    }

    /// Calls that ended without a word of the server's: their caller went away, queued or sent,
    /// or a layer inside refused them.
    #[must_use]
    pub const fn cancelled(&self) -> u64 {
        self.stats.cancelled
    }

    /// Admitted calls that have ended with a response or an error.
    #[must_use]
    pub const fn completed(&self) -> u64 {
        self.stats.succeeded + self.stats.failed
    }

    /// Those of the [`completed`](Self::completed) calls whose outcome was a success.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.stats.succeeded
    }

    /// Those of the [`completed`](Self::completed) calls whose outcome was a failure.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.stats.failed
    }

    /// The share of successes among the completed calls, from 0 to 1; `None` before the first.
    #[must_use]
    pub fn success_share(&self) -> Option<f64> {
        let completed = self.completed();
        (completed > 0).then(|| self.stats.succeeded as f64 / completed as f64)
    }

    /// The mean time from admission to the end of the guard, over all calls that were timed: all
    /// that waited, and of those admitted at once up to 10,000 a second.
    #[must_use]
    pub const fn mean_latency(&self) -> Option<Duration> {
        self.stats.mean_latency
    }

    /// Calls in flight: admitted, and their guard not yet released.
    #[must_use]
    pub const fn active(&self) -> u64 {
        self.stats.active
    }

    /// The most calls that were in flight at once.
    #[must_use]
    pub const fn peak_active(&self) -> u64 {
        self.stats.peak_active
    }

    /// Calls in the queue.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.stats.waiting
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("admitted", &self.admitted())
            .field("refused", &self.refused())
            .field("cancelled", &self.cancelled())
            .field("success_share", &self.success_share())
            .field("mean_latency", &self.mean_latency())
            .field("active", &self.active())
            .field("peak_active", &self.peak_active())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// What is known of a class of callers that has a share, see
/// [`Shares`](crate::policy::Shares).
///
/// ```
/// use tower_relay::{policy::Shares, rate_limit::RateLimitLayer};
///
/// let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
/// let layer = RateLimitLayer::per_second(50).shares(shares);
/// let [others, interactive, batch] = &layer.handle().shares()[..] else {
///     panic!("two named classes, and the others");
/// };
/// assert_eq!((others.name(), others.weight()), (None, 20));
/// assert_eq!((interactive.name(), interactive.admitted()), (Some("interactive"), 0));
/// assert_eq!((batch.waiting(), batch.refused()), (0, 0));
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShareSnapshot {
    counts: ClassCounts,
}

impl ShareSnapshot {
    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn all(classes: Vec<ClassCounts>) -> Vec<Self> {
        classes.into_iter().map(|counts| Self { counts }).collect()
    }

    /// Its name; `None` for all callers of no class or of an unknown one together.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.counts.name.as_deref()
    }

    /// The weight by which it is served while others wait too.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.counts.weight
    }

    /// Its calls in the queue.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.counts.waiting
    }

    /// Its calls admitted since there are shares.
    #[must_use]
    pub const fn admitted(&self) -> u64 {
        self.counts.admitted
    }

    /// Its calls refused since there are shares.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.counts.refused
    }
}
