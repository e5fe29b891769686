//! What the events of several layers have in common.

/// A layer has refused a call.
#[cfg(any(
    feature = "rate-limit",
    feature = "key-rotation",
    feature = "adaptive-concurrency",
    feature = "circuit-breaker"
))]
#[cold]
pub(crate) fn refusal(layer: &'static str, rejected: &crate::error::Rejected) {
    tracing::debug!(
        layer,
        "error.type" = rejected.name(),
        retry_after = rejected.retry_after().map(tracing::field::debug),
        reason = %rejected,
        "refused"
    );
}

/// How long until the server, or whoever has absorbed its word, wants to be asked again.
#[cfg(any(feature = "retry", feature = "provider"))]
pub(crate) fn retry_after(
    outcome: &crate::outcome::Outcome,
) -> Option<impl tracing::Value + use<>> {
    use crate::outcome::Hint;

    let wait = match outcome.hint()? {
        Hint::After(wait) => wait,
        Hint::Absorbed(at) => at.since(crate::clock::now()),
    };
    Some(tracing::field::debug(wait))
}
