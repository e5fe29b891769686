//! `estimate`: whether calls reserve what calls like them turned out to need.

use tower_relay::policy::Estimator;

use super::{problem::Problem, reader::Node};

/// The share of answers that estimates of output cover; `None` where calls reserve what they say.
///
/// On for every provider: by `docs/accuracy.md` it uses more of a quota at OpenAI's and Anthropic's
/// way of counting output, costs nothing elsewhere, and alone keeps the books where four bytes
/// are no token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate(Option<f64>);

const SAFETY: f64 = 0.95;

impl Default for Estimate {
    fn default() -> Self {
        Self(Some(SAFETY))
    }
}

impl Estimate {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Problem> {
        if !node.is_table() {
            let is_on = node.yes_or_no()?;
            return Ok(Self(is_on.then_some(SAFETY)));
        }
        let table = node.table(&["safety"])?;
        let Some(node) = table.get("safety") else {
            return Ok(Self::default());
        };
        let safety = node.fraction()?;
        if Estimator::safety(safety).is_err() {
            return Err(node.wrong("is not from 0.5 to 0.99 of the answers; 0.95 is usual"));
        }
        Ok(Self(Some(safety)))
    }

    /// What learns, if anything does.
    pub(crate) fn policy(self) -> Option<Estimator> {
        self.0
            .map(|safety| Estimator::safety(safety).expect("it was checked when it was read"))
    }
}
