use std::time::Duration;

use super::{
    Cost, CostTooLarge, Quota, Timestamp, Unit,
    quota::{Limit, Shape},
};

mod caution;
mod truth;
mod work;

use self::{caution::Caution, truth::Truth};

/// A settlement leaves no more debt than drains in this many periods. A report of more is a
/// mistake of whoever reports, and must not lock the limiter for good.
const MOST_DEBT_PERIODS: i128 = 60;

/// A token bucket over any number of dimensions, taken all or nothing.
///
/// The continuous dimensions are the leaky bucket as a meter of ITU-T I.371: each keeps what
/// has been *spent* and lets it drain at the quota's rate. Deviations: several dimensions are
/// tested together; what is spent may exceed the capacity after a settlement (debt); the
/// capacity of a paced dimension grows to the largest cost seen. All arithmetic is in whole
/// numbers (tokens × nanoseconds of the period), so nothing is lost however small the steps.
/// Waits round up to a nanosecond, which is all that pacing can cost in rate.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket, Unit};
///
/// let quota = Quota::builder().requests_per_second(2).burst(Unit::REQUESTS, 3).build()?;
/// let mut now = Timestamp::ZERO;
/// let mut bucket = TokenBucket::new(&quota, now);
/// for _ in 0..3 {
///     bucket.take(&Cost::REQUEST, now);
/// }
/// assert_eq!(bucket.ready_at(&Cost::REQUEST)?, now + Duration::from_millis(500));
///
/// now = now + Duration::from_secs(60);
/// assert_eq!(bucket.available(Unit::REQUESTS, now), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// The quota's own, then what the server has shown.
    dimensions: Vec<Dimension>,
    slack: u64,
    /// What is needed to hear the server; none until it is heard or is to be.
    truth: Option<Box<Truth>>,
    /// The last change of the quota: answers to calls from before it decide nothing.
    since: Option<Timestamp>,
    caution: Caution,
}

/// What a call has taken from a [`TokenBucket`], to be settled or refunded once.
///
/// Dropping it leaves the reserved cost spent.
#[derive(Debug)]
#[must_use = "a reservation that is dropped stays spent"]
pub struct Reservation {
    cost: Cost,
    /// When it was taken, not the earlier instant that it was charged as of.
    at: Timestamp,
}

impl Reservation {
    /// The reservation of `cost` that was taken at this instant.
    pub(super) const fn again(cost: Cost, at: Timestamp) -> Self {
        Self { cost, at }
    }

    /// When it was taken.
    pub(super) const fn at(&self) -> Timestamp {
        self.at
    }

    /// What was reserved.
    #[must_use]
    pub const fn cost(&self) -> &Cost {
        &self.cost
    }
}

impl TokenBucket {
    /// How far back a late grant is charged.
    #[cfg(feature = "key-rotation")]
    pub(crate) const fn slack(&self) -> Duration {
        Duration::from_nanos(self.slack)
    }

    /// A full bucket for `quota`; each window resets as long after `now` as the quota says.
    #[must_use]
    pub fn new(quota: &Quota, now: Timestamp) -> Self {
        let limits = quota.limits().iter();
        let mut bucket = Self {
            dimensions: limits.map(|limit| Dimension::new(limit, now)).collect(),
            slack: nanos(quota),
            truth: None,
            since: None,
            caution: Caution::NONE,
        };
        bucket.set_learning(quota.learns(), now);
        bucket
    }

    /// The instant from which `cost` is affordable if nothing else is taken before; in the
    /// past, or at the last change, if it is affordable already. A dimension in debt is waited
    /// for even by a call that takes nothing from it: what it will take is only known later.
    ///
    /// # Errors
    ///
    /// [`CostTooLarge`] if no wait makes it affordable.
    pub fn ready_at(&self, cost: &Cost) -> Result<Timestamp, CostTooLarge> {
        self.ready_after(&Cost::ZERO, &Cost::ZERO, cost)
    }

