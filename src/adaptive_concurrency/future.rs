use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    admit::{self, CallFuture, Conduct, Entry, Held, Limiter},
    error::BoxError,
    outcome::{Ending, Outcome},
    protocol::{Guard, Protocol},
};

pin_project! {
    /// The future of a call under a learned limit: waits, calls, classifies, and hands the guard on.
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
        call: CallFuture<S, Req, P, Limiter>,
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
    pub(super) fn new(entry: Entry<Limiter>, service: &mut S, request: Req, protocol: P) -> Self {
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
        write!(f, "adaptive_concurrency::ResponseFuture({:?})", self.call)
    }
}

/// What an admitted call holds: its place in flight.
///
/// [`finish`](Guard::finish) gives it back, and tells an algorithm that learns at the end of
/// answers how this one went. Dropping it is the same with nothing seen.
#[derive(Debug)]
#[must_use = "dropping it releases what the call holds"]
pub struct Permit {
    permit: admit::Permit<Limiter>,
}

impl Guard for Permit {
    #[inline]
    fn finish(self, ending: Ending) {
        self.permit.finish(ending);
    }
}

impl Conduct for Limiter {
    const LAYER: &'static str = "adaptive concurrency";
    const LEARNS: bool = true;

    type Permit = Permit;

    #[inline]
    fn permit(permit: admit::Permit<Self>) -> Permit {
        Permit { permit }
    }

    #[inline]
    fn learn(held: &mut Held<Self>, outcome: &Outcome) -> Option<Outcome> {
        if held.grant().awaits(outcome) {
            held.inform(|limiter, place, now| limiter.record(place, outcome, now));
        }
        None
    }
}
