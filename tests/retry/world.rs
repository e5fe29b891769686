//! The world around the layer: a server with a script, and what it is asked and answers.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::{Future, Ready, ready},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::Service;
use tower_relay::{
    error::BoxError,
    outcome::{Effect, Idempotency, Outcome, Verdict},
    policy::{Backoff, Growth, Jitter, RetryPolicy, RetryPolicyBuilder},
    protocol::{Guard, Protocol, timestamp},
    retry::RetryLayer,
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A request that counts its copies.
#[derive(Default)]
pub(super) struct Ask {
    pub(super) resends: u32,
    pub(super) deadline: Option<Instant>,
    pub(super) copies: Arc<AtomicU32>,
}

impl Clone for Ask {
    fn clone(&self) -> Self {
        self.copies.fetch_add(1, Relaxed);
        Self {
            resends: self.resends,
            deadline: self.deadline,
            copies: self.copies.clone(),
        }
    }
}

impl Ask {
    pub(super) fn within(deadline: Duration) -> Self {
        Self {
            deadline: Some(Instant::now() + deadline),
            ..Self::default()
        }
    }
}

/// A response; deliberately not `Clone`.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) annotated: Option<Outcome>,
    /// What a body, a connection, a slot would be.
    pub(super) _held: Arc<()>,
}

/// An error that is not a `BoxError` and not `Clone`.
#[derive(Debug)]
pub(super) struct Broken(pub(super) u32);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken pipe {}", self.0)
    }
}

impl Error for Broken {}

#[derive(Clone, Copy)]
pub(super) struct Api;

impl Protocol<Ask, Answer> for Api {
    type Response<G: Guard> = Answer;

    fn hold<G: Guard>(&self, answer: Answer, _: G) -> Answer {
        answer
    }

    fn deadline(&self, ask: &Ask) -> Option<Instant> {
        ask.deadline
    }

    fn idempotency(&self, _: &Ask) -> Idempotency {
        Idempotency::Unknown
    }

    fn resends(&self, ask: &Ask) -> u32 {
        ask.resends
    }

    fn set_resends(&self, ask: &mut Ask, resends: u32) {
        ask.resends = resends;
    }

    fn classify(&self, result: Result<&Answer, &BoxError>) -> Outcome {
        result.map_or(Outcome::new(Verdict::ServerFault), |answer| answer.outcome)
    }

    fn annotate(&self, answer: &mut Answer, outcome: Outcome) {
        answer.annotated = Some(outcome);
    }
}

pub(super) enum Reply {
    Say(Outcome),
    /// Absorbed: served again this long after the answer.
    Again(Verdict, Duration),
    Fail(u32),
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) script: VecDeque<Reply>,
    /// When each request came, and how many resends it told of.
    pub(super) seen: Vec<(Instant, u32)>,
    pub(super) last: Weak<()>,
}

/// A server that follows a script and then succeeds. Insists on the Tower contract.
#[derive(Default)]
pub(super) struct Server {
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) unready: Arc<AtomicBool>,
    pub(super) latency: Duration,
    pub(super) polled_ready: bool,
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            unready: self.unready.clone(),
            latency: self.latency,
            polled_ready: false,
        }
    }
}

impl Server {
    pub(super) fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::default();
        server.log.lock().unwrap().script.extend(script);
        server
    }

    pub(super) fn calls(&self) -> usize {
        self.log.lock().unwrap().seen.len()
    }

    pub(super) fn resends(&self) -> Vec<u32> {
        self.log
            .lock()
            .unwrap()
            .seen
            .iter()
            .map(|seen| seen.1)
            .collect()
    }

    /// The waits between requests.
    pub(super) fn waits(&self) -> Vec<Duration> {
        let seen = &self.log.lock().unwrap().seen;
        seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }

    /// Whether anything still holds the last response.
    pub(super) fn last_is_alive(&self) -> bool {
        self.log.lock().unwrap().last.strong_count() > 0
    }
}

impl Service<Ask> for Server {
    type Response = Answer;
    type Error = Broken;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Answer, Broken>> + Send + Sync>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.unready.load(Relaxed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.polled_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(
            self.polled_ready,
            "called without readiness of this instance"
        );
        self.polled_ready = false;
        let (log, latency) = (self.log.clone(), self.latency);
        Box::pin(async move {
            tokio::time::sleep(latency).await;
            let mut log = log.lock().unwrap();
            log.seen.push((Instant::now(), ask.resends));
            let outcome = match log.script.pop_front() {
                None => Outcome::SUCCESS,
                Some(Reply::Say(outcome)) => outcome,
                Some(Reply::Again(verdict, after)) => {
                    Outcome::new(verdict).absorbed(in_time(after))
                }
                Some(Reply::Fail(code)) => return Err(Broken(code)),
            };
            let held = Arc::new(());
            log.last = Arc::downgrade(&held);
            let annotated = None;
            Ok(Answer {
                outcome,
                annotated,
                _held: held,
            })
        })
    }
}

/// A service that fails its first call, and cannot get ready after it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mortal {
    pub(super) called: Arc<AtomicBool>,
}

impl Service<Ask> for Mortal {
    type Response = Answer;
    type Error = Broken;
    type Future = Ready<Result<Answer, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let called = self.called.load(Relaxed);
        Poll::Ready(if called { Err(Broken(2)) } else { Ok(()) })
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        self.called.store(true, Relaxed);
        ready(Err(Broken(1)))
    }
}

/// The instant that a pool inside names when it absorbs a hint.
pub(super) fn in_time(after: Duration) -> tower_relay::policy::Timestamp {
    timestamp(Instant::now() + after)
}

pub(super) fn say(verdict: Verdict) -> Reply {
    Reply::Say(Outcome::new(verdict).with_effect(Effect::None))
}

pub(super) fn hinted(verdict: Verdict, hint: Duration) -> Reply {
    Reply::Say(Outcome::new(verdict).after(hint))
}

/// Exactly 100, 200, 400 ms after failures and throttles alike, and hints without jitter.
pub(super) fn exact() -> RetryPolicyBuilder {
    let backoff = Backoff::new(Growth::Exponential, 100 * MS, 10 * SECOND)
        .and_then(|backoff| backoff.throttled_base(100 * MS))
        .expect("it is valid");
    RetryPolicy::builder()
        .backoff(backoff.jitter(Jitter::None))
        .hint_jitter_percent(0)
}

pub(super) fn layer(policy: RetryPolicyBuilder) -> RetryLayer<Api> {
    RetryLayer::new(policy.build().expect("it is valid")).protocol(Api)
}

pub(super) fn repeat(times: usize, reply: impl Fn() -> Reply) -> Vec<Reply> {
    std::iter::repeat_with(reply).take(times).collect()
}
