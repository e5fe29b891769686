//! What a provider's answers tell of themselves.

/// Where an answer, plain or streamed, tells its usage, its errors and its end.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Events {}
