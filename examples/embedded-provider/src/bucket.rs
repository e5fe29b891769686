//! A token bucket with continuous, exact refill that may go into debt.

use crate::{books::Book, clock::Timestamp};
use std::time::Duration;

/// Grains in one token. A rate of `r` tokens per minute refills exactly `r` grains per nanosecond,
/// so all of the arithmetic is on integers and nothing is ever lost to rounding.
const GRAINS: i128 = 60_000_000_000;

/// The admission rule: an amount fits when the bucket holds it, or when the bucket is full.
///
/// The second half lets an amount larger than the capacity through, at the price of a debt that has
/// to be refilled before anything else fits. Over any window `w` the bucket therefore charges at
/// most `capacity + rate × w`, plus what the last charge exceeds the capacity by.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_minute: u64,
    capacity: i128,
    /// Negative in debt.
    level: i128,
    /// When `level` was true.
    at: Timestamp,
    ledger: Ledger,
}

/// What was charged, beside what could have been since the first charge.
#[derive(Debug, Default)]
struct Ledger {
    began: bool,
    /// Less what was credited.
    charged: i128,
    /// What refused calls took.
    wasted: i128,
    /// The lowest level, not above zero.
    lowest: i128,
    /// Capacity at the first charge.
    held: i128,
    /// The refill from the first charge up to the bucket's `at`.
    refilled: i128,
    /// The same up to the last charge.
    refilled_at_last_charge: i128,
}

impl Bucket {
    /// A full bucket that holds `burst` of its rate, though never less than one token.
    pub(crate) fn new(per_minute: u64, burst: Duration, now: Timestamp) -> Self {
        let capacity = refill(per_minute, burst).max(GRAINS);
        Self {
            per_minute,
            capacity,
            level: capacity,
            at: now,
            ledger: Ledger::default(),
        }
    }

    /// How long until `amount` fits; zero when it does now.
    pub(crate) fn wait(&self, amount: u64, now: Timestamp) -> Duration {
        self.time_to(grains(amount).min(self.capacity), now)
    }

    /// Takes `amount`, whether it fits or not.
    pub(crate) fn charge(&mut self, amount: u64, now: Timestamp) {
        self.settle(now);
        let ledger = &mut self.ledger;
        if !ledger.began {
            ledger.began = true;
            ledger.held = self.capacity;
        }
        ledger.charged = ledger.charged.saturating_add(grains(amount));
        ledger.refilled_at_last_charge = ledger.refilled;
        self.level = self.level.saturating_sub(grains(amount));
        ledger.lowest = ledger.lowest.min(self.level);
    }

    /// Gives back what was charged; what the bucket cannot hold is lost.
    pub(crate) fn credit(&mut self, amount: u64, now: Timestamp) {
        self.settle(now);
        self.ledger.charged = self.ledger.charged.saturating_sub(grains(amount));
        let level = self.level.saturating_add(grains(amount));
        self.level = level.min(self.capacity);
    }

    /// Takes as much of `amount` as there is, for nothing.
    pub(crate) fn waste(&mut self, amount: u64, now: Timestamp) {
        self.settle(now);
        let taken = grains(amount).min(self.level).max(0);
        self.level -= taken;
        self.ledger.wasted = self.ledger.wasted.saturating_add(taken);
    }

    /// Changes rate and capacity from now on; what the bucket holds or owes stays, cut to the new
    /// capacity.
    ///
    /// A bucket that never charged anything starts anew, full.
    pub(crate) fn retune(&mut self, per_minute: u64, burst: Duration, now: Timestamp) {
        let tuned = Self::new(per_minute, burst, now);
        if !self.ledger.began {
            *self = tuned;
            return;
        }
        self.settle(now);
        self.per_minute = tuned.per_minute;
        self.capacity = tuned.capacity;
        self.level = self.level.min(tuned.capacity);
    }

    /// Whole tokens held; zero in debt.
    pub(crate) fn remaining(&self, now: Timestamp) -> u64 {
        u64::try_from(self.level_at(now).max(0) / GRAINS).unwrap_or(u64::MAX)
    }

