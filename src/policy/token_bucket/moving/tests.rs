use proptest::prelude::*;

use super::*;
use crate::policy::{RateSearch, Reading};

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const TOKENS: Unit = Unit::INPUT_TOKENS;

fn seeking(rate: f64) -> Quota {
    let search = RateSearch::per_second(0.1..=1_000.0).starting_at(rate);
    let quota = Quota::builder().seek(Unit::REQUESTS, search).build();
    quota.expect("it is valid")
}

fn rate(bucket: &TokenBucket) -> f64 {
    bucket.sought_rate(Unit::REQUESTS).expect("it is sought")
}

fn refuse(bucket: &mut TokenBucket, call: &Reservation, now: Timestamp) -> bool {
    bucket.observe(call, &Readings::NONE.of_refusal(), now)
}

/// Takes as soon as it can, so often.
fn saturate(bucket: &mut TokenBucket, calls: usize, from: Timestamp) -> Timestamp {
    (0..calls).fold(from, |now, _| {
        let at = bucket.ready_at(&Cost::REQUEST).expect("it fits").max(now);
        drop(bucket.take(&Cost::REQUEST, at));
        at
    })
}

#[test]
fn a_rate_that_is_wanted_doubles_in_ten_seconds_and_an_idle_one_stays() {
    let mut bucket = TokenBucket::new(&seeking(10.0), START);
    let mut now = START;
    while now < START + 10 * SECOND {
        now = saturate(&mut bucket, 1, now);
    }
    assert!(
        (rate(&bucket) / 20.0 - 1.0).abs() < 0.02,
        "{}",
        rate(&bucket)
    );
    let before = rate(&bucket);
    for _ in 0..100 {
        // Half a call's time later than it could be.
        now = now + Duration::from_millis(75);
        drop(bucket.take(&Cost::REQUEST, now));
    }
    assert_eq!(rate(&bucket), before);
    assert_eq!(
        bucket.available(Unit::REQUESTS, now + 600 * SECOND),
        Some(1)
    );
}

#[test]
fn calls_sent_together_cut_once_and_nothing_is_kept_back_for_it() {
    let mut bucket = TokenBucket::new(&seeking(16.0), START);
    let calls = [(); 8].map(|()| bucket.take(&Cost::REQUEST, START));
    let now = START + SECOND;
    let cuts = calls.iter().filter(|call| refuse(&mut bucket, call, now));
    assert_eq!(cuts.count(), 1);
    assert!((rate(&bucket) - 0.95 * 8.0).abs() < 1e-6);
    assert_eq!(bucket.caution.eases_at, Timestamp::MAX);
}

#[test]
fn a_configured_limit_that_is_smaller_binds_and_leaves_the_search_where_it_was() {
    let quota = Quota::builder().requests_per_second(5).seek(
        Unit::REQUESTS,
        RateSearch::per_second(1.0..=100.0).starting_at(50.0),
    );
    let mut bucket = TokenBucket::new(&quota.build().expect("it is valid"), START);
    let end = saturate(&mut bucket, 101, START);
    assert_eq!(end.since(START), 20 * SECOND);
    assert_eq!(rate(&bucket), 50.0);
}

#[test]
fn a_limit_that_the_server_shows_goes_before_the_search() {
    let mut bucket = TokenBucket::new(&seeking(1.0), START);
    let call = bucket.take(&Cost::REQUEST, START);
    let day = Reading::new(Unit::REQUESTS, 86_400 * SECOND);
    let day = Readings::NONE.with(day.limit(100_000).remaining(99_999));
    bucket.observe(&call, &day, START);
    assert_eq!(rate(&bucket), 1.0, "a day's limit says nothing of the rate");

    let minute = Reading::new(Unit::REQUESTS, 60 * SECOND)
        .limit(6_000)
        .remaining(5_999);
    bucket.observe(&call, &Readings::NONE.with(minute), START);
    assert_eq!(bucket.sought_rate(Unit::REQUESTS), None);
    let now = saturate(&mut bucket, 3_000, START);
    let took = now.since(START).as_secs_f64();
    assert!((28.0..31.0).contains(&took), "100 a second: {took}");
    let call = bucket.take(&Cost::REQUEST, now);
    assert!(
        refuse(&mut bucket, &call, now),
        "and is doubted as without a search"
    );
    assert!(bucket.caution.eases_at < Timestamp::MAX);

    bucket.forget_shown(now);
    assert_eq!(rate(&bucket), 1.0);
}

