//! Forms: errors, headers, messages, events, and how long they take.

use crate::client::{open, post, prompt, provider, request, requests, send, start};
use embedded_provider::{Latency, Limits, MAX_BODY_BYTES, MAX_OUTPUT_TOKENS, count_input_tokens};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn errors_have_the_form_of_anthropic() {
    let provider = start(provider(requests(9))).await;
    let post = |body: &str| request("POST", "/v1/messages", "key-a", body.to_owned());
    let without = |field: &str| {
        let mut body = prompt(10, false);
        body.as_object_mut().expect("an object").remove(field);
        post(&body.to_string())
    };
    let too_long = prompt(MAX_OUTPUT_TOKENS + 1, false).to_string();
    let too_large = " ".repeat(MAX_BODY_BYTES + 1);
    let invalid = "invalid_request_error";
    let cases = [
        (
            404,
            "not_found_error",
            request("POST", "/v1/complete", "key-a", "{}"),
        ),
        (405, invalid, request("GET", "/v1/messages", "key-a", "")),
        (
            401,
            "authentication_error",
            request("POST", "/v1/messages", "key-z", "{}"),
        ),
        (413, "request_too_large", post(&too_large)),
        (400, invalid, post("{\"model\":")),
        (400, invalid, post(&too_long)),
        (400, invalid, without("model")),
        (400, invalid, without("messages")),
        (400, invalid, without("max_tokens")),
    ];
    for (status, kind, request) in cases {
        let answer = send(&provider, request).await;
        let body = answer.json();
        assert_eq!(
            (answer.status.as_u16(), body["error"]["type"].as_str()),
            (status, Some(kind))
        );
        assert_eq!(body["type"], "error");
        assert!(body["error"]["message"].is_string());
        assert_eq!(body["request_id"], answer.header("request-id"));
        let reached_scope = matches!(status, 400 | 413);
        assert_eq!(
            answer.header("anthropic-ratelimit-requests-limit"),
            if reached_scope { "1" } else { "" }
        );
    }
    let counters = provider.counters();
    assert_eq!(
        (counters.calls, counters.invalid, counters.unauthorized),
        (9, 8, 1)
    );
    assert_eq!(counters.requests_charged, 0);
    assert_eq!(
        provider.scope_counters("org-a").map(|scope| scope.calls),
        Some(6)
    );
}

