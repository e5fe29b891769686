//! Quotas, breakers and limits of calls in flight.

use std::time::Duration;

use tower_relay::policy::{breaker::BreakerConfig, limit::Bounds};

use super::{assert_wrong, parse, quota, upstream};
use crate::config::Algorithm;

#[test]
fn a_quota() {
    for (lines, problem) in [
        (
            "",
            "relay.toml:7:1: upstream.scope.quota limits nothing; add a limit, such as \
             requests_per_minute",
        ),
        (
            "models = [\"a\"]",
            "relay.toml:7:1: upstream.scope.quota limits nothing; add a limit, such as \
             requests_per_minute",
        ),
        (
            "models = []\nrequests_per_minute = 1",
            "relay.toml:8:10: upstream.scope.quota.models is empty; name a model, or leave it out \
             for all models",
        ),
        (
            "request_per_minute = 1",
            "relay.toml:8:1: unknown field `request_per_minute` in upstream.scope.quota; use one \
             of models, requests_per_second, requests_per_minute, requests_per_hour, \
             requests_per_day, input_tokens_per_minute, input_tokens_per_day, \
             output_tokens_per_minute, output_tokens_per_day, tokens_per_minute, tokens_per_day, \
             max_in_flight, burst, margin, learn, seek, ramp",
        ),
        (
            "requests_per_minute = 0",
            "relay.toml:8:23: upstream.scope.quota.requests_per_minute is 0, which admits \
             nothing; use at least 1, or leave it out",
        ),
        (
            "requests_per_minute = -5",
            "relay.toml:8:23: upstream.scope.quota.requests_per_minute is out of range; use a \
             whole number from 1",
        ),
        (
            "requests_per_minute = 1.5",
            "relay.toml:8:23: upstream.scope.quota.requests_per_minute is a fraction; write a \
             whole number",
        ),
        (
            "requests_per_minute = \"60\"",
            "relay.toml:8:23: upstream.scope.quota.requests_per_minute is a text; write a whole \
             number",
        ),
        (
            "max_in_flight = 0",
            "relay.toml:8:17: upstream.scope.quota.max_in_flight is 0, which admits nothing; use \
             at least 1, or leave it out",
        ),
        (
            "requests_per_minute = 5\nburst = { requests = 0 }",
            "relay.toml:9:22: upstream.scope.quota.burst.requests is 0, which admits nothing; use \
             at least 1, or leave it out",
        ),
        (
            "requests_per_minute = 5\nburst = { tokens = 9 }",
            "relay.toml:9:9: upstream.scope.quota.burst cannot be: no continuous limit meters \
             tokens; add one",
        ),
        (
            "requests_per_minute = 5\nburst = 9",
            "relay.toml:9:9: upstream.scope.quota.burst is a whole number; write a table",
        ),
        (
            "tokens_per_day = 1",
            "relay.toml:7:1: upstream.scope.quota never admits a call: even the smallest needs 2 \
             tokens at once; raise that limit",
        ),
        (
            "requests_per_day = 5\n[[upstream.scope.quota]]\nmax_in_flight = 5",
            "relay.toml:4:1: upstream.scope cannot be: scope `s`: two quotas name no models; keep \
             one, or name the other's models",
        ),
        (
            "models = [\"a*b\"]\nmax_in_flight = 5",
            "relay.toml:4:1: upstream.scope cannot be: scope `s`: `a*b` has a `*` before its end; \
             move it there",
        ),
    ] {
        assert_wrong(&quota(lines), problem);
    }
}

