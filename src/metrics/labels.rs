use std::sync::Arc;

#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency",
    feature = "circuit-breaker",
    feature = "retry"
))]
use ::metrics::{Counter, Gauge, counter, gauge};
use ::metrics::{Histogram, Label, SharedString, histogram};

/// What all metrics of one thing have in common, and what tells it from others of its kind: the
/// name of an upstream, of a host.
///
/// Each different set of values is a series of its own, kept by the recorder for ever: take
/// names that a configuration bounds, never what comes from a request.
///
/// ```
/// use tower_relay::{metrics::Labels, rate_limit::RateLimitLayer};
///
/// let handle = RateLimitLayer::per_second(50).handle();
/// handle.publish(&Labels::new().label("upstream", "openai"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Labels(Vec<Label>);

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// These labels and another.
    pub fn label(mut self, name: &'static str, value: impl Into<Arc<str>>) -> Self {
        let value = SharedString::from(value.into());
        self.0.push(Label::new(name, value));
        self
    }

    pub(crate) fn and(&self, name: &'static str, value: &'static str) -> Self {
        let mut labels = self.clone();
        labels.0.push(Label::from_static_parts(name, value));
        labels
    }

    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency",
        feature = "circuit-breaker",
        feature = "retry"
    ))]
    pub(crate) fn gauge(&self, name: &'static str) -> Gauge {
        gauge!(name, self.0.clone())
    }

    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency",
        feature = "circuit-breaker",
        feature = "retry"
    ))]
    pub(crate) fn counter(&self, name: &'static str) -> Counter {
        counter!(name, self.0.clone())
    }

    pub(crate) fn histogram(&self, name: &'static str) -> Histogram {
        histogram!(name, self.0.clone())
    }
}
