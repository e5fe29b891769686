use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    RateLimitHandle, ResponseFuture,
    handle::{Metered, Settings, forgettable_at, set_quota},
    service::enter,
};
use crate::{
    admit::{Admission, Entry},
    call::Noted,
    clock,
    error::{BoxError, Rejected, TooManyKeys},
    outcome::Outcome,
    policy::{Cost, Quota, Timestamp},
    protocol::{ClassifyFn, CostFn, DeadlineFn, Plain, Protocol},
};

/// Some 10 MB of limiters that nobody waits for.
const MAX_KEYS: usize = 10_000;
/// When nothing says how long the keys held will be in use.
const UNKNOWN_USE: Duration = Duration::from_secs(1);
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
    /// Limits the calls of each key, as `key` reads it from the request, to `quota`. Windows
    /// reset at the same instants for all keys, counted from now.
    #[must_use]
    pub fn new<Req>(quota: Quota, key: F) -> Self
    where
        F: Fn(&Req) -> K,
    {
        Self {
            registry: Arc::new(Registry::new(
                Quotas::fixed(quota),
                Settings::default(),
                MAX_KEYS,
            )),
            key,
            protocol: Plain,
        }
    }
}

impl<K, F, P> KeyedRateLimitLayer<K, F, P> {
    /// Gives each key a quota of its own, asked for when the key is first seen; two calls that
    /// come first together may both ask. Windows are counted from then.
    #[must_use]
    pub fn quota(self, quota: impl Fn(&K) -> Quota + Send + Sync + 'static) -> Self {
        let settings = self.registry.settings.clone();
        self.renewed(Quotas::of_each(quota), settings, None)
    }

    /// How many keys are held; at least one. Default: 10,000.
    #[must_use]
    pub fn max_keys(self, keys: usize) -> Self {
        let (quotas, settings) = self.parts();
        self.renewed(quotas, settings, Some(keys.max(1)))
    }

    /// How many calls of one key may wait; one more is refused at once. Default: 10,000.
    #[must_use]
    pub fn max_waiting(self, calls: usize) -> Self {
        let (quotas, mut settings) = self.parts();
        settings.limits.max_waiting = calls;
        self.renewed(quotas, settings, None)
    }

