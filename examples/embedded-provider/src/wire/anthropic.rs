//! Anthropic's forms: errors, rate-limit headers, the message and the events of a stream.

use super::{
    message::{Message, value},
    problem::Problem,
};
use crate::{
    clock::Clock,
    quota::{Dimension, Gauge, Refusal},
};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

// === Errors ===

pub(super) fn status(problem: &Problem) -> StatusCode {
    match problem {
        Problem::Malformed(_)
        | Problem::Missing(_)
        | Problem::Wrong { .. }
        | Problem::Exhausted => StatusCode::BAD_REQUEST,
        Problem::MissingKey | Problem::UnknownKey => StatusCode::UNAUTHORIZED,
        Problem::ModelForbidden(_) => StatusCode::FORBIDDEN,
        Problem::NotFound | Problem::ModelNotFound(_) => StatusCode::NOT_FOUND,
        Problem::Method => StatusCode::METHOD_NOT_ALLOWED,
        Problem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::Refused { .. } => StatusCode::TOO_MANY_REQUESTS,
        Problem::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        // No standard names this status.
        Problem::Overloaded => StatusCode::from_u16(529).expect("529 is a status code"),
    }
}

pub(super) fn error(problem: &Problem, request_id: &str) -> Value {
    let error = json!({ "type": kind(problem), "message": message(problem) });
    json!({ "type": "error", "error": error, "request_id": request_id })
}

fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Malformed(_)
        | Problem::Missing(_)
        | Problem::Wrong { .. }
        | Problem::Method
        | Problem::Exhausted => "invalid_request_error",
        Problem::MissingKey | Problem::UnknownKey => "authentication_error",
        Problem::ModelForbidden(_) => "permission_error",
        Problem::NotFound | Problem::ModelNotFound(_) => "not_found_error",
        Problem::TooLarge => "request_too_large",
        Problem::Refused { .. } => "rate_limit_error",
        Problem::ServerError => "api_error",
        Problem::Overloaded => "overloaded_error",
    }
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Malformed(error) => {
            format!("The request body is not a valid JSON object: {error}")
        }
        Problem::Missing(name) => format!("{name}: Field required"),
        Problem::Wrong { name, expected } => format!("{name}: Input should be {expected}"),
        Problem::MissingKey => "x-api-key header is required".into(),
        Problem::UnknownKey => "invalid x-api-key".into(),
        Problem::NotFound => "The requested resource could not be found.".into(),
        Problem::Method => "Method Not Allowed".into(),
        Problem::TooLarge => "Request exceeds the maximum allowed number of bytes.".into(),
        Problem::Refused { refusal, .. } => refused(*refusal),
        Problem::Exhausted => {
            "Your credit balance is too low to access the API; add credits to go on.".into()
        }
        Problem::ModelNotFound(model) => format!("model: {model}"),
        Problem::ModelForbidden(model) => {
            format!("Your API key does not have permission to use the model {model}.")
        }
        Problem::ServerError => "Internal server error".into(),
        Problem::Overloaded => "Overloaded".into(),
    }
}

fn refused(refusal: Refusal) -> String {
    match refusal {
        Refusal::Rate {
            dimension, limit, ..
        } => format!(
            "This request would exceed the rate limit for your organization of {limit} {} \
             per {}. You can see the response headers for current usage.",
            slug(dimension).replace('-', " "),
            match dimension {
                Dimension::RequestsPerDay => "day",
                _ => "minute",
            }
        ),
        Refusal::InFlight { limit } => format!(
            "Number of concurrent connections has exceeded your rate limit of {limit}. \
             Please try again later."
        ),
    }
}

// === Headers ===

