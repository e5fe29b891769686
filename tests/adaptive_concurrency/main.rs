//! The behaviour of the learned limit, in virtual time.
#![cfg(all(
    feature = "adaptive-concurrency",
    feature = "circuit-breaker",
    feature = "http",
    feature = "test-util"
))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod algorithms;
mod bodies;
mod cancellation;
mod contract;
mod history;
mod learning;
mod order;
mod support;
