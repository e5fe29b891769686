//! `relay serve`: a gateway in front of pools of keys.
//!
//! Any request is sent on as it is, but for the credential: the caller's is taken out and one of
//! the pool's put in. Answers are passed back frame by frame. `gateway` is what happens to
//! one request, `upstream` one of those it may go to.

mod callers;
mod format;
mod gateway;
mod history;
mod logs;
mod metrics;
mod page;
mod passing;
mod ramps;
mod record;
mod refusal;
mod routes;
mod run;
mod server;
mod status;
mod timeouts;
mod upstream;
mod watch;

pub(crate) use self::{
    logs::is_json,
    run::{Options, Plan},
};
