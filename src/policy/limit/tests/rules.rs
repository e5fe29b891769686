//! Each rule that every algorithm keeps, one call at a time.

use std::{num::NonZeroUsize, time::Duration};

use proptest::prelude::*;

use super::super::*;
use crate::{outcome::Verdict, policy::Timestamp};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn from_64() -> Bounds {
    Bounds::new(1..=200)
        .and_then(|bounds| bounds.starting_at(64))
        .expect("it is valid")
}

/// The learning algorithms, each starting at 64.
fn all() -> Vec<(&'static str, Box<dyn LimitAlgorithm>)> {
    let target = PercentileTarget::new(from_64(), 0.99, 500 * MS);
    vec![
        ("aimd", Box::new(Aimd::new(from_64()))),
        ("vegas", Box::new(SizedVegas::new(from_64()))),
        ("by size", Box::new(SizedVegas::new(from_64()).by_size())),
        ("percentile", Box::new(target.expect("it is valid"))),
    ]
}

fn success(sent: u64, in_flight: usize, limit: usize, ms: u64) -> Sample {
    let latency = Duration::from_millis(ms);
    Sample::new(Signal::Success, at(sent), in_flight, limit)
        .first_byte(latency)
        .total(latency)
}

#[test]
fn one_burst_of_parallel_losses_is_one_cut() {
    for (name, mut limit) in all() {
        for _ in 0..8 {
            limit.record(&Sample::new(Signal::Loss, at(0), 64, 64), at(50));
        }
        assert_eq!(limit.limit(), 57, "{name}");
    }
}

#[test]
fn losses_that_go_on_after_the_cut_cut_deeper_each_time() {
    for (name, mut limit) in all() {
        let mut seen = vec![limit.limit()];
        for epoch in 0..4 {
            let now = limit.limit();
            for _ in 0..3 {
                let loss = Sample::new(Signal::Loss, at(100 * epoch), now, now);
                limit.record(&loss, at(100 * epoch + 50));
            }
            seen.push(limit.limit());
        }
        assert_eq!(seen, [64, 57, 45, 27, 13], "{name}");
    }
}

#[test]
fn a_loss_of_a_call_sent_under_a_higher_limit_is_of_an_earlier_epoch() {
    for (name, mut limit) in all() {
        limit.record(&Sample::new(Signal::Loss, at(0), 64, 64), at(50));
        let cut = limit.limit();
        limit.record(&Sample::new(Signal::Loss, at(60), 64, 64), at(110));
        assert_eq!(limit.limit(), cut, "{name}");
    }
}

#[test]
fn a_refusal_of_a_lone_call_costs_a_tenth_and_those_right_after_it_more() {
    for (name, mut limit) in all() {
        let mut seen = vec![limit.limit()];
        for call in 0..4 {
            let lone = Sample::new(Signal::Loss, at(call * 100), 1, limit.limit());
            limit.record(&lone, at(call * 100 + 50));
            seen.push(limit.limit());
        }
        assert_eq!(seen, [64, 57, 46, 27, 13], "{name}");
    }
}

#[test]
fn a_refusal_with_half_the_limit_in_flight_tells_where_the_ceiling_is() {
    for (name, mut limit) in all() {
        limit.record(&Sample::new(Signal::Loss, at(0), 32, 64), at(50));
        assert_eq!(limit.limit(), 28, "{name}: a tenth below 32");
    }
    for (name, mut limit) in all() {
        limit.record(&Sample::new(Signal::Loss, at(0), 31, 64), at(50));
        assert_eq!(limit.limit(), 57, "{name}: a tenth below 64");
    }
}

#[test]
fn a_fast_refusal_or_failure_never_raises_the_limit() {
    for signal in [Signal::Loss, Signal::Failure, Signal::Neutral] {
        for (name, mut limit) in all() {
            for call in 0..500 {
                let before = limit.limit();
                let fast = Sample::new(signal, at(call), before, before).first_byte(MS);
                limit.record(&fast, at(call + 1));
                assert!(limit.limit() <= before, "{name} {signal:?}");
            }
        }
    }
}

