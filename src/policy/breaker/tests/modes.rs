use super::*;

#[test]
fn forced_open_refuses_everything_and_nobody_knows_until_when() {
    let mut run = Run::new(plain());
    let before = run.pass();
    run.set_mode(Mode::ForcedOpen);
    assert_eq!(run.news(), Some(Transition::ModeSet(Mode::ForcedOpen)));
    run.report(before, WELL);
    assert_eq!(run.snapshot().calls(), 0);
    for _ in 0..3 {
        let refusal = run.refused();
        assert_eq!(
            (refusal.why(), refusal.retry_after()),
            (Refused::Forced, None)
        );
        let peeked = run.breaker.peek(&run.config, run.now, &mut least());
        assert_eq!(peeked, Some(refusal));
        run.pass_time(secs(86_400));
    }
    let snapshot = run.snapshot();
    assert_eq!((snapshot.state(), snapshot.until()), (State::Open, None));
    assert_eq!(
        (snapshot.mode(), snapshot.cause()),
        (Mode::ForcedOpen, None)
    );
}

#[test]
fn what_was_forced_open_comes_back_with_a_ramp_and_nothing_else_does() {
    for (mode, passed) in [
        (Mode::ForcedOpen, 10),
        (Mode::ForcedClosed, 100),
        (Mode::Disabled, 100),
    ] {
        let mut run = Run::new(plain().ramp(secs(10)));
        run.set_mode(mode);
        run.set_mode(Mode::Normal);
        let passes = |run: &mut Run| matches!(run.ask(), Admission::Pass(_));
        assert_eq!((0..100).filter(|_| passes(&mut run)).count(), passed);
    }
}

#[test]
fn forced_closed_counts_and_never_opens() {
    let mut run = Run::new(BreakerConfig::builder().ramp(secs(60)));
    run.sit_out();
    run.set_mode(Mode::ForcedClosed);
    assert_eq!(run.news(), Some(Transition::ModeSet(Mode::ForcedClosed)));
    run.calls(1_000, Signal::FAILURE);
    assert_eq!(run.news(), None);
    let snapshot = run.snapshot();
    assert_eq!(snapshot.state(), State::Closed);
    assert_eq!((snapshot.calls(), snapshot.failures()), (1_000, 1_000));
    assert_eq!(run.breaker.peek(&run.config, run.now, &mut least()), None);
    run.set_mode(Mode::Normal);
    assert_eq!(run.snapshot().calls(), 0, "it begins anew");
    assert_eq!(run.break_down(), 5);
    assert_eq!(run.time_open(), BreakerConfig::DEFAULT_SHORTEST_OPEN);
}

#[test]
fn forced_closed_after_forced_open_has_no_ramp() {
    let mut run = Run::new(plain().ramp(secs(60)));
    run.set_mode(Mode::ForcedOpen);
    run.set_mode(Mode::ForcedClosed);
    run.calls(100, WELL);
}

#[test]
fn a_row_of_failures_longer_than_can_be_counted_is_no_fault() {
    let mut run = Run::new(plain().mode(Mode::ForcedClosed));
    run.calls(70_000, Signal::FAILURE);
    assert_eq!(run.snapshot().consecutive_failures(), u16::MAX);
}

#[test]
fn disabled_counts_nothing() {
    let mut run = Run::new(plain().mode(Mode::Disabled));
    for signal in [WELL, Signal::FAILURE, Signal::Neutral] {
        run.calls(100, signal);
    }
    let ticket = run.pass();
    assert!(!ticket.is_probe() && !ticket.is_spared());
    run.breaker.release(ticket);
    assert_eq!(run.snapshot().calls(), 0);
    assert_eq!(run.state(), State::Closed);
    assert_eq!(run.breaker.peek(&run.config, run.now, &mut least()), None);
}

#[test]
fn observing_tells_what_it_would_do_and_refuses_nothing() {
    let mut run = Run::new(plain().mode(Mode::ObserveOnly).ramp(secs(10)));
    run.calls(5, Signal::FAILURE);
    let until = run.now + secs(5);
    let cause = Cause::ConsecutiveFailures;
    assert_eq!(run.news(), Some(Transition::Opened { until, cause }));
    assert_eq!(run.state(), State::Open);
    assert_eq!(run.breaker.peek(&run.config, run.now, &mut least()), None);

    let spared = run.pass();
    assert!(spared.is_spared() && !spared.is_probe());
    run.report(spared, Signal::FAILURE);
    run.pass_time(secs(5));
    let probes: Vec<_> = (0..3).map(|_| run.pass()).collect();
    assert_eq!(run.news(), Some(Transition::HalfOpened));
    let spared = run.pass();
    assert!(spared.is_spared());
    assert_eq!(run.breaker.peek(&run.config, run.now, &mut least()), None);
    run.report(spared, Signal::FAILURE);
    assert_eq!(
        run.state(),
        State::HalfOpen,
        "what it would have refused does not count"
    );
    for probe in probes {
        assert!(probe.is_probe());
        run.report(probe, WELL);
    }
    assert_eq!(run.news(), Some(Transition::Closed));
    let spared = (0..100).filter(|_| run.pass().is_spared()).count();
    assert_eq!(spared, 90, "the ramp");
}

#[test]
fn between_normal_and_observing_the_state_stays() {
    let mut run = Run::new(plain());
    run.calls(3, Signal::FAILURE);
    let ticket = run.pass();
    run.set_mode(Mode::ObserveOnly);
    assert_eq!(run.news(), Some(Transition::ModeSet(Mode::ObserveOnly)));
    run.report(ticket, Signal::FAILURE);
    run.call(Signal::FAILURE);
    assert_eq!(run.state(), State::Open);
    run.set_mode(Mode::Normal);
    assert_eq!(run.refused().why(), Refused::Open);
}

#[test]
fn setting_the_mode_it_has_does_nothing() {
    let mut run = Run::new(plain());
    run.break_down();
    let _ = run.news();
    let before = run.breaker.clone();
    run.set_mode(Mode::Normal);
    assert_eq!(run.breaker, before);
    run.set_mode(Mode::ForcedOpen);
    assert_ne!(run.breaker, before);
}

#[test]
fn a_reset_closes_forgets_and_keeps_the_mode() {
    let mut run = Run::new(BreakerConfig::builder());
    let stale = run.pass();
    run.sit_out();
    run.breaker.reset(&run.config, run.now);
    assert_eq!(run.news(), Some(Transition::Closed));
    run.report(stale, Signal::FAILURE);
    let snapshot = run.snapshot();
    assert_eq!((snapshot.state(), snapshot.calls()), (State::Closed, 0));
    assert_eq!((snapshot.growth(), snapshot.mode()), (0, Mode::Normal));
    run.calls(100, WELL);
    run.break_down();
    assert_eq!(run.time_open(), BreakerConfig::DEFAULT_SHORTEST_OPEN);
}
