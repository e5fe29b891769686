//! Composable Tower middleware for calling other people's rate-limited, failing APIs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod outcome;
pub mod policy;

#[cfg(feature = "rate-limit")]
mod admit;
#[cfg(feature = "_service")]
pub mod call;
#[cfg(feature = "_service")]
mod clock;
#[cfg(feature = "_service")]
pub mod error;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "_service")]
pub mod protocol;
#[cfg(feature = "provider")]
pub mod provider;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "rate-limit")]
pub mod snapshot;
#[cfg(feature = "test-util")]
pub mod testing;