#[tokio::test]
async fn missing_key_is_unauthorized_and_bearer_is_a_key() {
    let provider = start(provider(Limits::default())).await;
    let mut request = post("", &prompt(1, false));
    request.headers_mut().remove("x-api-key");
    assert_eq!(send(&provider, request.clone()).await.status, 401);
    request.headers_mut().insert(
        "authorization",
        "Bearer key-a".parse().expect("a header value"),
    );
    assert_eq!(send(&provider, request).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn refusal_names_limit_wait_and_state() {
    let limits = Limits {
        input_tokens_per_minute: Some(60_000),
        burst: Duration::from_secs(90),
        ..requests(1)
    };
    let provider = start(provider(limits).time_scale(2.0)).await;
    assert_eq!(
        send(&provider, post("key-a", &prompt(1, false)))
            .await
            .status,
        200
    );
    let answer = send(&provider, post("key-a", &prompt(1, false))).await;

    assert_eq!(answer.status, 429);
    let error = answer.json()["error"].clone();
    assert_eq!(error["type"], "rate_limit_error");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("1 requests per minute"))
    );
    assert_eq!(
        answer.header("retry-after"),
        "15",
        "half a minute of provider time is missing"
    );
    for (header, value) in [
        ("requests-limit", "1"),
        ("requests-remaining", "0"),
        ("input-tokens-limit", "60000"),
        ("input-tokens-remaining", "90000"),
        ("output-tokens-limit", ""),
    ] {
        assert_eq!(
            answer.header(&format!("anthropic-ratelimit-{header}")),
            value,
            "{header}"
        );
    }
    let reset = humantime::parse_rfc3339(answer.header("anthropic-ratelimit-requests-reset"))
        .expect("RFC 3339");
    let until = reset
        .duration_since(std::time::SystemTime::now())
        .expect("the future");
    assert!(
        (28..=31).contains(&until.as_secs()),
        "a minute of provider time until full, not {until:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn client_that_waits_as_told_is_admitted() {
    let limits = Limits {
        requests_per_minute: Some(7),
        ..Limits::default()
    };
    let provider = start(provider(limits)).await;
    for _ in 0..5 {
        assert_eq!(
            send(&provider, post("key-a", &prompt(1, false)))
                .await
                .status,
            200
        );
        let refused = send(&provider, post("key-a", &prompt(1, false))).await;
        let wait: u64 = refused
            .header("retry-after")
            .parse()
            .expect("whole seconds");
        tokio::time::advance(Duration::from_secs(wait)).await;
    }
    assert_eq!(provider.counters().refused, 5);
}

#[tokio::test]
async fn stream_is_well_formed_and_agrees_with_the_whole_message() {
    let provider = start(provider(Limits::default())).await;
    for (tokens, stop_reason) in [
        ("1", "end_turn"),
        ("117", "end_turn"),
        ("200", "max_tokens"),
    ] {
        let answer = async |stream| {
            let mut request = post("key-a", &prompt(200, stream));
            request
                .headers_mut()
                .insert("x-output-tokens", tokens.parse().expect("a header value"));
            send(&provider, request).await
        };
        let whole = answer(false).await.json();
        let streamed = answer(true).await;
        let events = streamed.events();
        assert!(
            streamed
                .header("content-type")
                .starts_with("text/event-stream")
        );

        let deltas = events.len() - 6;
        assert!((1..=25).contains(&deltas));
        let kinds: Vec<_> = events
            .iter()
            .filter_map(|event| event["type"].as_str())
            .collect();
        assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
        assert_eq!(kinds[3..][..deltas], vec!["content_block_delta"; deltas]);
        assert_eq!(
            kinds[3 + deltas..],
            ["content_block_stop", "message_delta", "message_stop"]
        );

        let text: String = events
            .iter()
            .filter_map(|event| event["delta"]["text"].as_str())
            .collect();
        assert_eq!(whole["content"], json!([{ "type": "text", "text": text }]));
        assert_eq!(whole["stop_reason"], stop_reason);
        assert_eq!(events[4 + deltas]["delta"]["stop_reason"], stop_reason);
        let (start, end) = (&events[0]["message"], &events[4 + deltas]["usage"]);
        assert_eq!(end["output_tokens"].to_string(), tokens);
        assert_eq!(whole["usage"]["output_tokens"], end["output_tokens"]);
        assert_eq!(
            whole["usage"]["input_tokens"],
            start["usage"]["input_tokens"]
        );
        assert_eq!(
            (&start["content"], &start["stop_reason"]),
            (&json!([]), &Value::Null)
        );
        let counted = count_input_tokens(prompt(200, true).to_string().as_bytes());
        assert_eq!(start["usage"]["input_tokens"].as_u64(), counted);
    }
}

#[tokio::test]
async fn length_of_answers_is_drawn_from_a_tenth_of_max_tokens_up() {
    let draw = async |seed| {
        let provider = start(provider(Limits::default()).seed(seed)).await;
        let mut lengths = Vec::new();
        for _ in 0..20 {
            let answer = send(&provider, post("key-a", &prompt(1_000, false)))
                .await
                .json();
            lengths.push(answer["usage"]["output_tokens"].as_u64().expect("a count"));
        }
        assert_eq!(
            provider.counters().output_tokens_produced,
            lengths.iter().sum::<u64>()
        );
        lengths
    };
    let lengths = draw(1).await;
    assert!(lengths.iter().all(|length| (100..=1_000).contains(length)));
    assert_eq!(lengths, draw(1).await);
    assert_ne!(lengths, draw(2).await);
}

#[tokio::test(start_paused = true)]
async fn latency_is_first_token_and_the_rest_in_scaled_time() {
    let latency = Latency {
        first_token: Duration::from_secs(3),
        per_token: Duration::from_millis(100),
    };
    let provider = start(provider(Limits::default()).latency(latency).time_scale(2.0)).await;
    for stream in [false, true] {
        let mut request = post("key-a", &prompt(100, stream));
        request
            .headers_mut()
            .insert("x-output-tokens", "50".parse().expect("a header value"));
        let sent = Instant::now();
        let mut body = open(&provider, request).await.into_body();
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frame.expect("an intact body");
            frames.push(sent.elapsed().as_millis());
        }
        // Timers have a resolution of one millisecond.
        assert!((4_000..=4_002).contains(frames.last().expect("a frame")));
        if stream {
            assert!(frames[0] < 2, "the opening comes at once");
            assert!(
                (1_550..=1_552).contains(&frames[1]),
                "the first delta is the first token"
            );
        }
    }
}
