//! The layers as methods of [`tower::ServiceBuilder`].
//!
//! # The problem
//!
//! A stack of `.layer(XLayer::http(..))` reads worse than tower's own `.timeout(..)` beside it, and
//! each layer has to be imported. [`ServiceBuilderExt`] adds a method for what is used most of each
//! layer; whatever else there is to set is on the layer, through `.layer(..)`.
//!
//! # Where it stands
//!
//! As with the builder's own methods, the first added is outermost.
//!
//! # Example
//!
//! ```
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{builder::ServiceBuilderExt, policy::Quota};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! # let client = service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
//! #     Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
//! # });
//! let service = ServiceBuilder::new()
//!     .retry_http_assume_idempotent()
//!     .rate_limit_http(Quota::builder().requests_per_minute(600).build()?)
//!     .circuit_breaker_http(Default::default())
//!     .service(client);
//!
//! let request = http::Request::post("http://localhost/v1/messages").body(Full::from("{}"))?;
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! Handles and settings are on layers, which go between the methods as they please:
//!
//! ```
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_relay::{builder::ServiceBuilderExt, policy::Quota, rate_limit::RateLimitLayer};
//!
//! let quota = Quota::builder().requests_per_minute(600).build()?;
//! let limit = RateLimitLayer::http(quota).max_wait(Duration::from_secs(30));
//! let handle = limit.handle();
//! let stack = ServiceBuilder::new().retry_http().layer(limit);
//! assert_eq!(handle.snapshot().waiting(), 0);
//! # let _ = stack;
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # Limits
//!
//! The methods are there if the feature of their layer is. None has the name of one of tower's own,
//! whose `rate_limit` and `retry` are other things.

use tower::ServiceBuilder;
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "circuit-breaker",
    feature = "adaptive-concurrency",
    feature = "retry",
    feature = "provider",
    feature = "async-openai"
))]
use tower::layer::util::Stack;

#[cfg(feature = "async-openai")]
use crate::async_openai::AsyncOpenAiLayer;
#[cfg(any(
    feature = "rate-limit",
    feature = "circuit-breaker",
    feature = "adaptive-concurrency",
    feature = "retry"
))]
use crate::http::Http;
#[cfg(feature = "stack")]
use crate::http::{StackLayer, stack};
#[cfg(feature = "provider")]
use crate::provider::{Profile, ProviderLayer};
#[cfg(feature = "adaptive-concurrency")]
use crate::{adaptive_concurrency::AdaptiveConcurrencyLayer, policy::limit::LimitAlgorithm};
#[cfg(feature = "circuit-breaker")]
use crate::{circuit_breaker::CircuitBreakerLayer, policy::breaker::BreakerConfig};
#[cfg(feature = "key-rotation")]
use crate::{
    http::Credential,
    key_rotation::{KeyPool, KeyRotationLayer},
};
#[cfg(feature = "rate-limit")]
use crate::{
    policy::Quota,
    rate_limit::{KeyedRateLimitLayer, RateLimitLayer},
};
#[cfg(feature = "retry")]
use crate::{protocol::AssumeIdempotent, retry::RetryLayer};

/// The layers of this crate as methods of [`tower::ServiceBuilder`]; see the [module](self).
///
/// It is for that builder alone, so that methods may be added.
pub trait ServiceBuilderExt<L>: sealed::Sealed + Sized {
    /// Adds [`AsyncOpenAiLayer::new`], outermost of a stack for an `async-openai` client.
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_relay::{builder::ServiceBuilderExt, reqwest::ReqwestClient};
    ///
    /// let client = ReqwestClient::build(reqwest::Client::builder())?;
    /// let service = ServiceBuilder::new().async_openai().service(client);
    /// let openai = async_openai::Client::new().with_http_service(service);
    /// # let _ = openai;
    /// # Ok::<(), reqwest::Error>(())
    /// ```
    #[cfg(feature = "async-openai")]
    fn async_openai(self) -> ServiceBuilder<Stack<AsyncOpenAiLayer, L>>;

