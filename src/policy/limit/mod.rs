//! How many calls may be in flight at once: limits that are set, and limits that learn.
//!
//! | algorithm | for | what it goes by |
//! |---|---|---|
//! | [`Fixed`] | a server whose capacity is known | nothing |
//! | [`SizedVegas`] | any server; **the default** | how many calls wait there, and refusals |
//! | [`Aimd`] | a server that refuses instead of queueing | refusals alone |
//! | [`PercentileTarget`] | a latency that was promised | how many calls exceed it, and refusals |
//!
//! All learn from [`Sample`]s alone and keep these rules:
//!
//! * A refusal, a failure or a cancelled call never raises a limit, and how long it took
//!   never counts. A single failure changes nothing; when everything fails, the limit falls to the
//!   lowest, and the first success leads it back by slow start.
//! * One burst of refusals is one cut, decided by when and under which limit the calls were sent.
//! * Calls sent well below the limit never raise it.
//! * Latency is compared with the server's own or with a target the user names, never with a
//!   built-in one. Windows last until they hold enough calls, so they work at any rate.
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Timestamp, limit::{Aimd, Bounds, LimitAlgorithm, Sample, Signal}};
//!
//! let mut limit = Aimd::new(Bounds::new(1..=100)?.starting_at(50)?);
//! let sent = Timestamp::ZERO;
//! let refused = Sample::new(Signal::Loss, sent, 50, limit.limit());
//! limit.record(&refused, sent + Duration::from_millis(80));
//! assert_eq!(limit.limit(), 45);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
mod aimd;
mod algorithm;
mod baseline;
mod bounds;
mod fixed;
mod losses;
mod percentile_target;
mod sample;
mod sized_vegas;
mod sizing;
mod window;

pub use self::{
    aimd::Aimd,
    algorithm::{Change, LimitAlgorithm, Reason, When},
    bounds::Bounds,
    fixed::Fixed,
    percentile_target::PercentileTarget,
    sample::{Sample, Signal},
    sized_vegas::SizedVegas,
};

#[cfg(test)]
mod tests;
