use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{
    CircuitBreaker, CircuitBreakerHandle, GateLayer,
    handle::{Settings, Shared},
};
use crate::{
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::breaker::{BreakerConfig, Transition},
    protocol::{ClassifyFn, Plain},
};

/// Keeps calls away from an endpoint that is down; see the [module](super) for the whole.
///
/// Every clone of the layer, every service that it builds and every clone of those share one
/// breaker. Settings make a new one: set first, then clone.
#[derive(Clone)]
pub struct CircuitBreakerLayer<P = Plain> {
    shared: Arc<Shared>,
    protocol: P,
}

impl CircuitBreakerLayer {
    /// A breaker with this configuration, for any service: every response is a success, every
    /// error but a local refusal a failure. For HTTP see [`http`](CircuitBreakerLayer::http).
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        let on_transition = None;
        Self {
            shared: shared(config, on_transition),
            protocol: Plain,
        }
    }
}

impl Default for CircuitBreakerLayer {
    /// [`CircuitBreakerLayer::new`] with the default configuration.
    fn default() -> Self {
        Self::new(BreakerConfig::default())
    }
}

fn shared(
    config: BreakerConfig,
    on_transition: Option<super::handle::OnTransition>,
) -> Arc<Shared> {
    Arc::new(Shared::new(Arc::new(Settings {
        config,
        on_transition,
    })))
}

impl<P> CircuitBreakerLayer<P> {
    /// Takes another configuration. It makes a new breaker, with the same callback.
    ///
    /// ```
    /// use tower_relay::{circuit_breaker::CircuitBreakerLayer, policy::breaker::BreakerConfig};
    ///
    /// let config = BreakerConfig::builder().consecutive_failures(3).build()?;
    /// let layer = CircuitBreakerLayer::default().config(config);
    /// assert_eq!(layer.handle().refused(), 0);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.shared = shared(config, self.shared.on_transition().cloned());
        self
    }

    /// Calls `callback` when the breaker opens, lets probes pass, closes or is set otherwise. It
    /// runs outside the lock and may use the handle; changes close together may reach it in any
    /// order. It runs in the task of some call, which a panic in it would end.
    #[must_use]
    pub fn on_transition(mut self, callback: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.shared = shared(self.shared.config().clone(), Some(Arc::new(callback)));
        self
    }

    /// Takes another strategy. The breaker stays the same.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> CircuitBreakerLayer<Q> {
        self.map_protocol(|_| protocol)
    }

    /// For calls that carry their facts, inside a [`FactsLayer`](crate::call::FactsLayer).
    #[must_use]
    pub fn noted(self) -> CircuitBreakerLayer<Noted<P>> {
        self.map_protocol(Noted::new)
    }

    /// Reads each call's outcome with `classify`.
    #[must_use]
    pub fn classify<Res, F: Fn(Result<&Res, &BoxError>) -> Outcome>(
        self,
        classify: F,
    ) -> CircuitBreakerLayer<ClassifyFn<P, F>> {
        self.map_protocol(|inner| ClassifyFn::new(inner, classify))
    }

    /// A layer that refuses while this breaker would, and tells it nothing: to stand outermost,
    /// so that callers fail at once instead of waiting in a queue for an endpoint that is down.
    pub fn gate(&self) -> GateLayer {
        GateLayer::new(Arc::clone(&self.shared))
    }

    /// A handle to this layer's breaker as it is set now: a later setting makes a new one.
    #[must_use]
    pub fn handle(&self) -> CircuitBreakerHandle {
        CircuitBreakerHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    fn map_protocol<Q>(self, map: impl FnOnce(P) -> Q) -> CircuitBreakerLayer<Q> {
        CircuitBreakerLayer {
            shared: self.shared,
            protocol: map(self.protocol),
        }
    }
}

impl<S, P: Clone> Layer<S> for CircuitBreakerLayer<P> {
    type Service = CircuitBreaker<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, Arc::clone(&self.shared), self.protocol.clone())
    }
}

impl<P> fmt::Debug for CircuitBreakerLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("breaker", &self.shared)
            .finish_non_exhaustive()
    }
}
