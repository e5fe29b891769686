//! The behaviour of the circuit breaker, in virtual time.
#![cfg(all(
    feature = "circuit-breaker",
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "retry",
    feature = "http",
    feature = "test-util"
))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod bodies;
mod contract;
mod half_open;
mod keyed;
mod listeners;
mod modes;
mod order;
mod outcomes;
mod retries;
mod support;
