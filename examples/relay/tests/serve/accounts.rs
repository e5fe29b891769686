//! What only the bodies and headers of a provider's answers tell.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    client::{Answer, ask, get, post},
    relay::Relay,
};

/// An upstream that answers as it is told to, and keeps the headers of its calls.
struct Upstream {
    url: String,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    server: AbortHandle,
}

type Scripted = Response<&'static str>;

impl Upstream {
    /// `answer` is shown which call it is, and its headers.
    async fn start(answer: fn(usize, &HeaderMap) -> Scripted) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let noted = Arc::clone(&noted);
                let service = service_fn(move |request: Request<Incoming>| {
                    let headers = request.headers().clone();
                    let mut noted = noted.lock().expect("not poisoned");
                    let response = answer(noted.len(), &headers);
                    noted.push(headers);
                    let response = response.map(Full::<Bytes>::from);
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self {
            url,
            seen,
            server: server.abort_handle(),
        }
    }

    fn calls(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    /// How many calls had this value in this header.
    fn calls_with(&self, name: &str, value: &str) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        let has = |headers: &&HeaderMap| headers.get(name).is_some_and(|found| found == value);
        seen.iter().filter(has).count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Scripted {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).expect("a valid response")
}

const JSON: (&str, &str) = ("content-type", "application/json");
const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

/// Some keys, each an account of its own or together in one, and what the quota is.
fn config(upstream: &Upstream, provider: &str, scopes: &[&[&str]], quota: &str) -> String {
    let mut config = format!(
        "[[upstream]]\nname = \"up\"\nprovider = \"{provider}\"\nbase_url = \"{}\"\n\
         max_wait = \"1s\"\nconcurrency = {{ enabled = false }}\n",
        upstream.url
    );
    for (number, keys) in scopes.iter().enumerate() {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| format!("{{ alias = \"{key}\", value = \"secret-{key}\" }}"))
            .collect();
        config += &format!(
            "[[upstream.scope]]\nname = \"org-{number}\"\nkey = [{}]\n{quota}",
            keys.join(", ")
        );
    }
    config
}

async fn call(relay: &Relay, max_tokens: u32) -> Answer {
    let question = json!({ "model": "m", "max_tokens": max_tokens, "messages": [] });
    post(relay.at("/v1/messages"), &question).await
}

async fn scopes(relay: &Relay) -> Value {
    let status = get(relay.at("/-/status")).await;
    assert!(!status.text.contains("secret"), "{}", status.text);
    status.json()["upstreams"][0]["scopes"].clone()
}

const BAD_KEY: &str = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#;

#[tokio::test]
async fn a_key_that_fails_alone_rests_unless_its_breaker_is_off() {
    for (lines, state) in [("", "breaker_open"), ("key_breaker = false\n", "usable")] {
        let upstream = Upstream::start(|_, headers| match headers["authorization"].to_str() {
            Ok("Bearer secret-bad") => answer(500, &[JSON], "{}"),
            _ => answer(200, &[JSON], "{}"),
        })
        .await;
        let own = format!("{lines}strategy = \"round-robin\"\nbreaker = {{ enabled = false }}\n");
        let config = config(&upstream, "openai", &[&["bad", "good"]], "").replacen(
            "[[upstream.scope",
            &(own + "[[upstream.scope"),
            1,
        );
        let (relay, _file) = Relay::with(&config).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            calls.spawn(get(relay.at("/v1/models")));
        }
        while calls.join_next().await.is_some() {}
        let scopes = scopes(&relay).await;
        assert_eq!(scopes[0]["keys"][0]["state"], state, "{scopes}");
        assert_eq!(scopes[0]["keys"][1]["state"], "usable", "{scopes}");
    }
}

