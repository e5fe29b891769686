//! `[[upstream]]`: a provider, the paths it serves, and the accounts there.

use std::{collections::HashSet, path::Path, time::Duration};

use tower_relay::{
    key_rotation::KeyPool,
    policy::{InvalidConfig, pool::Strategy},
};

use super::{
    affinity::Affinity,
    base_url::BaseUrl,
    breaker::Breaker,
    concurrency::Concurrency,
    estimate::Estimate,
    paths::Pattern,
    problem::Problem,
    providers::{BEDROCK, Provider},
    reader::{Node, Table, word},
    scope::{Scope, base_url},
    shares::Classes,
    timeouts::Timeouts,
};

const STRATEGIES: [(&str, Strategy); 5] = [
    ("most-headroom", Strategy::MostHeadroom),
    ("round-robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("least-in-flight", Strategy::LeastInFlight),
    ("least-recently-used", Strategy::LeastRecentlyUsed),
];

/// One pool of keys and what it stands in front of.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) provider: Provider,
    pub(crate) base_url: BaseUrl,
    /// All paths if there are none.
    pub(crate) paths: Vec<Pattern>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) strategy: Strategy,
    /// How long a call may wait for a key, and how many may.
    pub(crate) max_wait: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) http2: Http2,
    pub(crate) breaker: Breaker,
    pub(crate) concurrency: Concurrency,
    /// First come, first served if there are none.
    pub(crate) classes: Option<Classes>,
    pub(crate) affinity: Affinity,
    pub(crate) estimate: Estimate,
    /// Whether a key that fails alone rests.
    pub(crate) key_breaker: bool,
}

/// Whether HTTP/2 is spoken to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http2 {
    pub(crate) is_enabled: bool,
    /// How many calls a connection carries at a time.
    pub(crate) streams: usize,
}

impl Http2 {
    /// RFC 9113 6.5.2 recommends that servers allow no fewer.
    const STREAMS: usize = 100;

    fn read(table: &Table<'_>) -> Result<Self, Problem> {
        let (http2, streams) = (table.get("http2"), table.get("streams_per_connection"));
        Ok(Self {
            is_enabled: http2.map_or(Ok(false), |node| node.yes_or_no())?,
            streams: match streams {
                Some(node) => node.whole(1..=10_000)? as usize,
                None => Self::STREAMS,
            },
        })
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            is_enabled: false,
            streams: Self::STREAMS,
        }
    }
}

/// What holds for upstreams that say nothing of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) timeouts: Timeouts,
    pub(super) breaker: Breaker,
    pub(super) concurrency: Concurrency,
}

impl Upstream {
    /// As long as callers' own clients usually wait for an answer.
    pub(crate) const MAX_WAIT: Duration = Duration::from_secs(600);
    /// As many as the library lets wait.
    pub(crate) const MAX_WAITING: usize = 10_000;

