//! A pool of keys before real clients and real servers.
#![cfg(all(feature = "stack", feature = "hyper-util"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests against a real server run in real time"
)]

mod death;
mod judge;
mod models;
mod stack;