    /// The soonest instant from which `cost` can be affordable after `ahead` has been taken,
    /// whose largest part is `largest`. A lower bound: nothing is promised.
    ///
    /// # Errors
    ///
    /// [`CostTooLarge`] if no wait makes it affordable.
    pub fn ready_after(
        &self,
        ahead: &Cost,
        largest: &Cost,
        cost: &Cost,
    ) -> Result<Timestamp, CostTooLarge> {
        let mut ready = Timestamp::ZERO;
        for dimension in &self.dimensions {
            ready = ready.max(dimension.ready_after(ahead, largest, cost)?);
        }
        Ok(ready)
    }

    /// Whether `cost` is affordable at `now`. Cheaper than asking when.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, cost: &Cost, now: Timestamp) -> bool {
        self.dimensions.iter().all(|dim| dim.is_ready(cost, now))
    }

    /// Takes `cost` at `now`, whether it is affordable or not.
    #[inline]
    pub fn take(&mut self, cost: &Cost, now: Timestamp) -> Reservation {
        self.take_late(cost, now, now)
    }

    /// Takes at `now` what was affordable at the earlier instant `at`.
    ///
    /// A dimension whose burst is too small to bridge the delay is charged as of `at`, so that
    /// a late timer loses no rate; every other is charged as of `now`, as the provider will. The
    /// caller keeps `at` within the quota's slack.
    #[inline]
    pub fn take_late(&mut self, cost: &Cost, at: Timestamp, now: Timestamp) -> Reservation {
        if now >= self.caution.eases_at {
            self.ease(now);
        }
        for dimension in &mut self.dimensions {
            dimension.take(cost, at, now, self.slack);
        }
        let at = if self.truth.is_some() {
            self.record(cost, now)
        } else {
            now
        };
        Reservation { cost: *cost, at }
    }

    /// Replaces a reservation by what was really used: the difference is refunded or charged,
    /// into debt if need be. Overspend is carried, not forgiven.
    ///
    /// A dimension that has been full since, or a window that has reset, refunds nothing: what
    /// was reserved is there again, and a refund would be more than ever flowed in. The same holds
    /// for a dimension that did not exist when the reservation was made.
    ///
    /// A paced dimension is as large as the largest call and so full whenever such a call is sent,
    /// though nothing was lost: there the settlement of a call that was sent refunds all the same, and
    /// what exceeds the capacity is there for this very instant, for those who wait for it.
    ///
    /// Debt is carried up to 60 periods of a dimension's amount; more is taken for a mistake.
    pub fn settle(&mut self, reservation: Reservation, used: &Cost, now: Timestamp) {
        for dimension in &mut self.dimensions {
            dimension.settle(&reservation, used, now);
        }
        if let Some(truth) = &mut self.truth {
            truth.settle(&reservation, used);
        }
    }

    /// Gives back all of a reservation whose request was never sent.
    pub fn refund(&mut self, reservation: Reservation, now: Timestamp) {
        self.settle(reservation, &Cost::ZERO, now);
    }

    /// How much of `unit` could be taken at `now`: the least over its dimensions, negative in
    /// debt. `None` if no dimension meters it.
    #[must_use]
    pub fn available(&self, unit: Unit, now: Timestamp) -> Option<i64> {
        let left = self.left(now).filter(|(of, _)| *of == unit);
        left.map(|(_, left)| left).min()
    }

    /// How much of each unit that is metered could be taken at `now`, as [`available`](Self::available)
    /// counts it.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Vec<(Unit, i64)> {
        let mut remaining: Vec<(Unit, i64)> = Vec::new();
        for (unit, left) in self.left(now) {
            match remaining.iter_mut().find(|(other, _)| *other == unit) {
                Some((_, least)) => *least = left.min(*least),
                None => remaining.push((unit, left)),
            }
        }
        remaining
    }

    /// How much could be taken at `now` in each dimension.
    fn left(&self, now: Timestamp) -> impl Iterator<Item = (Unit, i64)> {
        let dimensions = self.dimensions.iter();
        dimensions.map(move |dimension| (dimension.limit.unit, dimension.available(now)))
    }

    /// The share of the quota that is left at `now`, in millionths: of the dimension in which it
    /// is the smallest, zero in debt. What is left is measured against the burst, in a paced
    /// dimension against what a whole period grants.
    #[must_use]
    pub fn headroom(&self, now: Timestamp) -> u32 {
        let shares = self.dimensions.iter().map(|dim| dim.headroom(now));
        shares.min().unwrap_or(MILLION)
    }

    /// Whether nothing limits it, at least not yet.
    pub(super) fn is_unlimited(&self) -> bool {
        self.dimensions.is_empty()
    }

    /// The instant at which nothing is left spent if nothing more is taken: from then on the
    /// bucket is as good as new.
    #[must_use]
    pub fn full_at(&self) -> Timestamp {
        self.dimensions
            .iter()
            .map(Dimension::full_at)
            .max()
            .unwrap_or(Timestamp::ZERO)
    }

    /// Changes the quota at `now`. What has been spent stays spent: in the dimension of the same
    /// unit and period, or, for a continuous dimension of a new period, as much as in the most
    /// spent continuous one of its unit. Other dimensions begin full, and windows reset when the
    /// new quota says, counted from `now`. What the server has shown of units that count stays; what
    /// it shows in answers to calls from before decides nothing.
    pub fn set_quota(&mut self, quota: &Quota, now: Timestamp) {
        self.keep_back(0, now);
        let shown = self.shown();
        let mut old = std::mem::take(&mut self.dimensions);
        let shown = old.split_off(old.len() - shown);
        self.slack = nanos(quota);
        self.dimensions = quota
            .limits()
            .iter()
            .map(|limit| {
                let same = old.iter().find(|dimension| dimension.is_over_same(limit));
                let alike = || {
                    let alike = old.iter().filter(|dimension| dimension.is_alike(limit));
                    alike.max_by_key(|dimension| dimension.tokens_spent(now))
                };
                same.or_else(alike).map_or_else(
                    || Dimension::new(limit, now),
                    |dimension| dimension.under(limit, now),
                )
            })
            .collect();
        self.keep_shown(shown, now);
        self.set_learning(quota.learns(), now);
    }
}

