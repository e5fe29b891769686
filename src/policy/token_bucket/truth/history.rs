//! What had been charged when.

use std::time::Duration;

use crate::policy::{Cost, Timestamp, cost::Tally};

/// Calls whose place in the books is kept, 64 bytes each.
const MOST_MARKS: usize = 1_024;

/// What had been charged when a call was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    at: Timestamp,
    charged: Tally,
    is_heard: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) is_on: bool,
    pub(super) marks: Vec<Mark>,
    pub(super) charged: Tally,
    /// The first instant that the next mark may have: no two have the same.
    next: Timestamp,
}

/// What is known of the instant at which a call was sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// Up to it this much had been charged.
    Exactly(Tally, bool),
    /// No more than this.
    AtMost(Tally),
    Unknown,
}

// === impl History ===

impl History {
    pub(super) fn record(&mut self, cost: &Cost, now: Timestamp) -> Timestamp {
        if !self.is_on {
            return now;
        }
        let at = now.max(self.next);
        self.next = at + Duration::from_nanos(1);
        self.charged.add(cost);
        if self.marks.len() == MOST_MARKS {
            self.thin_out();
        }
        self.marks.push(Mark {
            at,
            charged: self.charged,
            is_heard: false,
        });
        at
    }

    /// Forgets every second mark of the older half: the older, the fewer are left.
    fn thin_out(&mut self) {
        let half = self.marks.len() / 2;
        let mut place = 0;
        self.marks.retain(|_| {
            place += 1;
            place > half || place % 2 == 0
        });
    }

    /// What is known of a call's place in the books.
    pub(super) fn find(&self, at: Timestamp) -> Found {
        let place = self.marks.partition_point(|mark| mark.at < at);
        match self.marks.get(place) {
            Some(mark) if mark.at == at => Found::Exactly(mark.charged, mark.is_heard),
            Some(mark) if place > 0 => Found::AtMost(mark.charged),
            _ => Found::Unknown,
        }
    }

    pub(super) fn set_heard(&mut self, at: Timestamp) {
        let place = self.marks.partition_point(|mark| mark.at < at);
        if let Some(mark) = self.marks.get_mut(place).filter(|mark| mark.at == at) {
            mark.is_heard = true;
        }
    }

    /// Forgets all marks, and says when the last was set.
    pub(super) fn forget(&mut self) -> Timestamp {
        self.marks.clear();
        self.next.before(Duration::from_nanos(1))
    }
}
