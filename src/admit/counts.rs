use std::time::Duration;

use crate::policy::Timestamp;

/// What is counted under the lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    /// Callers that went away before they were sent.
    pub(super) abandoned: u64,
    pub(super) peak_active: u64,
    /// Calls that are over and took the lock to end.
    pub(super) ended: Endings,
    /// The time that the timed calls took, and how many they are.
    pub(super) busy: Duration,
    pub(super) timed: u32,
    pub(super) last_timed: Timestamp,
}

/// How calls that are over went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Endings {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// Sent, but their caller went away.
    pub(super) cancelled: u64,
}

impl Endings {
    #[inline]
    pub(super) const fn total(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    #[inline]
    pub(super) const fn count(&mut self, is_success: Option<bool>) {
        match is_success {
            Some(true) => self.succeeded += 1,
            Some(false) => self.failed += 1,
            None => self.cancelled += 1,
        }
    }
}

/// Calls are timed until there are more than one in this time: a second reading of the clock
/// would be a quarter of what an admission costs.
const TIMED_EVERY: Duration = Duration::from_micros(100);

impl Counts {
    /// The mean time from admission to release of the timed calls.
    pub(super) fn mean_latency(&self) -> Option<Duration> {
        self.busy.checked_div(self.timed)
    }

    /// Whether a call admitted at `now` is to be timed.
    #[inline]
    pub(super) fn is_timed(&mut self, now: Timestamp) -> bool {
        let is_due = now >= self.last_timed + TIMED_EVERY;
        if is_due {
            self.last_timed = now;
        }
        is_due
    }

    pub(super) fn count_time(&mut self, took: Duration) {
        if self.timed == u32::MAX {
            (self.busy, self.timed) = (self.busy / 2, self.timed / 2);
        }
        self.busy = self.busy.saturating_add(took);
        self.timed += 1;
    }

    /// Keeps the peak of calls in flight, of which `ended` are over without the lock.
    #[inline]
    pub(super) fn note_peak(&mut self, ended: u64) {
        let ended = ended + self.ended.total();
        let active = self.admitted.saturating_sub(ended);
        self.peak_active = self.peak_active.max(active);
    }
}
