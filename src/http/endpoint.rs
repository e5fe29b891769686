//! Where the requests of a scope or key go.

use std::{fmt, mem};

use http::{
    HeaderName, HeaderValue, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::credential::CREDENTIALS;
use crate::policy::InvalidConfig;

/// What the `http` crate holds at most.
const LONGEST_URI: usize = 65_534;
/// The longest path of a base; nearly all of a URI stays the request's own.
const LONGEST_PATH: usize = 1_024;

/// Headers that say where a message goes or where it ends, which is the client's affair.
const CLIENTS_OWN: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

/// Where requests go and what they carry: attached to a scope or a key, it directs the requests
/// that a [`Credential`](super::Credential) authorizes.
///
/// `Debug` prints the names of its headers, not their values.
///
/// ```
/// use http::Request;
/// use tower_relay::{
///     http::Endpoint,
///     key_rotation::{KeyPool, Scope, Source},
/// };
///
/// let eu = Endpoint::new("https://eu.api.example.com/base")?.header("x-project", "42")?;
/// let mut request = Request::post("/v1/messages?beta=1").body(())?;
/// eu.apply(&mut request);
/// assert_eq!(request.uri(), "https://eu.api.example.com/base/v1/messages?beta=1");
/// assert_eq!(request.headers()["x-project"], "42");
///
/// let scope = Scope::new("org-eu").key("e1", Source::value("sk-1")).attach(eu);
/// # KeyPool::builder().scope(scope).build()?;
///
/// let error = Endpoint::new("eu.api.example.com").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "endpoint: the scheme is missing; write it as https://host/base"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or a path that ends in no slash.
    base: String,
    host: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Endpoint {
    /// The endpoint at `url`: `https` or `http`, a host, perhaps a port, and perhaps a path that
    /// goes before every request's own.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is anything else, in particular with a user name, a password, a
    /// query or a fragment. It does not repeat the URL, in which there may be a secret.
    pub fn new(url: &str) -> Result<Self, InvalidConfig> {
        let wrong = |problem: &str| Err(InvalidConfig::new("endpoint", problem.to_owned()));
        let uri: Uri = match url.parse() {
            Ok(uri) => uri,
            Err(error) => return wrong(&format!("{error}; write it as https://host/base")),
        };
        let Some(authority) = uri.authority() else {
            return wrong("scheme and host are missing; write it as https://host/base");
        };
        let Some(scheme) = uri.scheme() else {
            return wrong("the scheme is missing; write it as https://host/base");
        };
        if authority.as_str().contains('@') {
            return wrong("a user or password never goes into a URL; give it to a key's `Source`");
        }
        let host = authority.host();
        let wrong = |problem: &str| wrong(&format!("the URL of `{host}` {problem}"));
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return wrong("has another scheme than https and http; use one of the two");
        }
        let is_port = |port: &str| port.parse().is_ok_and(|port: u16| port > 0);
        let after_host = &authority.as_str()[host.len()..];
        let is_complete =
            after_host.is_empty() || after_host.strip_prefix(':').is_some_and(is_port);
        if host.is_empty() || !is_complete {
            return wrong("has no proper host and port; write it as https://host:443/base");
        }
        // A `Uri` forgets fragments.
        if uri.query().is_some() || url.contains('#') {
            return wrong("has a query or fragment, which are a request's own; leave it out");
        }
        let base = uri.path().trim_end_matches('/');
        if base.len() > LONGEST_PATH {
            return wrong("has a path above 1,024 characters; shorten it");
        }
        let Ok(host) = HeaderValue::from_str(authority.as_str()) else {
            return wrong("is no value of a Host header; write it as https://host/base");
        };
        Ok(Self {
            scheme: scheme.clone(),
            authority: authority.clone(),
            base: base.to_owned(),
            host,
            headers: Vec::new(),
        })
    }

    /// Sends `name` with `value` along, in the place of what the caller has sent under this name.
    /// The value is taken to be confidential.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if one of the two is not valid, the header is one of those by which keys
    /// are sent, or one of the client's own (`host`, `content-length`, `transfer-encoding`,
    /// `connection`). It does not repeat the value.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidConfig> {
        let host = self.authority.as_str();
        let wrong = |problem: String| {
            let problem = format!("the endpoint `{host}`: {problem}");
            Err(InvalidConfig::new("endpoint.header", problem))
        };
        let Ok(name) = HeaderName::try_from(name) else {
            return wrong("a name is not valid; use letters, digits and `-`".into());
        };
        if CREDENTIALS.contains(&name) {
            return wrong(format!(
                "`{name}` is for the key; give the secret to a key's `Source`"
            ));
        }
        if CLIENTS_OWN.contains(&name) {
            return wrong(format!("`{name}` is set by the client; leave it out"));
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            return wrong(format!(
                "the value of `{name}` is not valid; use visible ASCII, on one line"
            ));
        };
        value.set_sensitive(true);
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
        Ok(self)
    }

    /// Directs `request` to this endpoint: its scheme and authority become the endpoint's, its
    /// path goes behind the endpoint's, its query stays. A `host` header follows, if there is
    /// one, and the endpoint's headers are set.
    ///
    /// A [`Credential`](super::Credential) does it for every attempt; this is for signers of your
    /// own. It allocates if the endpoint has a path. Once per request, or the path is put in
    /// front again.
    pub fn apply<B>(&self, request: &mut Request<B>) {
        let mut parts = mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(self.join(parts.path_and_query));
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).expect("no part is missing");
        let headers = request.headers_mut();
        if headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.host.clone());
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    fn join(&self, own: Option<PathAndQuery>) -> PathAndQuery {
        // `*` and the target of a CONNECT are no paths, so the endpoint's own is all there is.
        let own = own.filter(|own| own.path().starts_with('/'));
        let own = own.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let length = self.base.len() + own.as_str().len() + 1;
        // Too long for a URI with the base, it is too long for any server without it too.
        if self.base.is_empty() || length > LONGEST_URI {
            return own;
        }
        let mut path = String::with_capacity(length);
        path.push_str(&self.base);
        path.push_str(own.path());
        if let Some(query) = own.query() {
            path.push('?');
            path.push_str(query);
        }
        PathAndQuery::try_from(path).expect("two valid paths are one")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            authority,
            base,
            ..
        } = self;
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Endpoint")
            .field("url", &format_args!("{scheme}://{authority}{base}"))
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
