use std::{num::NonZeroUsize, time::Duration};

use super::{InvalidConfig, Ramp, RateSearch, Unit, nanos, rate_search::Search};

mod moving;

use self::moving::{check_ramps, checked_searches};

/// The longest period: leap years fit, and exact arithmetic cannot overflow.
pub(super) const LONGEST_PERIOD: Duration = Duration::from_secs(400 * 24 * 3600);
/// More slack than this would be a burst by another name.
const LONGEST_SLACK: Duration = Duration::from_secs(1);

/// A margin above this would be another quota.
const LARGEST_MARGIN: u16 = 500;
const PER_MILLE: u64 = 1_000;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a provider grants: limits that a call must pass all or nothing.
///
/// Each limit meters one [`Unit`], either refilling continuously or as a window that resets at
/// an instant; on top there may be a limit of calls in flight.
///
/// ```
/// use tower_relay::policy::Quota;
///
/// let quota = Quota::builder()
///     .requests_per_minute(4_000)
///     .input_tokens_per_minute(400_000)
///     .output_tokens_per_minute(80_000)
///     .max_in_flight(100)
///     .build()?;
/// assert_eq!(quota.max_in_flight().map(|n| n.get()), Some(100));
///
/// let error = Quota::builder().requests_per_minute(0).build().unwrap_err();
/// assert_eq!(error.field(), "requests_per_minute");
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
///
/// # Burst
///
/// A continuous limit is **paced** until [`burst`](QuotaBuilder::burst) says otherwise: idle
/// time saves up no more than the largest single cost seen so far, so the provider never sees a
/// burst that it has not been said to allow, or has shown to: see
/// [`TokenBucket::observe`](super::TokenBucket::observe).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    limits: Vec<Limit>,
    max_in_flight: Option<NonZeroUsize>,
    slack: u64,
    /// Whether limits are learned that are not here.
    learns: bool,
    searches: Vec<Search>,
    ramps: Vec<(Unit, Ramp)>,
}

/// One dimension: `amount` of `unit` in `period` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) unit: Unit,
    pub(super) amount: u64,
    pub(super) period: u64,
    /// The period as it was said; `period` is longer where there is a margin.
    pub(super) nominal: u64,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Refills without pause; holds `burst`, or paces where that is unsaid.
    Continuous { burst: Option<u64> },
    /// Counts until it resets, first after `resets_in` nanoseconds, then every period.
    Window { resets_in: u64 },
}

impl Quota {
    /// Usual runtimes fire timers up to 1 ms late, a busy worker some more, and a task needs a
    /// moment to pick its grant up; more would let a stall turn into a burst.
    pub(crate) const DEFAULT_SLACK: Duration = Duration::from_millis(5);

    /// A quota under construction, with no limit yet.
    pub const fn builder() -> QuotaBuilder {
        QuotaBuilder {
            limits: Vec::new(),
            bursts: Vec::new(),
            max_in_flight: None,
            slack: Self::DEFAULT_SLACK,
            margin: 0,
            learns: false,
            searches: Vec::new(),
            ramps: Vec::new(),
        }
    }

    /// A quota of which nothing is known but what the server shows: see
    /// [`QuotaBuilder::learn`].
    ///
    /// ```
    /// use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket};
    ///
    /// let mut bucket = TokenBucket::new(&Quota::learned(), Timestamp::ZERO);
    /// let sent = (0..200).take_while(|_| {
    ///     let is_ready = bucket.is_ready(&Cost::REQUEST, Timestamp::ZERO);
    ///     bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    ///     is_ready
    /// });
    /// assert_eq!(sent.count(), 8);
    /// ```
    #[must_use]
    pub const fn learned() -> Self {
        Self {
            limits: Vec::new(),
            max_in_flight: None,
            slack: nanos(Self::DEFAULT_SLACK),
            learns: true,
            searches: Vec::new(),
            ramps: Vec::new(),
        }
    }

    /// How many calls may be in flight at once, if that is limited.
    #[must_use]
    pub const fn max_in_flight(&self) -> Option<NonZeroUsize> {
        self.max_in_flight
    }

    /// How late a call may be sent after the instant it is charged as of.
    #[must_use]
    pub const fn slack(&self) -> Duration {
        Duration::from_nanos(self.slack)
    }

    /// Whether all its dimensions drain alike, so that of two buckets of this quota the one that
    /// is full sooner has more left in its scarcest dimension, at any instant.
    pub(super) fn is_uniform(&self) -> bool {
        let first = self.limits.first();
        let alike = |limit: &Limit| match (limit.shape, first) {
            (Shape::Continuous { burst }, Some(first)) => {
                limit.period == first.period && burst.is_none_or(|burst| burst == limit.amount)
            }
            _ => false,
        };
        let is_fixed = !self.learns && self.searches.is_empty() && self.ramps.is_empty();
        is_fixed && self.max_in_flight.is_none() && self.limits.iter().all(alike)
    }

