//! An LLM provider on loopback that enforces quotas of its own.
//!
//! A client-side limiter is only as good as the server's verdict on it, so this crate is that
//! server: real HTTP/1.1 on `127.0.0.1`, Anthropic's messages format, token buckets that refuse
//! with `429`, latency, streaming and injected faults. It shares no code with the limiter it
//! judges.
//!
//! - **Quotas belong to scopes**: all keys of a [`Scope`] draw on the same buckets, two scopes
//!   never do. A call is charged one request, its input tokens and its `max_tokens` at admission,
//!   all or nothing, and is never refunded; a refused call is charged nothing.
//! - **Time has a scale**: with [`Builder::time_scale`] the provider's clock runs faster than the
//!   real one, so a minute of quota passes in a second of test. Configuration and [`Counters`] are
//!   in provider time; what goes out on the wire (`retry-after`, `*-reset`) is in real time,
//!   because that is the clock a client has. Those headers are whole seconds, so a large scale
//!   makes the hints coarse.
//! - **Chance has a seed**: output lengths and faults are drawn in the order of admission from one
//!   seeded generator.
//!
//! ```
//! use embedded_provider::{Latency, Limits, Provider, Scope};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let limits = Limits {
//!     requests_per_minute: Some(600),
//!     input_tokens_per_minute: Some(40_000),
//!     ..Limits::default()
//! };
//! let provider = Provider::builder()
//!     .seed(7)
//!     .time_scale(10.0)
//!     .scope(Scope::new("org-a", ["key-1", "key-2"], limits))
//!     .latency(Latency {
//!         first_token: Duration::from_millis(300),
//!         per_token: Duration::from_millis(10),
//!     })
//!     .start()
//!     .await?;
//!
//! // Point any Anthropic client at `provider.url()`, run the load, then read the verdict:
//! let counters = provider.counters();
//! assert_eq!(counters.calls, counters.answered + counters.refused);
//! assert_eq!(provider.quota_used_share("org-a"), Some(0.0));
//! # Ok(())
//! # }
//! ```
//!
//! Known limits: one endpoint (`POST /v1/messages`), no cache tokens, tools or images, and output
//! is charged by `max_tokens` where Anthropic today counts it as it is produced.
#![allow(
    clippy::disallowed_methods,
    reason = "a server with a clock of its own, in clock.rs"
)]

mod access;
mod answer;
mod bucket;
mod builder;
mod clock;
mod config;
mod counters;
mod in_flight;
mod provider;
mod quota;
mod request;
mod server;
mod state;
mod wire;

pub use self::{
    builder::Builder,
    config::{Denial, Faults, InvalidConfig, Latency, Limits, Scope},
    counters::Counters,
    provider::Provider,
    request::{DEFAULT_OUTPUT_TOKENS, MAX_BODY_BYTES, MAX_OUTPUT_TOKENS, count_input_tokens},
};