#[test]
fn a_fast_failure_is_never_the_baseline() {
    // Between calls of 100 ms come failures of 1 ms; a baseline of 1 ms would cut to nothing.
    let mut limit = SizedVegas::new(from_64());
    for call in 0..2_000 {
        let now = limit.limit();
        let failed = Sample::new(Signal::Failure, at(call * 2 + 99), now, now).first_byte(MS);
        limit.record(&failed, at(call * 2 + 100));
        limit.record(&success(call * 2, now, now, 100), at(call * 2 + 100));
    }
    assert_eq!(limit.limit(), 200);
}

#[test]
fn what_is_not_sent_at_the_limit_never_raises_it() {
    for (name, mut limit) in all() {
        for call in 0..5_000 {
            limit.record(&success(call * 5, 30, 64, 50), at(call * 5 + 50));
        }
        assert_eq!(limit.limit(), 64, "{name}");
    }
}

#[test]
fn what_is_cancelled_counts_as_nothing() {
    for (name, limit) in all() {
        let mut cancelled = limit;
        let mut plain = all().into_iter().find(|(n, _)| *n == name).expect("same").1;
        for call in 0..3_000 {
            let now = plain.limit();
            let sample = success(call * 3, now, now, 80 + call % 7);
            plain.record(&sample, at(call * 3 + 80));
            let slow = Sample::new(Signal::Neutral, at(call * 3), now, now).total(9_000 * MS);
            cancelled.record(&slow, at(call * 3 + 80));
            cancelled.record(&sample, at(call * 3 + 80));
            assert_eq!(cancelled.limit(), plain.limit(), "{name}");
        }
    }
}

#[test]
fn a_single_failure_among_successes_is_not_held_against_the_limit() {
    for (name, mut limit) in all() {
        for call in 0..300 {
            let before = limit.limit();
            let failed = Sample::new(Signal::Failure, at(call * 10), before, before);
            limit.record(&failed, at(call * 10 + 1));
            assert_eq!(limit.limit(), before, "{name}");
            limit.record(
                &success(call * 10 + 1, before, before, 5),
                at(call * 10 + 6),
            );
        }
    }
}

#[test]
fn when_everything_fails_the_limit_falls_to_the_lowest_and_returns_by_slow_start() {
    for signal in [Signal::Loss, Signal::Failure] {
        for (name, mut limit) in all() {
            let mut now = 0;
            let mut sent = 0;
            while now < 10_000 {
                let was = limit.limit();
                for _ in 0..was {
                    limit.record(&Sample::new(signal, at(now), was, was), at(now + 50));
                    sent += 1;
                }
                now += 50;
            }
            assert_eq!(limit.limit(), 1, "{name} {signal:?}");
            assert!(sent < 600, "{name} {signal:?}: {sent} calls in ten seconds");
            let mut rounds = 0;
            while limit.limit() < 60 && rounds < 100 {
                let was = limit.limit();
                for _ in 0..was {
                    limit.record(&success(now, was, was, 100), at(now + 100));
                }
                now += 100;
                rounds += 1;
            }
            // The percentile's doublings take two targets each.
            let most = if name == "percentile" { 70 } else { 14 };
            assert!(rounds <= most, "{name} {signal:?}: {rounds} round trips");
        }
    }
}

#[test]
fn verdicts_about_keys_and_requests_say_nothing_of_capacity() {
    for (verdict, signal) in [
        (Verdict::Success, Signal::Success),
        (Verdict::Throttled, Signal::Loss),
        (Verdict::RampLimit, Signal::Loss),
        (Verdict::Overloaded, Signal::Loss),
        (Verdict::ServerFault, Signal::Failure),
        (Verdict::Exhausted, Signal::Neutral),
        (Verdict::KeyRejected, Signal::Neutral),
        (Verdict::ModelDenied, Signal::Neutral),
        (Verdict::Region, Signal::Neutral),
        (Verdict::CallerFault, Signal::Neutral),
        (Verdict::Cancelled, Signal::Neutral),
        (Verdict::RefusedLocally, Signal::Neutral),
    ] {
        assert_eq!(Signal::from(verdict), signal, "{verdict:?}");
    }
}

