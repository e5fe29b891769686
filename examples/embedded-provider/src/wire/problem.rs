//! What can be wrong with a call, before a format gives it a status and words.

use crate::{clock::Clock, config::Denial, counters::Outcome, quota::Refusal};
use std::time::Duration;

/// What a client that was refused for too many calls at a time is told to wait, in real time;
/// nobody knows when one of them ends.
const IN_FLIGHT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Problem {
    /// The body is not a JSON object, and why.
    Malformed(String),
    /// The body lacks a field.
    Missing(&'static str),
    /// A field or header is not what it should be.
    Wrong {
        name: &'static str,
        expected: String,
    },
    MissingKey,
    UnknownKey,
    NotFound,
    Method,
    TooLarge,
    /// Beyond the quota; `wait` is in real time.
    Refused {
        refusal: Refusal,
        wait: Duration,
        model: String,
    },
    /// The credit is spent.
    Exhausted,
    ModelNotFound(String),
    ModelForbidden(String),
    ServerError,
    Overloaded,
}

impl Problem {
    pub(crate) fn wrong(name: &'static str, expected: impl Into<String>) -> Self {
        Self::Wrong {
            name,
            expected: expected.into(),
        }
    }

    pub(crate) fn denied(model: String, denial: Denial) -> Self {
        match denial {
            Denial::NotFound => Self::ModelNotFound(model),
            Denial::Forbidden => Self::ModelForbidden(model),
        }
    }

    pub(crate) fn refused(refusal: Refusal, model: String, clock: &Clock) -> Self {
        let wait = match refusal {
            Refusal::Rate { wait, .. } => clock.real(wait),
            Refusal::InFlight { .. } => IN_FLIGHT_PAUSE,
        };
        Self::Refused {
            refusal,
            wait,
            model,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Malformed(_)
            | Self::Missing(_)
            | Self::Wrong { .. }
            | Self::NotFound
            | Self::Method
            | Self::TooLarge => Outcome::Invalid,
            Self::MissingKey | Self::UnknownKey => Outcome::Unauthorized,
            Self::Refused { .. } => Outcome::Refused,
            Self::Exhausted => Outcome::Exhausted,
            Self::ModelNotFound(_) | Self::ModelForbidden(_) => Outcome::Denied,
            Self::ServerError => Outcome::ServerError,
            Self::Overloaded => Outcome::Overloaded,
        }
    }

    /// Whether the answer shows the state of the quota; those do not that were turned away for a
    /// reason no quota has a part in.
    pub(crate) fn tells_limits(&self) -> bool {
        !matches!(
            self.outcome(),
            Outcome::Unauthorized | Outcome::Exhausted | Outcome::Denied
        )
    }
}
