use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::handle::Shared;
use crate::error::{BoxError, Rejected};

/// Refuses while a breaker would, and tells it nothing; made by
/// [`CircuitBreakerLayer::gate`](super::CircuitBreakerLayer::gate).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct GateLayer {
    shared: Arc<Shared>,
}

impl GateLayer {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate {
            inner,
            shared: Arc::clone(&self.shared),
            is_unasked: false,
        }
    }
}

/// The service that [`GateLayer`] builds.
///
/// # Errors
///
/// [`Rejected::BreakerOpen`] while the breaker would refuse; otherwise the inner service's own.
#[derive(Debug)]
pub struct Gate<S> {
    inner: S,
    shared: Arc<Shared>,
    is_unasked: bool,
}

impl<S: Clone> Clone for Gate<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            is_unasked: false,
        }
    }
}

impl<S, Req> Service<Req> for Gate<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.is_unasked = self.shared.is_refusing();
        if self.is_unasked {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let refused = if std::mem::take(&mut self.is_unasked) {
            Some(self.shared.refuse_unasked())
        } else if self.shared.is_refusing() {
            self.shared
                .peek()
                .map(|refusal| self.shared.refuse(refusal))
        } else {
            None
        };
        GateFuture {
            passed: refused.is_none().then(|| self.inner.call(request)),
            refused,
        }
    }
}

pin_project! {
    /// The future of a call through a [`Gate`]. Cancel safe where the inner one is.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct GateFuture<F> {
        #[pin]
        passed: Option<F>,
        refused: Option<Rejected>,
    }
}

impl<F, Res, E> Future for GateFuture<F>
where
    F: Future<Output = Result<Res, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Res, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.passed.as_pin_mut() {
            Some(future) => future.poll(cx).map_err(Into::into),
            None => {
                let refused = this.refused.take().expect("a refused call is polled once");
                Poll::Ready(Err(refused.into()))
            }
        }
    }
}
