//! A client of the provider's service, in paused time.

use bytes::Bytes;
use embedded_provider::{AnswerBody, Builder, Limits, Provider, Scope};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;
use tower_service::Service;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// So much of each kind of token per minute, all of it held at first.
pub(crate) fn per_minute(tokens: u64) -> Limits {
    Limits {
        input_tokens_per_minute: Some(tokens),
        output_tokens_per_minute: Some(tokens),
        tokens_per_minute: Some(tokens),
        burst: MINUTE,
        ..Limits::default()
    }
}

pub(crate) fn builder(limits: Limits) -> Builder {
    Provider::builder().scope(Scope::new("org-a", ["key-a"], limits))
}

pub(crate) fn start(builder: Builder) -> Provider {
    builder.start_in_process().expect("a valid configuration")
}

/// One call, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) path: &'static str,
    /// By the length of the text.
    pub(crate) estimated: usize,
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) written: u64,
    pub(crate) max: u64,
    pub(crate) output: u64,
    pub(crate) stream: bool,
}

pub(crate) const ASK: Ask = Ask {
    path: "/v1/chat/completions",
    estimated: 100,
    input: 100,
    cached: 0,
    written: 0,
    max: 50,
    output: 10,
    stream: false,
};

impl Ask {
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let text = "abcd".repeat(self.estimated);
        let body = if self.path.starts_with("/v1beta/") {
            let parts = json!([{ "role": "user", "parts": [{ "text": text }] }]);
            json!({ "contents": parts, "generationConfig": { "maxOutputTokens": self.max } })
        } else if self.path.starts_with("/model/") {
            let messages = json!([{ "role": "user", "content": [{ "text": text }] }]);
            json!({ "messages": messages, "inferenceConfig": { "maxTokens": self.max } })
        } else {
            let messages = json!([{ "role": "user", "content": text }]);
            let (max, stream) = (self.max, self.stream);
            json!({ "model": "m", "max_tokens": max, "stream": stream, "messages": messages })
        };
        Request::post(self.path)
            .header("authorization", "Bearer key-a")
            .header("x-input-tokens", self.input)
            .header("x-cached-tokens", self.cached)
            .header("x-cache-write-tokens", self.written)
            .header("x-output-tokens", self.output)
            .body(Full::from(body.to_string()))
            .expect("a valid request")
    }

    /// The answer as soon as its head is there.
    pub(crate) async fn open(&self, provider: &Provider) -> Response<AnswerBody> {
        let response = provider.service().call(self.request()).await;
        response.expect("the body is whole")
    }

    /// The whole answer.
    pub(crate) async fn send(&self, provider: &Provider) -> (u16, HeaderMap, Bytes) {
        let (head, body) = self.open(provider).await.into_parts();
        let body = body.collect().await.expect("it is whole").to_bytes();
        (head.status.as_u16(), head.headers, body)
    }

    pub(crate) async fn status(&self, provider: &Provider) -> u16 {
        self.send(provider).await.0
    }

    pub(crate) async fn json(&self, provider: &Provider) -> Value {
        let (_, _, body) = self.send(provider).await;
        serde_json::from_slice(&body).expect("JSON")
    }
}

/// What is charged in the dimension of this name.
pub(crate) fn charged(provider: &Provider, dimension: &str) -> f64 {
    let books = provider.books("org-a").expect("a configured scope");
    let mut books = books.dimensions.iter();
    let (_, book) = books
        .find(|(name, _)| name.starts_with(dimension))
        .expect("a limited dimension");
    book.charged
}

/// Input, output, and both together.
pub(crate) fn all_charged(provider: &Provider) -> [f64; 3] {
    ["input", "output", "tokens"].map(|dimension| charged(provider, dimension))
}
