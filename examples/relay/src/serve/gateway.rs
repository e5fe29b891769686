//! One request: answered by the relay itself, or sent on and its answer passed back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio::time::Instant;
use tower_relay::{
    http::Deadline,
    outcome::{Outcome, Verdict},
};

use super::{
    callers::{Caller, caller},
    format::Format,
    page,
    passing::{Passing, Until},
    record::Record,
    refusal::{Reason, Refusal, json_response},
    routes::{Routes, Served},
    upstream::Upstream,
};
use crate::{
    config::Limits,
    headers::{
        CLASS, add_via, goes_in_circles, remove_callers_own, remove_hop_by_hop, without_key,
    },
    upstream::{Body, Call},
};

/// A body too large is still read up to so many times what is allowed, so that its caller gets to
/// see the answer.
const DRAINED: u64 = 4;

/// Where the relay answers for itself.
const OWN: &str = "/-/";
/// Asked by those who have no token: whether it runs is no secret.
const HEALTH: &str = "/-/health";
/// Read by those who have no token yet: it asks for one.
const PAGE: &str = OWN;

pub(super) async fn answer(routes: &Routes, request: Request<Incoming>) -> Response<Passing> {
    let until = Until::from_now();
    let served = routes.now();
    let path = request.uri().path();
    if path.starts_with(OWN) {
        return own(routes, &served, &request).map(Passing::from);
    }
    let upstream = served.find(path);
    let format = match &upstream {
        Some(upstream) => Format::of(upstream.config().provider.name),
        None => Format::guessed(request.uri(), request.headers()),
    };
    let mut record = Record::of(&request, upstream.as_deref().map(Upstream::config));
    let until = match &upstream {
        Some(upstream) => until.within(upstream.config().timeouts.total),
        None => until,
    };
    let response = match forward(&served, upstream, request, until).await {
        Ok(response) => passed_back(response),
        Err(refusal) => {
            if let Some(record) = &mut record {
                record.refused(refusal.reason());
            }
            let mut response = refusal.answer(format);
            if refusal.reason() == Reason::Slow {
                // What is left of the body would be taken for the next request.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        }
    };
    if let Some(record) = &mut record {
        record.head(&response);
    }
    response.map(|body| Passing::new(body, until, record))
}

async fn forward(
    served: &Served,
    upstream: Option<Arc<Upstream>>,
    request: Request<Incoming>,
    until: Until,
) -> Result<Response<Body>, Refusal> {
    let limits = &served.front().limits;
    let caller = admit(served, &request)?;
    let Some(upstream) = upstream else {
        let path = request.uri().path();
        let message = format!("no upstream serves {path}; {}", served.known());
        return Err(Refusal::new(Reason::NotFound, message));
    };
    let (head, body) = request.into_parts();
    let body = whole(&head.headers, body, limits).await?;
    let call = call(&upstream, caller, head, body, until);
    match until.limit(upstream.call(call)).await {
        Ok(Ok(response)) if is_key_rejected(&response) => {
            // It is not the caller's credential that was refused, and some providers repeat a part
            // of the one that was.
            let name = &upstream.config().name;
            let message = format!("upstream `{name}`: it rejected every key");
            Err(Refusal::new(Reason::NoKey, message))
        }
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(Refusal::of_failure(&upstream.config().name, &*error)),
        Err(late) => Err(Refusal::of_failure(&upstream.config().name, &late)),
    }
}

/// Who calls, if a request's head is one that is forwarded.
fn admit<'s>(served: &'s Served, request: &Request<Incoming>) -> Result<Caller<'s>, Refusal> {
    let front = served.front();
    let (limits, headers) = (&front.limits, request.headers());
    let caller = caller(&front.tokens, headers, request.uri()).ok_or_else(unauthorized)?;
    if request.method() == Method::TRACE {
        // RFC 9110 9.3.8: it is answered with the request, and so with the key in it.
        let message = "the relay forwards no TRACE";
        return Err(Refusal::new(Reason::NotAllowed, message));
    }
    let path = request.uri().path_and_query();
    if path.is_some_and(|path| path.as_str().len() > limits.uri_bytes) {
        let most = limits.uri_bytes;
        let message = format!("path and query are longer than {most} bytes (limits.uri_bytes)");
        return Err(Refusal::new(Reason::UriTooLong, message));
    }
    if headers.len() > limits.headers {
        let message = format!(
            "there are more than {} headers (limits.headers)",
            limits.headers
        );
        return Err(Refusal::new(Reason::HeadersTooLarge, message));
    }
    let lengths = headers.iter();
    let bytes: usize = lengths
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > limits.header_kib << 10 {
        let most = limits.header_kib;
        let message = format!("the headers are larger than {most} KiB (limits.header_kib)");
        return Err(Refusal::new(Reason::HeadersTooLarge, message));
    }
    if goes_in_circles(headers) {
        let message = "the request has come through this relay again and again: some base_url is \
                       the relay's own address";
        return Err(Refusal::new(Reason::Loop, message));
    }
    Ok(caller)
}

