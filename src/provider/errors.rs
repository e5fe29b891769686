//! What a provider's errors mean.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use crate::{
    http::classify_head,
    outcome::{Outcome, Verdict},
};

/// How a provider's failures are read from status, headers and body.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Errors {}

impl Errors {
    /// What a failed attempt turned out to be. `body` is what was read of it, perhaps nothing;
    /// `now` is the instant of receipt.
    pub fn classify(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Outcome {
        let _ = (body, now);
        classify_head(status, headers)
    }

    /// What an error turned out to be that came inside an answer which began with 200: `payload`
    /// is the JSON of the event, chunk or body that has it; `event` the name of the event, if any.
    pub fn classify_inside(&self, event: Option<&str>, payload: &[u8], now: SystemTime) -> Outcome {
        let _ = (event, payload, now);
        Outcome::new(Verdict::ServerFault)
    }
}
