//! `affinity`: which calls belong together, and how much load that may heap on one account.

use tower_relay::{policy::pool, provider};

use super::{
    problem::Problem,
    reader::{Node, word},
};

/// Whether calls of one session go to one scope and key.
///
/// By default those whose callers name a session do: a cached prompt is cheaper and answered seconds
/// sooner. The prompt's beginning is a guess, and where all calls share one, as the system prompt
/// of a product, it makes a single session of them all, whose calls wait for one account first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affinity {
    by: By,
    load_per_mille: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Prompt,
    Session,
    Off,
}

const NAMES: [(&str, By); 3] = [
    ("prompt", By::Prompt),
    ("session", By::Session),
    ("off", By::Off),
];

impl Default for Affinity {
    fn default() -> Self {
        Self {
            by: By::Session,
            load_per_mille: pool::Affinity::DEFAULT_LOAD_PER_MILLE,
        }
    }
}

impl Affinity {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Problem> {
        let mut affinity = Self::default();
        if !node.is_table() {
            affinity.by = by(node)?;
            return Ok(affinity);
        }
        let table = node.table(&["by", "load"])?;
        if let Some(node) = table.get("by") {
            affinity.by = by(&node)?;
        }
        if let Some(node) = table.get("load") {
            let load = node.fraction()?;
            if !(1.01..=100.0).contains(&load) {
                return Err(node.wrong("is not from 1.01 to 100 times the mean; 1.25 is usual"));
            }
            affinity.load_per_mille = (load * 1e3).round() as u32;
        }
        Ok(affinity)
    }

    /// What the pool makes of sessions, if anything.
    pub(crate) fn policy(&self) -> Option<pool::Affinity> {
        let policy = pool::Affinity::new().load_per_mille(self.load_per_mille);
        (self.by != By::Off).then_some(policy)
    }

    /// What makes a session.
    pub(crate) const fn facts(&self) -> provider::Affinity {
        match self.by {
            By::Prompt => provider::Affinity::Prompt,
            By::Session => provider::Affinity::Session,
            By::Off => provider::Affinity::Nothing,
        }
    }
}

fn by(node: &Node<'_>) -> Result<By, Problem> {
    let name = node.text()?;
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, by)| *by).ok_or_else(|| {
        let (word, names) = (word(name), NAMES.map(|(name, _)| name).join(", "));
        node.wrong(format!("is an unknown affinity{word}; use one of {names}"))
    })
}