/// A whole, in millionths.
const MILLION: u32 = 1_000_000;

fn nanos(quota: &Quota) -> u64 {
    super::nanos(quota.slack())
}

// === impl Dimension ===

/// One limit and what is spent under it.
#[derive(Clone, Debug)]
struct Dimension {
    limit: Limit,
    /// The limit's period but for what is kept back after refusals.
    period: u64,
    /// Continuous: tokens × period, draining by `limit.amount` each nanosecond from `updated`.
    /// Window: tokens since the window began.
    spent: i128,
    /// Continuous: the instant that `spent` is of.
    updated: Timestamp,
    /// What was reserved before this instant is there again or was never taken here: since the
    /// dimension began, was last found drained, or its window was last reset.
    restored: Timestamp,
    /// Window: the instant at which `spent` becomes zero.
    resets_at: Timestamp,
    /// The largest cost taken or burst shown so far, the capacity of a paced dimension.
    largest: u64,
    /// Whether the server has shown it. What does not fit is then for the server to refuse: it is
    /// let through when nothing is spent.
    is_shown: bool,
}

impl Dimension {
    fn new(limit: &Limit, now: Timestamp) -> Self {
        let resets_in = match limit.shape {
            Shape::Continuous { .. } => 0,
            Shape::Window { resets_in } => resets_in,
        };
        Self {
            limit: *limit,
            period: limit.period,
            spent: 0,
            updated: now,
            restored: now,
            resets_at: now + Duration::from_nanos(resets_in),
            largest: 1,
            is_shown: false,
        }
    }

    /// One token as `spent` counts it.
    #[inline]
    fn token(&self) -> i128 {
        match self.limit.shape {
            Shape::Continuous { .. } => i128::from(self.limit.period),
            Shape::Window { .. } => 1,
        }
    }

    /// The most that can be taken at once by a call of this cost.
    #[inline]
    fn capacity(&self, cost: u64) -> u64 {
        match self.limit.shape {
            Shape::Continuous { burst: None } => self.largest.max(cost),
            Shape::Continuous { burst: Some(burst) } => self.at_least(burst, cost),
            Shape::Window { .. } => self.at_least(self.limit.amount, cost),
        }
    }

    #[inline]
    fn at_least(&self, capacity: u64, cost: u64) -> u64 {
        if self.is_shown && cost > capacity {
            return cost;
        }
        capacity
    }

