//! The life of a call between its admission and the end of its response body.

use crate::{
    access::Caller,
    charging::{Charge, Tokens},
    line::Place,
    state::{Plan, Shared},
};
use std::sync::Arc;

/// A call in flight: ends with [`end`](Self::end), or counts as disconnected when it is dropped
/// before. Either settles what it was charged.
#[must_use]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    tab: Tab,
    ended: bool,
    /// None if it is not served at all.
    place: Option<Place>,
    /// Since it is served, and if it is.
    plan: Option<Plan>,
    produced: u64,
    failed: bool,
}

/// Whose call it is and what it has been charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tab {
    pub(crate) caller: Caller,
    /// The one of its admission.
    pub(crate) epoch: u64,
    pub(crate) tokens: Tokens,
    pub(crate) charged: Charge,
}

impl InFlight {
    pub(crate) fn new(shared: Arc<Shared>, tab: Tab, place: Option<Place>) -> Self {
        Self {
            shared,
            tab,
            ended: false,
            place,
            plan: None,
            produced: 0,
            failed: false,
        }
    }

    /// It is answered with an error.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
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

    /// The answer begins.
    pub(crate) fn begin(&mut self, plan: Plan) {
        self.plan = Some(plan);
        self.charge_for(0);
    }

    /// Counts tokens that were sent or, in an answer in one piece, would have been.
    pub(crate) fn produced(&mut self, tokens: u64) {
        self.produced += tokens;
        self.charge_for(tokens);
    }

    /// The body has been handed over to its end.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }

    fn charge_for(&mut self, tokens: u64) {
        let rule = self.shared.charging;
        let charge = rule.as_produced(&self.tab.tokens, self.produced);
        if tokens == 0 && charge.is_none() {
            return;
        }
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        if state.epoch() != self.tab.epoch {
            return;
        }
        if let Some(charge) = charge {
            state.settle(&mut self.tab, charge, now);
        }
        state.count(self.tab.caller, |counters| {
            counters.output_tokens_produced += tokens
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let rule = self.shared.charging;
        let produced = match &self.plan {
            Some(plan) if !self.ended => plan.generated(now).max(self.produced),
            _ => self.produced,
        };
        let charge = match self.failed {
            true => rule.at_failure(),
            false => rule.at_end(&self.tab.tokens, produced),
        };
        let mut state = self.shared.lock();
        if let Some(place) = self.place.take() {
            state.line.leave(place);
        }
        let is_counted = state.epoch() == self.tab.epoch;
        if let Some(charge) = charge.filter(|_| is_counted) {
            state.settle(&mut self.tab, charge, now);
        }
        let disconnected = !self.ended && is_counted;
        state.count(self.tab.caller, |counters| {
            counters.in_flight -= 1;
            counters.disconnected += u64::from(disconnected);
        });
    }
}
