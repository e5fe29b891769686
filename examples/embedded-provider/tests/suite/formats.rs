//! Gemini's and Bedrock's formats: answers, errors, and where a refusal says when to come back.

use crate::in_process::{ASK, Ask, MINUTE, builder, per_minute, start};
use embedded_provider::{Denial, Faults, Limits, Provider};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower_service::Service;

const GEMINI: Ask = Ask {
    path: "/v1beta/models/large-1:generateContent",
    cached: 30,
    ..ASK
};
const GEMINI_STREAM: Ask = Ask {
    path: "/v1beta/models/large-1:streamGenerateContent?alt=sse",
    ..GEMINI
};
const BEDROCK: Ask = Ask {
    path: "/model/anthropic.large-v1:0/converse",
    cached: 30,
    written: 20,
    ..ASK
};
const BEDROCK_STREAM: Ask = Ask {
    path: "/model/anthropic.large-v1:0/converse-stream",
    ..BEDROCK
};

fn unlimited() -> Provider {
    start(builder(Limits::default()))
}

#[tokio::test(start_paused = true)]
async fn gemini_tells_its_tokens_in_every_chunk() {
    let provider = unlimited();
    let whole = GEMINI.json(&provider).await;
    let usage = json!({
        "promptTokenCount": 100,
        "candidatesTokenCount": 10,
        "totalTokenCount": 110,
        "cachedContentTokenCount": 30,
    });
    assert_eq!(whole["usageMetadata"], usage);
    assert_eq!(whole["modelVersion"], "large-1");
    assert_eq!(whole["candidates"][0]["finishReason"], "STOP");

    let (_, headers, body) = GEMINI_STREAM.send(&provider).await;
    assert!(
        headers["content-type"]
            .to_str()
            .is_ok_and(|kind| kind.starts_with("text/event-stream"))
    );
    let text = std::str::from_utf8(&body).expect("text");
    let chunks: Vec<Value> = text
        .split_terminator("\r\n\r\n")
        .map(|event| event.strip_prefix("data: ").expect("data"))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let produced = |chunk: &Value| chunk["usageMetadata"]["candidatesTokenCount"].as_u64();
    assert_eq!(produced(&chunks[0]), Some(1));
    assert!(chunks.iter().all(|chunk| produced(chunk).is_some()));
    let last = chunks.last().expect("a chunk");
    assert_eq!(last["usageMetadata"], usage);
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    let part = |chunk: &Value| chunk["candidates"][0]["content"]["parts"][0]["text"].clone();
    let text: String = chunks
        .iter()
        .map(|chunk| part(chunk).as_str().map(str::to_owned))
        .map(|text| text.expect("text"))
        .collect();
    assert_eq!(text, part(&whole).as_str().expect("text"));

    let cut = Ask { max: 10, ..GEMINI };
    let cut = cut.json(&provider).await;
    assert_eq!(cut["candidates"][0]["finishReason"], "MAX_TOKENS");
    let array = Ask {
        path: "/v1beta/models/large-1:streamGenerateContent",
        ..GEMINI
    };
    assert_eq!(array.status(&provider).await, 400, "only events are served");
}

#[tokio::test(start_paused = true)]
async fn gemini_says_in_the_body_alone_when_to_come_back() {
    let limits = Limits {
        input_tokens_per_minute: Some(100),
        requests_per_day: Some(2),
        burst: MINUTE,
        ..Limits::default()
    };
    let provider = start(builder(limits));
    let refusal = async || {
        let (status, headers, body) = GEMINI.send(&provider).await;
        assert_eq!(status, 429);
        let told = headers.keys().map(|name| name.as_str());
        let mut told = told.filter(|name| name.contains("retry") || name.contains("ratelimit"));
        assert_eq!(told.next(), None);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["status"], "RESOURCE_EXHAUSTED");
        let details = &body["error"]["details"];
        let id = details[0]["violations"][0]["quotaId"]
            .as_str()
            .expect("a name");
        let delay = details[1]["retryDelay"].as_str().expect("a duration");
        (id.to_owned(), delay.to_owned())
    };
    assert_eq!(GEMINI.status(&provider).await, 200);
    tokio::time::advance(MINUTE / 8).await;
    let (id, delay) = refusal().await;
    assert_eq!((id.contains("PerMinute"), &*delay), (true, "52.5s"));
    tokio::time::advance(MINUTE).await;
    assert_eq!(GEMINI.status(&provider).await, 200);
    tokio::time::advance(MINUTE).await;
    let (id, delay) = refusal().await;
    assert_eq!(
        (id.contains("PerDay"), &*delay),
        (true, "36s"),
        "whatever the day has left"
    );
}

