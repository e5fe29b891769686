//! The contract: every layer runs through the same checks, each of which stands once.
//!
//! Three kinds of subjects: a layer in front of a healthy server (`passing`), one that lets a
//! call pass each 100 ms and has the others wait (`waiting`), and one that lets a single call
//! pass until 100 ms later and refuses the others (`refusing`). The server takes 100 ms.
#![cfg(all(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "circuit-breaker",
    feature = "adaptive-concurrency",
    feature = "retry",
    feature = "http",
    feature = "test-util"
))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod allocations;
mod in_flight;
mod passing;
mod refusing;
#[path = "../support/mod.rs"]
mod support;
mod types;
mod waiting;

use tower::Service;
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    circuit_breaker::CircuitBreakerLayer,
    error::BoxError,
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    policy::Quota,
    rate_limit::RateLimitLayer,
    testing::{Reply, Scripted},
};

type Server = Scripted<fn(&u32) -> Reply<u32>>;

const BREAK: u32 = 1_000;
const PANIC: u32 = 1_001;

/// Answers with what it is asked after 100 ms, or does what it is asked at once.
fn server() -> Server {
    Scripted::new(|n| match *n {
        BREAK => Reply::fail("connection reset"),
        PANIC => Reply::panic(),
        n => Reply::after(support::ms(100), n),
    })
}

/// What every layer makes of such a server.
trait Relay:
    Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Relay for S where
    S: Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

/// A layer whose handle tells how much its calls hold.
trait Holds: Clone {
    fn held(&self) -> usize;
}

macro_rules! holds {
    ($($layer:ty: $count:ident),+) => {$(
        impl Holds for $layer {
            fn held(&self) -> usize {
                self.handle().snapshot().$count().try_into().expect("a few")
            }
        }
    )+};
}

holds!(
    RateLimitLayer: active,
    KeyRotationLayer: active,
    AdaptiveConcurrencyLayer: active,
    CircuitBreakerLayer: probes
);

/// Runs checks of a module with a subject of each layer.
macro_rules! claims {
    ($checks:ident: $claims:tt $($layer:ident: $subject:expr;)+) => {
        $($crate::claims!(@ $checks $layer $subject, $claims);)+
    };
    (@ $checks:ident $layer:ident $subject:expr, [$($claim:ident)+]) => {
        mod $layer {
            use super::*;

            $(#[tokio::test(start_paused = true)]
            async fn $claim() {
                $checks::$claim(async || $subject).await;
            })+
        }
    };
}
use claims;

fn ten_per_second() -> Quota {
    let quota = Quota::builder().requests_per_second(10);
    quota.build().expect("it is valid")
}

/// A scope of one key.
fn one_key(quota: Quota) -> KeyPool {
    let scope = Scope::new("a")
        .key("a1", Source::value("hush"))
        .quota(quota);
    KeyPool::builder()
        .scope(scope)
        .build()
        .expect("it is valid")
}
