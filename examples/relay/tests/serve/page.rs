//! The page at `/-/` and what it asks for; tests/page has it in a browser.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::{
    client::{get, post},
    echo::Echo,
    relay::{File, Relay},
};

#[tokio::test]
async fn the_page_needs_no_token_and_may_ask_nobody_but_the_relay() {
    let echo = Echo::start().await;
    let token = "caller_token = { value = \"token-one\" }\n";
    let file = File::new(&(token.to_owned() + &echo.config("openai", "")));
    let relay = Relay::start(&["--config", file.path()], &[]).await;
    let answer = get(relay.at("/-/")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers["cache-control"], "no-store");
    for secret in ["token-one", "secret-a", "org-a", "echo"] {
        assert!(!answer.text.contains(secret), "{secret} is in the page");
    }
    let policy = answer.headers["content-security-policy"].to_str();
    let policy: Vec<_> = policy.expect("ASCII").split("; ").collect();
    let nonce = policy[1].strip_prefix("script-src 'nonce-");
    let nonce = nonce.expect("it has a nonce").trim_end_matches('\'');
    assert_eq!(answer.text.matches(nonce).count(), 2);
    let expected = [
        "default-src 'none'",
        &format!("script-src 'nonce-{nonce}'"),
        &format!("style-src 'nonce-{nonce}'"),
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    assert_eq!(policy, expected);
    let other = get(relay.at("/-/")).await;
    assert!(!other.text.contains(nonce), "a nonce is used twice");
}

#[tokio::test]
async fn the_page_and_its_history_are_only_read() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    for path in ["/-/", "/-/history"] {
        let answer = post(relay.at(path), &json!({})).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers["allow"], "GET, HEAD");
    }
}

#[tokio::test]
async fn history_tells_what_was_answered_and_goes_on_after_its_cursor() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    // Calls before the first sample would be in none.
    while get(relay.at("/-/history")).await.json()["upstreams"] == json!([]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..3 {
        assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    }
    let mut answered = 0;
    let mut cursor = String::new();
    while answered < 3 {
        let answer = get(relay.at(&format!("/-/history?after={cursor}"))).await;
        let told = answer.json();
        assert!(!answer.text.contains("secret"), "{}", answer.text);
        assert_eq!(told["is_whole"], cursor.is_empty());
        told["cursor"]
            .as_str()
            .expect("text")
            .clone_into(&mut cursor);
        let upstream = &told["upstreams"][0];
        assert_eq!(upstream["name"], "echo");
        let counts = upstream["answered"].as_array().expect("a list");
        answered += counts.iter().filter_map(|it| it.as_u64()).sum::<u64>();
        for column in ["ms", "waiting", "in_flight", "limit", "failed"] {
            let column = upstream[column].as_array().expect("a list");
            assert_eq!(column.len(), counts.len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answered, 3);
}
