//! Request bodies that can be sent twice although they come as a stream.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};

use crate::{call::Call, error::BoxError, retry::Replay};

/// Sends streaming request bodies again: what was sent is kept, up to a bound, and sent again
/// before the rest.
///
/// A retry layer with it sends requests with [`ReplayBody`]s, for [`Request`]s and for the
/// [`Call`]s inside a [`FactsLayer`](crate::call::FactsLayer) alike. Bytes are kept without a copy
/// where the body's data is [`Bytes`]; trailers are kept too.
///
/// - Nothing is read ahead: a body that the client never asked for is untouched, however long it
///   is, and one that it left half-way goes on where it was left.
/// - A body that has sent more than the bound is sent once, and its failure returned as it was.
/// - On the last attempt nothing is kept.
/// - An attempt that is over may still be sending, in a client that answers early. It goes on
///   until the next attempt asks for its body, then it ends with an error; meanwhile it waits
///   rather than to send beyond what is kept.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_relay::{
///     error::BoxError,
///     http::{ReplayBody, ReplayBuffer},
///     retry::RetryLayer,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// // Any body does in place of `Full`: one that comes from a stream, too.
/// static SENT: AtomicU32 = AtomicU32::new(0);
/// let client = service_fn(async |request: Request<ReplayBody<Full<Bytes>>>| {
///     let text = request.into_body().collect().await?.to_bytes();
///     assert_eq!(text, "an upload");
///     let status = if SENT.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 };
///     let response = Response::builder().status(status).body(Full::<Bytes>::default());
///     response.map_err(BoxError::from)
/// });
///
/// let retry = RetryLayer::http().replay(ReplayBuffer::default());
/// let request = Request::put("/").body(Full::<Bytes>::from("an upload"))?;
/// let response = retry.layer(client).oneshot(request).await?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(SENT.load(Ordering::Relaxed), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReplayBuffer {
    bound: usize,
}

impl ReplayBuffer {
    /// 256 KiB: some sixty thousand tokens of text, more than nearly all prompts have, and no
    /// more than 256 MB for a thousand calls in flight that all use it up.
    pub const DEFAULT_BOUND: usize = 256 << 10;

    /// A buffer that keeps up to `bytes` of each request in flight. What a client's frames are
    /// cut from may be larger. With 0, a body can be sent again as long as nothing of it was.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self { bound: bytes }
    }

    fn body<B: Body>(self, body: B) -> ReplayBody<B> {
        ReplayBody {
            shared: Arc::new(Mutex::new(Shared {
                view: View::of(&body),
                source: Source::Here(body),
                sent: Kept::default(),
                bound: self.bound,
                bodies: 1,
                numbers: 0,
                current: 0,
                claimed: None,
                waiting: None,
            })),
            number: 0,
            position: 0,
        }
    }
}

impl Default for ReplayBuffer {
    /// A buffer of [`DEFAULT_BOUND`](Self::DEFAULT_BOUND).
    fn default() -> Self {
        Self::new(Self::DEFAULT_BOUND)
    }
}

impl<B> Replay<Request<B>> for ReplayBuffer
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Request = Request<ReplayBody<B>>;

    fn prepare(&self, request: Request<B>) -> Self::Request {
        request.map(|body| self.body(body))
    }

    fn copy(&self, request: &Self::Request) -> Option<Self::Request> {
        let body = request.body().again()?;
        let mut copy = Request::new(body);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }

    fn can_replay(&self, kept: &Self::Request) -> bool {
        kept.body().claim()
    }
}

impl<B> Replay<Call<Request<B>>> for ReplayBuffer
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Request = Call<Request<ReplayBody<B>>>;

    fn prepare(&self, call: Call<Request<B>>) -> Self::Request {
        call.map_request(|request| self.prepare(request))
    }

    fn copy(&self, call: &Self::Request) -> Option<Self::Request> {
        let request = Replay::<Request<B>>::copy(self, call.request())?;
        Some(call.with_request(request))
    }

    fn can_replay(&self, kept: &Self::Request) -> bool {
        Replay::<Request<B>>::can_replay(self, kept.request())
    }
}

/// A request body of which [`ReplayBuffer`] keeps what was sent.
///
/// It is `Send` and `Sync` if the body inside is `Send`.
pub struct ReplayBody<B: Body> {
    shared: Arc<Mutex<Shared<B>>>,
    /// Later attempts have higher numbers.
    number: u64,
    /// The next piece to send.
    position: u64,
}

