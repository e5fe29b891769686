//! Quotas that nobody told, bounds of growth, and where they are kept.

use std::{path::Path, time::Duration};

use tower_relay::policy::{Quota, Ramp, RampState, RateSearch, Unit};

use super::{assert_wrong, parse, quota, upstream};

#[test]
fn searches_and_ramps() {
    for (lines, problem) in [
        (
            "learn = 1",
            "relay.toml:8:9: upstream.scope.quota.learn is a whole number; write true or false",
        ),
        (
            "learn = false",
            "relay.toml:7:1: upstream.scope.quota limits nothing; add a limit, such as \
             requests_per_minute",
        ),
        (
            "requests_per_minute = 5\nmargin = 0.6",
            "relay.toml:9:10: upstream.scope.quota.margin is not from 0 to 0.5 of each limit; 0.01 \
             is usual",
        ),
        (
            "requests_per_minute = 5\nmargin = \"1 %\"",
            "relay.toml:9:10: upstream.scope.quota.margin is a text; write a number",
        ),
        (
            "seek = true",
            "relay.toml:8:8: upstream.scope.quota.seek is a boolean; write a table",
        ),
        (
            "seek = {}",
            "relay.toml:8:8: upstream.scope.quota.seek seeks no rate; add one, such as \
             requests_per_minute = [60, 6_000]",
        ),
        (
            "seek = { requests_per_day = [1, 2] }",
            "relay.toml:8:10: unknown field `requests_per_day` in upstream.scope.quota.seek; use \
             one of requests_per_second, requests_per_minute, input_tokens_per_minute, \
             output_tokens_per_minute, tokens_per_minute, start, preset",
        ),
        (
            "seek = { requests_per_minute = [1, 2], tokens_per_minute = [1, 2] }",
            "relay.toml:8:60: upstream.scope.quota.seek.tokens_per_minute is a second rate in one \
             table; write a list of tables, one for each",
        ),
        (
            "seek = { requests_per_minute = 60 }",
            "relay.toml:8:32: upstream.scope.quota.seek.requests_per_minute is a whole number; \
             write a list of the lowest and the highest rate",
        ),
        (
            "seek = { requests_per_minute = [60] }",
            "relay.toml:8:32: upstream.scope.quota.seek.requests_per_minute is not two numbers; \
             write the lowest and the highest rate",
        ),
        (
            "seek = { requests_per_minute = [60, 6] }",
            "relay.toml:8:32: upstream.scope.quota.seek.requests_per_minute cannot be: the lowest \
             rate has to be above 0.00001 a second, the highest no lower and at most 10⁹ a second",
        ),
        (
            "seek = { requests_per_minute = [0, inf] }",
            "relay.toml:8:32: upstream.scope.quota.seek.requests_per_minute cannot be: the lowest \
             rate has to be above 0.00001 a second, the highest no lower and at most 10⁹ a second",
        ),
        (
            "seek = { requests_per_minute = [60, 600], start = 601 }",
            "relay.toml:8:51: upstream.scope.quota.seek.start is not within 60 to 600",
        ),
        (
            "seek = { requests_per_minute = [60, 600], preset = \"bisect\" }",
            "relay.toml:8:52: upstream.scope.quota.seek.preset is an unknown preset `bisect`; use \
             one of cubic, halving",
        ),
        (
            "seek = [{ tokens_per_minute = [1, 9] }, { tokens_per_minute = [2, 9] }]",
            "relay.toml:8:8: upstream.scope.quota.seek cannot be: the rate of tokens is sought \
             twice; keep one of the two",
        ),
        (
            "ramp = {}",
            "relay.toml:8:8: upstream.scope.quota.ramp bounds no rate; add one, such as \
             input_tokens_per_minute = 1_000_000",
        ),
        (
            "ramp = { requests_per_minute = 0 }",
            "relay.toml:8:32: upstream.scope.quota.ramp.requests_per_minute is 0, which admits \
             nothing; use at least 1, or leave it out",
        ),
        (
            "ramp = { requests_per_minute = 60, percent = 901 }",
            "relay.toml:8:46: upstream.scope.quota.ramp.percent is out of range; use a whole \
             number from 1 to 900",
        ),
        (
            "ramp = { requests_per_minute = 60, window = \"30s\" }",
            "relay.toml:8:45: upstream.scope.quota.ramp.window is not from a minute to a day; \
             write it like \"15m\"",
        ),
        (
            "ramp = { requests_per_second = 1 }",
            "relay.toml:8:10: unknown field `requests_per_second` in upstream.scope.quota.ramp; \
             use one of requests_per_minute, input_tokens_per_minute, output_tokens_per_minute, \
             tokens_per_minute, percent, window",
        ),
        (
            "ramp = [{ tokens_per_minute = 9 }, { tokens_per_minute = 9 }]",
            "relay.toml:8:8: upstream.scope.quota.ramp cannot be: the growth of tokens is bounded \
             twice; keep one of the two",
        ),
    ] {
        assert_wrong(&quota(lines), problem);
    }
}