    /// Adds [`http::stack`](crate::http::stack), the recommended order over a pool of keys.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{
    ///     builder::ServiceBuilderExt,
    ///     key_rotation::{KeyPool, Source},
    ///     policy::Quota,
    ///     provider::Profile,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let quota = Quota::builder().requests_per_minute(4_000).build()?;
    /// let pool = KeyPool::accounts(quota, [("a1", Source::value("secret"))])?;
    /// let service = ServiceBuilder::new()
    ///     .provider_stack(pool, Profile::anthropic())
    ///     .service(service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
    ///         assert_eq!(request.headers()["x-api-key"], "secret");
    ///         Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
    ///     }));
    ///
    /// let request = http::Request::post("http://localhost/v1/messages").body(Full::from("{}"))?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "stack")]
    fn provider_stack(
        self,
        pool: KeyPool,
        profile: Profile,
    ) -> ServiceBuilder<Stack<StackLayer, L>>;

    /// Adds [`RetryLayer::http`]: what may have had an effect is sent again only if its method or an
    /// `idempotency-key` allows it.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_relay::builder::ServiceBuilderExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let (client, mut server) = tower_test::mock::pair();
    /// let service = ServiceBuilder::new().retry_http().service(client);
    /// # let refuse = tokio::spawn(async move {
    /// for status in [503, 200] {
    ///     let (_, answer) = server.next_request().await.expect("a call");
    ///     answer.send_response(http::Response::builder().status(status).body(String::new()).unwrap());
    /// }
    /// # });
    ///
    /// let request = http::Request::get("http://localhost/").body(Full::<bytes::Bytes>::default())?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # refuse.await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "retry")]
    fn retry_http(self) -> ServiceBuilder<Stack<RetryLayer<Http>, L>>;

    /// As [`retry_http`](Self::retry_http), taking every request to be safe to repeat: right for
    /// reads and for calls of a language model, which are POSTs.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_relay::builder::ServiceBuilderExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let (client, mut server) = tower_test::mock::pair();
    /// let service = ServiceBuilder::new().retry_http_assume_idempotent().service(client);
    /// # let refuse = tokio::spawn(async move {
    /// for status in [500, 200] {
    ///     let (_, answer) = server.next_request().await.expect("a call");
    ///     answer.send_response(http::Response::builder().status(status).body(String::new()).unwrap());
    /// }
    /// # });
    ///
    /// let request = http::Request::post("http://localhost/").body(Full::<bytes::Bytes>::default())?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # refuse.await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "retry")]
    fn retry_http_assume_idempotent(
        self,
    ) -> ServiceBuilder<Stack<RetryLayer<AssumeIdempotent<Http>>, L>>;

    /// Adds [`AdaptiveConcurrencyLayer::http`], a learned limit of calls in flight.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{builder::ServiceBuilderExt, policy::limit::{Bounds, SizedVegas}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .adaptive_concurrency_http(SizedVegas::new(Bounds::new(1..=200)?))
    ///     .service(service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
    ///         Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
    ///     }));
    ///
    /// let request = http::Request::get("http://localhost/").body(Full::default())?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "adaptive-concurrency")]
    fn adaptive_concurrency_http<A>(
        self,
        algorithm: A,
    ) -> ServiceBuilder<Stack<AdaptiveConcurrencyLayer<Http>, L>>
    where
        A: LimitAlgorithm + Clone + Send + Sync + 'static;

    /// Adds [`KeyRotationLayer::bearer`]: a key of `pool` for each call, as `authorization: Bearer`.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{
    ///     builder::ServiceBuilderExt,
    ///     key_rotation::{KeyPool, Source},
    ///     policy::Quota,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let quota = Quota::builder().requests_per_minute(600).build()?;
    /// let pool = KeyPool::accounts(quota, [("a1", Source::value("secret"))])?;
    /// let service = ServiceBuilder::new()
    ///     .key_rotation_bearer(pool)
    ///     .service(service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
    ///         assert_eq!(request.headers()["authorization"], "Bearer secret");
    ///         Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
    ///     }));
    ///
    /// let request = http::Request::get("http://localhost/").body(Full::default())?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "key-rotation")]
    fn key_rotation_bearer(
        self,
        pool: KeyPool,
    ) -> ServiceBuilder<Stack<KeyRotationLayer<Credential>, L>>;

