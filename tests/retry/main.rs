//! What the retry layer promises, one claim a test.
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![cfg(feature = "retry")]

mod contract;
mod decisions;
mod handle;
mod lifetime;
#[cfg(feature = "tracing")]
mod logs;
mod world;
