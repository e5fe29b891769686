//! What is granted, and when.

use super::*;

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
fn a_cost_of_zero_takes_nothing_late_either() {
    let mut bucket = bucket(Quota::builder().requests_per_second(1));
    drop(bucket.take(&Cost::REQUEST, START));
    drop(bucket.take_late(&Cost::ZERO, START, START + MS));
    assert_eq!(ready(&bucket, &Cost::REQUEST), START + SECOND);
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
