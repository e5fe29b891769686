//! What the server shows of its own books, and what follows for ours.
//!
//! Beside the quota's own dimensions a bucket keeps one for each limit that the server has shown:
//! as large as the server's, taken from and settled like all others, so that it does what the
//! server's does as long as nobody else uses the limit, the clocks run alike and both charge
//! alike. Where they differ, what remains after a call tells by how much: the level that follows
//! from it now is what remained, refilled since the call was sent, less what has been taken since.
//! Nothing that is in flight is counted twice, because it is in both levels, and no error is
//! corrected twice, because it is the present level that is corrected.

use std::time::Duration;

mod history;
mod mirror;

use self::{
    history::{Found, History},
    mirror::{Mirror, Recent, shown_at_once},
};
use super::{Cost, Dimension, Limit, Reservation, Shape, Timestamp, TokenBucket, Unit};
use crate::policy::{Reading, Readings};

/// What is sent at once before anything is known: few quotas are smaller.
const START: u64 = 8;
/// And how long as many more take: 20 s, the longest that an answer usually takes to begin, are then
/// worth 40 calls, which most quotas per minute hold.
const START_PERIOD: u64 = 4_000_000_000;
/// A server that has shown nothing by then shows nothing: slow answers take as long.
const START_LASTS: Duration = Duration::from_secs(60);
/// What a server can make us keep.
const MOST_MIRRORS: usize = 8;

/// What is needed to hear the server.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    learns: bool,
    /// One for each dimension that the server has shown, in their order.
    mirrors: Vec<Mirror>,
    start: Start,
    history: History,
}

