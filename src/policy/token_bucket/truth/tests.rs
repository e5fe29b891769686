mod crowd;

use proptest::prelude::*;

use self::crowd::{Crowd, Server};
use super::*;
use crate::policy::{Quota, QuotaBuilder};

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn built(builder: QuotaBuilder) -> Quota {
    builder.build().expect("a valid quota")
}

/// Requests a minute, all of which may be sent at once.
fn of_requests(limit: u64) -> TokenBucket {
    let quota = Quota::builder().requests_per_minute(limit);
    TokenBucket::new(&built(quota.burst(Unit::REQUESTS, limit)), START)
}

/// Input tokens a minute, all of which may be sent at once.
fn of_tokens(limit: u64) -> TokenBucket {
    let quota = Quota::builder().input_tokens_per_minute(limit);
    TokenBucket::new(&built(quota.burst(Unit::INPUT_TOKENS, limit)), START)
}

fn requests(limit: u64, remaining: u64) -> Readings {
    let reading = Reading::new(Unit::REQUESTS, MINUTE).limit(limit);
    Readings::NONE.with(reading.remaining(remaining))
}

fn available(bucket: &TokenBucket, now: Timestamp) -> i64 {
    bucket
        .available(Unit::REQUESTS, now)
        .expect("requests are limited")
}

#[test]
fn less_than_there_should_be_is_taken_off_at_once_and_more_smoothly() {
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let mut bucket = TokenBucket::new(&built(quota), START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 599), START);
    let call = bucket.take(&Cost::REQUEST, START);
    assert!(bucket.observe(&call, &requests(600, 200), START));
    // Up to 201 are left, for all that rounding says.
    assert_eq!(available(&bucket, START), 201);

    // It has restarted with all it holds: 598, of which a two-hundredth of the limit is not counted.
    let expected = [249, 291, 328];
    for (n, expected) in expected.into_iter().enumerate() {
        let call = bucket.take(&Cost::REQUEST, START);
        assert!(bucket.observe(&call, &requests(600, 597 - n as u64), START));
        assert_eq!(available(&bucket, START), expected);
    }
}

#[test]
fn calls_in_flight_do_not_correct_one_error_twice() {
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let mut bucket = TokenBucket::new(&built(quota), START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 599), START);
    let calls: Vec<_> = (0..100)
        .map(|_| bucket.take(&Cost::REQUEST, START))
        .collect();
    // Somebody else has taken 300 before the first of them.
    for (n, call) in calls.iter().enumerate() {
        bucket.observe(call, &requests(600, 298 - n as u64), START);
    }
    assert_eq!(available(&bucket, START), 200);
}

#[test]
fn good_news_from_before_the_bad_is_no_news() {
    let mut bucket = of_requests(600);
    let heard = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&heard, &requests(600, 599), START);
    let early = bucket.take(&Cost::REQUEST, START + 10 * SECOND);
    let now = START + 15 * SECOND;
    let late = bucket.take(&Cost::REQUEST, now);
    assert!(bucket.observe(&late, &requests(600, 100), now));
    let left = available(&bucket, now);
    assert!(!bucket.observe(&early, &requests(600, 500), now));
    assert_eq!(available(&bucket, now), left);
}

