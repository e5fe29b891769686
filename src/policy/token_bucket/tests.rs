use proptest::prelude::*;

use super::*;
use crate::policy::QuotaBuilder;

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const IMAGES: Unit = Unit::custom(0, "images");

fn bucket(quota: QuotaBuilder) -> TokenBucket {
    TokenBucket::new(&quota.build().expect("a valid quota"), START)
}

fn ready(bucket: &TokenBucket, cost: &Cost) -> Timestamp {
    bucket.ready_at(cost).expect("it fits the quota")
}

/// Takes `cost` at the first instant it is affordable from `now` on.
fn take_when_ready(bucket: &mut TokenBucket, cost: &Cost, now: Timestamp) -> Timestamp {
    let at = ready(bucket, cost).max(now);
    assert!(bucket.is_ready(cost, at), "ready_at and is_ready agree");
    drop(bucket.take(cost, at));
    at
}

#[test]
fn a_paced_bucket_grants_one_each_interval_exactly() {
    let mut bucket = bucket(Quota::builder().requests_per_second(3));
    let grants: Vec<_> = (0..7)
        .map(|_| take_when_ready(&mut bucket, &Cost::REQUEST, START))
        .map(|at| at.since(START).as_nanos())
        .collect();
    // Thirds of a second, each rounded up to a nanosecond.
    let third = 333_333_334;
    assert_eq!(grants, [0, 1, 2, 3, 4, 5, 6].map(|n| n * third));
}

#[test]
fn is_ready_turns_true_at_the_very_nanosecond() {
    let mut bucket = bucket(Quota::builder().requests_per_second(50));
    drop(bucket.take(&Cost::REQUEST, START));
    let at = START + 20 * MS;
    assert_eq!(ready(&bucket, &Cost::REQUEST), at);
    assert!(!bucket.is_ready(&Cost::REQUEST, at.before(Duration::from_nanos(1))));
    assert!(bucket.is_ready(&Cost::REQUEST, at));
}

#[test]
fn a_burst_is_saved_up_and_no_more() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(10)
            .burst(Unit::REQUESTS, 4),
    );
    let late = START + 1_000 * SECOND;
    let grants: Vec<_> = (0..6)
        .map(|_| take_when_ready(&mut bucket, &Cost::REQUEST, late).since(late))
        .collect();
    let none = Duration::ZERO;
    assert_eq!(grants, [none, none, none, none, 100 * MS, 200 * MS]);
}

#[test]
fn all_dimensions_are_taken_or_none() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(1_000)
            .input_tokens_per_minute(60_000)
            .output_tokens_per_minute(6_000),
    );
    let cost = Cost::REQUEST.input_tokens(100).output_tokens(50);
    drop(bucket.take(&cost, START));
    // 50 output tokens at 100 per second are the slowest.
    assert_eq!(ready(&bucket, &cost), START + 500 * MS);
    assert!(!bucket.is_ready(&cost, START + 499 * MS));
    assert!(bucket.is_ready(&cost, START + 500 * MS));
}

#[test]
fn combined_tokens_count_input_and_output() {
    let mut bucket = bucket(Quota::builder().tokens_per_minute(60_000));
    let cost = Cost::REQUEST.input_tokens(300).output_tokens(700);
    drop(bucket.take(&cost, START));
    assert_eq!(ready(&bucket, &cost), START + SECOND);
    assert_eq!(bucket.available(Unit::TOKENS, START), Some(0));
    assert_eq!(bucket.available(Unit::INPUT_TOKENS, START), None);
}

#[test]
fn a_cost_above_the_capacity_is_an_error_with_the_numbers() {
    let paced = bucket(Quota::builder().tokens_per_minute(500));
    assert!(paced.ready_at(&Cost::ZERO.input_tokens(500)).is_ok());
    let error = paced
        .ready_at(&Cost::ZERO.input_tokens(400).output_tokens(101))
        .expect_err("501 of 500");
    assert_eq!(
        (error.unit(), error.cost(), error.capacity()),
        (Unit::TOKENS, 501, 500)
    );
    assert_eq!(
        error.to_string(),
        "the call costs 501 tokens, but the quota never admits more than 500 at once"
    );
    let burst = bucket(Quota::builder().rate(IMAGES, 500, SECOND).burst(IMAGES, 20));
    assert!(burst.ready_at(&Cost::ZERO.of(IMAGES, 20)).is_ok());
    let error = burst.ready_at(&Cost::ZERO.of(IMAGES, 21));
    assert_eq!(error.expect_err("21 of 20").capacity(), 20);
    assert!(!burst.is_ready(&Cost::ZERO.of(IMAGES, 21), START + DAY));
    let window = bucket(Quota::builder().window(IMAGES, 5, DAY, DAY));
    let error = window.ready_at(&Cost::ZERO.of(IMAGES, 6));
    assert_eq!(error.expect_err("6 of 5").capacity(), 5);
}

