use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{AdaptiveConcurrencyHandle, Permit, ResponseFuture};
use crate::{
    admit::{Admission, Limiter},
    clock,
    error::BoxError,
    protocol::Protocol,
};

/// The service that [`AdaptiveConcurrencyLayer`](super::AdaptiveConcurrencyLayer) builds.
///
/// It is always ready. A call takes its place in the queue at once; the future waits for a place
/// in flight, then makes the inner service, or a clone of it, ready and calls it.
///
/// # Errors
///
/// [`Rejected`](crate::error::Rejected) if the queue is full or the wait too long; otherwise the
/// inner service's own.
#[derive(Clone)]
pub struct AdaptiveConcurrency<S, P> {
    inner: S,
    admission: Arc<Admission<Limiter>>,
    protocol: P,
}

impl<S, P> AdaptiveConcurrency<S, P> {
    pub(super) const fn new(inner: S, admission: Arc<Admission<Limiter>>, protocol: P) -> Self {
        Self {
            inner,
            admission,
            protocol,
        }
    }

    /// A handle to the limit.
    #[must_use]
    pub fn handle(&self) -> AdaptiveConcurrencyHandle {
        AdaptiveConcurrencyHandle {
            admission: Arc::clone(&self.admission),
        }
    }
}

impl<S, P, Req> Service<Req> for AdaptiveConcurrency<S, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<Permit>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let _step = clock::Step::inward();
        let deadline = self.protocol.deadline(&request).map(clock::timestamp);
        let class = self.admission.class_of(|| self.protocol.class(&request));
        let entry = self.admission.enter(|_| (), class, deadline);
        ResponseFuture::new(entry, &mut self.inner, request, self.protocol.clone())
    }
}

impl<S: fmt::Debug, P> fmt::Debug for AdaptiveConcurrency<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConcurrency")
            .field("inner", &self.inner)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