#[test]
fn of_two_rates_that_are_sought_the_one_waited_for_is_cut() {
    let search = |rate| RateSearch::per_second(0.1..=1e6).starting_at(rate);
    let quota = Quota::builder()
        .seek(Unit::REQUESTS, search(100.0))
        .seek(TOKENS, search(500.0));
    let mut bucket = TokenBucket::new(&quota.build().expect("it is valid"), START);
    let cost = Cost::REQUEST.input_tokens(100);
    let mut now = START;
    for _ in 0..10 {
        now = bucket.ready_at(&cost).expect("it fits").max(now);
        drop(bucket.take(&cost, now));
    }
    let call = bucket.take(&cost, now);
    let tokens = bucket.sought_rate(TOKENS).expect("it is sought");
    // Taken without waiting: nothing is known, and all are cut.
    let mut other = bucket.clone();
    now = other.ready_at(&cost).expect("it fits");
    let waited = other.take(&cost, now);
    assert!(refuse(&mut other, &waited, now));
    assert_eq!(rate(&other), 100.0);
    assert!(other.sought_rate(TOKENS) < Some(tokens));
    let idle = now + 60 * SECOND;
    let late = bucket.take(&cost, idle);
    assert!(refuse(&mut bucket, &late, idle));
    assert!(rate(&bucket) < 100.0 && bucket.sought_rate(TOKENS) < Some(tokens));
    drop(call);
}

#[test]
fn a_quota_with_the_same_search_keeps_what_was_learned() {
    let mut bucket = TokenBucket::new(&seeking(40.0), START);
    let call = bucket.take(&Cost::REQUEST, START);
    assert!(refuse(&mut bucket, &call, START));
    let learned = rate(&bucket);
    let ready = bucket.ready_at(&Cost::REQUEST);
    bucket.set_quota(&seeking(40.0), START);
    assert_eq!(
        (rate(&bucket), bucket.ready_at(&Cost::REQUEST)),
        (learned, ready)
    );
    assert!(
        !refuse(&mut bucket, &call, START),
        "its call is from before"
    );
    bucket.set_quota(&seeking(30.0), START);
    assert_eq!(rate(&bucket), 30.0);
    let plain = Quota::builder().requests_per_second(7).build();
    bucket.set_quota(&plain.expect("it is valid"), START);
    assert_eq!(
        (bucket.sought_rate(Unit::REQUESTS), bucket.moving_count()),
        (None, 0)
    );
    assert_eq!(bucket.attends_at, Timestamp::MAX);
}

#[test]
fn what_was_never_sent_was_not_granted() {
    let mut one = TokenBucket::new(&seeking(10.0), START);
    let mut other = one.clone();
    let (mut now, mut late) = (START, START);
    for _ in 0..200 {
        now = saturate(&mut one, 1, now);
        let at = other.ready_at(&Cost::REQUEST).expect("it fits").max(late);
        let undone = other.take(&Cost::REQUEST, at);
        other.refund(undone, at);
        late = saturate(&mut other, 1, at);
    }
    for (bucket, at) in [(&mut one, now), (&mut other, late)] {
        for _ in 0..2 {
            let call = bucket.take(&Cost::REQUEST, at);
            refuse(bucket, &call, at);
        }
    }
    assert!(
        (rate(&one) / rate(&other) - 1.0).abs() < 0.05,
        "{one:?} {other:?}"
    );
}

#[test]
fn what_calls_turned_out_to_use_is_what_was_granted() {
    let search = RateSearch::per_second(1.0..=1e6).starting_at(100.0);
    let quota = Quota::builder().seek(TOKENS, search).build();
    let mut bucket = TokenBucket::new(&quota.expect("it is valid"), START);
    let (reserved, used) = (Cost::ZERO.input_tokens(5), Cost::ZERO.input_tokens(10));
    let first = bucket.take(&reserved, START);
    assert!(refuse(&mut bucket, &first, START));
    let mut now = START;
    for _ in 0..50 {
        now = bucket.ready_at(&reserved).expect("it fits").max(now);
        let call = bucket.take(&reserved, now);
        bucket.settle(call, &used, now);
    }
    let before = bucket.sought_rate(TOKENS).expect("it is sought");
    let last = bucket.take(&reserved, now);
    assert!(refuse(&mut bucket, &last, now));
    let ratio = bucket.sought_rate(TOKENS).expect("it is sought") / before;
    assert!((0.9..0.96).contains(&ratio), "{ratio}");
}

#[test]
fn a_bucket_is_remembered_while_what_it_learned_is_of_use() {
    let mut bucket = TokenBucket::new(&seeking(10.0), START);
    drop(bucket.take(&Cost::REQUEST, START));
    assert_eq!(bucket.full_at(), START + Duration::from_millis(100));
    #[cfg(feature = "rate-limit")]
    assert_eq!(bucket.forgettable_at(), START + 3600 * SECOND);
}

