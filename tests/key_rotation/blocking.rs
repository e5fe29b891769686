//! Who can only use what is closed holds up nobody who can use something else.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};
use tower::{Layer, Service};
use tower_relay::{
    error::BoxError,
    key_rotation::KeyRotationLayer,
    outcome::Verdict,
    policy::{Cost, Quota, Unit},
    testing::Reply,
};

use crate::support::*;

const RESTS: Duration = Duration::from_secs(60);

/// The provider: `a1` is throttled for `large` by the first call of it, and `b1` may not use it.
fn script(latency: Duration) -> impl Fn(&Ask) -> Reply<Answer> + Clone + Send + Sync {
    move |ask| match (&*ask.alias(), ask.model_name(), ask.id) {
        ("a1", "large", 0) => hinted(ask, Verdict::Throttled, RESTS),
        ("b1", "large", _) => say(ask, Verdict::ModelDenied),
        _ => slowly(latency, ask),
    }
}

fn orgs() -> tower_relay::key_rotation::KeyPool {
    let org = |name, alias| {
        scope(name, &[alias])
            .quota(plenty())
            .quota_for(["large"], plenty())
    };
    pool([org("a", "a1"), org("b", "b1")])
}

type Waits = Vec<JoinHandle<Result<Answer, BoxError>>>;

/// `callers` of `large` wait for `a` to end its rest.
async fn blocked<S>(service: &S, callers: u64) -> Waits
where
    S: Service<Ask, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    for _ in 0..2 {
        within(once(service, Ask::of("large")))
            .await
            .expect("answered");
    }
    let calls = (1..=callers).map(|id| {
        let mut service = service.clone();
        tokio::spawn(service.call(Ask::numbered(id).model("large")))
    });
    let calls = calls.collect();
    settle().await;
    calls
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_resting_class_and_a_denied_model_blocks_nobody_who_can_use_others() {
    let (server, log) = server(script(Duration::ZERO));
    let pool = layer(orgs());
    let service = pool.layer(server);
    let waits = blocked(&service, 20).await;
    assert_eq!(pool.handle().snapshot().waiting(), 20);
    let start = Instant::now();
    for id in 100..120 {
        let ask = Ask::numbered(id).model("small");
        within(once(&service, ask)).await.expect("answered");
    }
    assert_eq!(since(start), 0);
    assert_eq!(pool.handle().snapshot().waiting(), 20);
    for call in waits {
        within(call).await.expect("no panic").expect("answered");
    }
    // In order among themselves, none before its time.
    assert_eq!(log.ids()[22..], (1..=20).collect::<Vec<_>>());
    assert!(log.times()[22..].iter().all(|at| *at >= RESTS));
    assert_idle(&pool.handle());
}

fn joint(limit: usize) -> KeyRotationLayer<Api> {
    layer(orgs())
        .rate_limit(per_second(1))
        .concurrency(Fixed::of(limit))
}