#[tokio::test(start_paused = true)]
async fn bedrock_tells_its_tokens_apart_and_streams_binary_frames() {
    let provider = unlimited();
    let whole = BEDROCK.json(&provider).await;
    let usage = json!({
        "inputTokens": 50,
        "cacheReadInputTokens": 30,
        "cacheWriteInputTokens": 20,
        "outputTokens": 10,
        "totalTokens": 110,
    });
    assert_eq!(whole["usage"], usage);
    assert_eq!(whole["stopReason"], "end_turn");

    let (_, headers, body) = BEDROCK_STREAM.send(&provider).await;
    assert_eq!(
        headers["content-type"],
        "application/vnd.amazon.eventstream"
    );
    let frames = frames(&body);
    let names: Vec<_> = frames.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"messageStart"));
    assert_eq!(
        names[names.len() - 3..],
        ["contentBlockStop", "messageStop", "metadata"]
    );
    assert_eq!(frames[frames.len() - 1].1["usage"], usage);
    let text: String = frames
        .iter()
        .filter_map(|(_, payload)| payload["delta"]["text"].as_str())
        .collect();
    assert_eq!(text, whole["output"]["message"]["content"][0]["text"]);
}

/// Type and payload of each frame; lengths alone are believed here.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let (length, headers) = (number(0) as usize, number(4) as usize);
        let text = String::from_utf8_lossy(&bytes[12..12 + headers]).into_owned();
        let names = ["event-type", "exception-type"];
        let name = names.iter().find_map(|name| {
            let value = text.split_once(name)?.1;
            // A byte for the type of the value and two for its length.
            Some(
                value[3..]
                    .split(':')
                    .next()?
                    .trim_end_matches(|c: char| !c.is_alphabetic()),
            )
        });
        let payload = serde_json::from_slice(&bytes[12 + headers..length - 4]).expect("JSON");
        frames.push((name.expect("a type").to_owned(), payload));
        bytes = &bytes[length..];
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn bedrock_names_its_exceptions_in_a_header_and_no_dimension_at_all() {
    let provider = start(builder(per_minute(100)));
    let (status, headers, body) = BEDROCK.send(&provider).await;
    assert_eq!(
        (status, headers.get("x-amzn-errortype")),
        (200, None),
        "{body:?}"
    );
    let (status, headers, body) = BEDROCK.send(&provider).await;
    assert_eq!(
        (status, &headers["x-amzn-errortype"]),
        (429, &"ThrottlingException".parse().expect("a value"))
    );
    assert!(!headers.contains_key("retry-after"));
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        body["message"],
        "Too many tokens, please wait before trying again."
    );

    let broken = Faults {
        stream_error_share: 1.0,
        ..Faults::default()
    };
    let provider = start(builder(Limits::default()).faults(broken));
    let (_, _, body) = BEDROCK_STREAM.send(&provider).await;
    let frames = frames(&body);
    let (name, _) = frames.last().expect("a frame");
    assert_eq!(name, "serviceUnavailableException");
}

#[tokio::test(start_paused = true)]
async fn their_errors_have_the_forms_of_their_own() {
    let provider = unlimited();
    provider
        .deny_model("org-a", "large-1", Denial::NotFound)
        .expect("a scope");
    let with = |path: &str, key: &str, body: &str| {
        Request::post(path)
            .header("x-goog-api-key", key)
            .body(Full::<bytes::Bytes>::from(body.to_owned()))
            .expect("a valid request")
    };
    let gemini = GEMINI.path;
    let converse = BEDROCK.path;
    let some = r#"{"contents": [{"parts": [{"text": "Hi"}]}]}"#;
    for (request, status, kind) in [
        (with(gemini, "nobody's", some), 400, "INVALID_ARGUMENT"),
        (with(gemini, "key-a", "{}"), 400, "INVALID_ARGUMENT"),
        (with(gemini, "key-a", some), 404, "NOT_FOUND"),
        (
            with(converse, "nobody's", "{}"),
            403,
            "UnrecognizedClientException",
        ),
        (with(converse, "key-a", "{}"), 400, "ValidationException"),
        (
            with("/model/m/invoke", "key-a", "{}"),
            404,
            "not_found_error",
        ),
    ] {
        let (head, body) = provider
            .service()
            .call(request)
            .await
            .expect("an answer")
            .into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        assert_eq!(head.status, StatusCode::from_u16(status).expect("a status"));
        let named = head.headers.get("x-amzn-errortype");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let error = &body["error"];
        let found = named
            .and_then(|name| name.to_str().ok())
            .or_else(|| error["status"].as_str())
            .or_else(|| error["type"].as_str());
        assert_eq!(found, Some(kind), "{body}");
    }
    let invalid = with(gemini, "nobody's", some);
    let response = provider.service().call(invalid).await.expect("an answer");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["error"]["details"][0]["reason"], "API_KEY_INVALID");
}
