//! The behaviour of key rotation, in virtual time.
#![cfg(all(
    feature = "key-rotation",
    feature = "rate-limit",
    feature = "retry",
    feature = "test-util"
))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod affinity;
mod blackout;
mod blocking;
mod breakers;
mod cancellation;
mod contract;
mod endpoint;
mod errors;
mod estimates;
mod health;
mod history;
mod learned;
mod probing;
mod refusals;
mod reload;
mod resting;
#[cfg(feature = "tracing")]
mod secrets;
mod shares;
mod support;
mod transitions;
