//! The life of a call between its admission and the end of its response body.

use crate::{access::Caller, line::Place, state::Shared};
use std::sync::Arc;

/// A call in flight: ends with [`end`](Self::end), or counts as disconnected when it is dropped
/// before.
#[must_use]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    caller: Caller,
    epoch: u64,
    ended: bool,
    /// None if it is not served at all.
    place: Option<Place>,
}

impl InFlight {
    /// `epoch` is the one of its admission.
    pub(crate) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        epoch: u64,
        place: Option<Place>,
    ) -> Self {
        Self {
            shared,
            caller,
            epoch,
            ended: false,
            place,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until it is served.
    pub(crate) async fn turn(&mut self) {
        if let Some(Place::Waiting { turn, .. }) = &mut self.place {
            // Whoever waits is called, unless there is no provider any more.
            if turn.await.is_ok() {
                self.place = Some(Place::Served);
            }
        }
    }

    /// Counts tokens that were sent.
    pub(crate) fn produced(&self, tokens: u64) {
        let mut state = self.shared.lock();
        if state.epoch() == self.epoch {
            state.count(self.caller, |counters| {
                counters.output_tokens_produced += tokens
            });
        }
    }

    /// The body has been handed over to its end.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(place) = self.place.take() {
            state.line.leave(place);
        }
        let disconnected = !self.ended && state.epoch() == self.epoch;
        state.count(self.caller, |counters| {
            counters.in_flight -= 1;
            counters.disconnected += u64::from(disconnected);
        });
    }
}
