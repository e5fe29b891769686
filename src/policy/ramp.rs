//! How fast what is sent may grow.

use std::{sync::Arc, time::Duration};

use super::{InvalidConfig, Timestamp, Unit, nanos, rate_search::amount_of};

mod governor;

pub(super) use self::governor::Governor;

/// How fast what is sent of a unit may grow, a setting for
/// [`QuotaBuilder::ramp`](super::QuotaBuilder::ramp).
///
/// Some servers refuse who grows too fast, whatever the quota: above a floor that nobody is punished
/// below, a window's use may exceed the one before by so much and no more. How they compare is not
/// told, so this keeps to all ways at once. At no instant more is sent than
///
/// - what the growth allows over the least mean of any window of the whole length that ended within
///   the last one: servers that look at sliding windows compare with one of them, and so do servers
///   that set a new limit at instants that only they know;
/// - what it allows over the least used minute (a fifteenth of the window) around one window ago:
///   servers that compare minutes see every lull, and what has not been used has not been earned.
///
/// Always wanted, this grows by 31 % in a window where 50 % are allowed. That is all that can be
/// had without knowing when the server begins its windows, see `docs/scoreboard.md`. What was
/// refused for its rate or growth has been sent and not been used.
///
/// Calls of up to a thirtieth of the floor's minute are foreseen. One that is larger, and larger than
/// all before it, may go beyond, once.
///
/// Default: growth of 50 % in 15 minutes, which is what is documented of those who say.
///
/// ```
/// use tower_relay::policy::{Cost, Quota, Ramp, Timestamp, TokenBucket, Unit};
///
/// let ramp = Ramp::above_per_minute(1_000_000);
/// let quota = Quota::builder().ramp(Unit::INPUT_TOKENS, ramp).build()?;
/// let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
/// let ramp = bucket.ramp(Unit::INPUT_TOKENS, Timestamp::ZERO).expect("it is configured");
/// assert_eq!(ramp.allowed().round(), 16_063.0, "a second: the floor, less for what may be large");
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ramp {
    floor: u64,
    percent: u16,
    window: Duration,
    resumed: Option<(RampState, Duration)>,
}

/// What was used of a unit in the last two windows, as plain numbers to be saved before a restart.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Quota, Ramp, RampState, Timestamp, TokenBucket, Unit};
///
/// let ramp = Ramp::above_per_minute(60_000);
/// let quota = Quota::builder().ramp(Unit::INPUT_TOKENS, ramp.clone()).build()?;
/// let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
/// let state = bucket.ramp(Unit::INPUT_TOKENS, Timestamp::ZERO).expect("it has one").state().clone();
/// let (step, used) = (state.step(), state.used().to_vec());
///
/// // After the restart, 20 s later.
/// let state = RampState::new(step, used);
/// let ramp = ramp.resume(state, Duration::from_secs(20));
/// assert!(Quota::builder().ramp(Unit::INPUT_TOKENS, ramp).build().is_ok());
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RampState {
    step: Duration,
    used: Arc<[u64]>,
}

/// What the growth of a unit allows at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RampSnapshot {
    /// Over [`MOVING_PERIOD`](super::rate_search::MOVING_PERIOD).
    allowed: u64,
    held_until: Option<Timestamp>,
    state: RampState,
}

// === impl Ramp ===

impl Ramp {
    /// Growth is bounded above so many a minute, at most 6 × 10¹⁰; up to there nobody is punished. With several
    /// processes on one account, each has its part of it.
    pub const fn above_per_minute(floor: u64) -> Self {
        Self {
            floor,
            percent: 50,
            window: Duration::from_secs(15 * 60),
            resumed: None,
        }
    }

    /// By how many hundredths a window may exceed the one before, from 1 to 900. Default: 50.
    pub const fn percent(mut self, percent: u16) -> Self {
        self.percent = percent;
        self
    }

    /// The window, from a minute to a day. Default: 15 minutes.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Begins with what was used before a restart, saved so long ago. Default: nothing is known,
    /// and it begins at the floor, which provokes nobody. What was sent after it was saved is not
    /// in it: that costs time, and provokes nobody either.
    pub fn resume(mut self, state: RampState, age: Duration) -> Self {
        self.resumed = Some((state, age));
        self
    }

    pub(super) fn checked(&self, unit: Unit) -> Result<(), InvalidConfig> {
        let invalid = |problem: String| Err(InvalidConfig::new("ramp", problem));
        if self.floor == 0 {
            return invalid(format!(
                "from 0 {} a minute nothing ever grows; use what nobody is punished for",
                unit.name()
            ));
        }
        if self.floor > HIGHEST_FLOOR {
            return invalid(format!(
                "{} {} a minute are above the most that can be bounded, 6 × 10¹⁰",
                self.floor,
                unit.name()
            ));
        }
        if !(1..=900).contains(&self.percent) {
            return invalid(format!(
                "growth of {} % is not within 1 to 900",
                self.percent
            ));
        }
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&self.window) {
            return invalid(format!(
                "a window of {:?} is not within a minute and a day",
                self.window
            ));
        }
        match &self.resumed {
            Some((state, _)) if state.step != governor::step(self.window) => invalid(format!(
                "what was saved is of another window: its steps are {:?}, not {:?}",
                state.step,
                governor::step(self.window)
            )),
            _ => Ok(()),
        }
    }

    /// Whether what was used under the other setting can be compared with under this.
    pub(super) fn is_over_same(&self, other: &Self) -> bool {
        self.window == other.window
    }
}

/// As much as a rate can be.
const HIGHEST_FLOOR: u64 = 60_000_000_000;
const SHORTEST_WINDOW: Duration = Duration::from_secs(60);
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

// === impl RampState ===

impl RampState {
    /// So much was used in each step, the latest last.
    #[must_use]
    pub fn new(step: Duration, used: impl Into<Arc<[u64]>>) -> Self {
        Self {
            step,
            used: used.into(),
        }
    }

    /// How long a step is: a 360th of the window.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// What was used in each step, the latest last, without those before anything was: at most 760
    /// numbers.
    #[must_use]
    pub fn used(&self) -> &[u64] {
        &self.used
    }
}

// === impl RampSnapshot ===

impl RampSnapshot {
    pub(super) fn new(allowed: f64, held_until: Option<Timestamp>, state: RampState) -> Self {
        Self {
            allowed: amount_of(allowed),
            held_until,
            state,
        }
    }

    /// How much may be sent a second.
    #[must_use]
    pub fn allowed(&self) -> f64 {
        super::rate_search::rate_of(self.allowed)
    }

    /// Until when it is held below what the growth would allow, because the server has refused a
    /// call for growing too fast.
    #[must_use]
    pub const fn held_until(&self) -> Option<Timestamp> {
        self.held_until
    }

    /// What is to be saved before a restart.
    #[must_use]
    pub const fn state(&self) -> &RampState {
        &self.state
    }
}

fn step_nanos(window: Duration) -> u64 {
    nanos(window) / governor::STEPS as u64
}

#[cfg(test)]
mod tests;
