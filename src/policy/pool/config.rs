use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::policy::{
    InvalidConfig, Quota,
    breaker::{BreakerConfig, BreakerConfigBuilder},
};

use super::Affinity;

/// The most of a weight: a share of a thousandth is as fine as anybody needs, and sums stay exact.
const HEAVIEST: u32 = 1_000;
/// The most scopes, keys and patterns: what fits the indices with room to spare.
const MOST: usize = 1_000_000;
/// The most different patterns: each is a list of scopes of its own.
const MOST_PATTERNS: usize = 1_000;
/// Of a key's breaker: ten times an endpoint's, for nobody waits for the key's recovery, while each
/// look at it risks calls.
const SHORTEST_OPEN: Duration = Duration::from_secs(5);

/// How a [`Pool`](super::Pool) chooses among the scopes that can serve a call.
///
/// Whatever the choice, only scopes that can serve the call now are chosen from, and within a
/// scope the keys take turns: none is drained before the next is touched.
///
/// Quotas, calls in flight and turns are those of the class of models that the call belongs to;
/// what a scope does for other classes plays no part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// The scope of whose quota the largest share is left, in the dimension of which the smallest
    /// is; equals take turns. The default: it keeps every account equally far from its limit.
    #[default]
    MostHeadroom,
    /// Scopes take turns.
    RoundRobin,
    /// Scopes take turns in proportion to the weights of their usable keys, and so do the keys of
    /// a scope; evenly mixed, not in runs.
    Weighted,
    /// The scope with the fewest calls in flight; equals take turns.
    LeastInFlight,
    /// The scope whose last call began or ended longest ago.
    LeastRecentlyUsed,
}

/// What a [`Pool`](super::Pool) consists of and how long it rests what failed.
///
/// ```
/// use tower_relay::policy::{Quota, pool::{PoolConfig, ScopeConfig}};
///
/// let quota = Quota::builder().requests_per_minute(4_000).build()?;
/// let opus = Quota::builder().requests_per_minute(1_000).build()?;
/// let config = PoolConfig::builder()
///     .scope(
///         ScopeConfig::new("org-a")
///             .quota(quota.clone())
///             .quota_for(["claude-opus-*"], opus)
///             .key("a1")
///             .key("a2"),
///     )
///     .scope(ScopeConfig::new("org-b").quota(quota).key("b1"))
///     .build()?;
/// assert_eq!(config.keys(), 3);
///
/// let error = PoolConfig::builder().build().unwrap_err();
/// assert_eq!(error.to_string(), "scopes: the pool is empty; add at least one scope with a key");
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    pub(super) scopes: Vec<ScopeConfig>,
    pub(super) strategy: Strategy,
    pub(super) affinity: Option<Affinity>,
    pub(super) rests: Rests,
    /// Of each key, if it has one.
    pub(super) breaker: Option<BreakerConfig>,
}

/// How long what failed is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rests {
    pub(super) default: Duration,
    pub(super) longest: Duration,
    pub(super) exhausted: Duration,
    pub(super) reprobe: Option<Duration>,
}

/// One scope: what the provider meters as one, with its quotas and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ScopeConfig {
    pub(super) name: Arc<str>,
    /// The classes of models; the one without patterns is the default.
    pub(super) classes: Vec<ClassConfig>,
    pub(super) keys: Vec<KeyConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClassConfig {
    pub(super) patterns: Vec<Arc<str>>,
    pub(super) quota: Quota,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyConfig {
    pub(super) alias: Arc<str>,
    pub(super) weight: u32,
}

/// Builds a [`PoolConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolConfigBuilder {
    config: PoolConfig,
    breaker: Breakers,
}

#[derive(Clone, Debug)]
enum Breakers {
    Default,
    Own(BreakerConfig),
    Off,
}

// === impl PoolConfig ===

impl PoolConfig {
    /// How long a class rests when the server does not say: long enough that a limit per second
    /// has passed, short enough to cost little where one per minute needs several tries.
    pub const DEFAULT_REST: Duration = Duration::from_secs(1);
    /// The longest rest that a hint can order: every limit per minute is over by then, and a hint
    /// of hours, seen from providers by mistake, costs one call in this time instead of the scope.
    pub const LONGEST_REST: Duration = Duration::from_secs(15 * 60);
    /// How long a scope rests whose credit is used up: somebody must pay first, and one refused
    /// call in half an hour is a cheap way to find out.
    pub const EXHAUSTED_REST: Duration = Duration::from_secs(30 * 60);

