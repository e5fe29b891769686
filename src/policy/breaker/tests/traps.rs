use super::*;
use crate::outcome::{Outcome, Verdict};

#[test]
fn after_10_000_successes_it_opens_within_one_window_of_failures() {
    let share = BreakerConfig::builder()
        .no_conditions()
        .failure_ratio(0.5, 20);
    // A hundred calls a second, then all fail: half of the window is half of its time.
    let mut run = Run::new(share.clone());
    for _ in 0..10_000 {
        run.call(WELL);
        run.pass_time(millis(10));
    }
    let start = run.now;
    while run.state() == State::Closed {
        run.call(Signal::FAILURE);
        run.pass_time(millis(10));
    }
    let took = run.now.since(start);
    assert!((secs(13)..secs(17)).contains(&took), "{took:?}");

    let mut run = Run::new(share.last_calls(100));
    run.calls(10_000, WELL);
    assert_eq!(run.break_down(), 50);
}

#[test]
fn five_in_a_row_open_it_whatever_came_before() {
    let mut run = Run::new(BreakerConfig::builder());
    run.calls(10_000, WELL);
    assert_eq!(run.break_down(), 5);
    assert_eq!(run.snapshot().cause(), Some(Cause::ConsecutiveFailures));
}

#[test]
fn at_one_request_a_second_it_still_trips() {
    for condition in [
        plain(),
        plain().no_conditions().failure_ratio(0.5, 20),
        plain().no_conditions().lower_bound(0.5, Confidence::P99),
    ] {
        let mut run = Run::new(condition);
        for _ in 0..3_600 {
            run.call(WELL);
            run.pass_time(secs(1));
        }
        let mut seconds = 0;
        while run.state() == State::Closed {
            run.call(Signal::FAILURE);
            run.pass_time(secs(1));
            seconds += 1;
        }
        assert!(seconds < 30, "{seconds} s, {:?}", run.snapshot().cause());
    }
}

#[test]
fn the_lower_bound_trips_where_a_minimum_is_never_reached() {
    let slow_rate = |run: &mut Run| {
        for call in 0..1_000 {
            if run.state() == State::Open {
                return call;
            }
            // Two of three fail, at one call in five seconds.
            run.call(if call % 3 == 0 { WELL } else { Signal::FAILURE });
            run.pass_time(secs(5));
        }
        1_000
    };
    let bare = || BreakerConfig::builder().no_conditions();
    let share = bare().failure_ratio(0.3, 20);
    assert_eq!(slow_rate(&mut Run::new(share)), 1_000);
    let bound = bare().lower_bound(0.3, Confidence::P90);
    assert!(slow_rate(&mut Run::new(bound)) < 10);
}

#[test]
fn limits_keys_and_callers_neither_open_nor_close_nor_reopen() {
    let neutral = [
        Verdict::Throttled,
        Verdict::RampLimit,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::Region,
        Verdict::CallerFault,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
    ];
    for verdict in neutral {
        let outcome = Outcome::new(verdict).after(secs(9));
        let signal = Signal::of(&outcome, secs(60));
        assert_eq!(signal, Signal::Neutral, "{verdict:?}");

        let mut run = Run::new(BreakerConfig::builder());
        run.calls(1_000, signal);
        assert_eq!(run.state(), State::Closed);
        assert_eq!(run.snapshot().calls(), 0);
        run.sit_out();
        for _ in 0..1_000 {
            run.call(signal);
            assert_eq!(run.state(), State::HalfOpen);
            assert_eq!(run.snapshot().probes(), 0, "the place is back");
        }
        run.calls(3, WELL);
        assert_eq!(run.state(), State::Closed);
    }
}

#[test]
fn a_529_and_a_5xx_trip_and_a_429_between_does_not_break_their_row() {
    let mut run = Run::new(plain());
    let signal = |verdict| Signal::of(&Outcome::new(verdict), Duration::ZERO);
    for verdict in [
        Verdict::Overloaded,
        Verdict::Throttled,
        Verdict::ServerFault,
        Verdict::ServerFault,
        Verdict::Throttled,
        Verdict::Overloaded,
    ] {
        run.call(signal(verdict));
    }
    assert_eq!(run.state(), State::Closed);
    run.call(signal(Verdict::ServerFault));
    assert_eq!(run.state(), State::Open);
}

