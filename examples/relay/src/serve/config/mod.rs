//! The configuration: a TOML file that is right or refused as a whole, before anything is bound
//! or sent.

mod breaker;
mod concurrency;
mod key;
mod load;
mod problem;
mod quota;
mod reader;
mod scope;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    breaker::Breaker,
    concurrency::{Algorithm, Concurrency},
    key::Key,
    load::{Config, DEFAULT_LISTEN},
    problem::Problem,
    quota::ClassQuota,
    scope::Scope,
    upstream::Upstream,
};
