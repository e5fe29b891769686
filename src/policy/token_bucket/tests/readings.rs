//! Estimates of a wait, and what is left.

use super::*;

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