#[test]
fn a_paced_dimension_holds_the_largest_cost_so_far() {
    let mut bucket = bucket(Quota::builder().input_tokens_per_minute(60_000));
    assert_eq!(bucket.available(Unit::INPUT_TOKENS, START), Some(1));
    let large = Cost::ZERO.input_tokens(1_000);
    let small = Cost::ZERO.input_tokens(10);
    // The first call finds the bucket full whatever it costs.
    assert_eq!(take_when_ready(&mut bucket, &large, START), START);
    // From then on the capacity is 1,000, and a small call waits for its own size alone.
    assert_eq!(ready(&bucket, &small), START + 10 * MS);
    assert_eq!(ready(&bucket, &large), START + SECOND);
    assert_eq!(
        bucket.available(Unit::INPUT_TOKENS, START + 10 * SECOND),
        Some(1_000)
    );
}

#[test]
fn a_larger_cost_waits_until_all_is_paid() {
    let mut bucket = bucket(Quota::builder().input_tokens_per_minute(60_000));
    drop(bucket.take(&Cost::ZERO.input_tokens(10), START));
    let large = Cost::ZERO.input_tokens(500);
    assert_eq!(ready(&bucket, &large), START + 10 * MS);
}

#[test]
fn settling_refunds_what_was_not_used() {
    let mut bucket = bucket(
        Quota::builder()
            .output_tokens_per_minute(60_000)
            .burst(Unit::OUTPUT_TOKENS, 1_000),
    );
    let reservation = bucket.take(&Cost::ZERO.output_tokens(800), START);
    assert_eq!(reservation.cost(), &Cost::ZERO.output_tokens(800));
    bucket.settle(reservation, &Cost::ZERO.output_tokens(300), START);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, START), Some(700));
}

#[test]
fn a_refund_never_fills_above_the_capacity() {
    let mut bucket = bucket(
        Quota::builder()
            .output_tokens_per_minute(60_000)
            .burst(Unit::OUTPUT_TOKENS, 1_000),
    );
    let reservation = bucket.take(&Cost::ZERO.output_tokens(800), START);
    let late = START + 60 * SECOND;
    bucket.refund(reservation, late);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, late), Some(1_000));
}

#[test]
fn what_has_drained_since_is_not_refunded_once_more() {
    let quota = Quota::builder()
        .output_tokens_per_minute(60_000)
        .burst(Unit::OUTPUT_TOKENS, 1_000);
    let hundred = Cost::ZERO.output_tokens(100);
    for used in [Cost::ZERO, Cost::ZERO.output_tokens(60)] {
        let mut bucket = bucket(quota.clone());
        let early = bucket.take(&hundred, START);
        let late = START + 200 * MS;
        let again = bucket.take(&hundred, late);
        bucket.settle(early, &used, late);
        assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, late), Some(900));
        bucket.refund(again, late);
        assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, late), Some(1_000));
        // A surcharge is due whenever it comes.
        let early = bucket.take(&hundred, late);
        let late = late + 200 * MS;
        bucket.settle(early, &Cost::ZERO.output_tokens(130), late);
        assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, late), Some(970));
    }
}

#[test]
fn a_refund_that_fills_the_bucket_leaves_earlier_reservations_nothing_to_refund() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(2)
            .burst(Unit::REQUESTS, 2),
    );
    let first = bucket.take(&Cost::REQUEST, START);
    let second = bucket.take(&Cost::REQUEST, START);
    let later = START + Duration::from_millis(533);
    bucket.refund(first, later);
    assert_eq!(bucket.available(Unit::REQUESTS, later), Some(2));
    let _sent = bucket.take(&Cost::REQUEST, later);
    bucket.refund(second, later);
    assert_eq!(bucket.available(Unit::REQUESTS, later), Some(1));
}

