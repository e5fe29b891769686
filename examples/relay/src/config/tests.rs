//! Every mistake is one line that says where it is and how to mend it, and never a secret.

use secrecy::ExposeSecret;

use std::{fs, path::Path, time::Duration};

use tower_relay::policy::{breaker::BreakerConfig, limit::Bounds, pool::Strategy};

use super::{Algorithm, Breaker, Concurrency, Config, Upstream};

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
             breaker, concurrency, upstream",
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
             base_url, paths, strategy, max_wait, max_waiting, breaker, concurrency, scope"
                .to_owned(),
        ),
        (
            upstream("SECRET = 1"),
            "relay.toml:4:1: unknown field in upstream; use one of name, provider, base_url, \
             paths, strategy, max_wait, max_waiting, breaker, concurrency, scope"
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
fn a_scope() {
    let twice = format!("{}[[upstream.scope]]\nname = \"s\"\n", upstream(""));
    for (text, problem) in [
        (
            format!("{HEAD}[[upstream.scope]]\n{KEY}"),
            "relay.toml:4:1: upstream.scope.name is missing; add it, such as name = \"org-a\"",
        ),
        (
            scope(""),
            "relay.toml:4:1: upstream.scope.key is missing; add it, such as key = [{ alias = \
             \"a1\", env = \"KEY_1\" }]",
        ),
        (
            scope("key = []"),
            "relay.toml:6:7: upstream.scope.key is empty; add a key, or leave the scope out",
        ),
        (
            scope("key = \"SECRET\""),
            "relay.toml:6:7: upstream.scope.key is a text; write a list of tables",
        ),
        (
            scope("key = [\"SECRET\"]"),
            "relay.toml:6:8: upstream.scope.key is a text; write a table",
        ),
        (
            scope("keys = []"),
            "relay.toml:6:1: unknown field `keys` in upstream.scope; use one of name, base_url, \
             headers, key, quota",
        ),
        (
            format!("{twice}key = [{{ alias = \"a1\", value = \"SECRET\" }}]"),
            "relay.toml:10:8: upstream.scope.key has the alias `a1`, which another key of the \
             upstream has; rename one",
        ),
        (
            format!("{twice}key = [{{ alias = \"a2\", value = \"SECRET\" }}]"),
            "relay.toml:8:1: upstream.scope has the name `s`, which another scope of the upstream \
             has; rename one",
        ),
        (
            scope(&format!("{KEY}\nbase_url = \"http://SECRET@h\"")),
            "relay.toml:7:12: upstream.scope.base_url has a user name in it; leave that out and \
             give a key instead",
        ),
        (
            scope(&format!(
                "{KEY}\nheaders = {{ Authorization = \"Bearer SECRET\" }}"
            )),
            "relay.toml:7:29: upstream.scope.headers sets `authorization`, where the key goes; \
             name keys under `key` alone",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ host = \"h\" }}")),
            "relay.toml:7:20: upstream.scope.headers sets `host`, which the relay sets itself; \
             leave it out",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ x-team = \"Zürich\" }}")),
            "relay.toml:7:22: upstream.scope.headers has a value that fits no header; use visible \
             ASCII",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ x-team = \"SECRET\\n\" }}")),
            "relay.toml:7:22: upstream.scope.headers has a value that fits no header; use visible \
             ASCII",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ \"SECRET \" = \"x\" }}")),
            "relay.toml:7:36: upstream.scope.headers has a name that no header has; use letters, \
             digits and `-`",
        ),
    ] {
        assert_wrong(&text, problem);
    }
}

