//! What a scope's quota has come to, for whoever judges a client by it.

use std::time::Duration;

/// The books of one dimension of a scope's quota since its first charge.
///
/// `charged` can exceed `held + refilled` by no more than `deepest_debt`: the provider admits
/// nothing that its quota does not hold, but what a call really used is known only later.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Book {
    /// Requests or tokens charged, less what was given back when a call was settled.
    pub charged: f64,
    /// What refused calls took, where they count.
    pub wasted: f64,
    /// What flowed in since the first charge, at the rate of the provider's own clock; in windows
    /// by the share of each that has passed.
    pub refilled: f64,
    /// What the quota held at the first charge.
    pub held: f64,
    /// How far below zero the quota was at worst.
    pub deepest_debt: f64,
}

impl Book {
    /// What was charged beyond all that there was, debt that is not paid yet included.
    #[must_use]
    pub fn overshoot(&self) -> f64 {
        (self.charged - self.held - self.refilled).max(0.0)
    }
}

/// The books of all configured dimensions of a scope, at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Books {
    /// When they were closed, in provider time since the start or reset.
    pub at: Duration,
    /// The name of each dimension, as in [`Limits`](crate::Limits), and its book.
    pub dimensions: Vec<(&'static str, Book)>,
}
