//! Without a configuration: the pretend provider.

use http::StatusCode;
use serde_json::json;

use crate::{
    client::{get, post},
    relay::Relay,
};

#[tokio::test]
async fn it_says_that_it_pretends_and_how_to_try_it() {
    let mut relay = Relay::start(&[], &[]).await;
    let line = relay.hears("relay: no --config: ").await;
    assert!(
        line.contains("a pretend provider at http://127.0.0.1:"),
        "{line}"
    );
    let line = relay.line().await;
    let curl = format!("  curl {}/v1/messages -H ", relay.url);
    assert!(line.starts_with(&curl), "{line}");
    let (_, body) = line.split_once("-d '").expect("it has a body");
    let body = body.strip_suffix('\'').expect("it is quoted");
    let body = serde_json::from_str(body).expect("it is JSON");
    let answer = post(relay.at("/v1/messages"), &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json()["role"], "assistant");
}

#[tokio::test]
async fn both_formats_are_answered_whole_streamed_and_refused() {
    let relay = Relay::start(&[], &[]).await;
    for (path, end, refusal) in [
        (
            "/v1/messages",
            "event: message_stop",
            "invalid_request_error",
        ),
        (
            "/v1/chat/completions",
            "data: [DONE]",
            "invalid_request_error",
        ),
    ] {
        let mut question = json!({
            "model": "some-model",
            "max_tokens": 10,
            "messages": [{ "role": "user", "content": "Hello!" }],
        });
        let answer = post(relay.at(path), &question).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert!(answer.json()["usage"].is_object(), "{}", answer.text);

        question["stream"] = json!(true);
        let answer = post(relay.at(path), &question).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert!(answer.text.contains(end), "{}", answer.text);

        question["messages"] = json!([]);
        let answer = post(relay.at(path), &question).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"]["type"], refusal);
    }
    let answer = get(relay.at("/v2")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let status = get(relay.at("/-/status")).await;
    assert!(!status.text.contains("pretend-"), "{}", status.text);
}
