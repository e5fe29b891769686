//! What losses and outages do to the ceiling, call by call.

use super::super::{
    losses::Losses,
    sample::{Sample, Signal},
    *,
};
use crate::policy::Timestamp;

fn losses() -> Losses {
    Losses::new(Bounds::new(1..=200).expect("it is valid"))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn full(signal: Signal, limit: usize, sent: Timestamp) -> Sample {
    Sample::new(signal, sent, limit, limit)
}

/// A loss at 17 calls in flight, half a second ago: the ceiling is 16.
fn refused_at_17() -> Losses {
    let mut losses = losses();
    let loss = full(Signal::Loss, 17, at(1));
    losses
        .setback(Signal::Loss, &loss, 17.0, at(2))
        .expect("a loss is a cut");
    assert!((losses.cap() - 16.0).abs() < 1e-9);
    losses
}

/// So many successes, each with the limit in flight.
fn succeed(losses: &mut Losses, many: u64, limit: usize, now: Timestamp) -> Option<f64> {
    let sample = full(Signal::Success, limit, now);
    (0..many).find_map(|_| losses.success(&sample, now))
}

#[test]
fn a_ceiling_is_looked_above_after_150_successes_and_not_one_sooner() {
    let mut losses = refused_at_17();
    succeed(&mut losses, 149, 16, at(3));
    assert!((losses.cap() - 16.0).abs() < 1e-9);
    succeed(&mut losses, 1, 16, at(3));
    assert!((losses.cap() - 17.0).abs() < 1e-9);
}

#[test]
fn after_five_minutes_a_limit_s_worth_of_successes_is_enough() {
    for (seconds, many, cap) in [
        (301, 16, 16.0),
        (302, 15, 16.0),
        (302, 16, 17.0),
        (900, 15, 16.0),
    ] {
        let mut losses = refused_at_17();
        succeed(&mut losses, many, 16, at(seconds));
        let of = format!("{many} after {seconds} s");
        assert!((losses.cap() - cap).abs() < 1e-9, "{of}: {}", losses.cap());
    }
}

#[test]
fn each_look_goes_twice_as_far_and_beyond_twice_the_ceiling_there_is_none() {
    let mut losses = refused_at_17();
    succeed(&mut losses, 150, 16, at(3));
    for above in [1, 2, 4, 8] {
        let cap = 16 + above;
        assert!((losses.cap() - cap as f64).abs() < 1e-9);
        // One fewer than the limit, and calls that did not reach it, say nothing.
        assert_eq!(succeed(&mut losses, cap as u64 - 1, cap, at(3)), None);
        let below = Sample::new(Signal::Success, at(3), cap / 2, cap);
        assert_eq!(losses.success(&below, at(3)), None);
        assert!((losses.cap() - cap as f64).abs() < 1e-9);
        assert_eq!(succeed(&mut losses, 1, cap, at(3)), None);
    }
    // Sixteen above sixteen is not beyond yet.
    assert!((losses.cap() - 32.0).abs() < 1e-9);
    assert_eq!(succeed(&mut losses, 31, 32, at(3)), None);
    assert_eq!(succeed(&mut losses, 1, 32, at(3)), Some(f64::INFINITY));
    assert!(losses.ceiling().is_infinite());
}

#[test]
fn twice_the_limit_in_a_row_is_an_outage_and_then_a_quarter_of_it() {
    for (limit, first, next) in [(40, 80, 10), (8, 16, 4), (1, 4, 4), (24, 48, 6)] {
        let mut losses = losses();
        let fault = full(Signal::Failure, limit, at(1));
        let mut setback = |now| losses.setback(Signal::Failure, &fault, limit as f64, now);
        for n in 1..first {
            assert_eq!(setback(at(1)), None, "{n} of {limit}");
        }
        let half = f64::max(limit as f64 / 2.0, 1.0);
        assert_eq!(setback(at(1)), Some((half, Reason::Outage)), "{limit}");
        for n in 1..next {
            assert_eq!(setback(at(1)), None, "{n} of {limit}, down");
        }
        assert_eq!(setback(at(1)), Some((half, Reason::Outage)), "{limit}");
    }
}

#[test]
fn a_success_of_a_call_from_before_the_streak_does_not_end_it() {
    let mut losses = losses();
    let fault = full(Signal::Failure, 4, at(5));
    for _ in 0..7 {
        let setback = losses.setback(Signal::Failure, &fault, 4.0, at(6));
        assert_eq!(setback, None);
    }
    losses.success(&full(Signal::Success, 4, at(4)), at(6));
    let setback = losses.setback(Signal::Failure, &fault, 4.0, at(6));
    assert_eq!(setback, Some((2.0, Reason::Outage)));

    let mut losses = self::losses();
    for _ in 0..7 {
        losses.setback(Signal::Failure, &fault, 4.0, at(6));
    }
    losses.success(&full(Signal::Success, 4, at(5)), at(6));
    let setback = losses.setback(Signal::Failure, &fault, 4.0, at(6));
    assert_eq!(setback, None, "one of the streak's own time does");
}
