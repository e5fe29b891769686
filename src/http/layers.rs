//! Constructors that do the right thing for HTTP.

#[cfg(any(feature = "rate-limit", feature = "retry"))]
use super::Http;
#[cfg(feature = "retry")]
use crate::retry::RetryLayer;
#[cfg(feature = "rate-limit")]
use crate::{policy::Quota, rate_limit::RateLimitLayer};

#[cfg(feature = "rate-limit")]
impl RateLimitLayer<Http> {
    /// A limit to `quota` for an HTTP client: status codes are read, and a call holds its place
    /// until its body ends.
    ///
    /// ```
    /// use tower_relay::{policy::Quota, rate_limit::RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::http(Quota::builder().requests_per_minute(600).build()?);
    /// assert_eq!(layer.handle().snapshot().active(), 0);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn http(quota: Quota) -> Self {
        RateLimitLayer::new(quota).protocol(Http)
    }
}

#[cfg(feature = "retry")]
impl RetryLayer<Http> {
    /// Retries for an HTTP client: status codes and `Retry-After` are read, and what may have
    /// had an effect is sent again only if its method or an `idempotency-key` allows it. For the
    /// POSTs of a language model add [`assume_idempotent`](RetryLayer::assume_idempotent).
    ///
    /// ```
    /// use tower_relay::retry::RetryLayer;
    ///
    /// let layer = RetryLayer::http().assume_idempotent();
    /// assert_eq!(layer.handle().snapshot().calls(), 0);
    /// ```
    #[must_use]
    pub fn http() -> Self {
        RetryLayer::default().protocol(Http)
    }
}