/// Adds the `anthropic-ratelimit-*` headers.
pub(super) fn stamp(headers: &mut HeaderMap, gauges: &[Gauge], clock: &Clock) {
    let of_minutes = |gauge: &&Gauge| gauge.dimension != Dimension::RequestsPerDay;
    for gauge in gauges.iter().filter(of_minutes) {
        let mut set = |what, shown| {
            let name = format!("anthropic-ratelimit-{}-{what}", slug(gauge.dimension));
            headers.insert(
                HeaderName::try_from(name).expect("lower case and hyphens"),
                shown,
            );
        };
        set("limit", gauge.limit.into());
        set("remaining", shown(gauge.dimension, gauge.remaining).into());
        set("reset", value(date_up(clock.wall(gauge.full_at))));
    }
}

fn slug(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests | Dimension::RequestsPerDay => "requests",
        Dimension::InputTokens => "input-tokens",
        Dimension::OutputTokens => "output-tokens",
        Dimension::Tokens => "tokens",
    }
}

/// Anthropic rounds the tokens that remain to the nearest thousand, and requests not at all.
fn shown(dimension: Dimension, remaining: u64) -> u64 {
    match dimension {
        Dimension::Requests | Dimension::RequestsPerDay => remaining,
        Dimension::InputTokens | Dimension::OutputTokens | Dimension::Tokens => {
            remaining.saturating_add(500) / 1_000 * 1_000
        }
    }
}

/// RFC 3339 in whole seconds, as Anthropic writes it, rounded up: by then the bucket *is* full.
fn date_up(date: SystemTime) -> impl Display {
    humantime::format_rfc3339_seconds(date + Duration::from_nanos(999_999_999))
}

// === Answers ===

pub(super) fn whole(message: &Message) -> String {
    let content = json!([{ "type": "text", "text": message.text() }]);
    let stop_reason = Some(stop_reason(message));
    object(message, content, stop_reason, message.output_tokens).to_string()
}

pub(super) fn opening(message: &Message) -> String {
    let empty = object(message, json!([]), None, 1);
    let start = json!({ "type": "message_start", "message": empty });
    let text = json!({ "type": "text", "text": "" });
    let block = json!({ "type": "content_block_start", "index": 0, "content_block": text });
    [
        event(&start),
        event(&block),
        event(&json!({ "type": "ping" })),
    ]
    .concat()
}

pub(super) fn delta(text: &str) -> String {
    let delta = json!({ "type": "text_delta", "text": text });
    event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
}

pub(super) fn closing(message: &Message) -> String {
    let stop = json!({ "type": "content_block_stop", "index": 0 });
    let delta = json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(message), "stop_sequence": null },
        "usage": { "output_tokens": message.output_tokens },
    });
    [
        event(&stop),
        event(&delta),
        event(&json!({ "type": "message_stop" })),
    ]
    .concat()
}

pub(super) fn broken_off() -> String {
    let problem = Problem::Overloaded;
    let error = json!({
        "details": null,
        "type": kind(&problem),
        "message": message(&problem),
    });
    event(&json!({ "type": "error", "error": error }))
}

fn stop_reason(message: &Message) -> &'static str {
    if message.is_complete() {
        "end_turn"
    } else {
        "max_tokens"
    }
}

fn object(
    message: &Message,
    content: Value,
    stop_reason: Option<&str>,
    output_tokens: u64,
) -> Value {
    json!({
        "id": format!("msg_{:016x}", message.number),
        "type": "message",
        "role": "assistant",
        "model": message.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": message.tokens.input - message.tokens.cached - message.tokens.written,
            "cache_creation_input_tokens": message.tokens.written,
            "cache_read_input_tokens": message.tokens.cached,
            "output_tokens": output_tokens,
        },
    })
}

/// One server-sent event; its name repeats the `type` of its data.
fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().expect("every event has a type")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_remaining_are_shown_to_the_nearest_thousand() {
        let tokens =
            [0, 499, 500, 1_499, 1_500].map(|tokens| shown(Dimension::InputTokens, tokens));
        assert_eq!(tokens, [0, 0, 1_000, 1_000, 2_000]);
        assert_eq!(shown(Dimension::Requests, 499), 499);
    }

    #[test]
    fn dates_are_rounded_up_to_the_second() {
        let at =
            |millis| date_up(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).to_string();
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(at(951_782_400_001), "2000-02-29T00:00:01Z");
    }
}
