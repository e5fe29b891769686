//! Windows that reset at an instant.

use super::*;

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
fn a_late_grant_across_a_reset_counts_in_the_window_it_is_sent_in() {
    let mut bucket = bucket(Quota::builder().window(Unit::REQUESTS, 5, DAY, SECOND));
    let reset = START + SECOND;
    drop(bucket.take_late(&Cost::REQUEST, reset.before(MS), reset + MS));
    assert_eq!(bucket.available(Unit::REQUESTS, reset + MS), Some(4));
}