#[test]
fn within_what_rounding_leaves_open_nothing_is_corrected() {
    let mut bucket = of_tokens(100_000);
    let cost = Cost::REQUEST.input_tokens(1_200);
    let reading = Reading::new(Unit::INPUT_TOKENS, MINUTE)
        .limit(100_000)
        .rounded_to(1_000);
    let seen = |remaining| Readings::NONE.with(reading.remaining(remaining));
    let heard = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&heard, &seen(100_000), START);
    let call = bucket.take(&cost, START);
    bucket.observe(&call, &seen(80_000), START);
    let left = |bucket: &TokenBucket| bucket.available(Unit::INPUT_TOKENS, START);
    assert_eq!(left(&bucket), Some(80_501));
    let call = bucket.take(&cost, START);
    // 79,301 by our books: no figure within a thousand says anything.
    for rounded in [79_000, 80_000] {
        assert!(!bucket.observe(&call, &seen(rounded), START));
    }
    assert_eq!(left(&bucket), Some(79_301));
    // Answers to calls of other seconds, because those of one second must agree.
    let taken = |bucket: &mut TokenBucket, second: u32| {
        bucket.take(&Cost::REQUEST, START + second * 5 * SECOND)
    };
    let call = taken(&mut bucket, 1);
    assert!(bucket.observe(&call, &seen(77_000), START + 5 * SECOND));
    assert_eq!(
        bucket.available(Unit::INPUT_TOKENS, START + 5 * SECOND),
        Some(77_501)
    );

    // Near zero the lower end counts, and a two-hundredth of the limit less.
    let call = taken(&mut bucket, 2);
    assert!(bucket.observe(&call, &seen(1_000), START + 10 * SECOND));
    assert_eq!(
        bucket.available(Unit::INPUT_TOKENS, START + 10 * SECOND),
        Some(0)
    );
}

#[test]
fn a_paced_limit_learns_the_burst_that_was_shown_and_no_more() {
    let quota = built(Quota::builder().requests_per_minute(6_000));
    let mut bucket = TokenBucket::new(&quota, START);
    let call = bucket.take(&Cost::REQUEST, START);
    assert_eq!(available(&bucket, START + 5 * SECOND), 1);
    bucket.observe(&call, &requests(6_000, 80), START + 5 * SECOND);
    assert_eq!(available(&bucket, START + 50 * SECOND), 80);
    // And of more that remains a second's worth.
    let call = bucket.take(&Cost::REQUEST, START + 50 * SECOND);
    bucket.observe(&call, &requests(6_000, 4_000), START + 50 * SECOND);
    assert_eq!(available(&bucket, START + 100 * SECOND), 100);

    // Refused though much is left: such bursts are not taken after all.
    let now = START + 100 * SECOND;
    let calls: Vec<_> = (0..60).map(|_| bucket.take(&Cost::REQUEST, now)).collect();
    for call in &calls {
        bucket.observe(call, &requests(6_000, 3_000).of_refusal(), now + 100 * MS);
    }
    assert_eq!(available(&bucket, now + 100 * SECOND), 50);
}

#[test]
fn an_answer_from_before_a_new_quota_decides_nothing() {
    let quota = |limit| {
        built(
            Quota::builder()
                .requests_per_minute(limit)
                .burst(Unit::REQUESTS, limit),
        )
    };
    for is_known in [false, true] {
        let mut bucket = TokenBucket::new(&quota(600), START);
        if is_known {
            let call = bucket.take(&Cost::REQUEST, START);
            bucket.observe(&call, &requests(600, 599), START);
        }
        let call = bucket.take(&Cost::REQUEST, START);
        bucket.set_quota(&quota(300), START + SECOND);
        let now = START + 2 * SECOND;
        let left = available(&bucket, now);
        assert!(!bucket.observe(&call, &requests(600, 3), now));
        assert_eq!(available(&bucket, now), left);
        let call = bucket.take(&Cost::REQUEST, now);
        assert!(bucket.observe(&call, &requests(600, 100), now));
        assert!(available(&bucket, now) <= 101);
    }
}

#[test]
fn what_was_learned_stays_through_a_new_quota_as_long_as_its_unit_counts() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&call, &requests(60, 3), START);
    let left = available(&bucket, START);
    bucket.set_quota(
        &built(Quota::builder().requests_per_second(100).learn()),
        START,
    );
    assert_eq!(available(&bucket, START), left.min(1));
    bucket.set_quota(
        &built(
            Quota::builder()
                .requests_per_second(100)
                .burst(Unit::REQUESTS, 50),
        ),
        START,
    );
    assert_eq!(available(&bucket, START), left);
    bucket.set_quota(&built(Quota::builder().tokens_per_minute(100)), START);
    assert_eq!(bucket.available(Unit::REQUESTS, START), None);
}

