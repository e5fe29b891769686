use std::{convert::Infallible, num::NonZeroUsize};

use super::resource::{Claim, Resource, Spent};
use crate::{
    outcome::Outcome,
    policy::{Part, Timestamp, pool::Unservable},
};

/// Places in flight under a limit.
#[derive(Debug)]
pub(crate) struct Slots {
    /// `usize::MAX` is no limit.
    limit: usize,
    taken: usize,
    /// The instant since which a place has been free.
    free_since: Timestamp,
    claimed: bool,
}

impl Slots {
    pub(crate) fn new(limit: Option<NonZeroUsize>) -> Self {
        Self {
            limit: limit.map_or(usize::MAX, NonZeroUsize::get),
            taken: 0,
            free_since: Timestamp::ZERO,
            claimed: false,
        }
    }

    /// Changes the limit. Those in flight stay; a smaller limit admits nobody until enough of
    /// them have ended. Those that were admitted while there was no limit are not counted.
    pub(crate) fn set_limit(&mut self, limit: Option<NonZeroUsize>, now: Timestamp) {
        let was_full = self.is_full();
        self.limit = limit.map_or(usize::MAX, NonZeroUsize::get);
        if was_full {
            self.free_since = now;
        }
    }

    /// `usize::MAX` is no limit.
    #[cfg(any(
        feature = "key-rotation",
        feature = "adaptive-concurrency",
        feature = "metrics"
    ))]
    #[inline]
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.taken >= self.limit
    }

    fn give_back(&mut self, slot: Slot, now: Timestamp) {
        if self.is_full() {
            self.free_since = now;
        }
        self.taken -= usize::from(slot.is_counted);
    }
}

/// A place held. Only [`Slots`] makes and takes it, so none is lost or invented.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Whether there was a limit when it was taken.
    is_counted: bool,
}

impl Resource for Slots {
    type Ask = ();
    type Grant = Slot;
    type Notice = Infallible;

    #[inline]
    fn is_free(&self, _: &(), _: Timestamp) -> bool {
        !self.is_full()
    }

    fn begin_pass(&mut self) {
        self.claimed = false;
    }

    fn claim(&mut self, _: &(), from: Timestamp, now: Timestamp) -> Claim {
        if self.claimed {
            return Claim::Nothing;
        }
        if self.is_full() {
            // Who has to wait for something else takes the place that is free by then.
            self.claimed = from <= now;
            return Claim::OnRelease;
        }
        Claim::Ready(self.free_since)
    }

    #[inline]
    fn take(&mut self, _: &(), _: Timestamp, _: Timestamp) -> Slot {
        let is_counted = self.limit < usize::MAX;
        self.taken += usize::from(is_counted);
        Slot { is_counted }
    }

    #[inline]
    fn is_inert(slot: &Slot, _: Spent) -> bool {
        !slot.is_counted
    }

    fn release(&mut self, slot: Slot, _: Spent, _: Option<&Outcome>, now: Timestamp) {
        self.give_back(slot, now);
    }

    fn undo(&mut self, slot: Slot, now: Timestamp) {
        self.give_back(slot, now);
    }

    /// Nobody knows when a call will end.
    fn expect(&self, _: &(), _: Part, now: Timestamp) -> Result<Timestamp, Unservable> {
        Ok(now)
    }

    fn joined(&mut self, _: &()) {}

    fn left(&mut self, _: &()) {}
}
