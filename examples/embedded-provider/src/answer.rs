//! Response bodies: one piece, or a stream of events paced by the latency model.

use crate::{in_flight::InFlight, state::Plan, wire::Message};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;

/// Into how many deltas a stream is cut at most, so that a long answer does not need a timer per
/// token.
pub(crate) const MAX_DELTAS: u64 = 24;

/// The body of any answer: one piece, or a stream of events.
///
/// Its call is in flight until the last frame is handed over, or until it is dropped.
#[derive(Default)]
#[must_use = "dropping it hangs up"]
pub struct AnswerBody {
    answer: Answer,
}

impl AnswerBody {
    pub(crate) const fn new(answer: Answer) -> Self {
        Self { answer }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.answer.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.answer, Answer::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.answer {
            Answer::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Answer::Stream(_) => SizeHint::default(),
            Answer::Ended => SizeHint::with_exact(0),
        }
    }
}

#[derive(Default)]
pub(crate) enum Answer {
    #[default]
    Ended,
    Whole {
        bytes: Bytes,
        tokens: u64,
        in_flight: Option<Box<InFlight>>,
    },
    Stream(Box<Stream>),
}

pub(crate) struct Stream {
    message: Message,
    plan: Plan,
    /// Tokens in each delta but the first, which is a single token: it is the one whose time is
    /// measured.
    tokens_per_delta: u64,
    /// Tokens sent; `None` before the opening.
    sent: Option<u64>,
    timer: Pin<Box<Sleep>>,
    in_flight: InFlight,
}

impl Answer {
    /// A body outside of any quota.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self::Whole {
            bytes,
            tokens: 0,
            in_flight: None,
        }
    }

    /// The body of an admitted call in one piece, of whose output `tokens` are not counted yet.
    pub(crate) fn whole(bytes: Bytes, tokens: u64, in_flight: InFlight) -> Self {
        Self::Whole {
            bytes,
            tokens,
            in_flight: Some(Box::new(in_flight)),
        }
    }

    pub(crate) fn stream(message: Message, plan: Plan, in_flight: InFlight) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(
            in_flight.shared().clock.instant(plan.due(1)),
        ));
        let tokens_per_delta = plan.output_tokens.div_ceil(MAX_DELTAS);
        Self::Stream(Box::new(Stream {
            message,
            plan,
            tokens_per_delta,
            sent: None,
            timer,
            in_flight,
        }))
    }
}

impl Answer {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Self::Stream(stream) = self {
            if let Some(frame) = ready!(stream.poll_next(cx)) {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
        }
        // This frame is the last one: the call ends here, before its client can know and send the
        // next.
        let last = match std::mem::take(self) {
            Self::Whole {
                bytes,
                tokens,
                in_flight,
            } => {
                if let Some(mut in_flight) = in_flight {
                    in_flight.produced(tokens);
                    in_flight.end();
                }
                bytes
            }
            Self::Stream(stream) => stream.last(),
            Self::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(last))))
    }
}

// === impl Stream ===

impl Stream {
    /// The next piece; `None` when what is left belongs into the last one.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(sent) = self.sent else {
            self.sent = Some(0);
            return Poll::Ready(Some(self.message.opening()));
        };
        ready!(self.timer.as_mut().poll(cx));
        let due = self.due_after(sent);
        if due == self.end() {
            return Poll::Ready(None);
        }
        self.in_flight.produced(due - sent);
        self.sent = Some(due);
        let next = self.plan.due(self.due_after(due));
        self.timer
            .as_mut()
            .reset(self.in_flight.shared().clock.instant(next));
        Poll::Ready(Some(self.message.delta(sent, due)))
    }

    fn last(mut self) -> Bytes {
        let (sent, end) = (self.sent.unwrap_or(0), self.end());
        self.in_flight.produced(end - sent);
        self.in_flight.end();
        let closing = if self.plan.breaks_after.is_some() {
            self.message.broken_off()
        } else {
            self.message.closing()
        };
        [self.message.delta(sent, end), closing].concat().into()
    }

    fn due_after(&self, sent: u64) -> u64 {
        let step = if sent == 0 { 1 } else { self.tokens_per_delta };
        (sent + step).min(self.end())
    }

    fn end(&self) -> u64 {
        self.plan.breaks_after.unwrap_or(self.plan.output_tokens)
    }
}
