use super::{Bounds, Reason, Sample, Signal};
use crate::policy::Timestamp;

/// How far an algorithm without any sign of latency may go: what refusals and failures say.
///
/// * **One cut per epoch.** A loss counts only if its call was sent after the last cut and under
///   a limit no higher than the present one: the others of a burst tell the same story. The
///   first cut is a tenth; when the next epoch loses too, a fifth, then two fifths, then halves.
/// * **The ceiling is remembered.** Growth stops one below the level of the last loss until 150
///   calls have succeeded. Then it looks one above, and twice as far each time a limit's worth
///   succeeds; a loss while it looks only takes back the look. Once it has looked twice as far as the
///   ceiling there is none, and slow start finds the next. A loss with less than half of the limit in
///   flight is of no level.
/// * **An outage is not a ceiling.** When twice the limit's worth of calls have failed in a row,
///   the limit is halved, and again with each quarter of it that fails; what it was before is
///   remembered. The first success starts slow start up to there; whatever the outage said
///   about ceilings is forgotten. Fewer would not do: while slow calls succeed, fast failures
///   beside them look like an outage for a whole round trip.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    bounds: Bounds,
    /// One below the level of the last loss; infinite while unknown.
    ceiling: f64,
    /// How far above the ceiling growth may look.
    probe: f64,
    /// Successes of calls sent since the last cut.
    clean: u64,
    /// Successes at the highest limit allowed, since it was allowed.
    tried: u64,
    /// Calls sent before belong to an earlier epoch.
    cut_at: Timestamp,
    /// Cuts in a row without a limit's worth of successes between them.
    cuts: usize,
    /// The limit before the first of them.
    before: f64,
    /// Calls that did not succeed in a row, and when the first of them was sent.
    streak: usize,
    streak_began: Timestamp,
    is_down: bool,
}

/// Shares of the limit that the first cut and those right after it take: the first is the
/// mildest that lets the server catch up, because a ceiling is usually exact; the following ones
/// halve what is far above.
const SHARES: [f64; 4] = [0.1, 0.2, 0.4, 0.5];

/// The share of the limit in flight below which a refusal says nothing of where the ceiling is.
const LEAST_TELLING: f64 = 0.5;

/// Successes before the ceiling is tried again: a try costs one refusal, so at most one call of
/// a hundred and fifty is refused where the ceiling is real.
const PATIENCE: u64 = 150;

/// After this long it is tried again anyway, when a limit's worth of calls succeeded: a ceiling
/// of long ago says little.
const LONGEST_PATIENCE_SECONDS: u64 = 300;

/// Fewest calls in a row that must fail before it is an outage: a few are bad luck.
const SHORTEST_STREAK: usize = 4;

impl Losses {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ceiling: f64::INFINITY,
            probe: 0.0,
            clean: 0,
            tried: 0,
            cut_at: Timestamp::ZERO,
            cuts: 0,
            before: 0.0,
            streak: 0,
            streak_began: Timestamp::ZERO,
            is_down: false,
        }
    }

    /// The highest limit to grow to.
    pub(super) fn cap(&self) -> f64 {
        self.bounds.clamp(self.ceiling + self.probe)
    }

    /// The ceiling of the last loss, infinite if there is none.
    pub(super) const fn ceiling(&self) -> f64 {
        self.ceiling
    }

    /// A call that did not succeed: the new limit, if this is a cut.
    pub(super) fn setback(
        &mut self,
        signal: Signal,
        sample: &Sample,
        limit: f64,
        now: Timestamp,
    ) -> Option<(f64, Reason)> {
        if sample.sent() < self.cut_at {
            return None;
        }
        if let Some(cut) = self.streak(sample, limit, now) {
            return Some(cut);
        }
        if signal != Signal::Loss || self.is_down || sample.limit() > limit as usize {
            return None;
        }
        if self.clean >= limit as u64 {
            self.cuts = 0;
        }
        // A call that was refused with few others in flight met no limit of concurrency, so the
        // level is not theirs; if it met one after all, the next cuts are deeper.
        let in_flight = sample.in_flight() as f64;
        let level = if in_flight < limit * LEAST_TELLING {
            limit
        } else {
            limit.min(in_flight)
        };
        // What was only a look above the known ceiling costs no more than the look.
        let was_look = self.probe > 0.0 && self.cuts == 0;
        let share = if was_look {
            0.0
        } else {
            SHARES[self.cuts.min(SHARES.len() - 1)]
        };
        self.ceiling = self.bounds.clamp(level - 1.0);
        self.probe = 0.0;
        let cut = self.bounds.clamp((level * (1.0 - share)).min(level - 1.0));
        Some((self.cut(limit, cut, now), Reason::Loss))
    }

    /// A call that succeeded: the limit to return to by slow start, if it ends an outage.
    pub(super) fn success(&mut self, sample: &Sample, now: Timestamp) -> Option<f64> {
        if sample.sent() >= self.streak_began {
            self.streak = 0;
        }
        if sample.sent() < self.cut_at {
            return None;
        }
        if self.is_down {
            self.is_down = false;
            self.cuts = 0;
            self.clean = 0;
            self.ceiling = f64::INFINITY;
            self.probe = 0.0;
            return Some(self.before);
        }
        self.clean += 1;
        if self.ceiling.is_finite() && self.look_higher(sample, now) {
            return Some(f64::INFINITY);
        }
        None
    }

    /// Whether there is no ceiling any more.
    fn look_higher(&mut self, sample: &Sample, now: Timestamp) -> bool {
        let limit = sample.limit() as u64;
        let waited = now.since(self.cut_at).as_secs() >= LONGEST_PATIENCE_SECONDS;
        if self.clean < PATIENCE.max(limit) && !(waited && self.clean >= limit) {
            return false;
        }
        if self.probe == 0.0 {
            self.probe = 1.0;
            self.tried = 0;
            return false;
        }
        if sample.is_at_limit() && sample.limit() >= self.cap() as usize {
            self.tried += 1;
        }
        if self.tried >= limit {
            self.tried = 0;
            self.probe *= 2.0;
            if self.probe > self.ceiling {
                self.ceiling = f64::INFINITY;
                self.probe = 0.0;
                return true;
            }
        }
        false
    }

    fn streak(&mut self, sample: &Sample, limit: f64, now: Timestamp) -> Option<(f64, Reason)> {
        if self.streak == 0 {
            self.streak_began = sample.sent();
        }
        self.streak_began = self.streak_began.min(sample.sent());
        self.streak += 1;
        let enough = if self.is_down {
            limit as usize / 4
        } else {
            limit as usize * 2
        };
        if self.streak < enough.max(SHORTEST_STREAK) {
            return None;
        }
        self.streak = 0;
        let cut = self.bounds.clamp(limit / 2.0);
        let cut = self.cut(limit, cut, now);
        self.is_down = true;
        Some((cut, Reason::Outage))
    }

    fn cut(&mut self, limit: f64, cut: f64, now: Timestamp) -> f64 {
        if self.cuts == 0 && !self.is_down {
            self.before = limit;
        }
        self.cuts += 1;
        self.clean = 0;
        self.cut_at = now;
        cut
    }
}
