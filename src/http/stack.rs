//! The recommended order in one layer.

use std::{fmt, marker::PhantomData};

use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, combinators::BoxBody};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    call::{FactsLayer, Noted, RequestLayer, RequestOnly, WithFacts},
    circuit_breaker::{CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer},
    error::BoxError,
    key_rotation::{KeyPool, KeyRotation, KeyRotationHandle, KeyRotationLayer},
    provider::{JsonFacts, Profile, Provider, ProviderLayer},
    retry::{Retry, RetryHandle, RetryLayer},
};

/// The retry layer of a [`StackLayer`].
pub type StackRetryLayer = RetryLayer<Noted<Profile>>;
/// The key rotation of a [`StackLayer`].
pub type StackKeyRotationLayer = KeyRotationLayer<Noted<Profile>>;
/// The circuit breaker of a [`StackLayer`].
pub type StackCircuitBreakerLayer = CircuitBreakerLayer<Noted<Profile>>;
/// What a [`StackLayer`] makes of a client.
pub type StackService<S, R = JsonFacts> = WithFacts<
    Retry<
        KeyRotation<CircuitBreaker<RequestOnly<Provider<S>>, Noted<Profile>>, Noted<Profile>>,
        Noted<Profile>,
    >,
    R,
>;
/// What a boxed [`StackLayer`] makes of a client: one type, whatever the client is.
pub type BoxedStackService<Q, D> =
    BoxCloneSyncService<Request<Q>, Response<BoxBody<D, BoxError>>, BoxError>;

/// The recommended layers before a client of a language model: the facts of a request are read
/// once, failures are retried, each attempt is sent with a key of the pool when its quotas allow,
/// an endpoint that is down is not called, and each response is read once.
///
/// ```text
/// facts -> retry -> key rotation -> circuit breaker -> provider -> client
/// ```
///
/// It is made of public layers alone; for another order, or with layers of one's own between,
/// stack those.
///
/// The breaker is one for all that the client calls. A pool whose scopes have endpoints of their
/// own, of which one may be down alone, wants a
/// [keyed one](crate::circuit_breaker::KeyedCircuitBreakerLayer) in a stack by hand, or
/// [none](Self::circuit_breaker).
///
/// ```
/// use http_body_util::Full;
/// use tower::{Layer, ServiceExt};
/// use tower_relay::{
///     http::stack,
///     key_rotation::{KeyPool, Scope, Source},
///     policy::Quota,
///     provider::Profile,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_relay::error::BoxError> {
/// # let client = tower::service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
/// #     let key = request.headers()["authorization"].clone();
/// #     http::Response::builder().header("seen", key).body(Full::<bytes::Bytes>::from("{}"))
/// # });
/// let quota = Quota::builder().requests_per_minute(4_000).output_tokens_per_minute(80_000);
/// let scope = Scope::new("org-a").quota(quota.build()?).key("a1", Source::value("secret"));
/// let pool = KeyPool::builder().scope(scope).build()?;
///
/// let stack = stack(pool, Profile::openai());
/// let handle = stack.handle();
/// let service = stack.layer(client);
///
/// let body = Full::from(r#"{"model": "m", "max_tokens": 500}"#);
/// let request = http::Request::post("http://localhost/v1/chat/completions").body(body)?;
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.headers()["seen"], "Bearer secret");
/// drop(response);
/// assert_eq!(handle.snapshot().completed(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put before a client"]
pub struct StackLayer<R = JsonFacts> {
    facts: R,
    retry: StackRetryLayer,
    key_rotation: StackKeyRotationLayer,
    circuit_breaker: StackCircuitBreakerLayer,
    provider: ProviderLayer,
}

/// The recommended layers over `pool` for the provider that `profile` knows: where its keys go,
/// how it charges, what its errors and answers mean.
pub fn stack(pool: KeyPool, profile: Profile) -> StackLayer {
    StackLayer {
        facts: profile.facts(),
        retry: RetryLayer::default().protocol(profile.clone()).noted(),
        key_rotation: KeyRotationLayer::new(pool)
            .protocol(profile.clone())
            .noted(),
        circuit_breaker: CircuitBreakerLayer::default()
            .protocol(profile.clone())
            .noted(),
        provider: ProviderLayer::new(profile),
    }
}

impl<R> StackLayer<R> {
    /// Reads the facts of requests with another reader. Default: [`Profile::facts`].
    pub fn facts<Q>(self, facts: Q) -> StackLayer<Q> {
        StackLayer {
            facts,
            retry: self.retry,
            key_rotation: self.key_rotation,
            circuit_breaker: self.circuit_breaker,
            provider: self.provider,
        }
    }

    /// Changes the retry layer. Default: [`RetryLayer::default`].
    ///
    /// ```
    /// # use tower_relay::{http::StackLayer, policy::{InvalidConfig, RetryPolicy}};
    /// # fn set(stack: StackLayer) -> Result<StackLayer, InvalidConfig> {
    /// let policy = RetryPolicy::builder().attempts(3).build()?;
    /// Ok(stack.retry(|layer| layer.policy(policy)))
    /// # }
    /// ```
    pub fn retry(mut self, change: impl FnOnce(StackRetryLayer) -> StackRetryLayer) -> Self {
        self.retry = change(self.retry);
        self
    }

