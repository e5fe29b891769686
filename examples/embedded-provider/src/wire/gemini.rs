//! Gemini's forms: errors that say in their body when to come back, and `generateContent` whole and
//! in events.

use super::{message::Message, problem::Problem};
use crate::quota::{Dimension, Refusal};
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// What a refusal tells to wait, whatever the day has left: the provider names no more than this.
const DAILY_PAUSE: Duration = Duration::from_secs(36);

// === Errors ===

pub(super) fn status(problem: &Problem) -> StatusCode {
    match problem {
        // A wrong key is a wrong argument here.
        Problem::Malformed(_)
        | Problem::Missing(_)
        | Problem::Wrong { .. }
        | Problem::TooLarge
        | Problem::UnknownKey => StatusCode::BAD_REQUEST,
        Problem::MissingKey | Problem::ModelForbidden(_) => StatusCode::FORBIDDEN,
        Problem::NotFound | Problem::ModelNotFound(_) => StatusCode::NOT_FOUND,
        Problem::Method => StatusCode::METHOD_NOT_ALLOWED,
        Problem::Refused { .. } | Problem::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Problem::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Problem::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(super) fn error(problem: &Problem) -> Value {
    let mut error = json!({
        "code": status(problem).as_u16(),
        "message": message(problem),
        "status": kind(problem),
    });
    match problem {
        Problem::UnknownKey => {
            error["details"] = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            }]);
        }
        Problem::Refused { refusal, wait, .. } => error["details"] = details(*refusal, *wait),
        _ => {}
    }
    json!({ "error": error })
}

fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Malformed(_)
        | Problem::Missing(_)
        | Problem::Wrong { .. }
        | Problem::TooLarge
        | Problem::Method
        | Problem::UnknownKey => "INVALID_ARGUMENT",
        Problem::MissingKey | Problem::ModelForbidden(_) => "PERMISSION_DENIED",
        Problem::NotFound | Problem::ModelNotFound(_) => "NOT_FOUND",
        Problem::Refused { .. } | Problem::Exhausted => "RESOURCE_EXHAUSTED",
        Problem::ServerError => "INTERNAL",
        Problem::Overloaded => "UNAVAILABLE",
    }
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Malformed(error) => format!("Invalid JSON payload received. {error}"),
        Problem::Missing(name) => format!("{name} is not specified"),
        Problem::Wrong { name, expected } => format!("{name} should be {expected}"),
        Problem::MissingKey => "The request has no API key; send it in x-goog-api-key.".into(),
        Problem::UnknownKey => "API key not valid. Please pass a valid API key.".into(),
        Problem::NotFound => "Requested entity was not found.".into(),
        Problem::Method => "The method is not allowed; use POST.".into(),
        Problem::TooLarge => "Request payload size exceeds the limit.".into(),
        Problem::Refused { .. } => "You exceeded your current quota.".into(),
        Problem::Exhausted => "Your prepayment credits are depleted.".into(),
        Problem::ModelNotFound(model) => format!("models/{model} is not found."),
        Problem::ModelForbidden(model) => format!("No permission to use models/{model}."),
        Problem::ServerError => "An internal error has occurred.".into(),
        Problem::Overloaded => "The model is overloaded. Please try again later.".into(),
    }
}

fn details(refusal: Refusal, wait: Duration) -> Value {
    let (id, limit, wait) = match refusal {
        Refusal::Rate {
            dimension, limit, ..
        } => match dimension {
            Dimension::Requests => ("GenerateRequestsPerMinutePerProjectPerModel", limit, wait),
            Dimension::RequestsPerDay => (
                "GenerateRequestsPerDayPerProjectPerModel",
                limit,
                DAILY_PAUSE,
            ),
            Dimension::InputTokens | Dimension::OutputTokens | Dimension::Tokens => {
                ("GenerateContentInputTokensPerModelPerMinute", limit, wait)
            }
        },
        Refusal::InFlight { limit } => ("ConcurrentRequestsPerProjectPerModel", limit, wait),
    };
    json!([
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{ "quotaId": id, "quotaValue": limit.to_string() }],
        },
        {
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": protobuf_duration(wait),
        },
    ])
}

/// As protobuf writes durations in JSON: seconds with the fraction that there is.
fn protobuf_duration(span: Duration) -> String {
    let fraction = match span.subsec_nanos() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    format!("{}{fraction}s", span.as_secs())
}

// === Answers ===

pub(super) fn whole(message: &Message) -> String {
    let end = message.output_tokens;
    object(message, &message.text(), Part::Last, end).to_string()
}

pub(super) fn delta(message: &Message, text: &str, produced: u64) -> String {
    event(&object(message, text, Part::Some, produced))
}

/// The last chunk: the finish reason, and the usage of the whole.
pub(super) fn closing(message: &Message) -> String {
    event(&object(message, "", Part::Last, message.output_tokens))
}

pub(super) fn broken_off() -> String {
    event(&error(&Problem::Overloaded))
}

#[derive(PartialEq, Eq)]
enum Part {
    Some,
    Last,
}

fn object(message: &Message, text: &str, part: Part, produced: u64) -> Value {
    let mut candidate = json!({
        "content": { "parts": [{ "text": text }], "role": "model" },
        "index": 0,
    });
    if part == Part::Last {
        let reason = if message.is_complete() {
            "STOP"
        } else {
            "MAX_TOKENS"
        };
        candidate["finishReason"] = json!(reason);
    }
    let mut usage = json!({
        "promptTokenCount": message.tokens.input,
        "candidatesTokenCount": produced,
        "totalTokenCount": message.tokens.input + produced,
    });
    if message.tokens.cached > 0 {
        usage["cachedContentTokenCount"] = json!(message.tokens.cached);
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": message.model,
        "responseId": format!("{:016x}", message.number),
    })
}

fn event(data: &Value) -> String {
    format!("data: {data}\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_protobuf_does() {
        for (nanos, written) in [
            (0, "0s"),
            (45_837_906_927, "45.837906927s"),
            (36_000_000_000, "36s"),
            (1_500_000_000, "1.5s"),
        ] {
            assert_eq!(protobuf_duration(Duration::from_nanos(nanos)), written);
        }
    }
}
