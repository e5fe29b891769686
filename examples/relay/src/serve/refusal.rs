//! What the relay itself answers, as JSON.

use std::{error::Error, fmt::Write as _};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use serde_json::json;
use tower_relay::{error::Rejected, policy::pool::NobodyCanServe};

use crate::upstream::Body;

/// The relay's own refusals, in the form that the providers' clients read.
pub(super) fn refusal(
    status: StatusCode,
    kind: &'static str,
    message: impl AsRef<str>,
) -> Response<Body> {
    let error = json!({ "error": { "type": kind, "message": message.as_ref() } });
    let mut response = json_response(&error);
    *response.status_mut() = status;
    response
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

/// What became of a call that `upstream` did not answer.
pub(super) fn failure(upstream: &str, error: &(dyn Error + 'static)) -> Response<Body> {
    if let Some(nobody) = find::<NobodyCanServe>(error) {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refusal(status, "no_key", format!("upstream `{upstream}`: {nobody}"));
    }
    if let Some(rejected) = Rejected::find(error) {
        // Its status and its `retry-after` are the library's.
        let told = Response::<String>::from(rejected);
        let kind = match told.status() {
            StatusCode::TOO_MANY_REQUESTS => "refused",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ if matches!(rejected, Rejected::BreakerOpen(_)) => "down",
            _ => "no_key",
        };
        let message = format!("upstream `{upstream}`: {}", told.body());
        let mut response = refusal(told.status(), kind, message);
        for (name, value) in told.headers() {
            if name != CONTENT_TYPE {
                response.headers_mut().insert(name, value.clone());
            }
        }
        return response;
    }
    let message = format!("upstream `{upstream}` gave no answer: {}", causes(error));
    refusal(StatusCode::BAD_GATEWAY, "unreachable", message)
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
