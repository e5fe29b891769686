//! The quota of one scope: four buckets taken all or nothing, and a bound on calls in flight.

use crate::{bucket::Bucket, clock::Timestamp, config::Limits};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    Requests,
    InputTokens,
    OutputTokens,
    /// Input and output together.
    Tokens,
}

/// One value per dimension, in the order of [`Dimension::ALL`].
pub(crate) type PerDimension<T> = [T; 4];

/// What one call is charged.
pub(crate) fn cost(input_tokens: u64, max_tokens: u64) -> PerDimension<u64> {
    let tokens = input_tokens.saturating_add(max_tokens);
    [1, input_tokens, max_tokens, tokens]
}

impl Dimension {
    pub(crate) const ALL: PerDimension<Self> = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Tokens,
    ];

    fn limit(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Requests => limits.requests_per_minute,
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
        per_minute: u64,
        /// What the call would have been charged there.
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
    pub(crate) per_minute: u64,
    pub(crate) remaining: u64,
    pub(crate) full_at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Quota {
    limits: Limits,
    buckets: PerDimension<Option<Bucket>>,
}

impl Quota {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        let mut quota = Self {
            limits,
            buckets: [const { None }; 4],
        };
        quota.set_limits(limits, now);
        quota
    }

    /// Applies to the next admission; buckets keep what they hold or owe, a new dimension starts
    /// with a full one.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        self.limits = limits;
        for (dimension, slot) in Dimension::ALL.into_iter().zip(&mut self.buckets) {
            match (dimension.limit(&limits), slot.as_mut()) {
                (None, _) => *slot = None,
                (Some(rate), Some(bucket)) => bucket.retune(rate, limits.burst, now),
                (Some(rate), None) => *slot = Some(Bucket::new(rate, limits.burst, now)),
            }
        }
    }

    /// Full buckets and empty ledgers under the same limits.
    pub(crate) fn reset(&mut self, now: Timestamp) {
        *self = Self::new(self.limits, now);
    }

    /// Charges every dimension, or none of them.
    pub(crate) fn admit(
        &mut self,
        cost: PerDimension<u64>,
        in_flight: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut binding = None;
        for (bucket, dimension, amount) in self.configured(cost) {
            let wait = bucket.wait(amount, now);
            if wait > binding.map_or(Duration::ZERO, |(_, _, _, longest)| longest) {
                binding = Some((dimension, bucket.per_minute(), amount, wait));
            }
        }
        if let Some((dimension, per_minute, requested, wait)) = binding {
            return Err(Refusal::Rate {
                dimension,
                per_minute,
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
        for (bucket, amount) in self.buckets.iter_mut().zip(cost) {
            if let Some(bucket) = bucket {
                bucket.charge(amount, now);
            }
        }
        Ok(())
    }

    pub(crate) fn gauges(&self, now: Timestamp) -> Vec<Gauge> {
        self.configured([(); 4])
            .map(|(bucket, dimension, ())| Gauge {
                dimension,
                per_minute: bucket.per_minute(),
                remaining: bucket.remaining(now),
                full_at: bucket.full_at(now),
            })
            .collect()
    }

    /// The share of the dimension that was used most.
    pub(crate) fn used_share(&self) -> f64 {
        self.buckets
            .iter()
            .flatten()
            .map(Bucket::used_share)
            .fold(0.0, f64::max)
    }

    fn configured<T>(
        &self,
        values: PerDimension<T>,
    ) -> impl Iterator<Item = (&Bucket, Dimension, T)> {
        let pairs = Dimension::ALL.into_iter().zip(values);
        self.buckets
            .iter()
            .zip(pairs)
            .filter_map(|(bucket, (dimension, value))| Some((bucket.as_ref()?, dimension, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Duration::ZERO;

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
        quota
            .admit(cost(90, 900), 0, NOW)
            .expect("a full quota admits");
        let refusal = quota
            .admit(cost(20, 1_000), 0, NOW)
            .expect_err("both token dimensions are short");
        let wait = Duration::from_millis(900);
        assert_eq!(
            refusal,
            Refusal::Rate {
                dimension: Dimension::OutputTokens,
                per_minute: 60_000,
                requested: 1_000,
                wait
            }
        );
        quota
            .admit(cost(10, 100), 0, NOW)
            .expect("the refused call took nothing");
    }

    #[test]
    fn calls_in_flight_bind_only_when_tokens_suffice() {
        let mut quota = Quota::new(limits(), NOW);
        assert_eq!(
            quota.admit(cost(1, 1), 4, NOW),
            Err(Refusal::InFlight { limit: 4 })
        );
        quota
            .admit(cost(1, 1), 3, NOW)
            .expect("the fourth call fits");
    }

    #[test]
    fn combined_tokens_are_input_and_output_together() {
        let combined = Limits {
            tokens_per_minute: Some(6_000),
            ..Limits::default()
        };
        let mut quota = Quota::new(combined, NOW);
        quota.admit(cost(60, 30), 0, NOW).expect("90 of 100");
        let refusal = quota.admit(cost(6, 6), 0, NOW).expect_err("12 of 10");
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
        quota.admit(cost(6, 4), 0, NOW).expect("the last 10");
    }
}
