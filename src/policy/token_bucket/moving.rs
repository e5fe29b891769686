//! Limits whose rate moves: those that are sought, and those that bound a growth.
//!
//! Each is a paced dimension like any other, whose rate is set anew with every call. What is spent
//! is counted in tokens over a period that never changes, so a change of the rate mints nothing
//! and loses nothing.

use std::time::Duration;

use super::{Dimension, Limit, Quota, Reservation, Shape, Timestamp, TokenBucket, Unit};
use crate::policy::{
    Cost, LearnedRate, Ramp, RampSnapshot, Readings,
    ramp::Governor,
    rate_search::{MOVING_PERIOD, Search, amount_of, rate_of},
    readings::Refusal,
};

/// What a server shows of longer limits says nothing of the rate.
const LONGEST_RATE: u64 = 60_000_000_000;
/// How long what was learned is kept where nothing is sent and room is needed.
#[cfg(feature = "rate-limit")]
const REMEMBERED: Duration = Duration::from_secs(3600);
/// A call that comes within this part of the wait was waiting, whatever its timer says.
const LATE_SHARE: u64 = 8;

/// One for each of its dimensions, searches first.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    searches: Vec<Seeker>,
    ramps: Vec<Ramped>,
    /// When a call was last taken.
    last: Timestamp,
}

#[derive(Clone, Debug)]
struct Seeker {
    search: Search,
    learned: LearnedRate,
}

#[derive(Clone, Debug)]
struct Ramped {
    unit: Unit,
    ramp: Ramp,
    governor: Governor,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// The rate per second that is [sought](crate::policy::QuotaBuilder::seek) for `unit`, as of the
    /// last call, if it is and the server does not show it.
    #[must_use]
    pub fn sought_rate(&self, unit: Unit) -> Option<f64> {
        self.sought()
            .find(|(of, _)| *of == unit)
            .map(|(_, rate)| rate)
    }

    /// All rates that are sought.
    pub(in crate::policy) fn sought(&self) -> impl Iterator<Item = (Unit, f64)> {
        let searches = self.moving.iter().flat_map(|moving| &moving.searches);
        let sought = searches.zip(&self.dimensions[self.moving_from()..]);
        let sought = sought.filter(|(seeker, _)| !self.is_told(seeker.search.unit));
        sought.map(|(seeker, dimension)| (seeker.search.unit, rate_of(dimension.limit.amount)))
    }

    /// What the [growth](crate::policy::QuotaBuilder::ramp) of `unit` allows at `now`, if it is
    /// bounded. It copies what is to be saved.
    #[must_use]
    pub fn ramp(&self, unit: Unit, now: Timestamp) -> Option<RampSnapshot> {
        let mut all = self.ramps(now).filter(|(of, _)| *of == unit);
        all.next().map(|(_, snapshot)| snapshot)
    }

