use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::handle::Metered;
use crate::{
    admit::{self, CallFuture, Conduct, Entry},
    error::BoxError,
    outcome::Ending,
    protocol::{Guard, Protocol},
};

pin_project! {
    /// The future of a rate-limited call: waits, calls, classifies, and hands the guard on.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while it waits leaves the queue and takes nothing; dropping it before the
    /// inner service is called refunds everything; dropping it later leaves the call charged.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready, or if it has to wait outside a tokio runtime with its
    /// timer enabled.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, P>
    where
        S: Service<Req>,
    {
        #[pin]
        call: CallFuture<S, Req, P, Metered>,
    }
}

impl<S, Req, P> ResponseFuture<S, Req, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response>,
{
    // Inlined, because each function that a request passes through by value copies it.
    #[inline(always)]
    pub(super) fn new(entry: Entry<Metered>, service: &mut S, request: Req, protocol: P) -> Self {
        CallFuture::start(entry, service, request, protocol, |call| Self { call })
    }
}

impl<S, Req, P> Future for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response>,
{
    type Output = Result<P::Response<Permit>, BoxError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S, Req, P> fmt::Debug for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate_limit::ResponseFuture({:?})", self.call)
    }
}

/// What an admitted call holds: its reservation and its place in flight.
///
/// [`finish`](Guard::finish) settles the reservation: a complete answer with known usage refunds
/// or surcharges, anything else adds what was seen above the reservation and refunds nothing.
/// Dropping it is the same with nothing seen.
#[derive(Debug)]
#[must_use = "dropping it releases what the call holds"]
pub struct Permit {
    permit: admit::Permit<Metered>,
}

impl Guard for Permit {
    #[inline]
    fn finish(self, ending: Ending) {
        self.permit.finish(ending);
    }
}

impl Conduct for Metered {
    const LAYER: &'static str = "rate limit";

    type Permit = Permit;

    #[inline]
    fn permit(permit: admit::Permit<Self>) -> Permit {
        Permit { permit }
    }
}