/// Whether the last dimension is the cautious one before anything is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Waiting,
    /// Calls have been sent since.
    Until(Timestamp),
    Over,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// Hears what the server shows in its answer to the call of `reservation`, and says whether
    /// that changed anything. To be told as soon as the answer begins, once for each call.
    ///
    /// What the server shows is a bound beside the quota's own, which is never passed: a limit that
    /// is lower than the quota's holds, a higher one does not. Heard are readings of units that the
    /// quota limits, and all of them where it [learns](crate::policy::QuotaBuilder::learn).
    ///
    /// - *Bad news counts at once.* If less remains than there should, somebody else has used it,
    ///   the server's clock is slower or it charges more: the whole difference is taken off.
    ///   Nothing is done within what rounding leaves open, but near zero the lower end is taken,
    ///   less a two-hundredth of the limit, which stays in reserve against all that is not known yet.
    ///   What answers to calls of the same second or the one before do not confirm is not taken off.
    /// - *Good news counts by an eighth* of the difference for each answer, but not from answers to
    ///   calls that were sent before the one that brought the last bad news.
    /// - *A paced dimension learns the burst* that the server has shown to be left, and no more, of a
    ///   limit per minute or less no more than a second's worth: servers enforce them over seconds,
    ///   whatever they show to remain.
    /// - *A [refusal](Readings::of_refusal) that the books did not foresee* halves a learned burst that is in use, down to
    ///   the largest single cost. Otherwise it keeps 10 thousandths of every limit of a minute or less
    ///   back, each further one 4 more, at most 30; in ten minutes without one a thousandth comes back.
    ///
    /// The answer to a call from before the last [`set_quota`](Self::set_quota) decides nothing.
    /// Of a call that more than some hundred others have followed, less is known, and only what
    /// is certain counts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Reading, Readings, Timestamp, TokenBucket, Unit};
    ///
    /// let quota = Quota::builder().requests_per_minute(60).burst(Unit::REQUESTS, 60).learn();
    /// let mut bucket = TokenBucket::new(&quota.build()?, Timestamp::ZERO);
    /// let call = bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    /// let in_flight = bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    ///
    /// let minute = Duration::from_secs(60);
    /// let reading = Reading::new(Unit::REQUESTS, minute).limit(60).remaining(30);
    /// let heard = Timestamp::ZERO + Duration::from_secs(5);
    /// bucket.observe(&call, &Readings::NONE.with(reading), heard);
    /// // Five more by now, less the one in flight.
    /// assert_eq!(bucket.available(Unit::REQUESTS, heard), Some(34));
    /// # drop(in_flight);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub fn observe(&mut self, reservation: &Reservation, seen: &Readings, now: Timestamp) -> bool {
        let own = self.dimensions.len() - self.shown();
        let at = reservation.at;
        let is_stale = self.since.is_some_and(|since| at <= since);
        if is_stale {
            return false;
        }
        let learns = self.truth.as_ref().is_some_and(|truth| truth.learns);
        let is_heard = |seen: Reading| learns || self.is_limited(own, seen.unit());
        if !seen.told().any(is_heard) {
            return self.refuse(reservation, seen, now);
        }
        let mut truth = self.truth.take().unwrap_or_default();
        let found = truth.history.find(at);
        let mut is_changed = false;
        for reading in seen.told() {
            if learns || self.is_limited(own, reading.unit()) {
                is_changed |= truth.hear(&mut self.dimensions, &reading, reservation, found, now);
            }
        }
        let is_left = |seen: &Reading| seen.bounds().0 >= reservation.cost.get(seen.unit()).max(1);
        let disproves = seen.is_refusal() && seen.iter().all(is_left);
        let is_explained = disproves && truth.disprove(&mut self.dimensions, at, now);
        truth.history.set_heard(at);
        truth.history.is_on = true;
        self.truth = Some(truth);
        is_changed |= is_explained;
        if !is_explained {
            is_changed |= self.refuse(reservation, seen, now);
        }
        is_changed
    }

    /// Forgets what the server has shown and refused, on the word of somebody who knows better. What
    /// has been spent of the quota's own limits stays, and answers to calls from before decide
    /// nothing; what is to be learned is learned anew.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Reading, Readings, Timestamp, TokenBucket, Unit};
    ///
    /// let mut bucket = TokenBucket::new(&Quota::learned(), Timestamp::ZERO);
    /// let call = bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    /// let day = Duration::from_secs(86_400);
    /// let spent = Reading::new(Unit::REQUESTS, day).limit(1_000).remaining(0).resets_in(day);
    /// bucket.observe(&call, &Readings::NONE.with(spent), Timestamp::ZERO);
    /// assert!(!bucket.is_ready(&Cost::REQUEST, Timestamp::ZERO));
    ///
    /// bucket.forget_shown(Timestamp::ZERO);
    /// assert!(bucket.is_ready(&Cost::REQUEST, Timestamp::ZERO));
    /// ```
    pub fn forget_shown(&mut self, now: Timestamp) {
        self.keep_back(0, now);
        self.begin_searches(now);
        self.dimensions
            .truncate(self.dimensions.len() - self.shown());
        let Some(mut truth) = self.truth.take() else {
            return;
        };
        self.since = Some(truth.history.forget().max(now));
        if truth.learns {
            self.set_learning(true, now);
        }
    }

    fn is_limited(&self, own: usize, unit: Unit) -> bool {
        self.dimensions[..own]
            .iter()
            .any(|dim| dim.limit.unit == unit)
    }

    /// How many of the last dimensions are not the quota's own.
    pub(super) fn shown(&self) -> usize {
        self.truth.as_ref().map_or(0, |truth| truth.dimensions())
    }

    /// How many limits the server has shown.
    pub(super) fn mirrored(&self) -> usize {
        self.truth.as_ref().map_or(0, |truth| truth.mirrors.len())
    }

    /// Takes back what the server has shown, under another quota.
    pub(super) fn keep_shown(&mut self, shown: Vec<Dimension>, now: Timestamp) {
        self.dimensions.extend(shown);
        let last = match &mut self.truth {
            Some(truth) => truth.history.forget(),
            None => now,
        };
        self.since = Some(last.max(now));
    }

    /// Begins or ends to learn of units that the quota does not limit.
    pub(super) fn set_learning(&mut self, learns: bool, now: Timestamp) {
        if !learns {
            self.end_learning();
            return;
        }
        let truth = self.truth.get_or_insert_default();
        truth.history.is_on = true;
        if std::mem::replace(&mut truth.learns, true) || !truth.mirrors.is_empty() {
            return;
        }
        let limit = Limit {
            unit: Unit::REQUESTS,
            amount: START,
            period: START_PERIOD,
            nominal: START_PERIOD,
            shape: Shape::Continuous { burst: Some(START) },
        };
        self.dimensions.push(Dimension::shown(&limit, now));
        truth.start = Start::Waiting;
    }

    /// Keeps what is shown of units that the quota limits.
    fn end_learning(&mut self) {
        let own = self.dimensions.len() - self.shown();
        let Some(truth) = &mut self.truth else {
            return;
        };
        truth.learns = false;
        if std::mem::replace(&mut truth.start, Start::Over) != Start::Over {
            self.dimensions.pop();
        }
        let (limits, shown) = self.dimensions.split_at(own);
        let is_limited = |unit| limits.iter().any(|dimension| dimension.limit.unit == unit);
        let kept = shown.iter().map(|shown| is_limited(shown.limit.unit));
        let kept: Vec<_> = limits.iter().map(|_| true).chain(kept).collect();
        let mut mirrors = kept[own..].iter();
        truth.mirrors.retain(|_| mirrors.next() == Some(&true));
        let mut dimensions = kept.iter();
        self.dimensions.retain(|_| dimensions.next() == Some(&true));
    }

    /// Notes a call of this cost, and says when it is sent as far as the books are concerned: no
    /// two calls at the same instant.
    #[inline(never)]
    pub(super) fn record(&mut self, cost: &Cost, now: Timestamp) -> Timestamp {
        let truth = self.truth.as_mut().expect("asked where there is one");
        match truth.start {
            Start::Waiting => truth.start = Start::Until(now + START_LASTS),
            Start::Until(end) if now >= end => {
                truth.start = Start::Over;
                truth.history.is_on = false;
                self.dimensions.pop();
            }
            _ => {}
        }
        truth.history.record(cost, now)
    }
}