#[test]
fn a_new_quota_refunds_nothing_that_was_never_taken_from_it() {
    let per_minute = |amount| {
        Quota::builder()
            .output_tokens_per_minute(amount)
            .burst(Unit::OUTPUT_TOKENS, 1_000)
    };
    let mut bucket = bucket(Quota::builder().requests_per_second(5));
    let before = bucket.take(&Cost::REQUEST.output_tokens(800), START);
    let now = START + SECOND;
    bucket.set_quota(&per_minute(60).build().expect("valid"), now);
    drop(bucket.take(&Cost::ZERO.output_tokens(1_000), now));
    bucket.settle(before, &Cost::REQUEST, now);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, now), Some(0));

    let mut bucket = self::bucket(Quota::builder().window(IMAGES, 10, DAY, SECOND));
    let reservation = bucket.take(&Cost::ZERO.of(IMAGES, 4), START);
    let shifted = Quota::builder().window(IMAGES, 10, DAY, DAY).build();
    bucket.set_quota(&shifted.expect("valid"), START + 10 * MS);
    bucket.refund(reservation, START + 20 * MS);
    let left = bucket.available(IMAGES, START + 20 * MS);
    assert_eq!(left, Some(10), "it is of this very window");
}

#[test]
fn overspend_is_carried_as_debt() {
    let mut bucket = bucket(
        Quota::builder()
            .output_tokens_per_minute(60_000)
            .burst(Unit::OUTPUT_TOKENS, 1_000),
    );
    let reservation = bucket.take(&Cost::ZERO.output_tokens(800), START);
    let later = START + 100 * MS;
    bucket.settle(reservation, &Cost::ZERO.output_tokens(2_800), later);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, later), Some(-1_700));
    let one = Cost::ZERO.output_tokens(1);
    assert_eq!(ready(&bucket, &one), later + 1_701 * MS);
    assert!(!bucket.is_ready(&one, later + 1_700 * MS));
}

#[test]
fn a_surcharge_after_an_idle_time_is_not_forgiven() {
    let mut bucket = bucket(
        Quota::builder()
            .output_tokens_per_minute(60_000)
            .burst(Unit::OUTPUT_TOKENS, 100),
    );
    let reservation = bucket.take(&Cost::ZERO.output_tokens(10), START);
    let later = START + SECOND;
    bucket.settle(reservation, &Cost::ZERO.output_tokens(60), later);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, later), Some(50));
}

#[test]
fn debt_holds_up_calls_that_name_no_cost_in_its_unit() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(1_000)
            .output_tokens_per_minute(60_000),
    );
    let reservation = bucket.take(&Cost::REQUEST, START);
    bucket.settle(reservation, &Cost::REQUEST.output_tokens(501), START);
    // One token is the capacity of a dimension that nothing was taken from.
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + 500 * MS);
    assert!(!bucket.is_ready(&Cost::REQUEST, START + 499 * MS));
    assert!(bucket.is_ready(&Cost::REQUEST, START + 500 * MS));
}

#[test]
fn a_window_admits_its_amount_and_resets_at_its_instant() {
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 2, DAY, SECOND));
    for _ in 0..2 {
        assert!(bucket.is_ready(&Cost::REQUEST, START));
        drop(bucket.take(&Cost::REQUEST, START));
    }
    assert_eq!(bucket.available(Unit::REQUESTS, START), Some(0));
    assert!(!bucket.is_ready(&Cost::REQUEST, START));
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + SECOND);
    let reset = START + SECOND;
    assert_eq!(bucket.available(Unit::REQUESTS, reset), Some(2));
    for _ in 0..2 {
        assert!(bucket.is_ready(&Cost::REQUEST, reset));
        drop(bucket.take(&Cost::REQUEST, reset));
    }
    assert_eq!(ready(&bucket, &Cost::REQUEST), reset + DAY);
}

#[test]
fn idle_windows_do_not_add_up() {
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 2, SECOND, SECOND));
    drop(bucket.take(&Cost::REQUEST, START + 3 * SECOND + 500 * MS));
    drop(bucket.take(&Cost::REQUEST, START + 3 * SECOND + 500 * MS));
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + 4 * SECOND);
    drop(bucket.take(&Cost::REQUEST, START + 6 * SECOND));
    assert_eq!(bucket.full_at(), START + 7 * SECOND);
}

#[test]
fn a_window_forgets_refunds_of_earlier_windows_but_not_surcharges() {
    let mut bucket = bucket(Quota::builder().window(Unit::OUTPUT_TOKENS, 100, DAY, SECOND));
    let cost = Cost::ZERO.output_tokens(60);
    let (refunded, surcharged) = (bucket.take(&cost, START), bucket.take(&cost, START));
    let reset = START + SECOND;
    drop(bucket.take(&Cost::ZERO.output_tokens(50), reset));
    bucket.settle(refunded, &Cost::ZERO.output_tokens(10), reset);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, reset), Some(50));
    bucket.settle(surcharged, &Cost::ZERO.output_tokens(65), reset);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, reset), Some(45));
}

