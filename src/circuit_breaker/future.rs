use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::handle::{Pass, Watch};
use crate::{
    error::{BoxError, Rejected},
    outcome::Ending,
    protocol::{self, Guard, Protocol},
};

pin_project! {
    /// The future of a call through a breaker: calls, classifies and reports, or refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping it counts as nothing, and gives a probe's place back.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, P>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future>,
        protocol: P,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called {
            #[pin]
            future: F,
            pass: Option<Pass>,
        },
        Refused {
            rejected: Option<Rejected>,
        },
    }
}

impl<S, Req, P> ResponseFuture<S, Req, P>
where
    S: Service<Req>,
{
    #[inline(always)]
    pub(super) const fn called(future: S::Future, pass: Pass, protocol: P) -> Self {
        let pass = Some(pass);
        Self {
            state: State::Called { future, pass },
            protocol,
        }
    }

    #[cold]
    pub(super) const fn refused(rejected: Rejected, protocol: P) -> Self {
        let rejected = Some(rejected);
        Self {
            state: State::Refused { rejected },
            protocol,
        }
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
        let this = self.project();
        let (future, pass) = match this.state.project() {
            StateProj::Called { future, pass } => (future, pass),
            StateProj::Refused { rejected } => {
                let rejected = rejected.take().expect("a refused call is polled once");
                return Poll::Ready(Err(rejected.into()));
            }
        };
        match ready!(future.poll(cx)) {
            Ok(response) => {
                let pass = pass
                    .take()
                    .expect("a call is not polled after it was ready");
                let outcome = this.protocol.classify(Ok(&response));
                let watch = pass.report(&outcome);
                Poll::Ready(Ok(this.protocol.hold(response, Permit { watch })))
            }
            Err(error) => {
                let pass = pass
                    .take()
                    .expect("a call is not polled after it was ready");
                let error = error.into();
                let outcome = protocol::classify_failure(&*this.protocol, &error);
                drop(pass.report(&outcome));
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S, Req, P> fmt::Debug for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Called { .. } => "circuit_breaker::ResponseFuture(called)",
            State::Refused { .. } => "circuit_breaker::ResponseFuture(refused)",
        })
    }
}

/// Watches an answer to its end: one that fails after its head makes its success a failure.
///
/// Dropping it says nothing.
#[derive(Debug)]
#[must_use = "dropping it says nothing of how the answer ended"]
pub struct Permit {
    watch: Watch,
}

impl Guard for Permit {
    #[inline]
    fn finish(mut self, ending: Ending) {
        if let Some(failure) = ending.failure() {
            self.watch.amend(&failure);
        }
    }
}
