use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{CloneReplay, Replay, ResponseFuture, layer::Shared};
use crate::{
    clock,
    error::BoxError,
    outcome::Idempotency,
    policy::{Attempts, Timestamp},
    protocol::{Plain, Protocol},
};

/// The service that [`RetryLayer`](super::RetryLayer) builds.
///
/// It is ready when the inner service is. A later attempt waits in the response future until
/// the instance that it will call is ready again.
///
/// # Errors
///
/// The last attempt's own error, as it was. A response that is a failure is returned as it was,
/// too; if it has a hint, its outcome is put beside it through [`Protocol::annotate`].
pub struct Retry<S, P = Plain, R = CloneReplay> {
    inner: S,
    shared: Arc<Shared<P, R>>,
}

impl<S, P, R> Retry<S, P, R> {
    pub(super) fn new(inner: S, shared: Shared<P, R>) -> Self {
        let shared = Arc::new(shared);
        Self { inner, shared }
    }
}

impl<S, P, R, Req> Service<Req> for Retry<S, P, R>
where
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
    S::Error: Into<BoxError>,
    P: Protocol<R::Request, S::Response>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Shared {
            protocol, replay, ..
        } = &*self.shared;
        let request = replay.prepare(request);
        let deadline = protocol.deadline(&request).map(clock::timestamp);
        let mut attempts = Attempts::new(Timestamp::MAX, deadline, Idempotency::Unknown);
        let resends = protocol.resends(&request);
        let kept = self.shared.keep(&attempts, &request);
        if kept.is_none() {
            // Of a copy it is asked when an attempt has failed: most never do.
            attempts.set_idempotency(protocol.idempotency(&request));
        }
        // The instance that was polled ready is called; later attempts ask a clone of it.
        let (service, shared) = (self.inner.clone(), self.shared.clone());
        // Last, so that the attempt is made where it stays.
        let first = self.inner.call(request);
        ResponseFuture::new(first, service, shared, attempts, kept, resends)
    }
}

impl<S: Clone, P, R> Clone for Retry<S, P, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: fmt::Debug, P, R> fmt::Debug for Retry<S, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("state", &self.shared.state)
            .finish_non_exhaustive()
    }
}
