use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    RateLimitHandle, ResponseFuture,
    handle::{Metered, Settings, forgettable_at, set_quota},
    service::enter,
};
use crate::{
    admit::{Admission, Entry},
    clock,
    error::{BoxError, Rejected, TooManyKeys},
    policy::{Cost, Quota, Timestamp},
    protocol::{CostFn, Plain, Protocol},
};

/// Some 10 MB of limiters at the most, unless somebody says more.
const MAX_KEYS: usize = 10_000;
/// How many of the longest unused limiters are looked at for one that can be forgotten.
const LOOKED_AT: usize = 64;

/// Limits the calls of a service to a [`Quota`] for each key: a caller, a tenant, a host.
///
/// Meant for inbound use as much as outbound: with [`max_waiting(0)`](Self::max_waiting) what
/// exceeds the quota is refused at once, and [`Rejected`] converts into a 429.
///
/// The limiters live in a bounded map. One that is as good as new, because nobody uses it and
/// all it has spent has drained, is forgotten when its place is needed. If there is none, a new
/// key is refused: forgetting a limiter in use would hand its caller a fresh quota.
///
/// ```
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_relay::{error::Rejected, policy::Quota, rate_limit::KeyedRateLimitLayer};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// let quota = Quota::builder().requests_per_minute(60).build()?;
/// let service = ServiceBuilder::new()
///     .layer(KeyedRateLimitLayer::new(quota, |tenant: &&'static str| *tenant).max_waiting(0))
///     .service(service_fn(async |_: &'static str| Ok::<_, Infallible>(())));
///
/// assert!(service.clone().oneshot("a").await.is_ok());
/// assert!(service.clone().oneshot("b").await.is_ok());
/// let error = service.clone().oneshot("a").await.unwrap_err();
/// let rejected = Rejected::find(&*error).expect("a limit refused");
/// assert_eq!(rejected.retry_after(), Some(std::time::Duration::from_secs(1)));
/// # Ok::<(), tower_relay::error::BoxError>(())
/// # })?;
/// # Ok::<(), tower_relay::error::BoxError>(())
/// ```
pub struct KeyedRateLimitLayer<K, F, P = Plain> {
    registry: Arc<Registry<K>>,
    key: F,
    protocol: P,
}

impl<K, F> KeyedRateLimitLayer<K, F> {
    /// Limits the calls of each key, as `key` reads it from the request, to `quota`.
    #[must_use]
    pub fn new<Req>(quota: Quota, key: F) -> Self
    where
        F: Fn(&Req) -> K,
    {
        Self {
            registry: Arc::new(Registry {
                limiters: Mutex::new(Limiters::new()),
                quota: Arc::new(move |_: &K| quota.clone()),
                settings: Settings::default(),
                max_keys: MAX_KEYS,
            }),
            key,
            protocol: Plain,
        }
    }
}

impl<K, F, P> KeyedRateLimitLayer<K, F, P> {
    /// Gives each key a quota of its own, asked for when the key is first seen; two calls that
    /// come first together may both ask.
    #[must_use]
    pub fn quota(self, quota: impl Fn(&K) -> Quota + Send + Sync + 'static) -> Self {
        self.renewed(|registry| registry.quota = Arc::new(quota))
    }

    /// How many keys are held; at least one. Default: 10,000.
    #[must_use]
    pub fn max_keys(self, keys: usize) -> Self {
        self.renewed(|registry| registry.max_keys = keys.max(1))
    }

    /// How many calls of one key may wait; one more is refused at once. Default: 10,000.
    #[must_use]
    pub fn max_waiting(self, calls: usize) -> Self {
        self.renewed(|registry| registry.settings.limits.max_waiting = calls)
    }

    /// How long a call may wait. Default: no bound but the caller's deadline.
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        self.renewed(|registry| registry.settings.limits.max_wait = Some(wait))
    }

    /// Takes another strategy. The limits stay the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> KeyedRateLimitLayer<K, F, Q> {
        KeyedRateLimitLayer {
            registry: self.registry,
            key: self.key,
            protocol,
        }
    }

    /// Charges what `cost` says, instead of one request.
    #[must_use]
    pub fn cost<Req, C>(self, cost: C) -> KeyedRateLimitLayer<K, F, CostFn<P, C>>
    where
        C: Fn(&Req) -> Cost,
    {
        KeyedRateLimitLayer {
            registry: self.registry,
            key: self.key,
            protocol: CostFn::new(self.protocol, cost),
        }
    }

    /// A handle to the limiters.
    #[must_use]
    pub fn handle(&self) -> KeyedRateLimitHandle<K> {
        KeyedRateLimitHandle {
            registry: Arc::clone(&self.registry),
        }
    }

    fn renewed(mut self, change: impl FnOnce(&mut Registry<K>)) -> Self {
        let mut registry = Registry {
            limiters: Mutex::new(Limiters::new()),
            quota: Arc::clone(&self.registry.quota),
            settings: self.registry.settings.clone(),
            max_keys: self.registry.max_keys,
        };
        change(&mut registry);
        self.registry = Arc::new(registry);
        self
    }
}

