use std::{
    any::Any,
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    sync::Arc,
    time::Duration,
};

use secrecy::ExposeSecret;

use super::{Key, Source, key::Attachments};
use crate::policy::{
    InvalidConfig, Quota,
    breaker::BreakerConfig,
    pool::{Affinity, PoolConfig, PoolConfigBuilder, ScopeConfig, Strategy},
};

/// Scopes with their quotas and keys, secrets read and everything checked.
///
/// A clone shares the keys with its original.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::{
///     key_rotation::{KeyPool, Scope, Source},
///     policy::{Quota, pool::Strategy},
/// };
///
/// let quota = Quota::builder().requests_per_minute(4_000).build()?;
/// let opus = Quota::builder().requests_per_minute(1_000).build()?;
/// let pool = KeyPool::builder()
///     .scope(
///         Scope::new("org-a")
///             .quota(quota.clone())
///             .quota_for(["claude-opus-*"], opus)
///             .key("a1", Source::value("sk-1"))
///             .weighted_key("a2", 3, Source::value("sk-2")),
///     )
///     .scope(Scope::new("org-b").quota(quota).key("b1", Source::value("sk-3")))
///     .strategy(Strategy::Weighted)
///     .longest_rest(Duration::from_secs(60))
///     .build()?;
/// let scopes: Vec<_> = pool.keys().map(|key| key.scope()).collect();
/// assert_eq!(scopes, ["org-a", "org-a", "org-b"]);
///
/// // Two keys that are one would be metered as two.
/// let twice = [("a1", Source::value("sk-1")), ("a2", Source::value("sk-1"))];
/// let quota = Quota::builder().requests_per_minute(50).build()?;
/// let error = KeyPool::accounts(quota, twice).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "key: `a1` and `a2` have the same secret, which would count one quota twice; \
///      remove one of the two"
/// );
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct KeyPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: PoolConfig,
    scopes: Arc<[Scope]>,
    /// In the order in which they were given.
    keys: Vec<Key>,
    places: HashMap<Arc<str>, usize>,
}

/// What a provider meters as one, an organisation, project or deployment: its quotas, its keys,
/// and what protocols need to know of it.
///
/// ```
/// use tower_relay::{
///     key_rotation::{KeyPool, Scope, Source},
///     policy::Quota,
/// };
///
/// struct Region(&'static str);
///
/// let scope = Scope::new("org-a")
///     .quota(Quota::builder().requests_per_minute(4_000).build()?)
///     .key("a1", Source::value("sk-1"))
///     .key("a2", Source::value("sk-2"))
///     .attach(Region("us"))
///     .attach_to("a2", Region("eu"));
/// let pool = KeyPool::builder().scope(scope).build()?;
/// let region = |alias| pool.key(alias)?.attachment::<Region>().map(|region| region.0);
/// assert_eq!([region("a1"), region("a2")], [Some("us"), Some("eu")]);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Scope {
    name: Arc<str>,
    config: ScopeConfig,
    keys: Vec<(Arc<str>, Source)>,
    attached: Attachments,
    attached_to: HashMap<Arc<str>, Attachments>,
}

/// Builds a [`KeyPool`].
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyPoolBuilder {
    config: PoolConfigBuilder,
    scopes: Vec<Scope>,
}

// === impl KeyPool ===

impl KeyPool {
    /// A pool under construction, with nothing in it.
    pub const fn builder() -> KeyPoolBuilder {
        KeyPoolBuilder {
            config: PoolConfig::builder(),
            scopes: Vec::new(),
        }
    }

    /// A pool of accounts with a key each: every key is a scope of its own, named like the key,
    /// and has the whole of `quota`.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, Source},
    ///     policy::Quota,
    /// };
    ///
    /// let quota = Quota::builder().requests_per_minute(50).build()?;
    /// let keys = [("first", Source::value("sk-1")), ("second", Source::value("sk-2"))];
    /// let pool = KeyPool::accounts(quota, keys)?;
    /// assert_eq!(pool.keys().len(), 2);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`KeyPoolBuilder::build`].
    pub fn accounts<A: Into<Arc<str>>>(
        quota: Quota,
        keys: impl IntoIterator<Item = (A, Source)>,
    ) -> Result<Self, InvalidConfig> {
        let account = |(alias, source): (A, Source)| {
            let alias = alias.into();
            Scope::new(Arc::clone(&alias))
                .quota(quota.clone())
                .key(alias, source)
        };
        let scopes = keys.into_iter().map(account);
        scopes.fold(Self::builder(), KeyPoolBuilder::scope).build()
    }

