//! The layer that reads responses, profiles as strategies, and request bodies that are replayed.
#![cfg(feature = "full")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the paused clock and sleep on it"
)]

mod allocations;
mod failures;
mod hostile;
mod passing;
mod replay;
mod strategies;
mod support;
