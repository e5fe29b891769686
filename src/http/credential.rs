//! Keys in the headers of requests.

use http::{HeaderName, HeaderValue, Request, header};
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use tokio::time::Instant;

use super::{Endpoint, Http};
use crate::{
    error::BoxError,
    key_rotation::Key,
    outcome::{Idempotency, Outcome},
    policy::{CallSize, Cost, Readings},
    protocol::{Guard, Protocol},
};

/// Headers by which the providers know their callers. What a caller has put there belongs to
/// another account, or to this gateway, and must not reach a provider.
///
/// `proxy-authorization` is for a proxy on the way, so it stays.
pub(super) const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A protocol that puts the picked key into a header, and is `P` in all else.
///
/// Headers in which the caller may have sent a key of its own are removed (`authorization`,
/// `x-api-key`, `api-key`, `x-goog-api-key` and the one that is set), so that exactly one
/// credential is sent. Its value is marked sensitive. Where an [`Endpoint`] is attached to the key
/// or its scope, the request is sent there.
///
/// An attempt allocates nothing for the key: the value is made once per key.
///
/// ```
/// use http::{HeaderName, Request, Response};
/// use tower_relay::{
///     http::{Credential, UntilHead},
///     key_rotation::{Key, KeyPool, Scope, Source},
///     policy::InvalidConfig,
///     protocol::Protocol,
/// };
///
/// fn authorize(
///     protocol: &impl Protocol<Request<()>, Response<()>>,
///     request: &mut Request<()>,
///     key: &Key,
/// ) {
///     protocol.authorize(request, key);
/// }
///
/// let scope = Scope::new("org-a").key("a1", Source::value("sk-123"));
/// let pool = KeyPool::builder().scope(scope).build()?;
/// let key = pool.key("a1").expect("it was given");
/// let mut request = Request::new(());
/// authorize(&Credential::bearer(UntilHead), &mut request, key);
/// assert_eq!(request.headers()["authorization"], "Bearer sk-123");
///
/// let name = HeaderName::from_static("x-api-key");
/// authorize(&Credential::header(UntilHead, name), &mut request, key);
/// assert_eq!(request.headers()["x-api-key"], "sk-123");
/// assert_eq!(request.headers().len(), 1);
/// assert!(!format!("{request:?}").contains("sk-123"));
/// # Ok::<(), InvalidConfig>(())
/// ```
///
/// # Known limits
///
/// A key that the caller has put into the URL's query goes out as it came.
#[derive(Clone, Debug)]
pub struct Credential<P = Http> {
    inner: P,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// RFC 6750 2.1: `Authorization: Bearer`.
    Bearer,
    /// The secret alone, in a header of this name.
    Named(HeaderName),
}

/// The value of a header as a key keeps it; each form has its own type.
#[derive(Clone)]
struct Bearer(HeaderValue);

#[derive(Clone)]
struct Alone(HeaderValue);

impl<P> Credential<P> {
    /// `inner` with the key as `authorization: Bearer`.
    pub const fn bearer(inner: P) -> Self {
        Self {
            inner,
            form: Form::Bearer,
        }
    }

    /// `inner` with the key alone in the header `name`.
    pub fn header(inner: P, name: HeaderName) -> Self {
        // The first clone of a name made at run time allocates; let no call be that one.
        let form = Form::Named(name.clone());
        Self { inner, form }
    }

    fn put<B>(&self, request: &mut Request<B>, key: &Key) {
        let name = match &self.form {
            Form::Bearer => None,
            Form::Named(name) => Some(name),
        };
        put_credential(request, key, name);
    }
}

/// Puts `key` into `request`, alone in the header `name`, or as a bearer token if that is `None`.
pub(crate) fn put_credential<B>(request: &mut Request<B>, key: &Key, name: Option<&HeaderName>) {
    if let Some(endpoint) = key.attachment::<Endpoint>() {
        endpoint.apply(request);
    }
    // A key clones what it keeps, and so has the value shared before the first call ends.
    let (name, value) = match name {
        None => (&header::AUTHORIZATION, key.prepared(Bearer::of).0),
        Some(name) => (name, key.prepared(Alone::of).0),
    };
    let headers = request.headers_mut();
    for credential in CREDENTIALS.iter().filter(|other| *other != name) {
        headers.remove(credential);
    }
    headers.insert(name, value);
}

impl Bearer {
    fn of(key: &Key) -> Self {
        let secret = key.secret().expose_secret();
        let mut text = Zeroizing::new(String::with_capacity("Bearer ".len() + secret.len()));
        text.push_str("Bearer ");
        text.push_str(secret);
        Self(sensitive(&text))
    }
}

impl Alone {
    fn of(key: &Key) -> Self {
        Self(sensitive(key.secret().expose_secret()))
    }
}

fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).expect("a secret is visible ASCII");
    value.set_sensitive(true);
    value
}

impl<B, Res, P: Protocol<Request<B>, Res>> Protocol<Request<B>, Res> for Credential<P> {
    type Response<G: Guard> = P::Response<G>;

    fn hold<G: Guard>(&self, response: Res, guard: G) -> Self::Response<G> {
        self.inner.hold(response, guard)
    }

    fn cost(&self, request: &Request<B>) -> Cost {
        self.inner.cost(request)
    }

    #[inline]
    fn size(&self, request: &Request<B>) -> Option<CallSize> {
        self.inner.size(request)
    }

    fn model<'a>(&self, request: &'a Request<B>) -> Option<&'a str> {
        self.inner.model(request)
    }

    fn affinity(&self, request: &Request<B>) -> Option<u64> {
        self.inner.affinity(request)
    }

    fn class<'a>(&self, request: &'a Request<B>) -> Option<&'a str> {
        self.inner.class(request)
    }

    fn authorize(&self, request: &mut Request<B>, key: &Key) {
        self.inner.authorize(request, key);
        self.put(request, key);
    }

    fn deadline(&self, request: &Request<B>) -> Option<Instant> {
        self.inner.deadline(request)
    }

    fn idempotency(&self, request: &Request<B>) -> Idempotency {
        self.inner.idempotency(request)
    }

    fn resends(&self, request: &Request<B>) -> u32 {
        self.inner.resends(request)
    }

    fn set_resends(&self, request: &mut Request<B>, resends: u32) {
        self.inner.set_resends(request, resends);
    }

    fn classify(&self, result: Result<&Res, &BoxError>) -> Outcome {
        self.inner.classify(result)
    }

    fn annotate(&self, response: &mut Res, outcome: Outcome) {
        self.inner.annotate(response, outcome);
    }

    #[inline]
    fn readings(&self, response: &Res) -> Readings {
        self.inner.readings(response)
    }
}

#[cfg(test)]
mod tests;
