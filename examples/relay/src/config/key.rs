//! `key = [..]`: credentials, from the environment, from files, or as they are.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    problem::Problem,
    reader::{Node, Table},
};

/// What the pool calls a key, and the secret that only the provider gets to see.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) alias: String,
    pub(crate) weight: u32,
    pub(crate) secret: SecretString,
    /// Whether the secret stands in the configuration itself.
    pub(crate) is_literal: bool,
}

/// A shorter secret, as tests have them, may be a part of its alias by chance.
const SHORTEST: usize = 8;

const SOURCES: [&str; 3] = ["env", "file", "value"];

impl Key {
    /// Files are looked for in `folder`.
    pub(super) fn read(node: &Node<'_>, folder: &Path) -> Result<Self, Problem> {
        let table = node.table(&["alias", "env", "file", "value", "weight"])?;
        let alias_node = table.need("alias", r#"alias = "a1""#)?;
        let alias = alias_node.text()?;
        let weight = match table.get("weight") {
            Some(node) => node.whole(1..=1_000)?,
            None => 1,
        };
        let (secret, is_literal) = secret(&table, folder)?;
        let shown = secret.expose_secret();
        let is_inside = shown.len() >= SHORTEST && alias.contains(shown);
        if is_inside || alias == shown {
            return Err(alias_node.wrong("is the secret itself; give the key a name"));
        }
        Ok(Self {
            alias: alias.to_owned(),
            weight: weight as u32,
            secret,
            is_literal,
        })
    }
}

/// The secret that a table names, from the one source it may have, and whether that is the
/// configuration itself. Files are looked for in `folder`.
pub(super) fn secret(table: &Table<'_>, folder: &Path) -> Result<(SecretString, bool), Problem> {
    let (source, node) = only_source(table)?;
    let secret: SecretString = match source {
        "env" => from_environment(&node)?,
        "file" => from_file(&node, folder)?,
        _ => node.text()?.to_owned(),
    }
    .into();
    match flaw(secret.expose_secret()) {
        Some(problem) => Err(node.wrong(problem)),
        None => Ok((secret, source == "value")),
    }
}

fn only_source<'t>(table: &Table<'t>) -> Result<(&'static str, Node<'t>), Problem> {
    let mut found = SOURCES
        .into_iter()
        .filter_map(|source| Some((source, table.get(source)?)));
    match (found.next(), found.next()) {
        (Some(source), None) => Ok(source),
        (None, _) => Err(table.wrong("has no secret; add one of env, file and value")),
        (Some(_), Some((second, node))) => Err(node.wrong(format!(
            "is a second source of one secret; keep one of {}, {second}",
            SOURCES
                .iter()
                .filter(|&&source| source != second && table.get(source).is_some())
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
        ))),
    }
}

fn from_environment(node: &Node<'_>) -> Result<String, Problem> {
    let name = node.text()?;
    if name.contains(['=', '\0']) {
        return Err(node.wrong("is no name of an environment variable; write it without `$`"));
    }
    let value = std::env::var_os(name).ok_or_else(|| {
        let shown = shown_variable(name);
        node.wrong(format!(
            "names a variable{shown} that is not set; set it, or name another"
        ))
    })?;
    let shown = shown_variable(name);
    value.into_string().map_err(|_| {
        node.wrong(format!(
            "names a variable{shown} that is no UTF-8; set it to the key alone"
        ))
    })
}

/// Named if it looks like a variable: somebody may have written the secret in its place.
fn shown_variable(name: &str) -> String {
    let is_usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match name.len() <= 64 && name.bytes().all(is_usual) {
        true => format!(" `{name}`"),
        false => String::new(),
    }
}

/// The file's content without the line's end that every editor adds.
fn from_file(node: &Node<'_>, folder: &Path) -> Result<String, Problem> {
    let path = folder.join(node.text()?);
    let content = read(&path).map_err(|error| {
        // The path is not repeated: somebody may have written the secret in its place.
        node.wrong(format!(
            "names a file that cannot be read ({}); paths begin at the configuration's folder",
            error.kind()
        ))
    })?;
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A longer file is no key; some have no end.
const LONGEST: u64 = 16 << 10;

fn read(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    File::open(path)?
        .take(LONGEST)
        .read_to_string(&mut content)?;
    Ok(content)
}

/// Why a secret cannot be sent in a header.
fn flaw(secret: &str) -> Option<&'static str> {
    match secret {
        "" => Some("gives an empty secret; give it the key"),
        _ if secret.contains(['\n', '\r']) => {
            Some("gives a secret of several lines; keep the key alone, on one line")
        }
        _ if secret.contains(char::is_whitespace) => {
            Some("gives a secret with a blank in it; keep the key alone, without `Bearer`")
        }
        _ if !secret.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some("gives a secret that fits no header; use visible ASCII")
        }
        _ => None,
    }
}
