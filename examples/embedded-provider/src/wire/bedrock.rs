//! Bedrock's forms: exceptions, Converse in one piece and as a stream of binary events.

use super::{event_stream::event, message::Message, problem::Problem};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

// === Errors ===

pub(super) fn status(problem: &Problem) -> StatusCode {
    match problem {
        Problem::Malformed(_) | Problem::Missing(_) | Problem::Wrong { .. } | Problem::TooLarge => {
            StatusCode::BAD_REQUEST
        }
        Problem::MissingKey
        | Problem::UnknownKey
        | Problem::ModelForbidden(_)
        | Problem::Exhausted => StatusCode::FORBIDDEN,
        Problem::NotFound | Problem::ModelNotFound(_) => StatusCode::NOT_FOUND,
        Problem::Method => StatusCode::METHOD_NOT_ALLOWED,
        Problem::Refused { .. } => StatusCode::TOO_MANY_REQUESTS,
        Problem::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Problem::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(super) fn exception(problem: &Problem) -> &'static str {
    match problem {
        Problem::Malformed(_)
        | Problem::Missing(_)
        | Problem::Wrong { .. }
        | Problem::Method
        | Problem::TooLarge => "ValidationException",
        Problem::UnknownKey => "UnrecognizedClientException",
        Problem::MissingKey | Problem::ModelForbidden(_) => "AccessDeniedException",
        Problem::Exhausted => "AccessDeniedException",
        Problem::NotFound | Problem::ModelNotFound(_) => "ResourceNotFoundException",
        Problem::Refused { .. } => "ThrottlingException",
        Problem::ServerError => "InternalServerException",
        Problem::Overloaded => "ServiceUnavailableException",
    }
}

pub(super) fn error(problem: &Problem) -> Value {
    json!({ "message": message(problem) })
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Malformed(error) => format!("The body is not a JSON object: {error}"),
        Problem::Missing(name) => format!("The field {name} is missing"),
        Problem::Wrong { name, expected } => format!("The field {name} should be {expected}"),
        Problem::MissingKey => "Missing Authentication Token".into(),
        Problem::UnknownKey => "The security token included in the request is invalid.".into(),
        Problem::NotFound => "The resource was not found.".into(),
        Problem::Method => "The method is not allowed; use POST.".into(),
        Problem::TooLarge => "Input is too long.".into(),
        // Which limit it was is not said.
        Problem::Refused { .. } => "Too many tokens, please wait before trying again.".into(),
        Problem::Exhausted => "INVALID_PAYMENT_INSTRUMENT: no valid payment instrument.".into(),
        Problem::ModelNotFound(model) => format!("Could not resolve the model {model}."),
        Problem::ModelForbidden(_) => {
            "You don't have access to the model with the specified model ID.".into()
        }
        Problem::ServerError => "The system encountered an unexpected error.".into(),
        Problem::Overloaded => "The service is temporarily unable to process the request.".into(),
    }
}

// === Answers ===

pub(super) fn whole(message: &Message) -> String {
    json!({
        "output": {
            "message": { "role": "assistant", "content": [{ "text": message.text() }] },
        },
        "stopReason": stop_reason(message),
        "usage": usage(message),
        "metrics": { "latencyMs": message.millis },
    })
    .to_string()
}

pub(super) fn opening() -> Bytes {
    event("messageStart", &json!({ "role": "assistant" }))
}

pub(super) fn delta(text: &str) -> Bytes {
    let delta = json!({ "contentBlockIndex": 0, "delta": { "text": text } });
    event("contentBlockDelta", &delta)
}

pub(super) fn closing(message: &Message) -> Bytes {
    let stop = json!({ "stopReason": stop_reason(message) });
    let metadata = json!({
        "usage": usage(message),
        "metrics": { "latencyMs": message.millis },
    });
    [
        event("contentBlockStop", &json!({ "contentBlockIndex": 0 })),
        event("messageStop", &stop),
        event("metadata", &metadata),
    ]
    .concat()
    .into()
}

pub(super) fn broken_off() -> Bytes {
    super::event_stream::exception("serviceUnavailableException", &error(&Problem::Overloaded))
}

fn stop_reason(message: &Message) -> &'static str {
    if message.is_complete() {
        "end_turn"
    } else {
        "max_tokens"
    }
}

fn usage(message: &Message) -> Value {
    let tokens = message.tokens;
    json!({
        "inputTokens": tokens.input - tokens.cached - tokens.written,
        "cacheReadInputTokens": tokens.cached,
        "cacheWriteInputTokens": tokens.written,
        "outputTokens": message.output_tokens,
        "totalTokens": tokens.input + message.output_tokens,
    })
}