    /// A pool under construction, with nothing in it.
    pub const fn builder() -> PoolConfigBuilder {
        PoolConfigBuilder {
            config: Self {
                scopes: Vec::new(),
                strategy: Strategy::MostHeadroom,
                affinity: None,
                rests: Rests {
                    default: Self::DEFAULT_REST,
                    longest: Self::LONGEST_REST,
                    exhausted: Self::EXHAUSTED_REST,
                    reprobe: None,
                },
                breaker: None,
            },
            breaker: Breakers::Default,
        }
    }

    /// When the breaker of a key opens and closes unless [`breaker`](PoolConfigBuilder::breaker)
    /// says otherwise: a configuration to be changed.
    ///
    /// It opens at 15 % failures of at least 20 calls in 60 s, for 5 s to 5 min, and closes after
    /// 10 successes of up to 3 calls at once, with leases of 30 s. 15 %, and 5 s rather than an
    /// endpoint's half second, because the others of the pool carry the load, so little is lost by
    /// leaving early and coming back late; 20 calls because of them a key that
    /// fails one call in fifty has three failures by chance seven times in a thousand. 10 successes
    /// because a key that fails 30 % has as many in a row once in 35 times, and three every third
    /// time; they cost nothing, for they are calls of the callers.
    ///
    /// What counts:
    ///
    /// - a success, when it is reported, and
    /// - a failure by overload or fault of the server, if the last ten calls with *other* keys have
    ///   all succeeded, none of them more than 30 s ago. So a failure counts only where the
    ///   endpoint does well otherwise. In an outage nobody's failures count, not even at its
    ///   beginning: at the second failure the row of the others is broken;
    /// - nothing else: limits, credit and rejections are dealt with by their cause.
    ///
    /// A key without which calls of some model could be served by nobody is never taken out, and is
    /// let in at once when it comes to that. A ramp or slow calls have no part in it.
    ///
    /// ```
    /// use tower_relay::policy::pool::{PoolConfig, ScopeConfig};
    ///
    /// let scope = ScopeConfig::new("org-a").key("a1").key("a2");
    /// let patient = PoolConfig::key_breaker().failure_ratio(0.4, 50).build()?;
    /// let config = PoolConfig::builder().scope(scope.clone()).breaker(patient).build()?;
    /// assert_ne!(config, PoolConfig::builder().scope(scope).build()?);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub const fn key_breaker() -> BreakerConfigBuilder {
        BreakerConfig::builder()
            .no_conditions()
            .window(Duration::from_secs(60))
            .failure_ratio(0.15, BreakerConfig::DEFAULT_MINIMUM)
            .open(SHORTEST_OPEN, BreakerConfig::DEFAULT_LONGEST_OPEN)
            .successes(10)
            .open(Duration::from_secs(5), BreakerConfig::DEFAULT_LONGEST_OPEN)
            .ramp(Duration::ZERO)
    }

    /// The least slack of all quotas, within which a late call is made up for.
    #[cfg(feature = "key-rotation")]
    pub(crate) fn slack(&self) -> Duration {
        let classes = self.scopes.iter().flat_map(|scope| &scope.classes);
        let slacks = classes.map(|class| class.quota.slack());
        slacks.min().unwrap_or(Quota::DEFAULT_SLACK)
    }

    /// How many keys there are in all scopes together.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.scopes.iter().map(|scope| scope.keys.len()).sum()
    }
}

// === impl ScopeConfig ===

impl ScopeConfig {
    /// A scope without quotas and, until [`key`](Self::key) adds one, without keys.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            classes: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// The quota of all models that no [`quota_for`](Self::quota_for) names. Default: no limit.
    pub fn quota(self, quota: Quota) -> Self {
        self.quota_for([] as [&str; 0], quota)
    }