    /// When the bucket will be full if nothing more is charged.
    pub(crate) fn full_at(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.time_to(self.capacity, now))
    }

    /// Charged over offered between the first charge and the last; zero before the first.
    pub(crate) fn used_share(&self) -> f64 {
        let ledger = &self.ledger;
        if !ledger.began {
            return 0.0;
        }
        let offered = ledger.held.saturating_add(ledger.refilled_at_last_charge);
        ledger.charged as f64 / offered as f64
    }

    /// The books as of `now`.
    pub(crate) fn book(&mut self, now: Timestamp) -> Book {
        self.settle(now);
        let tokens = |grains: i128| grains as f64 / GRAINS as f64;
        Book {
            charged: tokens(self.ledger.charged),
            wasted: tokens(self.ledger.wasted),
            refilled: tokens(self.ledger.refilled),
            held: tokens(self.ledger.held),
            deepest_debt: tokens(-self.ledger.lowest),
        }
    }

    fn settle(&mut self, now: Timestamp) {
        let refilled = refill(self.per_minute, now.saturating_sub(self.at));
        if self.ledger.began {
            self.ledger.refilled = self.ledger.refilled.saturating_add(refilled);
        }
        self.level = self.level_at(now);
        self.at = self.at.max(now);
    }

    fn level_at(&self, now: Timestamp) -> i128 {
        let refilled = refill(self.per_minute, now.saturating_sub(self.at));
        self.level.saturating_add(refilled).min(self.capacity)
    }

    /// Rounded up to whole nanoseconds: at the end of the wait the level is reached, never just
    /// missed.
    fn time_to(&self, level: i128, now: Timestamp) -> Duration {
        let missing = level
            .saturating_sub(self.level_at(now))
            .max(0)
            .unsigned_abs();
        Duration::from_nanos(
            u64::try_from(missing.div_ceil(u128::from(self.per_minute))).unwrap_or(u64::MAX),
        )
    }
}

fn refill(per_minute: u64, span: Duration) -> i128 {
    let nanos = i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
    i128::from(per_minute).saturating_mul(nanos)
}

