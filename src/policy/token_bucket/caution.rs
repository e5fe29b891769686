//! What is kept back after refusals that the books did not foresee.

use std::time::Duration;

use super::{Dimension, Shape, Timestamp, TokenBucket};

/// What the first refusal keeps back, in thousandths: more than any clock in order is off.
const FIRST: u16 = 10;
/// What each further one adds.
const FURTHER: u16 = 4;
/// And the most: a server that grants less than this has another quota than the one configured.
const MOST: u16 = 30;
/// After this long without a refusal a thousandth is tried again.
const EASED_AFTER: Duration = Duration::from_secs(600);
/// Longer limits have other reasons to refuse.
const LONGEST_PERIOD: u64 = 60_000_000_000;

/// How much less than the quota is used, because the server refused what the quota allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caution {
    per_mille: u16,
    /// When it was last changed.
    since: Timestamp,
    /// When less of it is tried.
    pub(super) eases_at: Timestamp,
}

impl Caution {
    pub(super) const NONE: Self = Self {
        per_mille: 0,
        since: Timestamp::ZERO,
        eases_at: Timestamp::MAX,
    };
}

impl TokenBucket {
    /// Hears that the call of a reservation taken at this instant was refused for its rate: the
    /// server's clock is slower, it charges more, or it looks at shorter times than the quota says.
    pub(super) fn heed_refusal(&mut self, at: Timestamp, now: Timestamp) -> bool {
        let kept = self.caution.per_mille;
        if kept > 0 && at <= self.caution.since {
            // It was sent before the last refusal was heeded.
            return false;
        }
        let more = if kept == 0 { FIRST } else { kept + FURTHER };
        self.keep_back(more.min(MOST), now);
        true
    }

    /// Tries a little more again.
    pub(super) fn ease(&mut self, now: Timestamp) {
        self.keep_back(self.caution.per_mille.saturating_sub(1), now);
    }

    pub(super) fn keep_back(&mut self, per_mille: u16, now: Timestamp) {
        self.caution = match per_mille {
            0 => Caution::NONE,
            _ => Caution {
                per_mille,
                since: now,
                eases_at: now + EASED_AFTER,
            },
        };
        for dimension in &mut self.dimensions {
            dimension.keep_back(per_mille, now);
        }
        self.set_attention();
    }
}

impl Dimension {
    fn keep_back(&mut self, per_mille: u16, now: Timestamp) {
        let is_short = self.limit.nominal <= LONGEST_PERIOD;
        if !is_short || !matches!(self.limit.shape, Shape::Continuous { .. }) {
            return;
        }
        self.advance(now);
        let longer = u128::from(self.period) * u128::from(1_000 + per_mille) / 1_000;
        let longer = u64::try_from(longer).unwrap_or(self.period);
        // As many tokens as before, rounded up.
        let spent = self.spent * i128::from(longer);
        self.spent = -(-spent).div_euclid(self.token());
        self.limit.period = longer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Cost, Quota, Readings};

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn refused(bucket: &mut TokenBucket, now: Timestamp) -> bool {
        let call = bucket.take(&Cost::REQUEST, now);
        bucket.observe(&call, &Readings::NONE.of_refusal(), now)
    }

    /// How long one request takes, in nanoseconds.
    fn pace(bucket: &mut TokenBucket, now: Timestamp) -> u64 {
        drop(bucket.take(&Cost::REQUEST, now));
        let first = bucket.ready_at(&Cost::REQUEST).expect("it fits");
        drop(bucket.take(&Cost::REQUEST, first));
        let second = bucket.ready_at(&Cost::REQUEST).expect("it fits");
        second.since(first).as_nanos() as u64
    }

    fn bucket() -> TokenBucket {
        let quota = Quota::builder().requests_per_second(10).build();
        TokenBucket::new(&quota.expect("it is valid"), START)
    }

    #[test]
    fn a_refusal_keeps_a_hundredth_back_and_further_ones_some_more_to_a_bound() {
        let mut bucket = bucket();
        let mut now = START;
        for per_mille in [10, 14, 18, 22, 26, 30, 30, 30] {
            now = now + Duration::from_secs(60);
            assert!(refused(&mut bucket, now));
            assert_eq!(pace(&mut bucket, now), 100_000_000 + per_mille * 100_000);
        }
    }

    #[test]
    fn what_was_sent_together_is_refused_once() {
        let mut bucket = bucket();
        let calls = [(); 8].map(|()| bucket.take(&Cost::REQUEST, START));
        let now = START + Duration::from_secs(1);
        let heard = calls
            .iter()
            .filter(|call| bucket.observe(call, &Readings::NONE.of_refusal(), now));
        assert_eq!(heard.count(), 1);
        assert_eq!(
            pace(&mut bucket, now + Duration::from_secs(60)),
            101_000_000
        );
    }

    #[test]
    fn without_refusals_it_is_forgotten_a_thousandth_in_ten_minutes() {
        let mut bucket = bucket();
        assert!(refused(&mut bucket, START));
        let mut now = START;
        for per_mille in (0..10).rev() {
            now = now + EASED_AFTER;
            assert_eq!(pace(&mut bucket, now), 100_000_000 + per_mille * 100_000);
        }
        assert_eq!(pace(&mut bucket, now + EASED_AFTER * 9), 100_000_000);
    }

    #[test]
    fn what_is_spent_stays_spent_and_a_new_quota_begins_anew() {
        let quota = Quota::builder().tokens_per_minute(6_000);
        let quota = quota.burst(crate::policy::Unit::TOKENS, 6_000).build();
        let quota = quota.expect("it is valid");
        let mut bucket = TokenBucket::new(&quota, START);
        let large = Cost::REQUEST.input_tokens(4_000);
        let call = bucket.take(&large, START);
        let tokens = crate::policy::Unit::TOKENS;
        assert!(bucket.observe(&call, &Readings::NONE.of_refusal(), START));
        assert_eq!(bucket.available(tokens, START), Some(2_000));
        let later = START + Duration::from_secs(10);
        assert_eq!(bucket.available(tokens, later), Some(2_990));
        bucket.set_quota(&quota, later);
        assert_eq!(
            bucket.available(tokens, later + Duration::from_secs(10)),
            Some(3_990)
        );
    }
}
