use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::Watch;
use crate::{
    error::BoxError,
    protocol::{self, Protocol},
};

pin_project! {
    /// The future of a call through an [`Observe`](super::Observe), polled in the call's span.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is told as a call that was cancelled.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, Req, P> {
        #[pin]
        future: F,
        watch: Option<Watch>,
        protocol: P,
        request: PhantomData<fn(Req)>,
    }
}

impl<F, Req, P> ResponseFuture<F, Req, P> {
    pub(super) const fn new(future: F, watch: Watch, protocol: P) -> Self {
        Self {
            future,
            watch: Some(watch),
            protocol,
            request: PhantomData,
        }
    }
}

impl<F, Req, P, Res, E> Future for ResponseFuture<F, Req, P>
where
    F: Future<Output = Result<Res, E>>,
    E: Into<BoxError>,
    P: Protocol<Req, Res>,
{
    type Output = Result<P::Response<Watch>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let watch = this.watch.as_ref().expect("it is not polled when done");
        let result = ready!(watch.within(|| this.future.poll(cx)));
        let mut watch = this.watch.take().expect("it is there above");
        match result {
            Ok(response) => {
                watch.answered(this.protocol.classify(Ok(&response)).verdict());
                Poll::Ready(Ok(this.protocol.hold(response, watch)))
            }
            Err(error) => {
                let error = error.into();
                let outcome = protocol::classify_failure(&*this.protocol, &error);
                watch.failed(outcome.verdict());
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<F, Req, P> fmt::Debug for ResponseFuture<F, Req, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}
