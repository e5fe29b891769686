//! OpenAI's forms: errors, rate-limit headers, the chat completion and the chunks of a stream.

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
use std::time::Duration;

// === Errors ===

pub(super) fn status(problem: &Problem) -> StatusCode {
    match problem {
        Problem::Malformed(_) | Problem::Missing(_) | Problem::Wrong { .. } => {
            StatusCode::BAD_REQUEST
        }
        Problem::MissingKey | Problem::UnknownKey => StatusCode::UNAUTHORIZED,
        Problem::ModelForbidden(_) => StatusCode::FORBIDDEN,
        Problem::NotFound | Problem::ModelNotFound(_) => StatusCode::NOT_FOUND,
        Problem::Method => StatusCode::METHOD_NOT_ALLOWED,
        Problem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::Refused { .. } | Problem::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Problem::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Problem::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(super) fn error(problem: &Problem) -> Value {
    let param = match problem {
        Problem::Missing(name) | Problem::Wrong { name, .. } => Some(*name),
        _ => None,
    };
    json!({
        "error": {
            "message": message(problem),
            "type": kind(problem),
            "param": param,
            "code": code(problem),
        },
    })
}

fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Refused { refusal, .. } => match refusal {
            Refusal::Rate {
                dimension: Dimension::Requests | Dimension::RequestsPerDay,
                ..
            }
            | Refusal::InFlight { .. } => "requests",
            Refusal::Rate { .. } => "tokens",
        },
        Problem::Exhausted => "insufficient_quota",
        Problem::ServerError | Problem::Overloaded => "server_error",
        _ => "invalid_request_error",
    }
}

fn code(problem: &Problem) -> Option<&'static str> {
    match problem {
        Problem::Missing(_) => Some("missing_required_parameter"),
        Problem::Wrong { .. } => Some("invalid_value"),
        Problem::UnknownKey => Some("invalid_api_key"),
        // With 403 too: the status alone tells them apart.
        Problem::ModelNotFound(_) | Problem::ModelForbidden(_) => Some("model_not_found"),
        Problem::Method => Some("method_not_supported"),
        Problem::Refused { .. } => Some("rate_limit_exceeded"),
        Problem::Exhausted => Some("insufficient_quota"),
        Problem::Malformed(_)
        | Problem::MissingKey
        | Problem::NotFound
        | Problem::TooLarge
        | Problem::ServerError
        | Problem::Overloaded => None,
    }
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Malformed(error) => format!("The body is not a JSON object: {error}."),
        Problem::Missing(name) => format!("Missing required parameter: '{name}'."),
        Problem::Wrong { name, expected } => {
            format!("Invalid value for '{name}': expected {expected}.")
        }
        Problem::MissingKey => "No API key; send it as Authorization: Bearer KEY.".into(),
        Problem::UnknownKey => "Incorrect API key provided.".into(),
        Problem::NotFound => "Invalid URL.".into(),
        Problem::Method => "This method is not supported here; use POST.".into(),
        Problem::TooLarge => "The body is larger than is accepted.".into(),
        Problem::Refused {
            refusal,
            wait,
            model,
        } => refused(*refusal, *wait, model),
        Problem::Exhausted => {
            "You exceeded your current quota, please check your plan and billing details.".into()
        }
        Problem::ModelNotFound(model) => {
            format!("The model `{model}` does not exist or you do not have access to it.")
        }
        Problem::ModelForbidden(model) => {
            format!("This project does not have access to model `{model}`.")
        }
        Problem::ServerError => "The server had an error while processing your request.".into(),
        Problem::Overloaded => "That model is currently overloaded with other requests.".into(),
    }
}

fn refused(refusal: Refusal, wait: Duration, model: &str) -> String {
    let wait = go_duration(wait);
    match refusal {
        Refusal::Rate {
            dimension,
            limit: amount,
            requested,
            ..
        } => {
            let limit = match dimension {
                Dimension::Requests => "requests per min (RPM)",
                Dimension::RequestsPerDay => "requests per day (RPD)",
                Dimension::InputTokens => "input tokens per min",
                Dimension::OutputTokens => "output tokens per min",
                Dimension::Tokens => "tokens per min (TPM)",
            };
            format!(
                "Rate limit reached for {model} on {limit}: Limit {amount}, \
                 Requested {requested}. Please try again in {wait}."
            )
        }
        Refusal::InFlight { limit } => format!(
            "Rate limit reached for {model} on requests at a time: Limit {limit}. \
             Please try again in {wait}."
        ),
    }
}

