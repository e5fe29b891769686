//! A quota that is changed under a bucket in use.

use super::*;

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
