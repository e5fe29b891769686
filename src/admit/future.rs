use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{Entry, Held, Resource, Spent, Waiting};
use crate::{
    clock,
    error::BoxError,
    outcome::{Completeness, Effect, Ending, Outcome, Verdict},
    policy::Readings,
    protocol::{self, Guard, Protocol},
};

/// In what the layers that wait differ once a call is admitted.
pub(crate) trait Conduct: Resource + Sized {
    /// What such a layer calls itself.
    const LAYER: &'static str;

    /// Whether it hears how calls went when that is known, and so asks for the time.
    const LEARNS: bool = false;

    /// What lives as long as the answer.
    type Permit: Guard;

    /// Makes a permit of the guard.
    fn permit(permit: Permit<Self>) -> Self::Permit;

    /// Changes the request at the instant of sending.
    #[inline]
    fn authorize<Req, Res, P: Protocol<Req, Res>>(
        held: &Held<Self>,
        protocol: &P,
        request: &mut Req,
    ) {
        let _ = (held, protocol, request);
    }

    /// Whether it keeps a quota that the server knows better.
    const HEARS: bool = false;

    /// Hears what the answer shows of the server's quotas, before [`learn`](Self::learn).
    #[inline]
    fn hear(held: &mut Held<Self>, readings: &Readings) {
        let _ = (held, readings);
    }

    /// Hears how the call went when that is known, and says what that means to the layers
    /// outside, if anything else.
    #[inline]
    fn learn(held: &mut Held<Self>, outcome: &Outcome) -> Option<Outcome> {
        let _ = (held, outcome);
        None
    }

    /// The error of a call that means something else to the layers outside.
    fn blame(held: &Held<Self>, error: BoxError, outcome: Outcome) -> BoxError {
        let _ = (held, outcome);
        error
    }
}

pin_project! {
    /// A call on its way through admission: waits, calls, classifies, and hands the guard on.
    pub(crate) struct CallFuture<S, Req, P, R>
    where
        S: Service<Req>,
        R: Resource,
    {
        #[pin]
        state: State<S, S::Future, Req, R>,
        protocol: P,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, Req, R>
    where
        R: Resource,
    {
        Queued {
            waiting: Waiting<R>,
            #[pin]
            timer: Option<Sleep>,
            next: Option<(S, Req)>,
        },
        Admitted {
            held: Option<Held<R>>,
            next: Option<(S, Req)>,
        },
        Called {
            #[pin]
            future: F,
            held: Option<Held<R>>,
        },
        Failed {
            error: Option<BoxError>,
        },
        Done,
    }
}

impl<S, Req, P, R> CallFuture<S, Req, P, R>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response>,
    R: Conduct,
{
    /// A call admitted at once goes straight to the inner service if that is ready.
    // Inlined, because each function that a request passes through by value copies it; and
    // wrapped where it is made, because so does each type around a future.
    #[inline(always)]
    pub(crate) fn start<W>(
        entry: Entry<R>,
        service: &mut S,
        mut request: Req,
        protocol: P,
        wrap: impl Fn(Self) -> W,
    ) -> W {
        let mut held = match entry {
            Entry::Admitted(held) => held,
            entry => return wrap(Self::detained(entry, service, request, protocol)),
        };
        let readiness = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        if !matches!(readiness, Poll::Ready(Ok(()))) {
            return wrap(Self::unready(readiness, held, service, request, protocol));
        }
        R::authorize(&held, &protocol, &mut request);
        held.sent();
        wrap(Self {
            state: State::Called {
                future: service.call(request),
                held: Some(held),
            },
            protocol,
        })
    }

    /// The very instance that was asked is kept, to be asked again with a real waker, and an
    /// unasked clone takes its place: what stays behind waits for nothing.
    #[cold]
    fn unready(
        readiness: Poll<Result<(), S::Error>>,
        held: Held<R>,
        service: &mut S,
        request: Req,
        protocol: P,
    ) -> Self {
        let state = if let Poll::Ready(Err(error)) = readiness {
            State::Failed {
                error: Some(error.into()),
            }
        } else {
            let unasked = service.clone();
            State::Admitted {
                held: Some(held),
                next: Some((std::mem::replace(service, unasked), request)),
            }
        };
        Self { state, protocol }
    }

    /// A call that waits or is refused.
    #[cold]
    fn detained(entry: Entry<R>, service: &S, request: Req, protocol: P) -> Self {
        let state = match entry {
            Entry::Queued(waiting) => State::Queued {
                waiting,
                timer: None,
                next: Some((service.clone(), request)),
            },
            Entry::Admitted(held) => State::Admitted {
                held: Some(held),
                next: Some((service.clone(), request)),
            },
            Entry::Refused(rejected) => {
                note_refusal(R::LAYER, &rejected);
                State::Failed {
                    error: Some(rejected.into()),
                }
            }
        };
        Self { state, protocol }
    }
}

impl<S, Req, P, R> Future for CallFuture<S, Req, P, R>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response>,
    R: Conduct,
{
    type Output = Result<P::Response<R::Permit>, BoxError>;

    // Inlined into the one public future around it: a response that is moved once more costs
    // as much as a short lock.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Queued {
                    waiting,
                    timer,
                    next,
                } => match ready!(waiting.poll(timer, cx)) {
                    Ok(held) => {
                        let admitted = State::Admitted {
                            held: Some(held),
                            next: next.take(),
                        };
                        this.state.set(admitted);
                    }
                    Err(rejected) => {
                        note_refusal(R::LAYER, &rejected);
                        this.state.set(State::Done);
                        return Poll::Ready(Err(rejected.into()));
                    }
                },
                StateProj::Admitted { held, next } => {
                    let (service, _) = next.as_mut().expect("taken only when called");
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        this.state.set(State::Done);
                        return Poll::Ready(Err(error.into()));
                    }
                    let (mut service, mut request) = next.take().expect("it is there above");
                    let mut held = held.take().expect("taken only when called");
                    R::authorize(&held, &*this.protocol, &mut request);
                    held.sent();
                    let future = service.call(request);
                    let held = Some(held);
                    this.state.set(State::Called { future, held });
                }
                StateProj::Called { future, held } => {
                    assert!(held.is_some(), "{POLLED_AGAIN}");
                    let _step = R::LEARNS.then(clock::Step::outward);
                    // Looked at where it is and moved once: a response is large.
                    let mut polled = future.poll(cx);
                    let Poll::Ready(result) = &mut polled else {
                        return Poll::Pending;
                    };
                    let mut held = held.take().expect("it is there above");
                    if let Ok(response) = result {
                        answer(&mut held, &*this.protocol, response);
                    }
                    return match polled {
                        Poll::Ready(Ok(response)) => {
                            let permit = R::permit(Permit { held });
                            Poll::Ready(Ok(this.protocol.hold(response, permit)))
                        }
                        Poll::Ready(Err(error)) => {
                            Poll::Ready(Err(give_back(&*this.protocol, error.into(), held)))
                        }
                        Poll::Pending => Poll::Pending,
                    };
                }
                StateProj::Failed { error } => {
                    let error = error.take().expect("taken only when done");
                    this.state.set(State::Done);
                    return Poll::Ready(Err(error));
                }
                StateProj::Done => panic!("{POLLED_AGAIN}"),
            }
        }
    }
}

