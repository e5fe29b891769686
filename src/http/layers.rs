//! Constructors that do the right thing for HTTP.

#[cfg(feature = "rate-limit")]
use {super::Http, crate::policy::Quota, crate::rate_limit::RateLimitLayer};

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