#[test]
fn a_window_refunds_within_itself() {
    let mut bucket = bucket(Quota::builder().window(Unit::OUTPUT_TOKENS, 100, DAY, SECOND));
    drop(bucket.take(&Cost::ZERO, START + SECOND));
    let reservation = bucket.take(&Cost::ZERO.output_tokens(60), START + SECOND);
    bucket.refund(reservation, START + 2 * SECOND);
    assert_eq!(
        bucket.available(Unit::OUTPUT_TOKENS, START + 2 * SECOND),
        Some(100)
    );
}

#[test]
fn the_estimate_counts_what_is_ahead() {
    let mut bucket = bucket(Quota::builder().requests_per_second(10));
    drop(bucket.take(&Cost::REQUEST, START));
    let ahead = Cost::ZERO.of(Unit::REQUESTS, 4);
    let expected = bucket.ready_after(&ahead, &Cost::REQUEST, &Cost::REQUEST);
    assert_eq!(expected, Ok(START + 500 * MS));
}

#[test]
fn the_estimate_counts_windows() {
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 10, DAY, SECOND));
    drop(bucket.take(&Cost::ZERO.of(Unit::REQUESTS, 9), START));
    let after = |ahead| {
        let ahead = Cost::ZERO.of(Unit::REQUESTS, ahead);
        let expected = bucket.ready_after(&ahead, &Cost::REQUEST, &Cost::REQUEST);
        expected.expect("it fits").since(START)
    };
    assert_eq!(after(0), Duration::ZERO);
    assert_eq!(after(1), SECOND);
    assert_eq!(after(10), SECOND);
    assert_eq!(after(11), SECOND + DAY);
    assert_eq!(after(21), SECOND + 2 * DAY);
}

#[test]
fn a_large_call_ahead_does_not_make_the_estimate_too_late() {
    let mut bucket = bucket(Quota::builder().input_tokens_per_minute(60_000));
    let small = Cost::ZERO.input_tokens(1);
    drop(bucket.take(&small, START));
    let large = Cost::ZERO.input_tokens(1_000);
    let estimate = bucket.ready_after(&large, &large, &small).expect("it fits");
    let after_large = take_when_ready(&mut bucket, &large, START);
    assert_eq!(after_large, START + MS);
    let real = take_when_ready(&mut bucket, &small, START);
    assert_eq!((estimate, real), (START + 2 * MS, START + 2 * MS));
}

#[test]
fn a_late_grant_loses_no_rate_of_a_paced_dimension() {
    let mut bucket = bucket(Quota::builder().requests_per_second(1_000));
    drop(bucket.take(&Cost::REQUEST, START));
    let due = ready(&bucket, &Cost::REQUEST);
    drop(bucket.take_late(&Cost::REQUEST, due, due + 3 * MS));
    assert_eq!(ready(&bucket, &Cost::REQUEST), due + MS);
}

#[test]
fn a_late_grant_of_a_dimension_with_room_is_charged_when_it_is_sent() {
    // 1,000 per second drain 5 in the slack: a burst of 6 bridges it, one of 5 does not.
    for (burst, left_after) in [(6, 5), (5, 5)] {
        let mut bucket = bucket(
            Quota::builder()
                .requests_per_second(1_000)
                .burst(Unit::REQUESTS, burst),
        );
        let now = START + 4 * MS;
        drop(bucket.take_late(&Cost::REQUEST, START, now));
        assert_eq!(
            bucket.available(Unit::REQUESTS, now),
            Some(left_after),
            "burst of {burst}"
        );
    }
}

#[test]
fn a_late_grant_across_a_reset_counts_in_the_window_it_is_sent_in() {
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 5, DAY, SECOND));
    let reset = START + SECOND;
    drop(bucket.take_late(&Cost::REQUEST, reset.before(MS), reset + MS));
    assert_eq!(bucket.available(Unit::REQUESTS, reset + MS), Some(4));
}

#[test]
fn a_cost_of_zero_takes_nothing_late_either() {
    let mut bucket = bucket(Quota::builder().requests_per_second(1));
    drop(bucket.take(&Cost::REQUEST, START));
    drop(bucket.take_late(&Cost::ZERO, START, START + MS));
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + SECOND);
}

