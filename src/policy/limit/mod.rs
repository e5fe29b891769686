//! How many calls may be in flight at once: limits that learn.
mod aimd;
mod algorithm;
mod bounds;
mod fixed;
mod losses;
mod sample;
mod sized_vegas;
mod sizing;
mod window;

pub use self::{
    aimd::Aimd,
    algorithm::{Change, LimitAlgorithm, Reason, When},
    bounds::Bounds,
    fixed::Fixed,
    sample::{Sample, Signal},
    sized_vegas::SizedVegas,
};
