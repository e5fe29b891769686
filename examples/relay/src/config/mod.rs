//! The configuration: a TOML file that is right or refused as a whole, before anything is bound
//! or sent.

mod base_url;
mod breaker;
mod concurrency;
mod front;
mod key;
mod load;
mod paths;
mod problem;
mod providers;
mod quota;
mod reader;
mod scope;
mod timeouts;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    base_url::BaseUrl,
    breaker::Breaker,
    concurrency::{Algorithm, Concurrency},
    front::{Front, Limits},
    key::Key,
    load::{Config, DEFAULT_LISTEN},
    paths::Pattern,
    providers::Provider,
    quota::ClassQuota,
    scope::Scope,
    timeouts::Timeouts,
    upstream::{Http2, Upstream},
};
