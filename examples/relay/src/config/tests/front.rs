//! Who may call, and what bounds requests and answers.

use std::time::Duration;

use super::{assert_wrong, parse, upstream};

fn top(lines: &str) -> String {
    format!("{lines}\n{}", upstream(""))
}

#[test]
fn callers_tokens() {
    for (lines, problem) in [
        (
            "caller_token = \"SECRET\"",
            "relay.toml:1:16: caller_token is a text; write a table",
        ),
        (
            "caller_token = []",
            "relay.toml:1:16: caller_token is empty, which lets nobody in; name a token, or leave \
             it out",
        ),
        (
            "caller_token = { valeu = \"SECRET\" }",
            "relay.toml:1:18: unknown field `valeu` in caller_token; use one of env, file, value, \
             class",
        ),
        (
            "caller_token = [{ value = \"SECRET\" }, {}]",
            "relay.toml:1:50: caller_token has no secret; add one of env, file and value",
        ),
        (
            "caller_token = { value = \"Bearer SECRET\" }",
            "relay.toml:1:26: caller_token.value gives a secret with a blank in it; keep the key \
             alone, without `Bearer`",
        ),
        (
            "caller_token = { env = \"RELAY_NO_SUCH_TOKEN\" }",
            "relay.toml:1:24: caller_token.env names a variable `RELAY_NO_SUCH_TOKEN` that is not \
             set; set it, or name another",
        ),
        (
            "unprotected = true\ncaller_token = { value = \"SECRET\" }",
            "relay.toml:1:15: unprotected is true beside a caller_token; keep one of them",
        ),
        (
            "unprotected = 1",
            "relay.toml:1:15: unprotected is a whole number; write true or false",
        ),
    ] {
        assert_wrong(&top(lines), problem);
    }
    for token in [
        "{ value = \"one\" }",
        "[{ value = \"one\" }, { value = \"two\" }]",
    ] {
        let config = parse(&top(&format!("caller_token = {token}"))).expect("it is right");
        assert_eq!(config.front.tokens.len(), token.matches("value").count());
        assert!(config.has_literal_keys());
    }
}

#[test]
fn bounds_of_requests() {
    for (lines, problem) in [
        (
            "[limits]\nbodymib = 1",
            "relay.toml:2:1: unknown field `bodymib` in limits; use one of body_mib, headers, \
             header_kib, uri_bytes, connections, streams, head_time, body_time",
        ),
        (
            "[limits]\nbody_mib = 0",
            "relay.toml:2:12: limits.body_mib is 0, which admits nothing; use at least 1, or leave \
             it out",
        ),
        (
            "[limits]\nbody_mib = 1_025",
            "relay.toml:2:12: limits.body_mib is out of range; use a whole number from 1 to 1024",
        ),
        (
            "[limits]\nhead_time = \"0s\"",
            "relay.toml:2:13: limits.head_time is no time above zero; write a number and a unit, \
             such as \"90s\" or \"10m\"",
        ),
        (
            "drain = 30",
            "relay.toml:1:9: drain is a whole number; write a text in quotes",
        ),
    ] {
        assert_wrong(&top(lines), problem);
    }
}

#[test]
fn bounds_of_answers() {
    for (lines, problem) in [
        (
            "[timeouts]\nconnect = \"off\"",
            "relay.toml:2:11: timeouts.connect is no time above zero; write a number and a unit, \
             such as \"90s\" or \"10m\"",
        ),
        (
            "[timeouts]\nread = \"1s\"",
            "relay.toml:2:1: unknown field `read` in timeouts; use one of connect, first_byte, \
             idle, total",
        ),
        (
            "[timeouts]\nidle = 5",
            "relay.toml:2:8: timeouts.idle is a whole number; write a text in quotes",
        ),
    ] {
        assert_wrong(&top(lines), problem);
    }
    assert_wrong(
        &upstream("streams_per_connection = 0"),
        "relay.toml:4:26: upstream.streams_per_connection is 0, which admits nothing; use at least \
         1, or leave it out",
    );
    assert_wrong(
        &upstream("http2 = \"yes\""),
        "relay.toml:4:9: upstream.http2 is a text; write true or false",
    );
}

#[test]
fn an_upstream_says_only_what_differs() {
    let own = upstream("timeouts = { idle = \"off\" }\nhttp2 = true");
    let config = format!("[timeouts]\nidle = \"1s\"\ntotal = \"2s\"\n{own}");
    let config = parse(&config).expect("it is right");
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.timeouts.idle, None);
    assert_eq!(upstream.timeouts.total, Some(Duration::from_secs(2)));
    assert_eq!(upstream.timeouts.connect, Duration::from_secs(5));
    assert!(upstream.http2.is_enabled);
}
