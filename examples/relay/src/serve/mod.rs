//! `relay serve`: a gateway in front of pools of keys.
//!
//! Any request is sent on as it is, but for the credential: the caller's is taken out and one of
//! the pool's put in. Answers are passed back frame by frame. `gateway` is what happens to
//! one request, `upstream` one of those it may go to.

mod gateway;
mod metrics;
mod refusal;
mod routes;
mod run;
mod server;
mod status;
mod upstream;

pub(crate) use self::run::{Options, Plan};
