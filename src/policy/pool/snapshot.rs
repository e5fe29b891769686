use std::sync::Arc;

use crate::policy::{Timestamp, Unit};

use super::{
    Pool, Totals,
    state::{Access, Credit, Key, Lane, Scope, Standing},
};

/// A scope at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSnapshot {
    name: Arc<str>,
    state: ScopeState,
    classes: Vec<ClassSnapshot>,
    keys: Vec<KeySnapshot>,
    in_flight: usize,
    totals: Totals,
}

/// One class of models in a scope at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSnapshot {
    models: Vec<Arc<str>>,
    rests_until: Option<Timestamp>,
    in_flight: usize,
    remaining: Vec<(Unit, i64)>,
    /// In millionths.
    headroom: u64,
}

/// A key at one instant: its alias, never its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySnapshot {
    alias: Arc<str>,
    state: KeyState,
    denied: Vec<Arc<str>>,
    in_flight: usize,
    totals: Totals,
}

/// Whether a scope is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeState {
    /// It is; its classes may rest.
    Open,
    /// Its credit is used up; one call is risked from this instant on.
    Exhausted(Timestamp),
    /// Its credit was used up, and the call that finds out is in flight.
    Probing,
    /// The place that it is called from is refused.
    Region,
}

/// Whether a key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// It is.
    Usable,
    /// Somebody disabled it, or it is drained.
    Disabled,
    /// It takes no new calls.
    Draining,
    /// The server refused it; it is tried again at this instant, if ever.
    Rejected(Option<Timestamp>),
    /// The server refused it, and its trial is due or in flight.
    OnTrial,
    /// It failed too often while others did well; single calls find out from this instant on.
    BreakerOpen(Timestamp),
    /// It failed too often, and single calls find out whether it does better.
    HalfOpen,
}

impl ScopeState {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Exhausted(_) => "exhausted",
            Self::Probing => "probing",
            Self::Region => "region",
        }
    }
}

impl KeyState {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Rejected(_) => "rejected",
            Self::OnTrial => "on_trial",
            Self::BreakerOpen(_) => "breaker_open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Pool {
    /// Every scope with its keys, in the order of the configuration.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Vec<ScopeSnapshot> {
        let scopes = self.order.iter();
        scopes
            .map(|&scope| self.scope_snapshot(&self.scopes[scope as usize], now))
            .collect()
    }

    fn scope_snapshot(&self, scope: &Scope, now: Timestamp) -> ScopeSnapshot {
        let lanes = scope.lanes.iter();
        let keys = scope.keys.iter();
        ScopeSnapshot {
            name: Arc::clone(&scope.name),
            state: match (scope.access, scope.credit) {
                (Access::Region, _) => ScopeState::Region,
                (_, Credit::Fine) => ScopeState::Open,
                (_, Credit::Spent(until)) => ScopeState::Exhausted(until),
                (_, Credit::Probing(_)) => ScopeState::Probing,
            },
            classes: lanes
                .map(|(models, lane)| class(models, &self.lanes[*lane as usize], now))
                .collect(),
            keys: keys
                .map(|&key| self.key_snapshot(&self.keys[key as usize]))
                .collect(),
            in_flight: scope.in_flight,
            totals: scope.totals,
        }
    }

    fn key_snapshot(&self, key: &Key) -> KeySnapshot {
        let denied = key.denied.iter();
        KeySnapshot {
            alias: Arc::clone(&key.alias),
            state: match key.standing {
                Standing::Usable => KeyState::Usable,
                Standing::Disabled | Standing::Removed => KeyState::Disabled,
                Standing::Draining => KeyState::Draining,
                Standing::Rejected(Timestamp::MAX) => KeyState::Rejected(None),
                Standing::Rejected(at) => KeyState::Rejected(Some(at)),
                Standing::OnTrial(_) => KeyState::OnTrial,
                Standing::Tripped(at) => KeyState::BreakerOpen(at),
                Standing::HalfOpen | Standing::Probing(_) => KeyState::HalfOpen,
            },
            denied: denied.map(|&model| self.models.name(model)).collect(),
            in_flight: key.in_flight,
            totals: key.totals,
        }
    }
}

fn class(models: &[Arc<str>], lane: &Lane, now: Timestamp) -> ClassSnapshot {
    let bucket = lane.bucket.as_ref();
    ClassSnapshot {
        models: models.to_vec(),
        rests_until: Some(lane.rest_until).filter(|&until| until > now),
        in_flight: lane.in_flight,
        remaining: bucket.map_or_else(Vec::new, |bucket| bucket.remaining(now)),
        headroom: lane.headroom(now),
    }
}

impl ScopeSnapshot {
    /// The scope's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is called.
    #[must_use]
    pub const fn state(&self) -> ScopeState {
        self.state
    }

    /// Its classes of models; the last is the one for all other models unless one was configured.
    #[must_use]
    pub fn classes(&self) -> &[ClassSnapshot] {
        &self.classes
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &[KeySnapshot] {
        &self.keys
    }

    /// Its calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How its calls ended.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl ClassSnapshot {
    /// The patterns of its models; none for the default class.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|pattern| &**pattern)
    }

    /// Until when it rests, if it does.
    #[must_use]
    pub const fn rests_until(&self) -> Option<Timestamp> {
        self.rests_until
    }

    /// Its calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What could be taken of each unit that is limited, negative in debt.
    #[must_use]
    pub fn remaining(&self) -> &[(Unit, i64)] {
        &self.remaining
    }

    /// The share that is left of its quota, in the dimension with the smallest, from 0 to 1.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        self.headroom as f64 / 1e6
    }
}

impl KeySnapshot {
    /// The key's alias.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// Whether it is used.
    #[must_use]
    pub const fn state(&self) -> KeyState {
        self.state
    }

    /// The models that it may not use.
    pub fn denied(&self) -> impl Iterator<Item = &str> {
        self.denied.iter().map(|model| &**model)
    }

    /// Its calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How its calls ended.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }
}
