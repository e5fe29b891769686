//! Why a layer refused a call.
//!
//! Every layer's error is a [`BoxError`]: the inner service's own error, or a [`Rejected`].

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{
    outcome::Outcome,
    policy::{
        CostTooLarge,
        breaker::{Refusal, Refused},
        pool::{NobodyCanServe, Unservable},
    },
};

/// The error of every layer.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A layer of this crate refused the call; the server was not asked.
///
/// Find it in any error with [`Rejected::find`], however many layers have wrapped it:
///
/// ```
/// use tower_relay::error::{BoxError, Rejected};
///
/// fn come_back_in(error: &BoxError) -> Option<std::time::Duration> {
///     Rejected::find(&**error)?.retry_after()
/// }
/// assert_eq!(come_back_in(&"some other error".into()), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// Too many calls wait already.
    QueueFull(QueueFull),
    /// The call cannot be admitted before its deadline or within the longest wait allowed.
    TooLate(TooLate),
    /// The call costs more than can ever be admitted at once.
    CostTooLarge(CostTooLarge),
    /// A keyed limiter holds as many keys as it may, all of them in use.
    TooManyKeys(TooManyKeys),
    /// A circuit breaker keeps calls away from an endpoint that is down.
    BreakerOpen(BreakerOpen),
    /// Every credential of a pool is out for this call, until somebody changes something.
    NobodyCanServe(NobodyCanServe),
}

impl Rejected {
    /// The refusal in `error` or in what caused it.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find(error)
    }

    /// The name of the refusal that logs show, in snake case: `error.type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::QueueFull(_) => "queue_full",
            Self::TooLate(_) => "too_late",
            Self::CostTooLarge(_) => "cost_too_large",
            Self::TooManyKeys(_) => "too_many_keys",
            Self::BreakerOpen(_) => "breaker_open",
            Self::NobodyCanServe(_) => "nobody_can_serve",
        }
    }

    /// How long to wait before the same call can be admitted, counted from the refusal: the
    /// real remainder, never zero. Where it depends on when other calls end, it is an estimate:
    /// as long as they have taken on average. `None` if it can never be admitted.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull(full) => Some(full.retry_after),
            Self::TooLate(late) => Some(late.retry_after),
            Self::CostTooLarge(_) | Self::NobodyCanServe(_) => None,
            Self::BreakerOpen(open) => open.refusal.retry_after(),
            Self::TooManyKeys(full) => Some(full.retry_after),
        }
    }
}

/// The first error of this type in `error` and in what caused it.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = cause(error);
    }
    None
}

/// What caused `error`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // Its `Boxed` names as its source that of the error in it, not that error.
    #[cfg(feature = "async-openai")]
    if let Some(async_openai::error::OpenAIError::Boxed(boxed)) = error.downcast_ref() {
        return Some(&**boxed);
    }
    error.source()
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull(leaf) => leaf.fmt(f),
            Self::TooLate(leaf) => leaf.fmt(f),
            Self::CostTooLarge(leaf) => leaf.fmt(f),
            Self::TooManyKeys(leaf) => leaf.fmt(f),
            Self::NobodyCanServe(leaf) => leaf.fmt(f),
            Self::BreakerOpen(leaf) => leaf.fmt(f),
        }
    }
}

impl Error for Rejected {}

impl From<Unservable> for Rejected {
    fn from(why: Unservable) -> Self {
        match why {
            Unservable::TooLarge(leaf) => Self::CostTooLarge(leaf),
            Unservable::Nobody(leaf) => Self::NobodyCanServe(leaf),
        }
    }
}

/// A wait as a person reads it: in whole milliseconds, rounded up, where there are any.
fn shown(wait: Duration) -> Duration {
    let millis = wait.as_millis() as u64;
    let is_whole = wait == Duration::from_millis(millis);
    match millis {
        0 => wait,
        _ if is_whole => wait,
        _ => Duration::from_millis(millis.saturating_add(1)),
    }
}

/// As many calls wait as `max_waiting` allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFull {
    pub(crate) layer: &'static str,
    pub(crate) waiting: usize,
    pub(crate) retry_after: Duration,
}

impl QueueFull {
    /// How many calls wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// How long until a call would be admitted if it could join the queue now.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layer,
            waiting,
            retry_after,
        } = self;
        match waiting {
            0 => write!(f, "{layer} refused: its limit is spent")?,
            n => write!(f, "{layer} refused: {n} calls wait already")?,
        }
        write!(f, ", admission in {:?}", shown(*retry_after))
    }
}

impl Error for QueueFull {}

/// Admission would come after the caller's deadline or take longer than `max_wait`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLate {
    pub(crate) layer: &'static str,
    pub(crate) bound: Duration,
    pub(crate) retry_after: Duration,
}