#[test]
fn they_come_to_the_library_as_they_are_written() {
    let read = |lines: &str| {
        let config = parse(&quota(lines)).expect("it is right");
        config.upstreams[0].scopes[0].quotas[0].clone()
    };
    let minute = RateSearch::per_minute(60.0..=6_000.0);
    let ramp = Ramp::above_per_minute(1_000_000);
    for (lines, expected) in [
        ("learn = true", Quota::builder().learn()),
        (
            "requests_per_minute = 100\nmargin = 0.015",
            Quota::builder()
                .requests_per_minute(100)
                .margin_per_mille(15),
        ),
        (
            "seek = { requests_per_minute = [60, 6_000] }",
            Quota::builder().seek(Unit::REQUESTS, minute.clone()),
        ),
        (
            "seek = { requests_per_minute = [60, 6e3], start = 120, preset = \"halving\" }",
            Quota::builder().seek(Unit::REQUESTS, minute.starting_at(120.0).halving()),
        ),
        (
            "seek = [{ requests_per_second = [0.5, 9] }, { tokens_per_minute = [1_000, 2_000] }]",
            Quota::builder()
                .seek(Unit::REQUESTS, RateSearch::per_second(0.5..=9.0))
                .seek(Unit::TOKENS, RateSearch::per_minute(1_000.0..=2_000.0)),
        ),
        (
            "ramp = { input_tokens_per_minute = 1_000_000, percent = 20, window = \"1h\" }",
            Quota::builder().ramp(
                Unit::INPUT_TOKENS,
                ramp.clone().percent(20).window(Duration::from_secs(3_600)),
            ),
        ),
    ] {
        assert_eq!(Ok(read(lines).quota), expected.build(), "{lines}");
    }

    let mut class = read("ramp = { input_tokens_per_minute = 1_000_000 }");
    let (step, age) = (Duration::from_millis(2_500), Duration::from_secs(9));
    let plain = class.quota.clone();
    class.resume(Unit::INPUT_TOKENS, &RampState::new(step * 2, [5]), age);
    class.resume(Unit::REQUESTS, &RampState::new(step, [5]), age);
    assert_eq!(
        class.quota, plain,
        "neither another window nor another unit"
    );
    let state = RampState::new(step, [5, 6]);
    class.resume(Unit::INPUT_TOKENS, &state, age);
    let resumed = Quota::builder().ramp(Unit::INPUT_TOKENS, ramp.resume(state, age));
    assert_eq!(Ok(class.quota), resumed.build());
}

#[test]
fn the_state_is_a_file_of_its_own() {
    let text = format!("state = \"sub/kept.json\"\n{}", upstream(""));
    let state = parse(&text)
        .expect("it is right")
        .state
        .expect("it is said");
    assert_eq!(
        state,
        Path::new(env!("CARGO_MANIFEST_DIR")).join("sub/kept.json")
    );
    assert_wrong(
        &format!("state = 1\n{}", upstream("")),
        "relay.toml:1:9: state is a whole number; write a text in quotes",
    );
    let config = super::Config::parse(
        "relay.toml",
        &text.replace("sub/kept.json", "relay.toml"),
        Path::new(""),
    );
    let problem = config.expect_err("it would be overwritten").to_string();
    assert_eq!(
        problem,
        "relay.toml:1:9: state is the configuration itself; name a file of its own"
    );
}