const POLLED_AGAIN: &str = "a call of a layer was polled after it was ready";

/// Tells the guard how the answer begins.
#[inline(always)]
fn answer<Req, Res, P: Protocol<Req, Res>, R: Conduct>(
    held: &mut Held<R>,
    protocol: &P,
    response: &mut Res,
) {
    let outcome = protocol.classify(Ok(response));
    if R::HEARS {
        hear(protocol, response, outcome, held);
    }
    if let Some(outcome) = R::learn(held, &outcome) {
        protocol.annotate(response, outcome);
    }
    if outcome.verdict() == Verdict::RefusedLocally {
        // A refusal that a layer inside has made a response of.
        held.finish(Spent::Nothing, None);
    }
    held.answered(outcome.verdict());
}

/// Tells the resource what the answer shows of the server's quotas.
// Inlined, so that a protocol that knows nothing of them costs nothing.
#[inline(always)]
fn hear<Req, Res, P: Protocol<Req, Res>, R: Conduct>(
    protocol: &P,
    response: &Res,
    outcome: Outcome,
    held: &mut Held<R>,
) {
    let readings = protocol.readings(response);
    if !readings.is_empty() || outcome.verdict() == Verdict::Throttled {
        R::hear(
            held,
            &match outcome.verdict() {
                Verdict::Throttled => readings.of_refusal(),
                _ => readings,
            },
        );
    }
}

/// Releases the guard of a call that failed without a response.
#[cold]
fn give_back<Req, Res, P: Protocol<Req, Res>, R: Conduct>(
    protocol: &P,
    mut error: BoxError,
    mut held: Held<R>,
) -> BoxError {
    let outcome = protocol::classify_failure(protocol, &error);
    if let Some(outcome) = R::learn(&mut held, &outcome) {
        error = R::blame(&held, error, outcome);
    }
    let completed = match outcome.verdict() {
        // A local refusal counts as no call of the server's.
        Verdict::RefusedLocally | Verdict::Cancelled => None,
        _ => Some(&outcome),
    };
    held.finish(spent_by_failure(outcome), completed);
    error
}

/// A call that an inner layer refused, or that never reached the server, cost nothing.
fn spent_by_failure(outcome: Outcome) -> Spent {
    match (outcome.verdict(), outcome.effect()) {
        (Verdict::RefusedLocally, _) | (Verdict::ServerFault, Effect::None) => Spent::Nothing,
        _ => Spent::AS_RESERVED,
    }
}

#[cfg(feature = "tracing")]
use crate::log::refusal as note_refusal;

#[cfg(not(feature = "tracing"))]
const fn note_refusal(_: &'static str, _: &crate::error::Rejected) {}

impl<S, Req, P, R> fmt::Debug for CallFuture<S, Req, P, R>
where
    S: Service<Req>,
    R: Resource,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Queued { .. } => "queued",
            State::Admitted { .. } => "admitted",
            State::Called { .. } => "called",
            State::Failed { .. } => "failed",
            State::Done => "done",
        })
    }
}

// === impl Permit ===

/// What an admitted call holds while its answer lasts.
///
/// [`finish`](Guard::finish) settles what was reserved: a complete answer with known usage
/// refunds or surcharges, anything else adds what was seen above the reservation and refunds
/// nothing. Dropping it is the same with nothing seen: the guard knows that it was answered.
#[derive(Debug)]
#[must_use = "dropping it releases what the call holds"]
pub(crate) struct Permit<R: Resource> {
    held: Held<R>,
}

impl<R: Resource> Permit<R> {
    #[inline]
    pub(crate) fn finish(mut self, ending: Ending) {
        let spent = match ending.completeness() {
            Completeness::Complete => Spent::Exactly(ending.usage()),
            Completeness::Partial => Spent::AtLeast(ending.usage()),
        };
        let outcome = match (self.held.verdict(), ending.failure()) {
            (Some(Verdict::Success) | None, Some(failure)) => failure,
            (verdict, _) => Outcome::new(verdict.unwrap_or(Verdict::Success)),
        };
        self.held
            .finish_with(spent, &ending.reported(), Some(&outcome));
    }
}