    /// Adds [`KeyRotationLayer::header`]: a key of `pool` for each call, alone in the header `name`.
    ///
    /// ```
    /// use http::HeaderName;
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{
    ///     builder::ServiceBuilderExt,
    ///     key_rotation::{KeyPool, Source},
    ///     policy::Quota,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let quota = Quota::builder().requests_per_minute(600).build()?;
    /// let pool = KeyPool::accounts(quota, [("a1", Source::value("secret"))])?;
    /// let service = ServiceBuilder::new()
    ///     .key_rotation_header(pool, HeaderName::from_static("x-api-key"))
    ///     .service(service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
    ///         assert_eq!(request.headers()["x-api-key"], "secret");
    ///         Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
    ///     }));
    ///
    /// let request = http::Request::get("http://localhost/").body(Full::default())?;
    /// assert_eq!(service.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "key-rotation")]
    fn key_rotation_header(
        self,
        pool: KeyPool,
        name: http::HeaderName,
    ) -> ServiceBuilder<Stack<KeyRotationLayer<Credential>, L>>;

    /// Adds [`RateLimitLayer::http`]: calls keep to `quota` and hold their place until their body ends.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{builder::ServiceBuilderExt, policy::Quota};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .rate_limit_http(Quota::builder().requests_per_minute(60).build()?)
    ///     .service(service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
    ///         Ok::<_, http::Error>(http::Response::new(Full::<bytes::Bytes>::from("{}")))
    ///     }));
    ///
    /// let start = tokio::time::Instant::now();
    /// for _ in 0..3 {
    ///     let request = http::Request::get("http://localhost/").body(Full::default())?;
    ///     assert_eq!(service.clone().oneshot(request).await?.status(), 200);
    /// }
    /// assert_eq!(start.elapsed().as_secs(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rate-limit")]
    fn rate_limit_http(self, quota: Quota) -> ServiceBuilder<Stack<RateLimitLayer<Http>, L>>;

    /// Adds [`KeyedRateLimitLayer::new`]: a `quota` for each key that `key` reads from a request, such
    /// as the caller of a server. Of any protocol.
    ///
    /// ```
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{builder::ServiceBuilderExt, policy::Quota};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .rate_limit_by_key(Quota::builder().requests_per_minute(60).build()?, |tenant: &&str| *tenant)
    ///     .service(service_fn(async |_: &str| Ok::<_, std::convert::Infallible>(())));
    ///
    /// let start = tokio::time::Instant::now();
    /// for tenant in ["a", "b", "c", "a"] {
    ///     service.clone().oneshot(tenant).await?;
    /// }
    /// assert_eq!(start.elapsed().as_secs(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rate-limit")]
    fn rate_limit_by_key<K, F, Req>(
        self,
        quota: Quota,
        key: F,
    ) -> ServiceBuilder<Stack<KeyedRateLimitLayer<K, F>, L>>
    where
        F: Fn(&Req) -> K;

    /// Adds [`CircuitBreakerLayer::http`]: calls are kept away from what answers with 5xx or breaks.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{builder::ServiceBuilderExt, error::Rejected, policy::breaker::BreakerConfig};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .circuit_breaker_http(BreakerConfig::builder().consecutive_failures(1).build()?)
    ///     .service(service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
    ///         http::Response::builder().status(500).body(Full::<bytes::Bytes>::default())
    ///     }));
    ///
    /// let call = || service.clone().oneshot(http::Request::new(Full::default()));
    /// assert_eq!(call().await?.status(), 500);
    /// let refused = call().await.expect_err("it is open");
    /// assert!(matches!(Rejected::find(&*refused), Some(Rejected::BreakerOpen(_))));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "circuit-breaker")]
    fn circuit_breaker_http(
        self,
        config: BreakerConfig,
    ) -> ServiceBuilder<Stack<CircuitBreakerLayer<Http>, L>>;

    /// Adds [`ProviderLayer::new`], innermost: each response is read once, and what it says is told
    /// to the layers outside.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_relay::{
    ///     builder::ServiceBuilderExt,
    ///     outcome::{Outcome, Verdict},
    ///     provider::Profile,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let service = ServiceBuilder::new()
    ///     .provider(Profile::openai())
    ///     .service(service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
    ///         let body = Full::<bytes::Bytes>::from(r#"{"error": {"code": "insufficient_quota"}}"#);
    ///         http::Response::builder().status(429).body(body)
    ///     }));
    ///
    /// let response = service.oneshot(http::Request::new(Full::default())).await?;
    /// let outcome = response.extensions().get::<Outcome>().expect("it failed");
    /// assert_eq!(outcome.verdict(), Verdict::Exhausted);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "provider")]
    fn provider(self, profile: Profile) -> ServiceBuilder<Stack<ProviderLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    #[cfg(feature = "async-openai")]
    fn async_openai(self) -> ServiceBuilder<Stack<AsyncOpenAiLayer, L>> {
        self.layer(AsyncOpenAiLayer::new())
    }

    #[cfg(feature = "stack")]
    fn provider_stack(
        self,
        pool: KeyPool,
        profile: Profile,
    ) -> ServiceBuilder<Stack<StackLayer, L>> {
        self.layer(stack(pool, profile))
    }

    #[cfg(feature = "retry")]
    fn retry_http(self) -> ServiceBuilder<Stack<RetryLayer<Http>, L>> {
        self.layer(RetryLayer::http())
    }

    #[cfg(feature = "retry")]
    fn retry_http_assume_idempotent(
        self,
    ) -> ServiceBuilder<Stack<RetryLayer<AssumeIdempotent<Http>>, L>> {
        self.layer(RetryLayer::http().assume_idempotent())
    }

    #[cfg(feature = "adaptive-concurrency")]
    fn adaptive_concurrency_http<A>(
        self,
        algorithm: A,
    ) -> ServiceBuilder<Stack<AdaptiveConcurrencyLayer<Http>, L>>
    where
        A: LimitAlgorithm + Clone + Send + Sync + 'static,
    {
        self.layer(AdaptiveConcurrencyLayer::http(algorithm))
    }

    #[cfg(feature = "key-rotation")]
    fn key_rotation_bearer(
        self,
        pool: KeyPool,
    ) -> ServiceBuilder<Stack<KeyRotationLayer<Credential>, L>> {
        self.layer(KeyRotationLayer::bearer(pool))
    }

    #[cfg(feature = "key-rotation")]
    fn key_rotation_header(
        self,
        pool: KeyPool,
        name: http::HeaderName,
    ) -> ServiceBuilder<Stack<KeyRotationLayer<Credential>, L>> {
        self.layer(KeyRotationLayer::header(pool, name))
    }

    #[cfg(feature = "rate-limit")]
    fn rate_limit_http(self, quota: Quota) -> ServiceBuilder<Stack<RateLimitLayer<Http>, L>> {
        self.layer(RateLimitLayer::http(quota))
    }

    #[cfg(feature = "rate-limit")]
    fn rate_limit_by_key<K, F, Req>(
        self,
        quota: Quota,
        key: F,
    ) -> ServiceBuilder<Stack<KeyedRateLimitLayer<K, F>, L>>
    where
        F: Fn(&Req) -> K,
    {
        self.layer(KeyedRateLimitLayer::new(quota, key))
    }

    #[cfg(feature = "circuit-breaker")]
    fn circuit_breaker_http(
        self,
        config: BreakerConfig,
    ) -> ServiceBuilder<Stack<CircuitBreakerLayer<Http>, L>> {
        self.layer(CircuitBreakerLayer::http(config))
    }

    #[cfg(feature = "provider")]
    fn provider(self, profile: Profile) -> ServiceBuilder<Stack<ProviderLayer, L>> {
        self.layer(ProviderLayer::new(profile))
    }
}

mod sealed {
    use tower::ServiceBuilder;

    #[expect(
        unnameable_types,
        reason = "it is what keeps others from implementing the trait"
    )]
    pub trait Sealed {}

    impl<L> Sealed for ServiceBuilder<L> {}
}
