//! Coming from a retry loop written by hand.
//!
//! A loop around a call, with a sleep that doubles, is what most programs begin with. Before and after,
//! at a server that asks to be left alone for half a minute:
//!
//! ```
//! use std::{sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}}, time::Duration};
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tokio::time::{Instant, sleep};
//! use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
//! use tower_relay::{error::BoxError, retry::RetryLayer};
//!
//! type Body = Empty<bytes::Bytes>;
//! type Client = BoxCloneService<Request<Body>, Response<Body>, BoxError>;
//!
//! /// Before.
//! async fn call_with_retries(client: Client, request: Request<Body>) -> Result<Response<Body>, BoxError> {
//!     let mut wait = Duration::from_millis(200);
//!     for _ in 0..4 {
//!         match client.clone().oneshot(request.clone()).await {
//!             Ok(response) if response.status().is_success() => return Ok(response),
//!             _ => sleep(wait).await,
//!         }
//!         wait *= 2;
//!     }
//!     client.oneshot(request).await
//! }
//!
//! /// How many calls a server has had that refuses for 30 s, and says so.
//! fn server() -> (Client, Arc<AtomicU32>) {
//!     let (sent, start) = (Arc::new(AtomicU32::new(0)), Instant::now());
//!     let count = Arc::clone(&sent);
//!     let client = service_fn(move |_: Request<Body>| {
//!         count.fetch_add(1, Relaxed);
//!         let left = Duration::from_secs(30).saturating_sub(start.elapsed());
//!         let response = match left.is_zero() {
//!             true => Response::builder(),
//!             false => Response::builder().status(429).header("retry-after", left.as_secs() + 1),
//!         };
//!         std::future::ready(response.body(Body::new()).map_err(BoxError::from))
//!     });
//!     (BoxCloneService::new(client), sent)
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let request = Request::get("http://localhost/v1/models").body(Body::new())?;
//! let (client, sent) = server();
//! let response = call_with_retries(client, request.clone()).await?;
//! assert_eq!((response.status().as_u16(), sent.load(Relaxed)), (429, 5), "five calls for nothing");
//!
//! // After.
//! let (client, sent) = server();
//! let service = RetryLayer::http().layer(client);
//! let response = service.oneshot(request).await?;
//! assert_eq!((response.status().as_u16(), sent.load(Relaxed)), (200, 2));
//! # Ok(())
//! # }
//! ```
//!
//! And at one that is down, a thousand calls in a row:
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_relay::{error::BoxError, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! static SENT: AtomicU32 = AtomicU32::new(0);
//! let down = service_fn(async |()| {
//!     SENT.fetch_add(1, Relaxed);
//!     Err::<(), _>(BoxError::from("connection refused"))
//! });
//! let service = RetryLayer::default().assume_idempotent().layer(down);
//! for _ in 0..1_000 {
//!     assert!(service.clone().oneshot(()).await.is_err());
//! }
//! // The loop would have sent 5,000.
//! let sent = SENT.load(Relaxed);
//! assert!((1_000..1_100).contains(&sent), "{sent}");
//! # }
//! ```
//!
//! # What changes
//!
//! - **Hints are obeyed**: `Retry-After` in each of its forms, never undercut. Without one the wait is random
//!   between nothing and a bound that doubles, so that callers who failed together do not
//!   come back together.
//! - **What may have had an effect is not repeated.** A POST that got a 500, or no answer, is sent again only if
//!   it is [known to be idempotent](crate::retry::RetryLayer::assume_idempotent), or has an
//!   `idempotency-key`. Loops mostly repeat it. Calls of language models may be repeated, and cost twice.
//! - **Retries stop when nothing succeeds.** They are paid from a
//!   [budget](crate::policy::RetryBudget) that successes fund, which keeps a recovering server from being
//!   held down: the scoreboard's R1 recovers in 30.1 s, without
//!   retries in 28.8 s, and with retries that nothing bounds not at all.
//! - **A wait that cannot end in time is not begun.** Deadline and
//!   [`max_elapsed`](crate::policy::RetryPolicyBuilder::max_elapsed) (ten minutes) bound the whole.
//! - **A 400 fails at once**, and so does whatever trying again does not mend.
//! - **Inner limits are asked again** for each attempt, and nothing of theirs is held meanwhile. A loop outside
//!   a limit is in order as well; a loop inside sends attempts that nobody counted. Take it out when the layer goes in:
//!   retries around retries multiply.
//!
//! The last failure is returned as it came: a response with its status, or the client's error. A refusal of a
//! layer inside is a [`Rejected`](crate::error::Rejected).
//!
//! # What you lose
//!
//! - *A retry after the answer began.* A body that breaks off, or that does not parse, is
//!   past the layer. Keep a loop for that around all, or have the body read by a service inside.
//! - *Changing the request between attempts*, another model after a refusal, say. That is a service of yours
//!   around the layer; another key is [key rotation](crate::key_rotation).
//! - *Requests that are not `Clone`* need a [`Replay`](crate::retry::Replay) of yours, or it does not compile.
//! - *Seeing the code that decides.* [`on_retry`](crate::retry::RetryLayer::on_retry) tells of each retry, the handle counts
//!   why calls were given up, and [`RetryPolicy`](crate::policy::RetryPolicy) is a value that can be
//!   tested; the chapter `testing_policies` shows how.
