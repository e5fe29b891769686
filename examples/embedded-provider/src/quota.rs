//! The quota of one scope: meters taken all or nothing, and a bound on calls in flight.

use crate::{
    books::Book,
    bucket::Bucket,
    clock::Timestamp,
    config::{DAY, Limits},
    window::Window,
};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    Requests,
    RequestsPerDay,
    InputTokens,
    OutputTokens,
    /// Input and output together.
    Tokens,
}

/// One value per dimension, in the order of [`Dimension::ALL`].
pub(crate) type PerDimension<T> = [T; 5];

impl Dimension {
    pub(crate) const ALL: PerDimension<Self> = [
        Self::Requests,
        Self::RequestsPerDay,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Tokens,
    ];

    /// As the field of [`Limits`] is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::InputTokens => "input_tokens_per_minute",
            Self::OutputTokens => "output_tokens_per_minute",
            Self::Tokens => "tokens_per_minute",
        }
    }

    pub(crate) const fn is_requests(self) -> bool {
        matches!(self, Self::Requests | Self::RequestsPerDay)
    }

    fn limit(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Requests => limits.requests_per_minute,
            Self::RequestsPerDay => limits.requests_per_day,
            Self::InputTokens => limits.input_tokens_per_minute,
            Self::OutputTokens => limits.output_tokens_per_minute,
            Self::Tokens => limits.tokens_per_minute,
        }
    }
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The dimension with the longest wait, in provider time.
    Rate {
        dimension: Dimension,
        /// As configured, per minute or day.
        limit: u64,
        /// What the call would have needed there.
        requested: u64,
        wait: Duration,
    },
    /// Too many calls at a time; only the end of another one helps.
    InFlight { limit: u64 },
}

/// The state of one configured dimension, as the response headers tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    pub(crate) dimension: Dimension,
    /// As configured, per minute or day.
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// When nothing will be missing, if nothing more is charged.
    pub(crate) full_at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Quota {
    limits: Limits,
    meters: PerDimension<Option<Meter>>,
    /// What is told of a bucket instead of itself: as full a one as it would be if it held more.
    shown: PerDimension<Option<Meter>>,
}

#[derive(Debug)]
enum Meter {
    Bucket(Bucket),
    Window(Window),
}

/// How one dimension is metered.
#[derive(Clone, Copy)]
enum Shape {
    Bucket {
        per_minute: u64,
        burst: Duration,
    },
    Window {
        limit: u64,
        span: Duration,
        ends_in: Duration,
    },
}

impl Shape {
    fn of(dimension: Dimension, limits: &Limits) -> Option<Self> {
        let limit = dimension.limit(limits)?;
        Some(match (dimension, limits.requests_window) {
            (Dimension::RequestsPerDay, _) => Self::Window {
                limit,
                span: DAY,
                ends_in: limits.day_ends_in,
            },
            (Dimension::Requests, Some(span)) => Self::Window {
                limit: share_of_minute(limit, span),
                span,
                ends_in: span,
            },
            _ => Self::Bucket {
                per_minute: limit,
                burst: limits.burst,
            },
        })
    }

    /// The same with the burst that is told, if it is another.
    fn shown(self, limits: &Limits) -> Option<Self> {
        match self {
            Self::Bucket { per_minute, .. } => Some(Self::Bucket {
                per_minute,
                burst: limits.shown_burst?,
            }),
            Self::Window { .. } => None,
        }
    }
}

