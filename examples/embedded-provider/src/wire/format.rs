//! Which provider's terms a call is in.

use super::{
    anthropic, bedrock, gemini,
    message::{value, whole_seconds_up},
    openai,
    problem::Problem,
};
use crate::config::LimitHeaders;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Anthropic,
    OpenAi,
    Gemini,
    Bedrock,
}

/// What a path says that is not in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    format: Format,
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
}

impl<'a> Target<'a> {
    /// Of the formats that have the model in the path.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let target = |format, model, stream| Self {
            format,
            model,
            stream,
        };
        if let Some(call) = path.strip_prefix("/v1beta/models/") {
            return match call.rsplit_once(':')? {
                (model, "generateContent") => Some(target(Format::Gemini, model, false)),
                (model, "streamGenerateContent") => Some(target(Format::Gemini, model, true)),
                _ => None,
            };
        }
        match path.strip_prefix("/model/")?.rsplit_once('/')? {
            (model, "converse") => Some(target(Format::Bedrock, model, false)),
            (model, "converse-stream") => Some(target(Format::Bedrock, model, true)),
            _ => None,
        }
    }
}

impl Format {
    /// By the path of a request; `None` if nothing is served there.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/messages" => Some(Self::Anthropic),
            "/v1/chat/completions" => Some(Self::OpenAi),
            _ => Some(Target::of(path)?.format),
        }
    }

    pub(crate) fn status(self, problem: &Problem) -> StatusCode {
        match self {
            Self::Anthropic => anthropic::status(problem),
            Self::OpenAi => openai::status(problem),
            Self::Gemini => gemini::status(problem),
            Self::Bedrock => bedrock::status(problem),
        }
    }

    /// The body of an error.
    pub(crate) fn error(self, problem: &Problem, request_id: &str) -> Bytes {
        let error = match self {
            Self::Anthropic => anthropic::error(problem, request_id),
            Self::OpenAi => openai::error(problem),
            Self::Gemini => gemini::error(problem),
            Self::Bedrock => bedrock::error(problem),
        };
        error.to_string().into()
    }

    pub(crate) fn request_id_header(self) -> &'static str {
        match self {
            Self::Anthropic => "request-id",
            Self::OpenAi => "x-request-id",
            Self::Gemini => "x-goog-request-id",
            Self::Bedrock => "x-amzn-requestid",
        }
    }

    /// Adds the name of an error, where it is in a header.
    pub(crate) fn name_error(self, headers: &mut HeaderMap, problem: &Problem) {
        if self == Self::Bedrock {
            headers.insert("x-amzn-errortype", value(bedrock::exception(problem)));
        }
    }

    pub(crate) fn stream_content(self) -> &'static str {
        match self {
            Self::Bedrock => "application/vnd.amazon.eventstream",
            _ => "text/event-stream; charset=utf-8",
        }
    }

    /// Adds how long to wait, rounded up and never zero, where that is in a header.
    pub(crate) fn hint(self, headers: &mut HeaderMap, wait: Duration, style: LimitHeaders) {
        if matches!(self, Self::Gemini | Self::Bedrock) || style == LimitHeaders::Mistral {
            return;
        }
        headers.insert(RETRY_AFTER, whole_seconds_up(wait).max(1).into());
        if self == Self::OpenAi && style != LimitHeaders::Groq {
            let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
            headers.insert("retry-after-ms", value(millis));
        }
    }
}
