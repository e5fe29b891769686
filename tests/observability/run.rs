//! A run in which everything happens that the layers tell of.

use std::{num::NonZeroUsize, time::Duration};

use futures::future::join_all;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    error::BoxError,
    key_rotation::KeyRotationLayer,
    metrics::waits,
    outcome::{Outcome, Verdict},
    policy::{
        Quota,
        breaker::Mode,
        limit::{Aimd, Bounds, Fixed},
    },
    rate_limit::RateLimitLayer,
    testing::{Reply, Scripted},
};

use super::calls::{Stack, labels, pool};

/// In every secret, and part of nothing else.
pub(crate) const MARK: &str = "Zq7Xw9";

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn everything() {
    queues().await;
    limits().await;
    stack().await;
}

fn one() -> Fixed {
    Fixed::new(NonZeroUsize::MIN)
}

/// One call at a time, one that waits, and one that is refused.
async fn queues() {
    let server = || Scripted::new(|n: &u32| Reply::after(Duration::from_millis(100), *n));
    let quota = Quota::builder().max_in_flight(1).build();
    let rate = RateLimitLayer::new(quota.expect("a valid quota"))
        .max_waiting(1)
        .on_wait(waits("rate limit", &labels()));
    crowd(rate.layer(server())).await;
    let keys = KeyRotationLayer::new(pool())
        .concurrency(one())
        .max_waiting(1)
        .on_wait(waits("key rotation", &labels()));
    crowd(keys.layer(server())).await;
    let places = AdaptiveConcurrencyLayer::new(one())
        .max_waiting(1)
        .on_wait(waits("adaptive concurrency", &labels()));
    crowd(places.layer(server())).await;
}

async fn crowd<S>(service: S)
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    let calls = (0..3).map(|n| service.clone().oneshot(n));
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
}

/// A limit that learns from a refusal.
async fn limits() {
    let bounds = Bounds::new(1..=100).expect("valid").starting_at(4);
    let learning = Aimd::new(bounds.expect("valid"));
    let refused = |_: Result<&u32, &BoxError>| Outcome::new(Verdict::Throttled);
    let server = || Scripted::new(|n: &u32| Reply::now(*n));
    let places = AdaptiveConcurrencyLayer::new(learning.clone()).classify(refused);
    let keys = KeyRotationLayer::new(pool())
        .concurrency(learning)
        .classify(refused);
    let (places, keys) = (places.layer(server()), keys.layer(server()));
    for _ in 0..4 {
        let _ = places.clone().oneshot(1).await;
        let _ = keys.clone().oneshot(1).await;
        tokio::time::sleep(2 * MINUTE).await;
    }
}

async fn stack() {
    let stack = Stack::new();
    assert!(stack.call("well").await);
    for n in 0..100 {
        assert!(stack.ask("well", &format!("invented-{n}")).await);
    }
    assert!(!stack.call("break").await, "an answer breaks off");
    assert!(!stack.ask("deny", "named-1").await);
    assert!(!stack.call("throttle").await, "a scope rests");
    tokio::time::sleep(2 * MINUTE).await;
    assert!(!stack.call("reject").await, "a key is out");
    for alias in ["a1", "b1"] {
        stack.keys.enable(alias).expect("it is there");
    }
    // Two attempts each: the breaker opens, refuses, and finds out.
    for _ in 0..3 {
        assert!(!stack.call("fail").await);
    }
    stack.publish();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(stack.call("well").await);
    stack.breaker.set_mode(Mode::ForcedClosed);
    stack.publish();
}
