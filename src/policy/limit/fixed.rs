use std::num::NonZeroUsize;

use super::{Change, LimitAlgorithm, Sample, When};
use crate::policy::Timestamp;

/// The limit that never changes: a semaphore, for a server whose capacity is known.
///
/// ```
/// use std::num::NonZeroUsize;
/// use tower_relay::policy::limit::{Fixed, LimitAlgorithm};
///
/// let limit = Fixed::new(NonZeroUsize::new(40).expect("it is not zero"));
/// assert_eq!(limit.limit(), 40);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fixed(NonZeroUsize);

impl Fixed {
    /// Always `limit`.
    #[must_use]
    pub const fn new(limit: NonZeroUsize) -> Self {
        Self(limit)
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
