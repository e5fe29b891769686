use std::time::Duration;

use super::{
    Confidence, Mode,
    half_open::MOST_PROBES,
    trip::{Conditions, Share, WHOLE},
    window::{MOST_CALLS, SLICES, Span},
};
use crate::policy::{InvalidConfig, Rng, backoff::SHORTEST, nanos};

/// Nothing here lasts longer than a day: what does is not waited out but decided by a person.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The largest minimum of calls: a window of time reaches it before its slices are halved.
const LARGEST_MINIMUM: u32 = 1_000_000;
/// The most successes that closing can take.
const MOST_SUCCESSES: u32 = 1_000;

/// When a [`Breaker`](super::Breaker) opens, for how long, and how it closes again.
///
/// One configuration serves any number of breakers. With another one than before a breaker goes
/// on as well as it can: counts of another kind of window are dropped at the next result; counts
/// of a window of another length are taken for that one's until they have left it.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::breaker::BreakerConfig;
///
/// let config = BreakerConfig::builder()
///     .last_calls(100)
///     .failure_ratio(0.25, 40)
///     .open(Duration::from_secs(1), Duration::from_secs(60))
///     .build()?;
/// assert_ne!(config, BreakerConfig::default());
///
/// let error = BreakerConfig::builder().last_calls(10).build().unwrap_err();
/// assert_eq!(error.field(), "failure_ratio.minimum");
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    pub(super) span: Span,
    pub(super) conditions: Conditions,
    shortest_open: Duration,
    longest_open: Duration,
    jitter_percent: u32,
    pub(super) recovery: Duration,
    pub(super) probes: u8,
    pub(super) successes: u16,
    pub(super) lease: Duration,
    pub(super) ramp: Duration,
    pub(super) mode: Mode,
}

/// Builds a [`BreakerConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerConfigBuilder {
    window: Length,
    consecutive: Option<u32>,
    failures: Option<(f64, u32)>,
    bound: Option<(f64, Confidence)>,
    slow: Option<(Duration, f64, u32)>,
    shortest_open: Duration,
    longest_open: Duration,
    jitter_percent: u32,
    recovery: Duration,
    probes: u32,
    successes: u32,
    lease: Duration,
    ramp: Duration,
    mode: Mode,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Time(Duration),
    Calls(u32),
}

// === impl BreakerConfig ===

impl BreakerConfig {
    /// How far back the window reaches: half a minute has twenty calls at two thirds of a call a
    /// second, and what is older says little about now.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(30);
    /// The share of failures that opens: more than retries can hide. With half of all calls
    /// lost, five attempts still lose one call in 32 and send twice the load.
    pub const DEFAULT_FAILURE_RATIO: f64 = 0.5;
    /// The calls it takes for a ratio to count: where one call in five fails, half of twenty do
    /// by chance in three cases of a thousand.
    pub const DEFAULT_MINIMUM: u32 = 20;
    /// The failures in a row that open: a dead endpoint shows after five calls instead of
    /// twenty, and one that fails one call in ten fails five in a row once in 100,000.
    pub const DEFAULT_CONSECUTIVE_FAILURES: u32 = 5;
    /// The first time open: most blackouts are short, and callers can bear half a second. As it
    /// doubles, nobody is kept out for much longer than the endpoint was down: three seconds of
    /// blackout are asked about after a half, one and a half and three and a half seconds. Ten
    /// doublings, up to the longest, are thirty probes in ten minutes.
    pub const DEFAULT_SHORTEST_OPEN: Duration = Duration::from_millis(500);
    /// The longest time open: three probes in five minutes are no load, and nobody wants to
    /// learn of a recovery later.
    pub const DEFAULT_LONGEST_OPEN: Duration = Duration::from_secs(300);
    /// How much longer it stays open by chance: a tenth, as with hints, keeps the processes that
    /// opened together from probing together, and delays nobody much.
    pub const DEFAULT_JITTER_PERCENT: u32 = 10;
    /// The time in health that takes one doubling back: from the longest time open to the
    /// shortest in ten minutes, about as long as it took to grow.
    pub const DEFAULT_RECOVERY: Duration = Duration::from_secs(60);
    /// The probes at once: enough to close within one answer's time, too few to be a load.
    pub const DEFAULT_PROBES: u32 = 3;
    /// The successes that close: one round of probes. An endpoint that fails every other call
    /// passes once in eight.
    pub const DEFAULT_SUCCESSES: u32 = 3;
    /// How long a probe keeps its place: nearly every first byte comes within half a minute.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
    /// How long the share of calls that pass grows: those that have waited do not arrive as
    /// one, and a second later nobody notices any more. What starts cold wants longer.
    pub const DEFAULT_RAMP: Duration = Duration::from_secs(1);