    /// The quota that all models of these names share. A trailing `*` stands for any rest; where
    /// several patterns match, a full name goes before a longer pattern before a shorter one.
    pub fn quota_for<M: Into<Arc<str>>>(
        mut self,
        models: impl IntoIterator<Item = M>,
        quota: Quota,
    ) -> Self {
        self.classes.push(ClassConfig {
            patterns: models.into_iter().map(Into::into).collect(),
            quota,
        });
        self
    }

    /// A key of this scope with weight 1, known by its alias. The secret is not for here.
    pub fn key(self, alias: impl Into<Arc<str>>) -> Self {
        self.weighted_key(alias, 1)
    }

    /// A key of this scope with a weight from 1 to 1,000, for [`Strategy::Weighted`].
    pub fn weighted_key(mut self, alias: impl Into<Arc<str>>, weight: u32) -> Self {
        let alias = alias.into();
        self.keys.push(KeyConfig { alias, weight });
        self
    }
}

// === impl PoolConfigBuilder ===

impl PoolConfigBuilder {
    /// Adds a scope.
    pub fn scope(mut self, scope: ScopeConfig) -> Self {
        self.config.scopes.push(scope);
        self
    }

    /// How to choose among the scopes that can serve. Default: [`Strategy::MostHeadroom`].
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.config.strategy = strategy;
        self
    }

    /// Keeps the calls of a session at one scope and key, where they can be; otherwise the strategy
    /// chooses. Default: not.
    ///
    /// ```
    /// use tower_relay::policy::pool::{Affinity, PoolConfig, ScopeConfig};
    ///
    /// let builder = PoolConfig::builder().scope(ScopeConfig::new("org-a").key("a1"));
    /// let error = builder.affinity(Affinity::new().load_per_mille(900)).build().unwrap_err();
    /// assert_eq!(error.field(), "affinity.load_per_mille");
    /// ```
    pub const fn affinity(mut self, affinity: Affinity) -> Self {
        self.config.affinity = Some(affinity);
        self
    }

    /// How long a class rests when the server does not say for how long; twice as long after each
    /// further throttle without a success between.
    /// Default: [`PoolConfig::DEFAULT_REST`].
    pub const fn default_rest(mut self, rest: Duration) -> Self {
        self.config.rests.default = rest;
        self
    }

    /// The longest rest of a class, whatever the server says.
    /// Default: [`PoolConfig::LONGEST_REST`].
    pub const fn longest_rest(mut self, rest: Duration) -> Self {
        self.config.rests.longest = rest;
        self
    }

    /// How long a scope without credit rests before a call is risked, unless the server names
    /// a shorter time, of which at least a thirtieth of this is kept. Default: [`PoolConfig::EXHAUSTED_REST`].
    pub const fn exhausted_rest(mut self, rest: Duration) -> Self {
        self.config.rests.exhausted = rest;
        self
    }

    /// Risks one call on a rejected key after this time, and after every further rejection.
    /// Default: never; a rejected key stays out until a reload or until it is enabled.
    pub const fn reprobe_rejected(mut self, after: Duration) -> Self {
        self.config.rests.reprobe = Some(after);
        self
    }

    /// When the breaker of each key opens and closes. Default: [`PoolConfig::key_breaker`], which
    /// says what counts. The mode must be the normal one.
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = Breakers::Own(breaker);
        self
    }

    /// Takes no key out for failures of the server. Default: [`PoolConfig::key_breaker`].
    pub fn no_breaker(mut self) -> Self {
        self.breaker = Breakers::Off;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if there is no scope, a scope has no key, a name, alias or pattern is
    /// empty or given twice, a `*` stands elsewhere than at the end, a quota is given twice for
    /// the same models, a weight is not from 1 to 1,000, a rest is zero, the default rest is
    /// longer than the longest, the breaker's mode is not the normal one, or a value of the affinity
    /// is out of its bounds.
    pub fn build(self) -> Result<PoolConfig, InvalidConfig> {
        let mut config = self.config;
        config.breaker = self.breaker.built()?;
        check_rests(&config.rests)?;
        config.affinity.as_ref().map_or(Ok(()), Affinity::check)?;
        if config.scopes.is_empty() {
            let problem = "the pool is empty; add at least one scope with a key";
            return Err(InvalidConfig::new("scopes", problem));
        }
        let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
        let mut patterns = HashSet::new();
        for scope in &config.scopes {
            check_name(&scope.name, "scope.name", "scope", &mut names)?;
            check_classes(scope)?;
            patterns.extend(scope.classes.iter().flat_map(|class| &class.patterns));
            if scope.keys.is_empty() {
                let problem = format!("scope `{}` has no key; add one or leave it out", scope.name);
                return Err(InvalidConfig::new("scope.key", problem));
            }
            for key in &scope.keys {
                check_name(&key.alias, "key.alias", "key", &mut aliases)?;
                if !(1..=HEAVIEST).contains(&key.weight) {
                    let (alias, weight) = (&key.alias, key.weight);
                    let problem = format!("key `{alias}` has weight {weight}; use 1 to {HEAVIEST}");
                    return Err(InvalidConfig::new("key.weight", problem));
                }
            }
        }
        for (field, count, most) in [
            ("keys", aliases.len(), MOST),
            ("models", patterns.len(), MOST_PATTERNS),
        ] {
            if count > most {
                let problem = format!("{count} are too many; use at most {most}");
                return Err(InvalidConfig::new(field, problem));
            }
        }
        Ok(config)
    }
}