#[test]
fn time_going_backwards_is_no_time() {
    let mut bucket = bucket(Quota::builder().requests_per_second(1).window(
        Unit::REQUESTS,
        5,
        DAY,
        DAY,
    ));
    drop(bucket.take(&Cost::REQUEST, START));
    drop(bucket.take(&Cost::REQUEST, Timestamp::ZERO));
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + 2 * SECOND);
    assert!(!bucket.is_ready(&Cost::REQUEST, Timestamp::ZERO));
}

#[test]
fn the_reading_is_right_without_traffic() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(2)
            .burst(Unit::REQUESTS, 10),
    );
    for _ in 0..10 {
        drop(bucket.take(&Cost::REQUEST, START));
    }
    for (after, left) in [(0, 0), (499, 0), (500, 1), (2_600, 5), (60_000, 10)] {
        let now = START + after * MS;
        assert_eq!(bucket.available(Unit::REQUESTS, now), Some(left));
    }
}

#[test]
fn the_least_of_several_dimensions_is_available() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(5)
            .window(Unit::REQUESTS, 3, DAY, DAY)
            .burst(Unit::REQUESTS, 4),
    );
    assert_eq!(bucket.available(Unit::REQUESTS, START), Some(3));
    drop(bucket.take(&Cost::REQUEST, START));
    assert_eq!(bucket.available(Unit::REQUESTS, START + SECOND), Some(2));
}

#[test]
fn a_bucket_is_as_good_as_new_when_all_has_drained() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(10)
            .burst(Unit::REQUESTS, 5),
    );
    assert_eq!(bucket.full_at(), START);
    for _ in 0..3 {
        drop(bucket.take(&Cost::REQUEST, START));
    }
    assert_eq!(bucket.full_at(), START + 300 * MS);
    let window = TokenBucket::new(
        &Quota::builder()
            .window(IMAGES, 5, DAY, DAY)
            .build()
            .expect("a valid quota"),
        START,
    );
    assert_eq!(window.full_at(), START, "nothing is counted in the window");
}

#[test]
fn a_smaller_quota_holds_at_once_and_keeps_what_is_spent() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(100)
            .burst(Unit::REQUESTS, 10),
    );
    for _ in 0..8 {
        drop(bucket.take(&Cost::REQUEST, START));
    }
    let smaller = Quota::builder()
        .requests_per_second(10)
        .burst(Unit::REQUESTS, 4)
        .slack(2 * MS)
        .build()
        .expect("a valid quota");
    let now = START + 20 * MS;
    bucket.set_quota(&smaller, now);
    // Two of the eight have drained at the old rate; six are spent of four.
    assert_eq!(bucket.available(Unit::REQUESTS, now), Some(-2));
    assert_eq!(ready(&bucket, &Cost::REQUEST), now + 300 * MS);
    assert_eq!(bucket.slack, 2_000_000);
}

#[test]
fn a_larger_quota_and_a_new_dimension_take_effect_at_once() {
    let mut bucket = bucket(Quota::builder().requests_per_second(1));
    drop(bucket.take(&Cost::REQUEST, START));
    let larger = Quota::builder()
        .requests_per_second(100)
        .tokens_per_minute(60)
        .build()
        .expect("a valid quota");
    bucket.set_quota(&larger, START);
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + 10 * MS);
    assert_eq!(bucket.available(Unit::TOKENS, START), Some(1));
}

#[test]
fn dimensions_are_told_apart_by_unit_period_and_shape() {
    let minute = 60 * SECOND;
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 10, minute, minute));
    drop(bucket.take(&Cost::ZERO.of(Unit::REQUESTS, 9), START));
    for (quota, left) in [
        // The same window with other numbers keeps its count, and takes the new reset.
        (
            Quota::builder().window(Unit::REQUESTS, 20, minute, SECOND),
            11,
        ),
        (Quota::builder().window(Unit::REQUESTS, 20, DAY, DAY), 20),
        (
            Quota::builder()
                .requests_per_minute(20)
                .burst(Unit::REQUESTS, 20),
            20,
        ),
        (Quota::builder().window(IMAGES, 20, minute, SECOND), 20),
    ] {
        let mut bucket = bucket.clone();
        let quota = quota.build().expect("a valid quota");
        bucket.set_quota(&quota, START);
        let unit = quota.limits()[0].unit;
        assert_eq!(bucket.available(unit, START), Some(left), "{quota:?}");
    }
    let earlier = Quota::builder().window(Unit::REQUESTS, 10, minute, SECOND);
    bucket.set_quota(&earlier.build().expect("a valid quota"), START);
    let two = Cost::ZERO.of(Unit::REQUESTS, 2);
    assert_eq!(ready(&bucket, &two), START + SECOND);
}

