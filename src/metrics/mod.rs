//! Metrics of the layers, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! # The problem
//!
//! What a layer has done and is doing has to get to Prometheus or wherever metrics are collected,
//! under names that are the same for every layer. The layers count anyway, and a call through the
//! facade costs as much as a whole layer does. So no layer records anything while calls pass:
//! handles *publish* what their layers have counted, when somebody asks.
//!
//! | what | how | when |
//! |---|---|---|
//! | gauges and totals of a layer | `publish` of its handle | when metrics are collected, or every few seconds |
//! | how long calls waited | [`waits`] for a layer's `on_wait` | as calls that waited are admitted |
//! | duration, tokens and time to the first byte of calls | [`ObserveLayer`](crate::observe::ObserveLayer) | as calls end |
//!
//! # With defaults
//!
//! ```
//! use metrics_util::debugging::DebuggingRecorder;
//! use tower_relay::{
//!     metrics::{Labels, describe, waits},
//!     rate_limit::RateLimitLayer,
//! };
//!
//! // In a program this is that of an exporter, installed for the whole process.
//! let recorder = DebuggingRecorder::new();
//! let snapshotter = recorder.snapshotter();
//! metrics::with_local_recorder(&recorder, || {
//!     describe();
//!     let labels = Labels::new().label("upstream", "openai");
//!     let layer = RateLimitLayer::per_second(50).on_wait(waits("rate limit", &labels));
//!     // Whenever metrics are collected:
//!     layer.handle().publish(&labels);
//! });
//! let metrics = snapshotter.snapshot().into_vec();
//! let named = |name| metrics.iter().any(|(key, ..)| key.key().name() == name);
//! assert!(named("tower_relay.queue.waiting"));
//! assert!(named("tower_relay.quota.remaining"));
//! ```
//!
//! # Names
//!
//! All names, their units and their labels are in the guide's chapter on observability. Labels are
//! bounded by the configuration: scopes, aliases of keys, classes of models; never a secret.
//!
//! # Known limits
//!
//! - The facade cannot take a series back. What a reload has removed stays as it was last
//!   published, unless the exporter forgets what is idle.
//! - Totals are those of the handle's state: two states published under the same labels, or a new
//!   one after an old one, show the larger.
//! - Keyed limiters and maps of breakers publish nothing by themselves: their keys may be the
//!   callers'.

mod labels;
mod names;
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency",
    feature = "circuit-breaker",
    feature = "retry"
))]
mod publish;
mod waits;

pub use self::{
    labels::Labels,
    names::{
        DURATION_BUCKETS, OPERATION_DURATION, QUEUE_WAIT, TIME_TO_FIRST_BYTE, TOKEN_BUCKETS,
        TOKEN_USAGE, describe,
    },
    waits::waits,
};
