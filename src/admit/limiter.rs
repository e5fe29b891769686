use std::{collections::VecDeque, fmt, num::NonZeroUsize};

use super::{
    resource::{Claim, Resource, Spent},
    slots::{Slot, Slots},
};
use crate::{
    outcome::Outcome,
    policy::{
        Part, Timestamp,
        limit::{Change, LimitAlgorithm, Sample, Signal, When},
        pool::Unservable,
    },
};

/// Changes of the limit that nobody has asked for beyond this many are forgotten, the oldest
/// first.
const MOST_UNTOLD: usize = 64;

pub(crate) type Algorithm = Box<dyn LimitAlgorithm + Send>;

/// Places in flight under a limit that an algorithm learns.
pub(crate) struct Limiter {
    slots: Slots,
    /// None where there is no limit; nothing is learned then, and nothing counted.
    algorithm: Option<Algorithm>,
    /// How many algorithms came before this one.
    generation: u32,
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
    generation: u32,
    /// Whether a success is recorded at its first byte.
    is_early: bool,
    told: Told,
}

/// What an algorithm has been told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That its answer began well.
    Success,
    /// All that it is to hear.
    All,
}

impl Limiter {
    pub(crate) fn new(algorithm: Option<Algorithm>) -> Self {
        Self {
            slots: Slots::new(places(algorithm.as_ref())),
            algorithm,
            generation: 0,
            in_flight: 0,
            untold: VecDeque::new(),
        }
    }

    /// `None` is no limit.
    pub(crate) fn limit(&self) -> Option<NonZeroUsize> {
        places(self.algorithm.as_ref())
    }

    /// Learns with another algorithm from now on; those in flight stay, and it does not hear of
    /// them. The old one is for the caller to drop, outside the lock.
    #[must_use]
    pub(crate) fn set_algorithm(
        &mut self,
        algorithm: Option<Algorithm>,
        now: Timestamp,
    ) -> Option<Algorithm> {
        let old = std::mem::replace(&mut self.algorithm, algorithm);
        self.generation = self.generation.wrapping_add(1);
        self.apply(now);
        old
    }

    /// Learns from a call whose answer begins, or that failed.
    pub(crate) fn record(&mut self, place: &mut Place, outcome: &Outcome, now: Timestamp) {
        let signal = Signal::from(outcome.verdict());
        let sample = self.sample(place, signal).first_byte(now.since(place.sent));
        place.told = match signal {
            Signal::Success => Told::Success,
            _ => Told::All,
        };
        self.learn(place.generation, &sample, now);
    }

    /// A refusal is about the calls that were there by then: the first of a burst was sent alone.
    fn sample(&self, place: &Place, signal: Signal) -> Sample {
        let in_flight = match signal {
            Signal::Success => place.in_flight,
            _ => place.in_flight.max(self.in_flight),
        };
        Sample::new(signal, place.sent, in_flight, place.limit)
    }

    fn learn(&mut self, generation: u32, sample: &Sample, now: Timestamp) {
        if generation != self.generation {
            return;
        }
        let Some(algorithm) = &mut self.algorithm else {
            return;
        };
        let change = algorithm.record(sample, now);
        self.apply(now);
        let Some(change) = change else {
            return;
        };
        if self.untold.len() == MOST_UNTOLD {
            self.untold.pop_front();
        }
        self.untold.push_back(change);
    }

    fn apply(&mut self, now: Timestamp) {
        self.slots.set_limit(self.limit(), now);
    }
}

/// What an algorithm allows: at least one call, or nobody would learn that the server is back, and
/// a number, because without one those in flight would not be counted.
fn places(algorithm: Option<&Algorithm>) -> Option<NonZeroUsize> {
    let limit = algorithm?.limit().min(usize::MAX - 1);
    Some(NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN))
}

/// Whether the server ended the call. What a caller breaks off ends when the caller wants.
const fn ends(outcome: &Outcome, spent: Spent) -> bool {
    matches!(spent, Spent::Exactly(_)) || !outcome.is_success()
}

impl Place {
    /// Whether a success is to be recorded at its head, and anything else.
    #[cfg(feature = "key-rotation")]
    #[inline]
    pub(crate) const fn learns(&self) -> (bool, bool) {
        let is_untold = matches!(self.told, Told::Nothing);
        (self.is_early && is_untold, is_untold)
    }

    /// Whether what its head says is to be recorded at once.
    #[inline]
    pub(crate) fn awaits(&self, outcome: &Outcome) -> bool {
        matches!(self.told, Told::Nothing) && (self.is_early || !outcome.is_success())
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
        let when = self
            .algorithm
            .as_ref()
            .map_or(When::Never, |algorithm| algorithm.when());
        Place {
            slot: self.slots.take(ask, at, now),
            sent: now,
            in_flight: self.in_flight,
            limit: self.slots.limit(),
            generation: self.generation,
            is_early: when == When::FirstByte,
            told: if when == When::Never {
                Told::All
            } else {
                Told::Nothing
            },
        }
    }

    #[inline]
    fn is_inert(_: &Place, _: Spent) -> bool {
        false
    }

    #[inline]
    fn is_timeless(place: &Place) -> bool {
        place.told != Told::Nothing
    }

    #[inline]
    fn release(&mut self, place: Place, spent: Spent, outcome: Option<&Outcome>, now: Timestamp) {
        let sample = outcome
            .filter(|outcome| match place.told {
                Told::Nothing => ends(outcome, spent),
                // It began well, and then there was no room for it after all.
                Told::Success => Signal::from(outcome.verdict()) == Signal::Loss,
                Told::All => false,
            })
            .map(|outcome| {
                let signal = Signal::from(outcome.verdict());
                let sample = self.sample(&place, signal).total(now.since(place.sent));
                match spent {
                    Spent::Exactly(usage) => {
                        usage.output().map_or(sample, |size| sample.size(size))
                    }
                    Spent::Nothing | Spent::AtLeast(_) => sample,
                }
            });
        let generation = place.generation;
        // First, because the algorithm may be a user's, which may panic.
        self.in_flight -= 1;
        self.slots.release(place.slot, spent, outcome, now);
        if let Some(sample) = sample {
            self.learn(generation, &sample, now);
        }
    }

    fn undo(&mut self, place: Place, now: Timestamp) {
        self.in_flight -= 1;
        self.slots.undo(place.slot, now);
    }

    fn expect(&self, ask: &(), ahead: Part, now: Timestamp) -> Result<Timestamp, Unservable> {
        self.slots.expect(ask, ahead, now)
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
