//! What the retry layer promises, one claim a test.
#![cfg(feature = "retry")]

mod contract;
mod decisions;
mod handle;
mod lifetime;
#[cfg(feature = "tracing")]
mod logs;
mod world;
