use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{Key, KeyPool, KeyRotation, KeyRotationHandle, handle::Settings, keys::Pooled};
use crate::{
    admit::Admission,
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::{
        Cost, Estimator, Quota, Shares,
        limit::{self, LimitAlgorithm},
        pool,
    },
    protocol::{AffinityFn, AuthorizeFn, ClassFn, ClassifyFn, CostFn, DeadlineFn, ModelFn, Plain},
};

/// A change that a pool tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// A call has to wait where none did.
    Saturated,
    /// The last call that waited is admitted or gone.
    Cleared,
    /// A scope or a key has changed its state.
    Pool(pool::Transition),
    /// The limit of the calls in flight over all scopes together is another.
    Concurrency(limit::Change),
}

/// Serves calls with the keys of a [`KeyPool`]; see the [module](super) for the whole.
///
/// Every clone of the layer, every service that it builds and every clone of those share one
/// pool. Settings make a new one: set first, then clone.
#[derive(Clone)]
pub struct KeyRotationLayer<P = Plain> {
    admission: Arc<Admission<Pooled>>,
    pool: KeyPool,
    settings: Settings,
    protocol: P,
}

impl KeyRotationLayer {
    /// A layer that picks keys and puts them nowhere until [`authorize`](Self::authorize) or
    /// another [`protocol`](Self::protocol) says how. For HTTP see
    /// [`bearer`](KeyRotationLayer::bearer) and [`header`](KeyRotationLayer::header).
    #[must_use]
    pub fn new(pool: KeyPool) -> Self {
        let settings = Settings::default();
        Self {
            admission: settings.admission(&pool),
            pool,
            settings,
            protocol: Plain,
        }
    }
}

impl<P> KeyRotationLayer<P> {
    /// Limits all scopes together, under the same lock and in the same queue: a call is admitted
    /// when its scope and this quota can both serve it. Default: no limit.
    #[must_use]
    pub fn rate_limit(mut self, quota: Quota) -> Self {
        self.settings.quota = quota;
        self.renewed()
    }

    /// Limits the calls in flight over all scopes together, in the same queue, to what `algorithm`
    /// learns from how they go; for a number, [`Fixed::of`](limit::Fixed::of). A call is in
    /// flight from its admission to the end of its guard. Default: no limit but that of
    /// [`rate_limit`](Self::rate_limit).
    #[must_use]
    pub fn concurrency<A>(mut self, algorithm: A) -> Self
    where
        A: LimitAlgorithm + Clone + Send + Sync + 'static,
    {
        self.settings.places = Some(Arc::new(move || Box::new(algorithm.clone())));
        self.renewed()
    }

