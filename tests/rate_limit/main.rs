//! The behaviour of the rate limit, in virtual time.
#![cfg(all(feature = "rate-limit", feature = "test-util"))]
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![allow(missing_docs, reason = "a test's name is its claim")]

mod books;
mod cancellation;
mod contract;
mod crowd;
mod estimates;
mod keyed;
mod order;
mod quotas;
mod rates;
mod refusals;
mod search;
mod shares;
mod slots;
mod support;
