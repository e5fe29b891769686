//! What to build with the layers, and how to choose their numbers.
//!
//! Each chapter is a module without items. Its examples are tests.
//!
//! - [`ordering`]: the order of the layers, and what happens when two are swapped.
//! - [`whole_quota`]: what calls cost, who goes first, prompt caches, and quotas that nobody told.
//! - [`concurrency_limit`]: which limit of calls in flight for which server, or none.
//! - [`breaker_settings`]: when a circuit breaker opens, for how long, and for whom.
//! - [`observability`]: every event, field, metric and label, and what to do with them.
//! - `testing_policies`, with the feature `test-util`: policies alone, and layers in virtual time.
//! - [`running_the_relay`]: the gateway and the batch as programs.
//!
//! Coming from something else, with code before and after, what changes and what is lost:
//!
//! - [`from_tower`]: tower's `RateLimit`, `ConcurrencyLimit`, `Buffer` and `Retry`.
//! - [`from_governor`]: `governor`'s rate limiters.
//! - [`from_retry_loops`]: loops and sleeps written by hand.

pub mod breaker_settings;
pub mod concurrency_limit;
pub mod from_governor;
pub mod from_retry_loops;
pub mod from_tower;
pub mod observability;
pub mod ordering;
pub mod running_the_relay;
#[cfg(feature = "test-util")]
pub mod testing_policies;
pub mod whole_quota;