    /// Whether its capacity is our caution and no promise of the server's.
    fn is_paced(&self) -> bool {
        match self.limit.shape {
            Shape::Continuous { burst } => self.is_shown || burst.is_none(),
            Shape::Window { .. } => false,
        }
    }

    /// The most that could ever be taken at once.
    #[inline]
    fn most(&self) -> u64 {
        match self.limit.shape {
            _ if self.is_shown => u64::MAX,
            Shape::Continuous { burst: Some(burst) } => burst,
            _ => self.limit.amount,
        }
    }

    #[inline]
    fn spent_at(&self, now: Timestamp) -> i128 {
        match self.limit.shape {
            Shape::Continuous { .. } => {
                let elapsed = now.as_nanos().saturating_sub(self.updated.as_nanos());
                if elapsed == 0 {
                    return self.spent;
                }
                // Two words' product fits in two words.
                let drained = u128::from(elapsed) * u128::from(self.limit.amount);
                let left = (self.spent.max(0) as u128).saturating_sub(drained);
                left as i128
            }
            Shape::Window { .. } if now >= self.resets_at => 0,
            Shape::Window { .. } => self.spent,
        }
    }

    /// Brings the state up to `now`; time going backwards is no time.
    #[inline]
    fn advance(&mut self, now: Timestamp) {
        let was_spent = self.spent > 0;
        self.spent = self.spent_at(now);
        self.updated = self.updated.max(now);
        let is_continuous = matches!(self.limit.shape, Shape::Continuous { .. });
        if is_continuous && was_spent && self.spent == 0 {
            self.restored = self.updated;
        }
        if matches!(self.limit.shape, Shape::Window { .. }) && now >= self.resets_at {
            let late = now.since(self.resets_at).as_nanos();
            let windows = late / u128::from(self.limit.period) + 1;
            self.resets_at = self.windows_on(windows);
            let window = Duration::from_nanos(self.limit.period);
            self.restored = self.resets_at.before(window);
        }
    }

