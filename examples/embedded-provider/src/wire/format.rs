//! Which provider's terms a call is in.

use super::{
    anthropic,
    message::{value, whole_seconds_up},
    openai,
    problem::Problem,
};
use crate::{clock::Clock, quota::Gauge};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Anthropic,
    OpenAi,
}

impl Format {
    /// By the path of a request; `None` if nothing is served there.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/messages" => Some(Self::Anthropic),
            "/v1/chat/completions" => Some(Self::OpenAi),
            _ => None,
        }
    }

    pub(crate) fn status(self, problem: &Problem) -> StatusCode {
        match self {
            Self::Anthropic => anthropic::status(problem),
            Self::OpenAi => openai::status(problem),
        }
    }

    /// The body of an error.
    pub(crate) fn error(self, problem: &Problem, request_id: &str) -> Bytes {
        let error = match self {
            Self::Anthropic => anthropic::error(problem, request_id),
            Self::OpenAi => openai::error(problem),
        };
        error.to_string().into()
    }

    pub(crate) fn request_id_header(self) -> &'static str {
        match self {
            Self::Anthropic => "request-id",
            Self::OpenAi => "x-request-id",
        }
    }

    /// Adds how long to wait, rounded up and never zero.
    pub(crate) fn hint(self, headers: &mut HeaderMap, wait: Duration) {
        headers.insert(RETRY_AFTER, whole_seconds_up(wait).max(1).into());
        if self == Self::OpenAi {
            let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
            headers.insert("retry-after-ms", value(millis));
        }
    }

    /// Adds the state of the quota.
    pub(crate) fn stamp(self, headers: &mut HeaderMap, gauges: &[Gauge], clock: &Clock) {
        match self {
            Self::Anthropic => anthropic::stamp(headers, gauges, clock),
            Self::OpenAi => openai::stamp(headers, gauges, clock),
        }
    }
}
