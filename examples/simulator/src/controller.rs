//! What decides how many calls are sent: our algorithms and everybody else's behind one face.

use std::{num::NonZeroUsize, time::Duration};

use tower_relay::policy::{
    Timestamp,
    limit::{Fixed, LimitAlgorithm, Sample, Signal, When},
};

use crate::upstream::{Nanos, SECOND};

/// Callers of a program that limits nothing by itself.
pub(crate) const WORKERS: usize = 200;

/// Whether a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    Go,
    /// Until a call ends.
    Wait,
    /// Until an instant.
    Until(Nanos),
    /// It is turned away here; the worker comes back later.
    TurnedAway,
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) in_flight: usize,
    pub(crate) limit: usize,
    pub(crate) signal: Signal,
    pub(crate) first_byte: Nanos,
    pub(crate) total: Nanos,
    pub(crate) size: u64,
}

impl Seen {
    pub(crate) fn is_success(&self) -> bool {
        self.signal == Signal::Success
    }

    /// Seconds to the end.
    pub(crate) fn latency(&self) -> f64 {
        self.total as f64 / 1e9
    }
}

pub(crate) trait Controller {
    /// For the gate and for the plots.
    fn limit(&self) -> usize;

    fn gate(&mut self, _now: Nanos, in_flight: usize) -> Gate {
        if in_flight < self.limit() {
            Gate::Go
        } else {
            Gate::Wait
        }
    }

    fn sent(&mut self, _now: Nanos) {}

    /// The first byte of a success.
    fn first_byte(&mut self, _: &Seen) {}

    /// A call ended.
    fn ended(&mut self, _: &Seen);
}

/// One of the library's algorithms.
pub(crate) struct Ours<A>(pub(crate) A);

impl<A: LimitAlgorithm> Ours<A> {
    fn sample(seen: &Seen) -> Sample {
        let sent = Timestamp::from_nanos(seen.sent);
        Sample::new(seen.signal, sent, seen.in_flight, seen.limit)
            .first_byte(Duration::from_nanos(seen.first_byte))
    }
}

impl<A: LimitAlgorithm> Controller for Ours<A> {
    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn first_byte(&mut self, seen: &Seen) {
        if self.0.when() == When::FirstByte {
            let now = Timestamp::from_nanos(seen.now);
            self.0.record(&Self::sample(seen), now);
        }
    }

    fn ended(&mut self, seen: &Seen) {
        if self.0.when() == When::End || !seen.is_success() {
            let now = Timestamp::from_nanos(seen.now);
            let sample = Self::sample(seen)
                .total(Duration::from_nanos(seen.total))
                .size(seen.size);
            self.0.record(&sample, now);
        }
    }
}

pub(crate) fn fixed(limit: usize) -> Ours<Fixed> {
    Ours(Fixed::new(
        NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN),
    ))
}

/// How long a worker that was turned away waits.
pub(crate) const TURNED_AWAY: Nanos = SECOND / 20;
