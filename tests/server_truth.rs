//! What a server shows of its quotas corrects ours, through the layers, in virtual time.
#![cfg(all(
    feature = "key-rotation",
    feature = "rate-limit",
    feature = "provider",
    feature = "test-util"
))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::BoxError,
    http::{Credential, UntilHead},
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    outcome::Outcome,
    policy::{Quota, Readings, Unit},
    protocol::{Guard, Protocol},
    provider::RateHeaders,
    rate_limit::{KeyedRateLimitLayer, RateLimitLayer},
    testing::{Reply, Scripted},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Call = Request<()>;
type Answer = Response<()>;

/// HTTP whose headers show quotas as OpenAI's do.
#[derive(Clone)]
struct Shown(Arc<RateHeaders>);

impl Shown {
    fn new() -> Self {
        Self(Arc::new(RateHeaders::openai()))
    }
}

impl Protocol<Call, Answer> for Shown {
    type Response<G: Guard> = Answer;

    fn hold<G: Guard>(&self, answer: Answer, guard: G) -> Answer {
        Protocol::<Call, Answer>::hold(&UntilHead, answer, guard)
    }

    fn classify(&self, result: Result<&Answer, &BoxError>) -> Outcome {
        Protocol::<Call, Answer>::classify(&UntilHead, result)
    }

    fn readings(&self, answer: &Answer) -> Readings {
        self.0.read(answer.headers(), std::time::SystemTime::now)
    }
}

/// What one account may and did use: requests per minute, by a clock of its own.
#[derive(Clone, Copy)]
struct Account {
    limit: u64,
    clock: f64,
    left: f64,
    at: Instant,
    served: u64,
    refused: u64,
}

impl Account {
    fn new(limit: u64, clock: f64) -> Self {
        let (left, at) = (limit as f64, Instant::now());
        let (served, refused) = (0, 0);
        Self {
            limit,
            clock,
            left,
            at,
            served,
            refused,
        }
    }

    fn rate(&self) -> f64 {
        self.limit as f64 / 60.0 * self.clock
    }

    fn answer(&mut self) -> Answer {
        let now = Instant::now();
        let gained = (now - self.at).as_secs_f64() * self.rate();
        self.left = (self.left + gained).min(self.limit as f64);
        self.at = now;
        let is_served = self.left >= 1.0;
        let mut answer = Response::new(());
        if is_served {
            self.left -= 1.0;
            self.served += 1;
        } else {
            self.refused += 1;
            *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        let headers = answer.headers_mut();
        let missing = (self.limit as f64 - self.left) / self.rate();
        for (name, value) in [
            ("x-ratelimit-limit-requests", self.limit.to_string()),
            (
                "x-ratelimit-remaining-requests",
                (self.left as u64).to_string(),
            ),
            ("x-ratelimit-reset-requests", format!("{missing:.3}s")),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).expect("visible"));
        }
        answer
    }
}

/// A provider of accounts, known by the key's first letter.
#[derive(Clone)]
struct Provider {
    accounts: Arc<Mutex<HashMap<char, Account>>>,
    latency: Duration,
}

impl Provider {
    fn new(accounts: impl IntoIterator<Item = (char, Account)>) -> Self {
        Self {
            accounts: Arc::new(Mutex::new(accounts.into_iter().collect())),
            latency: 1_500 * MS,
        }
    }

    fn of(&self, account: char) -> Account {
        self.accounts.lock().expect("no panic")[&account]
    }

    fn change(&self, account: char, change: impl FnOnce(&mut Account)) {
        change(
            self.accounts
                .lock()
                .expect("no panic")
                .get_mut(&account)
                .expect("it exists"),
        );
    }

    fn service(&self) -> Scripted<impl Fn(&Call) -> Reply<Answer> + Clone + Send + Sync + 'static> {
        let this = self.clone();
        Scripted::new(move |call: &Call| {
            let key = call
                .headers()
                .get(AUTHORIZATION)
                .map(|value| value.as_bytes());
            let account = key.and_then(|key| key.get("Bearer ".len()).copied());
            let account = char::from(account.unwrap_or(b'a'));
            let mut accounts = this.accounts.lock().expect("no panic");
            let answer = accounts.get_mut(&account).expect("it exists").answer();
            Reply::after(this.latency, answer)
        })
    }

    /// What share of an account's quota was used since `before`, and of the calls refused.
    fn since(&self, account: char, before: &Account, time: Duration) -> (f64, f64) {
        let now = self.of(account);
        let served = (now.served - before.served) as f64;
        let refused = (now.refused - before.refused) as f64;
        (
            served / (now.rate() * time.as_secs_f64()),
            refused / (served + refused).max(1.0),
        )
    }
}