#[test]
fn another_floor_keeps_what_was_used_and_another_window_begins_anew() {
    let ramp = Ramp::above_per_minute(600);
    let quota = |ramp: Ramp| {
        Quota::builder()
            .ramp(TOKENS, ramp)
            .build()
            .expect("it is valid")
    };
    let mut bucket = TokenBucket::new(&quota(ramp.clone()), START);
    drop(bucket.take(&Cost::ZERO.input_tokens(50), START));
    let used = |bucket: &TokenBucket| {
        bucket
            .ramp(TOKENS, START)
            .expect("bounded")
            .state()
            .used()
            .to_vec()
    };
    bucket.set_quota(&quota(Ramp::above_per_minute(60)), START);
    assert_eq!(used(&bucket), [50]);
    bucket.set_quota(&quota(ramp.window(60 * SECOND)), START);
    assert_eq!(used(&bucket), [0]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Take as soon as possible, or this much later.
    Take {
        cost: u64,
        late: u64,
    },
    /// The last call is refused.
    Refused,
    /// Or turns out to be another size.
    Settled(u64),
    Refunded,
    /// Time passes, or goes back.
    Jump(u64),
    Back(u64),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..50_u64, prop_oneof![Just(0), 0..200_000_000_u64])
            .prop_map(|(cost, late)| Step::Take { cost, late }),
        2 => Just(Step::Refused),
        1 => (0..100_u64).prop_map(Step::Settled),
        1 => Just(Step::Refunded),
        1 => (0..3_600_000_000_000_u64).prop_map(Step::Jump),
        1 => (0..10_000_000_000_u64).prop_map(Step::Back),
        1 => Just(Step::Reload),
    ]
}

#[test]
fn what_drained_before_a_change_drained_at_the_rate_before() {
    let mut dimension = Dimension::moving(TOKENS, 10.0, START);
    dimension.spent = 100 * dimension.token();
    dimension.set_rate(amount_of(1.0), START + 5 * SECOND);
    assert_eq!(dimension.full_at(), START + 55 * SECOND);
    dimension.set_rate(amount_of(10.0), START + 15 * SECOND);
    assert_eq!(dimension.full_at(), START + 19 * SECOND);
}

proptest! {
    #[test]
    fn a_sought_rate_stays_in_its_bounds_and_never_sends_more(
        steps in prop::collection::vec(step(), 1..200),
        halves in any::<bool>(),
    ) {
        let search = RateSearch::per_second(2.0..=80.0).starting_at(20.0);
        let search = if halves { search.halving() } else { search };
        let quota = Quota::builder().seek(TOKENS, search).build().expect("it is valid");
        let mut bucket = TokenBucket::new(&quota, START);
        let mut now = START;
        let mut last = None;
        // What was sent, and the rate from then on, over the time since the last settlement.
        let mut sent: Vec<(Timestamp, u64, f64)> = Vec::new();
        for step in steps {
            match step {
                Step::Take { cost, late } => {
                    let cost = Cost::ZERO.input_tokens(cost);
                    now = bucket.ready_at(&cost).expect("it fits").max(now) + Duration::from_nanos(late);
                    prop_assert!(bucket.is_ready(&cost, now));
                    last = Some(bucket.take(&cost, now));
                    let rate = bucket.sought_rate(TOKENS).expect("it is sought");
                    sent.push((now, cost.get(TOKENS), rate));
                }
                Step::Refused => if let Some(call) = &last {
                    refuse(&mut bucket, call, now);
                    sent.push((now, 0, bucket.sought_rate(TOKENS).expect("it is sought")));
                }
                Step::Settled(used) => if let Some(call) = last.take() {
                    bucket.settle(call, &Cost::ZERO.input_tokens(used), now);
                    sent.clear();
                }
                Step::Refunded => if let Some(call) = last.take() {
                    bucket.refund(call, now);
                    sent.clear();
                }
                Step::Jump(nanos) => now = now + Duration::from_nanos(nanos),
                Step::Back(nanos) => {
                    now = now.before(Duration::from_nanos(nanos)).max(START);
                    sent.clear();
                }
                Step::Reload => bucket.set_quota(&quota, now),
            }
            let rate = bucket.sought_rate(TOKENS).expect("it is sought");
            prop_assert!((2.0..=80.0).contains(&rate), "{}", rate);
        }
        // In any window no more than the largest call and what flowed in at the rates in force. A
        // settlement before it may have left room for another.
        for (first, _) in sent.iter().enumerate() {
            let (mut total, mut flowed, mut largest) = (0.0, 0.0, 50.0_f64);
            for at in first..sent.len() {
                if at > first {
                    let passed = sent[at].0.since(sent[at - 1].0).as_secs_f64();
                    flowed += passed * sent[at - 1].2;
                }
                total += sent[at].1 as f64;
                largest = largest.max(sent[at].1 as f64);
                prop_assert!(total <= 150.0 + largest + flowed * (1.0 + 1e-9), "{total} {flowed}");
            }
        }
    }

    #[test]
    fn a_change_of_the_rate_mints_nothing(
        rates in prop::collection::vec(1e-5..1e9_f64, 1..50),
        spent in 1..u64::MAX,
    ) {
        let mut dimension = Dimension::moving(TOKENS, 1.0, START);
        dimension.spent = i128::from(spent) * dimension.token();
        for rate in rates {
            dimension.set_rate(amount_of(rate), START);
            prop_assert_eq!(dimension.spent, i128::from(spent) * dimension.token());
        }
    }
}