// === impl Truth ===

impl Default for Truth {
    fn default() -> Self {
        Self {
            learns: false,
            mirrors: Vec::new(),
            start: Start::Over,
            history: History::default(),
        }
    }
}

impl Truth {
    fn dimensions(&self) -> usize {
        self.mirrors.len() + usize::from(self.start != Start::Over)
    }

    pub(super) fn settle(&mut self, reservation: &Reservation, used: &Cost) {
        self.history.charged.sub(&reservation.cost);
        self.history.charged.add(used);
    }

    fn hear(
        &mut self,
        dimensions: &mut Vec<Dimension>,
        reading: &Reading,
        call: &Reservation,
        found: Found,
        now: Timestamp,
    ) -> bool {
        let at = call.at;
        let own = dimensions.len() - self.dimensions();
        let Some(place) = self.place(&dimensions[own..], reading) else {
            let Some(mirrored) = self.mirror(&dimensions[..own], reading, call, found, now) else {
                return false;
            };
            if self.start != Start::Over {
                dimensions.pop();
                self.start = Start::Over;
            }
            let limit = mirrored.limit.amount;
            dimensions.push(mirrored);
            self.mirrors.push(Mirror {
                limit,
                peak: shown_at_once(reading, call.cost.get(reading.unit()), limit),
                base: None,
                is_sure: !matches!(found, Found::Unknown),
                taken_off: 0,
                recent: Recent::default(),
                tightened_by: at,
                limited_by: at,
                disproved: Timestamp::ZERO,
            });
            self.prove(dimensions, own, self.mirrors.len() - 1, reading, at);
            return true;
        };
        let (mirror, dimension) = (&mut self.mirrors[place], &mut dimensions[own + place]);
        let mut is_changed = false;
        if let Some(limit) = reading.amount().filter(|_| at > mirror.limited_by) {
            mirror.limited_by = at;
            if limit != mirror.limit {
                dimension.set_limit(mirror.limit, limit, now);
                (mirror.limit, mirror.base) = (limit, None);
                mirror.peak = mirror.peak.min(limit);
                is_changed = true;
            }
        }
        if reading.is_of_limit() {
            return is_changed;
        }
        let cost = call.cost.get(reading.unit());
        let peak = shown_at_once(reading, cost, mirror.limit);
        mirror.peak = mirror.peak.max(peak);
        is_changed |= match found {
            Found::Exactly(charged, is_heard) => {
                let taken = self.history.charged.since(&charged, dimension.limit.unit);
                let is_changed = mirror.correct(dimension, reading, at, (taken, !is_heard), now);
                mirror.measure(dimension, reading, at, charged);
                is_changed
            }
            Found::AtMost(charged) => {
                let taken = self.history.charged.since(&charged, dimension.limit.unit);
                mirror.correct(dimension, reading, at, (taken, false), now)
            }
            Found::Unknown => false,
        };
        self.prove(dimensions, own, place, reading, at);
        is_changed
    }

    /// Which of the dimensions shown a reading is of.
    fn place(&self, shown: &[Dimension], reading: &Reading) -> Option<usize> {
        let is_it = |dimension: &Dimension| {
            let period = reading.period_nanos();
            dimension.limit.unit == reading.unit()
                && period.is_none_or(|period| period == dimension.limit.nominal)
        };
        let mut places = (0..self.mirrors.len()).filter(|&at| is_it(&shown[at]));
        let place = places.next()?;
        (reading.period().is_some() || places.next().is_none()).then_some(place)
    }