/// What a window may take of a limit per minute, at least 1.
fn share_of_minute(limit: u64, span: Duration) -> u64 {
    let share = u128::from(limit) * span.as_nanos() / 60_000_000_000;
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

impl Quota {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        let mut quota = Self {
            limits,
            meters: [const { None }; 5],
            shown: [const { None }; 5],
        };
        quota.set_limits(limits, now);
        quota
    }

    /// Applies to the next admission; meters keep what they hold or owe, a new dimension starts
    /// with a full one.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        self.limits = limits;
        for (dimension, slot) in Dimension::ALL.into_iter().zip(&mut self.meters) {
            let old = slot.take();
            *slot = Shape::of(dimension, &limits).map(|shape| Meter::under(shape, old, now));
        }
        for (dimension, slot) in Dimension::ALL.into_iter().zip(&mut self.shown) {
            let old = slot.take();
            let shape = Shape::of(dimension, &limits).and_then(|shape| shape.shown(&limits));
            *slot = shape.map(|shape| Meter::under(shape, old, now));
        }
    }

    /// Full meters and empty ledgers under the same limits.
    pub(crate) fn reset(&mut self, now: Timestamp) {
        *self = Self::new(self.limits, now);
    }

    /// Charges every dimension, or none of them if one does not hold what the call `needs`.
    pub(crate) fn admit(
        &mut self,
        needs: PerDimension<u64>,
        charge: PerDimension<u64>,
        in_flight: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.check(needs, in_flight, now)?;
        self.each(charge, |meter, amount| meter.charge(amount, now));
        Ok(())
    }

    /// Takes what is left of `charge` for a call that was refused, and tells how long it has to
    /// wait after that.
    pub(crate) fn waste(
        &mut self,
        needs: PerDimension<u64>,
        charge: PerDimension<u64>,
        in_flight: u64,
        now: Timestamp,
    ) -> Option<Refusal> {
        self.each(charge, |meter, amount| meter.waste(amount, now));
        self.check(needs, in_flight, now).err()
    }

    fn check(
        &self,
        needs: PerDimension<u64>,
        in_flight: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut binding = None;
        for (meter, dimension, amount) in self.configured(needs) {
            let wait = meter.wait(amount, now);
            if wait > binding.map_or(Duration::ZERO, |(_, _, longest)| longest) {
                binding = Some((dimension, amount, wait));
            }
        }
        if let Some((dimension, requested, wait)) = binding {
            return Err(Refusal::Rate {
                dimension,
                limit: dimension.limit(&self.limits).unwrap_or(0),
                requested,
                wait,
            });
        }
        if let Some(limit) = self
            .limits
            .max_in_flight
            .filter(|limit| in_flight >= *limit)
        {
            return Err(Refusal::InFlight { limit });
        }
        Ok(())
    }

    /// Replaces what a call was charged by what it is charged now.
    pub(crate) fn settle(
        &mut self,
        old: PerDimension<u64>,
        new: PerDimension<u64>,
        now: Timestamp,
    ) {
        let both = std::array::from_fn(|at| (old[at], new[at]));
        self.each(both, |meter, (old, new)| {
            if new > old {
                meter.charge(new - old, now);
            } else if old > new {
                meter.credit(old - new, now);
            }
        });
    }

    pub(crate) fn gauges(&self, now: Timestamp) -> Vec<Gauge> {
        self.configured(std::array::from_fn(|at| self.shown[at].as_ref()))
            .map(|(meter, dimension, shown)| {
                let meter = shown.unwrap_or(meter);
                Gauge {
                    dimension,
                    limit: dimension.limit(&self.limits).unwrap_or(0),
                    remaining: meter.remaining(now),
                    full_at: meter.full_at(now),
                }
            })
            .collect()
    }

    /// The share of the dimension that was used most.
    pub(crate) fn used_share(&self) -> f64 {
        self.meters
            .iter()
            .flatten()
            .map(Meter::used_share)
            .fold(0.0, f64::max)
    }

    pub(crate) fn books(&mut self, now: Timestamp) -> Vec<(&'static str, Book)> {
        let pairs = Dimension::ALL.into_iter().zip(&mut self.meters);
        pairs
            .filter_map(|(dimension, meter)| Some((dimension.name(), meter.as_mut()?.book(now))))
            .collect()
    }

    fn each<T: Copy>(&mut self, values: PerDimension<T>, mut change: impl FnMut(&mut Meter, T)) {
        for meters in [&mut self.meters, &mut self.shown] {
            for (meter, value) in meters.iter_mut().zip(values) {
                if let Some(meter) = meter {
                    change(meter, value);
                }
            }
        }
    }

    fn configured<T>(
        &self,
        values: PerDimension<T>,
    ) -> impl Iterator<Item = (&Meter, Dimension, T)> {
        let pairs = Dimension::ALL.into_iter().zip(values);
        self.meters
            .iter()
            .zip(pairs)
            .filter_map(|(meter, (dimension, value))| Some((meter.as_ref()?, dimension, value)))
    }
}

// === impl Meter ===

impl Meter {
    /// A meter of this shape, with what `old` holds or owes if it is of the same kind.
    fn under(shape: Shape, old: Option<Self>, now: Timestamp) -> Self {
        match (shape, old) {
            (Shape::Bucket { per_minute, burst }, Some(Self::Bucket(mut bucket))) => {
                bucket.retune(per_minute, burst, now);
                Self::Bucket(bucket)
            }
            (Shape::Bucket { per_minute, burst }, _) => {
                Self::Bucket(Bucket::new(per_minute, burst, now))
            }
            (Shape::Window { limit, span, .. }, Some(Self::Window(mut window))) => {
                window.retune(limit, span, now);
                Self::Window(window)
            }
            (
                Shape::Window {
                    limit,
                    span,
                    ends_in,
                },
                _,
            ) => Self::Window(Window::new(limit, span, ends_in, now)),
        }
    }

