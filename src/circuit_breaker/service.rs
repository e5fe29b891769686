use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{CircuitBreakerHandle, Permit, ResponseFuture, handle::Shared};
use crate::{error::BoxError, protocol::Protocol};

/// The service that [`CircuitBreakerLayer`](super::CircuitBreakerLayer) builds.
///
/// It is ready when the inner service is. While it is open it is ready without asking the inner
/// service, and refuses the call.
///
/// # Errors
///
/// [`Rejected::BreakerOpen`](crate::error::Rejected::BreakerOpen) if it refuses; otherwise the
/// inner service's own.
pub struct CircuitBreaker<S, P> {
    inner: S,
    shared: Arc<Shared>,
    protocol: P,
    /// Whether the inner service has not been asked if it is ready.
    is_unasked: bool,
}

impl<S, P> CircuitBreaker<S, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, protocol: P) -> Self {
        Self {
            inner,
            shared,
            protocol,
            is_unasked: false,
        }
    }

    /// A handle to the breaker.
    #[must_use]
    pub fn handle(&self) -> CircuitBreakerHandle {
        CircuitBreakerHandle {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, P, Req> Service<Req> for CircuitBreaker<S, P>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<Permit>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.is_unasked = self.shared.is_refusing();
        if self.is_unasked {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let pass = if std::mem::take(&mut self.is_unasked) {
            // Also if it has begun to let calls pass since: the inner service was not asked.
            Err(self.shared.refuse_unasked())
        } else {
            self.shared.ask()
        };
        match pass {
            Ok(pass) => {
                ResponseFuture::called(self.inner.call(request), pass, self.protocol.clone())
            }
            Err(rejected) => ResponseFuture::refused(rejected, self.protocol.clone()),
        }
    }
}

/// A clone has not been asked whether it is ready.
impl<S: Clone, P: Clone> Clone for CircuitBreaker<S, P> {
    fn clone(&self) -> Self {
        Self::new(
            self.inner.clone(),
            Arc::clone(&self.shared),
            self.protocol.clone(),
        )
    }
}

impl<S: fmt::Debug, P> fmt::Debug for CircuitBreaker<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("breaker", &self.shared)
            .finish_non_exhaustive()
    }
}