    /// The reset that comes `windows` after the next one.
    fn windows_on(&self, windows: u128) -> Timestamp {
        let ahead = windows.saturating_mul(u128::from(self.limit.period));
        self.resets_at + Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX))
    }

    #[inline]
    fn is_ready(&self, cost: &Cost, now: Timestamp) -> bool {
        let cost = cost.get(self.limit.unit);
        let room = i128::from(self.capacity(cost)) - i128::from(cost);
        cost <= self.most() && self.spent_at(now) <= room * self.token()
    }

    fn ready_after(
        &self,
        ahead: &Cost,
        largest: &Cost,
        cost: &Cost,
    ) -> Result<Timestamp, CostTooLarge> {
        let unit = self.limit.unit;
        let cost = cost.get(unit);
        if cost > self.most() {
            return Err(CostTooLarge::new(unit, cost, self.most()));
        }
        let wanted = i128::from(cost) + i128::from(ahead.get(unit));
        let capacity = self.capacity(cost.max(largest.get(unit)));
        let excess = self.spent + (wanted - i128::from(capacity)) * self.token();
        if excess <= 0 {
            return Ok(self.updated);
        }
        Ok(match self.limit.shape {
            Shape::Continuous { .. } => self.drained(excess),
            Shape::Window { .. } => {
                let excess = excess.unsigned_abs();
                self.windows_on(excess.div_ceil(u128::from(self.limit.amount)) - 1)
            }
        })
    }

    /// The instant by which `amount` of what is spent has drained, rounded up.
    fn drained(&self, amount: i128) -> Timestamp {
        let wait = amount
            .unsigned_abs()
            .div_ceil(u128::from(self.limit.amount));
        self.updated + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    #[inline]
    fn take(&mut self, cost: &Cost, at: Timestamp, now: Timestamp, slack: u64) {
        let cost = cost.get(self.limit.unit);
        if cost == 0 {
            return;
        }
        let is_on_time = at == now || self.bridges(slack, cost);
        self.advance(if is_on_time { now } else { at });
        self.spent += i128::from(cost) * self.token();
        self.largest = self.largest.max(cost);
    }

    /// Whether a call of this cost, granted `slack` late, finds the bucket short of full: then
    /// nothing that drained meanwhile is lost by charging it as of now.
    fn bridges(&self, slack: u64, cost: u64) -> bool {
        match self.limit.shape {
            Shape::Continuous { .. } => {
                let drains = i128::from(self.limit.amount) * i128::from(slack);
                let room = i128::from(self.capacity(cost)) - i128::from(cost);
                room * self.token() >= drains
            }
            Shape::Window { .. } => true,
        }
    }

    fn settle(&mut self, reservation: &Reservation, used: &Cost, now: Timestamp) {
        let unit = self.limit.unit;
        let was_sent = *used != Cost::ZERO;
        let (reserved, used) = (reservation.cost.get(unit), used.get(unit));
        if reserved == used {
            return;
        }
        self.advance(now);
        let is_lenient = was_sent && self.is_paced();
        if !is_lenient && reservation.at < self.restored && used < reserved {
            return;
        }
        let difference = i128::from(used) - i128::from(reserved);
        let most = self.most_debt();
        let spent = self.spent + difference * self.token();
        if !is_lenient && spent <= 0 {
            // Part of it had drained: without it the dimension would have been full by now, and
            // nothing that others reserved before is spent any more.
            self.restored = self.restored.max(now);
        }
        // What exceeds the capacity of a paced dimension is there for those who wait for it
        // already: with the next instant it is gone.
        let least = if is_lenient { i128::MIN } else { 0 };
        self.spent = spent.clamp(least, most);
    }

    /// The most that can be spent after a settlement.
    fn most_debt(&self) -> i128 {
        let debt = i128::from(self.limit.amount) * MOST_DEBT_PERIODS;
        let held = i128::from(self.most().max(self.capacity(0)));
        self.spent.max((held + debt) * self.token())
    }

    fn available(&self, now: Timestamp) -> i64 {
        let capacity = i128::from(self.capacity(0));
        let left = (capacity * self.token() - self.spent_at(now)).div_euclid(self.token());
        i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX })
    }

    fn headroom(&self, now: Timestamp) -> u32 {
        let whole = match self.limit.shape {
            Shape::Continuous { burst: Some(burst) } => burst,
            _ => self.limit.amount,
        };
        let whole = (i128::from(whole) * self.token()).unsigned_abs();
        let left = whole.saturating_sub(self.spent_at(now).max(0).unsigned_abs());
        // 43 bits and the 20 of a million fit a word, whose division is quick.
        let excess = (u128::BITS - whole.leading_zeros()).saturating_sub(43);
        ((left >> excess) as u64 * u64::from(MILLION) / (whole >> excess) as u64) as u32
    }

    fn full_at(&self) -> Timestamp {
        match self.limit.shape {
            _ if self.spent <= 0 => self.updated,
            Shape::Continuous { .. } => self.drained(self.spent),
            Shape::Window { .. } => self.resets_at,
        }
    }

    /// Whether `limit` is this dimension's own, possibly with other numbers.
    fn is_over_same(&self, limit: &Limit) -> bool {
        (self.limit.unit, self.limit.nominal) == (limit.unit, limit.nominal)
            && matches!(self.limit.shape, Shape::Window { .. })
                == matches!(limit.shape, Shape::Window { .. })
    }

    /// Whether what is spent under this dimension tells what is spent under `limit`.
    fn is_alike(&self, limit: &Limit) -> bool {
        let is_continuous = |shape| matches!(shape, Shape::Continuous { .. });
        self.limit.unit == limit.unit
            && is_continuous(self.limit.shape)
            && is_continuous(limit.shape)
    }

    /// What is spent, in whole tokens, rounded up.
    fn tokens_spent(&self, now: Timestamp) -> i128 {
        -(-self.spent_at(now).max(0)).div_euclid(self.token())
    }

    /// This dimension's state under other numbers.
    fn under(&self, limit: &Limit, now: Timestamp) -> Self {
        let mut kept = self.clone();
        kept.advance(now);
        (kept.limit, kept.period) = (*limit, limit.period);
        if self.limit.period != limit.period {
            kept.spent = self.tokens_spent(now) * kept.token();
        }
        if let Shape::Window { resets_in } = limit.shape {
            kept.resets_at = now + Duration::from_nanos(resets_in);
        }
        kept
    }
}

#[cfg(test)]
mod tests;