    /// This quota with the burst of `unit` set.
    #[cfg(feature = "rate-limit")]
    pub(crate) fn with_burst(mut self, unit: Unit, amount: u64) -> Result<Self, InvalidConfig> {
        apply_burst(&mut self.limits, unit, amount)?;
        Ok(self)
    }

    /// No limit at all, where a limit is an option.
    #[cfg(feature = "key-rotation")]
    pub(crate) const fn unlimited() -> Self {
        Self {
            limits: Vec::new(),
            max_in_flight: None,
            slack: nanos(Self::DEFAULT_SLACK),
            learns: false,
            searches: Vec::new(),
            ramps: Vec::new(),
        }
    }

    /// Whether limits are learned that are not here.
    pub(super) const fn learns(&self) -> bool {
        self.learns
    }

    pub(super) fn limits(&self) -> &[Limit] {
        &self.limits
    }

    pub(super) fn searches(&self) -> &[Search] {
        &self.searches
    }

    pub(super) fn ramps(&self) -> &[(Unit, Ramp)] {
        &self.ramps
    }
}

/// Builds a [`Quota`].
#[derive(Clone, Debug)]
#[must_use]
pub struct QuotaBuilder {
    limits: Vec<(&'static str, Limit)>,
    bursts: Vec<(Unit, u64)>,
    max_in_flight: Option<usize>,
    slack: Duration,
    margin: u16,
    learns: bool,
    searches: Vec<(Unit, RateSearch)>,
    ramps: Vec<(Unit, Ramp)>,
}

impl QuotaBuilder {
    /// At most `amount` requests per second.
    pub fn requests_per_second(self, amount: u64) -> Self {
        self.continuous("requests_per_second", Unit::REQUESTS, amount, SECOND)
    }

    /// At most `amount` requests per minute.
    pub fn requests_per_minute(self, amount: u64) -> Self {
        self.continuous("requests_per_minute", Unit::REQUESTS, amount, MINUTE)
    }

    /// At most `amount` requests per hour.
    pub fn requests_per_hour(self, amount: u64) -> Self {
        self.continuous("requests_per_hour", Unit::REQUESTS, amount, HOUR)
    }

    /// At most `amount` input tokens per minute.
    pub fn input_tokens_per_minute(self, amount: u64) -> Self {
        self.continuous(
            "input_tokens_per_minute",
            Unit::INPUT_TOKENS,
            amount,
            MINUTE,
        )
    }

    /// At most `amount` output tokens per minute.
    pub fn output_tokens_per_minute(self, amount: u64) -> Self {
        self.continuous(
            "output_tokens_per_minute",
            Unit::OUTPUT_TOKENS,
            amount,
            MINUTE,
        )
    }

    /// At most `amount` tokens per minute, input and output together.
    pub fn tokens_per_minute(self, amount: u64) -> Self {
        self.continuous("tokens_per_minute", Unit::TOKENS, amount, MINUTE)
    }

    /// At most `amount` of `unit` per `period`, refilled continuously.
    pub fn rate(self, unit: Unit, amount: u64, period: Duration) -> Self {
        self.continuous("rate", unit, amount, period)
    }

    /// At most `amount` of `unit` in each window of `period`; the present window ends in
    /// `resets_in`. For quotas per day or month, which providers reset at an instant.
    ///
    /// A reset admits a whole new amount at once, so pair a window with a continuous limit.
    pub fn window(
        mut self,
        unit: Unit,
        amount: u64,
        period: Duration,
        resets_in: Duration,
    ) -> Self {
        let limit = Limit {
            unit,
            amount,
            period: nanos(period),
            nominal: nanos(period),
            shape: Shape::Window {
                resets_in: nanos(resets_in),
            },
        };
        self.limits.push(("window", limit));
        self
    }

    /// Lets the continuous limits of `unit` save up to `amount` while idle, which then may be
    /// spent at once. Default: paced, see [`Quota`].
    pub fn burst(mut self, unit: Unit, amount: u64) -> Self {
        self.bursts.retain(|(burst_unit, _)| *burst_unit != unit);
        self.bursts.push((unit, amount));
        self
    }

    /// At most `calls` in flight at once. Default: no limit.
    pub const fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = Some(calls);
        self
    }

    /// How late a call may be sent after the instant it is charged as of, at most a second.
    /// Default: 5 ms.
    ///
    /// Sends in any window `w` stay within `burst + rate × (w + slack)`. A slack of zero never
    /// charges an earlier instant; every late timer then costs rate: at 500 requests per second and
    /// burst 1 a sixth of it, at 5,000 four fifths. A task has 1 ms to pick its grant
    /// up even if the slack is less.
    pub const fn slack(mut self, slack: Duration) -> Self {
        self.slack = slack;
        self
    }

