//! Every state against every event.

use super::*;

/// Where a breaker can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Closed, one failure short of opening.
    Closed,
    /// Closed, and letting a share pass; one failure short of opening.
    Ramp,
    Open,
    /// Open, its time over.
    Due,
    /// Half-open, one place of two taken, one success short of closing.
    Probing,
    /// Half-open, both places taken, one success short of closing.
    Full,
}

const ALL: [At; 6] = [
    At::Closed,
    At::Ramp,
    At::Open,
    At::Due,
    At::Probing,
    At::Full,
];

/// The breaker at that state, with a ticket that is current there, if one can be, and one from
/// another state.
fn at(at: At) -> (Run, Option<Ticket>, Ticket) {
    let builder = plain()
        .consecutive_failures(2)
        .slow_calls(secs(10), 1.0, 2)
        .probes(2)
        .successes(2)
        .ramp(secs(10));
    let mut run = Run::new(builder);
    let old = run.pass();
    let current = match at {
        At::Closed => {
            let current = run.pass();
            run.call(Signal::FAILURE);
            Some(current)
        }
        At::Ramp => {
            run.sit_out();
            run.close();
            let current = run.pass();
            run.pass_time(secs(5));
            assert_eq!(run.refused().why(), Refused::Ramp);
            run.call(Signal::FAILURE);
            Some(current)
        }
        At::Open => {
            run.break_down();
            None
        }
        At::Due => {
            run.sit_out();
            None
        }
        At::Probing | At::Full => {
            run.sit_out();
            run.call(WELL);
            let current = run.pass();
            if at == At::Full {
                let _ = run.pass();
            }
            Some(current)
        }
    };
    let _ = run.news();
    (run, current, old)
}

fn name(news: Option<Transition>) -> &'static str {
    match news {
        None => "-",
        Some(Transition::Opened { .. }) => "opened",
        Some(Transition::HalfOpened) => "half-opened",
        Some(Transition::Closed) => "closed",
        Some(Transition::ModeSet(_)) => "mode",
    }
}

#[test]
fn every_state_answers_to_asking() {
    for (state, passes, probe, news) in [
        (At::Closed, true, false, "-"),
        (At::Ramp, false, false, "-"),
        (At::Open, false, false, "-"),
        (At::Due, true, true, "half-opened"),
        (At::Probing, true, true, "-"),
        (At::Full, false, false, "-"),
    ] {
        let (mut run, _current, _old) = at(state);
        let peeked = run.breaker.peek(&run.config, run.now, &mut least());
        let answer = run.ask();
        let is_gate_shut = matches!(state, At::Open | At::Full);
        assert_eq!(peeked.is_some(), is_gate_shut, "{state:?}");
        match answer {
            Admission::Pass(ticket) => {
                assert!(passes, "{state:?}");
                assert_eq!(ticket.is_probe(), probe, "{state:?}");
            }
            Admission::Refuse(refusal) => {
                assert!(!passes, "{state:?}");
                let wait = refusal.retry_after().expect("it is known");
                assert!(!wait.is_zero(), "{state:?}");
            }
        }
        assert_eq!(name(run.news()), news, "{state:?}");
    }
}

#[test]
fn every_state_answers_to_every_result_of_a_current_call() {
    let signals = [WELL, LATE, Signal::FAILURE, Signal::Neutral];
    for (state, answers) in [
        (At::Closed, ["-", "-", "opened", "-"]),
        (At::Ramp, ["-", "-", "opened", "-"]),
        (At::Probing, ["closed", "opened", "opened", "-"]),
        (At::Full, ["closed", "opened", "opened", "-"]),
    ] {
        for (signal, answer) in signals.into_iter().zip(answers) {
            let (mut run, current, _old) = at(state);
            let probes = run.snapshot().probes();
            run.report(current.expect("there is one"), signal);
            assert_eq!(name(run.news()), answer, "{state:?}, {signal:?}");
            if answer == "-" && probes > 0 {
                assert_eq!(run.snapshot().probes(), probes - 1, "{state:?}");
            }
        }
        let (mut run, current, _old) = at(state);
        let probes = run.snapshot().probes();
        run.breaker.release(current.expect("there is one"));
        assert_eq!(name(run.news()), "-", "{state:?}");
        assert_eq!(run.snapshot().probes(), probes.saturating_sub(1));
    }
}

#[test]
fn no_state_answers_to_a_call_of_another() {
    for state in ALL.into_iter().filter(|&state| state != At::Closed) {
        for signal in [WELL, LATE, Signal::FAILURE, told(60), Signal::Neutral] {
            let (mut run, _current, old) = at(state);
            let before = run.breaker.clone();
            run.report(old, signal);
            assert_eq!(run.breaker, before, "{state:?}, {signal:?}");
        }
        let (mut run, _current, old) = at(state);
        let before = run.breaker.clone();
        run.breaker.release(old);
        assert_eq!(run.breaker, before, "{state:?}");
    }
}

#[test]
fn every_state_answers_to_time() {
    for (state, refused) in [
        (At::Closed, false),
        (At::Ramp, false),
        (At::Open, false),
        (At::Due, false),
        (At::Probing, false),
        (At::Full, false),
    ] {
        let (mut run, _current, _old) = at(state);
        run.pass_time(secs(30));
        let answer = matches!(run.ask(), Admission::Refuse(_));
        assert_eq!(answer, refused, "{state:?}: nothing lasts for ever");
    }
}

#[test]
fn every_state_shows_itself() {
    for (state, shown, calls, until) in [
        (At::Closed, State::Closed, 1, false),
        (At::Ramp, State::Closed, 1, false),
        (At::Open, State::Open, 2, true),
        (At::Due, State::Open, 2, true),
        (At::Probing, State::HalfOpen, 0, false),
        (At::Full, State::HalfOpen, 0, false),
    ] {
        let (run, _current, _old) = at(state);
        let snapshot = run.snapshot();
        assert_eq!(snapshot.state(), shown, "{state:?}");
        assert_eq!(snapshot.calls(), calls, "{state:?}");
        assert_eq!(snapshot.failures(), calls, "{state:?}");
        assert_eq!(snapshot.slow(), 0);
        assert_eq!(snapshot.failure_ratio(), if calls == 0 { 0.0 } else { 1.0 });
        assert_eq!(snapshot.until().is_some(), until, "{state:?}");
        assert_eq!(snapshot.cause().is_some(), until, "{state:?}");
        let run_of = if shown == State::Closed { 1 } else { 0 };
        assert_eq!(snapshot.consecutive_failures(), run_of, "{state:?}");
    }
}
