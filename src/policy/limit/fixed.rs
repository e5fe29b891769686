use std::num::NonZeroUsize;

use super::{Change, LimitAlgorithm, Sample, When};
use crate::policy::Timestamp;

/// The limit that never changes: a semaphore, for a server whose capacity is known.
///
/// ```
/// use tower_relay::policy::limit::{Fixed, LimitAlgorithm};
///
/// assert_eq!(Fixed::of(40).limit(), 40);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fixed(NonZeroUsize);

impl Fixed {
    /// Always `limit`.
    #[must_use]
    pub const fn new(limit: NonZeroUsize) -> Self {
        Self(limit)
    }

    /// Always `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, which would admit nothing.
    #[must_use]
    #[track_caller]
    pub const fn of(limit: usize) -> Self {
        Self(NonZeroUsize::new(limit).expect("a limit of 0 admits nothing"))
    }
}

impl LimitAlgorithm for Fixed {
    fn limit(&self) -> usize {
        self.0.get()
    }

    fn record(&mut self, _: &Sample, _: Timestamp) -> Option<Change> {
        None
    }

    fn when(&self) -> When {
        When::Never
    }
}