/// What all attempts of one call share.
struct Shared<B> {
    source: Source<B>,
    /// What the source last said of itself.
    view: View,
    sent: Kept,
    bound: usize,
    /// How many attempts there are: the one that is sent, and those kept for later.
    bodies: usize,
    numbers: u64,
    /// The latest attempt that has asked for the body; those before it are over.
    current: u64,
    /// The kept attempt that was last told that it can be sent, so that nothing may be given up.
    claimed: Option<u64>,
    /// Whoever waits for the source, for it to be put back, or for the claim to go.
    waiting: Option<Waker>,
}

enum Source<B> {
    Here(B),
    /// Some attempt is just reading it.
    Away,
    Ended,
    /// It failed, or panicked; there is no more of it.
    Lost,
}

/// What was sent, from the beginning or, if some was given up, from `first`.
#[derive(Default)]
struct Kept {
    pieces: VecDeque<Piece>,
    first: u64,
    bytes: usize,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Clone, Copy)]
struct View {
    lower: u64,
    upper: Option<u64>,
    at_end: bool,
}

/// Who waited until now; for after the lock, because wakers are somebody else's code.
enum Former {
    /// To be woken.
    Other(Option<Waker>),
    /// To be dropped.
    Gone(#[expect(dead_code, reason = "held to be dropped later")] Option<Waker>),
}

/// What an attempt does next.
enum Turn<B> {
    Send(Piece),
    Read(B),
    Wait,
    End,
    Fail(&'static str),
}

impl<B: Body> ReplayBody<B> {
    /// The same body for a later attempt, if it can be had from its beginning.
    fn again(&self) -> Option<Self> {
        let mut shared = self.lock();
        if !shared.is_whole() {
            return None;
        }
        shared.bodies += 1;
        shared.numbers += 1;
        Some(Self {
            shared: Arc::clone(&self.shared),
            number: shared.numbers,
            position: 0,
        })
    }

