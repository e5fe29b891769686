use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    CircuitBreakerHandle, Permit, ResponseFuture,
    handle::{Settings, Shared},
};
use crate::{
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::breaker::{BreakerConfig, Transition},
    protocol::{ClassifyFn, Plain, Protocol},
};

/// As many hosts or models as a program calls, and with 250 bytes each no burden.
const MAX_KEYS: usize = 10_000;
/// How many breakers are looked at for one that can be forgotten, when a new key comes.
const LOOKS: usize = 32;

/// A breaker for each host, model or whatever `F` reads from a request, in a bounded map.
///
/// A breaker is made when its key is first seen. When as many are held as may be, one that is
/// closed and has counted nothing for as long as its window makes room; if none of those looked
/// at is, the new key's calls pass unwatched until there is. A window of calls, however old they
/// are, never empties, so there only those that were never counted make room: use one of time.
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_relay::{
///     circuit_breaker::KeyedCircuitBreakerLayer,
///     error::{BoxError, Rejected},
///     policy::breaker::{BreakerConfig, State},
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), |host: &&str| *host);
/// let handle = layer.handle();
/// let service = ServiceBuilder::new().layer(layer).service(service_fn(async |host: &str| {
///     if host == "down" { Err(BoxError::from("connection refused")) } else { Ok(()) }
/// }));
///
/// for _ in 0..5 {
///     assert!(service.clone().oneshot("down").await.is_err());
/// }
/// let error = service.clone().oneshot("down").await.unwrap_err();
/// assert!(matches!(Rejected::find(&*error), Some(Rejected::BreakerOpen(_))));
/// assert!(service.clone().oneshot("up").await.is_ok());
/// assert_eq!(handle.get(&"down").unwrap().snapshot().state(), State::Open);
/// # }
/// ```
pub struct KeyedCircuitBreakerLayer<K, F, P = Plain> {
    registry: Arc<Registry<K>>,
    key: F,
    protocol: P,
}

struct Registry<K> {
    settings: Arc<Settings>,
    max_keys: usize,
    breakers: Mutex<Breakers<K>>,
}

struct Breakers<K> {
    by_key: HashMap<K, Arc<Shared>>,
    /// The same keys in a circle, and where the next look begins.
    keys: Vec<K>,
    hand: usize,
}

