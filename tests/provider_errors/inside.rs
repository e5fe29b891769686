//! Errors inside an answer that began with 200.

use tower_relay::{
    outcome::Verdict::{self, *},
    provider::Profile,
};

use crate::now;

fn check(provider: &str, event: Option<&str>, payload: &str, verdict: Verdict) {
    let profile = Profile::of(provider).expect("it is a provider");
    let errors = profile.error_rules();
    let read = errors.classify_inside(event, payload.as_bytes(), now());
    assert_eq!(read.verdict(), verdict, "{provider} {event:?} {payload}");
}

#[test]
fn an_event_of_anthropics_is_told_by_its_type() {
    for (of, verdict) in [
        ("overloaded_error", Overloaded),
        ("api_error", ServerFault),
        ("rate_limit_error", Throttled),
        ("authentication_error", KeyRejected),
        ("billing_error", Exhausted),
        ("permission_error", ModelDenied),
        ("invalid_request_error", CallerFault),
        ("timeout_error", ServerFault),
    ] {
        let payload = format!(r#"{{"type":"error","error":{{"type":"{of}","message":"no"}}}}   "#);
        check("anthropic", Some("error"), &payload, verdict);
    }
}

#[test]
fn a_failed_response_of_openais_is_told_by_its_code() {
    for (code, verdict) in [
        ("server_error", ServerFault),
        ("insufficient_quota", Exhausted),
        ("image_content_policy_violation", CallerFault),
    ] {
        let error = format!(r#"{{"code":"{code}","message":"no"}}"#);
        let response = format!(r#"{{"status":"failed","error":{error}}}"#);
        let payload = format!(r#"{{"type":"response.failed","response":{response}}}"#);
        check("openai", None, &payload, verdict);
    }
}

#[test]
fn a_code_that_is_a_status_is_told_by_the_status() {
    for (provider, code, verdict) in [
        ("generic", "503", Overloaded),
        ("generic", "\"429\"", Throttled),
        ("generic", "401", KeyRejected),
        ("openrouter", "502", Overloaded),
    ] {
        let payload = format!(r#"{{"error":{{"message":"no","code":{code}}}}}"#);
        check(provider, None, &payload, verdict);
    }
}

#[test]
fn an_exception_of_bedrocks_is_told_by_its_name() {
    for (name, verdict) in [
        ("throttlingException", Throttled),
        ("serviceUnavailableException", Overloaded),
        ("internalServerException", ServerFault),
        ("modelTimeoutException", ServerFault),
        ("validationException", CallerFault),
    ] {
        for payload in [r#"{"message":"no"}"#, "{}"] {
            check("bedrock", Some(name), payload, verdict);
        }
    }
}

#[test]
fn errors_of_other_shapes_are_told_by_what_they_say() {
    let cases: &[(&str, Option<&str>, &str, Verdict)] = &[
        (
            "openai",
            Some("error"),
            r#"{"type":"error","code":"server_is_overloaded","message":"no","param":null}"#,
            Overloaded,
        ),
        (
            "generic",
            None,
            r#"{"object":"error","message":"Engine process died","type":"InternalServerError","code":500}"#,
            ServerFault,
        ),
        (
            "generic",
            None,
            r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
            Exhausted,
        ),
        (
            "openrouter",
            None,
            r#"{"id":"g","choices":[{"delta":{"content":"rate limit exceeded"},"finish_reason":"error"}],"error":{"code":"server_error","message":"Provider disconnected"}}"#,
            ServerFault,
        ),
        (
            "gemini",
            None,
            r#"[{"error":{"code":500,"message":"no","status":"INTERNAL"}}]"#,
            ServerFault,
        ),
        (
            "gemini",
            None,
            r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
            CallerFault,
        ),
        (
            "deepseek",
            None,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"insufficient_system_resource"}]}"#,
            Overloaded,
        ),
        (
            "bedrock",
            Some("throttlingException"),
            r#"{"message":"Too many tokens"}"#,
            Throttled,
        ),
        (
            "bedrock",
            Some("modelStreamErrorException"),
            r#"{"message":"no","originalStatusCode":429}"#,
            ServerFault,
        ),
        (
            "generic",
            Some("error"),
            r#"{"error":{"code":"not_found","message":"No such answer"}}"#,
            CallerFault,
        ),
        ("generic", None, "", ServerFault),
        ("generic", None, "\u{fffd}[[[", ServerFault),
    ];
    for (provider, event, payload, verdict) in cases {
        check(provider, *event, payload, *verdict);
    }
}
