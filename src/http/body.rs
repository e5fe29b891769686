//! Bodies that hold a guard to their end.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Http;
use crate::{
    outcome::{Completeness, Ending, Outcome, Usage, Verdict},
    protocol::Guard,
};

/// A body that knows what it has carried: the tokens used, an error inside the stream, whether
/// the answer came to its end.
///
/// A body that reads its own stream implements this; [`Reported`](super::Reported) hands what
/// it says to the guards of every layer around it.
///
/// ```
/// use std::{pin::Pin, task::{Context, Poll}};
/// use bytes::Bytes;
/// use http_body::{Body, Frame};
/// use tower_relay::{http::{Report, Reported, ResponseBody}, outcome::{Ending, Usage}, protocol::Guard};
///
/// /// One word at a time, each of them a token.
/// struct Words(Vec<&'static str>, u64);
///
/// impl Body for Words {
///     type Data = Bytes;
///     type Error = std::convert::Infallible;
///
///     fn poll_frame(
///         mut self: Pin<&mut Self>,
///         _: &mut Context<'_>,
///     ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
///         let word = self.0.pop();
///         self.1 += u64::from(word.is_some());
///         Poll::Ready(word.map(|word| Ok(Frame::data(word.into()))))
///     }
/// }
///
/// impl Report for Words {
///     fn report(&self) -> Ending {
///         let usage = Usage::UNKNOWN.output_tokens(self.1);
///         match self.0.is_empty() {
///             true => Ending::complete(usage),
///             false => Ending::partial(usage),
///         }
///     }
/// }
///
/// struct Settle;
/// impl Guard for Settle {
///     fn finish(self, ending: Ending) {
///         assert_eq!(ending, Ending::complete(Usage::UNKNOWN.output_tokens(2)));
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use http_body_util::BodyExt;
///
/// let body = ResponseBody::<_, _, Reported>::new(Words(vec!["world", "hello"], 0), Settle);
/// assert_eq!(body.collect().await.unwrap().to_bytes(), "helloworld");
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the body `{Self}` does not report how the answer ended",
    label = "this body does not implement `Report`",
    note = "`Reported` needs a body that reports its usage, such as the one of a provider layer: put that layer innermost",
    note = "for bodies that report nothing use the protocol `Http`: reservations are then kept as they were estimated"
)]
pub trait Report {
    /// What is known so far. A pure read: it changes nothing, does not panic, and may be asked
    /// again.
    fn report(&self) -> Ending;
}

/// What a [`ResponseBody`] learns from the body inside it. [`Http`] asks nothing,
/// [`Reported`](super::Reported) asks for its [`Report`].
pub trait ReadEnding<B> {
    /// What `body` says of the answer so far; `None` if it says nothing.
    fn read_ending(body: &B) -> Option<Ending>;
}

pin_project! {
    /// A response body that holds a layer's guard until it ends.
    ///
    /// Data, trailers, the size hint and the end pass through unchanged and undelayed. The guard
    /// is finished once, at the first of: an empty body when this is built (HEAD, 204, 304), the
    /// frame after which nothing comes, trailers, the end, an error, and being dropped.
    ///
    /// What the guard hears depends on `R`. For [`Http`] the body is opaque: an answer that came
    /// to its end is complete with unknown usage, any other is partial. For
    /// [`Reported`](super::Reported) it hears the body's own [`Report`]. An error that the body
    /// did not foresee counts as a server fault; if the answer was complete before, it is none.
    ///
    /// This body reports what the body inside it reports, so that any number of guards around
    /// one reporting body hear the same. It allocates nothing.
    pub struct ResponseBody<B, G, R = Http>
    where
        G: Guard,
        R: ReadEnding<B>,
    {
        // None while this is dropped, when the body goes first: a place is free when the stream
        // that held it is closed, not before.
        #[pin]
        body: Option<B>,
        guard: Option<G>,
        reader: PhantomData<fn() -> R>,
    }

    impl<B, G, R> PinnedDrop for ResponseBody<B, G, R>
    where
        G: Guard,
        R: ReadEnding<B>,
    {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // A body that has just panicked is not asked anything, and the guard is neutral.
            if this.guard.is_none() || thread::panicking() {
                return;
            }
            let seen = this.body.as_ref().get_ref().as_ref().and_then(R::read_ending);
            this.body.set(None);
            if let Some(guard) = this.guard.take() {
                guard.finish(seen.unwrap_or_default());
            }
        }
    }
}

impl<B, G, R> ResponseBody<B, G, R>
where
    G: Guard,
    R: ReadEnding<B>,
{
    /// `body` with `guard` in it, or `body` alone if it has ended already.
    #[inline(always)]
    pub fn new(body: B, guard: G) -> Self
    where
        B: Body,
    {
        let guard = if body.is_end_stream() {
            guard.finish(End::Clean.of::<B, R>(&body));
            None
        } else {
            Some(guard)
        };
        Self {
            body: Some(body),
            guard,
            reader: PhantomData,
        }
    }

    /// The body inside.
    #[inline]
    pub const fn inner(&self) -> &B {
        self.body.as_ref().expect(WITH_BODY)
    }
}

impl<B, G, R> Body for ResponseBody<B, G, R>
where
    B: Body,
    G: Guard,
    R: ReadEnding<B>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let mut body = this.body.as_pin_mut().expect(WITH_BODY);
        let polled = body.as_mut().poll_frame(cx);
        if let (Poll::Ready(frame), true) = (&polled, this.guard.is_some()) {
            let body = body.as_ref().get_ref();
            let end = match frame {
                Some(Ok(frame)) if frame.is_trailers() || body.is_end_stream() => End::Clean,
                Some(Ok(_)) => return polled,
                Some(Err(_)) => End::Broken,
                None => End::Clean,
            };
            if let Some(guard) = this.guard.take() {
                guard.finish(end.of::<B, R>(body));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner().size_hint()
    }
}

impl<B, G, R> Report for ResponseBody<B, G, R>
where
    B: Report,
    G: Guard,
    R: ReadEnding<B>,
{
    fn report(&self) -> Ending {
        self.inner().report()
    }
}

impl<B, G, R> fmt::Debug for ResponseBody<B, G, R>
where
    B: fmt::Debug,
    G: Guard,
    R: ReadEnding<B>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("body", self.inner())
            .field("guarded", &self.guard.is_some())
            .finish()
    }
}

const WITH_BODY: &str = "only the destructor takes the body";

/// How a body that was polled came to its end.
enum End {
    Clean,
    Broken,
}

impl End {
    fn of<B, R: ReadEnding<B>>(self, body: &B) -> Ending {
        let seen = R::read_ending(body);
        match self {
            Self::Clean => seen.unwrap_or(Ending::complete(Usage::UNKNOWN)),
            Self::Broken => {
                let seen = seen.unwrap_or_default();
                let known = seen.completeness() == Completeness::Complete;
                match seen.failure() {
                    None if !known => seen.failed(Outcome::new(Verdict::ServerFault)),
                    _ => seen,
                }
            }
        }
    }
}