impl<K> Registry<K> {
    fn new(settings: Arc<Settings>, max_keys: usize) -> Self {
        Self {
            settings,
            max_keys,
            breakers: Mutex::new(Breakers {
                by_key: HashMap::new(),
                keys: Vec::new(),
                hand: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breakers<K>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Registry<K> {
    fn breaker(&self, key: K) -> Arc<Shared> {
        let mut breakers = self.lock();
        if let Some(breaker) = breakers.by_key.get(&key) {
            return Arc::clone(breaker);
        }
        let breaker = Arc::new(Shared::new(Arc::clone(&self.settings)));
        if breakers.keys.len() >= self.max_keys && !breakers.forget_one() {
            breaker.stop_watching();
            return breaker;
        }
        breakers.keys.push(key.clone());
        breakers.by_key.insert(key, Arc::clone(&breaker));
        breaker
    }
}

impl<K: Hash + Eq> Breakers<K> {
    /// Forgets a breaker that nobody uses and that is as good as new.
    fn forget_one(&mut self) -> bool {
        for _ in 0..LOOKS.min(self.keys.len()) {
            self.hand = (self.hand + 1) % self.keys.len();
            let key = &self.keys[self.hand];
            let breaker = &self.by_key[key];
            if Arc::strong_count(breaker) == 1 && breaker.is_pristine() {
                self.by_key.remove(key);
                self.keys.swap_remove(self.hand);
                return true;
            }
        }
        false
    }
}

impl<K, F> KeyedCircuitBreakerLayer<K, F> {
    /// A breaker with this configuration for each key that `key` reads from requests.
    #[must_use]
    pub fn new<Req>(config: BreakerConfig, key: F) -> Self
    where
        F: Fn(&Req) -> K,
    {
        let settings = Arc::new(Settings {
            config,
            on_transition: None,
        });
        Self {
            registry: Arc::new(Registry::new(settings, MAX_KEYS)),
            key,
            protocol: Plain,
        }
    }
}

impl<K, F, P> KeyedCircuitBreakerLayer<K, F, P> {
    /// How many breakers are held; at least one. Default: 10,000.
    #[must_use]
    pub fn max_keys(mut self, keys: usize) -> Self {
        let settings = Arc::clone(&self.registry.settings);
        self.registry = Arc::new(Registry::new(settings, keys.max(1)));
        self
    }

    /// Calls `callback` when one of the breakers changes its state; see
    /// [`CircuitBreakerLayer::on_transition`](super::CircuitBreakerLayer::on_transition).
    #[must_use]
    pub fn on_transition(mut self, callback: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        let settings = Arc::new(Settings {
            config: self.registry.settings.config.clone(),
            on_transition: Some(Arc::new(callback)),
        });
        self.registry = Arc::new(Registry::new(settings, self.registry.max_keys));
        self
    }

    /// Takes another strategy. The breakers stay the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> KeyedCircuitBreakerLayer<K, F, Q> {
        self.map_protocol(|_| protocol)
    }

    /// For calls that carry their facts, inside a [`FactsLayer`](crate::call::FactsLayer).
    #[must_use]
    pub fn noted(self) -> KeyedCircuitBreakerLayer<K, F, Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, C: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: C,
    ) -> KeyedCircuitBreakerLayer<K, F, ClassifyFn<P, C>> {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A handle to the breakers as they are set now: a later setting makes new ones.
    #[must_use]
    pub fn handle(&self) -> KeyedCircuitBreakerHandle<K> {
        KeyedCircuitBreakerHandle {
            registry: Arc::clone(&self.registry),
        }
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> KeyedCircuitBreakerLayer<K, F, Q> {
        KeyedCircuitBreakerLayer {
            registry: self.registry,
            key: self.key,
            protocol: map(self.protocol),
        }
    }
}

impl<K, F: Clone, P: Clone> Clone for KeyedCircuitBreakerLayer<K, F, P> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            key: self.key.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<S, K, F: Clone, P: Clone> Layer<S> for KeyedCircuitBreakerLayer<K, F, P> {
    type Service = KeyedCircuitBreaker<S, K, F, P>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreaker {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`KeyedCircuitBreakerLayer`] builds. It is ready when the inner service is:
/// which breaker will be asked is not known before the call.
///
/// # Errors
///
/// [`Rejected::BreakerOpen`](crate::error::Rejected::BreakerOpen) if the key's breaker refuses;
/// otherwise the inner service's own.
pub struct KeyedCircuitBreaker<S, K, F, P> {
    inner: S,
    layer: KeyedCircuitBreakerLayer<K, F, P>,
}

impl<S: Clone, K, F: Clone, P: Clone> Clone for KeyedCircuitBreaker<S, K, F, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, K, F, P, Req> Service<Req> for KeyedCircuitBreaker<S, K, F, P>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<Permit>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedCircuitBreakerLayer {
            registry,
            key,
            protocol,
        } = &self.layer;
        let breaker = registry.breaker(key(&request));
        match breaker.ask() {
            Ok(pass) => ResponseFuture::called(self.inner.call(request), pass, protocol.clone()),
            Err(rejected) => ResponseFuture::refused(rejected, protocol.clone()),
        }
    }
}

/// Reads and changes the breakers of a [`KeyedCircuitBreakerLayer`].
pub struct KeyedCircuitBreakerHandle<K> {
    registry: Arc<Registry<K>>,
}

impl<K: Hash + Eq> KeyedCircuitBreakerHandle<K> {
    /// How many breakers are held.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.registry.lock().keys.len()
    }

    /// A handle to one key's breaker, if it is held. As long as the handle lives the breaker is
    /// not forgotten.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<CircuitBreakerHandle> {
        let breakers = self.registry.lock();
        let shared = breakers.by_key.get(key)?;
        Some(CircuitBreakerHandle {
            shared: Arc::clone(shared),
        })
    }
}

impl<K> Clone for KeyedCircuitBreakerHandle<K> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
        }
    }
}

impl<K> fmt::Debug for Registry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("keys", &self.lock().keys.len())
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for KeyedCircuitBreakerHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedCircuitBreakerHandle")
            .field(&self.registry)
            .finish()
    }
}

impl<K, F, P> fmt::Debug for KeyedCircuitBreakerLayer<K, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedCircuitBreakerLayer")
            .field(&self.registry)
            .finish()
    }
}

impl<S: fmt::Debug, K, F, P> fmt::Debug for KeyedCircuitBreaker<S, K, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}
