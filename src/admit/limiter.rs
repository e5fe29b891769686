use std::{collections::VecDeque, fmt, num::NonZeroUsize};

use super::{
    resource::{Claim, Resource, Spent},
    slots::{Slot, Slots},
};
use crate::{
    outcome::Outcome,
    policy::{
        Timestamp,
        limit::{Change, LimitAlgorithm, Sample, Signal, When},
        pool::Unservable,
    },
};

/// Changes of the limit that nobody has asked for beyond this many are forgotten, the oldest
/// first.
const MOST_UNTOLD: usize = 64;

/// Places in flight under a limit that an algorithm learns.
pub(crate) struct Limiter {
    slots: Slots,
    algorithm: Box<dyn LimitAlgorithm + Send>,
    in_flight: usize,
    untold: VecDeque<Change>,
}

/// A place in flight, and what is to be known of a call to learn from it.
#[derive(Debug)]
pub(crate) struct Place {
    slot: Slot,
    sent: Timestamp,
    /// When it was sent, itself included.
    in_flight: usize,
    limit: usize,
    /// Whether a success is recorded at its first byte.
    is_early: bool,
    is_recorded: bool,
}

impl Limiter {
    pub(crate) fn new(algorithm: Box<dyn LimitAlgorithm + Send>) -> Self {
        Self {
            slots: Slots::new(NonZeroUsize::new(algorithm.limit())),
            algorithm,
            in_flight: 0,
            untold: VecDeque::new(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.algorithm.limit()
    }

    /// Learns with another algorithm from now on; those in flight stay.
    pub(crate) fn set_algorithm(
        &mut self,
        algorithm: Box<dyn LimitAlgorithm + Send>,
        now: Timestamp,
    ) {
        self.algorithm = algorithm;
        self.apply(now);
    }

    /// Learns from a call whose answer begins, or that failed.
    pub(crate) fn record(&mut self, place: &mut Place, outcome: &Outcome, now: Timestamp) {
        let signal = Signal::from(outcome.verdict());
        let sample = place.sample(signal).first_byte(now.since(place.sent));
        self.learn(place, &sample, now);
    }

    fn learn(&mut self, place: &mut Place, sample: &Sample, now: Timestamp) {
        place.is_recorded = true;
        let Some(change) = self.algorithm.record(sample, now) else {
            return;
        };
        self.apply(now);
        if self.untold.len() == MOST_UNTOLD {
            self.untold.pop_front();
        }
        self.untold.push_back(change);
    }

    fn apply(&mut self, now: Timestamp) {
        let limit = NonZeroUsize::new(self.algorithm.limit()).unwrap_or(NonZeroUsize::MIN);
        self.slots.set_limit(Some(limit), now);
    }
}

impl Place {
    /// Whether what its head says is to be recorded at once.
    #[inline]
    pub(crate) fn awaits(&self, outcome: &Outcome) -> bool {
        !self.is_recorded && (self.is_early || !outcome.is_success())
    }

    const fn sample(&self, signal: Signal) -> Sample {
        Sample::new(signal, self.sent, self.in_flight, self.limit)
    }
}

impl Resource for Limiter {
    type Ask = ();
    type Grant = Place;
    type Notice = Change;

    #[inline]
    fn is_free(&self, ask: &(), now: Timestamp) -> bool {
        self.slots.is_free(ask, now)
    }

    fn begin_pass(&mut self) {
        self.slots.begin_pass();
    }

    fn claim(&mut self, ask: &(), from: Timestamp, now: Timestamp) -> Claim {
        self.slots.claim(ask, from, now)
    }

    #[inline]
    fn take(&mut self, ask: &(), at: Timestamp, now: Timestamp) -> Place {
        self.in_flight += 1;
        Place {
            slot: self.slots.take(ask, at, now),
            sent: now,
            in_flight: self.in_flight,
            limit: self.algorithm.limit(),
            is_early: self.algorithm.when() == When::FirstByte,
            is_recorded: false,
        }
    }

    #[inline]
    fn is_inert(_: &Place, _: Spent) -> bool {
        false
    }

    #[inline]
    fn is_timeless(place: &Place) -> bool {
        place.is_recorded
    }

    #[inline]
    fn release(
        &mut self,
        mut place: Place,
        spent: Spent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) {
        if let (false, Some(outcome)) = (place.is_recorded, outcome) {
            let signal = Signal::from(outcome.verdict());
            let mut sample = place.sample(signal).total(now.since(place.sent));
            if let Spent::Exactly(usage) = spent {
                sample = usage.output().map_or(sample, |tokens| sample.size(tokens));
            }
            self.learn(&mut place, &sample, now);
        }
        self.in_flight -= 1;
        self.slots.release(place.slot, spent, outcome, now);
    }

    fn undo(&mut self, place: Place, now: Timestamp) {
        self.in_flight -= 1;
        self.slots.undo(place.slot, now);
    }

    fn expect(&self, ask: &(), now: Timestamp) -> Result<Timestamp, Unservable> {
        self.slots.expect(ask, now)
    }

    fn joined(&mut self, _: &()) {}

    fn left(&mut self, _: &()) {}

    #[inline]
    fn has_notice(&self) -> bool {
        !self.untold.is_empty()
    }

    fn next_notice(&mut self) -> Option<Change> {
        self.untold.pop_front()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
