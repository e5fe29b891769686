use super::*;

fn closed_again(ramp: Duration) -> Run {
    let mut run = Run::new(plain().ramp(ramp));
    run.sit_out();
    run.close();
    run
}

fn share(run: &mut Run, asked: usize) -> usize {
    let passes = |run: &mut Run| matches!(run.ask(), Admission::Pass(_));
    (0..asked).filter(|_| passes(run)).count()
}

#[test]
fn the_share_that_passes_grows_from_a_tenth_to_all() {
    let mut run = closed_again(secs(10));
    for (second, passed) in [(0, 100), (2, 280), (5, 550), (9, 910), (10, 1_000)] {
        run.now = run.now.max(T0);
        let mut at = closed_again(secs(10));
        at.pass_time(secs(second));
        assert_eq!(share(&mut at, 1_000), passed, "after {second} s");
    }
    // The first passes at once, and it is one of ten.
    assert!(matches!(run.ask(), Admission::Pass(_)));
    assert_eq!(share(&mut run, 9), 0);
    assert_eq!(share(&mut run, 1), 1);
}

#[test]
fn what_a_ramp_lets_pass_is_spread_evenly() {
    let mut run = closed_again(secs(9));
    run.pass_time(secs(4));
    let passed: Vec<_> = (0..20)
        .map(|_| matches!(run.ask(), Admission::Pass(_)))
        .collect();
    assert!(
        passed.chunks(2).all(|two| two == [true, false]),
        "{passed:?}"
    );
}

#[test]
fn a_ramp_refuses_for_a_part_of_its_rest_and_a_gate_does_not_know_of_it() {
    let mut run = closed_again(secs(10));
    run.pass_time(secs(4));
    run.calls(1, WELL);
    let refusal = run.refused();
    assert_eq!(refusal.why(), Refused::Ramp);
    assert_eq!(refusal.retry_after(), Some(millis(1)), "never zero");
    assert_eq!(run.breaker.peek(&run.config, run.now, &mut least()), None);

    let mut run = closed_again(secs(10));
    run.pass_time(secs(4));
    let ask = |run: &mut Run| run.breaker.ask(&run.config, run.now, &mut most());
    let _ = ask(&mut run);
    let Admission::Refuse(refusal) = ask(&mut run) else {
        panic!("every other passes");
    };
    assert_eq!(refusal.retry_after(), Some(secs(6)));
}

#[test]
fn a_ramp_ends_once_and_health_counts_from_its_beginning() {
    let mut run = closed_again(secs(10));
    let growth = run.snapshot().growth();
    run.pass_time(secs(10));
    assert_eq!(share(&mut run, 100), 100);
    run.pass_time(secs(49));
    run.call(WELL);
    assert_eq!(run.snapshot().growth(), growth);
    run.pass_time(secs(1));
    run.call(WELL);
    assert_eq!(run.snapshot().growth(), growth - 1);
    assert_eq!(share(&mut run, 100), 100, "no second ramp");
}

#[test]
fn a_success_within_a_long_ramp_does_not_begin_it_anew() {
    let mut run = closed_again(secs(100));
    run.pass_time(secs(70));
    run.call(WELL);
    run.pass_time(secs(29));
    assert!(share(&mut run, 1_000) > 980);
}

#[test]
fn without_a_ramp_all_pass_at_once() {
    let mut run = closed_again(Duration::ZERO);
    assert_eq!(share(&mut run, 100), 100);
    let mut fresh = Run::new(plain().ramp(secs(60)));
    assert_eq!(share(&mut fresh, 100), 100, "a new breaker has no ramp");
}

#[test]
fn failures_within_a_ramp_open_it_again() {
    let mut run = closed_again(secs(10));
    let mut failed = 0;
    while run.state() == State::Closed {
        if let Admission::Pass(ticket) = run.ask() {
            run.report(ticket, Signal::FAILURE);
            failed += 1;
        }
    }
    assert_eq!(failed, 5);
    assert_eq!(run.time_open(), secs(10));
}

#[test]
fn a_ramp_that_is_taken_out_of_the_configuration_is_over() {
    let mut run = closed_again(secs(10));
    run.config = build(plain().ramp(Duration::ZERO));
    assert_eq!(share(&mut run, 100), 100);
}