#[test]
fn a_key() {
    for (fields, problem) in [
        (
            "value = \"SECRET\"",
            "relay.toml:6:8: upstream.scope.key.alias is missing; add it, such as alias = \"a1\"",
        ),
        (
            "alias = \"SECRET\", value = \"SECRET\"",
            "relay.toml:6:18: upstream.scope.key.alias is the secret itself; give the key a name",
        ),
        (
            "alias = \"a1\"",
            "relay.toml:6:8: upstream.scope.key has no secret; add one of env, file and value",
        ),
        (
            "alias = \"a1\", env = \"SECRET\", value = \"SECRET\"",
            "relay.toml:6:59: upstream.scope.key.value is a second source of one secret; keep one \
             of env, value",
        ),
        (
            "alias = \"a1\", secret = \"SECRET\"",
            "relay.toml:6:24: unknown field `secret` in upstream.scope.key; use one of alias, \
             env, file, value, weight",
        ),
        (
            "alias = \"a1\", value = 123456789",
            "relay.toml:6:32: upstream.scope.key.value is a whole number; write a text in quotes",
        ),
        (
            "alias = 1, value = \"SECRET\"",
            "relay.toml:6:18: upstream.scope.key.alias is a whole number; write a text in quotes",
        ),
        (
            "alias = \"a1\", value = SECRET",
            "relay.toml:6:32: this is no TOML: string values must be quoted, expected literal string",
        ),
        (
            "alias = \"a1\", value = \"\"",
            "relay.toml:6:32: upstream.scope.key.value is empty; write something between the \
             quotes",
        ),
        (
            "alias = \"a1\", value = \"SECRET\\nSECRET\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret of several lines; keep the \
             key alone, on one line",
        ),
        (
            "alias = \"a1\", value = \"Bearer SECRET\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret with a blank in it; keep \
             the key alone, without `Bearer`",
        ),
        (
            "alias = \"a1\", value = \"SECRETü\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret that fits no header; use \
             visible ASCII",
        ),
        (
            "alias = \"a1\", env = \"RELAY_TEST_UNSET\"",
            "relay.toml:6:30: upstream.scope.key.env names a variable `RELAY_TEST_UNSET` that is \
             not set; set it, or name another",
        ),
        (
            "alias = \"a1\", env = \"SECRET\"",
            "relay.toml:6:30: upstream.scope.key.env names a variable that is not set; set it, or \
             name another",
        ),
        (
            "alias = \"a1\", env = \"A=B\"",
            "relay.toml:6:30: upstream.scope.key.env is no name of an environment variable; write \
             it without `$`",
        ),
        (
            "alias = \"a1\", file = \"SECRET\"",
            "relay.toml:6:31: upstream.scope.key.file names a file that cannot be read (entity \
             not found); paths begin at the configuration's folder",
        ),
        (
            "alias = \"a1\", value = \"SECRET\", weight = 0",
            "relay.toml:6:62: upstream.scope.key.weight is 0, which admits nothing; use at least \
             1, or leave it out",
        ),
        (
            "alias = \"a1\", value = \"SECRET\", weight = 1001",
            "relay.toml:6:62: upstream.scope.key.weight is out of range; use a whole number from \
             1 to 1000",
        ),
    ] {
        assert_wrong(&key(fields), problem);
    }
}

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
             max_in_flight, burst",
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
fn a_secret_comes_from_a_file_without_the_end_of_its_line_and_is_not_shown() {
    let folder = std::env::temp_dir().join(format!("relay-keys-{}", std::process::id()));
    let folder = &*folder;
    fs::create_dir_all(folder).expect("a folder for tests");
    for (name, content) in [
        ("relay-key-a", format!("{SECRET}\n")),
        ("relay-key-b", format!("{SECRET}\r\n")),
        ("relay-key-c", SECRET.to_owned()),
    ] {
        fs::write(folder.join(name), content).expect("the folder is there");
        let text = key(&format!("alias = \"a1\", file = \"{name}\""));
        let config = Config::parse("relay.toml", &text, folder).expect("it is right");
        let secret = config.upstreams[0].scopes[0].keys[0].secret.expose_secret();
        assert_eq!(secret, SECRET);
        assert!(!format!("{config:?}").contains(SECRET));
    }
    fs::write(
        folder.join("relay-key-d"),
        format!("{SECRET}\n\n{SECRET}\n"),
    )
    .expect("a folder");
    let text = key("alias = \"a1\", file = \"relay-key-d\"");
    let problem = Config::parse("relay.toml", &text, folder).expect_err("two lines");
    fs::remove_dir_all(folder).expect("it is ours");
    assert_eq!(
        problem.to_string(),
        "relay.toml:6:31: upstream.scope.key.file gives a secret of several lines; keep the key \
         alone, on one line"
    );
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
    assert_eq!(plain.concurrency.bounds(), Ok(Bounds::default()));
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

#[test]
fn the_names_of_the_upstreams_defaults_are_those_of_the_example() {
    let example = include_str!("../../relay.example.toml");
    for field in ["max_wait = \"10m\"", "max_waiting = 10_000"] {
        assert!(example.contains(field), "{field}");
    }
    let tables = example.find("[breaker]").expect("it is shown")
        ..example.find("# One pool of keys").expect("it is shown");
    let text = format!("{}\n{}", &example[tables], upstream(""));
    let config = parse(&text).expect("the example is right");
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.breaker, Breaker::default());
    assert_eq!(upstream.concurrency, Concurrency::default());
    assert_eq!(Upstream::MAX_WAIT, Duration::from_secs(600));
    assert_eq!(Upstream::MAX_WAITING, 10_000);
}

#[test]
fn one_secret_is_not_two_keys() {
    assert_wrong(
        "[[upstream]]\nname = \"u\"\nprovider = \"openai\"\n\
         [[upstream.scope]]\nname = \"a\"\nkey = [{ alias = \"a1\", value = \"SECRET\" }]\n\
         [[upstream.scope]]\nname = \"b\"\nkey = [{ alias = \"b1\", value = \"SECRET\" }]\n",
        "relay.toml:1:1: upstream cannot be: `a1` and `b1` have the same secret, which would \
         count one quota twice; remove one of the two",
    );
}
