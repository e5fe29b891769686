//! Every mistake is one line that says where it is and how to mend it, and never a secret.

mod front;
mod keys;
mod limits;
mod sharing;
mod unknown;

use std::{path::Path, time::Duration};

use tower_relay::policy::pool::Strategy;

use super::{
    Affinity, Breaker, Concurrency, Config, Estimate, Front, Http2, Limits, Timeouts, Upstream,
};

/// In every place of a configuration where somebody might write one.
const SECRET: &str = "sk-ant-0123456789";

fn parse(text: &str) -> Result<Config, String> {
    let config = Config::parse("relay.toml", text, Path::new(env!("CARGO_MANIFEST_DIR")));
    config.map_err(|problem| problem.to_string())
}

#[track_caller]
fn assert_wrong(text: &str, expected: &str) {
    let text = text.replace("SECRET", SECRET);
    let problem = parse(&text).expect_err(&text);
    assert_eq!(problem, expected, "{text}");
    for length in 4..=SECRET.len() {
        for part in SECRET.as_bytes().windows(length) {
            let part = std::str::from_utf8(part).expect("ASCII");
            assert!(!problem.contains(part), "{problem} has {part}");
        }
    }
}

/// A key that is right.
const KEY: &str = r#"key = [{ alias = "a1", value = "SECRET" }]"#;

/// The top of a file with one upstream, three lines; a scope has to follow.
const HEAD: &str = "[[upstream]]\nname = \"u\"\nprovider = \"openai\"\n";

fn upstream(lines: &str) -> String {
    format!("{HEAD}{lines}\n[[upstream.scope]]\nname = \"s\"\n{KEY}\n")
}

fn scope(lines: &str) -> String {
    format!("{HEAD}[[upstream.scope]]\nname = \"s\"\n{lines}\n")
}

fn quota(lines: &str) -> String {
    scope(&format!("{KEY}\n[[upstream.scope.quota]]\n{lines}"))
}

fn key(fields: &str) -> String {
    scope(&format!("key = [{{ {fields} }}]"))
}

#[test]
fn the_top_of_the_file() {
    for (text, problem) in [
        (
            "".to_owned(),
            "relay.toml:1:1: upstream is missing; add it, such as [[upstream]] with a name, a \
             provider and a scope",
        ),
        (
            format!("lisen = \"127.0.0.1:1\"\n{}", upstream("")),
            "relay.toml:1:1: unknown field `lisen` in the top of the file; use one of listen, \
             caller_token, unprotected, limits, drain, state, timeouts, breaker, concurrency, upstream",
        ),
        (
            format!("listen = 8080\n{}", upstream("")),
            "relay.toml:1:10: listen is a whole number; write a text in quotes",
        ),
        (
            format!("listen = \"SECRET\"\n{}", upstream("")),
            "relay.toml:1:10: listen is no address with a port; write it like \"127.0.0.1:8080\" \
             or \"[::1]:8080\"",
        ),
        (
            "upstream = []".to_owned(),
            "relay.toml:1:12: upstream is empty; add an upstream",
        ),
        (
            "[upstream]\nname = \"u\"".to_owned(),
            "relay.toml:1:1: upstream is a table; write a list of tables, each under [[upstream]]",
        ),
        (
            "listen = SECRET".to_owned(),
            "relay.toml:1:10: this is no TOML: string values must be quoted, expected literal string",
        ),
        (
            "listen = \"SECRET".to_owned(),
            "relay.toml:1:28: this is no TOML: invalid basic string, expected `\"`",
        ),
        (
            "listen = \"a\"\nlisten = \"SECRET\"".to_owned(),
            "relay.toml:2:1: this is no TOML: duplicate key",
        ),
    ] {
        assert_wrong(&text, problem);
    }
}

