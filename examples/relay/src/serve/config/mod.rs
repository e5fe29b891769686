//! The configuration: a TOML file that is right or refused as a whole, before anything is bound
//! or sent.

mod breaker;
mod concurrency;
mod front;
mod key;
mod load;
mod problem;
mod quota;
mod reader;
mod scope;
mod timeouts;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    breaker::Breaker,
    concurrency::{Algorithm, Concurrency},
    front::{Front, Limits},
    key::Key,
    load::{Config, DEFAULT_LISTEN},
    quota::ClassQuota,
    scope::Scope,
    timeouts::Timeouts,
    upstream::{Http2, Upstream},
};
