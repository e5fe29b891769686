//! Everything is `Send`, `Sync` and `Debug`, and `Clone` where its parts are.

use std::fmt::Debug;

use bytes::Bytes;
use http_body_util::Full;
use tower::Service;
use tower_relay::{
    adaptive_concurrency::{
        self, AdaptiveConcurrency, AdaptiveConcurrencyHandle, AdaptiveConcurrencyLayer,
    },
    circuit_breaker::{
        self, CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, Gate, GateLayer,
        KeyedCircuitBreaker, KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer,
    },
    http::{Http, ResponseBody},
    key_rotation::{
        self, Key, KeyPool, KeyRotation, KeyRotationHandle, KeyRotationLayer, Scope, Source,
    },
    protocol::Plain,
    rate_limit::{
        self, KeyedRateLimit, KeyedRateLimitHandle, KeyedRateLimitLayer, RateLimit,
        RateLimitHandle, RateLimitLayer,
    },
    retry::{Retry, RetryHandle, RetryLayer},
    testing::{Reply, Scripted},
};

struct NotClone;
type Server = Scripted<fn(&NotClone) -> Reply<NotClone>>;
type OfKey = fn(&NotClone) -> u32;
type Body<Permit> = ResponseBody<Full<Bytes>, Permit, Http>;

fn cloned<T: Clone + Debug + Send + Sync + 'static>() {}

fn shared<T: Send + Sync + 'static>() {}

/// A service over one whose requests and responses are not `Clone`.
fn served<S: Service<NotClone, Future: Send + Sync> + Clone + Debug + Send + Sync + 'static>() {}

#[test]
fn of_the_rate_limit() {
    cloned::<RateLimitLayer>();
    cloned::<RateLimitHandle>();
    cloned::<KeyedRateLimitLayer<u32, OfKey>>();
    cloned::<KeyedRateLimitHandle<u32>>();
    served::<RateLimit<Server, Plain>>();
    served::<KeyedRateLimit<Server, u32, OfKey, Plain>>();
    shared::<rate_limit::Permit>();
    shared::<Body<rate_limit::Permit>>();
}

#[test]
fn of_key_rotation() {
    cloned::<KeyPool>();
    cloned::<Key>();
    cloned::<Scope>();
    cloned::<Source>();
    cloned::<KeyRotationLayer>();
    cloned::<KeyRotationHandle>();
    served::<KeyRotation<Server, Plain>>();
    shared::<key_rotation::Permit>();
    shared::<Body<key_rotation::Permit>>();
}

#[test]
fn of_the_learned_limit() {
    cloned::<AdaptiveConcurrencyLayer>();
    cloned::<AdaptiveConcurrencyHandle>();
    served::<AdaptiveConcurrency<Server, Plain>>();
    shared::<adaptive_concurrency::Permit>();
    shared::<Body<adaptive_concurrency::Permit>>();
}

#[cfg(any(feature = "tracing", feature = "metrics"))]
#[test]
fn of_the_observer() {
    use tower_relay::observe::{Observe, ObserveLayer, Watch};

    cloned::<ObserveLayer>();
    served::<Observe<Server, Plain>>();
    shared::<Watch>();
    shared::<Body<Watch>>();
}

#[test]
fn of_the_circuit_breaker() {
    cloned::<CircuitBreakerLayer>();
    cloned::<CircuitBreakerHandle>();
    cloned::<GateLayer>();
    cloned::<KeyedCircuitBreakerLayer<u32, OfKey>>();
    cloned::<KeyedCircuitBreakerHandle<u32>>();
    served::<CircuitBreaker<Server, Plain>>();
    served::<Gate<Server>>();
    served::<KeyedCircuitBreaker<Server, u32, OfKey, Plain>>();
    shared::<circuit_breaker::Permit>();
    shared::<Body<circuit_breaker::Permit>>();
}

#[test]
fn of_retry() {
    type Echo = Scripted<fn(&u32) -> Reply<u32>>;
    type Retried = Retry<Echo, Plain>;
    cloned::<RetryLayer>();
    cloned::<RetryHandle>();
    cloned::<Retried>();
    shared::<<Retried as Service<u32>>::Future>();
}
