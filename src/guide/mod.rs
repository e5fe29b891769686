//! What to build with the layers, and how to choose their numbers.
//!
//! Each chapter is a module without items. Its examples are tests.
//!
//! - [`breaker_settings`]: when a circuit breaker opens, for how long, and for whom.
//! - [`concurrency_limit`]: which limit of calls in flight for which server, or none.
//! - [`observability`]: every event, field, metric and label, and what to do with them.
//! - [`ordering`]: the order of the layers, and what happens when two are swapped.

pub mod breaker_settings;
pub mod concurrency_limit;
pub mod observability;
pub mod ordering;