// === Headers ===

/// Adds the `x-ratelimit-*` headers. There is one set for tokens, so it tells of the limit with the
/// fewest left, and one for requests, over the minute or the day.
pub(super) fn stamp(headers: &mut HeaderMap, gauges: &[Gauge], requests: Dimension, clock: &Clock) {
    let unit_of = |gauge: &Gauge| match gauge.dimension {
        dimension if dimension == requests => Some("requests"),
        dimension if dimension.is_requests() => None,
        _ => Some("tokens"),
    };
    for unit in ["requests", "tokens"] {
        let same_unit = gauges.iter().filter(|gauge| unit_of(gauge) == Some(unit));
        let Some(gauge) = same_unit.min_by_key(|gauge| gauge.remaining) else {
            continue;
        };
        let mut set = |kind, shown| {
            let name = format!("x-ratelimit-{kind}-{unit}");
            headers.insert(
                HeaderName::try_from(name).expect("lower case and hyphens"),
                shown,
            );
        };
        let until_full = clock.real(gauge.full_at.saturating_sub(clock.now()));
        set("limit", gauge.limit.into());
        set("remaining", gauge.remaining.into());
        set("reset", value(go_duration(until_full)));
    }
}

/// As Go prints durations, rounded up to the millisecond: `0s`, `12ms`, `1.5s`, `6m0s`, `1h0m0s`.
fn go_duration(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let seconds = match millis % 1_000 {
        0 => (millis / 1_000).to_string(),
        fraction => {
            let digits = format!("{}.{fraction:03}", millis / 1_000);
            digits.trim_end_matches('0').to_owned()
        }
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

// === Answers ===

pub(super) fn whole(message: &Message) -> String {
    let choice = json!({
        "index": 0,
        "message": { "role": "assistant", "content": message.text(), "refusal": null },
        "logprobs": null,
        "finish_reason": finish_reason(message),
    });
    let mut object = object(message, "chat.completion", json!([choice]));
    object["usage"] = usage(message);
    object.to_string()
}

pub(super) fn opening(message: &Message) -> String {
    chunk(message, json!({ "role": "assistant", "content": "" }), None)
}

pub(super) fn delta(message: &Message, text: &str) -> String {
    chunk(message, json!({ "content": text }), None)
}

pub(super) fn closing(message: &Message) -> String {
    let mut closing = chunk(message, json!({}), Some(finish_reason(message)));
    if message.include_usage {
        let mut last = object(message, "chat.completion.chunk", json!([]));
        last["usage"] = usage(message);
        closing += &event(&last);
    }
    closing + "data: [DONE]\n\n"
}

pub(super) fn broken_off() -> String {
    event(&error(&Problem::Overloaded))
}

fn chunk(message: &Message, delta: Value, finish_reason: Option<&str>) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
    let mut chunk = object(message, "chat.completion.chunk", json!([choice]));
    if message.include_usage {
        chunk["usage"] = Value::Null;
    }
    event(&chunk)
}

fn object(message: &Message, kind: &str, choices: Value) -> Value {
    json!({
        "id": format!("chatcmpl-{:016x}", message.number),
        "object": kind,
        "created": message.created,
        "model": message.model,
        "choices": choices,
    })
}

fn usage(message: &Message) -> Value {
    json!({
        "prompt_tokens": message.tokens.input,
        "completion_tokens": message.output_tokens,
        "total_tokens": message.tokens.input + message.output_tokens,
        "prompt_tokens_details": { "cached_tokens": message.tokens.cached },
    })
}

fn finish_reason(message: &Message) -> &'static str {
    if message.is_complete() {
        "stop"
    } else {
        "length"
    }
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (micros, written) in [
            (0, "0s"),
            (1, "1ms"),
            (12_000, "12ms"),
            (1_000_000, "1s"),
            (3_890_000, "3.89s"),
            (60_052_000, "1m0.052s"),
            (360_000_000, "6m0s"),
            (3_600_000_000, "1h0m0s"),
            (411_480_000_000, "114h18m0s"),
            (59_999_999_999, "16h40m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_micros(micros)), written);
        }
    }
}
