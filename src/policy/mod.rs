//! The rules, without clock, lock or runtime.
//!
//! Every policy is a plain value that is told what time it is, so that a history can be played
//! to it in a test:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket};
//!
//! let quota = Quota::builder().requests_per_second(50).build()?;
//! let start = Timestamp::ZERO;
//! let mut bucket = TokenBucket::new(&quota, start);
//! assert_eq!(bucket.ready_at(&Cost::REQUEST)?, start);
//! bucket.take(&Cost::REQUEST, start);
//! assert_eq!(bucket.ready_at(&Cost::REQUEST)?, start + Duration::from_millis(20));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This module builds alone, with `--no-default-features`.

mod backoff;
pub mod breaker;
mod budget;
mod cost;
mod error;
mod estimate;
mod fair;
mod learned_rate;
pub mod limit;
pub mod pool;
mod quota;
mod ramp;
mod rate_search;
mod readings;
mod retry;
mod rng;
mod shares;
mod size;
mod timestamp;
mod token_bucket;

pub(crate) use self::fair::Part;
use self::timestamp::nanos;
pub use self::{
    backoff::{Backoff, Growth, Jitter, RetryCause},
    budget::{RetryBudget, Withdrawal},
    cost::{Cost, Unit},
    error::{CostTooLarge, InvalidConfig},
    estimate::{AnswerKind, Estimate, Estimator, Learned, Lesson, OutputEstimator},
    fair::Turns,
    learned_rate::LearnedRate,
    quota::{Quota, QuotaBuilder},
    ramp::{Ramp, RampSnapshot, RampState},
    rate_search::RateSearch,
    readings::{Reading, Readings},
    retry::{Attempts, Charge, Decision, Reason, RetryPolicy, RetryPolicyBuilder},
    rng::Rng,
    shares::{Shares, SharesBuilder},
    size::CallSize,
    timestamp::Timestamp,
    token_bucket::{Reservation, TokenBucket},
};
