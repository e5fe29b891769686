//! A profile as the strategy of the layers outside.

use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;

use super::Profile;
use crate::{
    clock,
    error::BoxError,
    http::{self as relay_http, Report, Reported},
    outcome::{Idempotency, Outcome},
    policy::Readings,
    protocol::{Guard, Protocol},
};
#[cfg(feature = "key-rotation")]
use crate::{key_rotation::Key, provider::CredentialHeader};

/// A profile is the protocol of the layers around a [`ProviderLayer`](super::ProviderLayer):
/// [`Reported`], with calls that may be repeated, because asking a model twice changes nothing but
/// the bill, and with the picked key where the provider expects it.
///
/// What the provider's headers show of its quotas corrects the buckets of a rate limit or key
/// rotation. An outcome that a layer inside has put beside a response counts; the head of a failure that
/// has none is read as the profile reads it.
///
/// ```
/// use tower_relay::{
///     key_rotation::{KeyPool, KeyRotationLayer},
///     policy::Quota,
///     provider::Profile,
///     rate_limit::RateLimitLayer,
///     retry::RetryLayer,
/// };
///
/// # fn layers(pool: KeyPool, quota: Quota) {
/// let profile = Profile::anthropic();
/// let retry = RetryLayer::default().protocol(profile.clone());
/// let keys = KeyRotationLayer::new(pool).protocol(profile.clone());
/// let limit = RateLimitLayer::new(quota).protocol(profile).noted();
/// # drop((retry, keys, limit));
/// # }
/// ```
impl<Q, B: Body + Report> Protocol<Request<Q>, Response<B>> for Profile {
    type Response<G: Guard> = Response<relay_http::ResponseBody<B, G, Reported>>;

    // A response that is moved once more costs as much as a short lock.
    #[inline(always)]
    fn hold<G: Guard>(&self, response: Response<B>, guard: G) -> Self::Response<G> {
        let (head, body) = response.into_parts();
        Response::from_parts(head, relay_http::ResponseBody::new(body, guard))
    }

    #[cfg(feature = "key-rotation")]
    fn authorize(&self, request: &mut Request<Q>, key: &Key) {
        let name = match self.credential_header() {
            CredentialHeader::Bearer => None,
            CredentialHeader::Named(name) => Some(name),
        };
        relay_http::put_credential(request, key, name);
    }

    fn class<'a>(&self, request: &'a Request<Q>) -> Option<&'a str> {
        Protocol::<_, Response<B>>::class(&Reported, request)
    }

    fn deadline(&self, request: &Request<Q>) -> Option<Instant> {
        Protocol::<_, Response<B>>::deadline(&Reported, request)
    }

    fn idempotency(&self, _: &Request<Q>) -> Idempotency {
        Idempotency::Idempotent
    }

    fn resends(&self, request: &Request<Q>) -> u32 {
        Protocol::<_, Response<B>>::resends(&Reported, request)
    }

    fn set_resends(&self, request: &mut Request<Q>, resends: u32) {
        Protocol::<_, Response<B>>::set_resends(&Reported, request, resends);
    }

    fn classify(&self, result: Result<&Response<B>, &BoxError>) -> Outcome {
        match result {
            Ok(response)
                if response.status().as_u16() >= 400
                    && response.extensions().get::<Outcome>().is_none() =>
            {
                let (status, headers) = (response.status(), response.headers());
                Self::classify(self, status, headers, &[], clock::wall())
            }
            result => Protocol::<Request<Q>, _>::classify(&Reported, result),
        }
    }

    fn readings(&self, response: &Response<B>) -> Readings {
        Self::readings(self, response.headers())
    }

    fn annotate(&self, response: &mut Response<B>, outcome: Outcome) {
        Protocol::<Request<Q>, _>::annotate(&Reported, response, outcome);
    }
}
