use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{Replay, RetryEvent, handle::Pending, layer::Shared};
use crate::{
    clock,
    error::BoxError,
    outcome::Outcome,
    policy::{Attempts, Decision, Reason, Timestamp},
    protocol::{self, Protocol},
};

pin_project! {
    /// The future of [`Retry`](super::Retry): all attempts of one call and the waits between.
    ///
    /// # Panics
    ///
    /// If polled after it is complete, or if it has to wait outside a tokio runtime with its timer
    /// enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropped at an attempt, it drops that attempt; dropped during a wait, it also gives back
    /// what the next attempt took from the budget. The request is lost either way.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, P, R>
    where
        R: Replay<Req>,
        S: Service<R::Request>,
    {
        #[pin]
        step: Step<S::Future>,
        service: S,
        shared: Arc<Shared<P, R>>,
        attempts: Attempts,
        kept: Option<R::Request>,
        resends: u32,
        pending: Option<Pending>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F> {
        Calling { #[pin] attempt: F },
        Waiting { #[pin] timer: Sleep, until: Timestamp },
        Readying,
        Done,
    }
}

impl<S, Req, P, R> ResponseFuture<S, Req, P, R>
where
    R: Replay<Req>,
    S: Service<R::Request>,
{
    // Inlined, because each function that a request passes through by value copies it.
    #[inline(always)]
    pub(super) const fn new(
        attempt: S::Future,
        service: S,
        shared: Arc<Shared<P, R>>,
        attempts: Attempts,
        kept: Option<R::Request>,
        resends: u32,
    ) -> Self {
        Self {
            step: Step::Calling { attempt },
            service,
            shared,
            attempts,
            kept,
            resends,
            pending: None,
        }
    }
}

impl<S, Req, P, R> Future for ResponseFuture<S, Req, P, R>
where
    R: Replay<Req>,
    S: Service<R::Request>,
    S::Error: Into<BoxError>,
    P: Protocol<R::Request, S::Response>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Shared {
            state,
            protocol,
            replay,
            on_retry,
        } = &**this.shared;
        loop {
            match this.step.as_mut().project() {
                StepProjection::Calling { attempt } => {
                    let polled = attempt.poll(cx);
                    // Looked at where it is: a response is large.
                    let answered = match &polled {
                        Poll::Pending => {
                            // Until it waits, no time has passed and no clock is needed.
                            this.attempts.start(clock::now);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(response)) => Some(protocol.classify(Ok(response))),
                        Poll::Ready(Err(_)) => None,
                    };
                    if answered.is_some_and(|outcome| outcome.is_success()) {
                        state.succeed(this.attempts);
                        *this.kept = None;
                        this.step.set(Step::Done);
                        return polled.map_err(Into::into);
                    }
                    let mut result = ready!(polled).map_err(Into::into);
                    let outcome = match &result {
                        Ok(_) => answered.expect("an answer is classified above"),
                        Err(error) => protocol::classify_failure(protocol, error),
                    };
                    if let Some(kept) = this.kept {
                        this.attempts.set_idempotency(protocol.idempotency(kept));
                    }
                    if !this
                        .kept
                        .as_ref()
                        .is_some_and(|kept| replay.can_replay(kept))
                    {
                        this.attempts.not_replayable();
                    }
                    let now = clock::now();
                    let (at, charge) = match state.decide(this.attempts, &outcome, now) {
                        Decision::Retry { at, charge } => (at, charge),
                        Decision::GiveUp(reason) => {
                            log_end(&outcome, reason);
                            if let (Ok(response), Some(_)) = (&mut result, outcome.hint()) {
                                protocol.annotate(response, outcome);
                            }
                            // Its body may still be on its way, and need no longer be kept.
                            *this.kept = None;
                            this.step.set(Step::Done);
                            return Poll::Ready(result);
                        }
                    };
                    *this.pending = Some(Pending::new(state, charge));
                    // Nothing of the failed attempt outlives it: connection, slot and key are
                    // free during the wait.
                    drop(result);
                    this.step.set(if at > now {
                        let timer = clock::sleep_until(at);
                        Step::Waiting { timer, until: at }
                    } else {
                        // Another key can serve it now; a timer would take a millisecond.
                        Step::Readying
                    });
                    *this.resends = this.resends.saturating_add(1);
                    let event = RetryEvent {
                        outcome,
                        wait: at.since(now),
                        resends: *this.resends,
                        charge,
                    };
                    log_retry(&event);
                    if let Some(on_retry) = on_retry {
                        on_retry(&event);
                    }
                }
                StepProjection::Waiting { mut timer, until } => {
                    ready!(timer.as_mut().poll(cx));
                    if clock::now() < *until {
                        // Further away than a timer reaches.
                        clock::reset(timer, *until);
                    } else {
                        this.step.set(Step::Readying);
                    }
                }
                StepProjection::Readying => {
                    if let Err(error) = ready!(this.service.poll_ready(cx)) {
                        state.give_up(Reason::Final);
                        *this.pending = None;
                        this.step.set(Step::Done);
                        return Poll::Ready(Err(error.into()));
                    }
                    let mut request = this
                        .kept
                        .take()
                        .expect("only a request that was kept is retried");
                    protocol.set_resends(&mut request, *this.resends);
                    *this.kept = this.shared.keep(this.attempts, &request);
                    if let Some(pending) = this.pending.take() {
                        pending.sent();
                    }
                    let attempt = this.service.call(request);
                    this.step.set(Step::Calling { attempt });
                }
                StepProjection::Done => panic!("polled after completion"),
            }
        }
    }
}

#[cfg(feature = "tracing")]
fn log_retry(event: &RetryEvent) {
    tracing::debug!(
        layer = "retry",
        "error.type" = event.outcome.verdict().name(),
        wait = ?event.wait,
        http.request.resend_count = event.resends,
        free = event.charge == crate::policy::Charge::Free,
        "sending again after a wait"
    );
    // Where somebody has opened a span for the call that has such a field.
    tracing::Span::current().record("http.request.resend_count", event.resends);
}

#[cfg(feature = "tracing")]
fn log_end(outcome: &Outcome, reason: Reason) {
    // An answer that is final is no news.
    if reason != Reason::Final {
        tracing::debug!(
            layer = "retry",
            "error.type" = outcome.verdict().name(),
            retry_after = crate::log::retry_after(outcome),
            reason = reason.name(),
            "giving up"
        );
    }
}

#[cfg(not(feature = "tracing"))]
const fn log_retry(_: &RetryEvent) {}

#[cfg(not(feature = "tracing"))]
const fn log_end(_: &Outcome, _: Reason) {}

impl<S, Req, P, R> fmt::Debug for ResponseFuture<S, Req, P, R>
where
    R: Replay<Req>,
    S: Service<R::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("attempts", &self.attempts)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}
