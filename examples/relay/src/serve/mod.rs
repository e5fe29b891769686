//! `relay serve`: a gateway in front of pools of keys.
//!
//! Any request is sent on as it is, but for the credential: the caller's is taken out and one of
//! the pool's put in. Answers are passed back frame by frame. `config` says what there is,
//! `gateway` what happens to one request, `upstream` how it gets a key.

mod base_url;
mod callers;
mod client;
mod config;
mod format;
mod gateway;
mod headers;
mod logs;
mod passing;
mod paths;
mod pretend;
mod providers;
mod record;
mod refusal;
mod routes;
mod run;
mod server;
mod signals;
mod status;
mod timeouts;
mod upstream;
mod watch;

pub(crate) use self::{
    logs::is_json,
    run::{Options, Plan},
};
