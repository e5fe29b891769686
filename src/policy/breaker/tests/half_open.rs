use super::*;

#[test]
fn as_many_probes_as_configured_are_under_way_at_once() {
    for most in 1..=10 {
        let mut run = Run::new(plain().probes(most));
        run.sit_out();
        let probes: Vec<_> = (0..most).map(|_| run.pass()).collect();
        assert!(probes.iter().all(Ticket::is_probe));
        assert_eq!(run.snapshot().probes(), most as usize);
        assert_eq!(run.refused().why(), Refused::HalfOpen);
        for probe in probes {
            run.breaker.release(probe);
            assert!(run.pass().is_probe(), "its place is free");
            assert_eq!(run.refused().why(), Refused::HalfOpen);
        }
    }
}

#[test]
fn so_many_successes_close_it_and_one_failure_opens_it_again() {
    let mut run = Run::new(plain().successes(4));
    run.sit_out();
    run.calls(3, WELL);
    assert_eq!(run.state(), State::HalfOpen);
    run.call(Signal::FAILURE);
    assert_eq!(run.state(), State::Open);
    run.now = run.snapshot().until().expect("it is open");
    run.calls(3, WELL);
    assert_eq!(
        run.state(),
        State::HalfOpen,
        "the round before is forgotten"
    );
    let _ = run.news();
    run.call(WELL);
    assert_eq!(run.news(), Some(Transition::Closed));
    assert!(!run.pass().is_probe());
}

#[test]
fn a_slow_probe_opens_again_if_slowness_is_a_condition() {
    let mut run = Run::new(plain());
    run.sit_out();
    run.calls(3, LATE);
    assert_eq!(run.state(), State::Closed);

    let mut run = Run::new(plain().slow_calls(secs(10), 0.5, 10));
    run.sit_out();
    run.call(LATE);
    assert_eq!(run.snapshot().cause(), Some(Cause::ProbeSlow));
    assert_eq!(run.time_open(), secs(10), "a relapse like any other");
}

#[test]
fn a_refusal_while_half_open_says_a_jittered_fraction_of_the_lease() {
    let mut run = Run::new(plain());
    run.sit_out();
    let _probes: Vec<_> = (0..3).map(|_| run.pass()).collect();
    for (bits, wait) in [(least(), 300), (Bits(u64::MAX / 2), 650), (most(), 1_000)] {
        let mut bits = bits;
        let now = run.now;
        let peeked = run.breaker.peek(&run.config, now, &mut bits);
        let Admission::Refuse(refusal) = run.breaker.ask(&run.config, now, &mut bits) else {
            panic!("it is full");
        };
        assert_eq!(peeked, Some(refusal));
        let told = refusal.retry_after().expect("it is known");
        assert!(
            told.abs_diff(millis(wait)) < Duration::from_micros(1),
            "{told:?}"
        );
    }
    let short = build(plain().lease(millis(2)));
    assert_eq!(short.until_place(&mut least()), millis(1), "never zero");
}

#[test]
fn a_lease_ends_at_its_instant() {
    let mut run = Run::new(plain().successes(1));
    run.sit_out();
    let probe = run.pass();
    run.pass_time(secs(30) - Duration::from_nanos(1));
    run.report(probe, WELL);
    assert_eq!(run.state(), State::Closed);
}

#[test]
fn peeking_takes_no_place_and_begins_no_state() {
    let mut run = Run::new(plain());
    run.break_down();
    let _ = run.news();
    let peek = |run: &Run, now| run.breaker.peek(&run.config, now, &mut least());
    let left = run.time_open();
    let refusal = peek(&run, run.now).expect("it is open");
    assert_eq!(refusal.retry_after(), Some(left));
    let before = run.breaker.clone();
    assert_eq!(peek(&run, run.now + left), None);
    assert_eq!(run.breaker, before);
    run.pass_time(left);
    let probes: Vec<_> = (0..2).map(|_| run.pass()).collect();
    assert_eq!(peek(&run, run.now), None);
    let _last = run.pass();
    let why = peek(&run, run.now).map(|refusal| refusal.why());
    assert_eq!(why, Some(Refused::HalfOpen));
    drop(probes);
    assert_eq!(peek(&run, run.now + secs(30)), None);
}

#[test]
fn fewer_places_than_before_hold_for_those_who_come() {
    let mut run = Run::new(plain().probes(5));
    run.sit_out();
    let mut probes: Vec<_> = (0..5).map(|_| run.pass()).collect();
    run.config = build(plain().probes(2));
    for _ in 0..3 {
        let probe = probes.remove(0);
        run.breaker.release(probe);
        assert_eq!(run.refused().why(), Refused::HalfOpen);
    }
    run.breaker.release(probes.remove(0));
    assert!(run.pass().is_probe());
}
