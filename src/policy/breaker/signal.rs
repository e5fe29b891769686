use std::time::Duration;

use crate::outcome::{Hint, Outcome, Verdict};

/// What one call says about the health of what it called.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::{
///     outcome::{Outcome, Verdict},
///     policy::breaker::Signal,
/// };
///
/// let first_byte = Duration::from_millis(400);
/// let signal = |verdict| Signal::of(&Outcome::new(verdict), first_byte);
/// assert_eq!(signal(Verdict::Success), Signal::Success { first_byte });
/// assert_eq!(signal(Verdict::Overloaded), Signal::FAILURE);
/// assert_eq!(signal(Verdict::Throttled), Signal::Neutral);
///
/// let overloaded = Outcome::new(Verdict::Overloaded).after(Duration::from_secs(20));
/// let hint = Some(Duration::from_secs(20));
/// assert_eq!(Signal::of(&overloaded, first_byte), Signal::Failure { hint });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// It is well, if this was not too long.
    Success {
        /// How long the first byte of the answer took, from the instant of sending. Zero where
        /// nobody measured: never slow.
        first_byte: Duration,
    },
    /// It is not well.
    Failure {
        /// How long it wants to be left alone, if it said.
        hint: Option<Duration>,
    },
    /// Nothing: somebody else is to blame, or nobody knows.
    Neutral,
}

impl Signal {
    /// A failure without a hint.
    pub const FAILURE: Self = Self::Failure { hint: None };

    /// What an outcome says about the endpoint, its first byte having taken so long.
    ///
    /// | verdict | signal |
    /// |---|---|
    /// | success | success |
    /// | overloaded, server fault | failure, with the server's hint |
    /// | all others | neutral: limits, keys, the caller, ourselves |
    #[must_use]
    #[inline]
    pub const fn of(outcome: &Outcome, first_byte: Duration) -> Self {
        match outcome.verdict() {
            Verdict::Success => Self::Success { first_byte },
            Verdict::Overloaded | Verdict::ServerFault => Self::Failure {
                hint: match outcome.hint() {
                    Some(Hint::After(hint)) => Some(hint),
                    // Somebody further in deals with it.
                    Some(Hint::Absorbed(_)) | None => None,
                },
            },
            Verdict::Throttled
            | Verdict::Exhausted
            | Verdict::RampLimit
            | Verdict::KeyRejected
            | Verdict::ModelDenied
            | Verdict::Region
            | Verdict::CallerFault
            | Verdict::Cancelled
            | Verdict::RefusedLocally => Self::Neutral,
        }
    }
}
