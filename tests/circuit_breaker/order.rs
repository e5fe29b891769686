//! Inside what waits: who reaches a server that is down, and what a refusal costs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    outcome::Outcome,
    policy::{
        Cost, Quota, QuotaBuilder, Unit,
        breaker::{Mode, Refused},
        limit::Fixed,
        pool::KeyState,
    },
    rate_limit::RateLimitLayer,
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

fn built(builder: QuotaBuilder) -> Quota {
    builder.build().expect("the test's quota is valid")
}

fn pool(quota: Quota) -> KeyPool {
    let scope = Scope::new("org").key("a", Source::value("hush"));
    let builder = KeyPool::builder().scope(scope.quota(quota));
    builder.build().expect("the test's pool is valid")
}

/// A server that can be switched off.
fn mortal() -> (
    Scripted<impl Fn(&u32) -> Reply<Outcome> + Clone + Send + Sync + 'static>,
    Arc<AtomicBool>,
) {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let server = Scripted::new(move |_: &u32| match is_down.load(SeqCst) {
        true => Reply::fail("connection refused"),
        false => Reply::after(ms(10), Outcome::SUCCESS),
    });
    (server, down)
}

/// Queues a hundred calls at ten per second over a server that dies after a second, and says how
/// many were served, were refused, and failed.
async fn die<S>(service: S, down: Arc<AtomicBool>) -> [usize; 3]
where
    S: Service<u32, Response = Outcome, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let calls: Vec<_> = (0..100)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    tokio::time::sleep(ms(1_050)).await;
    down.store(true, SeqCst);
    let [mut served, mut refused, mut failed] = [0; 3];
    for call in calls {
        match within(call).await.expect("no panic") {
            Ok(_) => served += 1,
            Err(error) if Rejected::find(&*error).is_some() => refused += 1,
            Err(_) => failed += 1,
        }
    }
    [served, refused, failed]
}

#[tokio::test(start_paused = true)]
async fn callers_queued_in_a_rate_limit_when_the_endpoint_dies_do_not_reach_it() {
    let (server, down) = mortal();
    let breaker = layer(plain());
    let quota = built(Quota::builder().requests_per_second(10).max_in_flight(3));
    let limit = RateLimitLayer::new(quota).protocol(Api);
    let service = limit.layer(breaker.layer(ReadinessProbe::new(server.clone())));
    assert_eq!(die(service, down).await, [11, 84, 5]);
    assert_eq!(server.sent_after().len(), 16, "five calls reached it dead");
    assert_eq!(breaker.handle().refused(), 84);
    let snapshot = limit.handle().snapshot();
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn callers_queued_for_a_key_when_the_endpoint_dies_do_not_reach_it() {
    let (server, down) = mortal();
    let breaker = layer(plain());
    let quota = built(Quota::builder().requests_per_second(10));
    let keys = KeyRotationLayer::new(pool(quota)).protocol(Api);
    let service = keys.layer(breaker.layer(ReadinessProbe::new(server.clone())));
    assert_eq!(die(service, down).await, [11, 84, 5]);
    assert_eq!(server.sent_after().len(), 16, "five calls reached it dead");
    let handle = keys.handle();
    assert_eq!(
        (handle.snapshot().active(), handle.snapshot().waiting()),
        (0, 0)
    );
    assert_eq!(handle.scopes()[0].keys()[0].state(), KeyState::Usable);
}

#[tokio::test(start_paused = true)]
async fn callers_queued_for_a_slot_when_the_endpoint_dies_do_not_reach_it() {
    let (server, down) = mortal();
    let breaker = layer(plain());
    // Ten milliseconds each, one at a time: 100 calls would take a second.
    let quota = built(
        Quota::builder()
            .requests_per_second(10)
            .burst(Unit::REQUESTS, 1_000),
    );
    let keys = KeyRotationLayer::new(pool(quota))
        .protocol(Api)
        .concurrency(Fixed::of(1));
    let service = keys.layer(breaker.layer(server.clone()));
    let calls: Vec<_> = (0..100)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    tokio::time::sleep(ms(505)).await;
    let before = server.sent_after().len();
    down.store(true, SeqCst);
    for call in calls {
        drop(within(call).await.expect("no panic"));
    }
    assert_eq!(server.sent_after().len() - before, 5);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_refunds_everything_a_rate_limit_took() {
    let breaker = layer(plain());
    let quota = Quota::builder()
        .requests_per_minute(60)
        .burst(Unit::REQUESTS, 10)
        .input_tokens_per_minute(60)
        .burst(Unit::INPUT_TOKENS, 100)
        .max_in_flight(1);
    let limit = RateLimitLayer::new(built(quota))
        .protocol(Api)
        .cost(|_: &Ask| Cost::REQUEST.input_tokens(70));
    let service = limit.layer(breaker.layer(server()));
    breaker.handle().set_mode(Mode::ForcedOpen);
    for _ in 0..50 {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::Forced
        );
    }
    let handle = limit.handle();
    assert_eq!(handle.available(Unit::REQUESTS), Some(10));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(100));
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.active(), snapshot.completed()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_refunds_everything_a_pool_took_and_blames_no_key() {
    let breaker = layer(plain());
    let quota = Quota::builder()
        .requests_per_minute(60)
        .burst(Unit::REQUESTS, 10);
    let keys = KeyRotationLayer::new(pool(built(quota.clone())))
        .rate_limit(built(quota))
        .concurrency(Fixed::of(1))
        .protocol(Api);
    let service = keys.layer(breaker.layer(server()));
    breaker.handle().set_mode(Mode::ForcedOpen);
    for _ in 0..50 {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::Forced
        );
    }
    let scopes = keys.handle().scopes();
    assert_eq!(scopes[0].classes()[0].remaining()[0].1, 10);
    assert_eq!(scopes[0].keys()[0].state(), KeyState::Usable);
    assert_eq!(keys.handle().snapshot().active(), 0);
    breaker.handle().set_mode(Mode::Normal);
    for _ in 0..10 {
        let call = futures::FutureExt::now_or_never(service.clone().oneshot(Ask::Good));
        assert!(call.expect("nothing was spent").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn with_its_gate_outside_the_queue_callers_fail_at_once() {
    let breaker = layer(plain());
    let limit = RateLimitLayer::per_second(1).protocol(Api);
    let inner = limit.layer(breaker.layer(server()));
    let service = breaker.gate().layer(inner);
    drop(service.clone().oneshot(Ask::Good).await);
    breaker.handle().set_mode(Mode::ForcedOpen);
    let start = tokio::time::Instant::now();
    assert_eq!(refusal(service.oneshot(Ask::Good).await).0, Refused::Forced);
    assert_eq!(start.elapsed(), ms(0));
}