    pub(in crate::policy) fn ramps(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (Unit, RampSnapshot)> {
        let ramps = self.moving.iter().flat_map(|moving| {
            let dimensions = &self.dimensions[self.moving_from() + moving.searches.len()..];
            moving.ramps.iter().zip(dimensions)
        });
        ramps.map(move |(ramped, dimension)| {
            (
                ramped.unit,
                ramped.governor.snapshot(dimension.largest, now),
            )
        })
    }

    /// Whether a rate is sought.
    pub(in crate::policy) fn seeks(&self) -> bool {
        self.sought().next().is_some()
    }

    /// From when on nothing is lost if it is forgotten, if nothing more is taken.
    #[cfg(feature = "rate-limit")]
    pub(crate) fn forgettable_at(&self) -> Timestamp {
        let Some(moving) = &self.moving else {
            return self.full_at();
        };
        let ramps = moving.ramps.iter();
        let used = ramps.map(|ramped| ramped.governor.forgettable_at()).max();
        let learned = (!moving.searches.is_empty()).then(|| moving.last + REMEMBERED);
        self.full_at().max(used.max(learned).unwrap_or_default())
    }

    pub(super) fn moving_count(&self) -> usize {
        let count = |moving: &Moving| moving.searches.len() + moving.ramps.len();
        self.moving.as_deref().map_or(0, count)
    }

    /// Where the dimensions whose rate moves begin.
    fn moving_from(&self) -> usize {
        self.dimensions.len() - self.shown() - self.moving_count()
    }

    /// Whether the server shows the rate of `unit`, which then need not be sought.
    fn is_told(&self, unit: Unit) -> bool {
        let shown = &self.dimensions[self.dimensions.len() - self.shown()..];
        let shown = shown.iter().take(self.mirrored());
        let mut rates = shown.filter(|shown| shown.limit.nominal <= LONGEST_RATE);
        rates.any(|shown| shown.limit.unit == unit)
    }

    pub(super) fn set_attention(&mut self) {
        self.attends_at = match self.moving {
            Some(_) => Timestamp::ZERO,
            None => self.caution.eases_at,
        };
    }

    /// Takes over what moves under another quota: what is the same as before stays as it is, with its
    /// dimension among `old`. The quota's own dimensions are there already, and none that is shown.
    pub(super) fn set_moving(&mut self, quota: &Quota, old: Vec<Dimension>, now: Timestamp) {
        let before = self.moving.take();
        let (searches, ramps) = match before {
            Some(before) => (before.searches, before.ramps),
            None => (Vec::new(), Vec::new()),
        };
        let (sought, bounded) = old.split_at(searches.len());
        let mut moving = Moving {
            searches: Vec::new(),
            ramps: Vec::new(),
            last: now,
        };
        for search in quota.searches() {
            let mut known = searches.iter().zip(sought);
            let same = known.find(|(seeker, _)| seeker.search == *search);
            let (seeker, dimension) = same.map_or_else(
                || Seeker::new(*search, now),
                |(seeker, dimension)| (seeker.clone(), dimension.clone()),
            );
            moving.searches.push(seeker);
            self.dimensions.push(dimension);
        }
        for (unit, ramp) in quota.ramps() {
            let mut known = ramps.iter().zip(bounded);
            let same =
                known.find(|(ramped, _)| ramped.unit == *unit && ramped.ramp.is_over_same(ramp));
            let (ramped, dimension) = same.map_or_else(
                || Ramped::new(*unit, ramp, now),
                |(ramped, dimension)| ramped.under(ramp, dimension, now),
            );
            moving.ramps.push(ramped);
            self.dimensions.push(dimension);
        }
        let is_there = !moving.searches.is_empty() || !moving.ramps.is_empty();
        self.moving = is_there.then(|| Box::new(moving));
        self.set_attention();
    }

    /// Begins all searches anew.
    pub(super) fn begin_searches(&mut self, now: Timestamp) {
        let from = self.moving_from();
        let Some(moving) = &mut self.moving else {
            return;
        };
        for (seeker, dimension) in moving.searches.iter_mut().zip(&mut self.dimensions[from..]) {
            seeker.learned = seeker.search.learner();
            seeker.learned.idle(now);
            dimension.set_rate(amount_of(seeker.learned.rate()), now);
        }
    }

    /// What a call means besides being taken: what was kept back is eased, and what moves moves.
    #[inline(never)]
    pub(super) fn attend(&mut self, cost: &Cost, at: Timestamp, now: Timestamp) {
        if now >= self.caution.eases_at {
            self.ease(now);
        }
        let Some(mut moving) = self.moving.take() else {
            return;
        };
        let shown = self.shown();
        let from = self.dimensions.len() - shown - moving.searches.len() - moving.ramps.len();
        moving.last = moving.last.max(now);
        for (place, seeker) in moving.searches.iter_mut().enumerate() {
            let amount = cost.get(seeker.search.unit);
            if self.is_told(seeker.search.unit) {
                self.dimensions[from + place].set_rate(seeker.search.ceiling, at);
            } else if amount > 0 {
                seeker.take(&mut self.dimensions[from + place], amount, at, now);
            }
        }
        let from = from + moving.searches.len();
        for (ramped, dimension) in moving.ramps.iter_mut().zip(&mut self.dimensions[from..]) {
            let amount = cost.get(ramped.unit);
            ramped.governor.sent(amount, now);
            let allowed = ramped.governor.allowed(dimension.largest.max(amount), now);
            dimension.set_rate(amount_of(allowed), at);
        }
        self.moving = Some(moving);
    }

    /// Hears for what the call of a reservation was refused, if it was, and says whether less is sent.
    pub(super) fn refuse(&mut self, call: &Reservation, seen: &Readings, now: Timestamp) -> bool {
        let is_for_growth = match seen.refusal() {
            Refusal::None => return false,
            Refusal::Rate => false,
            Refusal::Ramp => true,
        };
        let is_bounded = self.refuse_growth(call, is_for_growth, now);
        if is_for_growth && is_bounded.is_some() {
            return is_bounded == Some(true);
        }
        match self.refuse_rate(call, now) {
            Some(is_cut) => is_cut,
            None => !is_for_growth && self.heed_refusal(call.at, now),
        }
    }

    /// Whether the growth is bounded, and less of it is allowed now.
    fn refuse_growth(
        &mut self,
        call: &Reservation,
        is_for_growth: bool,
        now: Timestamp,
    ) -> Option<bool> {
        let from = self.moving_from();
        let moving = self.moving.as_mut()?;
        let from = from + moving.searches.len();
        let mut is_held = None;
        for (ramped, dimension) in moving.ramps.iter_mut().zip(&mut self.dimensions[from..]) {
            let amount = call.cost.get(ramped.unit);
            let governor = &mut ramped.governor;
            let is_lower = governor.refused(amount, is_for_growth, call.at, now);
            dimension.set_rate(amount_of(governor.allowed(dimension.largest, now)), now);
            is_held = Some(is_held == Some(true) || is_lower);
        }
        is_held
    }

    /// Whether a rate is sought, and cut now: the one that callers waited for, or else all.
    fn refuse_rate(&mut self, call: &Reservation, now: Timestamp) -> Option<bool> {
        let from = self.moving_from();
        let mut moving = self.moving.take()?;
        let is_sought = |seeker: &Seeker| !self.is_told(seeker.search.unit);
        let is_wanted = |seeker: &Seeker| is_sought(seeker) && seeker.learned.is_wanted();
        let knows = moving.searches.iter().any(is_wanted);
        let blamed: Vec<usize> = (0..moving.searches.len())
            .filter(|&place| {
                let seeker = &moving.searches[place];
                is_sought(seeker) && (!knows || is_wanted(seeker))
            })
            .collect();
        let mut is_cut = None;
        for place in blamed {
            let seeker = &mut moving.searches[place];
            let amount = call.cost.get(seeker.search.unit);
            let is_lower = seeker.learned.refused(amount as f64, call.at, now);
            self.dimensions[from + place].set_rate(amount_of(seeker.learned.rate()), now);
            is_cut = Some(is_cut == Some(true) || is_lower);
        }
        self.moving = Some(moving);
        is_cut
    }
}

// === impl Moving ===

impl Moving {
    pub(super) fn settle(&mut self, call: &Reservation, used: &Cost) {
        for seeker in &mut self.searches {
            let unit = seeker.search.unit;
            let more = used.get(unit) as f64 - call.cost.get(unit) as f64;
            seeker.learned.resized(more, call.at);
        }
        for ramped in &mut self.ramps {
            let (from, to) = (call.cost.get(ramped.unit), used.get(ramped.unit));
            ramped.governor.resized(from, to, call.at);
        }
    }
}

// === impl Seeker ===

impl Seeker {
    fn new(search: Search, now: Timestamp) -> (Self, Dimension) {
        let mut learned = search.learner();
        learned.idle(now);
        let dimension = Dimension::moving(search.unit, learned.rate(), now);
        (Self { search, learned }, dimension)
    }

