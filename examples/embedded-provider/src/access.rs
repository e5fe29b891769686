//! Who calls, and what is true of a key and of a scope.

use crate::{clock::Timestamp, config::Limits, counters::Counters, quota::Quota};

/// A known key and its scope, by their positions in the order of configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) scope: usize,
    pub(crate) key: usize,
}

#[derive(Debug, Default)]
pub(crate) struct KeyState {
    pub(crate) counters: Counters,
    pub(crate) revoked: bool,
}

#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) counters: Counters,
    pub(crate) quota: Quota,
}

impl ScopeState {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            counters: Counters::default(),
            quota: Quota::new(limits, now),
        }
    }
}
