//! One request: answered by the relay itself, or sent on and its answer passed back.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header::ALLOW, request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tower_relay::outcome::{Outcome, Verdict};

use super::{
    refusal::{failure, json_response, refusal},
    routes::Routes,
    upstream::Upstream,
};
use crate::{
    headers::{remove_callers_own, remove_hop_by_hop, without_key},
    upstream::{Body, Call},
};

/// The largest body that is kept, for another try: more than a model takes in one request. The
/// upload of a larger file does not go through the relay.
const MOST_BYTES: usize = 32 << 20;
/// A body too large is still read this far, so that its caller gets to see the answer.
const MOST_DRAINED: u64 = 4 * MOST_BYTES as u64;

const NOT_ALLOWED: StatusCode = StatusCode::METHOD_NOT_ALLOWED;

/// Where the relay answers for itself.
const OWN: &str = "/-/";

pub(super) async fn answer(routes: &Routes, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path.starts_with(OWN) {
        return own(routes, request.method(), path);
    }
    if request.method() == Method::TRACE {
        // RFC 9110 9.3.8: it is answered with the request, and so with the key in it.
        return refusal(NOT_ALLOWED, "bad_request", "the relay forwards no TRACE");
    }
    let Some(upstream) = routes.find(path) else {
        let message = format!("no upstream serves {path}; {}", routes.known());
        return refusal(StatusCode::NOT_FOUND, "not_found", message);
    };
    let (head, body) = request.into_parts();
    let body = match collect(body).await {
        Ok(Some(body)) => body,
        Ok(None) => {
            let message = format!("the body is larger than {} MiB", MOST_BYTES >> 20);
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
        }
        Err(_) => {
            let message = "the body broke off";
            return refusal(StatusCode::BAD_REQUEST, "bad_request", message);
        }
    };
    match upstream.call(call(&upstream, head, body)).await {
        Ok(response) if is_key_rejected(&response) => {
            // It is not the caller's credential that was refused, and some providers repeat a part
            // of the one that was.
            let name = &upstream.config().name;
            let message = format!("upstream `{name}`: it rejected every key");
            refusal(StatusCode::SERVICE_UNAVAILABLE, "no_key", message)
        }
        Ok(response) => passed_back(response),
        Err(error) => failure(&upstream.config().name, &*error),
    }
}

/// Whether the provider refused the key, in whatever words.
fn is_key_rejected(response: &Response<Body>) -> bool {
    let known = response.extensions().get::<Outcome>();
    response.status() == StatusCode::UNAUTHORIZED
        || known.is_some_and(|known| known.verdict() == Verdict::KeyRejected)
}

fn own(routes: &Routes, method: &Method, path: &str) -> Response<Body> {
    let asks = [Method::GET, Method::HEAD].contains(method);
    match path {
        "/-/health" | "/-/status" | "/-/metrics" if !asks => {
            let message = format!("{path} is only read");
            let mut response = refusal(NOT_ALLOWED, "bad_request", message);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            response
        }
        "/-/health" => json_response(&json!({ "status": "ok" })),
        "/-/status" => json_response(&routes.status()),
        "/-/metrics" => routes.metrics(),
        _ => {
            let message =
                format!("the relay has no {path}; it has /-/health, /-/status and /-/metrics");
            refusal(StatusCode::NOT_FOUND, "not_found", message)
        }
    }
}

/// The request as it is sent, but for where to and with which key.
fn call(upstream: &Upstream, head: Parts, body: Bytes) -> Call {
    let path = match upstream.config().provider.name {
        "gemini" => Some(without_key(&head.uri)),
        _ => head.uri.path_and_query().cloned(),
    };
    let mut call = Request::new(Full::new(body));
    *call.method_mut() = head.method;
    *call.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    *call.headers_mut() = head.headers;
    remove_callers_own(call.headers_mut());
    call
}

fn passed_back(mut response: Response<Body>) -> Response<Body> {
    remove_hop_by_hop(response.headers_mut());
    // That of our own connection with the caller.
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The whole body; `None` if it is too large.
async fn collect(mut body: Incoming) -> hyper::Result<Option<Bytes>> {
    let announced = body.size_hint().lower();
    if announced > MOST_DRAINED {
        return Ok(None);
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        seen += data.len() as u64;
        if seen > MOST_DRAINED {
            break;
        }
        if seen > MOST_BYTES as u64 {
            (first, more) = Default::default();
        } else if first.is_empty() {
            // Most bodies come in one piece, which need not be copied.
            first = data;
        } else {
            if more.is_empty() {
                more.reserve(announced as usize);
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
    }
    Ok((seen <= MOST_BYTES as u64).then(|| match more.is_empty() {
        true => first,
        false => more.freeze(),
    }))
}
