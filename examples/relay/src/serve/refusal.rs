//! What the relay itself answers, as JSON.

use std::{
    error::Error,
    fmt::Write as _,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tower_relay::{error::Rejected, policy::pool::NobodyCanServe};

use super::format::Format;
use crate::upstream::{Body, Part, TimedOut};

/// Why the relay answers in the provider's place. Its name stands in `x-relay-error`, by which our
/// errors are told from the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    BadRequest,
    Unauthorized,
    NotFound,
    NotAllowed,
    /// The body did not come in time.
    Slow,
    TooLarge,
    UriTooLong,
    HeadersTooLarge,
    /// A queue is full, or a call has waited in it for too long.
    Refused,
    /// The provider is not reached, or gave up.
    Unreachable,
    /// No key can serve the call.
    NoKey,
    /// The breaker keeps calls away.
    Down,
    /// As many connections are open as may be.
    Busy,
    TimedOut,
    /// The relay is its own upstream.
    Loop,
}

impl Reason {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::Slow => "slow",
            Self::TooLarge => "too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::NoKey => "no_key",
            Self::Down => "down",
            Self::Busy => "busy",
            Self::TimedOut => "timed_out",
            Self::Loop => "loop",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Refused => StatusCode::TOO_MANY_REQUESTS,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::NoKey | Self::Down | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    /// OpenAI's own `code` where there is one that programs look for.
    const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "invalid_api_key",
            Self::Refused => "rate_limit_exceeded",
            _ => self.name(),
        }
    }
}

/// What a client does well to do next. SDKs try again by themselves after 408, 409, 429 and 5xx
/// unless `x-should-retry` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// As it sees fit: soon, and a few times.
    Unsaid,
    After(Duration),
    /// The same would come of it, or it would be paid for twice.
    Never,
}

/// SDKs obey a `retry-after` up to here, and a longer one not at all: they come back within
/// seconds, as if none had been there.
const LONGEST_OBEYED: Duration = Duration::from_secs(60);

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
pub(super) const RELAY_ERROR: HeaderName = HeaderName::from_static("x-relay-error");

/// An answer of the relay's own in the place of the provider's.
#[derive(Clone, Debug)]
#[must_use]
pub(super) struct Refusal {
    reason: Reason,
    message: String,
    again: Again,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let again = match reason {
            // Everybody who was refused comes back at this pace.
            Reason::Busy => Again::After(Duration::from_secs(1)),
            Reason::NoKey | Reason::Loop | Reason::TimedOut => Again::Never,
            _ => Again::Unsaid,
        };
        Self {
            reason,
            message: message.into(),
            again,
        }
    }

    /// What became of a call that `upstream` did not answer.
    pub(super) fn of_failure(upstream: &str, error: &(dyn Error + 'static)) -> Self {
        if let Some(nobody) = find::<NobodyCanServe>(error) {
            return Self::new(Reason::NoKey, format!("upstream `{upstream}`: {nobody}"));
        }
        if let Some(rejected) = Rejected::find(error) {
            let reason = match rejected {
                Rejected::BreakerOpen(_) => Reason::Down,
                Rejected::CostTooLarge(_) => Reason::TooLarge,
                Rejected::NobodyCanServe(_) => Reason::NoKey,
                _ => Reason::Refused,
            };
            let refusal = Self::new(reason, format!("upstream `{upstream}`: {rejected}"));
            return match rejected.retry_after() {
                Some(wait) => refusal.after(wait),
                None => refusal,
            };
        }
        if let Some(late) = find::<TimedOut>(error) {
            let refusal = Self::new(Reason::TimedOut, format!("upstream `{upstream}`: {late}"));
            return match late.part() {
                // Nothing was sent.
                Part::Connect => Self {
                    again: Again::Unsaid,
                    ..refusal
                },
                _ => refusal,
            };
        }
        let message = format!("upstream `{upstream}` gave no answer: {}", causes(error));
        Self::new(Reason::Unreachable, message)
    }

    fn after(self, wait: Duration) -> Self {
        Self {
            again: Again::After(wait),
            ..self
        }
    }

    pub(super) const fn reason(&self) -> Reason {
        self.reason
    }

    /// The refusal in the words of a provider.
    pub(super) fn answer(&self, format: Format) -> Response<Body> {
        let (status, id) = (self.reason.status(), request_id());
        let body = format.body(status, &self.message, self.reason.code(), &id);
        let mut response = json_response(&body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(RELAY_ERROR, HeaderValue::from_static(self.reason.name()));
        let id = HeaderValue::from_str(&id).expect("it is letters and digits");
        headers.insert(format.request_id(), id);
        let should_retry = match self.again {
            Again::Unsaid => None,
            Again::Never => Some("false"),
            Again::After(wait) => {
                let wait = wait.max(Duration::from_millis(1));
                let millis = wait.as_nanos().div_ceil(1_000_000);
                let seconds = millis.div_ceil(1_000);
                headers.insert(RETRY_AFTER, number(seconds));
                headers.insert(RETRY_AFTER_MS, number(millis));
                Some(if wait <= LONGEST_OBEYED {
                    "true"
                } else {
                    "false"
                })
            }
        };
        if let Some(should_retry) = should_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(should_retry));
        }
        response
    }
}

fn number(number: u128) -> HeaderValue {
    u64::try_from(number).unwrap_or(u64::MAX).into()
}

/// A number for a refusal, by which it is found in the log.
fn request_id() -> String {
    static BEGAN: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let began = BEGAN.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    });
    format!("req_relay_{began:x}_{}", NEXT.fetch_add(1, Relaxed))
}

/// 200 with `value`.
pub(super) fn json_response(value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("what the relay says of itself is JSON");
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with what caused it; hyper's name neither headers nor bodies.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let _ = write!(text, ": {error}");
        next = error.source();
    }
    text
}
