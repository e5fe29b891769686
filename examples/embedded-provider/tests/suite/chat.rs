//! OpenAI's chat completions: answers, headers, and what they charge.

use crate::client::{
    Answer, CHAT_PATH, ask, chat, data_events, prompt, provider, raw_chat, request, requests, send,
    start,
};
use embedded_provider::{DEFAULT_OUTPUT_TOKENS, Limits, count_input_tokens};
use serde_json::{Value, json};

/// The chunks of a stream, after a check that it was ended by the marker.
fn chunks(answer: &Answer) -> Vec<Value> {
    let text = std::str::from_utf8(&answer.body).expect("a stream of text");
    let text = text
        .strip_suffix("data: [DONE]\n\n")
        .expect("the marker of the end");
    data_events(text)
}

#[tokio::test]
async fn completion_tells_its_tokens() {
    let provider = start(provider(Limits::default())).await;
    for (asked, finish_reason) in [("7", "stop"), ("20", "length")] {
        let mut body = prompt(20, false);
        let parts = json!([{ "type": "text", "text": "Tell me " }, { "type": "image_url" }]);
        body["messages"][0]["content"] = parts;
        let mut request = chat("key-a", &body);
        request
            .headers_mut()
            .insert("x-output-tokens", asked.parse().expect("a header value"));
        let answer = send(&provider, request).await;
        assert_eq!(answer.header("content-type"), "application/json");
        let answer = answer.json();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["model"], "claude-test");
        assert!(
            answer["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("chatcmpl-"))
        );
        assert!(
            answer["created"]
                .as_u64()
                .is_some_and(|at| at > 1_700_000_000)
        );
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["finish_reason"], finish_reason);
        let output: u64 = asked.parse().expect("a number");
        let text = choice["message"]["content"].as_str().expect("a text");
        assert_eq!(text.len() as u64, 4 * output);
        let input = count_input_tokens(body.to_string().as_bytes()).expect("a prompt");
        assert_eq!(
            answer["usage"],
            json!({
                "prompt_tokens": input,
                "completion_tokens": output,
                "total_tokens": input + output,
                "prompt_tokens_details": { "cached_tokens": 0 },
            })
        );
    }
}

#[tokio::test]
async fn stream_agrees_with_the_whole_and_tells_tokens_only_if_asked() {
    let provider = start(provider(Limits::default())).await;
    let whole = |body: &Value| {
        let mut request = chat("key-a", body);
        request
            .headers_mut()
            .insert("x-output-tokens", "117".parse().expect("a header value"));
        request
    };
    let complete = send(&provider, whole(&prompt(200, false))).await.json();
    for include_usage in [false, true] {
        let mut body = prompt(200, true);
        body["stream_options"] = json!({ "include_usage": include_usage });
        let answer = send(&provider, whole(&body)).await;
        assert!(
            answer
                .header("content-type")
                .starts_with("text/event-stream")
        );
        let mut chunks = chunks(&answer);
        let id = chunks[0]["id"].clone();
        for chunk in &chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk");
            assert_eq!((&chunk["id"], &chunk["model"]), (&id, &complete["model"]));
        }
        if include_usage {
            let last = chunks.pop().expect("a last chunk");
            assert_eq!(
                (&last["choices"], &last["usage"]),
                (&json!([]), &complete["usage"])
            );
            assert!(chunks.iter().all(|chunk| chunk["usage"] == Value::Null));
        }
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.get("usage").is_some() == include_usage)
        );
        let choices: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
        assert_eq!(choices[0]["delta"]["role"], "assistant");
        let (last, others) = choices.split_last().expect("a last choice");
        assert_eq!(
            (&last["delta"], &last["finish_reason"]),
            (&json!({}), &json!("stop"))
        );
        assert!(
            others
                .iter()
                .all(|choice| choice["finish_reason"].is_null())
        );
        let text: String = choices
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, complete["choices"][0]["message"]["content"]);
    }
    let counters = provider.counters();
    assert_eq!(
        (counters.output_tokens_produced, counters.disconnected),
        (3 * 117, 0)
    );
}

#[tokio::test]
async fn output_is_charged_by_either_limit_or_the_default() {
    let provider = start(provider(Limits::default())).await;
    let mut charged = 0;
    for (field, limit, charge) in [
        ("max_tokens", json!(70), 70),
        ("max_completion_tokens", json!(30), 30),
        ("max_tokens", Value::Null, DEFAULT_OUTPUT_TOKENS),
        ("user", json!("nobody"), DEFAULT_OUTPUT_TOKENS),
    ] {
        let mut body = prompt(1, false);
        body.as_object_mut()
            .expect("an object")
            .remove("max_tokens");
        body[field] = limit;
        body["stream_options"] = Value::Null;
        assert_eq!(send(&provider, chat("key-a", &body)).await.status, 200);
        charged += charge;
        assert_eq!(provider.counters().output_tokens_charged, charged);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_tell_the_limits_and_the_time_until_they_are_full() {
    let limits = Limits {
        tokens_per_minute: Some(600),
        ..requests(3)
    };
    let provider = start(provider(limits).time_scale(2.0)).await;
    let answer = ask(&provider, "key-a").await;
    for (header, value) in [
        ("x-ratelimit-limit-requests", "1"),
        ("x-ratelimit-remaining-requests", "2"),
        ("x-ratelimit-reset-requests", "30s"),
        ("x-ratelimit-limit-tokens", "600"),
        ("x-ratelimit-remaining-tokens", "1793"),
        ("x-ratelimit-reset-tokens", "350ms"),
        ("anthropic-ratelimit-requests-limit", ""),
        ("request-id", ""),
    ] {
        assert_eq!(answer.header(header), value, "{header}");
    }
}

#[tokio::test]
async fn both_credential_headers_open_both_paths() {
    let provider = start(provider(Limits::default())).await;
    let body = prompt(1, false).to_string();
    for path in [CHAT_PATH, "/v1/messages"] {
        let by_key = request("POST", path, "key-a", body.clone());
        assert_eq!(send(&provider, by_key).await.status, 200);
        let mut by_bearer = raw_chat("key-a", body.clone());
        *by_bearer.uri_mut() = path.parse().expect("a path");
        assert_eq!(send(&provider, by_bearer).await.status, 200);
    }
}
