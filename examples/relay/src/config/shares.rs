//! `shares`: what classes of callers get of an upstream while others want it too.

use tower_relay::{http::Class, policy::Shares};

use super::{problem::Problem, reader::Node};

/// Callers of no class or an unknown one.
const OTHERS: &str = "others";

/// The classes of an upstream's callers.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    pub(crate) shares: Shares,
    /// Made once, because each request gets a copy.
    known: Vec<Class>,
}

impl Classes {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Problem> {
        let (mut shares, mut known) = (Shares::builder(), Vec::new());
        for (name, node) in node.map()? {
            let weight = node.whole(1..=1_000_000)? as u32;
            if name == OTHERS {
                shares = shares.others(weight);
                continue;
            }
            if !fits_header(name) {
                return Err(node.wrong(
                    "has a class whose name fits no header; use visible ASCII without blanks",
                ));
            }
            shares = shares.class(name, weight);
            known.push(Class::new(name));
        }
        let shares = shares.build();
        let shares = shares.map_err(|error| match known.is_empty() {
            true => node.wrong("names no class; write { interactive = 20, batch = 80 }"),
            false => node.wrong(format!("cannot be: {}", error.problem())),
        })?;
        Ok(Self { shares, known })
    }

    /// The class of this name, if it has a share.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Class> {
        let mut known = self.known.iter();
        known.find(|class| class.name().as_bytes() == name)
    }
}

/// Whether callers can say it.
pub(crate) fn fits_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}
