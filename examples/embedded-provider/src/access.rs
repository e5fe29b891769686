//! Who calls, and what is true of a key and of a scope.

use crate::{
    clock::Timestamp,
    config::{Denial, Limits},
    counters::Counters,
    quota::Quota,
};
use std::collections::HashMap;

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
    pub(crate) denied: Denials,
}

#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) counters: Counters,
    pub(crate) quota: Quota,
    pub(crate) credit: Credit,
    pub(crate) denied: Denials,
}

/// By model.
pub(crate) type Denials = HashMap<String, Denial>;

/// Tokens that a scope has paid for; `None` is an account without an end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    granted: Option<u64>,
    left: Option<u64>,
}

impl ScopeState {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            counters: Counters::default(),
            quota: Quota::new(limits, now),
            credit: Credit::default(),
            denied: Denials::new(),
        }
    }
}

impl Credit {
    pub(crate) fn of(tokens: Option<u64>) -> Self {
        Self {
            granted: tokens,
            left: tokens,
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == Some(0)
    }

    /// The last call may take more than there is.
    pub(crate) fn charge(&mut self, tokens: u64) {
        self.left = self.left.map(|left| left.saturating_sub(tokens));
    }

    /// As it was granted.
    pub(crate) fn reset(&mut self) {
        self.left = self.granted;
    }
}
