//! The provider over a real socket: forms on the wire, quotas, and the life of a call.
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]

mod capacity;
mod charging;
mod chat;
mod client;
mod formats;
mod in_process;
mod keys;
mod lifecycle;
mod quota;
mod refusals;
mod service;
mod wire;