#[test]
fn a_hint_that_was_absorbed_further_in_is_none() {
    let absorbed = Outcome::new(Verdict::Overloaded).absorbed(T0 + secs(60));
    assert_eq!(Signal::of(&absorbed, Duration::ZERO), Signal::FAILURE);
    let success = Signal::of(&Outcome::SUCCESS, secs(2));
    assert_eq!(
        success,
        Signal::Success {
            first_byte: secs(2)
        }
    );
}

#[test]
fn half_open_is_not_wedged_by_probes_that_are_dropped() {
    let mut run = Run::new(plain());
    run.sit_out();
    for _ in 0..100 {
        for _ in 0..3 {
            drop(run.pass());
        }
        assert_eq!(run.refused().why(), Refused::HalfOpen);
        run.pass_time(secs(30) - Duration::from_nanos(1));
        assert_eq!(run.refused().why(), Refused::HalfOpen);
        run.pass_time(Duration::from_nanos(1));
    }
    run.close();
}

#[test]
fn half_open_is_not_wedged_by_probes_that_are_cancelled_or_answered_neutrally() {
    let mut run = Run::new(plain().probes(1));
    run.sit_out();
    for _ in 0..100 {
        let probe = run.pass();
        run.breaker.release(probe);
        run.call(Signal::Neutral);
        assert_eq!(run.state(), State::HalfOpen);
        let _ = run.news();
    }
    run.close();
}

#[test]
fn a_failure_or_slow_answer_later_than_window_and_lease_decides_nothing() {
    for signal in [LATE, Signal::FAILURE, Signal::Neutral] {
        let config = plain().window(secs(1)).successes(1);
        let mut run = Run::new(config.slow_calls(secs(10), 0.9, 100));
        run.sit_out();
        let _ = run.news();
        let probe = run.pass();
        assert_eq!(run.news(), Some(Transition::HalfOpened));
        run.pass_time(secs(30));
        run.report(probe, signal);
        assert_eq!(run.news(), None);
        assert_eq!(run.state(), State::HalfOpen);
    }
}

#[test]
fn an_endpoint_whose_every_answer_takes_longer_than_a_lease_is_used_again() {
    let mut run = Run::new(plain().probes(1));
    run.sit_out();
    let mut probes = Vec::new();
    for _ in 0..4 {
        probes.push(run.pass());
        run.pass_time(secs(30));
    }
    for probe in probes.drain(..2) {
        run.report(probe, WELL);
        assert_eq!(run.state(), State::HalfOpen);
    }
    run.report(probes.remove(0), WELL);
    assert_eq!(run.state(), State::Closed);
    // One from before says nothing of what was opened since.
    run.sit_out();
    let _probe = run.pass();
    run.report(probes.remove(0), WELL);
    assert_eq!(run.snapshot().probes(), 1);
}

#[test]
fn a_late_result_does_not_take_the_place_of_the_next_probe() {
    let mut run = Run::new(plain().probes(1));
    run.sit_out();
    let late = run.pass();
    let later = {
        run.pass_time(secs(30));
        run.pass()
    };
    run.report(late, Signal::FAILURE);
    assert_eq!(run.snapshot().probes(), 1);
    assert_eq!(run.refused().why(), Refused::HalfOpen);
    run.report(later, WELL);
    assert_eq!(run.snapshot().probes(), 0);

    let dropped = run.pass();
    run.pass_time(secs(30));
    let _later = run.pass();
    run.breaker.release(dropped);
    assert_eq!(run.snapshot().probes(), 1);
}

#[test]
fn a_failure_admitted_while_closed_does_not_reopen_a_half_open_breaker() {
    let mut run = Run::new(plain());
    let stale = run.pass();
    let amendable = run.call(WELL);
    run.sit_out();
    let probe = run.pass();
    let _ = run.news();
    run.report(stale, Signal::FAILURE);
    run.amend(amendable, Signal::FAILURE);
    assert_eq!(run.news(), None);
    assert_eq!(run.state(), State::HalfOpen);
    run.report(probe, WELL);
}