fn grains(amount: u64) -> i128 {
    i128::from(amount).saturating_mul(GRAINS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn refill_is_exact_to_the_nanosecond() {
        let mut bucket = Bucket::new(7, Duration::from_secs(60), Duration::ZERO);
        bucket.charge(7, Duration::ZERO);
        let wait = bucket.wait(1, Duration::ZERO);
        assert_eq!(wait, Duration::from_nanos(60_000_000_000u64.div_ceil(7)));
        assert!(!bucket.wait(1, wait - Duration::from_nanos(1)).is_zero());
        assert!(bucket.wait(1, wait).is_zero());
        assert_eq!(bucket.full_at(wait), Duration::from_secs(60));
    }

    #[test]
    fn no_bucket_holds_less_than_one() {
        let bucket = Bucket::new(1, Duration::from_nanos(1), Duration::ZERO);
        assert_eq!(bucket.remaining(Duration::ZERO), 1);
        assert!(bucket.wait(1, Duration::ZERO).is_zero());
    }

    #[test]
    fn amount_above_capacity_needs_a_full_bucket_and_leaves_debt() {
        let mut bucket = Bucket::new(600, SECOND, Duration::ZERO);
        bucket.charge(1, Duration::ZERO);
        assert_eq!(
            bucket.wait(35, Duration::ZERO),
            Duration::from_millis(100),
            "until full, not until 35"
        );
        bucket.charge(35, SECOND);
        assert_eq!(bucket.remaining(SECOND), 0);
        assert_eq!(
            bucket.wait(1, SECOND),
            Duration::from_millis(2_600),
            "25 owed and one more at 10 a second"
        );
        assert_eq!(bucket.full_at(SECOND), Duration::from_millis(4_500));
    }

    #[test]
    fn retuning_keeps_what_is_owed_and_cuts_what_is_held() {
        let mut bucket = Bucket::new(600, SECOND, Duration::ZERO);
        bucket.charge(2, Duration::ZERO);
        bucket.retune(60, Duration::from_secs(3), Duration::ZERO);
        assert_eq!(bucket.remaining(Duration::ZERO), 3);
        bucket.charge(5, Duration::ZERO);
        bucket.retune(6_000, SECOND, Duration::ZERO);
        assert_eq!(
            bucket.wait(1, Duration::ZERO),
            Duration::from_millis(30),
            "two owed and one more at 100 a second"
        );
    }

    #[test]
    fn used_share_counts_capacity_and_refill_up_to_the_last_charge() {
        let mut bucket = Bucket::new(60, Duration::from_secs(10), Duration::ZERO);
        assert_eq!(bucket.used_share(), 0.0);
        bucket.charge(5, Duration::from_secs(100));
        assert_eq!(
            bucket.used_share(),
            0.5,
            "time before the first charge does not count"
        );
        bucket.charge(5, Duration::from_secs(110));
        assert_eq!(bucket.used_share(), 0.5);
        bucket.retune(600, Duration::from_secs(1), Duration::from_secs(110));
        bucket.charge(10, Duration::from_secs(112));
        assert_eq!(
            bucket.used_share(),
            0.5,
            "each rate counts for its own time"
        );
    }

    #[test]
    fn what_is_credited_is_there_again_and_was_never_used() {
        let mut bucket = Bucket::new(600, SECOND, Duration::ZERO);
        bucket.charge(14, Duration::ZERO);
        bucket.credit(6, SECOND / 10);
        assert_eq!(bucket.remaining(SECOND / 10), 3, "1 refilled, 6 credited");
        bucket.credit(8, SECOND / 10);
        assert_eq!(
            bucket.remaining(SECOND / 10),
            10,
            "no more than the bucket holds"
        );
        let book = bucket.book(SECOND);
        assert_eq!((book.charged, book.refilled), (0.0, 10.0));
        assert_eq!((book.held, book.deepest_debt), (10.0, 4.0));
    }

    #[test]
    fn what_is_wasted_leaves_no_debt() {
        let mut bucket = Bucket::new(600, SECOND, Duration::ZERO);
        bucket.charge(7, Duration::ZERO);
        bucket.waste(5, Duration::ZERO);
        bucket.waste(5, Duration::ZERO);
        assert_eq!(bucket.wait(1, Duration::ZERO), SECOND / 10);
        let book = bucket.book(Duration::ZERO);
        assert_eq!((book.charged, book.wasted), (7.0, 3.0));
    }

    proptest! {
        #[test]
        fn charges_in_any_window_stay_in_the_envelope(
            per_minute in 1u64..100_000,
            burst_ms in 1u64..20_000,
            calls in prop::collection::vec((0u64..2_000_000_000, 1u64..5_000), 1..60),
        ) {
            let burst = Duration::from_millis(burst_ms);
            let mut bucket = Bucket::new(per_minute, burst, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut charged: Vec<(Duration, u64)> = Vec::new();
            for (gap, amount) in calls {
                now += Duration::from_nanos(gap);
                if bucket.wait(amount, now).is_zero() {
                    bucket.charge(amount, now);
                    charged.push((now, amount));
                }
            }
            for (first, (start, _)) in charged.iter().enumerate() {
                let mut sum = 0;
                for (end, amount) in &charged[first..] {
                    sum += grains(*amount);
                    let overshoot = (grains(*amount) - bucket.capacity).max(0);
                    let refilled = refill(per_minute, *end - *start);
                    prop_assert!(sum <= bucket.capacity + refilled + overshoot);
                }
            }
        }

        #[test]
        fn a_client_that_waits_as_told_is_always_admitted(
            per_minute in 1u64..100_000,
            amounts in prop::collection::vec(1u64..5_000, 1..40),
        ) {
            let mut bucket = Bucket::new(per_minute, SECOND, Duration::ZERO);
            let mut now = Duration::ZERO;
            for amount in amounts {
                now += bucket.wait(amount, now);
                prop_assert!(bucket.wait(amount, now).is_zero());
                bucket.charge(amount, now);
            }
        }
    }
}