#[test]
fn an_upstream() {
    let names = "anthropic, openai, azure-openai, gemini, groq, mistral, deepseek, openrouter, \
                 generic";
    for (text, problem) in [
        (
            upstream("pahts = []"),
            "relay.toml:4:1: unknown field `pahts` in upstream; use one of name, provider, \
             base_url, paths, strategy, max_wait, max_waiting, timeouts, http2, streams_per_connection, breaker, concurrency, shares, affinity, estimate, key_breaker, scope"
                .to_owned(),
        ),
        (
            upstream("SECRET = 1"),
            "relay.toml:4:1: unknown field in upstream; use one of name, provider, base_url, \
             paths, strategy, max_wait, max_waiting, timeouts, http2, streams_per_connection, breaker, concurrency, shares, affinity, estimate, key_breaker, scope"
                .to_owned(),
        ),
        (
            "[[upstream]]".to_owned(),
            "relay.toml:1:1: upstream.name is missing; add it, such as name = \"anthropic\""
                .to_owned(),
        ),
        (
            "[[upstream]]\nname = \" \"".to_owned(),
            "relay.toml:2:8: upstream.name is empty; write something between the quotes".to_owned(),
        ),
        (
            "[[upstream]]\nname = \"u\"".to_owned(),
            "relay.toml:1:1: upstream.provider is missing; add it, such as provider = \
             \"anthropic\""
                .to_owned(),
        ),
        (
            "[[upstream]]\nname = \"u\"\nprovider = \"opnai\"".to_owned(),
            format!(
                "relay.toml:3:12: upstream.provider is an unknown provider `opnai`; use one of \
                 {names}"
            ),
        ),
        (
            "[[upstream]]\nname = \"u\"\nprovider = \"SECRET\"".to_owned(),
            format!(
                "relay.toml:3:12: upstream.provider is an unknown provider; use one of {names}"
            ),
        ),
        (
            "[[upstream]]\nname = \"u\"\nprovider = \"bedrock\"".to_owned(),
            format!(
                "relay.toml:3:12: upstream.provider is `bedrock`, whose requests must be signed, \
                 which the relay cannot do yet; use one of {names}"
            ),
        ),
        (
            "[[upstream]]\nname = \"u\"\nprovider = \"generic\"".to_owned(),
            "relay.toml:1:1: upstream.base_url is missing; add it, such as base_url = \
             \"https://..\"; the provider `generic` has none of its own"
                .to_owned(),
        ),
        (
            upstream("base_url = \"SECRET\""),
            "relay.toml:4:12: upstream.base_url is no absolute URL; write it with http:// or \
             https:// and a host"
                .to_owned(),
        ),
        (
            upstream("base_url = \"https://h/?key=SECRET\""),
            "relay.toml:4:12: upstream.base_url has something behind its path; leave out all from \
             the `?` or `#` on"
                .to_owned(),
        ),
        (
            upstream("paths = \"/v1/*\""),
            "relay.toml:4:9: upstream.paths is a text; write a list of paths".to_owned(),
        ),
        (
            upstream("paths = []"),
            "relay.toml:4:9: upstream.paths is empty; name a path, such as \"/v1/*\"".to_owned(),
        ),
        (
            upstream("paths = [\"/a\", \"v1\"]"),
            "relay.toml:4:16: upstream.paths does not begin with `/`; write `/*` for all paths"
                .to_owned(),
        ),
        (
            upstream("paths = [\"/v1/*/x\"]"),
            "relay.toml:4:10: upstream.paths has a `*` before its end; move it there".to_owned(),
        ),
        (
            upstream("paths = [\"/-/status\"]"),
            "relay.toml:4:10: upstream.paths begins with `/-/`, where the relay itself answers; \
             use another path"
                .to_owned(),
        ),
        (
            upstream("paths = [\"/v1?key=SECRET\"]"),
            "relay.toml:4:10: upstream.paths has something in it that no path has; leave query \
             and blanks out"
                .to_owned(),
        ),
        (
            upstream("paths = [\"/a\", \"/b*\", \"/a\"]"),
            "relay.toml:4:23: upstream.paths has `/a` a second time; let one upstream have it"
                .to_owned(),
        ),
        (
            upstream("strategy = \"random\""),
            "relay.toml:4:12: upstream.strategy is an unknown strategy `random`; use one of \
             most-headroom, round-robin, weighted, least-in-flight, least-recently-used"
                .to_owned(),
        ),
        (
            upstream("max_wait = 10"),
            "relay.toml:4:12: upstream.max_wait is a whole number; write a text in quotes"
                .to_owned(),
        ),
        (
            upstream("max_wait = \"0s\""),
            "relay.toml:4:12: upstream.max_wait is no time above zero; write a number and a unit, \
             such as \"90s\" or \"10m\""
                .to_owned(),
        ),
        (
            upstream("max_waiting = -1"),
            "relay.toml:4:15: upstream.max_waiting is out of range; use a whole number from 0 to \
             1000000"
                .to_owned(),
        ),
        (
            HEAD.to_owned(),
            "relay.toml:1:1: upstream.scope is missing; add it, such as [[upstream.scope]] with a \
             name and keys"
                .to_owned(),
        ),
        (
            format!("{HEAD}scope = []"),
            "relay.toml:4:9: upstream.scope is empty; add a scope with a key".to_owned(),
        ),
    ] {
        assert_wrong(&text, &problem);
    }
}

