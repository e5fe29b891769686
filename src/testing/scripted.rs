use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use crate::{clock, error::BoxError, policy::Timestamp};

/// A service that answers as a closure says, and remembers when it was asked and how many calls
/// were in flight. Clones share what is remembered.
pub struct Scripted<F> {
    script: F,
    log: Arc<Mutex<Log>>,
}

/// How a [`Scripted`] service treats one call.
#[derive(Debug)]
pub struct Reply<Res> {
    wait: Option<Duration>,
    end: End<Res>,
}

#[derive(Debug)]
enum End<Res> {
    Answer(Result<Res, BoxError>),
    Panic,
}

#[derive(Debug)]
struct Log {
    began: Timestamp,
    sent: Vec<Timestamp>,
    in_flight: usize,
    peak: usize,
}

impl<Res> Reply<Res> {
    /// Answers at once.
    pub const fn now(response: Res) -> Self {
        Self::after(Duration::ZERO, response)
    }

    /// Answers after `wait`.
    pub const fn after(wait: Duration, response: Res) -> Self {
        Self {
            wait: Some(wait),
            end: End::Answer(Ok(response)),
        }
    }

    /// Fails at once.
    pub fn fail(error: impl Into<BoxError>) -> Self {
        Self {
            wait: Some(Duration::ZERO),
            end: End::Answer(Err(error.into())),
        }
    }

    /// Never answers.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            wait: None,
            end: End::Panic,
        }
    }

    /// Panics when the call's future is first polled.
    #[must_use]
    pub const fn panic() -> Self {
        Self {
            wait: Some(Duration::ZERO),
            end: End::Panic,
        }
    }
}

impl<F> Scripted<F> {
    /// A service that does with each request what `script` says.
    pub fn new<Req, Res>(script: F) -> Self
    where
        F: Fn(&Req) -> Reply<Res>,
    {
        Self {
            script,
            log: Arc::new(Mutex::new(Log {
                began: clock::now(),
                sent: Vec::new(),
                in_flight: 0,
                peak: 0,
            })),
        }
    }

    /// When each call was made, counted from the making of the service.
    #[must_use]
    pub fn sent_after(&self) -> Vec<Duration> {
        let log = lock(&self.log);
        log.sent.iter().map(|at| at.since(log.began)).collect()
    }

    /// Calls whose future is neither finished nor dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.log).in_flight
    }

    /// The most calls that were in flight at once.
    #[must_use]
    pub fn peak_in_flight(&self) -> usize {
        lock(&self.log).peak
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Clone> Clone for Scripted<F> {
    fn clone(&self) -> Self {
        Self {
            script: self.script.clone(),
            log: Arc::clone(&self.log),
        }
    }
}

impl<F, Req, Res> Service<Req> for Scripted<F>
where
    F: Fn(&Req) -> Reply<Res>,
{
    type Response = Res;
    type Error = BoxError;
    type Future = ReplyFuture<Res>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ReplyFuture<Res> {
        let reply = (self.script)(&request);
        let now = clock::now();
        let mut log = lock(&self.log);
        log.sent.push(now);
        log.in_flight += 1;
        log.peak = log.peak.max(log.in_flight);
        ReplyFuture {
            timer: match reply.wait {
                Some(wait) if !wait.is_zero() => Some(clock::sleep_until(now + wait)),
                _ => None,
            },
            due: reply.wait.map_or(Timestamp::MAX, |wait| now + wait),
            end: Some(reply.end),
            _in_flight: InFlight(Arc::clone(&self.log)),
        }
    }
}

impl<F> fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.log).fmt(f)
    }
}

pin_project! {
    /// The future of a [`Scripted`] call.
    ///
    /// # Panics
    ///
    /// If the script says so, or if it is polled after it was ready.
    #[derive(Debug)]
    pub struct ReplyFuture<Res> {
        #[pin]
        timer: Option<Sleep>,
        due: Timestamp,
        end: Option<End<Res>>,
        _in_flight: InFlight,
    }
}

impl<Res> Future for ReplyFuture<Res> {
    type Output = Result<Res, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut timer = this.timer;
        while clock::now() < *this.due {
            // Timers are shorter than some waits; none is set for those without end.
            let Some(mut timer) = timer.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            ready!(timer.as_mut().poll(cx));
            clock::reset(timer, *this.due);
        }
        match this.end.take() {
            Some(End::Answer(result)) => Poll::Ready(result),
            Some(End::Panic) => panic!("the script says so"),
            None => panic!("a scripted call was polled after it was ready"),
        }
    }
}

#[derive(Debug)]
struct InFlight(Arc<Mutex<Log>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.0).in_flight -= 1;
    }
}
