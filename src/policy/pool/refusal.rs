use std::{error::Error, fmt, sync::Arc};

use crate::policy::{CostTooLarge, Timestamp};

/// How many keys a refusal names; the rest it counts.
pub(super) const MOST_NAMED: usize = 32;

/// What a waiter finds in a pass over all waiters; see [`Pool::claim`](super::Pool::claim).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// It can be served, and could have been since this instant: take at once.
    Ready(Timestamp),
    /// It has claimed the scope that will serve it at this instant.
    At(Timestamp),
    /// It has claimed what the end of a call in flight will bring.
    OnRelease,
    /// All it could use is claimed by waiters before it.
    Nothing,
    /// It can never be served.
    Never(Unservable),
}

/// What the pool made of an outcome: whether its hint is for the caller to obey.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absorbed {
    /// The outcome is not about a key or a scope, or nothing could be kept away from; it stands
    /// as it is.
    Nothing,
    /// The pool keeps away from what failed; this very call can be served here from this instant
    /// on, which is the present if another key or scope is free.
    Again(Timestamp),
    /// The pool keeps away from what failed, and nothing else can serve this call.
    Never(Unservable),
}

/// Why a call can never be served, however long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unservable {
    /// It costs more than any scope ever admits at once.
    TooLarge(CostTooLarge),
    /// Every key is out for it.
    Nobody(NobodyCanServe),
}

/// Every key of the pool is out for a call, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NobodyCanServe {
    pub(super) keys: Vec<(Arc<str>, WhyNot)>,
    pub(super) unnamed: usize,
}

/// Why a key cannot serve a call, until somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyNot {
    /// The server refused the credential.
    Rejected,
    /// The key may not use this model.
    ModelDenied,
    /// The server refuses calls from where its scope is called from.
    Region,
    /// It was disabled.
    Disabled,
    /// It takes no new calls, so that it can be removed.
    Draining,
    /// Its scope's quota never admits so large a call.
    TooLarge,
}

impl NobodyCanServe {
    /// The aliases of the keys with why each is out; the first 32.
    pub fn keys(&self) -> impl Iterator<Item = (&str, WhyNot)> {
        self.keys.iter().map(|(alias, why)| (&**alias, *why))
    }
}

impl fmt::Display for NobodyCanServe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no key can serve the call: ")?;
        for (index, (alias, why)) in self.keys.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{alias} {why}")?;
        }
        match self.unnamed {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl Error for NobodyCanServe {}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "was rejected by the server",
            Self::ModelDenied => "may not use the model",
            Self::Region => "is refused for the region",
            Self::Disabled => "is disabled",
            Self::Draining => "is draining",
            Self::TooLarge => "has too small a quota",
        })
    }
}

impl fmt::Display for Unservable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(why) => why.fmt(f),
            Self::Nobody(why) => why.fmt(f),
        }
    }
}

impl Error for Unservable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::TooLarge(why) => why,
            Self::Nobody(why) => why,
        })
    }
}

/// A key or scope is not in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    pub(super) name: Arc<str>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing in the pool is called `{}`", self.name)
    }
}

impl Error for UnknownName {}

/// A change of state worth telling; see [`Pool::next_transition`](super::Pool::next_transition).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// A class of a scope rests until an instant.
    Rested {
        /// The scope.
        scope: Arc<str>,
        /// Until when.
        until: Timestamp,
    },
    /// A scope, or a class of it, is called again.
    Reopened {
        /// The scope.
        scope: Arc<str>,
    },
    /// The credit of a scope is used up.
    Exhausted {
        /// The scope.
        scope: Arc<str>,
        /// When a call is risked.
        until: Timestamp,
    },
    /// A scope is not called any more: the region is refused.
    Excluded {
        /// The scope.
        scope: Arc<str>,
    },
    /// A credential was refused.
    Rejected {
        /// The key.
        alias: Arc<str>,
        /// When it is tried again, if ever.
        retried: Option<Timestamp>,
    },
    /// A rejected key was accepted again.
    Accepted {
        /// The key.
        alias: Arc<str>,
    },
    /// A key fails too often while others do well: its breaker keeps calls from it.
    BreakerOpened {
        /// The key.
        alias: Arc<str>,
        /// From when on single calls find out whether it does better.
        until: Timestamp,
    },
    /// A key does well again, or is the last that is left: it serves as all others.
    BreakerClosed {
        /// The key.
        alias: Arc<str>,
    },
    /// A key may not use a model.
    Denied {
        /// The key.
        alias: Arc<str>,
        /// The model, as the caller named it.
        model: Arc<str>,
    },
    /// A draining key's last call has ended; the key is disabled.
    Drained {
        /// The key.
        alias: Arc<str>,
    },
}
