//! Refunds, surcharges and debt.

use super::*;

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