    fn wait(&self, amount: u64, now: Timestamp) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.wait(amount, now),
            Self::Window(window) => window.wait(amount, now),
        }
    }

    fn charge(&mut self, amount: u64, now: Timestamp) {
        match self {
            Self::Bucket(bucket) => bucket.charge(amount, now),
            Self::Window(window) => window.charge(amount, now),
        }
    }

    fn credit(&mut self, amount: u64, now: Timestamp) {
        match self {
            Self::Bucket(bucket) => bucket.credit(amount, now),
            Self::Window(window) => window.credit(amount, now),
        }
    }

    fn waste(&mut self, amount: u64, now: Timestamp) {
        match self {
            Self::Bucket(bucket) => bucket.waste(amount, now),
            Self::Window(window) => window.waste(amount, now),
        }
    }

    fn remaining(&self, now: Timestamp) -> u64 {
        match self {
            Self::Bucket(bucket) => bucket.remaining(now),
            Self::Window(window) => window.remaining(now),
        }
    }

    fn full_at(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Bucket(bucket) => bucket.full_at(now),
            Self::Window(window) => window.end(now),
        }
    }

    fn used_share(&self) -> f64 {
        match self {
            Self::Bucket(bucket) => bucket.used_share(),
            Self::Window(window) => window.used_share(),
        }
    }

    fn book(&mut self, now: Timestamp) -> Book {
        match self {
            Self::Bucket(bucket) => bucket.book(now),
            Self::Window(window) => window.book(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Duration::ZERO;

    /// Admits a call that is charged all that it needs.
    fn admit(quota: &mut Quota, input: u64, output: u64, in_flight: u64) -> Result<(), Refusal> {
        let cost = [1, 1, input, output, input + output];
        quota.admit(cost, cost, in_flight, NOW)
    }

    fn limits() -> Limits {
        Limits {
            requests_per_minute: Some(600),
            input_tokens_per_minute: Some(6_000),
            output_tokens_per_minute: Some(60_000),
            max_in_flight: Some(4),
            ..Limits::default()
        }
    }

    #[test]
    fn one_short_dimension_charges_none_and_the_longest_wait_binds() {
        let mut quota = Quota::new(limits(), NOW);
        admit(&mut quota, 90, 900, 0).expect("a full quota admits");
        let refusal = admit(&mut quota, 20, 1_000, 0).expect_err("both token dimensions are short");
        let wait = Duration::from_millis(900);
        assert_eq!(
            refusal,
            Refusal::Rate {
                dimension: Dimension::OutputTokens,
                limit: 60_000,
                requested: 1_000,
                wait
            }
        );
        admit(&mut quota, 10, 100, 0).expect("the refused call took nothing");
    }

    #[test]
    fn calls_in_flight_bind_only_when_tokens_suffice() {
        let mut quota = Quota::new(limits(), NOW);
        assert_eq!(
            admit(&mut quota, 1, 1, 4),
            Err(Refusal::InFlight { limit: 4 })
        );
        admit(&mut quota, 1, 1, 3).expect("the fourth call fits");
    }

    #[test]
    fn combined_tokens_are_input_and_output_together() {
        let combined = Limits {
            tokens_per_minute: Some(6_000),
            ..Limits::default()
        };
        let mut quota = Quota::new(combined, NOW);
        admit(&mut quota, 60, 30, 0).expect("90 of 100");
        let refusal = admit(&mut quota, 6, 6, 0).expect_err("12 of 10");
        let Refusal::Rate {
            dimension, wait, ..
        } = refusal
        else {
            panic!("{refusal:?} is no rate");
        };
        assert_eq!(
            (dimension, wait),
            (Dimension::Tokens, Duration::from_millis(20))
        );
        admit(&mut quota, 6, 4, 0).expect("the last 10");
    }

    #[test]
    fn a_settlement_charges_or_credits_the_difference_of_each_dimension() {
        let mut quota = Quota::new(limits(), NOW);
        admit(&mut quota, 50, 500, 0).expect("a full quota admits");
        quota.settle([1, 1, 50, 500, 550], [1, 1, 80, 100, 180], NOW);
        let left: Vec<_> = quota
            .gauges(NOW)
            .iter()
            .map(|gauge| gauge.remaining)
            .collect();
        assert_eq!(left, [9, 20, 900]);
        quota.settle([1, 1, 80, 100, 180], [1, 1, 130, 100, 230], NOW);
        admit(&mut quota, 1, 1, 0).expect_err("30 are owed");
    }

    #[test]
    fn a_window_takes_its_share_of_the_minute_and_a_day_its_own_limit() {
        let limits = Limits {
            requests_per_minute: Some(120),
            requests_window: Some(Duration::from_secs(1)),
            requests_per_day: Some(3),
            ..Limits::default()
        };
        let mut quota = Quota::new(limits, NOW);
        admit(&mut quota, 1, 1, 0).expect("the first of two");
        admit(&mut quota, 1, 1, 0).expect("the second");
        let refused = |refusal| match refusal {
            Refusal::Rate {
                dimension,
                limit,
                wait,
                ..
            } => (dimension, limit, wait),
            Refusal::InFlight { .. } => panic!("nothing limits calls in flight"),
        };
        let refusal = admit(&mut quota, 1, 1, 0).expect_err("no third in this second");
        let second = Duration::from_secs(1);
        assert_eq!(refused(refusal), (Dimension::Requests, 120, second));
        let cost = [1; 5];
        quota.admit(cost, cost, 0, second).expect("the third");
        let refusal = quota
            .admit(cost, cost, 0, second)
            .expect_err("no fourth today");
        assert_eq!(
            refused(refusal),
            (Dimension::RequestsPerDay, 3, DAY - second)
        );
    }
}