/// Callers that always have work, until the service is dropped with them.
fn crowd<S>(service: &S, callers: usize) -> tokio::task::JoinSet<()>
where
    S: Service<Call> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let service = service.clone();
        tasks.spawn(async move {
            loop {
                let _refused = service.clone().oneshot(Request::new(())).await;
            }
        });
    }
    tasks
}

fn keys(names: &[&str]) -> impl Iterator<Item = (String, Source)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), Source::value(format!("{name}-secret"))))
}

fn rotation(pool: KeyPool) -> KeyRotationLayer<Credential<Shown>> {
    KeyRotationLayer::new(pool).protocol(Credential::bearer(Shown::new()))
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_whose_server_s_clock_is_slower_is_not_refused_for_ever() {
    for clock in [0.99, 1.01] {
        let provider = Provider::new([('a', Account::new(600, clock))]);
        let quota = Quota::builder()
            .requests_per_minute(600)
            .build()
            .expect("valid");
        let layer = RateLimitLayer::new(quota).protocol(Shown::new());
        let crowd = crowd(&layer.layer(provider.service()), 100);
        tokio::time::sleep(2 * MINUTE).await;
        let before = provider.of('a');
        tokio::time::sleep(5 * MINUTE).await;
        let (used, refused) = provider.since('a', &before, 5 * MINUTE);
        assert!(used >= 0.97, "{clock}: {used} used");
        assert!(refused <= 0.001, "{clock}: {refused} refused");
        drop(crowd);
    }
}

#[tokio::test(start_paused = true)]
async fn with_headers_only_a_pool_learns_what_each_account_may_use() {
    let limits = [('a', 600), ('b', 60), ('c', 300)];
    let accounts = limits.map(|(name, limit)| (name, Account::new(limit, 0.99)));
    let provider = Provider::new(accounts);
    let pool = KeyPool::accounts(Quota::learned(), keys(&["a", "b", "c"])).expect("valid");
    let crowd = crowd(&rotation(pool).layer(provider.service()), 200);
    tokio::time::sleep(MINUTE).await;
    let before = limits.map(|(name, _)| provider.of(name));
    tokio::time::sleep(5 * MINUTE).await;
    for (before, (name, _)) in before.iter().zip(limits) {
        let (used, refused) = provider.since(name, before, 5 * MINUTE);
        assert!(used >= 0.95, "{name}: {used} used");
        assert!(refused <= 0.01, "{name}: {refused} refused");
    }
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn two_keys_of_one_scope_hear_of_one_quota() {
    let provider = Provider::new([('a', Account::new(300, 1.0))]);
    let scope = keys(&["a1", "a2"]).fold(
        Scope::new("org-a").quota(Quota::learned()),
        |scope, (alias, source)| scope.key(alias, source),
    );
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let layer = rotation(pool);
    let service = layer.layer(provider.service());
    for _ in 0..2 {
        service
            .clone()
            .oneshot(Request::new(()))
            .await
            .expect("served");
    }
    // A second's worth of the one limit, however much of the minute's remains.
    let scopes = layer.handle().scopes();
    let remaining = scopes[0].classes()[0].remaining();
    assert!(
        matches!(remaining, [(Unit::REQUESTS, 4..=5)]),
        "{remaining:?}"
    );
    let crowd = crowd(&service, 100);
    tokio::time::sleep(2 * MINUTE).await;
    let before = provider.of('a');
    tokio::time::sleep(3 * MINUTE).await;
    let (used, refused) = provider.since('a', &before, 3 * MINUTE);
    assert!(
        used >= 0.97 && refused <= 0.001,
        "{used} used, {refused} refused"
    );
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_the_whole_is_not_the_server_s() {
    let provider = Provider::new([('a', Account::new(600, 1.0))]);
    let whole = Quota::builder()
        .requests_per_minute(6_000)
        .burst(Unit::REQUESTS, 100);
    let pool = KeyPool::accounts(Quota::learned(), keys(&["a"])).expect("valid");
    let layer = rotation(pool).rate_limit(whole.build().expect("valid"));
    let service = layer.layer(provider.service());
    provider.change('a', |account| account.left = 3.0);
    service
        .clone()
        .oneshot(Request::new(()))
        .await
        .expect("served");
    assert_eq!(layer.handle().available(Unit::REQUESTS), Some(100));
}

#[tokio::test(start_paused = true)]
async fn what_others_have_used_is_in_the_handle_s_reading_and_comes_back() {
    let provider = Provider::new([('a', Account::new(600, 1.0))]);
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let layer = RateLimitLayer::new(quota.build().expect("valid")).protocol(Shown::new());
    let (service, handle) = (layer.layer(provider.service()), layer.handle());
    service
        .clone()
        .oneshot(Request::new(()))
        .await
        .expect("served");
    // Of the first answer nothing is known but that 599 were left, of our own call or another's.
    assert_eq!(handle.available(Unit::REQUESTS), Some(599));
    provider.change('a', |account| account.left = 100.0);
    service
        .clone()
        .oneshot(Request::new(()))
        .await
        .expect("served");
    // 15 had come in since the first, and as many came while the answer did.
    let left = handle.available(Unit::REQUESTS);
    assert!(matches!(left, Some(129..=130)), "{left:?}");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(
        handle.available(Unit::REQUESTS),
        left.map(|left| left + 100)
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_as_soon_as_an_answer_shows_more() {
    // The start holds two calls back for a second and a half; the answer comes before.
    let mut provider = Provider::new([('a', Account::new(600, 1.0))]);
    provider.latency = 200 * MS;
    for is_pool in [false, true] {
        let start = Instant::now();
        let calls = |n: usize| (0..n).map(|_| Request::new(()));
        let pool = KeyPool::accounts(Quota::learned(), keys(&["a"])).expect("valid");
        let limit = RateLimitLayer::new(Quota::learned()).protocol(Shown::new());
        if is_pool {
            let service = rotation(pool).layer(provider.service());
            let calls = calls(12).map(|call| service.clone().oneshot(call));
            futures::future::try_join_all(calls).await.expect("served");
        } else {
            let service = limit.layer(provider.service());
            let calls = calls(12).map(|call| service.clone().oneshot(call));
            futures::future::try_join_all(calls).await.expect("served");
        }
        assert_eq!(start.elapsed().as_millis() / 10, 40, "pool: {is_pool}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keyed_limit_hears_for_the_key_that_called() {
    let provider = Provider::new([('a', Account::new(600, 1.0))]);
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let layer = KeyedRateLimitLayer::new(quota.build().expect("valid"), |call: &Call| {
        call.uri().path().to_owned()
    });
    let layer = layer.protocol(Shown::new());
    let (service, handle) = (layer.layer(provider.service()), layer.handle());
    provider.change('a', |account| account.left = 100.0);
    let call = |path: &str| Request::get(path).body(()).expect("valid");
    service.clone().oneshot(call("/one")).await.expect("served");
    let available = |key: &str| {
        let limiter = handle.get(&key.to_owned());
        limiter.and_then(|limiter| limiter.available(Unit::REQUESTS))
    };
    assert!(available("/one") <= Some(115));
    service.clone().oneshot(call("/two")).await.expect("served");
    assert!(available("/two").is_some());
}

#[tokio::test(start_paused = true)]
async fn half_of_a_pool_s_account_used_by_somebody_else_is_left_to_them() {
    let provider = Provider::new([('a', Account::new(600, 1.0))]);
    let pool = KeyPool::accounts(
        Quota::builder()
            .requests_per_minute(600)
            .build()
            .expect("valid"),
        keys(&["a"]),
    );
    let crowd = crowd(
        &rotation(pool.expect("valid")).layer(provider.service()),
        100,
    );
    let other = provider.clone();
    let others = tokio::spawn(async move {
        loop {
            tokio::time::sleep(200 * MS).await;
            other.change('a', |account| drop(account.answer()));
        }
    });
    tokio::time::sleep(2 * MINUTE).await;
    let before = provider.of('a');
    tokio::time::sleep(5 * MINUTE).await;
    // The others are served like us.
    let (used, refused) = provider.since('a', &before, 5 * MINUTE);
    assert!(used >= 0.97, "{used} used");
    assert!(refused <= 0.001, "{refused} refused");
    others.abort();
    drop(crowd);
}
