//! Where a scope's calls go, and what each of them carries.

use http::{HeaderMap, HeaderName, HeaderValue, Request, uri::PathAndQuery};

use super::{
    base_url::BaseUrl,
    config::{Key, Scope, Upstream},
    providers::CredentialHeader,
};

/// The destination of a scope's calls.
#[derive(Clone, Debug)]
pub(super) struct Target {
    base_url: BaseUrl,
    headers: HeaderMap,
}

impl Target {
    pub(super) fn new(upstream: &Upstream, scope: &Scope) -> Self {
        let own = scope.base_url.as_ref();
        Self {
            base_url: own.unwrap_or(&upstream.base_url).clone(),
            headers: scope.headers.clone(),
        }
    }

    /// Sends a request for a path here; the scope's headers replace the caller's.
    pub(super) fn aim<B>(&self, request: &mut Request<B>) -> http::Result<()> {
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = self.base_url.join(&path)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(())
    }
}

/// The header in which a key goes to the provider.
pub(super) fn credential(header: &CredentialHeader, key: &Key) -> (HeaderName, HeaderValue) {
    let value = match header {
        CredentialHeader::Bearer => HeaderValue::try_from(format!("Bearer {}", key.secret())),
        CredentialHeader::Named(_) => HeaderValue::from_str(key.secret()),
    };
    let mut value = value.expect("a key that was read is visible ASCII");
    value.set_sensitive(true);
    (header.name(), value)
}