#[test]
fn units_that_the_quota_does_not_limit_are_heard_only_where_it_learns() {
    let tokens = Reading::new(Unit::TOKENS, MINUTE)
        .limit(1_000)
        .remaining(10);
    let both = requests(60, 30).with(tokens);
    for learns in [false, true] {
        let mut quota = Quota::builder().requests_per_minute(60);
        if learns {
            quota = quota.learn();
        }
        let mut bucket = TokenBucket::new(&built(quota), START);
        let call = bucket.take(&Cost::REQUEST, START);
        bucket.observe(&call, &both, START);
        assert_eq!(bucket.available(Unit::TOKENS, START).is_some(), learns);
    }
}

#[test]
fn who_learns_starts_with_few_calls_until_a_limit_is_shown_or_a_minute_has_shown_none() {
    let fresh = || TokenBucket::new(&Quota::learned(), START);
    let send = |bucket: &mut TokenBucket, now| {
        let ready = |bucket: &TokenBucket| bucket.is_ready(&Cost::REQUEST, now);
        let mut calls = Vec::new();
        while calls.len() < 500 && ready(bucket) {
            calls.push(bucket.take(&Cost::REQUEST, now));
        }
        calls
    };
    let mut bucket = fresh();
    let calls = send(&mut bucket, START);
    assert_eq!(calls.len(), 8);
    assert_eq!(send(&mut bucket, START + SECOND).len(), 2);
    // A limit is paced from then on, however much remains of it.
    bucket.observe(&calls[7], &requests(600, 420), START + SECOND);
    assert_eq!(send(&mut bucket, START + SECOND).len(), 10);
    assert_eq!(send(&mut bucket, START + 2 * SECOND).len(), 10);

    let mut deaf = fresh();
    send(&mut deaf, START);
    assert_eq!(send(&mut deaf, START + 59 * SECOND).len(), 8);
    assert_eq!(send(&mut deaf, START + MINUTE + 2 * SECOND).len(), 500);
}

#[test]
fn a_window_is_whole_when_the_server_says_and_not_before() {
    let day = Duration::from_secs(86_400);
    let reading = Reading::new(Unit::REQUESTS, day)
        .limit(1_000)
        .resets_in(100 * SECOND);
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&call, &Readings::NONE.with(reading.remaining(2)), START);
    assert_eq!(available(&bucket, START + 99 * SECOND), 2);
    let calls: Vec<_> = (0..2).map(|_| bucket.take(&Cost::REQUEST, START)).collect();
    assert_eq!(bucket.ready_at(&Cost::REQUEST), Ok(START + 100 * SECOND));
    assert_eq!(available(&bucket, START + 100 * SECOND), 1_000);

    // What the old window had left is of no interest in the new one.
    let now = START + 101 * SECOND;
    drop(bucket.take(&Cost::REQUEST, now));
    assert!(!bucket.observe(&calls[1], &Readings::NONE.with(reading.remaining(0)), now));
    assert_eq!(available(&bucket, now), 999);
}

#[test]
fn what_is_larger_than_the_server_s_limit_is_for_the_server_to_refuse() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    let tokens = Reading::new(Unit::INPUT_TOKENS, MINUTE)
        .limit(600)
        .remaining(0);
    bucket.observe(&call, &Readings::NONE.with(tokens), START);
    let large = Cost::REQUEST.input_tokens(5_000);
    // When the ten are there that are sent at once.
    assert_eq!(bucket.ready_at(&large), Ok(START + SECOND));
}

#[test]
fn a_lower_limit_is_all_that_can_be_saved_up_and_an_answer_from_before_does_not_lift_it() {
    let quota = built(
        Quota::builder()
            .requests_per_minute(600)
            .burst(Unit::REQUESTS, 600),
    );
    let mut bucket = TokenBucket::new(&quota, START);
    let calls: Vec<_> = (0..3).map(|_| bucket.take(&Cost::REQUEST, START)).collect();
    bucket.observe(&calls[0], &requests(600, 599), START);
    let late = bucket.take(&Cost::REQUEST, START + SECOND);
    bucket.observe(&late, &requests(100, 99), START + SECOND);
    bucket.observe(&calls[2], &requests(600, 597), START + 2 * SECOND);
    assert_eq!(available(&bucket, START + 10 * MINUTE), 100);
}