#[test]
fn a_breaker_and_a_concurrency() {
    let top = |lines: &str| format!("{lines}\n{}", upstream(""));
    let own = |lines: &str| upstream(lines);
    for (text, problem) in [
        (
            top("breaker = true"),
            "relay.toml:1:11: breaker is a boolean; write a table",
        ),
        (
            top("[breaker]\nopen = \"5s\""),
            "relay.toml:2:1: unknown field `open` in breaker; use one of enabled, window, \
             failure_ratio, minimum_calls, consecutive_failures, shortest_open, longest_open, \
             probes, successes, lease, ramp",
        ),
        (
            top("[breaker]\nenabled = \"SECRET\""),
            "relay.toml:2:11: breaker.enabled is a text; write true or false",
        ),
        (
            top("[breaker]\nwindow = \"SECRET\""),
            "relay.toml:2:10: breaker.window is no time; write a number and a unit, such as \
             \"500ms\" or \"10m\"",
        ),
        (
            top("[breaker]\nfailure_ratio = \"half\""),
            "relay.toml:2:17: breaker.failure_ratio is a text; write a number",
        ),
        (
            top("[breaker]\nfailure_ratio = 1.5"),
            "relay.toml:2:17: breaker.failure_ratio cannot be: 1.5 does not work; write 0.000001 \
             to 1",
        ),
        (
            top("[breaker]\nfailure_ratio = nan"),
            "relay.toml:2:17: breaker.failure_ratio cannot be: NaN does not work; write 0.000001 \
             to 1",
        ),
        (
            top("[breaker]\nshortest_open = \"10m\""),
            "relay.toml:2:17: breaker.shortest_open cannot be: 600s is above longest_open, 300s; \
             raise that or lower this",
        ),
        (
            own("[upstream.breaker]\nlongest_open = \"100ms\""),
            "relay.toml:4:1: upstream.breaker shortest_open: cannot be: 500ms is above \
             longest_open, 100ms; raise that or lower this",
        ),
        (
            own("[upstream.breaker]\nprobes = 11"),
            "relay.toml:5:10: upstream.breaker.probes cannot be: 11 does not work; write 1 to 10",
        ),
        (
            own("[upstream.breaker]\nprobes = 0"),
            "relay.toml:5:10: upstream.breaker.probes is 0, which admits nothing; use at least 1, \
             or leave it out",
        ),
        (
            top("[concurrency]\nlimit = 5"),
            "relay.toml:2:1: unknown field `limit` in concurrency; use one of enabled, algorithm, \
             min, max, initial",
        ),
        (
            top("[concurrency]\nalgorithm = \"vegas\""),
            "relay.toml:2:13: concurrency.algorithm is an unknown algorithm `vegas`; use one of \
             sized-vegas, aimd",
        ),
        (
            top("[concurrency]\nmax = 0"),
            "relay.toml:2:7: concurrency.max is 0, which admits nothing; use at least 1, or leave \
             it out",
        ),
        (
            own("[upstream.concurrency]\nmin = 9\nmax = 5"),
            "relay.toml:6:7: upstream.concurrency.max cannot be: 5 is below the lowest limit, 9; \
             exchange them",
        ),
        (
            own("[upstream.concurrency]\nmax = 5\ninitial = 6"),
            "relay.toml:6:11: upstream.concurrency.initial cannot be: 6 is not within 1 to 5",
        ),
    ] {
        assert_wrong(&text, problem);
    }
}

#[test]
fn breakers_and_concurrency_are_on_and_an_upstream_says_only_what_differs() {
    let config = parse(&upstream("")).expect("a valid one");
    let plain = &config.upstreams[0];
    assert!(plain.breaker.is_enabled() && plain.concurrency.is_enabled());
    assert_eq!(plain.breaker.policy(), Ok(BreakerConfig::default()));
    let bounds = Bounds::default().starting_at(64);
    assert_eq!(plain.concurrency.bounds(), bounds);
    assert_eq!(plain.concurrency.algorithm, Algorithm::SizedVegas);

    let text = format!(
        "[breaker]\nshortest_open = \"1s\"\nfailure_ratio = 1\n[concurrency]\nmax = 4\n{}",
        upstream(
            "breaker = { probes = 1 }\nconcurrency = { enabled = false, algorithm = \"aimd\" }"
        )
    );
    let config = parse(&text).expect("a valid one");
    let own = &config.upstreams[0];
    let expected = BreakerConfig::builder()
        .open(Duration::from_secs(1), BreakerConfig::DEFAULT_LONGEST_OPEN)
        .failure_ratio(1.0, BreakerConfig::DEFAULT_MINIMUM)
        .probes(1);
    assert_eq!(own.breaker.policy(), expected.build());
    assert!(!own.concurrency.is_enabled());
    assert_eq!(own.concurrency.algorithm, Algorithm::Aimd);
    assert_eq!(own.concurrency.bounds(), Bounds::new(1..=4));
}