    /// Changes the key rotation: a quota or a concurrency of all scopes together, the bounds of
    /// the queue, callbacks, estimates. Default: [`KeyRotationLayer::new`].
    ///
    /// It does not [estimate](KeyRotationLayer::estimate) unless asked, because a first answer that is
    /// shorter than those still under way can cost refusals. Who asks in another language than
    /// English, or has output that counts as it is produced (Anthropic) with limits far above what
    /// is used, wants it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_relay::{http::StackLayer, policy::limit::Fixed};
    /// # fn set(stack: StackLayer) -> StackLayer {
    /// stack.key_rotation(|layer| {
    ///     layer.concurrency(Fixed::of(64)).max_wait(Duration::from_secs(600))
    /// })
    /// # }
    /// ```
    pub fn key_rotation(
        mut self,
        change: impl FnOnce(StackKeyRotationLayer) -> StackKeyRotationLayer,
    ) -> Self {
        self.key_rotation = change(self.key_rotation);
        self
    }

    /// Changes the circuit breaker. Default: [`CircuitBreakerLayer::default`].
    ///
    /// ```
    /// use tower_relay::{
    ///     http::StackLayer,
    ///     policy::{InvalidConfig, breaker::{BreakerConfig, Mode}},
    /// };
    ///
    /// # fn set(stack: StackLayer) -> Result<StackLayer, InvalidConfig> {
    /// let config = BreakerConfig::builder().consecutive_failures(3).build()?;
    /// let stack = stack.circuit_breaker(|layer| layer.config(config));
    /// // Or leave it out.
    /// stack.circuit_breaker_handle().set_mode(Mode::Disabled);
    /// # Ok(stack)
    /// # }
    /// ```
    pub fn circuit_breaker(
        mut self,
        change: impl FnOnce(StackCircuitBreakerLayer) -> StackCircuitBreakerLayer,
    ) -> Self {
        self.circuit_breaker = change(self.circuit_breaker);
        self
    }

    /// Changes the layer that reads responses. Default: [`ProviderLayer::new`].
    ///
    /// ```
    /// # use tower_relay::{http::StackLayer, provider::Hold};
    /// # fn set(stack: StackLayer) -> StackLayer {
    /// stack.provider(|layer| layer.hold(Hold::FirstEvent))
    /// # }
    /// ```
    pub fn provider(mut self, change: impl FnOnce(ProviderLayer) -> ProviderLayer) -> Self {
        self.provider = change(self.provider);
        self
    }

    /// A handle to the pool as it is set now: a later setting of the
    /// [`key_rotation`](Self::key_rotation) makes a new one.
    #[must_use]
    pub fn handle(&self) -> KeyRotationHandle {
        self.key_rotation.handle()
    }

    /// A handle to the retries.
    #[must_use]
    pub fn retry_handle(&self) -> RetryHandle {
        self.retry.handle()
    }

    /// A handle to the breaker as it is set now: a later setting of the
    /// [`circuit_breaker`](Self::circuit_breaker) makes a new one.
    #[must_use]
    pub fn circuit_breaker_handle(&self) -> CircuitBreakerHandle {
        self.circuit_breaker.handle()
    }

    /// This stack with a service of one type, to be named in a struct: requests with bodies `Q`,
    /// responses with a boxed body. Costs an allocation for the future and one for the body of
    /// each call.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use tower::{Layer, ServiceExt};
    /// use tower_relay::{error::BoxError, http::{BoxedStackService, StackLayer}};
    ///
    /// struct Client {
    ///     service: BoxedStackService<Full<Bytes>, Bytes>,
    /// }
    ///
    /// # fn build(stack: StackLayer) -> Client {
    /// # let client = tower::service_fn(async |_: http::Request<Full<Bytes>>| {
    /// #     Ok::<_, BoxError>(http::Response::new(Full::<Bytes>::from("{}")))
    /// # });
    /// Client { service: stack.boxed().layer(client) }
    /// # }
    /// ```
    pub fn boxed<Q>(self) -> BoxedStackLayer<Q, R> {
        BoxedStackLayer {
            stack: self,
            request: PhantomData,
        }
    }
}

impl<S, R: Clone> Layer<S> for StackLayer<R> {
    type Service = StackService<S, R>;

    fn layer(&self, client: S) -> Self::Service {
        let client = RequestLayer.layer(self.provider.layer(client));
        let pooled = self.key_rotation.layer(self.circuit_breaker.layer(client));
        FactsLayer::new(self.facts.clone()).layer(self.retry.layer(pooled))
    }
}

impl<R> fmt::Debug for StackLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackLayer")
            .field("retry", &self.retry)
            .field("key_rotation", &self.key_rotation)
            .field("circuit_breaker", &self.circuit_breaker)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// A [`StackLayer`] whose service has one type; made by [`StackLayer::boxed`].
#[must_use = "a layer does nothing until it is put before a client"]
pub struct BoxedStackLayer<Q, R = JsonFacts> {
    stack: StackLayer<R>,
    request: PhantomData<fn(Q)>,
}

impl<Q, R: Clone> Clone for BoxedStackLayer<Q, R> {
    fn clone(&self) -> Self {
        self.stack.clone().boxed()
    }
}

impl<Q, R> fmt::Debug for BoxedStackLayer<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxedStackLayer").field(&self.stack).finish()
    }
}

impl<S, Q, R, B> Layer<S> for BoxedStackLayer<Q, R>
where
    R: Clone,
    StackService<S, R>: Service<Request<Q>, Response = Response<B>, Error = BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
    <StackService<S, R> as Service<Request<Q>>>::Future: Send + 'static,
    B: Body<Error: Into<BoxError>> + Send + Sync + 'static,
    B::Data: 'static,
{
    type Service = BoxedStackService<Q, B::Data>;

    fn layer(&self, client: S) -> Self::Service {
        let service = self.stack.layer(client);
        BoxCloneSyncService::new(service.map_response(box_body))
    }
}

fn box_body<B>(response: Response<B>) -> Response<BoxBody<B::Data, BoxError>>
where
    B: Body<Error: Into<BoxError>> + Send + Sync + 'static,
{
    response.map(|body| body.map_err(Into::into).boxed())
}