fn unauthorized() -> Refusal {
    let message = "the relay asks for a token (caller_token): send it where your client puts the \
                   provider's key";
    Refusal::new(Reason::Unauthorized, message)
}

/// Whether the provider refused the key, in whatever words.
fn is_key_rejected(response: &Response<Body>) -> bool {
    let known = response.extensions().get::<Outcome>();
    response.status() == StatusCode::UNAUTHORIZED
        || known.is_some_and(|known| known.verdict() == Verdict::KeyRejected)
}

fn own(routes: &Routes, served: &Served, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let refused = |refusal: Refusal| refusal.answer(Format::OpenAi);
    let is_open = [HEALTH, PAGE].contains(&path);
    let caller = caller(&served.front().tokens, request.headers(), request.uri());
    if !is_open && caller.is_none() {
        return refused(unauthorized());
    }
    let asks = [Method::GET, Method::HEAD].contains(request.method());
    match path {
        HEALTH | PAGE | "/-/status" | "/-/history" | "/-/metrics" if !asks => {
            let message = format!("{path} is only read");
            let mut response = refused(Refusal::new(Reason::NotAllowed, message));
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            response
        }
        HEALTH => json_response(&json!({ "status": "ok" })),
        "/-/status" => json_response(&served.status()),
        "/-/history" => json_response(&routes.history().after(cursor(request.uri()))),
        "/-/metrics" => served.metrics(),
        PAGE => page::answer(),
        _ => {
            let message = format!(
                "the relay has no {path}; it has /-/, /-/health, /-/status, /-/history and /-/metrics"
            );
            refused(Refusal::new(Reason::NotFound, message))
        }
    }
}

/// What was given as `?after=`.
fn cursor(uri: &Uri) -> Option<&str> {
    let mut fields = uri.query()?.split('&');
    fields.find_map(|field| field.strip_prefix("after="))
}

/// The request as it is sent, but for where to and with which key.
fn call(upstream: &Upstream, caller: Caller<'_>, head: Parts, body: Bytes, until: Until) -> Call {
    let config = upstream.config();
    let path = match config.provider.name {
        "gemini" => Some(without_key(&head.uri)),
        _ => head.uri.path_and_query().cloned(),
    };
    let length = body.len();
    let mut call = Request::new(Full::new(body));
    *call.method_mut() = head.method;
    *call.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    // What the operator says of a token goes before what its bearer says.
    let class = config.classes.as_ref().and_then(|classes| {
        let said = head.headers.get(CLASS).map(HeaderValue::as_bytes);
        let known = caller.class.map(|class| class.name().as_bytes());
        classes.find(known.or(said)?).cloned()
    });
    if let Some(class) = class {
        call.extensions_mut().insert(class);
    }
    *call.headers_mut() = head.headers;
    let has_length = call.headers().contains_key(CONTENT_LENGTH);
    remove_callers_own(call.headers_mut());
    add_via(call.headers_mut(), head.version);
    if has_length {
        // That of an empty body too, which would else have none.
        call.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    // A call that cannot be served in time need not wait first. The extension costs an allocation.
    match until.instant() {
        Some(end) if end < Instant::now() + config.max_wait => {
            call.extensions_mut().insert(Deadline::at(end));
        }
        _ => {}
    }
    call
}

fn passed_back(mut response: Response<Body>) -> Response<Body> {
    remove_hop_by_hop(response.headers_mut());
    // That of our own connection with the caller.
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The whole body, if it is as large as may be and comes in time.
async fn whole(headers: &HeaderMap, body: Incoming, limits: &Limits) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {} MiB", limits.body_mib);
        Refusal::new(Reason::TooLarge, message)
    };
    let announced = body.size_hint().lower();
    // Who asked before sending is told without.
    if announced > limits.body_bytes() && headers.contains_key(EXPECT) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(limits.body_time, collect(body, limits.body_bytes()));
    match collected.await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(Reason::BadRequest, "the body broke off")),
        Err(_) => {
            let time = humantime::format_duration(limits.body_time);
            let message = format!("the body did not come within {time} (limits.body_time)");
            Err(Refusal::new(Reason::Slow, message))
        }
    }
}

/// The whole body; `None` if it is larger than `most`.
async fn collect(mut body: Incoming, most: u64) -> hyper::Result<Option<Bytes>> {
    let announced = body.size_hint().lower();
    if announced > most.saturating_mul(DRAINED) {
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
        if seen > most.saturating_mul(DRAINED) {
            break;
        }
        if seen > most {
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
    Ok((seen <= most).then(|| match more.is_empty() {
        true => first,
        false => more.freeze(),
    }))
}

/// What a request gets when as many connections are open as may be.
pub(super) fn busy(request: &Request<Incoming>, connections: usize) -> Response<Passing> {
    let message = format!("{connections} connections are open already (limits.connections)");
    let format = Format::guessed(request.uri(), request.headers());
    let refusal = Refusal::new(Reason::Busy, message);
    refusal.answer(format).map(Passing::from)
}
