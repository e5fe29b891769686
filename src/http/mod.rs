//! The layers for HTTP: what a request costs and may, what a response means, and bodies that
//! hold a layer's guard to their end.
//!
//! # The problem
//!
//! An HTTP response is not over when its head arrives: a stream of tokens runs for a minute and
//! occupies a slot all the while, and what it used is known at its end. A limit that is released
//! at the head is no limit, and one that is never released after a dropped body is worse. What
//! a failure means stands in a dozen headers that every server writes in its own way.
//!
//! # Where it stands
//!
//! Nowhere by itself: [`Http`] is the [`Protocol`](crate::protocol::Protocol) that a layer is
//! given when requests and responses are HTTP.
//!
//! | protocol | guards live | and hear |
//! |---|---|---|
//! | [`Http`] | to the body's end | whether it came to its end |
//! | [`Reported`] | to the body's end | what the body [`Report`]s: usage, an error inside, completeness |
//! | [`UntilHead`] | to the head | nothing |
//!
//! # Example
//!
//! What a layer does with it, by hand:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower_relay::{
//!     error::BoxError,
//!     http::Http,
//!     outcome::{Idempotency, Outcome, Verdict},
//!     protocol::Protocol,
//! };
//!
//! type Call = Request<Full<Bytes>>;
//! type Answer = Response<Full<Bytes>>;
//! fn http() -> impl Protocol<Call, Answer> {
//!     Http
//! }
//!
//! assert_eq!(http().idempotency(&Call::default()), Idempotency::Idempotent);
//!
//! let mut answer = Answer::default();
//! *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
//! assert_eq!(http().classify(Ok(&answer)).verdict(), Verdict::Overloaded);
//!
//! // A layer that knows better says so, to all layers outside it.
//! http().annotate(&mut answer, Outcome::new(Verdict::Exhausted));
//! assert_eq!(http().classify(Ok(&answer)).verdict(), Verdict::Exhausted);
//! ```
//!
//! # Customised
//!
//! The adaptors of [`protocol`](crate::protocol) replace one answer and keep the rest; the
//! functions here are the parts:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower_relay::{
//!     http::{BytesPerToken, Http, input_tokens_by_size},
//!     policy::{Cost, Unit},
//!     protocol::{CostFn, Protocol},
//! };
//!
//! type Call = Request<Full<Bytes>>;
//! let ratio = BytesPerToken::new(3.5)?;
//! let protocol = CostFn::new(Http, move |call: &Call| {
//!     Cost::REQUEST.input_tokens(input_tokens_by_size(call, ratio)).output_tokens(500)
//! });
//! fn cost(protocol: &impl Protocol<Call, Response<Full<Bytes>>>, call: &Call) -> Cost {
//!     protocol.cost(call)
//! }
//! let call = Call::new("fourteen bytes".into());
//! assert_eq!(cost(&protocol, &call).get(Unit::INPUT_TOKENS), 4);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # The feedback path
//!
//! 1. *Head*: [`classify_head`] is a pure function of status and headers, for whoever needs it.
//!    A success costs one comparison; nothing is inserted into it.
//! 2. *Failure*: the [`Outcome`](crate::outcome::Outcome) in a response's extensions outranks
//!    the head, also beside a 200. An inner layer that has read the body puts it there, once.
//! 3. *End*: [`ResponseBody`] tells the guard how the answer ended; with [`Reported`] it is the
//!    body's own [`Report`], through any number of layers and without allocation, also when the
//!    caller drops the stream half-way.
//! 4. *Request*: [`Deadline`], [`Class`] and [`Resends`] are extensions of the request. They cost a map
//!    when they are used; a [`Call`](crate::call::Call) carries the same beside the request.
//!
//! A refusal of this crate becomes a response, 429, 413 or 503, by `Response::from(&rejected)`.
//!
//! # Limits
//!
//! - After an upgrade the guard has ended: the body of a 101 is empty, and what flows over the
//!   upgraded connection is not seen.
//! - A body that is kept and never polled keeps its guard. Time limits on bodies are the
//!   client's.
//! - Trailers are taken to be the last frame, as HTTP has it.
//! - A body whose poll panics, or that is dropped while its thread unwinds, releases its guard
//!   without a word of how it ended.

mod body;
mod classify;
#[cfg(feature = "key-rotation")]
mod credential;
#[cfg(feature = "key-rotation")]
mod endpoint;
pub(crate) mod hint;
mod layers;
mod protocol;
mod rejected;
#[cfg(feature = "retry")]
mod replay;
mod size;
#[cfg(feature = "stack")]
mod stack;
pub(crate) mod value;

#[cfg(all(feature = "key-rotation", feature = "provider"))]
pub(crate) use self::credential::put_credential;
#[cfg(feature = "retry")]
pub use self::replay::{ReplayBody, ReplayBuffer};
#[cfg(feature = "stack")]
pub use self::stack::{
    BoxedStackLayer, BoxedStackService, StackCircuitBreakerLayer, StackKeyRotationLayer,
    StackLayer, StackRetryLayer, StackService, stack,
};
pub use self::{
    body::{ReadEnding, Report, ResponseBody},
    classify::{classify_error, classify_head},
    hint::retry_hint,
    protocol::{Class, Deadline, Http, Reported, Resends, UntilHead},
    size::{BytesPerToken, input_tokens_by_size},
};
#[cfg(feature = "provider")]
pub(crate) use self::{
    classify::{advice, verdict},
    hint::Hints,
};
#[cfg(feature = "key-rotation")]
pub use self::{credential::Credential, endpoint::Endpoint};