    pub(super) fn read(
        node: &Node<'_>,
        folder: &Path,
        defaults: Defaults,
        patterns: &mut HashSet<Pattern>,
    ) -> Result<Self, Problem> {
        let table = node.table(&[
            "name",
            "provider",
            "base_url",
            "paths",
            "strategy",
            "max_wait",
            "max_waiting",
            "timeouts",
            "http2",
            "streams_per_connection",
            "breaker",
            "concurrency",
            "shares",
            "affinity",
            "estimate",
            "key_breaker",
            "scope",
        ])?;
        let name = table.need("name", r#"name = "anthropic""#)?.text()?;
        let provider = provider(&table.need("provider", r#"provider = "anthropic""#)?)?;
        let base_url = match (table.get("base_url"), provider.base_url) {
            (Some(node), _) => base_url(&node)?,
            (None, Some(known)) => BaseUrl::parse(known).expect("the table of providers is right"),
            (None, None) => {
                let example = format!(
                    "base_url = \"https://..\"; the provider `{}` has none of its own",
                    provider.name
                );
                return Err(table
                    .need("base_url", &example)
                    .err()
                    .expect("it is missing"));
            }
        };
        let mut paths = Vec::new();
        if let Some(list) = table.get("paths") {
            for node in list.list("paths")? {
                let pattern = Pattern::parse(node.text()?).map_err(|why| node.wrong(why))?;
                if !patterns.insert(pattern.clone()) {
                    return Err(node.wrong(format!(
                        "has `{pattern}` a second time; let one upstream have it"
                    )));
                }
                paths.push(pattern);
            }
            if paths.is_empty() {
                return Err(list.wrong("is empty; name a path, such as \"/v1/*\""));
            }
        }
        let upstream = Self {
            name: name.to_owned(),
            provider,
            base_url,
            paths,
            scopes: scopes(&table, folder)?,
            strategy: strategy(&table)?,
            max_wait: max_wait(&table)?,
            max_waiting: match table.get("max_waiting") {
                Some(node) => node.whole(0..=1_000_000)? as usize,
                None => Self::MAX_WAITING,
            },
            timeouts: match table.get("timeouts") {
                Some(node) => Timeouts::read(&node, defaults.timeouts)?,
                None => defaults.timeouts,
            },
            http2: Http2::read(&table)?,
            breaker: match table.get("breaker") {
                Some(node) => Breaker::read(&node, defaults.breaker)?,
                None => defaults.breaker,
            },
            concurrency: match table.get("concurrency") {
                Some(node) => Concurrency::read(&node, defaults.concurrency)?,
                None => defaults.concurrency,
            },
            classes: match table.get("shares") {
                Some(node) => Some(Classes::read(&node)?),
                None => None,
            },
            affinity: match table.get("affinity") {
                Some(node) => Affinity::read(&node)?,
                None => Affinity::default(),
            },
            estimate: match table.get("estimate") {
                Some(node) => Estimate::read(&node)?,
                None => Estimate::default(),
            },
            key_breaker: match table.get("key_breaker") {
                Some(node) => node.yes_or_no()?,
                None => true,
            },
        };
        // What only the pool knows to be wrong.
        let pool = upstream.pool();
        pool.map_err(|error| table.wrong(format!("cannot be: {}", error.problem())))?;
        Ok(upstream)
    }

    /// Its keys, and where the calls with each go.
    ///
    /// # Errors
    ///
    /// None, once it has been read.
    pub(crate) fn pool(&self) -> Result<KeyPool, InvalidConfig> {
        let mut pool = KeyPool::builder().strategy(self.strategy);
        if let Some(affinity) = self.affinity.policy() {
            pool = pool.affinity(affinity);
        }
        if !self.key_breaker {
            pool = pool.no_breaker();
        }
        for scope in &self.scopes {
            let endpoint = scope.endpoint(&self.base_url)?;
            pool = pool.scope(scope.pooled().attach(endpoint));
        }
        pool.build()
    }
}

fn provider(node: &Node<'_>) -> Result<Provider, Problem> {
    let name = node.text()?;
    if name == BEDROCK {
        return Err(node.wrong(format!(
            "is `{BEDROCK}`, whose requests must be signed, which the relay cannot do yet; use one of {}",
            Provider::names()
        )));
    }
    Provider::of(name).ok_or_else(|| {
        let (word, names) = (word(name), Provider::names());
        node.wrong(format!("is an unknown provider{word}; use one of {names}"))
    })
}

fn scopes(table: &Table<'_>, folder: &Path) -> Result<Vec<Scope>, Problem> {
    let list = table.need("scope", r#"[[upstream.scope]] with a name and keys"#)?;
    let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
    let mut scopes = Vec::new();
    for node in list.list("tables, each under [[upstream.scope]]")? {
        let scope = Scope::read(&node, folder, &mut aliases)?;
        if !names.insert(scope.name.clone()) {
            let name = &scope.name;
            return Err(node.wrong(format!(
                "has the name `{name}`, which another scope of the upstream has; rename one"
            )));
        }
        scopes.push(scope);
    }
    if scopes.is_empty() {
        return Err(list.wrong("is empty; add a scope with a key"));
    }
    Ok(scopes)
}

fn strategy(table: &Table<'_>) -> Result<Strategy, Problem> {
    let Some(node) = table.get("strategy") else {
        return Ok(Strategy::default());
    };
    let name = node.text()?;
    let known = STRATEGIES.iter().find(|(known, _)| *known == name);
    known.map(|(_, strategy)| *strategy).ok_or_else(|| {
        let (word, names) = (word(name), STRATEGIES.map(|(name, _)| name).join(", "));
        node.wrong(format!("is an unknown strategy{word}; use one of {names}"))
    })
}

fn max_wait(table: &Table<'_>) -> Result<Duration, Problem> {
    let Some(node) = table.get("max_wait") else {
        return Ok(Upstream::MAX_WAIT);
    };
    node.positive_time()
}
