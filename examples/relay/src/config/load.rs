//! The file as a whole.

use std::{
    collections::HashSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use super::{
    breaker::Breaker,
    concurrency::Concurrency,
    front::Front,
    problem::{Problem, Source},
    reader::{Node, Table, document},
    timeouts::Timeouts,
    upstream::{Defaults, Upstream},
};

/// This machine alone: whoever reaches the relay spends its keys.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

/// What is served, and where.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) front: Front,
    pub(crate) upstreams: Vec<Upstream>,
    /// Where is kept what a restart must not forget, if anywhere.
    pub(crate) state: Option<PathBuf>,
}

impl Config {
    /// Reads the file at `path`; the secrets it names are read with it.
    pub(crate) fn load(path: &Path) -> Result<Self, Problem> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::InvalidData => "it is no UTF-8".to_owned(),
                kind => kind.to_string(),
            };
            Problem::of(
                &file,
                format!("the configuration cannot be read: {why}; name another with --config"),
            )
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let mut config = Self::parse(&file, &text, folder)?;
        let beside = || path.with_extension("state.json");
        config.state = Some(config.state.unwrap_or_else(beside));
        Ok(config)
    }

    /// `text` as the content of `file`; files of keys are looked for in `folder`.
    pub(super) fn parse(file: &str, text: &str, folder: &Path) -> Result<Self, Problem> {
        let source = Source { file, text };
        let mut known = vec!["listen"];
        known.extend(Front::FIELDS);
        known.extend(["state", "timeouts", "breaker", "concurrency", "upstream"]);
        document(source, &known, |table| {
            let (breaker, concurrency) = (Breaker::default(), Concurrency::default());
            let timeouts = Timeouts::default();
            let defaults = Defaults {
                timeouts: match table.get("timeouts") {
                    Some(node) => Timeouts::read(&node, timeouts)?,
                    None => timeouts,
                },
                breaker: match table.get("breaker") {
                    Some(node) => Breaker::read(&node, breaker)?,
                    None => breaker,
                },
                concurrency: match table.get("concurrency") {
                    Some(node) => Concurrency::read(&node, concurrency)?,
                    None => concurrency,
                },
            };
            let upstreams = upstreams(&table, folder, defaults)?;
            let classes = class_names(&upstreams);
            Ok(Self {
                listen: listen(&table)?,
                front: Front::read(&table, folder, &classes)?,
                upstreams,
                state: state(&table, file, folder)?,
            })
        })
    }

    /// Whether a secret stands in the configuration itself.
    pub(crate) fn has_literal_keys(&self) -> bool {
        if self.front.has_literal_tokens {
            return true;
        }
        let scopes = self.upstreams.iter().flat_map(|upstream| &upstream.scopes);
        scopes
            .flat_map(|scope| &scope.keys)
            .any(|key| key.is_literal)
    }
}

fn listen(table: &Table<'_>) -> Result<SocketAddr, Problem> {
    let Some(node) = table.get("listen") else {
        return Ok(DEFAULT_LISTEN);
    };
    let address = node.text()?.parse();
    address.map_err(|_| {
        node.wrong(r#"is no address with a port; write it like "127.0.0.1:8080" or "[::1]:8080""#)
    })
}

fn state(table: &Table<'_>, file: &str, folder: &Path) -> Result<Option<PathBuf>, Problem> {
    let Some(node) = table.get("state") else {
        return Ok(None);
    };
    let state = folder.join(node.text()?);
    match state == Path::new(file) {
        true => Err(node.wrong("is the configuration itself; name a file of its own")),
        false => Ok(Some(state)),
    }
}

fn upstreams(
    table: &Table<'_>,
    folder: &Path,
    defaults: Defaults,
) -> Result<Vec<Upstream>, Problem> {
    let list = table.need(
        "upstream",
        "[[upstream]] with a name, a provider and a scope",
    )?;
    let nodes = list.list("tables, each under [[upstream]]")?;
    let (mut names, mut patterns) = (HashSet::new(), HashSet::new());
    let mut upstreams = Vec::new();
    for node in &nodes {
        let upstream = Upstream::read(node, folder, defaults, &mut patterns)?;
        if !names.insert(upstream.name.clone()) {
            let name = &upstream.name;
            return Err(node.wrong(format!(
                "has the name `{name}`, which another upstream has; rename one"
            )));
        }
        if nodes.len() > 1 && upstream.paths.is_empty() {
            return Err(without_paths(node));
        }
        upstreams.push(upstream);
    }
    if upstreams.is_empty() {
        return Err(list.wrong("is empty; add an upstream"));
    }
    Ok(upstreams)
}

/// The classes that callers may be of, each once.
fn class_names(upstreams: &[Upstream]) -> Vec<&str> {
    let mut names: Vec<_> = upstreams
        .iter()
        .flat_map(|upstream| &upstream.classes)
        .flat_map(|classes| classes.shares.classes())
        .filter_map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn without_paths(node: &Node<'_>) -> Problem {
    node.wrong("has no paths, and there are several upstreams; add paths = [\"/v1/*\"]")
}