    /// Makes sure that nothing is given up any more, if nothing has been.
    fn claim(&self) -> bool {
        let mut shared = self.lock();
        let is_whole = shared.is_whole();
        if is_whole {
            shared.claimed = Some(self.number);
        }
        is_whole
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Shared<B> {
    /// Whether the body can be had from its beginning.
    const fn is_whole(&self) -> bool {
        self.sent.first == 0 && !matches!(self.source, Source::Lost)
    }

    fn turn(&mut self, number: u64, position: &mut u64, waker: &Waker) -> (Turn<B>, Former) {
        if number < self.current {
            let over = Turn::Fail("a later attempt sends the body now");
            return (over, Former::Gone(None));
        }
        let waiting = self.waiting.take();
        let former = if number > self.current {
            // Whoever waits is of an attempt before this one.
            self.current = number;
            self.claimed = self.claimed.filter(|later| *later > number);
            Former::Other(waiting)
        } else {
            // Only the present attempt waits, and it has been polled.
            Former::Gone(waiting)
        };
        (self.next(position, waker), former)
    }

    fn next(&mut self, position: &mut u64, waker: &Waker) -> Turn<B> {
        let Some(index) = position.checked_sub(self.sent.first) else {
            return Turn::Fail("the beginning of the body is no longer there");
        };
        let index = usize::try_from(index).ok();
        if let Some(piece) = index.and_then(|index| self.sent.pieces.get(index)) {
            let piece = piece.clone();
            *position += 1;
            // Too much to be kept, or kept for nobody.
            if self.bodies == 1 || (self.sent.bytes > self.bound && self.claimed.is_none()) {
                self.sent.drop_before(*position);
            }
            return Turn::Send(piece);
        }
        let is_full = self.claimed.is_some() && self.sent.bytes > self.bound;
        match std::mem::replace(&mut self.source, Source::Away) {
            Source::Here(body) if !is_full => return Turn::Read(body),
            source => self.source = source,
        }
        match self.source {
            Source::Ended => Turn::End,
            Source::Lost => Turn::Fail("the body broke off before"),
            Source::Away | Source::Here(_) => {
                self.waiting = Some(waker.clone());
                Turn::Wait
            }
        }
    }
}

impl Kept {
    fn push(&mut self, piece: Piece) {
        let size = piece.len().max(LEAST_OF_A_PIECE);
        self.bytes = self.bytes.saturating_add(size);
        self.pieces.push_back(piece);
    }

    fn drop_before(&mut self, position: u64) {
        while self.first < position && self.pieces.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn end(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }
}

impl Piece {
    fn of<D: Buf>(frame: Frame<D>) -> Self {
        match frame.into_data() {
            Ok(mut data) => Self::Data(data.copy_to_bytes(data.remaining())),
            Err(frame) => Self::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

impl View {
    fn of<B: Body>(body: &B) -> Self {
        let hint = body.size_hint();
        Self {
            lower: hint.lower(),
            upper: hint.upper(),
            at_end: body.is_end_stream(),
        }
    }

    const ENDED: Self = Self {
        lower: 0,
        upper: Some(0),
        at_end: true,
    };
}

/// What came of reading the source.
enum Read {
    /// There is something new.
    Again,
    Wait,
    Fail(BoxError),
}

impl<B> ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads the next piece of the source, outside the lock.
    fn read(&self, mut body: B, cx: &mut Context<'_>) -> Read {
        let lost = LostIfDropped { of: self };
        let polled = Pin::new(&mut body).poll_frame(cx);
        let polled = polled.map(|item| item.map(|item| item.map(Piece::of)));
        let view = View::of(&body);
        std::mem::forget(lost);
        let mut shared = self.lock();
        let newer = shared.waiting.take();
        let (read, over) = match polled {
            Poll::Pending => {
                shared.source = Source::Here(body);
                if self.number == shared.current {
                    // To hear of it if a later attempt takes over.
                    shared.waiting = Some(cx.waker().clone());
                    (Read::Wait, None)
                } else {
                    (Read::Again, None)
                }
            }
            Poll::Ready(Some(Ok(piece))) => {
                shared.source = Source::Here(body);
                shared.view = view;
                shared.sent.push(piece);
                (Read::Again, None)
            }
            Poll::Ready(Some(Err(error))) => {
                shared.source = Source::Lost;
                (Read::Fail(error.into()), Some(body))
            }
            Poll::Ready(None) => {
                shared.source = Source::Ended;
                shared.view = View::ENDED;
                (Read::Again, Some(body))
            }
        };
        drop(shared);
        drop(over);
        if let Some(waker) = newer {
            waker.wake();
        }
        read
    }
}

/// Says that the source is lost if reading it panics.
struct LostIfDropped<'a, B: Body> {
    of: &'a ReplayBody<B>,
}

impl<B: Body> Drop for LostIfDropped<'_, B> {
    fn drop(&mut self) {
        let mut shared = self.of.lock();
        shared.source = Source::Lost;
        let waiting = shared.waiting.take();
        drop(shared);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let mut position = this.position;
            let (turn, former) = this.lock().turn(this.number, &mut position, cx.waker());
            this.position = position;
            if let Former::Other(Some(waker)) = former {
                waker.wake();
            }
            let read = match turn {
                Turn::Send(piece) => return Poll::Ready(Some(Ok(piece.into_frame()))),
                Turn::Wait => return Poll::Pending,
                Turn::End => return Poll::Ready(None),
                Turn::Fail(why) => return Poll::Ready(Some(Err(Box::new(BodyGone { why })))),
                Turn::Read(body) => this.read(body, cx),
            };
            match read {
                Read::Again => {}
                Read::Wait => return Poll::Pending,
                Read::Fail(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.lock();
        shared.view.at_end && self.position >= shared.sent.end()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        let ahead = self.position.saturating_sub(shared.sent.first);
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        let ahead = shared.sent.pieces.iter().skip(ahead);
        let ahead: u64 = ahead.map(|piece| piece.len() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(shared.view.lower.saturating_add(ahead));
        if let Some(upper) = shared.view.upper {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

impl<B: Body> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        let mut shared = self.lock();
        shared.bodies -= 1;
        // It will not be sent after all, so whoever made room for it goes on.
        let waiting = if shared.claimed == Some(self.number) {
            shared.claimed = None;
            shared.waiting.take()
        } else {
            None
        };
        drop(shared);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Why an attempt's body cannot be sent; a source of the client's error.
#[derive(Clone, Copy, Debug)]
struct BodyGone {
    why: &'static str,
}

impl fmt::Display for BodyGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body cannot be sent: {}", self.why)
    }
}

impl Error for BodyGone {}

/// What a piece counts at the least, so that empty ones do not add up to nothing.
const LEAST_OF_A_PIECE: usize = 64;

#[cfg(test)]
mod tests;