    /// Keeps this many thousandths of every limit back, at most 500. Default: 0.
    ///
    /// For servers that show no limits. No two clocks run alike: at 0 a client that always has
    /// work is refused for good by a server whose clock is slower by any amount, as often as it is
    /// slower. What 10 keeps back, a hundredth, is more than any clock in order is off. Where the
    /// server shows what is left, [`TokenBucket::observe`](super::TokenBucket::observe) needs none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket};
    ///
    /// let quota = Quota::builder().requests_per_minute(60).margin_per_mille(200).build()?;
    /// let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    /// let next = bucket.ready_at(&Cost::REQUEST)?;
    /// assert_eq!(next.since(Timestamp::ZERO), Duration::from_millis(1_250));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn margin_per_mille(mut self, thousandths: u16) -> Self {
        self.margin = thousandths;
        self
    }

    /// Learns limits that are not in this quota from what the server shows of them, and keeps
    /// them. Default: only units that the quota limits are corrected, because headers may speak
    /// of somebody else's limits.
    ///
    /// Until the first answer that shows a limit, calls are kept to 8 at once and 2 per second;
    /// a server that has shown nothing for a minute of calls shows nothing, and there is then no
    /// limit but those of the quota.
    pub const fn learn(mut self) -> Self {
        self.learns = true;
        self
    }

    /// Seeks the rate of `unit` that the server grants, for servers that neither tell nor show it:
    /// from refusals alone, as [`LearnedRate`](super::LearnedRate) does. Default: no rate is sought.
    ///
    /// - It is paced: idle time saves up one call. A configured limit of the unit holds beside it.
    /// - A refusal is blamed on the sought rate that callers waited for, or on all of them, once for
    ///   what was sent together. Nothing is kept back of the quota's other limits for it.
    /// - A limit of a minute or less that the server [shows](super::TokenBucket::observe) goes before:
    ///   the search then limits nothing.
    /// - Time in which nobody waited for the rate does not raise it.
    /// - Under a new quota with the same search, what was learned stays.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{
    ///     Cost, Quota, RateSearch, Readings, Timestamp, TokenBucket, Unit,
    /// };
    ///
    /// let search = RateSearch::per_second(1.0..=1_000.0).starting_at(40.0);
    /// let quota = Quota::builder().seek(Unit::REQUESTS, search).build()?;
    /// let mut bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// let call = bucket.take(&Cost::REQUEST, Timestamp::ZERO);
    /// assert_eq!(bucket.ready_at(&Cost::REQUEST)?.since(Timestamp::ZERO), Duration::from_millis(25));
    ///
    /// bucket.observe(&call, &Readings::NONE.of_refusal(), Timestamp::ZERO);
    /// // Half of it was too much, and the search begins below that.
    /// assert_eq!(bucket.sought_rate(Unit::REQUESTS), Some(19.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seek(mut self, unit: Unit, search: RateSearch) -> Self {
        self.searches.push((unit, search));
        self
    }

    /// Bounds how fast what is sent of `unit` may grow, for servers that punish growth. Default:
    /// unbounded, because the floor above which a server punishes differs by account, and one that
    /// is wrong costs hours.
    ///
    /// What is bounded is what was sent, not what was asked for: idle time lowers it again. It holds
    /// beside all other limits, and is paced. Costs that are settled later, such as those of output,
    /// are compared as they were settled, and paced as they were reserved; a bound is exact for what
    /// is known when a call is sent. A call that fails without being
    /// [refused](super::TokenBucket::observe) counts as used.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Ramp, Timestamp, TokenBucket, Unit};
    ///
    /// // 600 a minute are ten a second, less a margin and a call a minute.
    /// let ramp = Ramp::above_per_minute(600).percent(50).window(Duration::from_secs(900));
    /// let quota = Quota::builder().ramp(Unit::REQUESTS, ramp).build()?;
    /// let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// // Nothing is known of what was sent before it began, so the first call is paced as well.
    /// let wait = bucket.ready_at(&Cost::REQUEST)?.since(Timestamp::ZERO);
    /// assert_eq!(wait.as_micros(), 100_671);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ramp(mut self, unit: Unit, ramp: Ramp) -> Self {
        self.ramps.push((unit, ramp));
        self
    }

    /// The quota.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if a limit, burst or period is zero, a period is above 400 days, the
    /// slack above a second, the margin above a half, a burst names a unit without a continuous
    /// limit, a limit, search or ramp is given twice or out of its bounds, or nothing is limited and
    /// nothing to be learned at all.
    pub fn build(self) -> Result<Quota, InvalidConfig> {
        let mut limits: Vec<Limit> = Vec::with_capacity(self.limits.len());
        if self.margin > LARGEST_MARGIN {
            return Err(InvalidConfig::new(
                "margin_per_mille",
                format!("{} is above the most allowed, 500", self.margin),
            ));
        }
        for &(field, limit) in &self.limits {
            check(field, &limit)?;
            let same = |l: &Limit| (l.unit, l.nominal) == (limit.unit, limit.nominal);
            if limits.iter().any(same) {
                return Err(InvalidConfig::new(
                    field,
                    format!(
                        "{} are limited twice over the same period; keep one of the two",
                        limit.unit.name()
                    ),
                ));
            }
            let twin = limits.iter().find(|l| l.unit.is_mixed_up_with(limit.unit));
            if let Some(twin) = twin {
                return Err(InvalidConfig::new(
                    field,
                    format!(
                        "{} and {} are custom units of the same slot; give each its own",
                        twin.unit.name(),
                        limit.unit.name()
                    ),
                ));
            }
            limits.push(limit.with_margin(self.margin));
        }
        for &(unit, amount) in &self.bursts {
            apply_burst(&mut limits, unit, amount)?;
        }
        let max_in_flight = match self.max_in_flight.map(NonZeroUsize::new) {
            Some(None) => {
                return Err(InvalidConfig::new(
                    "max_in_flight",
                    "0 admits nothing; use at least 1, or leave it out for no limit",
                ));
            }
            Some(limit) => limit,
            None => None,
        };
        let searches = checked_searches(&self.searches, &limits)?;
        check_ramps(&self.ramps, &self.searches, &limits)?;
        let is_empty = limits.is_empty() && searches.is_empty() && self.ramps.is_empty();
        if is_empty && max_in_flight.is_none() && !self.learns {
            return Err(InvalidConfig::new(
                "quota",
                "nothing is limited; add at least one limit, such as requests_per_minute",
            ));
        }
        if self.slack > LONGEST_SLACK {
            return Err(InvalidConfig::new(
                "slack",
                format!("{:?} is above the most allowed, 1 s", self.slack),
            ));
        }
        Ok(Quota {
            limits,
            max_in_flight,
            slack: nanos(self.slack),
            learns: self.learns,
            searches,
            ramps: self.ramps,
        })
    }

    fn continuous(
        mut self,
        field: &'static str,
        unit: Unit,
        amount: u64,
        period: Duration,
    ) -> Self {
        let limit = Limit {
            unit,
            amount,
            period: nanos(period),
            nominal: nanos(period),
            shape: Shape::Continuous { burst: None },
        };
        self.limits.push((field, limit));
        self
    }
}

