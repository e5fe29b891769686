//! Constructors that do the right thing for HTTP.

#[cfg(feature = "key-rotation")]
use super::Credential;
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "circuit-breaker",
    feature = "adaptive-concurrency",
    feature = "retry"
))]
use super::Http;
#[cfg(feature = "key-rotation")]
use crate::key_rotation::{KeyPool, KeyRotationLayer};
#[cfg(feature = "retry")]
use crate::retry::RetryLayer;
#[cfg(feature = "adaptive-concurrency")]
use crate::{adaptive_concurrency::AdaptiveConcurrencyLayer, policy::limit::LimitAlgorithm};
#[cfg(feature = "circuit-breaker")]
use crate::{circuit_breaker::CircuitBreakerLayer, policy::breaker::BreakerConfig};
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

#[cfg(feature = "adaptive-concurrency")]
impl AdaptiveConcurrencyLayer<Http> {
    /// A learned limit for an HTTP client: status codes are read, and a call holds its place until
    /// its body ends.
    ///
    /// ```
    /// use tower_relay::{
    ///     adaptive_concurrency::AdaptiveConcurrencyLayer,
    ///     policy::limit::{Bounds, SizedVegas},
    /// };
    ///
    /// let algorithm = SizedVegas::new(Bounds::new(1..=200)?);
    /// let layer = AdaptiveConcurrencyLayer::http(algorithm);
    /// assert!(layer.handle().limit() >= 1);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn http<A: LimitAlgorithm + Clone + Send + Sync + 'static>(algorithm: A) -> Self {
        AdaptiveConcurrencyLayer::new(algorithm).protocol(Http)
    }
}

#[cfg(feature = "circuit-breaker")]
impl CircuitBreakerLayer<Http> {
    /// A breaker for an HTTP client: 5xx, 529 and what breaks off are failures, 429 and what the
    /// caller did wrong are not.
    ///
    /// ```
    /// use tower_relay::{circuit_breaker::CircuitBreakerLayer, policy::breaker::BreakerConfig};
    ///
    /// let layer = CircuitBreakerLayer::http(BreakerConfig::default());
    /// assert_eq!(layer.handle().refused(), 0);
    /// ```
    #[must_use]
    pub fn http(config: BreakerConfig) -> Self {
        CircuitBreakerLayer::new(config).protocol(Http)
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

#[cfg(feature = "key-rotation")]
impl KeyRotationLayer<Credential> {
    /// Key rotation for an HTTP client, with keys as `authorization: Bearer`: status codes and
    /// `Retry-After` are read, and a call holds its place until its body ends.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, KeyRotationLayer, Source},
    ///     policy::Quota,
    /// };
    ///
    /// let quota = Quota::builder().requests_per_minute(600).build()?;
    /// let keys = [("a1", Source::value("sk-1")), ("b1", Source::value("sk-2"))];
    /// let layer = KeyRotationLayer::bearer(KeyPool::accounts(quota, keys)?);
    /// assert_eq!(layer.handle().scopes().len(), 2);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn bearer(pool: KeyPool) -> Self {
        KeyRotationLayer::new(pool).protocol(Credential::bearer(Http))
    }

    /// As [`bearer`](Self::bearer), with the key alone in the header `name`.
    ///
    /// ```
    /// # use tower_relay::key_rotation::{KeyPool, KeyRotationLayer};
    /// # fn layer(pool: KeyPool) -> KeyRotationLayer<tower_relay::http::Credential> {
    /// KeyRotationLayer::header(pool, http::HeaderName::from_static("x-api-key"))
    /// # }
    /// ```
    #[must_use]
    pub fn header(pool: KeyPool, name: ::http::HeaderName) -> Self {
        KeyRotationLayer::new(pool).protocol(Credential::header(Http, name))
    }
}
