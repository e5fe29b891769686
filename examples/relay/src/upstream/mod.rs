//! What sends calls to providers, for whoever makes them.
//!
//! `labels` are by what their metrics are told apart, `stack` is the layers by which a call gets a key, `client` what is under them, `pretend` a
//! provider for those who have none.

mod client;
pub(crate) mod labels;
mod late;
mod models;
pub(crate) mod pretend;
mod stack;

pub(crate) use self::{
    client::{Carried, HttpClient},
    late::{Part, TimedOut},
    stack::{Body, Call, Stack, hosts, outcome_of},
};