    /// The same pool with its variables and files read again, for a reload.
    ///
    /// Reading files blocks: in a runtime call it from `spawn_blocking`.
    ///
    /// ```
    /// use tower_relay::key_rotation::{ExposeSecret, KeyPool, Scope, Source};
    ///
    /// let path = std::env::temp_dir().join(format!("reread-{}", std::process::id()));
    /// std::fs::write(&path, "sk-old\n")?;
    /// let scope = Scope::new("org-a").key("a1", Source::file(&path));
    /// let pool = KeyPool::builder().scope(scope).build()?;
    ///
    /// std::fs::write(&path, "sk-new\n")?;
    /// let reread = pool.reread()?;
    /// # std::fs::remove_file(&path)?;
    /// let secret = |pool: &KeyPool| Some(pool.key("a1")?.secret().expose_secret().to_owned());
    /// assert_eq!(secret(&reread).as_deref(), Some("sk-new"));
    /// assert_eq!(secret(&pool).as_deref(), Some("sk-old"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`KeyPoolBuilder::build`]: what was right then may be missing or wrong now.
    pub fn reread(&self) -> Result<Self, InvalidConfig> {
        Self::read(self.inner.config.clone(), Arc::clone(&self.inner.scopes))
    }

    /// The key of this alias.
    #[must_use]
    pub fn key(&self, alias: &str) -> Option<&Key> {
        let place = self.inner.places.get(alias)?;
        Some(&self.inner.keys[*place])
    }

    /// The keys, in the order in which they were given.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.inner.keys.iter()
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.inner.config
    }

    fn read(config: PoolConfig, scopes: Arc<[Scope]>) -> Result<Self, InvalidConfig> {
        let mut keys = Vec::with_capacity(config.keys());
        let mut places = HashMap::with_capacity(config.keys());
        for scope in &*scopes {
            let attached = Arc::new(scope.attached.clone());
            for (alias, source) in &scope.keys {
                let own = scope.attached_to.get(alias).cloned().unwrap_or_default();
                let (alias, name) = (Arc::clone(alias), Arc::clone(&scope.name));
                let secret = source.read(&alias)?;
                places.insert(Arc::clone(&alias), keys.len());
                keys.push(Key::new(alias, name, secret, own, Arc::clone(&attached)));
            }
        }
        check_secrets(&keys)?;
        let inner = Inner {
            config,
            scopes,
            keys,
            places,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

impl fmt::Debug for KeyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPool")
            .field("scopes", &self.inner.scopes)
            .finish_non_exhaustive()
    }
}

/// The name is not repeated.
const SHOWN: &str = "a secret is used as a name, and names are shown; give the key another";

fn check_secrets(keys: &[Key]) -> Result<(), InvalidConfig> {
    let mut seen = HashMap::with_capacity(keys.len());
    for key in keys {
        if key.alias() == key.secret().expose_secret() {
            return Err(InvalidConfig::new("key.alias", SHOWN));
        }
        match seen.entry(key.secret().expose_secret()) {
            Entry::Vacant(entry) => drop(entry.insert(key.alias())),
            Entry::Occupied(entry) => {
                let problem = format!(
                    "`{}` and `{}` have the same secret, which would count one quota twice; \
                     remove one of the two",
                    entry.get(),
                    key.alias()
                );
                return Err(InvalidConfig::new("key", problem));
            }
        }
    }
    Ok(())
}

// === impl Scope ===

