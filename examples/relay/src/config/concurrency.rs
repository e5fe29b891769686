//! `[concurrency]` and `[upstream.concurrency]`: how many calls may be in flight at a provider.

use tower_relay::policy::{InvalidConfig, limit::Bounds};

use super::{
    problem::Problem,
    reader::{Node, word},
};

/// How an upstream learns how many calls its provider can take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concurrency {
    is_enabled: bool,
    pub(crate) algorithm: Algorithm,
    min: usize,
    max: usize,
    initial: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    SizedVegas,
    Aimd,
}

const ALGORITHMS: [(&str, Algorithm); 2] = [
    ("sized-vegas", Algorithm::SizedVegas),
    ("aimd", Algorithm::Aimd),
];

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            is_enabled: true,
            algorithm: Algorithm::SizedVegas,
            min: Bounds::DEFAULT_MIN,
            max: Bounds::DEFAULT_MAX,
            initial: Self::INITIAL,
        }
    }
}

impl Concurrency {
    /// More than the library begins with: quotas pace the calls of a pool already, and from 8 on five
    /// keys lose a twentieth of their first minute until the limit has grown.
    pub(super) const INITIAL: usize = 64;

    /// What `node` says, and of what it does not say what is in `defaults`.
    pub(super) fn read(node: &Node<'_>, defaults: Self) -> Result<Self, Problem> {
        let table = node.table(&["enabled", "algorithm", "min", "max", "initial"])?;
        let calls = |name, default| {
            let node = table.get(name);
            node.map_or(Ok(default), |node| {
                node.whole(1..=1_000_000).map(|calls| calls as usize)
            })
        };
        let enabled = table.get("enabled");
        let known = table.get("algorithm");
        let mut concurrency = Self {
            is_enabled: enabled.map_or(Ok(defaults.is_enabled), |node| node.yes_or_no())?,
            algorithm: known.map_or(Ok(defaults.algorithm), |node| algorithm(&node))?,
            min: calls("min", defaults.min)?,
            max: calls("max", defaults.max)?,
            initial: defaults.initial,
        };
        let wrong = |error: InvalidConfig| {
            table.wrong_in(error.field(), format!("cannot be: {}", error.problem()))
        };
        Bounds::new(concurrency.min..=concurrency.max).map_err(wrong)?;
        // Nobody has to name a first limit because the others leave it outside.
        let within = defaults.initial.clamp(concurrency.min, concurrency.max);
        concurrency.initial = calls("initial", within)?;
        concurrency.bounds().map_err(wrong)?;
        Ok(concurrency)
    }

    pub(crate) const fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// As the library takes them.
    ///
    /// # Errors
    ///
    /// None, once it has been read.
    pub(crate) fn bounds(&self) -> Result<Bounds, InvalidConfig> {
        Bounds::new(self.min..=self.max)?.starting_at(self.initial)
    }
}

fn algorithm(node: &Node<'_>) -> Result<Algorithm, Problem> {
    let name = node.text()?;
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let (word, names) = (word(name), ALGORITHMS.map(|(name, _)| name).join(", "));
        node.wrong(format!("is an unknown algorithm{word}; use one of {names}"))
    })
}
