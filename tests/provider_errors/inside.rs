//! Errors inside an answer that began with 200.

use tower_relay::{
    outcome::Verdict::{self, *},
    provider::Profile,
};

use crate::now;

fn inside(provider: &str, event: Option<&str>, payload: &str) -> Verdict {
    let profile = Profile::of(provider).expect("it is a provider");
    let errors = profile.error_rules();
    errors
        .classify_inside(event, payload.as_bytes(), now())
        .verdict()
}

#[test]
fn errors_inside_an_answer_are_told_apart_by_what_they_say() {
    let cases: &[(&str, Option<&str>, &str, Verdict)] = &[
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Overloaded,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}   "#,
            ServerFault,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"no"}}"#,
            Throttled,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#,
            KeyRejected,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"billing_error","message":"no"}}"#,
            Exhausted,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#,
            ModelDenied,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
            CallerFault,
        ),
        (
            "anthropic",
            Some("error"),
            r#"{"type":"error","error":{"type":"timeout_error","message":"no"}}"#,
            ServerFault,
        ),
        (
            "openai",
            None,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"no"}}}"#,
            ServerFault,
        ),
        (
            "openai",
            None,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"insufficient_quota","message":"no"}}}"#,
            Exhausted,
        ),
        (
            "openai",
            None,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"image_content_policy_violation","message":"no"}}}"#,
            CallerFault,
        ),
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
            r#"{"error":{"message":"no","code":503}}"#,
            Overloaded,
        ),
        (
            "generic",
            None,
            r#"{"error":{"message":"no","code":"429"}}"#,
            Throttled,
        ),
        (
            "generic",
            None,
            r#"{"error":{"message":"no","code":401}}"#,
            KeyRejected,
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
            "openrouter",
            None,
            r#"{"error":{"code":502,"message":"Provider returned error"}}"#,
            Overloaded,
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
            Some("serviceUnavailableException"),
            r#"{"message":"no"}"#,
            Overloaded,
        ),
        (
            "bedrock",
            Some("internalServerException"),
            r#"{"message":"no"}"#,
            ServerFault,
        ),
        (
            "bedrock",
            Some("modelStreamErrorException"),
            r#"{"message":"no","originalStatusCode":429}"#,
            ServerFault,
        ),
        ("bedrock", Some("modelTimeoutException"), "{}", ServerFault),
        (
            "bedrock",
            Some("validationException"),
            r#"{"message":"no"}"#,
            CallerFault,
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
        assert_eq!(
            inside(provider, *event, payload),
            *verdict,
            "{event:?} {payload}"
        );
    }
}