#[test]
fn a_stale_success_does_not_close_it_and_a_stale_failure_is_not_counted_after_closing() {
    let mut run = Run::new(plain().successes(1));
    let (first, second, third) = (run.pass(), run.pass(), run.pass());
    run.sit_out();
    let probe = run.pass();
    run.report(first, WELL);
    assert_eq!(run.state(), State::HalfOpen);
    run.breaker.release(second);
    assert_eq!(run.snapshot().probes(), 1, "not the probe's place");
    run.report(probe, WELL);
    assert_eq!(run.state(), State::Closed);
    run.report(third, Signal::FAILURE);
    assert_eq!(run.snapshot().calls(), 0);
}

#[test]
fn a_probe_of_an_earlier_round_does_not_decide_a_later_one() {
    let mut run = Run::new(plain().successes(1).lease(secs(3600)));
    run.sit_out();
    let (first, second) = (run.pass(), run.pass());
    run.report(first, Signal::FAILURE);
    run.now = run.snapshot().until().expect("open again");
    let _held = run.pass();
    run.report(second, WELL);
    assert_eq!(run.state(), State::HalfOpen);
    assert_eq!(run.snapshot().probes(), 1);
}

#[test]
fn an_open_breaker_says_the_real_time_left() {
    let mut run = Run::new(plain());
    run.break_down();
    for passed in [0, 1, 1_234, 3_764] {
        run.pass_time(millis(passed));
        let left = run.time_open();
        let refusal = run.refused();
        assert_eq!(refusal.why(), Refused::Open);
        assert_eq!(refusal.retry_after(), Some(left));
    }
    assert_eq!(run.time_open(), millis(1));
    run.pass_time(millis(1));
    assert!(run.pass().is_probe());
}

#[test]
fn a_call_costs_the_same_memory_at_any_rate() {
    assert!(size_of::<Breaker>() <= 128, "{}", size_of::<Breaker>());
    assert!(size_of::<Ticket>() <= 16, "{}", size_of::<Ticket>());
    assert!(size_of::<Receipt>() <= 8, "{}", size_of::<Receipt>());
}

#[test]
fn an_answer_that_fails_after_its_head_counts_as_a_failure_and_not_as_a_success() {
    for builder in [
        plain().no_conditions().failure_ratio(0.9, 20),
        plain()
            .no_conditions()
            .failure_ratio(0.9, 20)
            .last_calls(20),
    ] {
        let mut run = Run::new(builder);
        for call in 1..20 {
            let receipt = run.call(WELL);
            run.amend(receipt, Signal::FAILURE);
            let snapshot = run.snapshot();
            assert_eq!((snapshot.calls(), snapshot.failures()), (call, call));
        }
        let receipt = run.call(WELL);
        assert_eq!(run.state(), State::Closed);
        run.amend(receipt, Signal::FAILURE);
        assert_eq!(run.snapshot().cause(), Some(Cause::FailureRatio));
    }
}

#[test]
fn only_a_success_of_the_present_state_can_be_amended() {
    let mut run = Run::new(plain().consecutive_failures(1));
    let receipt = run.call(WELL);
    run.amend(receipt, WELL);
    run.amend(Receipt::NONE, Signal::FAILURE);
    let receipt = run.call(WELL);
    run.amend(receipt, Signal::Neutral);
    let neutral = run.call(Signal::Neutral);
    run.amend(neutral, Signal::FAILURE);
    assert_eq!(run.state(), State::Closed);
    let (kept, other) = (run.call(WELL), run.call(WELL));
    run.amend(kept, told(60));
    assert_eq!(run.state(), State::Open);
    assert_eq!(run.time_open(), secs(60));
    let _ = run.news();
    run.amend(other, Signal::FAILURE);
    assert_eq!(run.news(), None);
}

#[test]
fn a_probe_that_breaks_off_after_its_head_opens_again_or_counts_after_closing() {
    let mut run = Run::new(plain().successes(2));
    run.sit_out();
    let receipt = run.call(WELL);
    run.amend(receipt, Signal::FAILURE);
    assert_eq!(run.snapshot().cause(), Some(Cause::ProbeFailed));

    run.now = run.snapshot().until().expect("it is open");
    run.call(WELL);
    let receipt = run.call(WELL);
    assert_eq!(run.state(), State::Closed);
    run.call(WELL);
    run.amend(receipt, Signal::FAILURE);
    let snapshot = run.snapshot();
    let counted = (snapshot.calls(), snapshot.failures());
    assert_eq!(counted, (2, 1), "another call's success stays");
    assert_eq!(snapshot.consecutive_failures(), 1);
}
