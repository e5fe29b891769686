//! What a provider has not done in time.
//!
//! Around the client and inside of all layers, so that each of them counts what was too late as the
//! failure that it is: the provider may have acted, and nothing more of it comes.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_relay::error::BoxError;
use tower_service::Service;

use crate::{
    config::Timeouts,
    upstream::{Part, TimedOut},
};

/// The times that hold now; a reload changes them.
#[derive(Clone, Debug)]
pub(super) struct Clockwork(Arc<RwLock<Timeouts>>);

impl Clockwork {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self(Arc::new(RwLock::new(timeouts)))
    }

    pub(super) fn set(&self, timeouts: Timeouts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = timeouts;
    }

    fn now(&self) -> Timeouts {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client whose answers come in time or fail.
#[derive(Clone, Debug)]
pub(super) struct Timed<S> {
    inner: S,
    clockwork: Clockwork,
}

impl<S> Timed<S> {
    pub(super) const fn new(inner: S, clockwork: Clockwork) -> Self {
        Self { inner, clockwork }
    }
}

impl<S, B> Service<Request<Full<Bytes>>> for Timed<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<TimedBody<B>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let timeouts = self.clockwork.now();
        ResponseFuture {
            future: self.inner.call(request),
            timer: timeouts
                .first_byte
                .map(|limit| sleep_until(Instant::now() + limit)),
            timeouts,
        }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        future: F,
        #[pin]
        timer: Option<Sleep>,
        timeouts: Timeouts,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<TimedBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            let idle = this.timeouts.idle;
            return Poll::Ready(match result {
                Ok(response) => Ok(response.map(|body| TimedBody::new(body, idle))),
                Err(error) => Err(error.into()),
            });
        }
        let (Some(timer), Some(limit)) = (this.timer.as_pin_mut(), this.timeouts.first_byte) else {
            return Poll::Pending;
        };
        ready!(timer.poll(cx));
        Poll::Ready(Err(TimedOut::new(Part::FirstByte, limit).into()))
    }
}

/// A body that breaks off when nothing more comes. What a slow reader leaves is no pause of the
/// provider's.
pub(super) struct TimedBody<B> {
    body: B,
    limit: Option<Duration>,
    /// Since when there has been nothing to read.
    waits_since: Option<Instant>,
    /// Set when it is first waited for: most answers are there at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> TimedBody<B> {
    const fn new(body: B, limit: Option<Duration>) -> Self {
        Self {
            body,
            limit,
            waits_since: None,
            timer: None,
        }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waits_since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let end = since + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while timer.as_mut().poll(cx).is_ready() {
            // It was set in an earlier pause: setting it anew for each frame would cost more.
            if timer.deadline() >= end {
                return Poll::Ready(Some(Err(TimedOut::new(Part::Idle, limit).into())));
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
