//! What holds whatever is asked, taken and settled.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Step {
    idle: u64,
    cost: u64,
    used: Option<u64>,
    late: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop_oneof![Just(0), 0..2_000_000_u64, 0..2_000_000_000_u64],
        0..40_u64,
        prop_oneof![Just(None), (0..80_u64).prop_map(Some)],
        prop_oneof![Just(0), 0..5_000_000_u64],
    );
    let step = step.prop_map(|(idle, cost, used, late)| Step {
        idle,
        cost,
        used,
        late,
    });
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// The envelope, over every window that begins and ends with a grant.
    #[test]
    fn grants_stay_within_burst_and_rate(
        steps in steps(),
        rate in 1..50_000_u64,
        burst in prop_oneof![Just(None), (40..200_u64).prop_map(Some)],
    ) {
        let mut quota = Quota::builder().rate(Unit::INPUT_TOKENS, rate, SECOND);
        if let Some(burst) = burst {
            quota = quota.burst(Unit::INPUT_TOKENS, burst);
        }
        let mut bucket = bucket(quota);
        let mut now = START;
        let mut sent: Vec<(Timestamp, u64)> = Vec::new();
        for step in &steps {
            now = now + Duration::from_nanos(step.idle);
            let cost = Cost::ZERO.input_tokens(step.cost.min(rate));
            let due = ready(&bucket, &cost).max(now);
            // The grant is made late, by no more than the slack.
            now = due + Duration::from_nanos(step.late);
            drop(bucket.take_late(&cost, due, now));
            sent.push((now, cost.get(Unit::INPUT_TOKENS)));
        }
        let largest = sent.iter().map(|(_, cost)| *cost).max().unwrap_or(1).max(1);
        let burst = burst.unwrap_or(largest);
        for (i, (from, _)) in sent.iter().enumerate() {
            let mut total = 0;
            for (until, cost) in &sent[i..] {
                total += cost;
                let window = until.since(*from) + 5 * MS;
                let allowed = u128::from(burst) * 1_000_000_000
                    + u128::from(rate) * window.as_nanos();
                prop_assert!(u128::from(total) * 1_000_000_000 <= allowed);
            }
        }
    }

    /// Nothing gets lost or invented: what was used in the end is what drains.
    #[test]
    fn the_books_balance(steps in steps(), rate in 1..50_000_u64) {
        let quota = Quota::builder()
            .rate(Unit::INPUT_TOKENS, rate, SECOND)
            .burst(Unit::INPUT_TOKENS, 1_000_000);
        let mut bucket = bucket(quota);
        let mut used = 0;
        for step in &steps {
            let reservation = bucket.take(&Cost::ZERO.input_tokens(step.cost), START);
            let real = step.used.unwrap_or(step.cost);
            bucket.settle(reservation, &Cost::ZERO.input_tokens(real), START);
            used += real;
        }
        let left = 1_000_000 - i64::try_from(used).expect("small");
        prop_assert_eq!(bucket.available(Unit::INPUT_TOKENS, START), Some(left));
        let wait = bucket.full_at().since(START).as_nanos();
        prop_assert_eq!(wait, (u128::from(used) * 1_000_000_000).div_ceil(u128::from(rate)));
    }

    /// `ready_at` is the first nanosecond at which `is_ready` holds.
    #[test]
    fn a_wait_is_neither_too_long_nor_too_short(
        spent in 1..5_000_u64,
        cost in 1..100_u64,
        rate in 100..100_000_u64,
    ) {
        let mut bucket = bucket(Quota::builder().rate(Unit::INPUT_TOKENS, rate, SECOND));
        drop(bucket.take(&Cost::ZERO.input_tokens(spent), START));
        let cost = Cost::ZERO.input_tokens(cost);
        let at = ready(&bucket, &cost);
        prop_assert!(bucket.is_ready(&cost, at));
        if at > START {
            prop_assert!(!bucket.is_ready(&cost, at.before(Duration::from_nanos(1))));
        }
    }
}
