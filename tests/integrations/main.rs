//! The clients people use, behind the layers, against servers on loopback.
#![cfg(all(feature = "stack", feature = "rate-limit"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests against a real server run in real time"
)]

#[cfg(feature = "async-openai")]
mod async_openai;
#[cfg(feature = "async-openai")]
mod async_openai_errors;
mod axum;
#[cfg(feature = "hyper-util")]
mod hyper;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "reqwest")]
mod reqwest_errors;
mod support;
