//! Walks a TOML document, so that every complaint says where it is and what was expected.
//!
//! Not by serde's derive: its messages quote the value they do not like, toml's quote the line,
//! and either may be a secret. Here no value is ever quoted that does not look like a mere word.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Problem, Source};

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node<'t> {
    source: Source<'t>,
    path: String,
    at: usize,
    value: &'t DeValue<'t>,
}

/// A table whose fields are all known.
pub(super) struct Table<'t> {
    source: Source<'t>,
    path: String,
    at: usize,
    fields: BTreeMap<&'t str, Node<'t>>,
}

/// Reads the document with `read`.
pub(super) fn document<T>(
    source: Source<'_>,
    known: &[&str],
    read: impl FnOnce(Table<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let parsed = DeTable::parse(source.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let text = format!("this is no TOML: {}", error.message());
        // One line, whatever it says.
        source.problem(at, text.replace('\n', ", "))
    })?;
    read(Table::new(
        source,
        String::new(),
        0,
        parsed.get_ref(),
        known,
    )?)
}

// === impl Node ===

impl<'t> Node<'t> {
    /// What is wrong with it, after its path.
    pub(super) fn wrong(&self, problem: impl AsRef<str>) -> Problem {
        let text = format!("{} {}", self.path, problem.as_ref());
        self.source.problem(self.at, text)
    }

    /// A text that says something.
    pub(super) fn text(&self) -> Result<&'t str, Problem> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => {
                Err(self.wrong("is empty; write something between the quotes"))
            }
            DeValue::String(text) => Ok(text),
            _ => Err(self.mistyped("a text in quotes")),
        }
    }

    pub(super) fn whole(&self, bounds: RangeInclusive<u64>) -> Result<u64, Problem> {
        let DeValue::Integer(number) = self.value else {
            return Err(self.mistyped("a whole number"));
        };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
        match number {
            Some(number) if bounds.contains(&number) => Ok(number),
            Some(0) => {
                Err(self.wrong("is 0, which admits nothing; use at least 1, or leave it out"))
            }
            _ if *bounds.end() == u64::MAX => Err(self.wrong(format!(
                "is out of range; use a whole number from {}",
                bounds.start()
            ))),
            _ => Err(self.wrong(format!(
                "is out of range; use a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    /// A number, with a point or without.
    pub(super) fn fraction(&self) -> Result<f64, Problem> {
        let number = match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => return Err(self.mistyped("a number")),
        };
        // Such as a hexadecimal one.
        number.ok_or_else(|| self.wrong("is no plain number; write it like 0.5"))
    }

    pub(super) const fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn yes_or_no(&self) -> Result<bool, Problem> {
        match self.value {
            DeValue::Boolean(is_so) => Ok(*is_so),
            _ => Err(self.mistyped("true or false")),
        }
    }

    /// A span of time.
    pub(super) fn time(&self) -> Result<Duration, Problem> {
        humantime::parse_duration(self.text()?).map_err(|_| {
            self.wrong(r#"is no time; write a number and a unit, such as "500ms" or "10m""#)
        })
    }

    /// A span of time that is not empty.
    pub(super) fn positive_time(&self) -> Result<Duration, Problem> {
        let time = humantime::parse_duration(self.text()?).ok();
        time.filter(|time| !time.is_zero()).ok_or_else(|| {
            self.wrong(
                r#"is no time above zero; write a number and a unit, such as "90s" or "10m""#,
            )
        })
    }

    /// The elements of a list, or the value itself if it is none.
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        match self.value {
            DeValue::Array(elements) => {
                let elements = elements.iter();
                elements.map(|element| self.inside(element)).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// The elements of a list; `what` they are, for who leaves the brackets out.
    pub(super) fn list(&self, what: &str) -> Result<Vec<Self>, Problem> {
        let DeValue::Array(elements) = self.value else {
            return Err(self.mistyped(&format!("a list of {what}")));
        };
        let elements = elements.iter();
        Ok(elements.map(|element| self.inside(element)).collect())
    }

    /// A table with these fields, none of which need be there.
    pub(super) fn table(&self, known: &[&str]) -> Result<Table<'t>, Problem> {
        let DeValue::Table(fields) = self.value else {
            return Err(self.mistyped("a table"));
        };
        Table::new(self.source, self.path.clone(), self.at, fields, known)
    }

    /// A table whose fields may have any name.
    pub(super) fn map(&self) -> Result<Vec<(&'t str, Self)>, Problem> {
        let DeValue::Table(fields) = self.value else {
            return Err(self.mistyped("a table"));
        };
        let fields = fields.iter();
        Ok(fields
            .map(|(name, value)| (&**name.get_ref(), self.inside(value)))
            .collect())
    }

    fn inside(&self, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self {
            source: self.source,
            path: self.path.clone(),
            at: value.span().start,
            value: value.get_ref(),
        }
    }

    fn mistyped(&self, expected: &str) -> Problem {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("is {found}; write {expected}"))
    }
}

// === impl Table ===

impl<'t> Table<'t> {
    fn new(
        source: Source<'t>,
        path: String,
        at: usize,
        fields: &'t DeTable<'t>,
        known: &[&str],
    ) -> Result<Self, Problem> {
        let mut nodes = BTreeMap::new();
        let mut unknown: Option<(usize, &str)> = None;
        for (name, value) in fields {
            let (name_at, name) = (name.span().start, &**name.get_ref());
            if !known.contains(&name) {
                // They come by name; the first in the file is complained of.
                if unknown.is_none_or(|(first, _)| name_at < first) {
                    unknown = Some((name_at, name));
                }
                continue;
            }
            let node = Node {
                source,
                path: join(&path, name),
                at: value.span().start,
                value: value.get_ref(),
            };
            nodes.insert(name, node);
        }
        if let Some((at, name)) = unknown {
            let (what, known) = (word(name), known.join(", "));
            let place = match &*path {
                "" => "the top of the file".to_owned(),
                path => path.to_owned(),
            };
            let text = format!("unknown field{what} in {place}; use one of {known}");
            return Err(source.problem(at, text));
        }
        Ok(Self {
            source,
            path,
            at,
            fields: nodes,
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<Node<'t>> {
        self.fields.get(name).cloned()
    }

    /// The field, with which `example` helps if it is missing.
    pub(super) fn need(&self, name: &str, example: &str) -> Result<Node<'t>, Problem> {
        let missing = || {
            let text = format!(
                "{} is missing; add it, such as {example}",
                join(&self.path, name)
            );
            self.source.problem(self.at, text)
        };
        self.get(name).ok_or_else(missing)
    }

    /// What is wrong with the table as a whole.
    pub(super) fn wrong(&self, problem: impl AsRef<str>) -> Problem {
        let text = format!("{} {}", self.path, problem.as_ref());
        self.source.problem(self.at, text)
    }

    /// What is wrong with a field, there or not.
    pub(super) fn wrong_in(&self, field: &str, problem: impl AsRef<str>) -> Problem {
        match self.fields.get(field) {
            Some(node) => node.wrong(problem),
            None => self.wrong(format!("{field}: {}", problem.as_ref())),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// What somebody wrote, in quotes behind a blank, where it is a mere word: secrets have digits.
pub(super) fn word(written: &str) -> String {
    let is_word = written.len() <= 40
        && written
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte));
    match is_word {
        true => format!(" `{written}`"),
        false => String::new(),
    }
}
