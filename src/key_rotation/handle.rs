use std::{num::NonZeroUsize, sync::Arc};

use super::{
    Key, KeyPool, Probe, Transition,
    keys::{Keys, Pooled},
};
use crate::{
    admit::{Admission, Algorithm, Joint, Limiter, Limits, OnWait, Tokens},
    clock,
    outcome::Outcome,
    policy::{
        Estimator, InvalidConfig, Learned, Quota, Shares, Unit,
        limit::{Fixed, LimitAlgorithm},
        pool::{Change, ScopeSnapshot, UnknownName},
    },
    snapshot::{ShareSnapshot, Snapshot},
};

/// How a pool is driven.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) shares: Option<Shares>,
    /// Of all scopes together.
    pub(super) quota: Quota,
    /// Makes an algorithm that has learned nothing yet.
    pub(super) places: Option<Arc<dyn Fn() -> Algorithm + Send + Sync>>,
    pub(super) on_transition: Option<OnTransition>,
    /// One that has learned nothing.
    pub(super) estimator: Option<Estimator>,
    pub(super) on_wait: Option<OnWait>,
}

type OnTransition = Arc<dyn Fn(&Transition) + Send + Sync>;

/// As many calls may wait as a night's batch has workers, and a leak still shows in a day.
const MAX_WAITING: usize = 10_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits {
                layer: "key rotation",
                max_waiting: MAX_WAITING,
                max_wait: None,
            },
            shares: None,
            quota: Quota::unlimited(),
            places: None,
            on_transition: None,
            estimator: None,
            on_wait: None,
        }
    }
}

impl Settings {
    /// A pool with state of its own.
    pub(super) fn admission(&self, pool: &KeyPool) -> Arc<Admission<Pooled>> {
        let now = clock::now();
        let quota = &self.quota;
        let places = self.places.as_ref().map(|places| places());
        let places = Limiter::new(places.or_else(|| quota.max_in_flight().map(fixed)));
        let tokens = Tokens::new(quota, now).estimate(self.estimator.clone());
        let pooled = Pooled::new(Keys::new(pool, now), tokens, places);
        let slack = pool.config().slack().min(quota.slack());
        let (told, waits) = (self.on_transition.clone(), self.on_transition.clone());
        let admission = Admission::new(pooled, slack, self.limits)
            .shares(self.shares.clone())
            .on_wait(self.on_wait.clone())
            .on_notice(Arc::new(move |transition| {
                note(&transition);
                if let Some(callback) = &told {
                    callback(&transition);
                }
            }))
            .on_waiting(waits.map(|callback| -> Arc<dyn Fn(bool) + Send + Sync> {
                Arc::new(move |waits| {
                    callback(if waits {
                        &Transition::Saturated
                    } else {
                        &Transition::Cleared
                    });
                })
            }));
        Arc::new(admission)
    }
}

fn fixed(calls: NonZeroUsize) -> Algorithm {
    Box::new(Fixed::new(calls))
}

/// Changes of the pool are rare and worth a line.
#[cfg(feature = "tracing")]
fn note(transition: &Transition) {
    use crate::policy::{Timestamp, pool::Transition as Pool};
    const LAYER: &str = "key rotation";

    let change = match transition {
        Transition::Pool(change) => change,
        Transition::Concurrency(change) => {
            tracing::debug!(
                layer = LAYER,
                from = change.from(),
                to = change.to(),
                reason = change.reason().name(),
                "the limit has changed"
            );
            return;
        }
        // The queue tells of it.
        Transition::Saturated | Transition::Cleared => return,
    };
    let scope_is = |scope: &str, state, until: Option<&Timestamp>| {
        let wait = until.map(|until| tracing::field::debug(until.since(clock::now())));
        tracing::info!(layer = LAYER, scope, state, wait, "a scope has changed");
    };
    let key_is = |alias, state, until: Option<&Timestamp>| {
        let wait = until.map(|until| tracing::field::debug(until.since(clock::now())));
        tracing::info!(
            layer = LAYER,
            key.alias = alias,
            state,
            wait,
            "a key has changed"
        );
    };
    match change {
        Pool::Rested { scope, until } => scope_is(scope, "resting", Some(until)),
        Pool::Reopened { scope } => scope_is(scope, "open", None),
        Pool::Exhausted { scope, until } => scope_is(scope, "exhausted", Some(until)),
        Pool::Excluded { scope } => scope_is(scope, "region", None),
        Pool::Rejected { alias, retried } => key_is(&**alias, "rejected", retried.as_ref()),
        Pool::BreakerOpened { alias, until } => key_is(alias, "breaker_open", Some(until)),
        Pool::BreakerClosed { alias } | Pool::Accepted { alias } => key_is(alias, "usable", None),
        Pool::Drained { alias } => key_is(alias, "drained", None),
        Pool::Denied { alias, model } => tracing::info!(
            layer = LAYER,
            key.alias = &**alias,
            gen_ai.request.model = &**model,
            "a key may not use a model"
        ),
    }
}

