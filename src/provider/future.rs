use std::{
    fmt,
    future::Future,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http::{Response, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{
    Hold, Profile, ResponseBody,
    body::{MOST_PIECES, Reading},
    declared::{Declared, is_encoded},
    layer::Settings,
};
use crate::{clock, outcome::Outcome};

/// What is read of a failure's body before it is handed on: errors are a few hundred bytes, and
/// the longest pages of proxies some tens of thousands.
const MOST_OF_AN_ERROR: usize = 64 << 10;
/// What is held of a stream before its first event with content.
const MOST_OF_A_BEGINNING: usize = 64 << 10;
/// Frames read before the head goes on, so that an endless row of empty ones ends.
const MOST_FRAMES: u32 = 4_096;

pin_project! {
    /// The future of a call through [`Provider`](super::Provider): the client's own, and after a
    /// failure, or where heads are held, the reading of the body's beginning.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it reads a body, it drops that body.
    ///
    /// # Panics
    ///
    /// If polled after it is complete, or if it has to wait for a body outside a tokio runtime
    /// with its timer enabled.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B>
    where
        B: Body,
    {
        #[pin]
        state: State<F, B>,
        profile: Profile,
        settings: Settings,
        has_answer: bool,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B>
    where
        B: Body,
    {
        Calling {
            #[pin]
            future: F,
        },
        // Beside a call that succeeds this would be large, and it is rare.
        Gathering {
            gathered: Option<Box<Gathered<B>>>,
            #[pin]
            timer: Option<Sleep>,
        },
        Done,
    }
}

/// A response whose body's beginning is read before it goes on.
struct Gathered<B: Body> {
    head: Parts,
    body: ResponseBody<B>,
    purpose: Purpose,
    /// How much of the body may still be read, and for how long.
    room: usize,
    frames: u32,
    wait: Duration,
}

enum Purpose {
    /// To classify a failure by this.
    Classify(Vec<u8>),
    /// Until there is content.
    Begin,
    /// To its end.
    Whole,
}

impl<F, B: Body> ResponseFuture<F, B> {
    pub(super) const fn new(
        future: F,
        profile: Profile,
        settings: Settings,
        has_answer: bool,
    ) -> Self {
        Self {
            state: State::Calling { future },
            profile,
            settings,
            has_answer,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Unpin,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    this.state.set(State::Done);
                    let response = match result {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    if response.status().as_u16() >= 400 {
                        match fail(response, this.profile, this.settings) {
                            Ok(response) => return Poll::Ready(Ok(response)),
                            Err(gathered) => this.state.set(State::gathering(gathered)),
                        }
                        continue;
                    }
                    let response = succeed(response, this.profile, *this.has_answer);
                    match this.settings.held_of(&response) {
                        None => return Poll::Ready(Ok(response)),
                        Some(held) => {
                            let gathered = Gathered::new(response, held);
                            this.state.set(State::gathering(gathered));
                        }
                    }
                }
                StateProj::Gathering { gathered, timer } => {
                    let reading = gathered.as_mut().expect("taken only when done");
                    ready!(reading.poll(timer, cx));
                    let gathered = gathered.take().expect("it is there above");
                    this.state.set(State::Done);
                    return Poll::Ready(Ok(gathered.respond(this.profile)));
                }
                StateProj::Done => panic!("a call of a layer was polled after it was ready"),
            }
        }
    }
}

impl<F, B: Body> State<F, B> {
    const fn gathering(gathered: Box<Gathered<B>>) -> Self {
        Self::Gathering {
            gathered: Some(gathered),
            timer: None,
        }
    }
}

#[inline(always)]
fn succeed<B: Body>(
    response: Response<B>,
    profile: &Profile,
    has_answer: bool,
) -> Response<ResponseBody<B>> {
    let reading = if has_answer {
        Reading::of_success(profile, response.status(), response.headers())
    } else {
        Reading::OPAQUE
    };
    let (head, body) = response.into_parts();
    Response::from_parts(head, ResponseBody::new(body, reading))
}

/// A failure as it is handed on, or what must be read of it before.
#[cold]
fn fail<B: Body>(
    response: Response<B>,
    profile: &Profile,
    settings: &Settings,
) -> Result<Response<ResponseBody<B>>, Box<Gathered<B>>> {
    // The client may be another stack, which has read it already.
    let is_known = response.extensions().get::<Outcome>().is_some();
    let is_readable = !response.body().is_end_stream() && !is_encoded(response.headers());
    let charged = profile.charging_rule().settle_failure();
    let mut response = response.map(|body| ResponseBody::new(body, Reading::Failure(charged)));
    if !is_known && is_readable {
        let held = Held {
            purpose: Purpose::Classify(Vec::new()),
            room: MOST_OF_AN_ERROR,
            wait: settings.max_error_wait,
        };
        return Err(Gathered::new(response, held));
    }
    if !is_known {
        let outcome = profile.classify(response.status(), response.headers(), &[], clock::wall());
        response.extensions_mut().insert(outcome);
    }
    Ok(response)
}

/// What is read before the head goes on, and within which bounds.
struct Held {
    purpose: Purpose,
    room: usize,
    wait: Duration,
}

impl Settings {
    /// What of a success is held back.
    #[inline]
    fn held_of<B: Body>(&self, response: &Response<ResponseBody<B>>) -> Option<Held> {
        let (begin, whole) = match self.hold {
            Hold::Nothing => return None,
            Hold::FirstEvent => (true, None),
            Hold::WholeJson(most) => (false, Some(most)),
            Hold::Either(most) => (true, Some(most)),
        };
        // What is begun cannot be taken back, and nothing can be told of what is opaque. A body that
        // is known to be empty is read all the same: where a stream should be, that is a failure.
        if response.body().reading().has_begun() {
            return None;
        }
        let is_short = |most: &usize| {
            let least = response.body().size_hint().lower();
            usize::try_from(least).is_ok_and(|least| least <= *most)
        };
        let (purpose, room) = match Declared::by(response.headers()) {
            Declared::Events | Declared::Frames if begin => (Purpose::Begin, MOST_OF_A_BEGINNING),
            // One byte more is one too many.
            Declared::Json => (Purpose::Whole, whole.filter(is_short)?.saturating_add(1)),
            _ => return None,
        };
        Some(Held {
            purpose,
            room,
            wait: self.max_hold,
        })
    }
}

impl<B: Body> Gathered<B> {
    fn new(response: Response<ResponseBody<B>>, held: Held) -> Box<Self> {
        let (head, body) = response.into_parts();
        Box::new(Self {
            head,
            body,
            purpose: held.purpose,
            room: held.room,
            frames: 0,
            wait: held.wait,
        })
    }

    /// Reads until enough is known, or no more can be hoped for.
    fn poll(&mut self, mut timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()>
    where
        B: Unpin,
    {
        while self.room > 0 && self.frames < MOST_FRAMES {
            let (purpose, room) = (&mut self.purpose, &mut self.room);
            let look = |data: &B::Data| {
                if let Purpose::Classify(text) = purpose {
                    copy(data, *room, text);
                }
                *room = room.saturating_sub(data.remaining());
            };
            match self.body.gather(cx, look) {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Ready(false) if self.is_enough() => return Poll::Ready(()),
                Poll::Ready(false) => self.frames += 1,
                Poll::Pending => {
                    if timer.is_none() {
                        let until = clock::now() + self.wait;
                        timer.set(Some(clock::sleep_until(until)));
                    }
                    let timer = timer.as_mut().as_pin_mut().expect("it is set above");
                    return timer.poll(cx);
                }
            }
        }
        Poll::Ready(())
    }

    fn is_enough(&self) -> bool {
        match self.purpose {
            Purpose::Classify(_) => false,
            Purpose::Begin => {
                let reading = self.body.reading();
                reading.has_begun() || reading.failure().is_some()
            }
            Purpose::Whole => self.body.reading().failure().is_some(),
        }
    }

    fn respond(self, profile: &Profile) -> Response<ResponseBody<B>> {
        let Self {
            mut head,
            body,
            purpose,
            ..
        } = self;
        let outcome = match purpose {
            Purpose::Classify(text) => {
                Some(profile.classify(head.status, &head.headers, &text, clock::wall()))
            }
            // Nothing of it has reached the caller, so it is a failure like any other.
            Purpose::Begin | Purpose::Whole => body.reading().failure(),
        };
        if let Some(outcome) = outcome {
            head.extensions.insert(outcome);
        }
        Response::from_parts(head, body)
    }
}

/// Copies up to `room` bytes that can be seen of `data`.
fn copy(data: &impl Buf, room: usize, text: &mut Vec<u8>) {
    let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
    let many = data.chunks_vectored(&mut pieces);
    let mut room = room;
    for piece in &pieces[..many] {
        let most = piece.len().min(room);
        text.extend_from_slice(&piece[..most]);
        room -= most;
    }
}

impl<F, B: Body> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Calling { .. } => "provider::ResponseFuture(called)",
            State::Gathering { .. } => "provider::ResponseFuture(reading)",
            State::Done => "provider::ResponseFuture(done)",
        })
    }
}