    /// The mode that a breaker begins in.
    #[must_use]
    pub const fn starting_mode(&self) -> Mode {
        self.mode
    }

    /// Whether it matters how long a first byte takes.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) const fn times_calls(&self) -> bool {
        self.conditions.slow.is_some()
    }

    /// The default configuration, to be changed.
    pub const fn builder() -> BreakerConfigBuilder {
        BreakerConfigBuilder {
            window: Length::Time(Self::DEFAULT_WINDOW),
            consecutive: Some(Self::DEFAULT_CONSECUTIVE_FAILURES),
            failures: Some((Self::DEFAULT_FAILURE_RATIO, Self::DEFAULT_MINIMUM)),
            bound: None,
            slow: None,
            shortest_open: Self::DEFAULT_SHORTEST_OPEN,
            longest_open: Self::DEFAULT_LONGEST_OPEN,
            jitter_percent: Self::DEFAULT_JITTER_PERCENT,
            recovery: Self::DEFAULT_RECOVERY,
            probes: Self::DEFAULT_PROBES,
            successes: Self::DEFAULT_SUCCESSES,
            lease: Self::DEFAULT_LEASE,
            ramp: Self::DEFAULT_RAMP,
            mode: Mode::Normal,
        }
    }

    /// How long to stay open after so many doublings, if the server wants to be left alone for
    /// `hint`: the later of the two, and up to the jitter longer.
    pub(super) fn time_open(&self, growth: u8, hint: Duration, rng: &mut impl Rng) -> Duration {
        let factor = 1_u64.checked_shl(u32::from(growth)).unwrap_or(u64::MAX);
        let grown = nanos(self.shortest_open).saturating_mul(factor);
        let wait = grown.max(nanos(hint)).min(nanos(self.longest_open));
        let jitter = rng.up_to(wait / 100 * u64::from(self.jitter_percent));
        Duration::from_nanos(wait + jitter)
    }

    /// Whether one more doubling makes a difference.
    pub(super) fn can_grow(&self, growth: u8) -> bool {
        let factor = 1_u64.checked_shl(u32::from(growth)).unwrap_or(u64::MAX);
        nanos(self.shortest_open).saturating_mul(factor) < nanos(self.longest_open)
    }

    /// When to ask again where all probes are under way: a hundredth to a thirtieth of the lease.
    /// Asking costs nothing, and most probes are back in a fraction of their lease.
    pub(super) fn until_place(&self, rng: &mut impl Rng) -> Duration {
        let lease = nanos(self.lease);
        let (least, most) = (lease / 100, lease / 30);
        Duration::from_nanos(least + rng.up_to(most - least)).max(SHORTEST)
    }
}

impl Default for BreakerConfig {
    /// Opens at half of at least 20 calls in 30 s, or at 5 failures in a row, for half a
    /// second to 5 min;
    /// closes after 3 successes of up to 3 probes at once, with leases of 30 s; ramp of 1 s.
    fn default() -> Self {
        let config = Self::builder().build();
        config.expect("the defaults are valid")
    }
}

// === impl BreakerConfigBuilder ===

impl BreakerConfigBuilder {
    /// Counts the calls of the last `length`, 1 ms to 24 h. Default: 30 s.
    pub const fn window(mut self, length: Duration) -> Self {
        self.window = Length::Time(length);
        self
    }

