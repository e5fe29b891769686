use std::{borrow::Cow, error::Error, fmt};

use super::Unit;

/// A configuration that cannot work, with the field and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    field: Cow<'static, str>,
    problem: Cow<'static, str>,
}

impl InvalidConfig {
    /// `field` is wrong; `problem` says why, and what to write instead.
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Why it is wrong, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The field that is wrong.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl Error for InvalidConfig {}

/// A call costs more than its quota can ever admit at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostTooLarge {
    unit: Unit,
    cost: u64,
    capacity: u64,
}

impl CostTooLarge {
    pub(crate) const fn new(unit: Unit, cost: u64, capacity: u64) -> Self {
        Self {
            unit,
            cost,
            capacity,
        }
    }

    /// What there is too much of.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// How much of it the call needs.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// The most that can be admitted at once.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }
}

impl fmt::Display for CostTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unit,
            cost,
            capacity,
        } = self;
        write!(
            f,
            "the call costs {cost} {}, but the quota never admits more than {capacity} at once",
            unit.name()
        )
    }
}

impl Error for CostTooLarge {}
