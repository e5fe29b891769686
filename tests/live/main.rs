//! A pool of keys before real clients and real servers.
#![cfg(all(feature = "stack", feature = "hyper-util"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests against a real server run in real time"
)]

#[cfg(all(feature = "circuit-breaker", feature = "adaptive-concurrency"))]
mod blackout;
#[cfg(feature = "adaptive-concurrency")]
mod capacity;
mod death;
mod judge;
mod models;
mod stack;