    /// A call that could be sent at `at` is: it waited for the rate if it came when that let it.
    fn take(&mut self, dimension: &mut Dimension, amount: u64, at: Timestamp, now: Timestamp) {
        let capacity = dimension.capacity(amount);
        let excess = i128::from(amount) - i128::from(capacity);
        let excess = dimension.spent + excess * dimension.token();
        let ready = dimension.drained(excess.max(0));
        let late = nanos_of(ready.since(dimension.updated)) / LATE_SHARE;
        if excess > 0 && at <= ready + Duration::from_nanos(late) {
            self.learned.wanted(now);
        } else {
            self.learned.idle(now);
        }
        self.learned.sent(amount as f64);
        dimension.set_rate(amount_of(self.learned.rate()), at);
    }
}

fn nanos_of(duration: Duration) -> u64 {
    crate::policy::nanos(duration)
}

// === impl Ramped ===

impl Ramped {
    fn new(unit: Unit, ramp: &Ramp, now: Timestamp) -> (Self, Dimension) {
        let mut governor = Governor::new(unit, ramp, now);
        let mut dimension = Dimension::moving(unit, governor.allowed(0, now), now);
        // Nothing is known of the last minute: it begins as if the largest call had just been sent.
        dimension.largest = governor.expected();
        dimension.spent = i128::from(dimension.largest) * dimension.token();
        let ramp = ramp.clone();
        (
            Self {
                unit,
                ramp,
                governor,
            },
            dimension,
        )
    }

    /// The same under another floor or growth.
    fn under(&self, ramp: &Ramp, dimension: &Dimension, now: Timestamp) -> (Self, Dimension) {
        let (mut kept, mut dimension) = (self.clone(), dimension.clone());
        kept.ramp = ramp.clone();
        kept.governor.set(ramp);
        let allowed = kept.governor.allowed(dimension.largest, now);
        dimension.set_rate(amount_of(allowed), now);
        (kept, dimension)
    }
}

// === impl Dimension ===

impl Dimension {
    /// A paced dimension of this rate per second.
    fn moving(unit: Unit, rate: f64, now: Timestamp) -> Self {
        let limit = Limit {
            unit,
            amount: amount_of(rate),
            period: MOVING_PERIOD,
            nominal: MOVING_PERIOD,
            shape: Shape::Continuous { burst: None },
        };
        let mut dimension = Self::new(&limit, now);
        dimension.is_open = true;
        dimension
    }

    pub(super) const fn is_moving(&self) -> bool {
        self.limit.nominal == MOVING_PERIOD
    }

    fn set_rate(&mut self, amount: u64, now: Timestamp) {
        if amount != self.limit.amount {
            self.advance(now);
            self.limit.amount = amount;
        }
    }

    /// What a minute grants, as `spent` counts it.
    pub(super) fn a_minute(&self) -> i128 {
        i128::from(self.limit.amount) * i128::from(LONGEST_RATE)
    }
}

#[cfg(test)]
mod tests;
