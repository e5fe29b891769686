//! Errors of the relay's own, as each provider would write them.

use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    client::{Answer, ask, get},
    echo::Echo,
    relay::Relay,
};

/// A second call has no place for an hour.
const ONE_AN_HOUR: &str = "[[upstream.scope.quota]]\nrequests_per_hour = 1\n";

async fn refused_by_quota(provider: &str) -> Answer {
    let echo = Echo::start().await;
    let config = echo.config(provider, "max_wait = \"1s\"") + ONE_AN_HOUR;
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    let answer = get(relay.at("/v1/x")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["x-relay-error"], "refused");
    answer
}

/// The body with its message, which is another's test, taken out.
fn without_message(answer: &Answer) -> Value {
    let mut body = answer.json();
    let message = body["error"]["message"].take();
    let message = message.as_str().expect("a text");
    assert!(message.starts_with("upstream `echo`: "), "{message}");
    body
}

#[tokio::test]
async fn openais_form() {
    let answer = refused_by_quota("openai").await;
    let expected = json!({
        "error": {
            "message": null, "type": "rate_limit_error", "param": null,
            "code": "rate_limit_exceeded",
        },
    });
    assert_eq!(without_message(&answer), expected);
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn anthropics_form() {
    let answer = refused_by_quota("anthropic").await;
    let id = answer.headers["request-id"].to_str().expect("ASCII");
    let expected = json!({
        "type": "error",
        "error": { "type": "rate_limit_error", "message": null },
        "request_id": id,
    });
    assert_eq!(without_message(&answer), expected);
}

#[tokio::test]
async fn geminis_form() {
    let answer = refused_by_quota("gemini").await;
    let expected =
        json!({ "error": { "code": 429, "message": null, "status": "RESOURCE_EXHAUSTED" } });
    assert_eq!(without_message(&answer), expected);
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    let value = headers[name].to_str().expect("ASCII");
    value.parse().expect("a whole number")
}

/// SDKs come back at once when a `retry-after` is longer than they obey.
#[tokio::test]
async fn a_wait_that_sdks_do_not_obey_is_one_that_they_are_told_not_to_try() {
    let long = refused_by_quota("openai").await.headers;
    assert!((3_000..=3_600).contains(&number(&long, "retry-after")));
    assert_eq!(long["x-should-retry"], "false");

    let echo = Echo::start().await;
    let quota = ONE_AN_HOUR.replace("hour = 1", "minute = 2");
    let config = echo.config("openai", "max_wait = \"1s\"") + &quota;
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    let short = get(relay.at("/v1/x")).await.headers;
    let seconds = number(&short, "retry-after");
    let millis = number(&short, "retry-after-ms");
    assert!((20..=30).contains(&seconds), "{seconds}");
    assert_eq!(millis.div_ceil(1_000), seconds);
    assert_eq!(short["x-should-retry"], "true");
}

#[tokio::test]
async fn who_asks_for_what_nobody_serves_is_answered_in_the_form_it_seems_to_expect() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "paths = [\"/v9/*\"]")).await;
    let answer = get(relay.at("/v1/messages")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    let answer = get(relay.at("/v1beta/models/m:generateContent")).await;
    assert_eq!(answer.json()["error"]["status"], "NOT_FOUND");
    let answer = get(relay.at("/v1/chat/completions")).await;
    assert_eq!(answer.json()["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_relay_that_is_its_own_upstream_says_so_and_stops() {
    let echo = Echo::start().await;
    let config = echo.config("openai", "");
    let (mut relay, file) = Relay::with(&config).await;
    file.write(&config.replace(&echo.host(), relay.url.trim_start_matches("http://")));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let request = Request::get(relay.at("/v1/x")).body(Full::default());
    let answer = ask(request.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::LOOP_DETECTED);
    assert_eq!(answer.headers["x-relay-error"], "loop");
}
