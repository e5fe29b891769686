//! A client as plain as can be: one connection per request, no retries, no limits.

use bytes::Bytes;
use embedded_provider::{Builder, Limits, Provider, Scope};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;

pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";

/// A builder with one scope, `org-a`, that `key-a` opens.
pub(crate) fn provider(limits: Limits) -> Builder {
    Provider::builder().scope(Scope::new("org-a", ["key-a"], limits))
}

pub(crate) async fn start(builder: Builder) -> Provider {
    builder.start().await.expect("a valid configuration")
}

/// So few requests per minute that nothing refills while a test runs.
pub(crate) fn requests(held: u32) -> Limits {
    Limits {
        requests_per_minute: Some(1),
        burst: Duration::from_secs(60) * held,
        ..Limits::default()
    }
}

pub(crate) fn prompt(max_tokens: u64, stream: bool) -> Value {
    json!({
        "model": "claude-test",
        "max_tokens": max_tokens,
        "stream": stream,
        "messages": [{ "role": "user", "content": "Tell me about the sea." }],
    })
}

pub(crate) fn post(key: &str, body: &Value) -> Request<Full<Bytes>> {
    request("POST", "/v1/messages", key, body.to_string())
}

pub(crate) fn request(
    method: &str,
    path: &str,
    key: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "provider")
        .header("x-api-key", key);
    builder
        .body(Full::new(body.into()))
        .expect("a valid request")
}

/// Sends a request and returns the answer as soon as its head is there; dropping it closes the
/// connection.
pub(crate) async fn open(provider: &Provider, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let socket = TcpStream::connect(provider.addr())
        .await
        .expect("the provider listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .expect("a fresh connection");
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .expect("the provider answers")
}

/// An answer read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// A header as text; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a printable header"))
    }

    /// The data of each event, after a check that its name agrees.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).expect("a stream of text");
        let text = text
            .strip_suffix("\n\n")
            .expect("the last event is complete");
        text.split("\n\n").map(event).collect()
    }
}

fn event(block: &str) -> Value {
    let (name, data) = block.split_once('\n').expect("an event of two lines");
    let data: Value =
        serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON data");
    assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
    data
}

pub(crate) async fn send(provider: &Provider, request: Request<Full<Bytes>>) -> Answer {
    let (head, body) = open(provider, request).await.into_parts();
    let body = body.collect().await.expect("a complete body").to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

pub(crate) fn chat(key: &str, body: &Value) -> Request<Full<Bytes>> {
    raw_chat(key, body.to_string())
}

pub(crate) fn raw_chat(key: &str, body: String) -> Request<Full<Bytes>> {
    let mut request = request("POST", CHAT_PATH, key, body);
    let headers = request.headers_mut();
    headers.remove("x-api-key");
    let bearer = format!("Bearer {key}");
    headers.insert("authorization", bearer.parse().expect("a header value"));
    request
}

/// Asks for a chat completion of one token.
pub(crate) async fn ask(provider: &Provider, key: &str) -> Answer {
    send(provider, chat(key, &prompt(1, false))).await
}

/// The events of a stream that have no names.
pub(crate) fn data_events(text: &str) -> Vec<Value> {
    let events = text.split_terminator("\n\n");
    events
        .map(|event| event.strip_prefix("data: ").expect("a line of data"))
        .map(|data| serde_json::from_str(data).expect("JSON data"))
        .collect()
}

/// Sends a prompt of one token of output and returns the status.
pub(crate) async fn call(provider: &Provider, key: &str) -> u16 {
    send(provider, post(key, &prompt(1, false)))
        .await
        .status
        .as_u16()
}

/// Polls until the condition holds; five seconds without it fail the test.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), holds)
        .await
        .expect("the condition comes true");
}