#[cfg(not(feature = "tracing"))]
const fn note(_: &Transition) {}

/// Reads and changes a running pool.
///
/// ```
/// use tower_relay::{
///     key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
///     policy::{Quota, pool::KeyState},
/// };
///
/// let pool = || {
///     let quota = Quota::builder().requests_per_minute(600).build()?;
///     let scope = Scope::new("org-a").quota(quota).key("a1", Source::value("secret"));
///     KeyPool::builder().scope(scope).build()
/// };
/// let handle = KeyRotationLayer::new(pool()?).handle();
/// handle.disable("a1")?;
/// assert_eq!(handle.scopes()[0].keys()[0].state(), KeyState::Disabled);
///
/// handle.enable("a1")?;
/// assert_eq!(handle.reload(pool()?), []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyRotationHandle {
    pub(super) admission: Arc<Admission<Pooled>>,
}

impl KeyRotationHandle {
    /// Totals, and what is in flight and in the queue.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.admission.stats())
    }

    /// Every class of callers that has a share, first those of no class; none without shares.
    #[must_use]
    pub fn shares(&self) -> Vec<ShareSnapshot> {
        ShareSnapshot::all(self.admission.classes())
    }

    /// Shares otherwise from now on, with callers queued: they keep their class, if that is one of
    /// the new ones too, and their place in it. Those that came while there were no shares are of no
    /// class. What classes were served before counts no more.
    pub fn set_shares(&self, shares: &Shares) {
        self.admission.set_shares(Some(shares.clone()));
    }

    /// Serves in the order of arrival from now on, with callers queued.
    pub fn remove_shares(&self) {
        self.admission.set_shares(None);
    }

    /// Every scope with its quotas, its rests and its keys, in the order of the configuration.
    /// Instants are on the time line of [`protocol::timestamp`](crate::protocol::timestamp).
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeSnapshot> {
        self.admission
            .read(|pooled, now| pooled.keys().policy.snapshot(now))
    }

    /// What has been learned of the calls of this model; `None` if nothing is
    /// [estimated](crate::key_rotation::KeyRotationLayer::estimate). A reload keeps it.
    #[must_use]
    pub fn learned(&self, model: Option<&str>) -> Option<Learned> {
        self.admission.read(|pooled, _| {
            let estimator = pooled.whole().0.estimator();
            estimator.map(|estimator| estimator.learned(model))
        })
    }

    /// How many sessions are remembered, where the pool has
    /// [affinity](crate::key_rotation::KeyPoolBuilder::affinity); zero where it has none.
    ///
    /// ```
    /// use tower_relay::key_rotation::{KeyPool, KeyRotationLayer, Scope, Source};
    ///
    /// let scope = Scope::new("org-a").key("a1", Source::value("secret"));
    /// let pool = KeyPool::builder().scope(scope).build()?;
    /// assert_eq!(KeyRotationLayer::new(pool).handle().sessions(), 0);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.admission
            .read(|pooled, _| pooled.keys().policy.sessions())
    }

    /// Uses a key again, whatever took it out: disabled, draining, rejected, denied a model, or its
    /// breaker, which forgets what it has seen.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn enable(&self, alias: &str) -> Result<(), UnknownName> {
        self.admission
            .reconfigure(|pooled, now| pooled.keys_mut().policy.enable(alias, now))
    }

    /// Uses a key no more until it is enabled; its calls in flight decide nothing about it.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn disable(&self, alias: &str) -> Result<(), UnknownName> {
        self.admission
            .reconfigure(|pooled, now| pooled.keys_mut().policy.disable(alias, now))
    }

    /// Uses a key for no new calls, and tells when the last in flight has ended.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn drain(&self, alias: &str) -> Result<(), UnknownName> {
        self.admission
            .reconfigure(|pooled, now| pooled.keys_mut().policy.drain(alias, now))
    }

    /// Asks every key in use from time to time whether it is well, with a function of yours, and
    /// takes what that finds out as it takes the end of a call: a rejected key or one without
    /// credit is back as soon as it is well, and a dead one is out before a call has met it.
    ///
    /// Nothing happens until the [`Probe`] is spawned, or polled otherwise; it says how often keys
    /// are asked, and what the outcomes mean.
    pub fn probe<F, Fut>(&self, ask: F) -> Probe<F, Fut>
    where
        F: Fn(Key) -> Fut,
        Fut: Future<Output = Outcome>,
    {
        Probe::new(&self.admission, ask)
    }

    /// Calls a scope again, whatever it rests for: throttled, exhausted or refused for the region.
    /// What has been spent of its quotas stays; what the server has shown of its own is forgotten.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no scope has this name.
    pub fn reopen(&self, scope: &str) -> Result<(), UnknownName> {
        self.admission
            .reconfigure(|pooled, now| pooled.keys_mut().policy.reopen(scope, now))
    }

    /// Takes another pool, and says what it changed; who waits is served by what is new at once.
    ///
    /// Scopes of the same name and keys of the same alias in the same scope keep their state. A
    /// reload is the operator's word that secrets may have changed: rejected keys, denied models
    /// and refused regions are tried again. Calls in flight keep the secret they were sent with.
    pub fn reload(&self, pool: KeyPool) -> Vec<Change> {
        let quota_slack = self.admission.read(|pooled, _| pooled.whole().0.slack());
        self.admission
            .set_slack(pool.config().slack().min(quota_slack));
        let (changes, _old) = self
            .admission
            .reconfigure(|pooled, now| pooled.keys_mut().reload(pool, now));
        changes
    }

    /// Reads the environment and the key files again, and reloads the pool with what they hold
    /// now. Blocks while it reads the files: in a runtime call it from `spawn_blocking`. A
    /// [`reload`](Self::reload) in the meantime is undone by it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if one of them is missing or holds no key; the pool is then as it was.
    pub fn reread(&self) -> Result<Vec<Change>, InvalidConfig> {
        let source = self
            .admission
            .read(|pooled, _| pooled.keys().source().clone());
        Ok(self.reload(source.reread()?))
    }

    /// Limits all scopes together to another quota, with callers queued. If it limits the calls
    /// in flight, that replaces the limit of them.
    pub fn set_rate_limit(&self, quota: &Quota) {
        let pool_slack = self
            .admission
            .read(|pooled, _| pooled.keys().source().config().slack());
        self.admission.set_slack(quota.slack().min(pool_slack));
        let places = quota.max_in_flight().map(fixed);
        let _old = self.admission.reconfigure(|pooled, now| {
            let Joint(tokens, limiter) = pooled.whole_mut();
            tokens.set_quota(quota, now);
            places.and_then(|places| limiter.set_algorithm(Some(places), now))
        });
    }

    /// Limits the calls in flight over all scopes together with another algorithm, which has
    /// learned nothing yet, with callers queued. Calls in flight stay, and a smaller limit admits
    /// nobody until enough of them have ended; those that were admitted while there was no limit do
    /// not count under it. A number is a [`Fixed`].
    pub fn set_concurrency(&self, algorithm: impl LimitAlgorithm + Send + 'static) {
        self.replace_limit(Some(Box::new(algorithm)));
    }

    /// Limits the calls in flight no longer, with callers queued.
    pub fn remove_concurrency(&self) {
        self.replace_limit(None);
    }

    /// How many calls may be in flight over all scopes together now; `None` if nothing limits them.
    #[must_use]
    pub fn concurrency(&self) -> Option<NonZeroUsize> {
        self.admission.read(|pooled, _| pooled.whole().1.limit())
    }

    fn replace_limit(&self, algorithm: Option<Algorithm>) {
        let _old = self
            .admission
            .reconfigure(|pooled, now| pooled.whole_mut().1.set_algorithm(algorithm, now));
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn remaining(&self) -> Vec<(Unit, i64)> {
        self.admission
            .read(|pooled, now| pooled.whole().0.bucket().remaining(now))
    }

    /// How much of `unit` could be taken now of the quota of all scopes together; `None` if that
    /// does not meter it.
    #[must_use]
    pub fn available(&self, unit: Unit) -> Option<i64> {
        self.admission
            .read(|pooled, now| pooled.whole().0.bucket().available(unit, now))
    }
}
