use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{AnswerReader, Profile, declared::Declared};
use crate::{
    clock,
    http::Report,
    outcome::{Completeness, Ending, Outcome, Usage, Verdict},
};

/// Pieces of one frame that can be looked at without taking it apart.
pub(super) const MOST_PIECES: usize = 16;

/// One frame, or the error in its place.
pub(super) type Item<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

pin_project! {
    /// The body of a provider's response, which is read as it passes.
    ///
    /// Frames, trailers, errors, the size hint and the end are the client's own; nothing is read
    /// that the caller does not ask for, so a dropped body reads no further.
    ///
    /// It [`Report`]s the usage, as the profile's [`Charging`](super::Charging) settles it, a failure inside the
    /// answer, and whether the answer came to its own end. A connection that broke keeps what was
    /// seen. A failed response reports what the profile charges for one.
    ///
    /// It is opaque, its usage unknown and its end that of the bytes, in a content encoding
    /// (`gzip` and the like: let the client decode, or ask for none), on statuses other than 2xx,
    /// after HEAD, and where a client's frames are in more than sixteen pieces.
    ///
    /// Until its first byte it is small, so that a response is cheap to hand from layer to layer.
    /// Reading then allocates once for the reader's state, and for what is unfinished of one event.
    /// Opaque bodies, failures and answers without a byte cost no allocation.
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        kept: VecDeque<Item<B>>,
        ended: bool,
        reading: Reading,
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(body: B, mut reading: Reading) -> Self {
        let kept = VecDeque::new();
        if body.is_end_stream() {
            reading.finish();
        }
        Self {
            body,
            kept,
            ended: false,
            reading,
        }
    }

    /// The client's body.
    pub const fn inner(&self) -> &B {
        &self.body
    }

    pub(super) const fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Reads the next frame and keeps it for the caller. The frame is shown to `look`. Says
    /// whether that was the last there is.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>, look: impl FnOnce(&B::Data)) -> Poll<bool>
    where
        B: Unpin,
    {
        let item = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.reading.see(item.as_ref(), &self.body);
        let is_last = match &item {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    look(data);
                }
                frame.is_trailers() || self.body.is_end_stream()
            }
            Some(Err(_)) => true,
            None => {
                self.ended = true;
                true
            }
        };
        self.kept.extend(item);
        Poll::Ready(is_last)
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if let Some(item) = this.kept.pop_front() {
            return Poll::Ready(Some(item));
        }
        if *this.ended {
            return Poll::Ready(None);
        }
        let item = ready!(this.body.as_mut().poll_frame(cx));
        this.reading.see(item.as_ref(), &this.body);
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.kept.is_empty() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        if self.kept.is_empty() {
            return rest;
        }
        let data = self.kept.iter().flatten().filter_map(Frame::data_ref);
        let kept: u64 = data.map(|data| data.remaining() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

impl<B: Body> Report for ResponseBody<B> {
    fn report(&self) -> Ending {
        self.reading.ending()
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("body", &self.body)
            .field("kept", &self.kept.len())
            .field("ending", &self.reading.ending())
            .finish()
    }
}

// === impl Reading ===

/// What is made of the bytes that pass.
pub(super) enum Reading {
    /// Nothing, but that they end.
    Opaque(End),
    /// Nothing: it is a failure, charged so much.
    Failure(Usage),
    /// All that they tell.
    Answer {
        reader: AnswerReader,
        end: End,
        #[cfg(feature = "tracing")]
        told: bool,
    },
}

/// How far a body has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Clean,
    Broken,
}

impl Reading {
    /// How to read the body of a success.
    pub(super) fn of_success(profile: &Profile, status: StatusCode, headers: &HeaderMap) -> Self {
        let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        if !status.is_success() || empty {
            return Self::OPAQUE;
        }
        let declared = Declared::by(headers);
        if declared == Declared::Encoded {
            return Self::OPAQUE;
        }
        Self::Answer {
            reader: AnswerReader::of(profile, declared),
            end: End::Open,
            #[cfg(feature = "tracing")]
            told: false,
        }
    }

    pub(super) const OPAQUE: Self = Self::Opaque(End::Open);

    /// What the answer has turned out to be so far, if it is a failure.
    pub(super) fn failure(&self) -> Option<Outcome> {
        self.ending().failure()
    }

    /// Whether content has passed, or the end of the answer.
    pub(super) fn has_begun(&self) -> bool {
        match self {
            Self::Answer { reader, .. } => {
                let answer = reader.answer();
                answer.has_content() || answer.completeness() == Completeness::Complete
            }
            Self::Opaque(_) | Self::Failure(_) => true,
        }
    }

    fn see<B: Body>(&mut self, item: Option<&Item<B>>, body: &B) {
        if matches!(self, Self::Failure(_)) {
            return;
        }
        match item {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.feed(data);
                }
                // Trailers are the last frame.
                if frame.is_trailers() || body.is_end_stream() {
                    self.finish();
                }
            }
            Some(Err(_)) => self.break_off(),
            None => self.finish(),
        }
        self.log();
    }

    fn feed(&mut self, data: &impl Buf) {
        let Self::Answer { reader, .. } = self else {
            return;
        };
        let first = data.chunk();
        if first.len() == data.remaining() {
            reader.feed(first, clock::wall);
            return;
        }
        let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
        let many = data.chunks_vectored(&mut pieces);
        let pieces = &pieces[..many];
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() < data.remaining() {
            *self = Self::OPAQUE;
            return;
        }
        for piece in pieces {
            reader.feed(piece, clock::wall);
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Opaque(end) if *end == End::Open => *end = End::Clean,
            Self::Answer { reader, end, .. } if *end == End::Open => {
                *end = End::Clean;
                reader.finish(clock::wall);
            }
            _ => {}
        }
    }

    const fn break_off(&mut self) {
        match self {
            Self::Opaque(end) | Self::Answer { end, .. } => {
                if matches!(end, End::Open) {
                    *end = End::Broken;
                }
            }
            Self::Failure(_) => {}
        }
    }

    fn ending(&self) -> Ending {
        let (ending, end) = match self {
            Self::Failure(charged) => return Ending::complete(*charged),
            Self::Opaque(End::Clean) => return Ending::complete(Usage::UNKNOWN),
            Self::Opaque(end) => (Ending::UNKNOWN, *end),
            Self::Answer { reader, end, .. } => {
                let answer = reader.answer();
                let charging = reader.profile().charging_rule();
                let used = answer.usage();
                let usage = charging.settle(&used);
                let ending = match answer.completeness() {
                    Completeness::Complete => Ending::complete(usage),
                    _ => Ending::partial(usage),
                };
                let ending = ending.reporting(charging.reported(&used));
                match answer.failure() {
                    Some(failure) => return ending.failed(failure),
                    None => (ending, *end),
                }
            }
        };
        // What was whole before the connection broke is whole.
        match (end, ending.completeness()) {
            (End::Broken, Completeness::Partial) => {
                ending.failed(Outcome::new(Verdict::ServerFault))
            }
            _ => ending,
        }
    }

    /// Tells once of a failure after the head; never what stood in it, which may be anything.
    #[cfg(feature = "tracing")]
    fn log(&mut self) {
        let failure = self.failure();
        let (Self::Answer { told, .. }, Some(failure)) = (self, failure) else {
            return;
        };
        if !std::mem::replace(told, true) {
            tracing::debug!(
                layer = "provider",
                "error.type" = failure.verdict().name(),
                retry_after = crate::log::retry_after(&failure),
                "an answer failed after its head"
            );
        }
    }

    #[cfg(not(feature = "tracing"))]
    const fn log(&self) {}
}
