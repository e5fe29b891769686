use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{ResponseFuture, call::Watch, layer::Settings};
use crate::{error::BoxError, protocol::Protocol};

/// The service that [`ObserveLayer`](super::ObserveLayer) builds. It is ready when the inner
/// service is, and its errors are the inner service's own.
#[derive(Clone)]
pub struct Observe<S, P> {
    inner: S,
    settings: Arc<Settings>,
    protocol: P,
}

impl<S, P> Observe<S, P> {
    pub(super) const fn new(inner: S, settings: Arc<Settings>, protocol: P) -> Self {
        Self {
            inner,
            settings,
            protocol,
        }
    }
}

impl<S, P, Req> Service<Req> for Observe<S, P>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<Watch>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, Req, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let watch = Watch::new(&self.settings, self.protocol.model(&request));
        let future = watch.within(|| self.inner.call(request));
        ResponseFuture::new(future, watch, self.protocol.clone())
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Observe<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
