//! Sends a failed request again, when that can help and does no harm.
//!
//! # What problem
//!
//! Calls of somebody else's API fail for reasons that pass: a limit that refills, a deploy, a
//! broken connection. Trying again hides them. Done without care it makes things worse: it
//! repeats what must not be repeated, comes back before the server's own `Retry-After`, waits
//! past the caller's deadline, keeps a connection open while it waits, and holds a server down
//! that could recover. [`RetryLayer`] does none of that: [`RetryPolicy`] has the rules, and
//! [`RetryBudget`] the proof that it stops when nothing succeeds any more.
//!
//! # Where in a stack
//!
//! Outside everything that admits, refuses or sends an attempt, so that each attempt asks them
//! anew and nothing of theirs is held during a wait; inside the layer that reads request facts:
//!
//! ```text
//! request facts -> retry -> key rotation, rate limit -> timeout of an attempt -> client
//! ```
//!
//! A layer inside that refuses with a time to come back, or says when it can serve the call
//! after all, is waited for without spending an attempt. A failure that is not retried is
//! returned as it was, and a hint that came with it is written beside it for whoever is outside.
//!
//! # With the defaults
//!
//! Without a protocol every error is a failure that may have had an effect, so that only
//! requests known to be idempotent are sent again:
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_relay::{error::BoxError, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! static SENT: AtomicU32 = AtomicU32::new(0);
//! let client = service_fn(|question: String| async move {
//!     match SENT.fetch_add(1, Ordering::Relaxed) {
//!         0 | 1 => Err(BoxError::from("connection reset")),
//!         _ => Ok(format!("{question} 42")),
//!     }
//! });
//!
//! let layer = RetryLayer::default().assume_idempotent();
//! let answer = layer.layer(client).oneshot("6 * 7?".to_owned()).await?;
//! assert_eq!(answer, "6 * 7? 42");
//! assert_eq!(layer.handle().snapshot().retries(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_relay::{
//!     error::BoxError,
//!     outcome::{Outcome, Verdict},
//!     policy::{Backoff, Growth, Reason, RetryBudget, RetryPolicy},
//!     retry::RetryLayer,
//! };
//!
//! enum Reply {
//!     Busy { seconds: u64 },
//!     Done,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let backoff = Backoff::new(Growth::Linear, Duration::from_millis(50), Duration::from_secs(2))?;
//! let policy = RetryPolicy::builder()
//!     .attempts(3)
//!     .max_elapsed(Duration::from_secs(30))
//!     .backoff(backoff)
//!     .build()?;
//! let layer = RetryLayer::new(policy)
//!     .classify(|reply: Result<&Reply, &BoxError>| match reply {
//!         Ok(Reply::Busy { seconds }) => {
//!             Outcome::new(Verdict::Throttled).after(Duration::from_secs(*seconds))
//!         }
//!         Ok(Reply::Done) => Outcome::SUCCESS,
//!         Err(_) => Outcome::new(Verdict::ServerFault),
//!     })
//!     .budget(RetryBudget::new(100, 10, 2)?)
//!     .on_retry(|event| println!("again in {:?}", event.wait()));
//!
//! // Half a minute is all there is, so a wait of forty seconds is not begun.
//! let busy = service_fn(|_: ()| async { Ok::<_, BoxError>(Reply::Busy { seconds: 40 }) });
//! let reply = layer.layer(busy).oneshot(()).await?;
//! assert!(matches!(reply, Reply::Busy { seconds: 40 }));
//! assert_eq!(layer.handle().snapshot().given_up(Reason::MaxElapsed), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # How it differs from `tower::retry`
//!
//! * Policies there decide on the result and make a future to wait on; here they decide on an
//!   [`Outcome`](crate::outcome::Outcome), which all layers share, and return an instant.
//! * Server hints, deadlines, idempotency and replay of bodies are part of the layer, not left
//!   to the policy's author.
//! * The budget is funded by successes and on by default; there it is funded by requests and a
//!   choice.
//! * The failed response is dropped before the wait, not after the next attempt is on its way.
//! * The last attempt does not copy the request, and the count of attempts travels with it.
//!
//! # Known limits
//!
//! * What fails after the response began is not retried: the caller has seen its first byte. A
//!   provider layer inside that holds heads back moves that instant.
//! * A request body that is not `Clone` needs a [`Replay`] of its own; for streams of HTTP there is
//!   `http::ReplayBuffer`.
//! * The time an attempt takes is not bounded; put a timeout inside, and its error is a failure
//!   like any other.
//! * On the last attempt a layer inside is not waited out, because the request went with it.
//! * A layer inside that refuses for now (a full queue, a wait beyond its `max_wait`) is waited
//!   out: only a deadline or `max_elapsed` bounds the whole, and the call joins the queue anew.
//! * Around a limiter whose queue is too short for its callers that becomes polling: all who were
//!   refused are told of the same next instant, one is served, the others are refused again. Let
//!   the queue hold them (`max_waiting`), where they wait in order and are woken once.
//! * Retries around retries multiply: the count of sends travels along, but each layer has its own
//!   attempts.
//! * The budget is one process's and one layer's. Give each endpoint a layer of its own, or a
//!   dead one spends what the others earn.
//!
//! [`RetryPolicy`]: crate::policy::RetryPolicy
//! [`RetryBudget`]: crate::policy::RetryBudget

mod future;
mod handle;
mod layer;
mod replay;
mod service;

pub use self::{
    future::ResponseFuture,
    handle::{RetryEvent, RetryHandle, RetrySnapshot},
    layer::RetryLayer,
    replay::{CloneReplay, Replay},
    service::Retry,
};