impl Breakers {
    fn built(self) -> Result<Option<BreakerConfig>, InvalidConfig> {
        let breaker = match self {
            Self::Off => return Ok(None),
            Self::Default => PoolConfig::key_breaker().build()?,
            Self::Own(breaker) => breaker,
        };
        if !breaker.is_normal() {
            let problem = "the breakers of keys run in the normal mode; leave them out with \
                           no_breaker, and keys by disabling them";
            return Err(InvalidConfig::new("breaker.mode", problem));
        }
        Ok(Some(breaker.without_ramp()))
    }
}

fn check_rests(rests: &Rests) -> Result<(), InvalidConfig> {
    for (field, rest) in [
        ("default_rest", rests.default),
        ("longest_rest", rests.longest),
        ("exhausted_rest", rests.exhausted),
        ("reprobe_rejected", rests.reprobe.unwrap_or(Duration::MAX)),
    ] {
        if rest.is_zero() {
            let problem = "0 would ask again at once; use at least 1 ms";
            return Err(InvalidConfig::new(field, problem));
        }
    }
    if rests.default > rests.longest {
        let problem = format!(
            "{:?} is longer than longest_rest, {:?}; raise that or lower this",
            rests.default, rests.longest
        );
        return Err(InvalidConfig::new("default_rest", problem));
    }
    Ok(())
}

fn check_name<'a>(
    name: &'a str,
    field: &'static str,
    what: &str,
    seen: &mut HashSet<&'a str>,
) -> Result<(), InvalidConfig> {
    if name.trim().is_empty() {
        let problem = format!("a {what} has an empty name; give it one");
        return Err(InvalidConfig::new(field, problem));
    }
    if !seen.insert(name) {
        let problem = format!("`{name}` is given twice in the pool; rename one of the two");
        return Err(InvalidConfig::new(field, problem));
    }
    Ok(())
}

fn check_classes(scope: &ScopeConfig) -> Result<(), InvalidConfig> {
    let wrong = |problem: String| {
        let problem = format!("scope `{}`: {problem}", scope.name);
        Err(InvalidConfig::new("scope.quota.models", problem))
    };
    let mut seen = HashSet::new();
    let mut defaults = 0;
    for class in &scope.classes {
        defaults += usize::from(class.patterns.is_empty());
        for pattern in &class.patterns {
            if pattern.trim().is_empty() {
                return wrong("a pattern is empty; name a model, or leave models out".into());
            }
            if pattern.find('*').is_some_and(|at| at + 1 < pattern.len()) {
                return wrong(format!(
                    "`{pattern}` has a `*` before its end; move it there"
                ));
            }
            if !seen.insert(pattern) {
                return wrong(format!("`{pattern}` has two quotas; keep one of the two"));
            }
        }
    }
    if defaults > 1 {
        return wrong("two quotas name no models; keep one, or name the other's models".into());
    }
    Ok(())
}
