//! What stands innermost is asked at the instant of sending, and what is sent is charged then.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    outcome::Verdict,
    policy::{Quota, Unit},
    rate_limit::RateLimitLayer,
    testing::Reply,
};

use crate::support::*;

/// Stands in for a breaker: ready without asking inside, and refuses in `call` while open.
#[derive(Clone)]
struct Gate<S> {
    inner: S,
    is_open: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    refusal: Rejected,
}

impl<S> Gate<S> {
    async fn new(inner: S) -> Self {
        // The only ones who can make a refusal are our layers.
        let limit = RateLimitLayer::per_second(1).max_waiting(0);
        let limit = limit.layer(tower::service_fn(async |()| Ok::<_, BoxError>(())));
        limit.clone().oneshot(()).await.expect("answered");
        let error = limit.oneshot(()).await.expect_err("refused");
        Self {
            inner,
            is_open: Arc::default(),
            refused: Arc::default(),
            refusal: rejected(&error).clone(),
        }
    }
}

impl<S: Service<Ask, Error = BoxError>> Service<Ask> for Gate<S> {
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<S::Future, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.is_open.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        if self.is_open.load(Relaxed) {
            self.refused.fetch_add(1, Relaxed);
            return Either::Right(ready(Err(self.refusal.clone().into())));
        }
        Either::Left(self.inner.call(ask))
    }
}

#[tokio::test(start_paused = true)]
async fn callers_queued_when_an_endpoint_dies_do_not_reach_it_and_cost_nothing() {
    let quota = built(
        Quota::builder()
            .requests_per_minute(60)
            .burst(Unit::REQUESTS, 3)
            .max_in_flight(2),
    );
    let (server, log) = server(ok);
    let gate = Gate::new(server).await;
    let pool = layer(pool([scope("a", &["a1"]).quota(quota)]));
    let pool = pool.rate_limit(per_second(10)).concurrency(Fixed::of(2));
    let handle = pool.handle();
    let service = pool.layer(gate.clone());
    let calls: Vec<_> = (0..30)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    // Three of the burst, then one a second.
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(log.calls(), 5);
    gate.is_open.store(true, Relaxed);
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        match within(call).await.expect("no panic") {
            Ok(_) => served += 1,
            Err(error) => {
                assert!(Rejected::find(&*error).is_some());
                refused += 1;
            }
        }
    }
    assert_eq!((served, refused), (5, 25));
    assert_eq!((log.calls(), gate.refused.load(Relaxed)), (5, 25));
    assert_idle(&handle);
    // All is back: the scope's burst, the bucket of all and the places.
    sleep(3 * SECOND).await;
    assert_eq!(remaining(&handle, 0), 3);
    assert_eq!(handle.available(Unit::REQUESTS), Some(1));
    within(once(&service, Ask::default()))
        .await
        .expect_err("open");
    assert_eq!(remaining(&handle, 0), 3);
    assert_eq!(handle.available(Unit::REQUESTS), Some(1));
    let totals = *handle.scopes()[0].totals();
    assert_eq!(
        (
            totals.get(Verdict::Success),
            totals.get(Verdict::RefusedLocally)
        ),
        (5, 0)
    );
    assert_eq!(handle.snapshot().success_share(), Some(1.0));
    gate.is_open.store(false, Relaxed);
    within(once(&service, Ask::default()))
        .await
        .expect("closed again");
}

#[tokio::test(start_paused = true)]
async fn a_local_refusal_gives_a_probe_and_a_trial_back_undecided() {
    let (server, log) = server(|ask| match ask.id {
        0 => say(ask, Verdict::Exhausted),
        _ => ok(ask),
    });
    let gate = Gate::new(server).await;
    let pool = layer(accounts(1, &plenty()));
    let service = pool.layer(gate.clone());
    within(once(&service, Ask::numbered(0)))
        .await
        .expect("answered");
    sleep(33 * MINUTE).await;
    gate.is_open.store(true, Relaxed);
    within(once(&service, Ask::numbered(1)))
        .await
        .expect_err("open");
    gate.is_open.store(false, Relaxed);
    let start = Instant::now();
    within(once(&service, Ask::numbered(2)))
        .await
        .expect("the probe");
    assert_eq!((since(start), log.calls()), (0, 2));
    assert_eq!(
        pool.handle().scopes()[0].state(),
        tower_relay::policy::pool::ScopeState::Open
    );
}

/// What the provider itself allows, in exact arithmetic: `rate` a second up to `burst`.
struct Meter {
    millitokens: u64,
    at: Instant,
    rate: u64,
    burst: u64,
}

impl Meter {
    fn allows(&mut self) -> bool {
        let now = Instant::now();
        // Tokens per second are thousandths per millisecond.
        let gained = now.duration_since(self.at).as_micros() as u64 * self.rate / 1_000;
        self.millitokens = (self.millitokens + gained).min(self.burst * 1_000);
        self.at = now;
        let is_enough = self.millitokens >= 1_000;
        self.millitokens -= if is_enough { 1_000 } else { 0 };
        is_enough
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_do_not_age_while_calls_wait_for_a_place() {
    let (rate, burst) = (10, 10);
    let meter = Meter {
        millitokens: burst * 1_000,
        at: Instant::now(),
        rate,
        burst,
    };
    let meter = Arc::new(std::sync::Mutex::new(meter));
    let (server, log) = server(move |ask| {
        if !meter.lock().expect("no panic").allows() {
            return say(ask, Verdict::Throttled);
        }
        // Places are scarce for a while and then plenty, so that tokens are there when they come.
        let latency = if ask.id < 8 {
            5_000
        } else {
            20 + ask.id % 7 * 30
        };
        Reply::after(
            latency as u32 * MS,
            answer(ask, tower_relay::outcome::Outcome::SUCCESS),
        )
    });
    let quota = built(
        Quota::builder()
            .requests_per_second(rate)
            .burst(Unit::REQUESTS, burst),
    );
    let by_scope = layer(accounts(1, &quota)).concurrency(Fixed::of(4));
    let service = by_scope.layer(server);
    let calls: Vec<_> = (0..200)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    let mut refused = 0;
    for call in calls {
        let answer = within(call).await.expect("no panic").expect("answered");
        refused += usize::from(!answer.outcome.is_success());
    }
    assert_eq!(refused, 0);
    assert_eq!(log.calls(), 200);
    assert_idle(&by_scope.handle());
}