#[tokio::test]
async fn a_key_that_is_refused_with_400_is_taken_out_and_the_next_one_serves() {
    let upstream = Upstream::start(|_, headers| match headers["x-goog-api-key"].to_str() {
        Ok("secret-bad") => answer(400, &[JSON], BAD_KEY),
        _ => answer(200, &[JSON], "{}"),
    })
    .await;
    let config = config(&upstream, "gemini", &[&["bad", "good"]], "");
    let (relay, _file) = Relay::with(&config).await;
    for _ in 0..6 {
        let answer = call(&relay, 1).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert_eq!(upstream.calls_with("x-goog-api-key", "secret-bad"), 1);
    assert_eq!(upstream.calls(), 7);
    let keys = scopes(&relay).await[0]["keys"].clone();
    assert_eq!(
        (&keys[0]["state"], &keys[1]["state"]),
        (&json!("rejected"), &json!("usable"))
    );
}

const NO_MONEY: &str = r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;

#[tokio::test]
async fn an_empty_account_behind_a_429_leaves_its_calls_to_the_other_account() {
    let upstream = Upstream::start(|_, headers| match headers["authorization"].to_str() {
        Ok("Bearer secret-poor") => answer(429, &[JSON], NO_MONEY),
        _ => answer(200, &[JSON], "{}"),
    })
    .await;
    let config = config(&upstream, "openai", &[&["poor"], &["rich"]], "");
    let (relay, _file) = Relay::with(&config).await;
    for _ in 0..6 {
        let answer = call(&relay, 1).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert_eq!(
        upstream.calls_with("authorization", "Bearer secret-poor"),
        1
    );
    assert_eq!(upstream.calls(), 7);
    let scopes = scopes(&relay).await;
    assert_eq!(scopes[0]["state"], "exhausted");
    assert_eq!(scopes[1]["state"], "open");
}

const STREAM: &str = "event: message_start\n\
    data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n\
    event: content_block_delta\n\
    data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
    event: message_delta\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":10}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// Ten minutes' worth at once.
const OUTPUT: &str = "[[upstream.scope.quota]]\noutput_tokens_per_minute = 100\n\
     burst = { output_tokens = 1_000 }\n";

#[tokio::test]
async fn what_a_stream_did_not_use_is_given_back_at_its_end() {
    let upstream = Upstream::start(|call, _| match call {
        0..3 => answer(200, &[EVENTS], STREAM),
        _ => answer(200, &[JSON], "{}"),
    })
    .await;
    let config = config(&upstream, "anthropic", &[&["a"]], OUTPUT);
    let (relay, _file) = Relay::with(&config).await;
    for calls in 1..=3 {
        let answer = call(&relay, 900).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.text, STREAM);
        let left = scopes(&relay).await[0]["classes"][0]["remaining"].clone();
        let left = left["output_tokens"].as_i64().expect("a number");
        assert!((1_000 - 10 * calls..=1_000).contains(&left), "{left} left");
    }
    // Of an answer that tells no usage the whole is taken for used.
    assert_eq!(call(&relay, 900).await.status, StatusCode::OK);
    let answer = call(&relay, 900).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn a_quota_that_the_server_shows_to_be_used_is_waited_for_before_it_refuses() {
    let upstream = Upstream::start(|_, _| {
        let used = [
            JSON,
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "60s"),
        ];
        answer(200, &used, "{}")
    })
    .await;
    let quota = "[[upstream.scope.quota]]\nrequests_per_minute = 600\nburst = { requests = 10 }\n";
    let config = config(&upstream, "openai", &[&["a"]], quota);
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(call(&relay, 1).await.status, StatusCode::OK);
    let answer = call(&relay, 1).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn answers_are_asked_for_in_a_form_that_can_be_read() {
    let upstream = Upstream::start(|_, _| answer(200, &[JSON], "{}")).await;
    let (relay, _file) = Relay::with(&config(&upstream, "openai", &[&["a"]], "")).await;
    let request = Request::post(relay.at("/v1/chat/completions"))
        .header("accept-encoding", "gzip, br")
        .body(Full::default())
        .expect("a request");
    assert_eq!(ask(request).await.status, StatusCode::OK);
    assert_eq!(upstream.calls_with("accept-encoding", "identity"), 1);
}