#[test]
fn several_upstreams() {
    let with = |name: &str, paths: &str| upstream(paths).replace("\"u\"", &format!("\"{name}\""));
    for (text, problem) in [
        (
            with("u", "paths = [\"/a\"]") + &with("v", ""),
            "relay.toml:8:1: upstream has no paths, and there are several upstreams; add paths = \
             [\"/v1/*\"]",
        ),
        (
            with("u", "paths = [\"/a\"]") + &with("u", "paths = [\"/b\"]"),
            "relay.toml:8:1: upstream has the name `u`, which another upstream has; rename one",
        ),
        (
            with("u", "paths = [\"/a*\"]") + &with("v", "paths = [\"/a*\"]"),
            "relay.toml:11:10: upstream.paths has `/a*` a second time; let one upstream have it",
        ),
    ] {
        assert_wrong(&text, problem);
    }
    let both = with("u", "paths = [\"/v1*\"]") + &with("v", "paths = [\"/v1/messages\"]");
    let both = parse(&both).expect("the closer one wins");
    assert_eq!(both.upstreams.len(), 2);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(&upstream("")).expect("it is right");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    let [upstream] = &*config.upstreams else {
        panic!("one upstream");
    };
    assert_eq!(upstream.base_url.to_string(), "https://api.openai.com");
    assert_eq!(upstream.max_wait, Duration::from_secs(600));
    assert_eq!(upstream.max_waiting, 10_000);
    assert_eq!(upstream.strategy, Strategy::MostHeadroom);
    assert_eq!(upstream.scopes[0].keys[0].weight, 1);
    assert!(upstream.scopes[0].quotas.is_empty());
    assert!(config.has_literal_keys());
}

#[test]
fn the_example_is_right_as_a_whole() {
    // But for what is in nobody's environment.
    let example = include_str!("../../relay.example.toml")
        .replace("env = ", "value = ")
        .replace("# ramp = ", "ramp = ");
    let config = parse(&example).expect("it is right");
    let classes = config.upstreams[0].classes.as_ref().expect("there are");
    assert_eq!(classes.shares.classes().count(), 3);
    assert_eq!(config.upstreams[0].scopes[0].quotas[2].ramped().count(), 1);
}

#[test]
fn a_missing_file_is_a_problem_of_its_own() {
    let problem = Config::load(Path::new("no/such.toml")).expect_err("there is none");
    assert_eq!(
        problem.to_string(),
        "no/such.toml: the configuration cannot be read: entity not found; name another with \
         --config"
    );
}

#[test]
fn the_names_of_the_upstreams_defaults_are_those_of_the_example() {
    let example = include_str!("../../relay.example.toml");
    for field in [
        "max_wait = \"10m\"",
        "max_waiting = 10_000",
        "http2 = false",
        "streams_per_connection = 100",
        "affinity = \"session\"",
        "estimate = true",
        "key_breaker = true",
    ] {
        assert!(example.contains(field), "{field}");
    }
    let tables = example.find("drain = ").expect("it is shown")
        ..example.find("# One pool of keys").expect("it is shown");
    let text = format!("{}\n{}", &example[tables], upstream(""));
    let config = parse(&text).expect("the example is right");
    assert_eq!(config.front.limits, Limits::default());
    assert_eq!(config.front.drain, Front::default().drain);
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.timeouts, Timeouts::default());
    assert_eq!(upstream.http2, Http2::default());
    assert_eq!(upstream.http2.streams, 100);
    assert_eq!(upstream.breaker, Breaker::default());
    assert_eq!(upstream.concurrency, Concurrency::default());
    assert_eq!(upstream.affinity, Affinity::default());
    assert_eq!(upstream.estimate, Estimate::default());
    assert!(upstream.key_breaker && upstream.classes.is_none());
    assert_eq!(Upstream::MAX_WAIT, Duration::from_secs(600));
    assert_eq!(Upstream::MAX_WAITING, 10_000);
}