#[test]
fn a_quota_over_another_period_keeps_what_is_spent() {
    let mut bucket = bucket(
        Quota::builder()
            .requests_per_second(10)
            .requests_per_hour(100)
            .burst(Unit::REQUESTS, 20),
    );
    for _ in 0..12 {
        drop(bucket.take(&Cost::REQUEST, START));
    }
    let now = START + 150 * MS;
    let per_minute = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 20);
    bucket.set_quota(&per_minute.build().expect("a valid quota"), now);
    // The hour's dimension has the most left to drain: all but a part of one.
    assert_eq!(bucket.available(Unit::REQUESTS, now), Some(8));
    let full = now + 1_200 * MS;
    assert_eq!(bucket.full_at(), full);
}

#[test]
fn a_reading_beyond_its_type_stops_at_the_bound() {
    let mut bucket = bucket(
        Quota::builder()
            .rate(Unit::INPUT_TOKENS, u64::MAX, SECOND)
            .burst(Unit::INPUT_TOKENS, u64::MAX),
    );
    let left = |bucket: &TokenBucket| bucket.available(Unit::INPUT_TOKENS, START);
    assert_eq!(left(&bucket), Some(i64::MAX));
    let reservation = bucket.take(&Cost::ZERO.input_tokens(u64::MAX), START);
    assert_eq!(left(&bucket), Some(0));
    drop(bucket.take(&Cost::ZERO.input_tokens(u64::MAX), START));
    assert_eq!(left(&bucket), Some(i64::MIN));
    bucket.refund(reservation, START);
    assert_eq!(left(&bucket), Some(0));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let period = Duration::from_secs(400 * 24 * 3600);
    let mut bucket = bucket(
        Quota::builder()
            .rate(Unit::INPUT_TOKENS, u64::MAX, period)
            .rate(Unit::OUTPUT_TOKENS, 1, period)
            .window(IMAGES, u64::MAX, period, period),
    );
    let huge = Cost::ZERO.input_tokens(u64::MAX).of(IMAGES, u64::MAX);
    let reservation = bucket.take(&huge, START);
    bucket.settle(
        reservation,
        &huge.output_tokens(u64::MAX),
        Timestamp::MAX.before(DAY),
    );
    // Debt is bounded: sixty periods and the one token that the bucket holds.
    let later = Timestamp::MAX.before(DAY);
    assert_eq!(bucket.available(Unit::OUTPUT_TOKENS, later), Some(-60));
    for _ in 0..300 {
        let reservation = bucket.take(&Cost::ZERO, later);
        bucket.settle(reservation, &huge.output_tokens(u64::MAX), later);
    }
    assert!(!bucket.is_ready(&Cost::REQUEST, Timestamp::MAX));
    let estimate = bucket.ready_after(&huge, &huge, &huge);
    assert_eq!(estimate, Ok(Timestamp::MAX));
}

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

#[test]
fn headroom_is_the_share_left_in_the_scarcest_dimension() {
    let quota = Quota::builder()
        .requests_per_minute(6_000)
        .input_tokens_per_minute(60_000)
        .burst(Unit::INPUT_TOKENS, 1_000)
        .window(IMAGES, 3_000_000_000_000, DAY, DAY);
    let mut bucket = bucket(quota);
    assert_eq!(bucket.headroom(START), 1_000_000);
    let _ = bucket.take(&Cost::REQUEST.input_tokens(250), START);
    assert_eq!(bucket.headroom(START), 750_000, "of the burst");
    assert_eq!(bucket.headroom(START + MS * 125), 875_000);
    let paid = START + MS * 250;
    assert_eq!(bucket.headroom(paid), 1_000_000);
    let _ = bucket.take(&Cost::ZERO.of(Unit::REQUESTS, 60), paid);
    assert_eq!(bucket.headroom(paid), 990_000, "of a period where it paces");
    let _ = bucket.take(&Cost::ZERO.of(IMAGES, 2_000_000_000_000), paid);
    assert_eq!(bucket.headroom(paid + SECOND), 333_333, "of the window");
    let _ = bucket.take(&Cost::ZERO.input_tokens(5_000), paid);
    assert_eq!(bucket.headroom(paid), 0, "in debt");
}
