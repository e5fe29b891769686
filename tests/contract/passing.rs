//! What each layer bears in front of a healthy server, and where it can stand.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Ready, ready},
    sync::Arc,
};

use tower::{
    Layer, Service, ServiceExt, service_fn,
    util::{BoxCloneService, BoxCloneSyncService, BoxService, ServiceFn},
};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer, circuit_breaker::CircuitBreakerLayer,
    error::BoxError, key_rotation::KeyRotationLayer, policy::limit::Fixed,
    rate_limit::RateLimitLayer, retry::RetryLayer,
};

use crate::{Relay, Server, claims, one_key, server, ten_per_second};

type Inner<Req, Res, E> = ServiceFn<fn(Req) -> Ready<Result<Res, E>>>;

mod checks {
    use super::*;

    pub(super) async fn it_works_boxed<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Server, Service: Relay>,
    {
        let (layer, server) = (layer().await, server());
        let service = || layer.layer(server.clone());
        let boxed = BoxService::new(service()).oneshot(1);
        assert_eq!(boxed.await.expect("served"), 1);
        let cloned = BoxCloneService::new(service()).clone().oneshot(2);
        assert_eq!(cloned.await.expect("served"), 2);
        let shared = BoxCloneSyncService::new(service()).clone().oneshot(3);
        assert_eq!(shared.await.expect("served"), 3);
        assert_eq!(server.sent_after().len(), 3);
    }

    pub(super) async fn it_fits_the_service_slot_of_async_openai<L>(layer: impl AsyncFn() -> L)
    where
        L: Layer<Inner<Factory, Opaque, Infallible>, Service: Slot>,
    {
        let inner: fn(Factory) -> _ = |_| ready(Ok(Opaque));
        let service = layer().await.layer(service_fn(inner));
        assert!(with_http_service(service).await.is_ok());
    }

    pub(super) async fn neither_request_nor_response_nor_error_need_be_clone<L>(
        layer: impl AsyncFn() -> L,
    ) where
        L: Layer<
                Inner<NotClone, NotClone, NotClone>,
                Service: Service<NotClone, Response = NotClone, Error = BoxError> + Clone,
            >,
    {
        let inner: fn(NotClone) -> _ = |_| ready(Err(NotClone));
        let service = layer().await.layer(service_fn(inner));
        let error = service.clone().oneshot(NotClone).await.err();
        assert!(error.expect("it fails").is::<NotClone>());
    }
}

claims! {
    checks: [
        it_works_boxed
        it_fits_the_service_slot_of_async_openai
        neither_request_nor_response_nor_error_need_be_clone
    ]
    rate_limit: RateLimitLayer::new(ten_per_second());
    key_rotation: KeyRotationLayer::new(one_key(ten_per_second()));
    adaptive_concurrency: AdaptiveConcurrencyLayer::new(Fixed::of(1));
    circuit_breaker: CircuitBreakerLayer::default();
    gate: CircuitBreakerLayer::default().gate();
}

#[cfg(any(feature = "tracing", feature = "metrics"))]
claims! {
    checks: [
        it_works_boxed
        it_fits_the_service_slot_of_async_openai
        neither_request_nor_response_nor_error_need_be_clone
    ]
    observe: tower_relay::observe::ObserveLayer::new("p");
}

// By default it copies requests, so that these must be `Clone`.
claims! {
    checks: [
        it_works_boxed
        it_fits_the_service_slot_of_async_openai
    ]
    retry: RetryLayer::default();
}

#[derive(Debug)]
struct NotClone;

impl fmt::Display for NotClone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl Error for NotClone {}

/// As async-openai 0.43 bounds the services it takes.
#[derive(Clone)]
struct Factory(#[allow(dead_code, reason = "stands for a closure")] Arc<()>);
struct Opaque;
struct OpenAiLikeError;

impl From<BoxError> for OpenAiLikeError {
    fn from(_: BoxError) -> Self {
        Self
    }
}

trait Slot:
    Service<Factory, Response = Opaque, Error = BoxError> + Clone + Send + Sync + 'static
{
}

impl<S> Slot for S where
    S: Service<Factory, Response = Opaque, Error = BoxError> + Clone + Send + Sync + 'static
{
}

async fn with_http_service<S>(service: S) -> Result<Opaque, OpenAiLikeError>
where
    S: Service<Factory, Response = Opaque> + Clone + Send + Sync + 'static,
    S::Error: Into<OpenAiLikeError> + Send + Sync + 'static,
{
    let call = service.clone().oneshot(Factory(Arc::default()));
    call.await.map_err(Into::into)
}
