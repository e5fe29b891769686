//! Which key serves a call, and when: scopes, their quotas, their keys, and the health of each.
//!
//! placeholder

mod admit;
mod build;
mod config;
mod control;

mod health;
mod heap;
mod models;
mod refusal;
mod ring;
mod select;
mod snapshot;
mod state;
mod structure;
#[cfg(test)]
mod tests;
mod view;

pub use self::{
    admit::Settlement,
    config::{PoolConfig, PoolConfigBuilder, ScopeConfig, Strategy},
    control::Change,
    models::ModelId,
    refusal::{Absorbed, Claim, NobodyCanServe, Transition, UnknownName, Unservable, WhyNot},
    snapshot::{ClassSnapshot, KeySnapshot, KeyState, ScopeSnapshot, ScopeState},
    state::Totals,
    structure::{Ask, Pick, Pool},
};
