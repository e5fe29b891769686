//! An answer's body on its way to the caller, frame by frame.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower_relay::error::BoxError;

use super::record::{End, Record};
use crate::upstream::{Body, Part, TimedOut};

/// When a request has to be done with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    began: Instant,
    total: Option<Duration>,
}

impl Until {
    pub(super) fn from_now() -> Self {
        Self {
            began: Instant::now(),
            total: None,
        }
    }

    /// The same with another bound.
    pub(super) const fn within(self, total: Option<Duration>) -> Self {
        Self { total, ..self }
    }

    pub(super) fn instant(self) -> Option<Instant> {
        self.total.map(|total| self.began + total)
    }

    /// What `future` comes to, if it does in time.
    pub(super) async fn limit<F: Future>(self, future: F) -> Result<F::Output, TimedOut> {
        match (self.instant(), self.total) {
            (Some(end), Some(total)) => {
                let output = timeout_at(end, future).await;
                output.map_err(|_| TimedOut::new(Part::Total, total))
            }
            _ => Ok(future.await),
        }
    }
}

/// A body that breaks off at the instant when all has to be done, and that is written down.
pub(super) struct Passing {
    body: Body,
    until: Until,
    /// Set when it is first waited for: most answers are there at once.
    timer: Option<Pin<Box<Sleep>>>,
    /// Why it breaks off, once that is known.
    broken: Option<BoxError>,
    record: Option<Box<Record>>,
}

impl Passing {
    pub(super) fn new(body: Body, until: Until, record: Option<Box<Record>>) -> Self {
        let mut passing = Self {
            body,
            until,
            timer: None,
            broken: None,
            record,
        };
        if passing.body.is_end_stream() {
            passing.saw(None);
        }
        passing
    }

    /// Says so one turn later: a server that hears of it throws away what it has not written yet, and
    /// that may be the answer's head and the first events, which the caller would have got of the
    /// provider itself. Meanwhile they are written.
    fn breaks_off<T>(&mut self, error: BoxError, cx: &mut Context<'_>) -> Poll<T> {
        self.broken = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn saw(&mut self, frame: Option<&Result<Frame<Bytes>, BoxError>>) {
        let Some(record) = &mut self.record else {
            return;
        };
        match frame {
            Some(Ok(frame)) => {
                record.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if frame.is_trailers() || self.body.is_end_stream() {
                    record.end(End::Whole);
                }
            }
            Some(Err(error)) => {
                let is_late = error.downcast_ref::<TimedOut>().is_some();
                record.end(if is_late { End::TimedOut } else { End::Broken });
            }
            None => record.end(End::Whole),
        }
    }
}

impl From<Body> for Passing {
    fn from(body: Body) -> Self {
        Self::new(body, Until::from_now(), None)
    }
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.saw(frame.as_ref());
            return match frame {
                Some(Err(error)) => self.breaks_off(error, cx),
                frame => Poll::Ready(frame),
            };
        }
        let (Some(end), Some(total)) = (self.until.instant(), self.until.total) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let late = Some(Err(TimedOut::new(Part::Total, total).into()));
        self.saw(late.as_ref());
        Poll::Ready(late)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
