use super::*;

/// Sits it out and fails the probe, so often; says how long it was open each time.
fn relapses(run: &mut Run, times: usize) -> Vec<u64> {
    (0..times)
        .map(|_| {
            run.break_down();
            let open = run.time_open();
            run.pass_time(open);
            open.as_secs()
        })
        .collect()
}

#[test]
fn the_open_time_doubles_up_to_its_longest() {
    let mut run = Run::new(plain());
    assert_eq!(
        relapses(&mut run, 9),
        [5, 10, 20, 40, 80, 160, 300, 300, 300]
    );
    assert_eq!(run.snapshot().growth(), 6);
}

#[test]
fn the_open_time_shrinks_again_by_one_doubling_a_minute_of_health() {
    let mut run = Run::new(plain());
    relapses(&mut run, 4);
    run.close();
    assert_eq!(run.snapshot().growth(), 4);
    for (minute, growth) in [(1, 3), (2, 2), (3, 1), (4, 0), (5, 0)] {
        run.pass_time(secs(60) - Duration::from_nanos(1));
        run.call(WELL);
        assert_eq!(run.snapshot().growth(), (growth + 1).min(5 - minute));
        run.pass_time(Duration::from_nanos(1));
        run.calls(3, WELL);
        assert_eq!(run.snapshot().growth(), growth, "minute {minute}");
    }
    assert_eq!(relapses(&mut run, 2), [5, 10]);
}

#[test]
fn time_alone_is_no_health() {
    let mut run = Run::new(plain());
    relapses(&mut run, 3);
    run.close();
    run.pass_time(secs(3600));
    assert_eq!(relapses(&mut run, 1), [40]);
    run.close();
    run.pass_time(secs(3600));
    run.call(WELL);
    assert_eq!(relapses(&mut run, 1), [40], "one success, one step");
}

#[test]
fn a_relapse_soon_after_closing_is_open_for_longer() {
    let mut run = Run::new(plain());
    for open in [5, 10, 20] {
        run.break_down();
        assert_eq!(run.time_open(), secs(open));
        run.pass_time(secs(open));
        run.close();
    }
}

#[test]
fn a_servers_hint_counts_if_it_is_longer_and_not_if_it_is_absurd() {
    for (hint, open) in [(1, 5), (5, 5), (17, 17), (300, 300), (1_209_600, 300)] {
        let mut run = Run::new(plain());
        run.calls(5, told(hint));
        assert_eq!(run.time_open(), secs(open), "hint of {hint} s");
    }
    let mut run = Run::new(plain());
    let endless = Signal::Failure {
        hint: Some(Duration::MAX),
    };
    run.calls(5, endless);
    assert_eq!(run.time_open(), secs(300));
}

#[test]
fn the_longest_hint_of_a_row_counts_and_a_success_takes_it_back() {
    let mut run = Run::new(plain());
    run.call(told(60));
    run.call(told(20));
    run.pass_time(secs(10));
    run.calls(3, Signal::FAILURE);
    assert_eq!(run.time_open(), secs(50));

    for good in [WELL, LATE] {
        let mut run = Run::new(plain());
        run.call(told(60));
        run.call(good);
        run.calls(5, Signal::FAILURE);
        assert_eq!(run.time_open(), secs(5));
    }
}

#[test]
fn a_probes_hint_counts_too() {
    let mut run = Run::new(plain());
    run.sit_out();
    run.call(told(60));
    assert_eq!(run.time_open(), secs(60));
    assert_eq!(run.snapshot().cause(), Some(Cause::ProbeFailed));
}

#[test]
fn it_jitters_own_times_and_hints() {
    let config = build(plain());
    for (hint, jitter, open) in [
        (0, &mut least(), millis(5_000)),
        (0, &mut most(), millis(5_500)),
        (0, &mut Bits(u64::MAX / 2 + 1), millis(5_250)),
        (60, &mut most(), millis(66_000)),
        (600, &mut most(), millis(330_000)),
    ] {
        let until = config.time_open(0, secs(hint), jitter);
        assert_eq!(until, open, "hint of {hint} s");
    }
    let config = build(plain().jitter_percent(100));
    assert_eq!(config.time_open(1, Duration::ZERO, &mut most()), secs(20));
    let config = build(plain().jitter_percent(0));
    assert_eq!(config.time_open(1, Duration::ZERO, &mut most()), secs(10));
}

#[test]
fn any_growth_is_bounded() {
    let config = build(plain());
    for growth in [7, 31, 32, 63, 64, u8::MAX] {
        assert_eq!(
            config.time_open(growth, Duration::ZERO, &mut least()),
            secs(300)
        );
        assert!(!config.can_grow(growth));
    }
    assert!(config.can_grow(5));
    assert!(!build(plain().open(secs(4), secs(8))).can_grow(1));
    assert!(build(plain().open(secs(4), secs(8))).can_grow(0));
}
