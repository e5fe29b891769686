//! Anthropic's forms: errors, rate-limit headers, the message and the events of a stream.

use crate::{
    clock::Clock,
    quota::{Dimension, Gauge, Refusal},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

/// The text of answers repeats these words of four bytes, one per token.
const WORDS: [&str; 8] = [
    "the ", "sea ", "and ", "sky ", "are ", "one ", "big ", "sum ",
];

/// A failure, in the terms of the wire.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found_error",
            "The requested resource could not be found.",
        )
    }

    pub(crate) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            "Method Not Allowed",
        )
    }

    pub(crate) fn too_large() -> Self {
        let message = "Request exceeds the maximum allowed number of bytes.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    pub(crate) fn server_error() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "api_error",
            "Internal server error",
        )
    }

    pub(crate) fn overloaded() -> Self {
        // No standard names this status.
        let status = StatusCode::from_u16(529).expect("529 is a status code");
        Self::new(status, "overloaded_error", "Overloaded")
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::Rate {
                dimension,
                per_minute,
                ..
            } => format!(
                "This request would exceed the rate limit for your organization of {per_minute} {} \
                 per minute. You can see the response headers for current usage.",
                dimension.slug().replace('-', " ")
            ),
            Refusal::InFlight { limit } => format!(
                "Number of concurrent connections has exceeded your rate limit of {limit}. \
                 Please try again later."
            ),
        };
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
    }

    pub(crate) fn body(&self, request_id: &str) -> Bytes {
        let error = json!({ "type": self.kind, "message": self.message });
        json!({ "type": "error", "error": error, "request_id": request_id })
            .to_string()
            .into()
    }
}

/// The seconds to wait that a refusal states: real time, rounded up, at least 1.
pub(crate) fn retry_after(refusal: Refusal, clock: &Clock) -> u64 {
    let wait = match refusal {
        Refusal::Rate { wait, .. } => clock.real(wait),
        Refusal::InFlight { .. } => Duration::ZERO,
    };
    whole_seconds_up(wait).max(1)
}

/// Adds the `anthropic-ratelimit-*` headers.
pub(crate) fn stamp(headers: &mut HeaderMap, gauges: &[Gauge], clock: &Clock) {
    for gauge in gauges {
        let mut set = |what, shown| {
            let name = format!("anthropic-ratelimit-{}-{what}", gauge.dimension.slug());
            headers.insert(
                HeaderName::try_from(name).expect("lower case and hyphens"),
                shown,
            );
        };
        set("limit", gauge.per_minute.into());
        set("remaining", gauge.dimension.shown(gauge.remaining).into());
        set("reset", value(date_up(clock.wall(gauge.full_at))));
    }
}

pub(crate) fn value(shown: impl Display) -> HeaderValue {
    HeaderValue::try_from(shown.to_string())
        .expect("numbers, dates and identifiers are visible ASCII")
}

impl Dimension {
    fn slug(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
        }
    }

    /// Anthropic rounds the tokens that remain to the nearest thousand, and requests not at all.
    fn shown(self, remaining: u64) -> u64 {
        match self {
            Self::Requests => remaining,
            Self::InputTokens | Self::OutputTokens => remaining.saturating_add(500) / 1_000 * 1_000,
        }
    }
}

fn whole_seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// RFC 3339 in whole seconds, as Anthropic writes it, rounded up: by then the bucket *is* full.
fn date_up(date: SystemTime) -> impl Display {
    humantime::format_rfc3339_seconds(date + Duration::from_nanos(999_999_999))
}

/// What one answer consists of, whole or in events.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) max_tokens: u64,
}

impl Message {
    pub(crate) fn whole(&self) -> Bytes {
        let content = json!([{ "type": "text", "text": text(0, self.output_tokens) }]);
        self.json(content, Some(self.stop_reason()), self.output_tokens)
            .to_string()
            .into()
    }

    /// The events before the first token.
    pub(crate) fn opening(&self) -> Bytes {
        let start = json!({ "type": "message_start", "message": self.json(json!([]), None, 1) });
        let text = json!({ "type": "text", "text": "" });
        let block = json!({ "type": "content_block_start", "index": 0, "content_block": text });
        [
            event(&start),
            event(&block),
            event(&json!({ "type": "ping" })),
        ]
        .concat()
        .into()
    }

    /// Tokens `from..to` of the answer.
    pub(crate) fn delta(from: u64, to: u64) -> String {
        let delta = json!({ "type": "text_delta", "text": text(from, to) });
        event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
    }

    /// The events after the last token.
    pub(crate) fn closing(&self) -> String {
        let stop = json!({ "type": "content_block_stop", "index": 0 });
        let delta = json!({
            "type": "message_delta",
            "delta": { "stop_reason": self.stop_reason(), "stop_sequence": null },
            "usage": { "output_tokens": self.output_tokens },
        });
        [
            event(&stop),
            event(&delta),
            event(&json!({ "type": "message_stop" })),
        ]
        .concat()
    }

    /// The event that takes the place of the rest when a stream fails.
    pub(crate) fn broken_off() -> String {
        let Problem { kind, message, .. } = Problem::overloaded();
        let error = json!({ "details": null, "type": kind, "message": message });
        event(&json!({ "type": "error", "error": error }))
    }

    fn stop_reason(&self) -> &'static str {
        if self.output_tokens < self.max_tokens {
            "end_turn"
        } else {
            "max_tokens"
        }
    }

    fn json(&self, content: Value, stop_reason: Option<&str>, output_tokens: u64) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.input_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
            },
        })
    }
}

/// One server-sent event; its name repeats the `type` of its data.
fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().expect("every event has a type")
    )
}

fn text(from: u64, to: u64) -> String {
    (from..to)
        .map(|token| WORDS[token as usize % WORDS.len()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_remaining_are_shown_to_the_nearest_thousand() {
        let shown = [0, 499, 500, 1_499, 1_500].map(|tokens| Dimension::InputTokens.shown(tokens));
        assert_eq!(shown, [0, 0, 1_000, 1_000, 2_000]);
        assert_eq!(Dimension::Requests.shown(499), 499);
    }

    #[test]
    fn dates_are_rounded_up_to_the_second() {
        let at =
            |millis| date_up(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).to_string();
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(at(951_782_400_001), "2000-02-29T00:00:01Z");
    }

    #[test]
    fn waits_are_told_in_real_seconds_rounded_up() {
        let clock = Clock::start(10.0);
        let dimension = Dimension::Requests;
        let rate = |wait| Refusal::Rate {
            dimension,
            per_minute: 1,
            wait,
        };
        let told = |wait| retry_after(rate(wait), &clock);
        assert_eq!(told(Duration::from_millis(1)), 1);
        assert_eq!(told(Duration::from_secs(20)), 2);
        assert_eq!(told(Duration::from_millis(20_001)), 3);
        assert_eq!(retry_after(Refusal::InFlight { limit: 4 }, &clock), 1);
    }
}
