//! Which models are asked for: what is learned of them is kept by a hash of their names.

use std::sync::{Arc, PoisonError, RwLock};

/// Callers may invent names; what is shown need not be more than these.
const MOST: usize = 64;
const LONGEST_NAME: usize = 100;

/// The first models that were asked for. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Models(Arc<RwLock<Vec<Arc<str>>>>);

impl Models {
    pub(super) fn note(&self, model: &str) {
        if self.is_settled(model) {
            return;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MOST && !names.iter().any(|name| **name == *model) {
            names.push(model.into());
        }
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let names = self.0.read();
        names.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_settled(&self, model: &str) -> bool {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        model.len() > LONGEST_NAME
            || names.len() >= MOST
            || names.iter().any(|name| **name == *model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_noted_once_and_neither_many_nor_long_ones_are_kept() {
        let models = Models::default();
        models.note("a");
        models.note("a");
        models.note(&"x".repeat(LONGEST_NAME + 1));
        assert_eq!(models.names(), [Arc::from("a")]);
        for number in 0..2 * MOST {
            models.note(&number.to_string());
        }
        assert_eq!(models.names().len(), MOST);
    }
}
