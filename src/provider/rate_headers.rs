//! Which headers show the state of a provider's quotas.

/// The headers by which a provider shows its quotas, and what they are in.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RateHeaders {}
