/// Whether a [`Breaker`](super::Breaker) decides by itself.
///
/// ```
/// use tower_relay::policy::{Timestamp, breaker::{Breaker, BreakerConfig, Mode, State}};
///
/// let (config, now) = (BreakerConfig::default(), Timestamp::ZERO);
/// let mut breaker = Breaker::new(&config, now);
/// breaker.set_mode(&config, Mode::ForcedOpen, now);
/// assert_eq!(breaker.snapshot(&config, now).state(), State::Open);
/// breaker.set_mode(&config, Mode::Normal, now);
/// assert_eq!(breaker.snapshot(&config, now).state(), State::Closed);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// It does.
    #[default]
    Normal,
    /// Every call is refused, and nobody knows until when.
    ForcedOpen,
    /// Every call passes and is counted, but nothing opens it.
    ForcedClosed,
    /// Every call passes, and nothing is counted.
    Disabled,
    /// It counts, opens, probes and closes as it normally would and tells of it, but every call
    /// passes. Calls that it would have refused are not counted.
    ObserveOnly,
}

impl Mode {
    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::ObserveOnly => "observe_only",
        }
    }

    /// Whether its state changes with what it sees.
    pub(super) const fn is_running(self) -> bool {
        matches!(self, Self::Normal | Self::ObserveOnly)
    }
}