#[tokio::test(start_paused = true)]
async fn nor_under_a_joint_rate_and_concurrency_that_is_itself_exhausted_at_times() {
    // The latency holds the only place longer than the rate needs.
    let (server, log) = server(script(3 * SECOND));
    let pool = joint(1);
    let service = pool.layer(server);
    let waits = blocked(&service, 20).await;
    let small: Waits = (100..110)
        .map(|id| {
            let mut service = service.clone();
            tokio::spawn(service.call(Ask::numbered(id).model("small")))
        })
        .collect();
    let from = log.calls();
    for call in small {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_eq!(log.ids()[from..], (100..110).collect::<Vec<_>>());
    let times = &log.times()[from..];
    for pair in times.windows(2) {
        assert_eq!(whole(pair[1] - pair[0]), 3_000, "{times:?}");
    }
    assert!(times[0] <= 2 * SECOND, "{times:?}");
    for call in waits {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_eq!(log.ids()[from + 10..], (1..=20).collect::<Vec<_>>());
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_not_refused_for_callers_who_wait_for_something_else() {
    let (server, _) = server(script(Duration::ZERO));
    let pool = joint(10);
    let service = pool.layer(server);
    let _waits = blocked(&service, 100).await;
    tokio::time::sleep(2 * SECOND).await;
    // The global bucket has a token now that no waiter can use before a minute has passed.
    let start = Instant::now();
    let ask = Ask::numbered(200).model("small").within(5 * SECOND);
    within(once(&service, ask)).await.expect("served at once");
    assert_eq!(since(start), 0);
}

#[tokio::test(start_paused = true)]
async fn nor_one_who_has_to_wait_a_moment() {
    let (server, _) = server(script(Duration::ZERO));
    let pool = joint(10);
    let service = pool.layer(server);
    let _waits = blocked(&service, 100).await;
    tokio::time::sleep(2 * SECOND).await;
    let start = Instant::now();
    for id in 200..203 {
        let ask = Ask::numbered(id).model("small").within(5 * SECOND);
        within(once(&service, ask)).await.expect("served in time");
    }
    assert_eq!(since(start), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_callers_for_a_resting_scope_refuses_nobody_who_can_be_served_at_once() {
    let (server, _) = server(script(Duration::ZERO));
    let pool = layer(orgs()).max_waiting(2);
    let service = pool.layer(server);
    let waits = blocked(&service, 2).await;
    assert_eq!(pool.handle().snapshot().waiting(), 2);
    let start = Instant::now();
    within(once(&service, Ask::of("small")))
        .await
        .expect("served at once");
    assert_eq!(since(start), 0);
    // Who has to wait is still refused, with the time of the rest.
    let error = within(once(&service, Ask::numbered(9).model("large"))).await;
    let error = error.expect_err("two wait already");
    let wait = rejected(&error).retry_after().expect("it says when");
    assert!((59 * SECOND..=67 * SECOND).contains(&wait), "{wait:?}");
    assert_eq!(pool.handle().snapshot().refused(), 1);
    drop(waits);
}

#[tokio::test(start_paused = true)]
async fn a_large_call_that_one_scope_alone_can_hold_blocks_no_small_one() {
    let quota = |burst: u64| {
        let quota = Quota::builder().input_tokens_per_minute(600);
        built(quota.burst(Unit::INPUT_TOKENS, burst))
    };
    let small = scope("a", &["a1"]).quota(quota(50));
    let large = scope("b", &["b1"]).quota(quota(500));
    let (server, log) = server(ok);
    let pool = layer(pool([small, large]));
    let service = pool.layer(server);
    let tokens = |n: u64| Cost::ZERO.input_tokens(n);
    let first = Ask::numbered(0).costing(tokens(500));
    within(once(&service, first)).await.expect("answered");
    let waits = tokio::spawn(once_owned(
        service.clone(),
        Ask::numbered(1).costing(tokens(400)),
    ));
    settle().await;
    let start = Instant::now();
    let ask = Ask::numbered(2).costing(tokens(50));
    within(once(&service, ask)).await.expect("answered");
    assert_eq!(since(start), 0);
    within(waits).await.expect("no panic").expect("answered");
    // 400 tokens at 10 a second, whoever came later.
    assert_eq!(log.whole(), [0, 0, 40_000]);
    assert_eq!(log.ids(), [0, 2, 1]);
    assert_eq!(log.keys(), ["b1", "a1", "b1"]);
}

async fn once_owned<S: Service<Ask> + Clone>(
    service: S,
    ask: Ask,
) -> Result<S::Response, S::Error> {
    once(&service, ask).await
}

#[tokio::test(start_paused = true)]
async fn three_hundred_names_of_models_go_through_one_pool_in_order() {
    let (server, log) = server(ok);
    let quota = per_second(1_000);
    let pool = layer(accounts(1, &quota));
    let service = pool.layer(server);
    let start = Instant::now();
    let calls: Waits = (0..300)
        .map(|id| {
            let mut service = service.clone();
            tokio::spawn(service.call(Ask::numbered(id).model(&format!("m{id}"))))
        })
        .collect();
    for call in calls {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_eq!(log.ids(), (0..300).collect::<Vec<_>>());
    assert_eq!(since(start), 299);
    assert_idle(&pool.handle());
}
