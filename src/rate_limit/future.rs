use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::handle::Metered;
use crate::{
    admit::{Entry, Held, Spent, Waiting},
    error::{BoxError, Rejected},
    outcome::{Completeness, Effect, Ending, Outcome, Verdict},
    protocol::{self, Protocol},
};

pin_project! {
    /// The future of a rate-limited call: waits, calls, classifies, and hands the guard on.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while it waits leaves the queue and takes nothing; dropping it before the
    /// inner service is called refunds everything; dropping it later leaves the call charged.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready, or if it has to wait outside a tokio runtime with its
    /// timer enabled.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, P>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, S::Future, Req>,
        protocol: P,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, Req> {
        Queued {
            waiting: Waiting<Metered>,
            #[pin]
            timer: Option<Sleep>,
            next: Option<(S, Req)>,
        },
        Admitted {
            held: Option<Held<Metered>>,
            next: Option<(S, Req)>,
        },
        Called {
            #[pin]
            future: F,
            held: Option<Held<Metered>>,
        },
        Failed {
            error: Option<BoxError>,
        },
        Done,
    }
}

impl<S, Req, P> ResponseFuture<S, Req, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
{
    /// A call admitted at once goes straight to the inner service if that is ready.
    // Inlined, because each function that a request passes through by value copies it.
    #[inline(always)]
    pub(super) fn new(entry: Entry<Metered>, service: &mut S, request: Req, protocol: P) -> Self {
        let mut held = match entry {
            Entry::Admitted(held) => held,
            entry => return Self::detained(entry, service, request, protocol),
        };
        let readiness = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        if !matches!(readiness, Poll::Ready(Ok(()))) {
            return Self::unready(readiness, held, service, request, protocol);
        }
        held.sent();
        Self {
            state: State::Called {
                future: service.call(request),
                held: Some(held),
            },
            protocol,
        }
    }

    /// The very instance that was asked is kept, to be asked again with a real waker, and an
    /// unasked clone takes its place: what stays behind waits for nothing.
    #[cold]
    fn unready(
        readiness: Poll<Result<(), S::Error>>,
        held: Held<Metered>,
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
    fn detained(entry: Entry<Metered>, service: &S, request: Req, protocol: P) -> Self {
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
                note_refusal(&rejected);
                State::Failed {
                    error: Some(rejected.into()),
                }
            }
        };
        Self { state, protocol }
    }
}

impl<S, Req, P> Future for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: Protocol<Req, S::Response>,
{
    type Output = Result<P::Response<Permit>, BoxError>;

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
                        note_refusal(&rejected);
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
                    let (mut service, request) = next.take().expect("it is there above");
                    let mut held = held.take();
                    held.as_mut().expect("taken only when called").sent();
                    let future = service.call(request);
                    this.state.set(State::Called { future, held });
                }
                StateProj::Called { future, held } => match future.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(response)) => {
                        let held = held.take().expect("taken only when done");
                        this.state.set(State::Done);
                        let is_success = this.protocol.classify(Ok(&response)).is_success();
                        let permit = Permit { held, is_success };
                        return Poll::Ready(Ok(this.protocol.hold(response, permit)));
                    }
                    Poll::Ready(Err(error)) => {
                        let held = held.take().expect("taken only when done");
                        this.state.set(State::Done);
                        return Poll::Ready(Err(give_back(this.protocol, error.into(), held)));
                    }
                },
                StateProj::Failed { error } => {
                    let error = error.take().expect("taken only when done");
                    this.state.set(State::Done);
                    return Poll::Ready(Err(error));
                }
                StateProj::Done => panic!("a rate-limited call was polled after it was ready"),
            }
        }
    }
}

/// Releases the guard of a call that failed without a response.
#[cold]
fn give_back<Req, Res, P: Protocol<Req, Res>>(
    protocol: &P,
    error: BoxError,
    mut held: Held<Metered>,
) -> BoxError {
    let outcome = protocol.classify(Err(&error));
    held.finish(spent_by_failure(outcome), is_completed(outcome));
    error
}

/// A call that an inner layer refused, or that never reached the server, cost nothing.
fn spent_by_failure(outcome: Outcome) -> Spent {
    match (outcome.verdict(), outcome.effect()) {
        (Verdict::RefusedLocally, _) | (Verdict::ServerFault, Effect::None) => Spent::Nothing,
        _ => Spent::AS_RESERVED,
    }
}

/// A local refusal counts as no call of the server's.
fn is_completed(outcome: Outcome) -> Option<bool> {
    match outcome.verdict() {
        Verdict::RefusedLocally | Verdict::Cancelled => None,
        _ => Some(outcome.is_success()),
    }
}

#[cfg(feature = "tracing")]
fn note_refusal(rejected: &Rejected) {
    tracing::debug!(
        layer = "rate limit",
        retry_after = rejected.retry_after().map(tracing::field::debug),
        "{rejected}"
    );
}

#[cfg(not(feature = "tracing"))]
const fn note_refusal(_: &Rejected) {}

impl<S, Req, P> fmt::Debug for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Queued { .. } => "queued",
            State::Admitted { .. } => "admitted",
            State::Called { .. } => "called",
            State::Failed { .. } => "failed",
            State::Done => "done",
        };
        write!(f, "rate_limit::ResponseFuture({state})")
    }
}

// === impl Permit ===

/// What an admitted call holds: its reservation and its place in flight.
///
/// [`finish`](protocol::Guard::finish) settles the reservation: a complete answer with known
/// usage refunds or surcharges, anything else adds what was seen above the reservation and
/// refunds nothing. Dropping it is the same with nothing seen.
#[derive(Debug)]
#[must_use = "dropping it releases what the call holds"]
pub struct Permit {
    held: Held<Metered>,
    is_success: bool,
}

impl protocol::Guard for Permit {
    fn finish(mut self, ending: Ending) {
        let spent = match ending.completeness() {
            Completeness::Complete => Spent::Exactly(ending.usage()),
            Completeness::Partial => Spent::AtLeast(ending.usage()),
        };
        self.is_success &= ending.failure().is_none();
        self.held.finish(spent, Some(self.is_success));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.finish(Spent::AS_RESERVED, Some(self.is_success));
    }
}