#[test]
fn a_fixed_limit_never_moves() {
    let mut limit = Fixed::new(NonZeroUsize::new(5).expect("not zero"));
    for signal in [Signal::Success, Signal::Loss, Signal::Failure] {
        let sample = Sample::new(signal, at(0), 5, 5).first_byte(MS);
        assert_eq!(limit.record(&sample, at(1)), None);
    }
    assert_eq!((limit.limit(), limit.when()), (5, When::Never));
}

#[test]
fn a_change_says_from_what_to_what_and_why() {
    let mut limit = Aimd::new(from_64());
    let loss = Sample::new(Signal::Loss, at(0), 64, 64);
    let change = limit.record(&loss, at(50)).expect("it is a cut");
    assert_eq!(change, Change::new(64, 57, Reason::Loss));
    assert_eq!((change.from(), change.to()), (64, 57));
    assert_eq!(limit.record(&loss, at(50)), None);
}

#[test]
fn a_percentile_or_target_that_cannot_be_kept_is_refused() {
    let error = |quantile, target| {
        PercentileTarget::new(from_64(), quantile, target)
            .expect_err("it is refused")
            .to_string()
    };
    assert!(error(0.99, Duration::ZERO).starts_with("target: "));
    for quantile in [0.49, 0.99991, f64::NAN, 1.0] {
        assert!(error(quantile, MS).starts_with("quantile: "), "{quantile}");
    }
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        6 => Just(Signal::Success),
        1 => Just(Signal::Loss),
        1 => Just(Signal::Failure),
        1 => Just(Signal::Neutral),
    ]
}

/// Any history: latencies from nothing to for ever, sent in any order, sizes of any kind.
fn histories() -> impl Strategy<Value = Vec<(Signal, u64, u64, u64, u8, Option<u64>)>> {
    let latency = prop_oneof![0..2_000_000_000u64, Just(0), Just(u64::MAX)];
    let call = (
        signals(),
        0..100_000_000u64,
        0..200_000_000u64,
        latency,
        any::<u8>(),
        any::<Option<u64>>(),
    );
    proptest::collection::vec(call, 0..600)
}

proptest! {
    #[test]
    fn limits_stay_in_bounds_whatever_happens(
        history in histories(),
        min in 1..20usize,
        more in 0..100usize,
    ) {
        let bounds = Bounds::new(min..=min + more).expect("it is valid");
        let target = PercentileTarget::new(bounds, 0.9, 300 * MS).expect("it is valid");
        let algorithms: [Box<dyn LimitAlgorithm>; 4] = [
            Box::new(Aimd::new(bounds)),
            Box::new(SizedVegas::new(bounds)),
            Box::new(SizedVegas::new(bounds).by_size()),
            Box::new(target),
        ];
        for mut limit in algorithms {
            let mut now = Timestamp::ZERO;
            for &(signal, passed, age, latency, in_flight, size) in &history {
                now = now + Duration::from_nanos(passed);
                let before = limit.limit();
                let sent = now.before(Duration::from_nanos(age));
                let mut sample = Sample::new(signal, sent, in_flight.into(), before)
                    .first_byte(Duration::from_nanos(latency))
                    .total(Duration::from_nanos(latency));
                if let Some(size) = size {
                    sample = sample.size(size);
                }
                let change = limit.record(&sample, now);
                let after = limit.limit();
                prop_assert!((min..=min + more).contains(&after), "{after}");
                let reported = change.map(|change| (change.from(), change.to()));
                prop_assert_eq!(reported, (before != after).then_some((before, after)));
            }
        }
    }
}
