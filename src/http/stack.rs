//! The recommended order in one layer.

use std::{fmt, marker::PhantomData};

use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, combinators::BoxBody};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use super::{Credential, Http};
use crate::{
    call::{FactsLayer, Noted, RequestLayer, RequestOnly, WithFacts},
    error::BoxError,
    key_rotation::{KeyPool, KeyRotation, KeyRotationHandle, KeyRotationLayer},
    protocol::AssumeIdempotent,
    provider::JsonFacts,
    retry::{Retry, RetryHandle, RetryLayer},
};

/// The retry layer of a [`StackLayer`].
pub type StackRetryLayer = RetryLayer<AssumeIdempotent<Noted<Http>>>;
/// The key rotation of a [`StackLayer`].
pub type StackKeyRotationLayer = KeyRotationLayer<Noted<Credential<Http>>>;
/// What a [`StackLayer`] makes of a client.
pub type StackService<S, R = JsonFacts> = WithFacts<
    Retry<KeyRotation<RequestOnly<S>, Noted<Credential<Http>>>, AssumeIdempotent<Noted<Http>>>,
    R,
>;
/// What a boxed [`StackLayer`] makes of a client: one type, whatever the client is.
pub type BoxedStackService<Q, D> =
    BoxCloneSyncService<Request<Q>, Response<BoxBody<D, BoxError>>, BoxError>;

/// The recommended layers before a client of a language model: the facts of a request are read
/// once, failures are retried, and each attempt is sent with a key of the pool when its quotas
/// allow.
///
/// ```text
/// facts -> retry -> key rotation -> client
/// ```
///
/// It is made of public layers alone; for another order, or with layers of one's own between,
/// stack those.
///
/// ```
/// use http_body_util::Full;
/// use tower::{Layer, ServiceExt};
/// use tower_relay::{
///     http::{Credential, Http, stack},
///     key_rotation::{KeyPool, Scope, Source},
///     policy::Quota,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_relay::error::BoxError> {
/// # let client = tower::service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
/// #     let key = request.headers()["x-api-key"].clone();
/// #     http::Response::builder().header("seen", key).body(Full::<bytes::Bytes>::from("{}"))
/// # });
/// let quota = Quota::builder().requests_per_minute(4_000).output_tokens_per_minute(80_000);
/// let scope = Scope::new("org-a").quota(quota.build()?).key("a1", Source::value("secret"));
/// let pool = KeyPool::builder().scope(scope).build()?;
///
/// let x_api_key = http::HeaderName::from_static("x-api-key");
/// let stack = stack(pool, Credential::header(Http, x_api_key));
/// let handle = stack.handle();
/// let service = stack.layer(client);
///
/// let body = Full::from(r#"{"model": "m", "max_tokens": 500}"#);
/// let request = http::Request::post("http://localhost/v1/messages").body(body)?;
/// assert_eq!(service.oneshot(request).await?.headers()["seen"], "secret");
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
}

/// The recommended layers over `pool`, whose keys go where `credential` says.
pub fn stack(pool: KeyPool, credential: Credential<Http>) -> StackLayer {
    StackLayer {
        facts: JsonFacts::new(),
        retry: RetryLayer::http().noted().assume_idempotent(),
        key_rotation: KeyRotationLayer::new(pool).protocol(credential).noted(),
    }
}

impl<R> StackLayer<R> {
    /// Reads the facts of requests with another reader. Default: [`JsonFacts::new`].
    pub fn facts<Q>(self, facts: Q) -> StackLayer<Q> {
        StackLayer {
            facts,
            retry: self.retry,
            key_rotation: self.key_rotation,
        }
    }

    /// Changes the retry layer. Default: [`RetryLayer::http`] for calls that may be repeated.
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
    /// the queue, callbacks. Default: [`KeyRotationLayer::new`].
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
        let client = RequestLayer.layer(client);
        let pooled = self.key_rotation.layer(client);
        FactsLayer::new(self.facts.clone()).layer(self.retry.layer(pooled))
    }
}

impl<R> fmt::Debug for StackLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackLayer")
            .field("retry", &self.retry)
            .field("key_rotation", &self.key_rotation)
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
