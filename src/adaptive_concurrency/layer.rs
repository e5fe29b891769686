use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{AdaptiveConcurrency, AdaptiveConcurrencyHandle, handle::Settings};
use crate::{
    admit::{Admission, Limiter},
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::{
        Shares,
        limit::{Change, LimitAlgorithm},
    },
    protocol::{ClassFn, ClassifyFn, DeadlineFn, Plain},
};

/// Limits the calls in flight to what an algorithm learns that the server can take; see the
/// [module](super) for the whole.
///
/// Every clone of the layer, every service that it builds and every clone of those share one
/// limit. Settings make a new one: set first, then clone.
#[derive(Clone)]
pub struct AdaptiveConcurrencyLayer<P = Plain> {
    admission: Arc<Admission<Limiter>>,
    settings: Settings,
    protocol: P,
}

impl AdaptiveConcurrencyLayer {
    /// A limit that learns with a clone of `algorithm`, for any service. For HTTP see
    /// [`http`](AdaptiveConcurrencyLayer::http).
    #[must_use]
    pub fn new<A: LimitAlgorithm + Clone + Send + Sync + 'static>(algorithm: A) -> Self {
        let settings = Settings::new(algorithm);
        Self {
            admission: settings.admission(),
            settings,
            protocol: Plain,
        }
    }
}

impl<P> AdaptiveConcurrencyLayer<P> {
    /// How many calls may wait; one more is refused at once. Default: 10,000.
    #[must_use]
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.settings.limits.max_waiting = calls;
        self.renewed()
    }

    /// Shares the places among classes of callers while calls wait, instead of serving them in the
    /// order of arrival: as many calls are admitted of each as its weight says, however long they last.
    /// Which class a call is of, [`class`](Self::class) or the protocol says. Default: none. For what a
    /// share is see [`Shares`].
    ///
    /// ```
    /// use tower_relay::{
    ///     adaptive_concurrency::AdaptiveConcurrencyLayer,
    ///     policy::{Shares, limit::Fixed},
    /// };
    ///
    /// let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
    /// let handle = AdaptiveConcurrencyLayer::new(Fixed::of(8)).shares(shares).handle();
    /// assert_eq!(handle.shares().len(), 3);
    /// handle.remove_shares();
    /// assert_eq!(handle.shares().len(), 0);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn shares(mut self, shares: Shares) -> Self {
        self.settings.shares = Some(shares);
        self.renewed()
    }

    /// How long a call may wait. Default: no bound but the caller's deadline.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.limits.max_wait = Some(wait);
        self.renewed()
    }

    /// Calls `callback` when the limit has changed. It runs outside the lock and may use the
    /// handle; changes close together may reach it in any order. It runs in the task of some call,
    /// which a panic in it would end.
    #[must_use]
    pub fn on_change(mut self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.settings.on_change = Some(Arc::new(callback));
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

    /// Takes another strategy. The limit stays the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> AdaptiveConcurrencyLayer<Q> {
        self.map_protocol(|_| protocol)
    }

    /// Takes the deadline from the facts that a [`Call`](crate::call::Call) carries, inside a
    /// [`FactsLayer`](crate::call::FactsLayer).
    #[must_use]
    pub fn noted(self) -> AdaptiveConcurrencyLayer<Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Reads the class of callers that each request is of with `class`, which is asked only where
    /// classes have [`shares`](Self::shares), outside the lock. Default: what the protocol says.
    #[must_use]
    pub fn class<Req, F: for<'a> Fn(&'a Req) -> Option<&'a str>>(
        self,
        class: F,
    ) -> AdaptiveConcurrencyLayer<ClassFn<P, F>> {
        self.map_protocol(|inner| ClassFn::new(inner, class))
    }

    /// Reads each call's deadline with `deadline`.
    #[must_use]
    pub fn deadline<Req, F: Fn(&Req) -> Option<Instant>>(
        self,
        deadline: F,
    ) -> AdaptiveConcurrencyLayer<DeadlineFn<P, F>> {
        self.map_protocol(|inner| DeadlineFn::new(inner, deadline))
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, F: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: F,
    ) -> AdaptiveConcurrencyLayer<ClassifyFn<P, F>> {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A handle to this layer's limit as it is set now: a later setting makes a new one.
    #[must_use]
    pub fn handle(&self) -> AdaptiveConcurrencyHandle {
        AdaptiveConcurrencyHandle {
            admission: Arc::clone(&self.admission),
        }
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> AdaptiveConcurrencyLayer<Q> {
        AdaptiveConcurrencyLayer {
            admission: self.admission,
            settings: self.settings,
            protocol: map(self.protocol),
        }
    }

    fn renewed(mut self) -> Self {
        self.admission = self.settings.admission();
        self
    }
}

impl<S, P: Clone> Layer<S> for AdaptiveConcurrencyLayer<P> {
    type Service = AdaptiveConcurrency<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        AdaptiveConcurrency::new(inner, Arc::clone(&self.admission), self.protocol.clone())
    }
}

impl<P> fmt::Debug for AdaptiveConcurrencyLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConcurrencyLayer")
            .field("limits", &self.settings.limits)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
