use std::time::Duration;

use super::{Labels, QUEUE_WAIT};

/// Records how long calls wait in the histogram [`QUEUE_WAIT`]: for `on_wait` of a layer that waits.
/// `layer` is the layer's name, as its other metrics have it: "rate limit", "key rotation" or
/// "adaptive concurrency".
///
/// The histogram is that of the recorder that is installed now; install yours first.
///
/// ```
/// use tower_relay::{
///     adaptive_concurrency::AdaptiveConcurrencyLayer,
///     metrics::{Labels, waits},
///     policy::limit::Fixed,
/// };
///
/// let waits = waits("adaptive concurrency", &Labels::new());
/// let layer = AdaptiveConcurrencyLayer::new(Fixed::of(64)).on_wait(waits);
/// assert_eq!(layer.handle().limit(), 64);
/// ```
pub fn waits(layer: &'static str, labels: &Labels) -> impl Fn(Duration) + Send + Sync + 'static {
    let histogram = labels.and("layer", layer).histogram(QUEUE_WAIT);
    move |wait| histogram.record(wait.as_secs_f64())
}
