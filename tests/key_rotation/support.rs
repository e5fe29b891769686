//! What the tests of key rotation share: a provider that knows keys, and calls of models.

#[path = "../support/mod.rs"]
mod shared;

pub(crate) use self::shared::*;

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tower::Service;
pub(crate) use tower_relay::policy::limit::Fixed;
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::{
        ExposeSecret, Key, KeyPool, KeyPoolBuilder, KeyRotationHandle, KeyRotationLayer, Scope,
        Source,
    },
    outcome::{Effect, Outcome, Verdict},
    policy::{
        Cost, Quota, QuotaBuilder, RetryPolicy, Unit,
        pool::{KeySnapshot, KeyState},
    },
    protocol::{self, Guard, Protocol},
    retry::RetryLayer,
    testing::{ReadinessProbe, Reply, Scripted},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// What a call asks for. The pool writes a secret into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) model: Option<String>,
    pub(crate) cost: Option<Cost>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) secret: String,
}

impl Ask {
    pub(crate) fn numbered(id: u64) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    pub(crate) fn of(model: &str) -> Self {
        Self::default().model(model)
    }

    pub(crate) fn model(mut self, model: &str) -> Self {
        self.model = Some(model.into());
        self
    }

    pub(crate) fn costing(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    pub(crate) fn within(mut self, time: Duration) -> Self {
        self.deadline = Some(Instant::now() + time);
        self
    }

    /// The alias of the key that it was sent with.
    pub(crate) fn alias(&self) -> String {
        let alias = self.secret.strip_prefix("hush-").expect("it has a secret");
        alias.split('-').next().expect("it has one").into()
    }

    pub(crate) fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("")
    }
}

/// An answer; deliberately not `Clone`.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) secret: String,
    pub(crate) outcome: Outcome,
    pub(crate) annotated: Option<Outcome>,
}

/// A failure without an answer, of a known cause.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) Outcome);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl Error for Broken {}

/// The protocol of the provider: its guard is dropped with the answer's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api;

/// The same with the guard handed out, to be settled by the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding;

fn classify(result: Result<&Answer, &BoxError>) -> Outcome {
    match result {
        Ok(answer) => answer.annotated.unwrap_or(answer.outcome),
        Err(error) => match error.downcast_ref() {
            Some(Broken(outcome)) => *outcome,
            None => protocol::classify(Err(error)),
        },
    }
}

fn authorize(ask: &mut Ask, key: &Key) {
    key.secret().expose_secret().clone_into(&mut ask.secret);
}

macro_rules! speak {
    () => {
        fn cost(&self, ask: &Ask) -> Cost {
            ask.cost.unwrap_or(Cost::REQUEST)
        }

        fn model<'a>(&self, ask: &'a Ask) -> Option<&'a str> {
            ask.model.as_deref()
        }

        fn authorize(&self, ask: &mut Ask, key: &Key) {
            authorize(ask, key);
        }

        fn deadline(&self, ask: &Ask) -> Option<Instant> {
            ask.deadline
        }

        fn classify(&self, result: Result<&Answer, &BoxError>) -> Outcome {
            classify(result)
        }

        fn annotate(&self, answer: &mut Answer, outcome: Outcome) {
            answer.annotated = Some(outcome);
        }
    };
}

impl Protocol<Ask, Answer> for Api {
    type Response<G: Guard> = Answer;

    fn hold<G: Guard>(&self, answer: Answer, _: G) -> Answer {
        answer
    }

    speak!();
}

impl Protocol<Ask, Answer> for Holding {
    type Response<G: Guard> = (Answer, G);

    fn hold<G: Guard>(&self, answer: Answer, guard: G) -> (Answer, G) {
        (answer, guard)
    }

    speak!();
}

// === the pool ===

pub(crate) fn built(builder: QuotaBuilder) -> Quota {
    builder.build().expect("the test's quota is valid")
}

pub(crate) fn per_second(requests: u64) -> Quota {
    built(Quota::builder().requests_per_second(requests))
}

pub(crate) fn plenty() -> Quota {
    built(
        Quota::builder()
            .requests_per_second(1_000)
            .burst(Unit::REQUESTS, 10_000),
    )
}

pub(crate) fn secret(alias: &str) -> Source {
    Source::value(format!("hush-{alias}-hush"))
}

/// A scope without quota.
pub(crate) fn scope(name: &str, keys: &[&str]) -> Scope {
    keys.iter().fold(Scope::new(name), |scope, alias| {
        scope.key(*alias, secret(alias))
    })
}

pub(crate) fn pool(scopes: impl IntoIterator<Item = Scope>) -> KeyPool {
    let builder = scopes
        .into_iter()
        .fold(KeyPool::builder(), KeyPoolBuilder::scope);
    builder.build().expect("the test's pool is valid")
}

/// Scopes `a`, `b`, ... of a key each, `a1`, `b1`, ..., and the same quota each.
pub(crate) fn accounts(count: u8, quota: &Quota) -> KeyPool {
    let names = (b'a'..b'a' + count).map(|name| char::from(name).to_string());
    pool(names.map(|name| scope(&name, &[&format!("{name}1")]).quota(quota.clone())))
}

pub(crate) fn layer(pool: KeyPool) -> KeyRotationLayer<Api> {
    KeyRotationLayer::new(pool).protocol(Api)
}

