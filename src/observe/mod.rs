//! A span and the histograms of whole calls, after OpenTelemetry's conventions for generative AI.
//!
//! # The problem
//!
//! How long a call took with all its attempts, when its answer began, what it used and how it
//! ended is known to no single layer: a retry layer does not see the body's end, and what stands
//! inside sees attempts. This layer stands outside of them and tells it once a call: as a `tracing`
//! span (feature `tracing`) and in the histograms of the `metrics` facade (feature `metrics`). It
//! decides nothing.
//!
//! # Where it stands
//!
//! Outermost, or right inside the [`FactsLayer`](crate::call::FactsLayer), which tells it the model.
//! The events of all layers inside are then in its span, which is a child of the caller's. No other
//! layer opens a span or keeps one: their events are in the span of whoever polls them, which is
//! what `TraceLayer` of `tower-http` and `Instrument` expect.
//!
//! # With defaults
//!
//! ```
//! use std::convert::Infallible;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::observe::ObserveLayer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(ObserveLayer::new("openai"))
//!     .service(service_fn(async |n: u32| Ok::<_, Infallible>(n + 1)));
//! assert_eq!(service.oneshot(1).await?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! ```
//! # #[cfg(feature = "provider")] {
//! use tower_relay::{
//!     call::FactsLayer,
//!     observe::ObserveLayer,
//!     provider::{Profile, ProviderLayer},
//!     retry::RetryLayer,
//! };
//!
//! let profile = Profile::anthropic();
//! let layers = (
//!     FactsLayer::new(profile.facts()),
//!     // Models that are not named here share a series: callers cannot invent any.
//!     ObserveLayer::of(&profile).models(["claude-opus-*", "claude-haiku-*"]).noted(),
//!     RetryLayer::default().protocol(profile.clone()).noted(),
//!     ProviderLayer::new(profile),
//! );
//! # let _ = layers;
//! # }
//! ```
//!
//! # Known limits
//!
//! - It costs allocations: a span, and the look-ups of up to four histograms a call.
//! - Events of a body that is read are in the span of whoever reads it; how the answer ended is
//!   recorded in the call's own.
//! - The label of the model is a pattern of [`models`](ObserveLayer::models), the span's is what the
//!   request said.

mod call;
mod future;
mod layer;
mod service;

pub use self::{call::Watch, future::ResponseFuture, layer::ObserveLayer, service::Observe};