    /// How long a call may wait. Default: no bound but the caller's deadline.
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        let (quotas, mut settings) = self.parts();
        settings.limits.max_wait = Some(wait);
        self.renewed(quotas, settings, None)
    }

    /// Takes another strategy. The limits stay the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> KeyedRateLimitLayer<K, F, Q> {
        self.map_protocol(|_| protocol)
    }

    /// Takes the cost and the deadline from the facts that a [`Call`](crate::call::Call) carries,
    /// inside a [`FactsLayer`](crate::call::FactsLayer).
    #[must_use]
    pub fn noted(self) -> KeyedRateLimitLayer<K, F, Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Charges what `cost` says, instead of one request.
    #[must_use]
    pub fn cost<Req, C>(self, cost: C) -> KeyedRateLimitLayer<K, F, CostFn<P, C>>
    where
        C: Fn(&Req) -> Cost,
    {
        self.map_protocol(|inner| CostFn::new(inner, cost))
    }

    /// Reads each call's deadline with `deadline`.
    #[must_use]
    pub fn deadline<Req, D>(self, deadline: D) -> KeyedRateLimitLayer<K, F, DeadlineFn<P, D>>
    where
        D: Fn(&Req) -> Option<Instant>,
    {
        self.map_protocol(|inner| DeadlineFn::new(inner, deadline))
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, C>(self, classify: C) -> KeyedRateLimitLayer<K, F, ClassifyFn<P, C>>
    where
        C: Fn(Result<&Res, &BoxError>) -> Outcome,
    {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A handle to the limiters as they are set now: a later setting makes new ones.
    #[must_use]
    pub fn handle(&self) -> KeyedRateLimitHandle<K> {
        KeyedRateLimitHandle {
            registry: Arc::clone(&self.registry),
        }
    }

    fn parts(&self) -> (Quotas<K>, Settings) {
        (self.registry.quotas(), self.registry.settings.clone())
    }

    fn renewed(mut self, quotas: Quotas<K>, settings: Settings, max_keys: Option<usize>) -> Self {
        let max_keys = max_keys.unwrap_or(self.registry.max_keys);
        self.registry = Arc::new(Registry::new(quotas, settings, max_keys));
        self
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> KeyedRateLimitLayer<K, F, Q> {
        KeyedRateLimitLayer {
            registry: self.registry,
            key: self.key,
            protocol: map(self.protocol),
        }
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
///
/// # Errors
///
/// [`Rejected`] if the key's queue is full, the wait too long, the cost too large, or all keys
/// that may be held are in use; otherwise the inner service's own.
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
    type Response = P::Response<super::Permit>;
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

    /// Gives every key this quota: those held now, and those seen later.
    pub fn set_quota(&self, quota: &Quota) {
        *self.registry.lock_quotas() = Quotas::fixed(quota.clone());
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
    quotas: Mutex<Quotas<K>>,
    settings: Settings,
    max_keys: usize,
}

/// Which quota a key begins with, and since when its windows count.
struct Quotas<K> {
    of: Arc<dyn Fn(&K) -> Quota + Send + Sync>,
    /// `None`: since the key is seen.
    since: Option<Timestamp>,
}

impl<K> Quotas<K> {
    fn fixed(quota: Quota) -> Self {
        Self {
            of: Arc::new(move |_| quota.clone()),
            since: Some(clock::now()),
        }
    }

    fn of_each(quota: impl Fn(&K) -> Quota + Send + Sync + 'static) -> Self {
        Self {
            of: Arc::new(quota),
            since: None,
        }
    }
}

impl<K> Clone for Quotas<K> {
    fn clone(&self) -> Self {
        Self {
            of: Arc::clone(&self.of),
            since: self.since,
        }
    }
}

type Limiter = Arc<Admission<Metered>>;

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
    fn new(quotas: Quotas<K>, settings: Settings, max_keys: usize) -> Self {
        Self {
            limiters: Mutex::new(Limiters::new()),
            quotas: Mutex::new(quotas),
            settings,
            max_keys,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Limiters<K>> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_quotas(&self) -> MutexGuard<'_, Quotas<K>> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quotas(&self) -> Quotas<K> {
        self.lock_quotas().clone()
    }
}

impl<K: Hash + Eq + Clone> Registry<K> {
    /// The limiter of `key`, a new one if it is not held.
    fn limiter(&self, key: K) -> Result<Arc<Admission<Metered>>, TooManyKeys> {
        if let Some(limiter) = self.lock().used(&key) {
            return Ok(limiter);
        }
        // The user's functions run outside the lock, but for the key's own `Hash` and `Eq`;
        // another call may come first meanwhile.
        let Quotas { of, since } = self.quotas();
        let since = since.unwrap_or_else(clock::now);
        let limiter = self.settings.admission_since(&of(&key), since);
        let copy = key.clone();
        let mut limiters = self.lock();
        if let Some(limiter) = limiters.used(&key) {
            return Ok(limiter);
        }
        let forgotten = if limiters.by_key.len() >= self.max_keys {
            Some(limiters.forget_one(self.settings.limits.layer)?)
        } else {
            None
        };
        limiters.uses += 1;
        let last_use = limiters.uses;
        let entry = (Arc::clone(&limiter), last_use);
        limiters.by_key.insert(copy, entry);
        limiters.by_use.insert(last_use, key);
        drop(limiters);
        drop(forgotten);
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

    /// Makes room by forgetting a limiter that is as good as new; what it was is for the caller
    /// to drop.
    fn forget_one(&mut self, layer: &'static str) -> Result<(K, K, Limiter), TooManyKeys> {
        let now = clock::now();
        let mut soonest = Timestamp::MAX;
        let mut found = None;
        let mut kept = Vec::new();
        for (last_use, key) in self.by_use.iter().take(LOOKED_AT) {
            let Some((limiter, _)) = self.by_key.get(key) else {
                continue;
            };
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
            if let Some((_, last_use)) = self.by_key.get_mut(&key) {
                *last_use = self.uses;
            }
            self.by_use.insert(self.uses, key);
        }
        let found = found.and_then(|last_use| self.by_use.remove(&last_use));
        let entry = found.and_then(|key| Some((self.by_key.remove_entry(&key)?, key)));
        if let Some(((key, (limiter, _)), same_key)) = entry {
            return Ok((key, same_key, limiter));
        }
        let is_known = soonest > now && soonest < Timestamp::MAX;
        Err(TooManyKeys {
            layer,
            keys: self.by_key.len(),
            retry_after: if is_known {
                soonest.since(now)
            } else {
                UNKNOWN_USE
            },
        })
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
