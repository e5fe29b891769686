use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    RateLimit, RateLimitHandle, Transition,
    handle::{Metered, Settings},
};
use crate::{
    admit::Admission,
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::{Cost, Estimator, Quota, Shares, Unit},
    protocol::{ClassFn, ClassifyFn, CostFn, DeadlineFn, Plain},
};

/// Limits the calls of a service to a [`Quota`]; see the [module](super) for the whole.
///
/// Every clone of the layer, every service that it builds and every clone of those share one
/// limit. Settings make a new one: set first, then clone.
#[derive(Clone)]
pub struct RateLimitLayer<P = Plain> {
    admission: Arc<Admission<Metered>>,
    quota: Quota,
    settings: Settings,
    protocol: P,
}

impl RateLimitLayer {
    /// A limit to `quota`; each call costs one request until [`cost`](Self::cost) says more.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        let settings = Settings::default();
        Self {
            admission: settings.admission(&quota),
            quota,
            settings,
            protocol: Plain,
        }
    }

    /// At most `requests` per second, paced evenly.
    ///
    /// # Panics
    ///
    /// If `requests` is zero. Numbers from outside go through [`Quota::builder`], whose errors
    /// are values.
    #[must_use]
    #[track_caller]
    pub fn per_second(requests: u64) -> Self {
        Self::new(written(
            Quota::builder().requests_per_second(requests).build(),
        ))
    }

    /// At most `requests` per minute, paced evenly.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    #[must_use]
    #[track_caller]
    pub fn per_minute(requests: u64) -> Self {
        Self::new(written(
            Quota::builder().requests_per_minute(requests).build(),
        ))
    }

    /// At most `requests` per hour, paced evenly.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    #[must_use]
    #[track_caller]
    pub fn per_hour(requests: u64) -> Self {
        Self::new(written(
            Quota::builder().requests_per_hour(requests).build(),
        ))
    }
}

impl<P> RateLimitLayer<P> {
    /// Lets idle time save up as many as `requests`, which may then be sent at once. Default:
    /// one, so that calls are paced.
    ///
    /// # Panics
    ///
    /// If `requests` is zero, or the quota has no continuous limit of requests.
    #[must_use]
    #[track_caller]
    pub fn burst(self, requests: u64) -> Self {
        let quota = written(self.quota.clone().with_burst(Unit::REQUESTS, requests));
        Self { quota, ..self }.renewed()
    }

    /// How many calls may wait; one more is refused at once. Zero refuses whatever cannot be
    /// admitted at once. Default: 10,000. A retry layer outside waits a refusal out.
    #[must_use]
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.settings.limits.max_waiting = calls;
        self.renewed()
    }

    /// Shares the quota among classes of callers while calls wait, instead of serving them in the
    /// order of arrival. Which class a call is of, [`class`](Self::class) or the protocol says. Default:
    /// none. For what a share is see [`Shares`] and the [module](super#shares).
    ///
    /// ```
    /// use tower_relay::{policy::Shares, rate_limit::RateLimitLayer};
    ///
    /// let shares = Shares::builder().class("interactive", 20).class("batch", 80).build()?;
    /// let layer = RateLimitLayer::per_minute(600)
    ///     .shares(shares)
    ///     .class(|request: &(&'static str, u64)| Some(request.0));
    /// let handle = layer.handle();
    /// assert_eq!(handle.shares()[2].name(), Some("batch"));
    /// assert_eq!(handle.shares()[2].waiting(), 0);
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

    /// Reserves what `estimator` expects of a call, where the protocol tells its
    /// [size](crate::protocol::Protocol::size), and lets it learn from the usage of complete answers.
    /// What is reserved is settled by the real usage as ever. Default: a call costs what it says.
    ///
    /// ```
    /// use tower_relay::{policy::{Estimator, Quota}, rate_limit::RateLimitLayer};
    ///
    /// let quota = Quota::builder().output_tokens_per_minute(80_000).build()?;
    /// let layer = RateLimitLayer::new(quota).estimate(Estimator::new());
    /// let learned = layer.handle().learned(Some("m")).expect("it estimates");
    /// assert_eq!((learned.answers(), learned.input_ratio()), (0, None));
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn estimate(mut self, estimator: Estimator) -> Self {
        self.settings.estimator = Some(estimator);
        self.renewed()
    }

    /// Calls `callback` when calls begin to wait and when none waits any more. It runs outside
    /// the lock and may use the handle; two changes close together may reach it in any order. It
    /// runs in the task of some call, which a panic in it would end.
    #[must_use]
    pub fn on_transition(mut self, callback: impl Fn(Transition) + Send + Sync + 'static) -> Self {
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

    /// Takes another strategy. The limit stays the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> RateLimitLayer<Q> {
        self.map_protocol(|_| protocol)
    }

    /// Takes the cost and the deadline from the facts that a [`Call`](crate::call::Call) carries,
    /// inside a [`FactsLayer`](crate::call::FactsLayer). A [`cost`](Self::cost) set before has no
    /// effect then; one set after reads the call.
    #[must_use]
    pub fn noted(self) -> RateLimitLayer<Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Charges what `cost` says, instead of one request.
    #[must_use]
    pub fn cost<Req, F: Fn(&Req) -> Cost>(self, cost: F) -> RateLimitLayer<CostFn<P, F>> {
        self.map_protocol(|inner| CostFn::new(inner, cost))
    }

    /// Reads the class of callers that each request is of with `class`, which is asked only where
    /// classes have [`shares`](Self::shares), outside the lock. Default: what the protocol says.
    #[must_use]
    pub fn class<Req, F: for<'a> Fn(&'a Req) -> Option<&'a str>>(
        self,
        class: F,
    ) -> RateLimitLayer<ClassFn<P, F>> {
        self.map_protocol(|inner| ClassFn::new(inner, class))
    }

    /// Reads each call's deadline with `deadline`.
    #[must_use]
    pub fn deadline<Req, F: Fn(&Req) -> Option<Instant>>(
        self,
        deadline: F,
    ) -> RateLimitLayer<DeadlineFn<P, F>> {
        self.map_protocol(|inner| DeadlineFn::new(inner, deadline))
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, F: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: F,
    ) -> RateLimitLayer<ClassifyFn<P, F>> {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A handle to this layer's limit as it is set now: a later setting makes a new one.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle {
            admission: Arc::clone(&self.admission),
        }
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> RateLimitLayer<Q> {
        RateLimitLayer {
            admission: self.admission,
            quota: self.quota,
            settings: self.settings,
            protocol: map(self.protocol),
        }
    }

    fn renewed(mut self) -> Self {
        self.admission = self.settings.admission(&self.quota);
        self
    }
}

/// The value of a configuration that is written in the program.
#[track_caller]
fn written<T>(result: Result<T, crate::policy::InvalidConfig>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl<S, P: Clone> Layer<S> for RateLimitLayer<P> {
    type Service = RateLimit<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, Arc::clone(&self.admission), self.protocol.clone())
    }
}

impl<P> fmt::Debug for RateLimitLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("quota", &self.quota)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