    /// Counts the last `calls`, 1 to 256, however old they are. Default: a window of time.
    pub const fn last_calls(mut self, calls: u32) -> Self {
        self.window = Length::Calls(calls);
        self
    }

    /// Drops all conditions that open the breaker, so that those set afterwards are all there
    /// are.
    pub const fn no_conditions(mut self) -> Self {
        (self.consecutive, self.failures) = (None, None);
        (self.bound, self.slow) = (None, None);
        self
    }

    /// Opens when so many calls in a row have failed, 1 to 65,535. Neutral calls do not break
    /// the row. Default: 5.
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive = Some(failures);
        self
    }

    /// Opens when `ratio` of the window's calls failed, above 0 and up to 1 and told to the
    /// millionth, if there are at least `minimum` calls, 1 to 1,000,000. Default: 0.5 of 20.
    pub const fn failure_ratio(mut self, ratio: f64, minimum: u32) -> Self {
        self.failures = Some((ratio, minimum));
        self
    }

    /// Opens when the window's calls prove, as surely as `confidence`, that at least `ratio` of
    /// all calls fail, above 0 and below 1: when the lower end of the ratio's Wilson score
    /// interval reaches it. This needs no minimum of calls, and so opens at a low rate as well.
    /// With a small ratio, few failures are proof: below 0.27, at 95 %, the first one of the
    /// first call is. Default: not set.
    pub const fn lower_bound(mut self, ratio: f64, confidence: Confidence) -> Self {
        self.bound = Some((ratio, confidence));
        self
    }

    /// Opens when `ratio` of the window's calls succeeded but took longer than `threshold` to
    /// their first byte, if there are at least `minimum` calls; ratio and minimum as for
    /// [`failure_ratio`](Self::failure_ratio). A probe that is slow opens again. Default: not set.
    pub const fn slow_calls(mut self, threshold: Duration, ratio: f64, minimum: u32) -> Self {
        self.slow = Some((threshold, ratio, minimum));
        self
    }

    /// How long it stays open: `shortest` at first, and twice as long each time it opens again,
    /// up to `longest`; 1 ms to 24 h. A longer hint of the server, given since the last success,
    /// counts instead, also up to `longest`. Default: 500 ms to 5 min.
    pub const fn open(mut self, shortest: Duration, longest: Duration) -> Self {
        (self.shortest_open, self.longest_open) = (shortest, longest);
        self
    }

    /// How much longer it stays open at the most, by chance, in percent, 0 to 100. Default: 10.
    pub const fn jitter_percent(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// The time it must be closed, and at its end see a success, for the next time open to be
    /// halved, not below the shortest; 1 ms to 24 h. Default: 60 s.
    pub const fn recovery(mut self, time: Duration) -> Self {
        self.recovery = time;
        self
    }

    /// How many probes may be under way at once while it is half-open, 1 to 10. Default: 3.
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// How many probes must succeed for it to close, 1 to 1,000; one that fails opens it again.
    /// Default: 3.
    pub const fn successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// How long a probe keeps its place if nothing is heard of it, 1 ms to 24 h. What it says
    /// later is not heard, except a success, as long as the breaker is half-open. Default: 30 s.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long after closing it takes until all calls pass, up to 24 h: at first a tenth of
    /// those that ask, then evenly more. Zero for all at once. Default: 1 s.
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// The mode that breakers start in. Default: [`Mode::Normal`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// If a number is outside of its bounds, a minimum is larger than the window, or nothing is
    /// set that would open the breaker.
    pub fn build(self) -> Result<BreakerConfig, InvalidConfig> {
        let span = self.span()?;
        let conditions = self.conditions()?;
        for (field, time) in [
            ("open.shortest", self.shortest_open),
            ("open.longest", self.longest_open),
            ("recovery", self.recovery),
            ("lease", self.lease),
            ("ramp", self.ramp.max(SHORTEST)),
        ] {
            check_time(field, time)?;
        }
        if self.shortest_open > self.longest_open {
            let (shortest, longest) = (self.shortest_open, self.longest_open);
            let problem = format!(
                "{shortest:?} is above open.longest, {longest:?}; raise that or lower this"
            );
            return Err(InvalidConfig::new("open.shortest", problem));
        }
        check_number("jitter_percent", self.jitter_percent, 0, 100)?;
        check_number("probes", self.probes, 1, MOST_PROBES as u32)?;
        check_number("successes", self.successes, 1, MOST_SUCCESSES)?;
        Ok(BreakerConfig {
            span,
            conditions,
            shortest_open: self.shortest_open,
            longest_open: self.longest_open,
            jitter_percent: self.jitter_percent,
            recovery: self.recovery,
            probes: self.probes as u8,
            successes: self.successes as u16,
            lease: self.lease,
            ramp: self.ramp,
            mode: self.mode,
        })
    }

    fn span(&self) -> Result<Span, InvalidConfig> {
        match self.window {
            Length::Time(length) => {
                check_time("window", length)?;
                let slice = nanos(length).div_ceil(SLICES);
                Ok(Span::Time { slice })
            }
            Length::Calls(calls) => {
                check_number("last_calls", calls, 1, MOST_CALLS)?;
                Ok(Span::Calls(calls as u16))
            }
        }
    }

    fn conditions(&self) -> Result<Conditions, InvalidConfig> {
        let mut conditions = Conditions::NONE;
        if let Some(run) = self.consecutive {
            check_number("consecutive_failures", run, 1, u32::from(u16::MAX))?;
            conditions.run = run as u16;
        }
        if let Some((ratio, minimum)) = self.failures {
            let ratio = check_ratio("failure_ratio.ratio", ratio, WHOLE)?;
            self.check_minimum("failure_ratio.minimum", minimum)?;
            conditions.failures = Some(Share { ratio, minimum });
        }
        if let Some((ratio, confidence)) = self.bound {
            let ratio = check_ratio("lower_bound.ratio", ratio, WHOLE - 1)?;
            conditions.bound = Some((ratio, confidence));
        }
        if let Some((threshold, ratio, minimum)) = self.slow {
            check_time("slow_calls.threshold", threshold)?;
            let ratio = check_ratio("slow_calls.ratio", ratio, WHOLE)?;
            self.check_minimum("slow_calls.minimum", minimum)?;
            conditions.slow = Some((threshold, Share { ratio, minimum }));
        }
        if conditions == Conditions::NONE {
            let problem =
                "nothing would ever open it; set one, and Mode::Disabled if that is meant";
            return Err(InvalidConfig::new("conditions", problem));
        }
        Ok(conditions)
    }

    fn check_minimum(&self, field: &'static str, minimum: u32) -> Result<(), InvalidConfig> {
        check_number(field, minimum, 1, LARGEST_MINIMUM)?;
        match self.window {
            Length::Calls(calls) if minimum > calls => {
                let problem = format!(
                    "{minimum} calls never fit a window of {calls}; lower this or raise last_calls"
                );
                Err(InvalidConfig::new(field, problem))
            }
            _ => Ok(()),
        }
    }
}

fn check_time(field: &'static str, time: Duration) -> Result<(), InvalidConfig> {
    if (SHORTEST..=LONGEST).contains(&time) {
        return Ok(());
    }
    let problem = format!("{time:?} does not work; write {SHORTEST:?} to 24 h");
    Err(InvalidConfig::new(field, problem))
}

fn check_number(
    field: &'static str,
    number: u32,
    least: u32,
    most: u32,
) -> Result<(), InvalidConfig> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    let problem = format!("{number} does not work; write {least} to {most}");
    Err(InvalidConfig::new(field, problem))
}

/// A ratio in millionths, at least one of them and at most `most`.
fn check_ratio(field: &'static str, ratio: f64, most: u32) -> Result<u32, InvalidConfig> {
    let whole = f64::from(WHOLE);
    // What is no number rounds to no millionth.
    let millionths = (ratio.clamp(-1.0, 2.0) * whole).round() as u32;
    if (1..=most).contains(&millionths) {
        return Ok(millionths);
    }
    let most = f64::from(most) / whole;
    let problem = format!("{ratio} does not work; write 0.000001 to {most}");
    Err(InvalidConfig::new(field, problem))
}