#[test]
fn a_refund_while_the_answer_was_on_its_way_is_no_error() {
    let mut bucket = of_tokens(1_000);
    let cost = Cost::REQUEST.input_tokens(100);
    let left = |bucket: &TokenBucket| bucket.available(Unit::INPUT_TOKENS, START);
    let reading = Reading::new(Unit::INPUT_TOKENS, MINUTE).limit(1_000);
    let seen = |remaining| Readings::NONE.with(reading.remaining(remaining));
    let heard = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&heard, &seen(1_000), START);
    let first = bucket.take(&cost, START);
    bucket.observe(&first, &seen(900), START);
    let call = bucket.take(&cost, START);
    bucket.settle(first, &Cost::REQUEST.input_tokens(20), START);
    assert_eq!(left(&bucket), Some(880));
    // 800 were left when it was sent, and 80 have come back since.
    assert!(!bucket.observe(&call, &seen(800), START));
    assert_eq!(left(&bucket), Some(880));
}

#[test]
fn the_marks_of_many_calls_thin_out_and_only_what_is_certain_counts() {
    let mut bucket = of_requests(1_000_000);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(1_000_000, 900_000), START);
    let calls: Vec<_> = (0..5_000)
        .map(|_| bucket.take(&Cost::REQUEST, START))
        .collect();
    let truth = bucket.truth.as_ref().expect("it was heard");
    assert!(truth.history.marks.len() <= 1_024);
    let left = available(&bucket, START);
    // The call's own place lies between two that are known; what it shows is right.
    for (n, call) in calls.iter().enumerate().step_by(7) {
        bucket.observe(call, &requests(1_000_000, 899_999 - n as u64), START);
    }
    assert_eq!(available(&bucket, START), left);
    // Of one that is not known exactly, good news is not believed.
    let history = &bucket.truth.as_ref().expect("it was heard").history;
    let is_vague = |call: &&Reservation| matches!(history.find(call.at), Found::AtMost(_));
    let vague = calls.iter().rfind(is_vague).expect("some are");
    assert!(!bucket.observe(vague, &requests(1_000_000, 980_000), START));
}

#[test]
fn of_what_is_counted_later_the_limit_alone_is_taken() {
    let quota = Quota::builder().output_tokens_per_minute(6_000);
    let reading = Reading::new(Unit::OUTPUT_TOKENS, MINUTE);
    let seen = |reading: Reading, remaining| {
        let seen = Readings::NONE.with(reading.remaining(remaining));
        seen.counting_later(Unit::OUTPUT_TOKENS)
    };
    let cost = Cost::REQUEST.output_tokens(50);
    let left = |bucket: &TokenBucket| bucket.available(Unit::OUTPUT_TOKENS, START + 10 * MINUTE);
    let mut bucket = TokenBucket::new(&built(quota), START);
    let call = |bucket: &mut TokenBucket, seen: &Readings| {
        let call = bucket.take(&cost, START);
        bucket.observe(&call, seen, START)
    };
    // Where no limit is told, nothing is.
    assert!(!call(&mut bucket, &seen(reading, 0)));
    assert_eq!(bucket.shown(), 0);

    assert!(call(&mut bucket, &seen(reading.limit(6_000), 0)));
    assert!(!call(&mut bucket, &seen(reading, 0)));
    assert!(!call(&mut bucket, &seen(reading.limit(6_000), 6_000)));
    // Nor is a burst shown that could be saved up.
    assert_eq!(left(&bucket), Some(50));
    assert!(call(&mut bucket, &seen(reading.limit(30), 0)));
    assert_eq!(left(&bucket), Some(30));
}