impl<K, F: Clone, P: Clone> Clone for KeyedRateLimitLayer<K, F, P> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            key: self.key.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<S, K, F: Clone, P: Clone> Layer<S> for KeyedRateLimitLayer<K, F, P> {
    type Service = KeyedRateLimit<S, K, F, P>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedRateLimit {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`KeyedRateLimitLayer`] builds.
pub struct KeyedRateLimit<S, K, F, P> {
    inner: S,
    layer: KeyedRateLimitLayer<K, F, P>,
}

impl<S: Clone, K, F: Clone, P: Clone> Clone for KeyedRateLimit<S, K, F, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, K, F, P, Req> Service<Req> for KeyedRateLimit<S, K, F, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K,
    P: Protocol<Req, S::Response> + Clone,
{
    type Response = P::Response<super::Guard>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req, P>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedRateLimitLayer {
            registry,
            key,
            protocol,
        } = &self.layer;
        let entry = match registry.limiter(key(&request)) {
            Ok(limiter) => enter(&limiter, protocol, &request),
            Err(full) => Entry::Refused(Rejected::TooManyKeys(full)),
        };
        ResponseFuture::new(entry, &mut self.inner, request, protocol.clone())
    }
}

/// Reads and changes the limiters of a [`KeyedRateLimitLayer`].
pub struct KeyedRateLimitHandle<K> {
    registry: Arc<Registry<K>>,
}

impl<K: Hash + Eq> KeyedRateLimitHandle<K> {
    /// How many keys are held.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.registry.lock().by_key.len()
    }

    /// A handle to one key's limiter, if the key is held. As long as the handle lives the
    /// limiter is not forgotten.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<RateLimitHandle> {
        let limiters = self.registry.lock();
        let (limiter, _) = limiters.by_key.get(key)?;
        Some(RateLimitHandle {
            admission: Arc::clone(limiter),
        })
    }

    /// Changes the quota of every key held now; keys seen later begin with the layer's own.
    pub fn set_quota(&self, quota: &Quota) {
        let limiters: Vec<_> = {
            let limiters = self.registry.lock();
            let held = limiters.by_key.values();
            held.map(|(limiter, _)| Arc::clone(limiter)).collect()
        };
        for limiter in limiters {
            set_quota(&limiter, quota);
        }
    }
}

impl<K> Clone for KeyedRateLimitHandle<K> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
        }
    }
}

// === impl Registry ===

struct Registry<K> {
    limiters: Mutex<Limiters<K>>,
    quota: Arc<dyn Fn(&K) -> Quota + Send + Sync>,
    settings: Settings,
    max_keys: usize,
}

/// The limiters by key, and the keys by last use.
struct Limiters<K> {
    by_key: HashMap<K, (Arc<Admission<Metered>>, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K> Limiters<K> {
    fn new() -> Self {
        Self {
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<K> Registry<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Limiters<K>> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Registry<K> {
    /// The limiter of `key`, a new one if it is not held.
    fn limiter(&self, key: K) -> Result<Arc<Admission<Metered>>, TooManyKeys> {
        if let Some(limiter) = self.lock().used(&key) {
            return Ok(limiter);
        }
        // The user's function runs outside the lock; another call may come first meanwhile.
        let limiter = self.settings.admission(&(self.quota)(&key));
        let mut limiters = self.lock();
        if let Some(limiter) = limiters.used(&key) {
            return Ok(limiter);
        }
        if limiters.by_key.len() >= self.max_keys {
            limiters.forget_one(self.settings.limits.layer)?;
        }
        limiters.uses += 1;
        let last_use = limiters.uses;
        limiters.by_use.insert(last_use, key.clone());
        let entry = (Arc::clone(&limiter), last_use);
        limiters.by_key.insert(key, entry);
        Ok(limiter)
    }
}

impl<K: Hash + Eq> Limiters<K> {
    /// The limiter of `key`, which thereby becomes the last one used.
    fn used(&mut self, key: &K) -> Option<Arc<Admission<Metered>>> {
        let (limiter, last_use) = self.by_key.get_mut(key)?;
        self.uses += 1;
        let held = self.by_use.remove(last_use).expect("every key has a use");
        self.by_use.insert(self.uses, held);
        *last_use = self.uses;
        Some(Arc::clone(limiter))
    }

    /// Makes room by forgetting a limiter that is as good as new.
    fn forget_one(&mut self, layer: &'static str) -> Result<(), TooManyKeys> {
        let now = clock::now();
        let mut soonest = Timestamp::MAX;
        let mut found = None;
        let mut kept = Vec::new();
        for (last_use, key) in self.by_use.iter().take(LOOKED_AT) {
            let (limiter, _) = &self.by_key[key];
            let is_shared = Arc::strong_count(limiter) > 1;
            match forgettable_at(limiter) {
                Some(at) if at <= now && !is_shared => {
                    found = Some(*last_use);
                    break;
                }
                Some(at) => soonest = soonest.min(at),
                None => {}
            }
            kept.push(*last_use);
        }
        // The next look begins with others, so that those in long use do not hide them.
        for last_use in kept {
            let key = self.by_use.remove(&last_use).expect("it is there above");
            self.uses += 1;
            let (_, last_use) = self.by_key.get_mut(&key).expect("every use has a key");
            *last_use = self.uses;
            self.by_use.insert(self.uses, key);
        }
        let Some(key) = found.and_then(|last_use| self.by_use.remove(&last_use)) else {
            let known = soonest > now && soonest < Timestamp::MAX;
            return Err(TooManyKeys {
                layer,
                keys: self.by_key.len(),
                retry_after: if known {
                    soonest.since(now)
                } else {
                    Duration::from_secs(1)
                },
            });
        };
        self.by_key.remove(&key);
        Ok(())
    }
}

impl<K, F, P> fmt::Debug for KeyedRateLimitLayer<K, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitLayer")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, K, F, P> fmt::Debug for KeyedRateLimit<S, K, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimit")
            .field("inner", &self.inner)
            .field("registry", &self.layer.registry)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for KeyedRateLimitHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

impl<K> fmt::Debug for Registry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("keys", &self.lock().by_key.len())
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
