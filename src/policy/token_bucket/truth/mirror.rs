//! How a dimension follows what the server shows of it.

use std::time::Duration;

use super::super::{Dimension, Limit, Shape, Timestamp};
use crate::policy::{Reading, cost::Tally};

/// The least level kept is this part of a limit, 0.3 s of a minute: the clocks may differ by 1 %, and
/// what is known is as old as an answer takes, up to half a minute. It costs no rate, for nothing is
/// lost that waits in the server's bucket.
const RESERVE_SHARE: u64 = 200;
/// Of a limit of fewer units whole ones tell less, and more is kept, but less than the 3 % that may be
/// lost where the server's bucket is full.
const FEW: u64 = 200;
const FEW_RESERVE_SHARE: u64 = 40;
/// And no more than this part of what the server has ever shown to be left: a bucket that holds a
/// second's worth would otherwise never be let below it.
const RESERVE_OF_PEAK: i128 = 4;
/// Good news is believed by this part: the next answer brings more of it, and may bring less.
const LOOSENED_SHARE: i128 = 8;
/// What others use is measured over at least this time, and over this many units of what can be
/// told apart.
const MEASURED_OVER: Duration = Duration::from_secs(5);
const MEASURED_UNITS: i128 = 16;
/// Where more than this part remains, the server's bucket may have been full, and what others use
/// is of no interest.
const PLENTY: (i128, i128) = (7, 8);

/// What is known of a dimension that the server has shown.
///
/// The amount of the dimension itself is what we get: the limit less what others use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mirror {
    pub(super) limit: u64,
    /// The most that the server has shown to be left: its bucket holds that much, and may hold
    /// far less than the limit grants in a period.
    pub(super) peak: u64,
    /// The reading from which on is measured what others use.
    pub(super) base: Option<Base>,
    /// Whether its level follows from an answer, and not from what may have been sent unheard.
    pub(super) is_sure: bool,
    /// What bad news has taken off, in units of the dimension's token, as far as good news has not
    /// brought it back. More is not brought back: that much remains in the server's bucket of a
    /// minute does not mean that it takes more at once.
    pub(super) taken_off: i128,
    pub(super) recent: Recent,
    /// When the call was sent whose answer last tightened it: the answers to earlier ones bring no
    /// good news.
    pub(super) tightened_by: Timestamp,
    /// When the call was sent whose answer named the limit.
    pub(super) limited_by: Timestamp,
    /// When a burst that the limit has room for was refused.
    pub(super) disproved: Timestamp,
}

/// What the answers to the calls of the last one to two seconds say to be missing, each slot the
/// least of a second's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    /// The second of the newer slot.
    second: u64,
    newer: Option<i128>,
    older: Option<i128>,
}

/// What remained after a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    at: Timestamp,
    remaining: u64,
    charged: Tally,
}

/// What a reading says of a dimension, in units of its token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// What is below is too little.
    lowest: i128,
    /// What is above is too much.
    pub(super) highest: i128,
}

// === impl Mirror ===

impl Recent {
    /// Notes what the answer to the call sent at `at` says to be missing, and returns what all of
    /// them agree on: that a window of the server's was nearly over when one call came, or a few
    /// large calls had just come before it, is not to be taken for what is missing for good.
    fn note(&mut self, at: Timestamp, missing: i128) -> i128 {
        let second = at.as_nanos() / Duration::from_secs(1).as_nanos() as u64;
        match second.checked_sub(self.second) {
            Some(0) => {}
            Some(1) => (self.older, self.newer) = (self.newer, None),
            Some(_) => (self.older, self.newer) = (None, None),
            None if second + 1 == self.second => {
                self.older = Some(self.older.map_or(missing, |least| least.min(missing)));
                return self.least(missing);
            }
            None => return self.least(missing),
        }
        self.second = second.max(self.second);
        self.newer = Some(self.newer.map_or(missing, |least| least.min(missing)));
        self.least(missing)
    }

    fn least(&self, missing: i128) -> i128 {
        let known = [self.newer, self.older].into_iter().flatten();
        known.fold(missing, i128::min)
    }
}

/// What there was to take for a call of this cost that left what a reading shows.
pub(super) fn shown_at_once(reading: &Reading, cost: u64, limit: u64) -> u64 {
    reading.bounds().1.saturating_add(cost).min(limit)
}

impl Mirror {
    /// Brings the level nearer to what follows from a reading, of a call since which so much has
    /// been taken; up only if that `is_news`.
    pub(super) fn correct(
        &mut self,
        dimension: &mut Dimension,
        reading: &Reading,
        at: Timestamp,
        (taken, is_news): (i64, bool),
        now: Timestamp,
    ) -> bool {
        dimension.advance(now);
        if dimension.is_window() {
            if at < dimension.restored {
                // It is about a window that is over.
                return false;
            }
            if let Some(wait) = reading.window().filter(|_| is_news) {
                dimension.resets_at = now + Duration::from_nanos(wait.min(dimension.limit.nominal));
            }
        }
        let Range { lowest, highest } = dimension.range(reading, self.limit, self.peak);
        let highest = dimension.level_since(highest, at, taken, now);
        let level = dimension.level();
        if level >= i128::from(dimension.capacity(0)) * dimension.token() {
            self.taken_off = 0;
        }
        let missing = self.recent.note(at, level + self.taken_off - highest);
        if missing > self.taken_off {
            dimension.set_level(level + self.taken_off - missing);
            self.taken_off = missing;
            self.tightened_by = self.tightened_by.max(at);
            self.is_sure = true;
            return true;
        }
        let lowest = dimension.level_since(lowest, at, taken, now);
        let is_older = at <= self.tightened_by && self.is_sure;
        if !is_news || is_older || dimension.restored > at {
            return false;
        }
        let was_sure = std::mem::replace(&mut self.is_sure, true);
        if level > highest || level >= lowest {
            return false;
        }
        let whole = lowest - level;
        let part = (whole / LOOSENED_SHARE).max(whole.min(dimension.token()));
        let gain = match was_sure {
            true => part.min(self.taken_off),
            false => whole,
        };
        if gain == 0 {
            return false;
        }
        self.taken_off = (self.taken_off - gain).max(0);
        dimension.set_level(level + gain);
        true
    }

