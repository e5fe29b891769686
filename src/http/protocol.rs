//! The protocols of HTTP, and what a caller may say beside a request.

use std::sync::Arc;

use http::{HeaderName, Request, Response};
use http_body::Body;
use tokio::time::Instant;

use super::{
    body::{ReadEnding, Report, ResponseBody},
    classify::{classify_error, classify_head},
};
use crate::{
    error::BoxError,
    outcome::{Ending, Idempotency, Outcome, Usage},
    protocol::{Guard, Protocol},
};

/// Headers by which a server knows a repeated request again.
const IDEMPOTENCY_KEYS: [HeaderName; 2] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-idempotency-key"),
];

/// HTTP with any body: guards live until the response body ends, and never learn what the
/// answer has used.
///
/// - `classify`: an [`Outcome`] in the response's extensions, put there by an inner layer that
///   knows better, otherwise [`classify_head`]; errors go to [`classify_error`];
/// - `idempotency`: the method's (RFC 9110 9.2.2), or an `idempotency-key` header;
/// - `class`: the request's extension [`Class`];
/// - `deadline`: the request's extension [`Deadline`];
/// - `resends`: the request's extension [`Resends`], absent on the first send.
///
/// A success has nothing inserted and nothing allocated. Where bodies report their usage, use
/// [`Reported`], so that estimates are settled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

/// As [`Http`], for bodies that [`Report`]: guards hear the usage, the error inside the stream
/// and the completeness that the body reports.
///
/// It is a protocol of its own so that a report cannot be lost unnoticed: a body that does not
/// report is an error of compilation.
///
/// ```compile_fail,E0277
/// use http_body_util::Full;
/// use tower_relay::{http::Reported, protocol::Protocol};
///
/// fn takes<P: Protocol<http::Request<()>, http::Response<B>>, B>(_: P, _: B) {}
/// takes(Reported, Full::new(bytes::Bytes::new()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported;

/// As [`Http`], but guards are released when the head of the response arrives, and the response
/// keeps its type.
///
/// For limits on the rate of requests, where the body is of no interest. A limit on concurrency
/// would be passed by as many open streams as there are callers.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilHead;

impl<B> ReadEnding<B> for Http {
    fn read_ending(_: &B) -> Option<Ending> {
        None
    }
}

impl<B: Report> ReadEnding<B> for Reported {
    fn read_ending(body: &B) -> Option<Ending> {
        Some(body.report())
    }
}

/// Writes the methods in which the protocols do not differ.
macro_rules! common {
    ($q:ty, $b:ty) => {
        fn class<'a>(&self, request: &'a Request<$q>) -> Option<&'a str> {
            request.extensions().get::<Class>().map(Class::name)
        }

        fn deadline(&self, request: &Request<$q>) -> Option<Instant> {
            let deadline = request.extensions().get::<Deadline>();
            deadline.map(|deadline| deadline.instant())
        }

        fn idempotency(&self, request: &Request<$q>) -> Idempotency {
            idempotency(request)
        }

        fn resends(&self, request: &Request<$q>) -> u32 {
            let resends = request.extensions().get::<Resends>();
            resends.map_or(0, |resends| resends.count())
        }

        fn set_resends(&self, request: &mut Request<$q>, resends: u32) {
            set_resends(request, resends);
        }

        #[inline]
        fn classify(&self, result: Result<&Response<$b>, &BoxError>) -> Outcome {
            classify(result)
        }

        fn annotate(&self, response: &mut Response<$b>, outcome: Outcome) {
            annotate(response, outcome);
        }
    };
}

impl<Q, B: Body> Protocol<Request<Q>, Response<B>> for Http {
    type Response<G: Guard> = Response<ResponseBody<B, G>>;

    // A response that is moved once more costs as much as a short lock.
    #[inline(always)]
    fn hold<G: Guard>(&self, response: Response<B>, guard: G) -> Self::Response<G> {
        let (head, body) = response.into_parts();
        Response::from_parts(head, ResponseBody::new(body, guard))
    }

    common!(Q, B);
}

impl<Q, B: Body + Report> Protocol<Request<Q>, Response<B>> for Reported {
    type Response<G: Guard> = Response<ResponseBody<B, G, Self>>;

    #[inline(always)]
    fn hold<G: Guard>(&self, response: Response<B>, guard: G) -> Self::Response<G> {
        let (head, body) = response.into_parts();
        Response::from_parts(head, ResponseBody::new(body, guard))
    }

    common!(Q, B);
}

impl<Q, B> Protocol<Request<Q>, Response<B>> for UntilHead {
    type Response<G: Guard> = Response<B>;

    #[inline(always)]
    fn hold<G: Guard>(&self, response: Response<B>, guard: G) -> Response<B> {
        guard.finish(Ending::complete(Usage::UNKNOWN));
        response
    }

    common!(Q, B);
}

#[inline]
fn classify<B>(result: Result<&Response<B>, &BoxError>) -> Outcome {
    let response = match result {
        Ok(response) => response,
        Err(error) => return classify_error(error),
    };
    let extensions = response.extensions();
    if !extensions.is_empty() {
        if let Some(known) = extensions.get::<Outcome>() {
            return *known;
        }
    }
    classify_head(response.status(), response.headers())
}

fn annotate<B>(response: &mut Response<B>, outcome: Outcome) {
    let extensions = response.extensions_mut();
    match extensions.get_mut::<Outcome>() {
        Some(known) => *known = outcome,
        // A success is what nothing said means.
        None if outcome == Outcome::SUCCESS => {}
        None => drop(extensions.insert(outcome)),
    }
}

fn idempotency<B>(request: &Request<B>) -> Idempotency {
    // RFC 9110 9.2.2: "PUT, DELETE, and safe request methods are idempotent."
    if request.method().is_idempotent() {
        return Idempotency::Idempotent;
    }
    let named = |name| {
        request
            .headers()
            .get(name)
            .is_some_and(|key| !key.is_empty())
    };
    match IDEMPOTENCY_KEYS.iter().any(named) {
        true => Idempotency::Idempotent,
        false => Idempotency::Unknown,
    }
}

fn set_resends<B>(request: &mut Request<B>, resends: u32) {
    let extensions = request.extensions_mut();
    match extensions.get_mut::<Resends>() {
        Some(Resends(count)) => *count = resends,
        None if resends == 0 => {}
        None => drop(extensions.insert(Resends(resends))),
    }
}

/// When the caller of a request stops waiting: an extension of the request.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_relay::http::Deadline;
///
/// let mut request = http::Request::new("question");
/// let deadline = Deadline::at(Instant::now() + Duration::from_secs(30));
/// request.extensions_mut().insert(deadline);
/// assert!(deadline.instant() > Instant::now());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// The caller waits until `instant`.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant at which the caller stops waiting.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }
}

/// The class of callers that a request is of: an extension of the request. What a class means is
/// for [`Shares`](crate::policy::Shares) to say.
///
/// ```
/// use tower_relay::http::Class;
///
/// let mut request = http::Request::new("question");
/// request.extensions_mut().insert(Class::new("interactive"));
/// assert_eq!(request.extensions().get().map(Class::name), Some("interactive"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(Arc<str>);

impl Class {
    /// The class of this name. A caller that makes many requests makes it once, and clones it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    #[cfg(feature = "provider")]
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// How many times a request has been sent before: an extension of the request, absent while
/// the answer is "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resends(u32);

impl Resends {
    /// The request has been sent `count` times before.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// How many times it has been sent before.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }
}
