use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::keys::Pooled;
use crate::{
    admit::{self, CallFuture, Conduct, Entry, Held},
    error::{BoxError, KeyFailed},
    outcome::{Advice, Ending, Outcome},
    policy::pool::Absorbed,
    protocol::{Guard, Protocol},
};

pin_project! {
    /// The future of a call with a key of the pool: waits for the key, has the request
    /// authorized, calls, reports to the pool, and hands the guard on.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while it waits leaves the queue and takes nothing; dropping it before the
    /// inner service is called gives everything back; dropping it later leaves the call charged
    /// and says nothing about its key.
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
        call: CallFuture<S, Req, P, Pooled>,
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
    pub(super) fn new(entry: Entry<Pooled>, service: &mut S, request: Req, protocol: P) -> Self {
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
        write!(f, "key_rotation::ResponseFuture({:?})", self.call)
    }
}

/// What an admitted call holds: its key, its reservations and its place in flight.
///
/// [`finish`](Guard::finish) settles the reservations: a complete answer with known usage refunds
/// or surcharges, anything else adds what was seen above them and refunds nothing. A failure
/// inside the answer is reported to the pool. Dropping it is the same with nothing seen.
#[derive(Debug)]
#[must_use = "dropping it releases what the call holds"]
pub struct Permit {
    permit: admit::Permit<Pooled>,
}

impl Guard for Permit {
    #[inline]
    fn finish(self, ending: Ending) {
        self.permit.finish(ending);
    }
}

impl Conduct for Pooled {
    const LAYER: &'static str = "key rotation";
    const LEARNS: bool = true;

    type Permit = Permit;

    #[inline]
    fn permit(permit: admit::Permit<Self>) -> Permit {
        Permit { permit }
    }

    #[inline]
    fn authorize<Req, Res, P: Protocol<Req, Res>>(
        held: &Held<Self>,
        protocol: &P,
        request: &mut Req,
    ) {
        protocol.authorize(request, held.grant().key());
    }

    /// Whoever absorbs a hint owns the wait: what failed here says when this very call can be
    /// served here, in place of the server's word about one key.
    #[inline]
    fn learn(held: &mut Held<Self>, outcome: &Outcome) -> Option<Outcome> {
        if !held.grant().awaits(outcome.verdict()) {
            // It is counted when the call is over.
            return None;
        }
        let report = |pooled: &mut Self, picked: &mut _, now| {
            let absorbed = pooled.report(picked, outcome, now);
            (absorbed, now)
        };
        let (absorbed, now) = held.inform(report)?;
        let rewritten = Outcome::new(outcome.verdict()).with_effect(outcome.effect());
        match absorbed {
            Absorbed::Nothing => None,
            // "Do not try again" is about who was asked; another is asked at once.
            Absorbed::Again(at) if at > now => {
                Some(rewritten.with_advice(outcome.advice()).absorbed(at))
            }
            Absorbed::Again(at) => Some(rewritten.absorbed(at)),
            // Only this pool knows that nobody else can serve it.
            Absorbed::Never(_) => Some(rewritten.with_advice(Advice::Stop)),
        }
    }

    fn blame(held: &Held<Self>, error: BoxError, outcome: Outcome) -> BoxError {
        let key = held.grant().key();
        Box::new(KeyFailed {
            alias: key.alias().into(),
            scope: key.scope().into(),
            outcome,
            source: error,
        })
    }
}