impl Limit {
    /// This limit with so many thousandths kept back, at most 500: a longer period, or less in a
    /// window.
    fn with_margin(mut self, thousandths: u16) -> Self {
        let kept = PER_MILLE - u64::from(thousandths);
        let share = |of: u64, by: u64| u128::from(of) * u128::from(by);
        match self.shape {
            Shape::Continuous { .. } => {
                let period = share(self.nominal, PER_MILLE).div_ceil(u128::from(kept));
                self.period = u64::try_from(period).expect("at most twice 400 days");
            }
            Shape::Window { .. } => {
                let amount = share(self.amount, kept) / u128::from(PER_MILLE);
                self.amount = u64::try_from(amount.max(1)).expect("no more than before");
            }
        }
        self
    }
}

fn check(field: &'static str, limit: &Limit) -> Result<(), InvalidConfig> {
    if limit.amount == 0 {
        return Err(InvalidConfig::new(
            field,
            format!(
                "a limit of 0 {} admits nothing; use at least 1, or leave it out for no limit",
                limit.unit.name()
            ),
        ));
    }
    if limit.period == 0 || limit.period > nanos(LONGEST_PERIOD) {
        return Err(InvalidConfig::new(
            field,
            "the period must be above zero and at most 400 days",
        ));
    }
    match limit.shape {
        Shape::Window { resets_in } if resets_in == 0 || resets_in > limit.period => Err(
            InvalidConfig::new(field, "resets_in must be above zero and at most the period"),
        ),
        _ => Ok(()),
    }
}

fn apply_burst(limits: &mut [Limit], unit: Unit, amount: u64) -> Result<(), InvalidConfig> {
    if amount == 0 {
        return Err(InvalidConfig::new(
            "burst",
            "0 admits nothing; use at least 1, or leave it out for pacing",
        ));
    }
    let mut applied = false;
    for limit in limits.iter_mut().filter(|limit| limit.unit == unit) {
        if let Shape::Continuous { burst } = &mut limit.shape {
            *burst = Some(amount);
            applied = true;
        }
    }
    if applied {
        return Ok(());
    }
    Err(InvalidConfig::new(
        "burst",
        format!("no continuous limit meters {}; add one", unit.name()),
    ))
}

#[cfg(test)]
mod tests;
