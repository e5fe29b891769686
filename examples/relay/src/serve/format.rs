//! Errors as each provider writes them, so that its own SDK makes the same exception of ours.

use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

/// Whose errors are imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Anthropic,
    Gemini,
    /// OpenAI, and the many that are called with its clients.
    OpenAi,
}

impl Format {
    /// That of a provider of the table.
    pub(super) fn of(provider: &str) -> Self {
        match provider {
            "anthropic" => Self::Anthropic,
            "gemini" => Self::Gemini,
            _ => Self::OpenAi,
        }
    }

    /// What a caller whom no upstream serves seems to expect.
    pub(super) fn guessed(uri: &Uri, headers: &HeaderMap) -> Self {
        let path = uri.path();
        let is_anthropics = path.starts_with("/v1/messages") || path == "/v1/complete";
        if is_anthropics || headers.contains_key("anthropic-version") {
            return Self::Anthropic;
        }
        let is_geminis = path.starts_with("/v1beta") || path.contains(":generateContent");
        if is_geminis || headers.contains_key("x-goog-api-key") {
            return Self::Gemini;
        }
        Self::OpenAi
    }

    /// The header in which the provider tells the number of a request.
    pub(super) const fn request_id(self) -> &'static str {
        match self {
            Self::Anthropic => "request-id",
            Self::Gemini | Self::OpenAi => "x-request-id",
        }
    }

    /// The body of an error.
    pub(super) fn body(self, status: StatusCode, message: &str, code: &str, id: &str) -> Value {
        match self {
            Self::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropics(status), "message": message },
                "request_id": id,
            }),
            Self::Gemini => json!({
                "error": {
                    "code": status.as_u16(),
                    "message": message,
                    "status": googles(status),
                },
            }),
            Self::OpenAi => json!({
                "error": {
                    "message": message,
                    "type": openais(status),
                    "param": null,
                    "code": code,
                },
            }),
        }
    }
}

const fn anthropics(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

const fn openais(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The codes of gRPC that stand for a status.
const fn googles(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 => "UNAVAILABLE",
        400..500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