/// At most this many attempts, the default budget.
pub(crate) fn retry(attempts: u32) -> RetryLayer<Api> {
    let policy = RetryPolicy::builder().attempts(attempts);
    RetryLayer::new(policy.build().expect("it is valid")).protocol(Api)
}

// === the provider ===

/// What reached the provider: after how many milliseconds, with which key, which call.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Instant,
    seen: Arc<Mutex<Vec<(Duration, Ask)>>>,
}

impl Log {
    pub(crate) fn seen(&self) -> Vec<(Duration, Ask)> {
        self.seen.lock().expect("no test panics inside").clone()
    }

    pub(crate) fn began(&self) -> Instant {
        self.start
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen().len()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.seen().iter().map(|(_, ask)| ask.alias()).collect()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.seen().iter().map(|(_, ask)| ask.id).collect()
    }

    pub(crate) fn times(&self) -> Vec<Duration> {
        self.seen().iter().map(|(at, _)| *at).collect()
    }

    pub(crate) fn whole(&self) -> Vec<u64> {
        self.times().into_iter().map(whole).collect()
    }

    pub(crate) fn calls_with(&self, alias: &str) -> usize {
        self.keys().iter().filter(|key| *key == alias).count()
    }

    /// How many reached the provider at the busiest instant of a time.
    pub(crate) fn most_at_once(&self, when: std::ops::Range<Duration>) -> usize {
        let times: Vec<_> = self
            .times()
            .into_iter()
            .filter(|at| when.contains(at))
            .collect();
        let same = |at: &Duration| times.iter().filter(|other| *other == at).count();
        times.iter().map(same).max().unwrap_or(0)
    }
}

pub(crate) type Server<F> = ReadinessProbe<Scripted<F>>;

/// A provider that answers as `script` says, and what it saw. It insists on readiness.
pub(crate) fn server<F>(
    script: F,
) -> (
    Server<impl Fn(&Ask) -> Reply<Answer> + Clone + Send + Sync + 'static>,
    Log,
)
where
    F: Fn(&Ask) -> Reply<Answer> + Clone + Send + Sync + 'static,
{
    let log = Log {
        start: Instant::now(),
        seen: Arc::default(),
    };
    let writes = log.clone();
    let scripted = Scripted::new(move |ask: &Ask| {
        let entry = (writes.start.elapsed(), ask.clone());
        writes.seen.lock().expect("no panic").push(entry);
        script(ask)
    });
    (ReadinessProbe::new(scripted), log)
}

pub(crate) fn answer(ask: &Ask, outcome: Outcome) -> Answer {
    Answer {
        secret: ask.secret.clone(),
        outcome,
        annotated: None,
    }
}

pub(crate) fn ok(ask: &Ask) -> Reply<Answer> {
    Reply::now(answer(ask, Outcome::SUCCESS))
}

pub(crate) fn slowly(wait: Duration, ask: &Ask) -> Reply<Answer> {
    Reply::after(wait, answer(ask, Outcome::SUCCESS))
}

pub(crate) fn say(ask: &Ask, verdict: Verdict) -> Reply<Answer> {
    Reply::now(answer(ask, Outcome::new(verdict)))
}

pub(crate) fn hinted(ask: &Ask, verdict: Verdict, hint: Duration) -> Reply<Answer> {
    Reply::now(answer(ask, Outcome::new(verdict).after(hint)))
}

pub(crate) fn fail(verdict: Verdict, hint: Option<Duration>) -> Reply<Answer> {
    let outcome = Outcome::new(verdict).with_effect(Effect::None);
    Reply::fail(Broken(match hint {
        Some(hint) => outcome.after(hint),
        None => outcome,
    }))
}

/// Calls once, without any layer between.
pub(crate) async fn once<S>(service: &S, ask: Ask) -> Result<S::Response, S::Error>
where
    S: Service<Ask> + Clone,
{
    let mut service = service.clone();
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(ask).await
}

// === what is measured ===

pub(crate) fn rejected(error: &BoxError) -> &Rejected {
    Rejected::find(&**error).expect("the pool refused")
}

pub(crate) fn key(handle: &KeyRotationHandle, alias: &str) -> KeySnapshot {
    let scopes = handle.scopes();
    let mut keys = scopes.iter().flat_map(|scope| scope.keys());
    keys.find(|key| key.alias() == alias)
        .expect("it is in the pool")
        .clone()
}

pub(crate) fn state(handle: &KeyRotationHandle, alias: &str) -> KeyState {
    key(handle, alias).state()
}

/// What is left of a scope's requests.
pub(crate) fn remaining(handle: &KeyRotationHandle, scope: usize) -> i64 {
    handle.scopes()[scope].classes()[0].remaining()[0].1
}

/// Asserts that nothing is in flight or waits anywhere.
pub(crate) fn assert_idle(handle: &KeyRotationHandle) {
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    for scope in handle.scopes() {
        assert_eq!(scope.in_flight(), 0, "{}", scope.name());
        for class in scope.classes() {
            assert_eq!(class.in_flight(), 0, "{}", scope.name());
        }
        for key in scope.keys() {
            assert_eq!(key.in_flight(), 0, "{}", key.alias());
        }
    }
}
