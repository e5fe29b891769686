//! Rotation over a pool of keys: what a pool consists of, and what a protocol sees of a key.

mod key;
mod pool;
mod source;

/// How a protocol reads the secret of a [`Key`], without a dependency of its own.
pub use secrecy::{ExposeSecret, SecretString};

pub use self::{
    key::Key,
    pool::{KeyPool, KeyPoolBuilder, Scope},
    source::Source,
};
