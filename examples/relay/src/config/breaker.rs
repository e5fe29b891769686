//! `[breaker]` and `[upstream.breaker]`: when calls are kept away from a provider that is down.

use std::time::Duration;

use tower_relay::policy::{
    InvalidConfig,
    breaker::{BreakerConfig, Mode},
};

use super::{problem::Problem, reader::Node};

/// The breakers of an upstream, one for each host that its calls go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Breaker {
    is_enabled: bool,
    window: Duration,
    failure_ratio: f64,
    minimum_calls: u32,
    consecutive_failures: u32,
    shortest_open: Duration,
    longest_open: Duration,
    probes: u32,
    successes: u32,
    lease: Duration,
    ramp: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            is_enabled: true,
            window: BreakerConfig::DEFAULT_WINDOW,
            failure_ratio: BreakerConfig::DEFAULT_FAILURE_RATIO,
            minimum_calls: BreakerConfig::DEFAULT_MINIMUM,
            consecutive_failures: BreakerConfig::DEFAULT_CONSECUTIVE_FAILURES,
            shortest_open: BreakerConfig::DEFAULT_SHORTEST_OPEN,
            longest_open: BreakerConfig::DEFAULT_LONGEST_OPEN,
            probes: BreakerConfig::DEFAULT_PROBES,
            successes: BreakerConfig::DEFAULT_SUCCESSES,
            lease: BreakerConfig::DEFAULT_LEASE,
            ramp: BreakerConfig::DEFAULT_RAMP,
        }
    }
}

impl Breaker {
    /// What `node` says, and of what it does not say what is in `defaults`.
    pub(super) fn read(node: &Node<'_>, defaults: Self) -> Result<Self, Problem> {
        let table = node.table(&[
            "enabled",
            "window",
            "failure_ratio",
            "minimum_calls",
            "consecutive_failures",
            "shortest_open",
            "longest_open",
            "probes",
            "successes",
            "lease",
            "ramp",
        ])?;
        let time = |name, default| table.get(name).map_or(Ok(default), |node| node.time());
        let number = |name, default| {
            let node = table.get(name);
            node.map_or(Ok(default), |node| {
                node.whole(1..=u64::from(u32::MAX)).map(|it| it as u32)
            })
        };
        let enabled = table.get("enabled");
        let ratio = table.get("failure_ratio");
        let breaker = Self {
            is_enabled: enabled.map_or(Ok(defaults.is_enabled), |node| node.yes_or_no())?,
            window: time("window", defaults.window)?,
            failure_ratio: ratio.map_or(Ok(defaults.failure_ratio), |node| node.fraction())?,
            minimum_calls: number("minimum_calls", defaults.minimum_calls)?,
            consecutive_failures: number("consecutive_failures", defaults.consecutive_failures)?,
            shortest_open: time("shortest_open", defaults.shortest_open)?,
            longest_open: time("longest_open", defaults.longest_open)?,
            probes: number("probes", defaults.probes)?,
            successes: number("successes", defaults.successes)?,
            lease: time("lease", defaults.lease)?,
            ramp: time("ramp", defaults.ramp)?,
        };
        breaker.policy().map_err(|error| {
            let field = match error.field() {
                "failure_ratio.ratio" => "failure_ratio",
                "failure_ratio.minimum" => "minimum_calls",
                "open.shortest" => "shortest_open",
                "open.longest" => "longest_open",
                field => field,
            };
            let problem = error.problem().replace("open.longest", "longest_open");
            table.wrong_in(field, format!("cannot be: {problem}"))
        })?;
        Ok(breaker)
    }

    pub(crate) const fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// As the library takes it.
    ///
    /// # Errors
    ///
    /// None, once it has been read.
    pub(crate) fn policy(&self) -> Result<BreakerConfig, InvalidConfig> {
        BreakerConfig::builder()
            .window(self.window)
            .failure_ratio(self.failure_ratio, self.minimum_calls)
            .consecutive_failures(self.consecutive_failures)
            .open(self.shortest_open, self.longest_open)
            .probes(self.probes)
            .successes(self.successes)
            .lease(self.lease)
            .ramp(self.ramp)
            .mode(match self.is_enabled {
                true => Mode::Normal,
                false => Mode::Disabled,
            })
            .build()
    }
}