    /// Measures what others use, or take by clocks that run differently: answers tell of it as late
    /// as they come, and until then it has to be foreseen.
    pub(super) fn measure(
        &mut self,
        dimension: &mut Dimension,
        reading: &Reading,
        at: Timestamp,
        charged: Tally,
    ) {
        if dimension.is_window() {
            return;
        }
        let (low, high) = reading.bounds();
        let base = Base {
            at,
            remaining: low,
            charged,
        };
        if i128::from(low) * PLENTY.1 > i128::from(self.peak) * PLENTY.0 {
            (self.base, dimension.limit.amount) = (None, self.limit);
            return;
        }
        let Some(before) = self.base else {
            self.base = Some(base);
            return;
        };
        let (elapsed, period) = (at.since(before.at), i128::from(dimension.limit.period));
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        let least = MEASURED_UNITS * i128::from(high - low + 1) * period;
        if elapsed < MEASURED_OVER || nanos * i128::from(self.limit) < least {
            return;
        }
        if nanos * i128::from(self.limit)
            >= period * i128::from(self.peak.saturating_sub(before.remaining))
        {
            // It may have been full in between.
            self.base = Some(base);
            return;
        }
        let gained = i128::from(low) - i128::from(before.remaining)
            + i128::from(charged.since(&before.charged, dimension.limit.unit));
        let measured = (gained * period + nanos / 2).div_euclid(nanos);
        let limit = i128::from(self.limit);
        let mean = (i128::from(dimension.limit.amount) + measured.clamp(0, limit) + 1) / 2;
        dimension.limit.amount = u64::try_from(mean.clamp(1, limit)).unwrap_or(self.limit);
        self.base = Some(base);
    }
}

// === impl Dimension ===

impl Dimension {
    /// What the server shows is right for calls from before, too.
    pub(super) fn shown(limit: &Limit, now: Timestamp) -> Self {
        let mut shown = Self::new(limit, now);
        shown.is_open = true;
        shown.restored = Timestamp::ZERO;
        shown
    }

    pub(super) const fn is_window(&self) -> bool {
        matches!(self.limit.shape, Shape::Window { .. })
    }

    /// What a reading under this limit says.
    pub(super) fn range(&self, reading: &Reading, limit: u64, peak: u64) -> Range {
        let token = self.token();
        // Nothing flows into a window: what is kept of it is lost.
        let reserve = match self.limit.shape {
            Shape::Continuous { .. } => {
                let share = if limit < FEW {
                    FEW_RESERVE_SHARE
                } else {
                    RESERVE_SHARE
                };
                let of_limit = i128::from(limit) * i128::from(self.limit.period / share);
                of_limit.min(i128::from(peak) * token / RESERVE_OF_PEAK)
            }
            Shape::Window { .. } => 0,
        };
        let (low, high) = reading.bounds();
        let lowest = i128::from(low) * token - reserve;
        let is_near_zero = lowest <= 2 * i128::from(high - low) * token;
        let highest = if is_near_zero {
            lowest
        } else {
            (i128::from(high) + 1) * token
        };
        Range { lowest, highest }
    }

    /// What is left, in units of [`token`](Self::token), as of the last change.
    pub(super) fn level(&self) -> i128 {
        i128::from(self.capacity(0)) * self.token() - self.spent
    }

    pub(super) fn set_level(&mut self, level: i128) {
        self.spent = (i128::from(self.capacity(0)) * self.token() - level).max(0);
    }

    /// The level now if it was `level` at `at` and so much has been taken since.
    pub(super) fn level_since(
        &self,
        level: i128,
        at: Timestamp,
        taken: i64,
        now: Timestamp,
    ) -> i128 {
        let refilled = match self.limit.shape {
            Shape::Continuous { .. } => {
                let elapsed = now.as_nanos().saturating_sub(at.as_nanos());
                i128::from(elapsed) * i128::from(self.limit.amount)
            }
            Shape::Window { .. } => 0,
        };
        let level = level + refilled - i128::from(taken) * self.token();
        level.min(i128::from(self.capacity(0)) * self.token())
    }

    /// The server grants another amount; what is left of it stays, as far as it fits.
    pub(super) fn set_limit(&mut self, before: u64, limit: u64, now: Timestamp) {
        self.advance(now);
        let level = self.level();
        if let Shape::Continuous { burst: Some(burst) } = &mut self.limit.shape {
            *burst = if *burst == before {
                limit
            } else {
                limit.min(*burst)
            };
        }
        self.limit.amount = limit;
        self.set_level(level);
    }
}