impl Scope {
    /// A scope without quotas and, until [`key`](Self::key) adds one, without keys.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            config: ScopeConfig::new(Arc::clone(&name)),
            name,
            keys: Vec::new(),
            attached: Attachments::default(),
            attached_to: HashMap::new(),
        }
    }

    /// The quota of all models that no [`quota_for`](Self::quota_for) names. Default: no limit.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.config = self.config.quota(quota);
        self
    }

    /// The quota that all models of these names share; see [`ScopeConfig::quota_for`].
    pub fn quota_for<M: Into<Arc<str>>>(
        mut self,
        models: impl IntoIterator<Item = M>,
        quota: Quota,
    ) -> Self {
        self.config = self.config.quota_for(models, quota);
        self
    }

    /// A key of this scope with weight 1. The alias is the name by which everybody may know it.
    pub fn key(self, alias: impl Into<Arc<str>>, source: Source) -> Self {
        self.weighted_key(alias, 1, source)
    }

    /// A key of this scope with a weight from 1 to 1,000, for [`Strategy::Weighted`].
    pub fn weighted_key(mut self, alias: impl Into<Arc<str>>, weight: u32, source: Source) -> Self {
        let alias = alias.into();
        self.config = self.config.weighted_key(Arc::clone(&alias), weight);
        self.keys.push((alias, source));
        self
    }

    /// Attaches a value for protocols to find by its type, by [`Key::attachment`]: where requests
    /// go, what else to send. One of each type; a later one replaces an earlier one.
    pub fn attach<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.attached.add(value);
        self
    }

    /// Attaches a value to one key of this scope, which goes before one attached to the scope.
    pub fn attach_to<T: Any + Send + Sync>(mut self, alias: impl Into<Arc<str>>, value: T) -> Self {
        let attached = self.attached_to.entry(alias.into());
        attached.or_default().add(value);
        self
    }

    fn check_names(&self) -> Result<(), InvalidConfig> {
        for (alias, source) in &self.keys {
            for (field, name) in [("key.alias", alias), ("scope.name", &self.name)] {
                if source.is_shown_by(name) {
                    return Err(InvalidConfig::new(field, SHOWN));
                }
            }
        }
        Ok(())
    }

    fn check_attached(&self) -> Result<(), InvalidConfig> {
        let aliases: HashSet<_> = self.keys.iter().map(|(alias, _)| alias).collect();
        let strangers = self.attached_to.keys().filter(|of| !aliases.contains(of));
        // The first in order, so that the same mistake is always the same error.
        match strangers.min() {
            None => Ok(()),
            Some(alias) => {
                let problem = format!(
                    "scope `{}` has no key `{alias}`; add it, or attach to another",
                    self.name
                );
                Err(InvalidConfig::new("scope.attach_to", problem))
            }
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("config", &self.config)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

// === impl KeyPoolBuilder ===

impl KeyPoolBuilder {
    /// Adds a scope.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.config = self.config.scope(scope.config.clone());
        self.scopes.push(scope);
        self
    }

    /// How to choose among the scopes that can serve. Default: [`Strategy::MostHeadroom`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.config = self.config.strategy(strategy);
        self
    }

    /// Keeps the calls of a session at one scope and key, where they can be; see [`Affinity`].
    /// What makes a session is the [`affinity`](crate::protocol::Protocol::affinity) of the layer's
    /// protocol. Default: not.
    pub fn affinity(mut self, affinity: Affinity) -> Self {
        self.config = self.config.affinity(affinity);
        self
    }

    /// How long a class rests when the server does not say for how long; twice as long after each
    /// further throttle without a success between.
    /// Default: [`PoolConfig::DEFAULT_REST`].
    pub fn default_rest(mut self, rest: Duration) -> Self {
        self.config = self.config.default_rest(rest);
        self
    }

    /// The longest rest of a class, whatever the server says.
    /// Default: [`PoolConfig::LONGEST_REST`].
    pub fn longest_rest(mut self, rest: Duration) -> Self {
        self.config = self.config.longest_rest(rest);
        self
    }

    /// How long a scope without credit rests before a call is risked, unless the server names
    /// a shorter time, of which at least a thirtieth of this is kept. Default: [`PoolConfig::EXHAUSTED_REST`].
    pub fn exhausted_rest(mut self, rest: Duration) -> Self {
        self.config = self.config.exhausted_rest(rest);
        self
    }

    /// Risks one call on a rejected key after this time, and after every further rejection.
    /// Default: never; a rejected key stays out until a reload or until it is enabled.
    pub fn reprobe_rejected(mut self, after: Duration) -> Self {
        self.config = self.config.reprobe_rejected(after);
        self
    }

    /// When the breaker of each key opens and closes. Default: [`PoolConfig::key_breaker`], which
    /// says what counts.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{KeyPool, Scope, Source},
    ///     policy::pool::PoolConfig,
    /// };
    ///
    /// let scope = Scope::new("org-a").key("a1", Source::value("sk-1"));
    /// let patient = PoolConfig::key_breaker().failure_ratio(0.4, 50).build()?;
    /// let pool = KeyPool::builder().scope(scope).breaker(patient).build()?;
    /// assert_eq!(pool.keys().len(), 1);
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.config = self.config.breaker(breaker);
        self
    }

    /// Takes no key out for failures of the server. Default: [`PoolConfig::key_breaker`].
    pub fn no_breaker(mut self) -> Self {
        self.config = self.config.no_breaker();
        self
    }

    /// The pool, with all variables and files read. Reading files blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], which names field and alias and never a secret, for all that
    /// [`PoolConfigBuilder::build`] refuses; if a variable is not set, a file cannot be read, or
    /// what is there is empty, above 16 KiB or not visible ASCII; if two keys have the same
    /// secret or one has it for its alias; if something is attached to a key that the scope does not have.
    pub fn build(self) -> Result<KeyPool, InvalidConfig> {
        // First, because all other errors show names.
        self.scopes.iter().try_for_each(Scope::check_names)?;
        let config = self.config.build()?;
        self.scopes.iter().try_for_each(Scope::check_attached)?;
        KeyPool::read(config, self.scopes.into())
    }
}

#[cfg(test)]
mod tests;