    /// The dimension that the first reading of a limit shows, if that says enough.
    fn mirror(
        &self,
        own: &[Dimension],
        reading: &Reading,
        call: &Reservation,
        found: Found,
        now: Timestamp,
    ) -> Option<Dimension> {
        let at = call.at;
        if self.mirrors.len() >= MOST_MIRRORS {
            return None;
        }
        let unit = reading.unit();
        let configured = || own.iter().filter(|dimension| !dimension.is_moving());
        let of_unit = || configured().filter(|dimension| dimension.limit.unit == unit);
        let nominal = reading.period_nanos().or_else(|| {
            let is_said = self.mirrors.is_empty() && of_unit().count() == 1;
            is_said.then(|| of_unit().map(|dimension| dimension.limit.nominal).next())?
        })?;
        let same = of_unit().find(|dimension| dimension.limit.nominal == nominal);
        let amount = reading.amount();
        let amount = amount.or_else(|| same.map(|dimension| dimension.limit.amount))?;
        let configured = of_unit().filter_map(|dimension| match dimension.limit.shape {
            Shape::Continuous { burst } => burst,
            Shape::Window { .. } => None,
        });
        let configured = configured.max().unwrap_or(0);
        let shape = match reading.window() {
            Some(wait) => Shape::Window {
                resets_in: wait.min(nominal),
            },
            None => Shape::Continuous {
                burst: Some(at_once(amount, nominal).max(configured).min(amount)),
            },
        };
        let limit = Limit {
            unit,
            amount,
            period: nominal,
            nominal,
            shape,
        };
        let peak = shown_at_once(reading, call.cost.get(unit), amount);
        let mut mirrored = Dimension::shown(&limit, now);
        let low = mirrored.range(reading, amount, peak).highest;
        let low = low.min(i128::from(reading.bounds().0) * mirrored.token());
        let level = match found {
            Found::Exactly(charged, _) | Found::AtMost(charged) => {
                let taken = self.history.charged.since(&charged, unit);
                mirrored.level_since(low, at, taken, now)
            }
            // Whatever of the unit has been spent may have been sent since.
            Found::Unknown => {
                let spent = own.iter().filter(|dimension| dimension.limit.unit == unit);
                let spent = spent.map(|dimension| dimension.tokens_spent(now)).max();
                low - spent.unwrap_or(0).min(i128::from(amount)) * mirrored.token()
            }
        };
        mirrored.set_level(level);
        Some(mirrored)
    }

    /// Lets paced dimensions of the quota save up what the server has shown to be left.
    fn prove(
        &self,
        dimensions: &mut [Dimension],
        own: usize,
        place: usize,
        reading: &Reading,
        at: Timestamp,
    ) {
        let shown = &dimensions[own + place];
        let Shape::Continuous { burst: Some(burst) } = shown.limit.shape else {
            return;
        };
        let (unit, nominal) = (shown.limit.unit, shown.limit.nominal);
        let proven = reading.bounds().0.min(burst);
        if at < self.mirrors[place].disproved || reading.is_of_limit() {
            return;
        }
        for dimension in &mut dimensions[..own] {
            if (dimension.limit.unit, dimension.limit.nominal) == (unit, nominal) {
                let proven = proven.min(dimension.limit.amount);
                dimension.largest = dimension.largest.max(proven);
            }
        }
    }

    /// A burst was refused that every limit shown has room for: once for all that were sent
    /// together.
    fn disprove(&mut self, dimensions: &mut [Dimension], at: Timestamp, now: Timestamp) -> bool {
        let own = dimensions.len() - self.dimensions();
        let mut is_changed = false;
        for place in 0..self.mirrors.len() {
            let (mirror, dimension) = (&mut self.mirrors[place], &mut dimensions[own + place]);
            if at < mirror.disproved {
                continue;
            }
            mirror.disproved = now;
            let Shape::Continuous {
                burst: Some(before),
            } = dimension.limit.shape
            else {
                continue;
            };
            dimension.advance(now);
            let level = dimension.level();
            let burst = (before / 2).max(dimension.largest);
            let is_short = dimension.limit.nominal <= PACED_PERIOD;
            let is_in_use = level * 2 <= i128::from(before) * dimension.token();
            if burst >= before || !is_short || !is_in_use {
                continue;
            }
            dimension.limit.shape = Shape::Continuous { burst: Some(burst) };
            dimension.set_level(level);
            let unit = dimension.limit.unit;
            for dimension in &mut dimensions[..own] {
                if dimension.limit.unit == unit {
                    dimension.largest = dimension.largest.min(burst);
                }
            }
            is_changed = true;
        }
        is_changed
    }
}

/// What is sent at once of a limit that grants so much in so many nanoseconds: of a minute or less a
/// second's worth, because servers enforce such limits over seconds whatever they show to remain;
/// of a longer one all that remains.
fn at_once(amount: u64, period: u64) -> u64 {
    if period > PACED_PERIOD {
        return amount;
    }
    let worth = u128::from(amount) * Duration::from_secs(1).as_nanos() / u128::from(period);
    u64::try_from(worth)
        .unwrap_or(amount)
        .clamp(1, amount.max(1))
}

/// The longest period whose limit is enforced over seconds.
const PACED_PERIOD: u64 = 60_000_000_000;

#[cfg(test)]
mod tests;
