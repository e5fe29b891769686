//! Keeping calls away from an endpoint that is down, and finding out when it is back.
//!
//! # The problem
//!
//! A provider that is down is not helped by more calls, and its callers are not helped by waiting
//! for it to time out. A breaker counts how calls go, refuses them while the endpoint is down, and
//! lets a few pass from time to time to find out. The rules are those of
//! [`policy::breaker`](crate::policy::breaker): what counts, when it opens, for how long, and how
//! it closes.
//!
//! # Where it stands
//!
//! Inside whatever waits (rate limit, key rotation, adaptive concurrency), so that it is asked at
//! the instant of sending: callers who queued while the endpoint died do not reach it, and its
//! refusal refunds what admission took. Outside the timeout of an attempt, whose error it counts.
//! Those who would rather fail at once than queue put its [`gate`](CircuitBreakerLayer::gate)
//! outermost as well.
//!
//! A retry layer outside waits a refusal out until the breaker lets calls pass, and spends neither
//! an attempt nor budget on it.
//!
//! # With defaults
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     circuit_breaker::CircuitBreakerLayer,
//!     error::{BoxError, Rejected},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::default())
//!     .service(service_fn(async |_: ()| Err::<(), _>(BoxError::from("connection refused"))));
//!
//! // Five failures in a row open it.
//! for _ in 0..5 {
//!     let error = service.clone().oneshot(()).await.unwrap_err();
//!     assert!(Rejected::find(&*error).is_none());
//! }
//! let error = service.clone().oneshot(()).await.unwrap_err();
//! let rejected = Rejected::find(&*error).expect("the breaker refused");
//! assert!(rejected.retry_after().unwrap() >= Duration::from_millis(400));
//! # }
//! ```
//!
//! # Customised
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     circuit_breaker::CircuitBreakerLayer,
//!     error::{BoxError, Rejected},
//!     outcome::{Outcome, Verdict},
//!     policy::breaker::{BreakerConfig, Confidence, Mode, State},
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = BreakerConfig::builder()
//!     .window(Duration::from_secs(60))
//!     .lower_bound(0.3, Confidence::P95)
//!     .slow_calls(Duration::from_secs(20), 0.8, 10)
//!     .build()?;
//! let breaker = CircuitBreakerLayer::new(config)
//!     .on_transition(|change| println!("{change:?}"))
//!     .classify(|result: Result<&u16, &BoxError>| match result {
//!         Ok(529) => Outcome::new(Verdict::Overloaded),
//!         Ok(_) => Outcome::SUCCESS,
//!         Err(_) => Outcome::new(Verdict::ServerFault),
//!     });
//! let handle = breaker.handle();
//! let service = ServiceBuilder::new()
//!     .layer(breaker.gate())
//!     .layer(breaker)
//!     .service(service_fn(async |status: u16| Ok::<_, BoxError>(status)));
//!
//! assert_eq!(service.clone().oneshot(529).await?, 529);
//! assert_eq!(handle.snapshot().failures(), 1);
//! handle.set_mode(Mode::ForcedOpen);
//! let error = service.clone().oneshot(200).await.unwrap_err();
//! assert!(matches!(Rejected::find(&*error), Some(Rejected::BreakerOpen(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # What differs
//!
//! Tower has no breaker; `tower::load_shed` refuses while the inner service is not ready, whatever
//! becomes of the calls. A limit (429) neither opens nor closes this one. An open breaker is
//! ready, so a balancer or a buffer around it keeps its place.
//!
//! # Known limits
//!
//! - A call that hangs shows only when it ends: bound the time of an attempt inside.
//! - An answer that fails after its head counts when that is seen: with
//!   [`Reported`](crate::http::Reported) bodies, or where the body breaks off.
//! - The service asked for readiness while the breaker was open refuses that one call also if it
//!   would pass by now: the inner service was not asked.
//! - One that was ready and whose call is refused keeps what the inner service reserved for it,
//!   as a permit of `tower::limit`, until its next call or its end.

mod future;
mod gate;
mod handle;
mod keyed;
mod layer;
mod service;

pub use self::{
    future::{Permit, ResponseFuture},
    gate::{Gate, GateFuture, GateLayer},
    handle::CircuitBreakerHandle,
    keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer},
    layer::CircuitBreakerLayer,
    service::CircuitBreaker,
};