    /// Reserves what `estimator` expects of a call, where the protocol tells its
    /// [size](crate::protocol::Protocol::size), and lets it learn from the usage of complete answers,
    /// whichever key they came by. What is reserved is settled by the real usage as ever. Default:
    /// a call costs what it says.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    ///     policy::{Estimator, InvalidConfig},
    /// };
    ///
    /// let scope = Scope::new("org-a").key("a1", Source::value("secret"));
    /// let pool = KeyPool::builder().scope(scope).build()?;
    /// let layer = KeyRotationLayer::new(pool).estimate(Estimator::new());
    /// assert_eq!(layer.handle().learned(Some("m")).map(|learned| learned.kinds()), Some(0));
    /// # Ok::<(), InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn estimate(mut self, estimator: Estimator) -> Self {
        self.settings.estimator = Some(estimator);
        self.renewed()
    }

    /// How many calls may wait; one more is refused at once. Zero refuses whatever cannot be
    /// admitted at once. Default: 10,000. A retry layer outside waits a refusal out.
    #[must_use]
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.settings.limits.max_waiting = calls;
        self.renewed()
    }

    /// Shares the pool among classes of callers while calls wait, instead of serving them in the
    /// order of arrival. Which class a call is of, [`class`](Self::class) or the protocol says. Default:
    /// none. For what a share is see [`Shares`] and the [module](super#shares).
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    ///     policy::Shares,
    /// };
    ///
    /// let scope = Scope::new("org-a").key("a1", Source::value("secret"));
    /// let pool = KeyPool::builder().scope(scope).build()?;
    /// let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
    /// let handle = KeyRotationLayer::new(pool).shares(shares).handle();
    /// let weights: Vec<_> = handle.shares().iter().map(|share| share.weight()).collect();
    /// assert_eq!(weights, [20, 20, 80]);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn shares(mut self, shares: Shares) -> Self {
        self.settings.shares = Some(shares);
        self.renewed()
    }

    /// How long a call may wait. One that would wait longer is refused at once. Default: no
    /// bound but the caller's deadline. A retry layer outside waits a refusal out, so bound the
    /// whole there, by a deadline or its `max_elapsed`.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.limits.max_wait = Some(wait);
        self.renewed()
    }

    /// Calls `callback` when a scope or key changes its state, when calls begin to wait and when
    /// none waits any more. It runs outside the lock and may use the handle; changes close
    /// together may reach it in any order. It runs in the task of some call, which a panic in it
    /// would end. That a rest is over is told when the next call ends or waits.
    #[must_use]
    pub fn on_transition(mut self, callback: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.settings.on_transition = Some(Arc::new(callback));
        self.renewed()
    }

    /// Calls `callback` with how long each call has waited here, when it is admitted; calls that are
    /// admitted at once do not wait, and those that leave the queue are not admitted. It is called
    /// outside the lock, in the task of that call, which a panic in it would end. For a histogram:
    /// everything else is in the handle's snapshot.
    #[must_use]
    pub fn on_wait(mut self, callback: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.settings.on_wait = Some(Arc::new(callback));
        self.renewed()
    }

    /// Takes another strategy. The pool stays the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> KeyRotationLayer<Q> {
        self.map_protocol(|_| protocol)
    }

    /// Takes model, cost, session and deadline from the facts that a [`Call`](crate::call::Call) carries,
    /// inside a [`FactsLayer`](crate::call::FactsLayer). A [`cost`](Self::cost) or
    /// [`model`](Self::model) set before has no effect then; one set after reads the call.
    #[must_use]
    pub fn noted(self) -> KeyRotationLayer<Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Puts the picked key into each request with `authorize`, at the instant of sending: a
    /// header, or a signature. It must not block; a panic in it gives everything back.
    #[must_use]
    pub fn authorize<Req, F: Fn(&mut Req, &Key)>(
        self,
        authorize: F,
    ) -> KeyRotationLayer<AuthorizeFn<P, F>> {
        self.map_protocol(|inner| AuthorizeFn::new(inner, authorize))
    }

    /// Reads the model that each request asks with `model`. Default: none, so that all calls are
    /// of every scope's default class.
    #[must_use]
    pub fn model<Req, F: for<'a> Fn(&'a Req) -> Option<&'a str>>(
        self,
        model: F,
    ) -> KeyRotationLayer<ModelFn<P, F>> {
        self.map_protocol(|inner| ModelFn::new(inner, model))
    }

    /// Reads which session each request belongs to with `affinity`: any hash that is equal for calls
    /// that should go to the same key. It has an effect on pools with
    /// [`KeyPoolBuilder::affinity`](super::KeyPoolBuilder::affinity). Default: none.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_relay::{
    ///     key_rotation::{Key, KeyPool, KeyRotationLayer, Scope, Source},
    ///     policy::pool::Affinity,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let scopes = ["org-a", "org-b", "org-c"];
    /// let pool = scopes.iter().fold(KeyPool::builder(), |pool, name| {
    ///     pool.scope(Scope::new(*name).key(format!("{name}-1"), Source::value(format!("sk-{name}"))))
    /// });
    /// struct Chat {
    ///     session: u64,
    ///     key: String,
    /// }
    /// let layer = KeyRotationLayer::new(pool.affinity(Affinity::new()).build()?)
    ///     .affinity(|chat: &Chat| Some(chat.session))
    ///     .authorize(|chat: &mut Chat, key: &Key| chat.key = key.alias().into());
    /// let service = layer.layer(service_fn(|chat: Chat| async { Ok::<_, Infallible>(chat.key) }));
    /// let ask = |session| service.clone().oneshot(Chat { session, key: String::new() });
    /// let first = ask(7).await?;
    /// for _ in 0..10 {
    ///     assert_eq!(ask(7).await?, first);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn affinity<Req, F: Fn(&Req) -> Option<u64>>(
        self,
        affinity: F,
    ) -> KeyRotationLayer<AffinityFn<P, F>> {
        self.map_protocol(|inner| AffinityFn::new(inner, affinity))
    }

    /// Charges what `cost` says, instead of one request.
    #[must_use]
    pub fn cost<Req, F: Fn(&Req) -> Cost>(self, cost: F) -> KeyRotationLayer<CostFn<P, F>> {
        self.map_protocol(|inner| CostFn::new(inner, cost))
    }

    /// Reads the class of callers that each request is of with `class`, which is asked only where
    /// classes have [`shares`](Self::shares), outside the lock. Default: what the protocol says.
    #[must_use]
    pub fn class<Req, F: for<'a> Fn(&'a Req) -> Option<&'a str>>(
        self,
        class: F,
    ) -> KeyRotationLayer<ClassFn<P, F>> {
        self.map_protocol(|inner| ClassFn::new(inner, class))
    }

    /// Reads each call's deadline with `deadline`.
    #[must_use]
    pub fn deadline<Req, F: Fn(&Req) -> Option<Instant>>(
        self,
        deadline: F,
    ) -> KeyRotationLayer<DeadlineFn<P, F>> {
        self.map_protocol(|inner| DeadlineFn::new(inner, deadline))
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, F: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: F,
    ) -> KeyRotationLayer<ClassifyFn<P, F>> {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A handle to this layer's pool as it is set now: a later setting makes a new one.
    #[must_use]
    pub fn handle(&self) -> KeyRotationHandle {
        KeyRotationHandle {
            admission: Arc::clone(&self.admission),
        }
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> KeyRotationLayer<Q> {
        KeyRotationLayer {
            admission: self.admission,
            pool: self.pool,
            settings: self.settings,
            protocol: map(self.protocol),
        }
    }

    fn renewed(mut self) -> Self {
        self.admission = self.settings.admission(&self.pool);
        self
    }
}

impl<S, P: Clone> Layer<S> for KeyRotationLayer<P> {
    type Service = KeyRotation<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyRotation::new(inner, Arc::clone(&self.admission), self.protocol.clone())
    }
}

impl<P> fmt::Debug for KeyRotationLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRotationLayer")
            .field("pool", &self.pool)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
