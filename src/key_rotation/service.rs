use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{KeyRotationHandle, Permit, ResponseFuture, keys::Pooled};
use crate::{admit::Admission, clock, error::BoxError, protocol::Protocol};

/// The service that [`KeyRotationLayer`](super::KeyRotationLayer) builds.
///
/// It is always ready. A call takes its place in the queue at once; the future waits for a key,
/// then makes the inner service, or a clone of it, ready and calls it with that key.
///
/// # Errors
///
/// [`Rejected`](crate::error::Rejected) if the queue is full, the wait too long, the cost too
/// large or no key can ever serve the call; otherwise the inner service's own, inside a
/// [`KeyFailed`](crate::error::KeyFailed) if the pool has dealt with it.
#[derive(Clone)]
pub struct KeyRotation<S, P> {
    inner: S,
    admission: Arc<Admission<Pooled>>,
    protocol: P,
}

impl<S, P> KeyRotation<S, P> {
    pub(super) const fn new(inner: S, admission: Arc<Admission<Pooled>>, protocol: P) -> Self {
        Self {
            inner,
            admission,
            protocol,
        }
    }

    /// A handle to the pool.
    #[must_use]
    pub fn handle(&self) -> KeyRotationHandle {
        KeyRotationHandle {
            admission: Arc::clone(&self.admission),
        }
    }
}

impl<S, P, Req> Service<Req> for KeyRotation<S, P>
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
        let cost = self.protocol.cost(&request);
        let size = self.protocol.size(&request);
        let model = self.protocol.model(&request);
        let affinity = self.protocol.affinity(&request);
        let class = self.admission.class_of(|| self.protocol.class(&request));
        let entry = self.admission.enter(
            |pooled| pooled.ask(model, cost, size, affinity),
            class,
            deadline,
        );
        ResponseFuture::new(entry, &mut self.inner, request, self.protocol.clone())
    }
}

impl<S: fmt::Debug, P> fmt::Debug for KeyRotation<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRotation")
            .field("inner", &self.inner)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
