//! The configuration: a TOML file that is right or refused as a whole, before anything is bound
//! or sent.

mod affinity;
mod base_url;
mod breaker;
mod concurrency;
mod estimate;
mod front;
mod key;
mod load;
mod paths;
mod problem;
mod providers;
mod quota;
mod reader;
mod scope;
mod shares;
mod timeouts;
mod unknown;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    affinity::Affinity,
    base_url::BaseUrl,
    breaker::Breaker,
    concurrency::{Algorithm, Concurrency},
    estimate::Estimate,
    front::{Front, Limits, Token},
    key::Key,
    load::{Config, DEFAULT_LISTEN},
    paths::Pattern,
    providers::Provider,
    quota::ClassQuota,
    scope::Scope,
    shares::fits_header,
    timeouts::Timeouts,
    upstream::{Http2, Upstream},
};
