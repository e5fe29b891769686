use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{RateLimitHandle, ResponseFuture, handle::Metered};
use crate::{
    admit::{Admission, Entry, Joint},
    clock,
    error::BoxError,
    protocol::Protocol,
};

/// The service that [`RateLimitLayer`](super::RateLimitLayer) builds.
///
/// It is always ready. A call takes its place in the queue at once; the future waits for
/// admission, then makes the inner service, or a clone of it, ready and calls it.
///
/// # Errors
///
/// [`Rejected`](crate::error::Rejected) if the queue is full, the wait too long or the cost too
/// large; otherwise the inner service's own.
#[derive(Clone)]
pub struct RateLimit<S, P> {
    inner: S,
    admission: Arc<Admission<Metered>>,
    protocol: P,
}

impl<S, P> RateLimit<S, P> {
    pub(super) const fn new(inner: S, admission: Arc<Admission<Metered>>, protocol: P) -> Self {
        Self {
            inner,
            admission,
            protocol,
        }
    }

    /// A handle to the limit.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle {
            admission: Arc::clone(&self.admission),
        }
    }
}

impl<S, P, Req> Service<Req> for RateLimit<S, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<super::Permit>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let _step = clock::Step::inward();
        let entry = enter(&self.admission, &self.protocol, &request);
        ResponseFuture::new(entry, &mut self.inner, request, self.protocol.clone())
    }
}

/// Asks for admission of `request`.
pub(super) fn enter<Req, Res, P: Protocol<Req, Res>>(
    admission: &Arc<Admission<Metered>>,
    protocol: &P,
    request: &Req,
) -> Entry<Metered> {
    let deadline = protocol.deadline(request).map(clock::timestamp);
    let (cost, size) = (protocol.cost(request), protocol.size(request));
    let model = protocol.model(request);
    let class = admission.class_of(|| protocol.class(request));
    let want = |Joint(tokens, _): &mut Metered| (tokens.want(model, cost, size, |_| Ok(())), ());
    admission.enter(want, class, deadline)
}

impl<S: fmt::Debug, P> fmt::Debug for RateLimit<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