impl TooLate {
    /// How long the call would have waited at the most.
    #[must_use]
    pub const fn bound(&self) -> Duration {
        self.bound
    }

    /// How long until admission is expected.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layer,
            bound,
            retry_after,
        } = self;
        let (wait, bound) = (shown(*retry_after), shown(*bound));
        if wait > bound {
            return write!(
                f,
                "{layer} refused: admission in {wait:?}, later than the {bound:?} this call can wait"
            );
        }
        write!(
            f,
            "{layer} refused: not admitted within the {bound:?} this call can wait, \
             admission in about {wait:?}"
        )
    }
}

impl Error for TooLate {}

/// A keyed limiter is full of keys whose quota is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooManyKeys {
    pub(crate) layer: &'static str,
    pub(crate) keys: usize,
    pub(crate) retry_after: Duration,
}

impl TooManyKeys {
    /// How many keys are held.
    #[must_use]
    pub const fn keys(&self) -> usize {
        self.keys
    }

    /// How long until the first of them can be forgotten, as far as is known.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for TooManyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, keys, .. } = self;
        write!(f, "{layer} refused: all {keys} keys it may hold are in use")
    }
}

impl Error for TooManyKeys {}

/// A circuit breaker refused the call: what it would have reached is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerOpen {
    pub(crate) refusal: Refusal,
}

impl BreakerOpen {
    /// Why the call was refused.
    #[must_use]
    pub const fn why(&self) -> Refused {
        self.refusal.why()
    }

    /// When to ask again: the rest of the time open, or a part of a probe's lease. `None` if the
    /// breaker was forced open.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.refusal.retry_after()
    }
}

impl fmt::Display for BreakerOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why() {
            Refused::Open => "the endpoint is down",
            Refused::HalfOpen => "it is being found out whether the endpoint is back",
            Refused::Ramp => "the endpoint has just come back",
            Refused::Forced => "it was forced open",
        };
        write!(f, "circuit breaker refused: {why}")?;
        match self.retry_after() {
            Some(wait) => write!(f, ", ask again in {:?}", shown(wait)),
            None => Ok(()),
        }
    }
}

impl Error for BreakerOpen {}

/// A call with a credential of a pool failed without a response, for a reason that the pool has
/// dealt with: the key or its scope is left alone for now.
///
/// Its source is the error of the inner service. Layers outside take
/// [`outcome`](Self::outcome) for what happened, so that a retry does not wait for a hint that is
/// the pool's to obey. Failures for other reasons are handed on as they are.
#[derive(Debug)]
pub struct KeyFailed {
    pub(crate) alias: Arc<str>,
    pub(crate) scope: Arc<str>,
    pub(crate) outcome: Outcome,
    pub(crate) source: BoxError,
}

impl KeyFailed {
    /// The failure in `error` or in what caused it.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find(error)
    }

    /// The alias of the key.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// The scope of the key.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What the failure means to the layers outside the pool.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl fmt::Display for KeyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, scope, .. } = self;
        write!(f, "the call with key {alias} of scope {scope} failed")
    }
}

impl Error for KeyFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_behind_other_errors_and_reads_like_one_sentence() {
        #[derive(Debug)]
        struct Wrapped(Rejected);
        impl fmt::Display for Wrapped {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the call failed")
            }
        }
        impl Error for Wrapped {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let late = Rejected::TooLate(TooLate {
            layer: "rate limit",
            bound: Duration::from_secs(2),
            retry_after: Duration::from_nanos(29_986_600_001),
        });
        let error: BoxError = Wrapped(late.clone()).into();
        assert_eq!(Rejected::find(&*error), Some(&late));
        assert_eq!(
            late.to_string(),
            "rate limit refused: admission in 29.987s, later than the 2s this call can wait"
        );
        assert_eq!(Rejected::find(&*BoxError::from("other")), None);
    }

    #[test]
    fn a_wait_for_a_place_in_flight_makes_no_false_comparison() {
        let late = TooLate {
            layer: "rate limit",
            bound: Duration::from_secs(5),
            retry_after: Duration::from_secs(1),
        };
        assert_eq!(
            late.to_string(),
            "rate limit refused: not admitted within the 5s this call can wait, \
             admission in about 1s"
        );
    }

    #[test]
    fn waits_are_shown_in_whole_milliseconds_rounded_up() {
        for (nanos, text) in [
            (1, "1ns"),
            (999_999, "999.999µs"),
            (1_000_000, "1ms"),
            (1_000_001, "2ms"),
            (4_000_000_000, "4s"),
        ] {
            assert_eq!(format!("{:?}", shown(Duration::from_nanos(nanos))), text);
        }
        assert!(shown(Duration::MAX) >= Duration::from_secs(1));
    }
}
