//! What OpenAI's format says to a call that fails, and what the counters make of it.

use crate::{
    client::{
        Answer, CHAT_PATH, ask, call, chat, data_events, prompt, provider, raw_chat, request,
        requests, send, start,
    },
    keys::three_keys,
};
use embedded_provider::{Denial, Faults, Limits, MAX_BODY_BYTES, MAX_OUTPUT_TOKENS};
use serde_json::{Value, json};
use std::time::Duration;

/// Status, type, code and whether a parameter is blamed.
fn form(answer: &Answer) -> (u16, String, String, bool) {
    let error = &answer.json()["error"];
    assert!(error["message"].is_string(), "{error}");
    assert!(answer.header("x-request-id").starts_with("req_"));
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    let blamed = error["param"].is_string();
    (answer.status.as_u16(), text("type"), text("code"), blamed)
}

fn expected(status: u16, kind: &str, code: &str, blamed: bool) -> (u16, String, String, bool) {
    (status, kind.to_owned(), code.to_owned(), blamed)
}

#[tokio::test]
async fn wrong_requests_have_the_form_of_openai() {
    let provider = start(provider(requests(9))).await;
    let with = |field: &str, value: Value| {
        let mut body = prompt(10, false);
        body[field] = value;
        chat("key-a", &body)
    };
    let kind = "invalid_request_error";
    let (missing, wrong) = ("missing_required_parameter", "invalid_value");
    let usage = json!({ "include_usage": true });
    let mut keyless = chat("", &prompt(1, false));
    keyless.headers_mut().remove("authorization");
    let cases = [
        (keyless, expected(401, kind, "", false)),
        (
            chat("key-z", &json!({})),
            expected(401, kind, "invalid_api_key", false),
        ),
        (
            request("GET", CHAT_PATH, "key-a", ""),
            expected(405, kind, "method_not_supported", false),
        ),
        (
            raw_chat("key-a", " ".repeat(MAX_BODY_BYTES + 1)),
            expected(413, kind, "", false),
        ),
        (
            raw_chat("key-a", "{".into()),
            expected(400, kind, "", false),
        ),
        (
            with("model", Value::Null),
            expected(400, kind, missing, true),
        ),
        (
            with("messages", json!([])),
            expected(400, kind, wrong, true),
        ),
        (
            with("max_tokens", json!(0)),
            expected(400, kind, wrong, true),
        ),
        (
            with("max_tokens", json!(MAX_OUTPUT_TOKENS + 1)),
            expected(400, kind, wrong, true),
        ),
        (
            with("max_completion_tokens", json!(9)),
            expected(400, kind, wrong, true),
        ),
        (
            with("stream", json!("yes")),
            expected(400, kind, wrong, true),
        ),
        (
            with("stream_options", usage),
            expected(400, kind, wrong, true),
        ),
    ];
    let calls = cases.len() as u64;
    for (request, expected) in cases {
        assert_eq!(form(&send(&provider, request).await), expected);
    }
    let counters = provider.counters();
    assert_eq!((counters.calls, counters.unauthorized), (calls, 2));
    assert_eq!(
        (counters.invalid, counters.requests_charged),
        (calls - 2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn refusal_names_limit_and_wait_in_real_time() {
    let limits = Limits {
        tokens_per_minute: Some(600),
        ..requests(3)
    };
    let provider = start(provider(limits).time_scale(2.0)).await;
    let first = send(&provider, chat("key-a", &prompt(1_790, false))).await;
    assert_eq!(first.status, 200);
    let refused = ask(&provider, "key-a").await;
    assert_eq!(
        form(&refused),
        expected(429, "tokens", "rate_limit_exceeded", false)
    );
    let message = refused.json()["error"]["message"].to_string();
    for part in ["claude-test", "Limit 600", "Requested 7", "in 150ms"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let hints = ["retry-after", "retry-after-ms"].map(|hint| refused.header(hint));
    assert_eq!(hints, ["1", "150"], "3 tokens are missing, at 20 a second");
    let left = refused.header("x-ratelimit-remaining-tokens");
    assert_eq!(left, "4", "to the token, and not a thousand");
    assert_eq!(
        call(&provider, "key-a").await,
        429,
        "one quota for both formats"
    );
}

#[tokio::test(start_paused = true)]
async fn client_that_waits_the_milliseconds_told_is_admitted() {
    let limits = Limits {
        requests_per_minute: Some(700),
        burst: Duration::from_millis(1),
        ..Limits::default()
    };
    let provider = start(provider(limits)).await;
    for _ in 0..5 {
        assert_eq!(ask(&provider, "key-a").await.status, 200);
        let refused = ask(&provider, "key-a").await;
        assert_eq!(
            form(&refused),
            expected(429, "requests", "rate_limit_exceeded", false)
        );
        assert_eq!(refused.header("retry-after"), "1");
        let wait: u64 = refused.header("retry-after-ms").parse().expect("a number");
        let message = refused.json()["error"]["message"].to_string();
        assert!(
            message.contains(&format!("try again in {wait}ms")),
            "{message}"
        );
        assert!((80..=86).contains(&wait), "{wait} ms");
        tokio::time::advance(Duration::from_millis(wait)).await;
    }
}

#[tokio::test]
async fn spent_credit_is_a_429_that_tells_no_wait() {
    let provider = three_keys().await;
    provider.exhaust_credit("org-a").expect("a scope");
    let spent = ask(&provider, "key-1").await;
    assert_eq!(
        form(&spent),
        expected(429, "insufficient_quota", "insufficient_quota", false)
    );
    let hints = [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-limit-requests",
    ];
    assert_eq!(hints.map(|hint| spent.header(hint)), [""; 3]);
    let scope = provider.scope_counters("org-a").expect("a scope");
    assert_eq!((scope.exhausted, scope.refused), (1, 0));
    assert_eq!(ask(&provider, "key-3").await.status, 200);
}

#[tokio::test]
async fn dead_keys_and_denied_models_have_their_form() {
    let provider = three_keys().await;
    provider.revoke_key("key-1").expect("a key");
    provider
        .deny_model("org-a", "claude-test", Denial::NotFound)
        .expect("a scope");
    provider
        .deny_model("org-b", "claude-test", Denial::Forbidden)
        .expect("a scope");
    let kind = "invalid_request_error";
    for (key, status, code) in [
        ("key-1", 401, "invalid_api_key"),
        ("key-2", 404, "model_not_found"),
        ("key-3", 403, "model_not_found"),
    ] {
        let answer = ask(&provider, key).await;
        assert_eq!(form(&answer), expected(status, kind, code, false));
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!body.contains(key), "a key in {body}");
    }
    let outcomes = ["key-1", "key-2", "key-3"].map(|key| {
        let counters = provider.key_counters(key).expect("a key");
        (counters.unauthorized, counters.denied)
    });
    assert_eq!(outcomes, [(1, 0), (0, 1), (0, 1)]);
}

#[tokio::test]
async fn faults_have_the_form_of_openai() {
    let provider = start(provider(Limits::default())).await;
    for (server, overloaded, status) in [(1.0, 0.0, 500), (0.0, 1.0, 503)] {
        let faults = Faults {
            server_error_share: server,
            overloaded_share: overloaded,
            ..Faults::default()
        };
        provider.set_faults(faults).expect("valid shares");
        let answer = ask(&provider, "key-a").await;
        assert_eq!(form(&answer), expected(status, "server_error", "", false));
    }
    let counters = provider.counters();
    assert_eq!((counters.server_errors, counters.overloaded), (1, 1));

    let faults = Faults {
        stream_error_share: 1.0,
        ..Faults::default()
    };
    provider.set_faults(faults).expect("valid shares");
    let broken = send(&provider, chat("key-a", &prompt(10, true))).await;
    assert_eq!(broken.status, 200);
    let text = std::str::from_utf8(&broken.body).expect("a stream of text");
    let last = data_events(text).pop().expect("an event");
    assert_eq!(last["error"]["type"], "server_error");
}