#[test]
fn a_limit_that_an_earlier_answer_names_does_not_replace_the_one_that_holds() {
    let mut bucket = of_requests(600);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 599), START);
    let early = bucket.take(&Cost::REQUEST, START + SECOND);
    let late = bucket.take(&Cost::REQUEST, START + 2 * SECOND);
    let now = START + 3 * SECOND;
    bucket.observe(&late, &requests(600, 599), now);
    bucket.observe(&early, &requests(100, 99), now);
    assert_eq!(available(&bucket, START + 10 * MINUTE), 600);
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Take(u64),
    Hear {
        call: usize,
        limit: u64,
        remaining: u64,
        rounding: u64,
        refused: bool,
        window: Option<u64>,
    },
    Settle {
        call: usize,
        used: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let hear = (
        any::<usize>(),
        0..200u64,
        0..200u64,
        0..50u64,
        any::<bool>(),
        prop::option::of(0..u64::MAX),
    );
    prop_oneof![
        (0..5_000_000_000u64).prop_map(Event::Wait),
        (0..20u64).prop_map(Event::Take),
        hear.prop_map(
            |(call, limit, remaining, rounding, refused, window)| Event::Hear {
                call,
                limit,
                remaining,
                rounding,
                refused,
                window
            }
        ),
        (any::<usize>(), 0..40u64).prop_map(|(call, used)| Event::Settle { call, used }),
    ]
}

proptest! {
    #[test]
    fn whatever_the_server_shows_the_quota_s_own_limits_hold(events in prop::collection::vec(event(), 1..200)) {
        let quota = built(
            Quota::builder().input_tokens_per_minute(600).burst(Unit::INPUT_TOKENS, 50).requests_per_minute(100),
        );
        let own = built(Quota::builder().input_tokens_per_minute(600).burst(Unit::INPUT_TOKENS, 50));
        let (mut heard, mut deaf) = (TokenBucket::new(&quota, START), TokenBucket::new(&own, START));
        let (mut now, mut calls) = (START, Vec::new());
        for event in events {
            match event {
                Event::Wait(nanos) => now = now + Duration::from_nanos(nanos),
                Event::Take(tokens) => {
                    let cost = Cost::REQUEST.input_tokens(tokens);
                    if heard.is_ready(&cost, now) {
                        prop_assert!(deaf.is_ready(&cost, now));
                        calls.push((heard.take(&cost, now), deaf.take(&cost, now)));
                    }
                    let at = heard.ready_at(&cost).expect("no cost is too large");
                    prop_assert!(heard.is_ready(&cost, at.max(now)));
                }
                Event::Hear { call, limit, remaining, rounding, refused, window } => {
                    if calls.is_empty() {
                        continue;
                    }
                    let (call, _) = &calls[call % calls.len()];
                    let shown = |unit| {
                        let reading = Reading::new(unit, MINUTE).limit(limit).remaining(remaining);
                        let reading = reading.rounded_to(rounding);
                        window.map_or(reading, |wait| reading.resets_in(Duration::from_nanos(wait)))
                    };
                    let seen = Readings::NONE.with(shown(Unit::INPUT_TOKENS)).with(shown(Unit::REQUESTS));
                    let seen = if refused { seen.of_refusal() } else { seen };
                    heard.observe(call, &seen, now);
                    // The same again says nothing new.
                    let left = heard.available(Unit::INPUT_TOKENS, now);
                    if !refused {
                        heard.observe(call, &seen, now);
                        prop_assert_eq!(heard.available(Unit::INPUT_TOKENS, now), left);
                    }
                }
                Event::Settle { call, used } => {
                    if calls.is_empty() {
                        continue;
                    }
                    let (heard_call, deaf_call) = calls.swap_remove(call % calls.len());
                    let used = Cost::REQUEST.input_tokens(used);
                    heard.settle(heard_call, &used, now);
                    deaf.settle(deaf_call, &used, now);
                }
            }
        }
    }

    #[test]
    fn two_books_that_agree_are_never_refused_and_never_corrected(
        costs in prop::collection::vec(1..2_000u64, 50..400), latency in 1..60_000u64
    ) {
        let quota = built(Quota::builder().tokens_per_minute(60_000).burst(Unit::TOKENS, 60_000));
        let mut crowd = Crowd::new(&quota, Server::new(Unit::TOKENS, 60_000, 0), 0);
        crowd.latency = Duration::from_millis(latency);
        for cost in costs {
            crowd.cost = cost;
            let wait = crowd.random(3_000);
            crowd.run(Duration::from_millis(wait));
        }
        prop_assert_eq!(crowd.server.refused, 0);
    }
}
