use super::*;

fn refused(builder: BreakerConfigBuilder) -> String {
    builder.build().expect_err("it is invalid").to_string()
}

fn field(builder: BreakerConfigBuilder) -> String {
    let error = builder.build().expect_err("it is invalid");
    error.field().to_owned()
}

fn b() -> BreakerConfigBuilder {
    BreakerConfig::builder()
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let written = b()
        .window(secs(30))
        .failure_ratio(0.5, 20)
        .consecutive_failures(5)
        .open(Duration::from_millis(500), secs(300))
        .jitter_percent(10)
        .recovery(secs(60))
        .probes(3)
        .successes(3)
        .lease(secs(30))
        .ramp(secs(1))
        .mode(Mode::Normal);
    assert_eq!(build(written), BreakerConfig::default());
}

#[test]
fn numbers_outside_of_their_bounds_are_refused_with_field_and_remedy() {
    let (zero, day) = (Duration::ZERO, secs(86_400));
    for time in [
        zero,
        millis(1) - Duration::from_nanos(1),
        day + millis(1),
        Duration::MAX,
    ] {
        assert_eq!(field(b().window(time)), "window");
        assert_eq!(field(b().open(time, day)), "open.shortest");
        assert_eq!(field(b().open(millis(1), time)), "open.longest");
        assert_eq!(field(b().recovery(time)), "recovery");
        assert_eq!(field(b().lease(time)), "lease");
        assert_eq!(field(b().slow_calls(time, 0.5, 1)), "slow_calls.threshold");
    }
    for time in [millis(1), day] {
        let good = b().window(time).recovery(time).lease(time).ramp(time);
        build(good.open(time, time).slow_calls(time, 0.5, 1));
    }
    assert_eq!(field(b().ramp(day + millis(1))), "ramp");
    build(b().ramp(zero));
    assert_eq!(
        refused(b().lease(zero)),
        "lease: 0ns does not work; write 1ms to 24 h"
    );
    for (calls, valid) in [(0, false), (1, true), (256, true), (257, false)] {
        let builder = b().no_conditions().consecutive_failures(1);
        let built = builder.last_calls(calls).build();
        assert_eq!(built.is_ok(), valid, "{calls}");
    }
    assert_eq!(field(b().last_calls(0)), "last_calls");
    assert_eq!(field(b().consecutive_failures(0)), "consecutive_failures");
    assert_eq!(
        field(b().consecutive_failures(65_536)),
        "consecutive_failures"
    );
    build(b().consecutive_failures(65_535));
    assert_eq!(field(b().jitter_percent(101)), "jitter_percent");
    assert_eq!(field(b().probes(0)), "probes");
    assert_eq!(field(b().successes(0)), "successes");
    build(b().jitter_percent(0).probes(10).successes(1_000));
    assert_eq!(
        refused(b().probes(11)),
        "probes: 11 does not work; write 1 to 10"
    );
    assert_eq!(field(b().successes(1_001)), "successes");
}

#[test]
fn ratios_and_minimums_that_cannot_work_are_refused() {
    for ratio in [
        0.0,
        -0.5,
        0.000_000_4,
        1.000_001,
        57.0,
        f64::NAN,
        f64::INFINITY,
    ] {
        assert_eq!(field(b().failure_ratio(ratio, 1)), "failure_ratio.ratio");
        assert_eq!(field(b().slow_calls(secs(1), ratio, 1)), "slow_calls.ratio");
        assert_eq!(
            field(b().lower_bound(ratio, Confidence::P90)),
            "lower_bound.ratio"
        );
    }
    assert_eq!(
        field(b().lower_bound(1.0, Confidence::P90)),
        "lower_bound.ratio"
    );
    build(b().failure_ratio(1.0, 1).slow_calls(secs(1), 1.0, 1));
    build(
        b().lower_bound(0.999_999, Confidence::P90)
            .failure_ratio(0.000_001, 1),
    );
    assert_eq!(
        refused(b().failure_ratio(1.5, 1)),
        "failure_ratio.ratio: 1.5 does not work; write 0.000001 to 1"
    );
    for minimum in [0, 1_000_001] {
        assert_eq!(
            field(b().failure_ratio(0.5, minimum)),
            "failure_ratio.minimum"
        );
        assert_eq!(
            field(b().slow_calls(secs(1), 0.5, minimum)),
            "slow_calls.minimum"
        );
    }
    build(b().failure_ratio(0.5, 1_000_000));
    build(b().last_calls(20));
    assert_eq!(
        refused(b().last_calls(19)),
        "failure_ratio.minimum: 20 calls never fit a window of 19; lower this or raise last_calls"
    );
}

#[test]
fn a_shortest_above_the_longest_is_refused() {
    assert_eq!(
        refused(b().open(secs(2), secs(1))),
        "open.shortest: 2s is above open.longest, 1s; raise that or lower this"
    );
}

#[test]
fn something_must_open_it() {
    assert_eq!(field(b().no_conditions()), "conditions");
    for builder in [
        b().no_conditions().consecutive_failures(1),
        b().no_conditions().failure_ratio(0.1, 1),
        b().no_conditions().lower_bound(0.1, Confidence::P99),
        b().no_conditions().slow_calls(secs(1), 0.1, 1),
    ] {
        build(builder);
    }
}

#[test]
fn another_kind_of_window_begins_anew_and_a_smaller_one_too() {
    let mut run = Run::new(b());
    run.calls(10, WELL);
    run.config = build(b().last_calls(100));
    assert_eq!(run.snapshot().calls(), 0);
    run.calls(50, WELL);
    assert_eq!(run.snapshot().calls(), 50);
    run.config = build(b().last_calls(50));
    run.call(Signal::FAILURE);
    let snapshot = run.snapshot();
    assert_eq!((snapshot.calls(), snapshot.failures()), (50, 1));
    run.config = build(b().last_calls(20));
    run.call(WELL);
    let snapshot = run.snapshot();
    assert_eq!((snapshot.calls(), snapshot.failures()), (1, 0));
    run.config = build(b());
    assert_eq!(run.snapshot().calls(), 0);
    run.call(WELL);
    assert_eq!(run.snapshot().calls(), 1);
}
