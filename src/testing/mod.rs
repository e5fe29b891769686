//! Services to put under a stack in a test: no network, virtual time, numbers to assert.
//!
//! [`Scripted`] answers as it is told and remembers when it was asked; [`ReadinessProbe`] panics
//! when an instance is called that was not ready.
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_relay::{
//!     rate_limit::RateLimitLayer,
//!     testing::{ReadinessProbe, Reply, Scripted},
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let server = Scripted::new(|n: &u32| Reply::after(Duration::from_millis(5), n + 1));
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::per_second(50))
//!     .service(ReadinessProbe::new(server.clone()));
//!
//! assert_eq!(service.clone().oneshot(1).await?, 2);
//! assert_eq!(service.oneshot(2).await?, 3);
//! assert_eq!(server.sent_after(), [Duration::ZERO, Duration::from_millis(20)]);
//! assert_eq!(server.peak_in_flight(), 1);
//! # Ok::<(), tower_relay::error::BoxError>(())
//! # })?;
//! # Ok::<(), tower_relay::error::BoxError>(())
//! ```

mod readiness;
mod scripted;

pub use self::{
    readiness::ReadinessProbe,
    scripted::{Reply, ReplyFuture, Scripted},
};
