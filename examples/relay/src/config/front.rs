//! The listening side: who may call, how large a request may be and how long it may take.

use std::{net::SocketAddr, path::Path, time::Duration};

use secrecy::SecretString;
use tower_relay::http::Class;

use super::{
    key::secret,
    problem::Problem,
    reader::{Node, Table, word},
};

/// What holds for callers, whichever upstream they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// One of these has to come with a request; with none, every caller is served.
    pub(crate) tokens: Vec<Token>,
    /// Whether one of them stands in the configuration itself.
    pub(crate) has_literal_tokens: bool,
    /// Whether it was said that no token is wanted, whoever may reach the relay.
    pub(crate) is_unprotected: bool,
    pub(crate) limits: Limits,
    /// How long what is in flight may go on after the end was asked for.
    pub(crate) drain: Duration,
}

/// What lets a caller in.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: SecretString,
    /// The class of callers who have it, whatever they say themselves.
    pub(crate) class: Option<Class>,
}

/// The bounds of requests and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// More than a model takes in one request; the upload of a larger file does not go through
    /// the relay.
    pub(crate) body_mib: u64,
    pub(crate) headers: usize,
    /// Of all headers together.
    pub(crate) header_kib: usize,
    /// Of path and query.
    pub(crate) uri_bytes: usize,
    /// Open at a time.
    pub(crate) connections: usize,
    /// Calls at a time over one HTTP/2 connection; more wait at the caller's.
    pub(crate) streams: u32,
    /// To send the head of a request.
    pub(crate) head_time: Duration,
    /// To send its body, from its first byte to its last.
    pub(crate) body_time: Duration,
}

impl Default for Front {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            has_literal_tokens: false,
            is_unprotected: false,
            limits: Limits::default(),
            drain: Self::DRAIN,
        }
    }
}

impl Front {
    pub(super) const FIELDS: [&str; 4] = ["caller_token", "unprotected", "limits", "drain"];
    /// As long as most supervisors wait before they kill.
    const DRAIN: Duration = Duration::from_secs(30);

    /// `classes` are those that some upstream shares its keys among.
    pub(super) fn read(
        table: &Table<'_>,
        folder: &Path,
        classes: &[&str],
    ) -> Result<Self, Problem> {
        let mut front = Self::default();
        if let Some(node) = table.get("caller_token") {
            for node in node.one_or_more() {
                let table = node.table(&["env", "file", "value", "class"])?;
                let (secret, is_literal) = secret(&table, folder)?;
                let class = table.get("class").map(|node| class(&node, classes));
                front.tokens.push(Token {
                    secret,
                    class: class.transpose()?,
                });
                front.has_literal_tokens |= is_literal;
            }
            if front.tokens.is_empty() {
                return Err(
                    node.wrong("is empty, which lets nobody in; name a token, or leave it out")
                );
            }
        }
        if let Some(node) = table.get("unprotected") {
            front.is_unprotected = node.yes_or_no()?;
            if front.is_unprotected && !front.tokens.is_empty() {
                return Err(node.wrong("is true beside a caller_token; keep one of them"));
            }
        }
        if let Some(node) = table.get("limits") {
            front.limits = Limits::read(&node)?;
        }
        if let Some(node) = table.get("drain") {
            front.drain = node.time()?;
        }
        Ok(front)
    }

    /// Whether it may listen at `listen`: whoever reaches the relay spends its keys.
    ///
    /// # Errors
    ///
    /// What to do about it.
    pub(crate) fn allows(&self, listen: SocketAddr) -> Result<(), String> {
        if listen.ip().is_loopback() || self.is_unprotected || !self.tokens.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{listen} is open to other machines, and whoever reaches it would spend these keys; \
             add caller_token = {{ env = \"RELAY_TOKEN\" }}, listen on 127.0.0.1, or write \
             unprotected = true if something else keeps others away"
        ))
    }
}

fn class(node: &Node<'_>, classes: &[&str]) -> Result<Class, Problem> {
    let name = node.text()?;
    if classes.contains(&name) {
        return Ok(Class::new(name));
    }
    let (word, known) = (word(name), classes.join(", "));
    Err(node.wrong(match classes.is_empty() {
        true => format!("names a class{word}, and no upstream has shares; add them there"),
        false => format!("names a class{word} that no upstream's shares have; use one of {known}"),
    }))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_mib: 32,
            headers: 100,
            header_kib: 64,
            uri_bytes: 8_192,
            connections: 10_000,
            streams: 250,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(300),
        }
    }
}

impl Limits {
    fn read(node: &Node<'_>) -> Result<Self, Problem> {
        let table = node.table(&[
            "body_mib",
            "headers",
            "header_kib",
            "uri_bytes",
            "connections",
            "streams",
            "head_time",
            "body_time",
        ])?;
        let number = |name, default: u64, most| {
            let node = table.get(name);
            node.map_or(Ok(default), |node| node.whole(1..=most))
        };
        let time = |name, default| {
            let node = table.get(name);
            node.map_or(Ok(default), |node| node.positive_time())
        };
        let defaults = Self::default();
        Ok(Self {
            body_mib: number("body_mib", defaults.body_mib, 1_024)?,
            headers: number("headers", defaults.headers as u64, 1_000)? as usize,
            header_kib: number("header_kib", defaults.header_kib as u64, 1_024)? as usize,
            // What the `http` crate holds at most.
            uri_bytes: number("uri_bytes", defaults.uri_bytes as u64, 65_534)? as usize,
            connections: number("connections", defaults.connections as u64, 1_000_000)? as usize,
            streams: number("streams", defaults.streams.into(), 10_000)? as u32,
            head_time: time("head_time", defaults.head_time)?,
            body_time: time("body_time", defaults.body_time)?,
        })
    }

    pub(crate) const fn body_bytes(&self) -> u64 {
        self.body_mib << 20
    }
}
