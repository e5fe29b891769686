//! Who waits for what it prefers, and who takes what others leave.

use crate::policy::Timestamp;

use super::{
    super::{Ask, Claim, Pool, heap::WIDE_FRONT, models::Waiting, state::Line},
    Preference,
};

/// The lane that a call waits for.
#[derive(Clone, Copy, Debug)]
struct Own {
    lane: u32,
    /// When it serves; `None` if the end of a call in flight must open it.
    at: Option<Timestamp>,
    /// Whether those who wait for it wait for longer than they are patient for, so that some go
    /// where nobody else wants to.
    is_long: bool,
}

impl Pool {
    /// The lane that `ask` waits for, unless that will not serve it within its patience.
    fn own(&self, ask: &Ask, now: Timestamp) -> Option<Own> {
        let Preference {
            place, is_patient, ..
        } = ask.preference?;
        let view = self.models.get(ask.model).view;
        if !self.is_seated(place, view) {
            return None;
        }
        let lane = place.lane;
        let state = &self.lanes[lane as usize];
        let from = self.open_at(lane, view)?;
        let at = from.max(state.ready_at(&ask.cost)?);
        let bound = match is_patient {
            true => now + self.patience(lane, &ask.cost),
            false => now,
        };
        if at > bound {
            return None;
        }
        if state.is_full() {
            return is_patient.then_some(Own {
                lane,
                at: None,
                is_long: true,
            });
        }
        let Waiting { cost, largest, .. } = &state.waiting;
        let end = state
            .bucket
            .as_ref()
            .map(|bucket| bucket.ready_after(cost, largest, &ask.cost));
        let is_long = match end {
            None => false,
            Some(end) => end.is_err() || end.is_ok_and(|end| end > bound),
        };
        let at = Some(at);
        Some(Own { lane, at, is_long })
    }

    /// Whether its own lane serves `ask`.
    fn is_served_by(&self, own: Own, ask: &Ask, now: Timestamp) -> bool {
        let view = self.models.get(ask.model).view;
        let state = &self.lanes[own.lane as usize];
        let mut seats = state.seats.iter().filter(|seat| seat.view == view);
        self.can_serve(own.lane, view, &ask.cost, now) && seats.all(|seat| !seat.is_claimed)
    }

    /// Whether `ask` would be served if nobody waited.
    pub(in crate::policy::pool) fn is_free_for(&self, ask: &Ask, now: Timestamp) -> bool {
        match self.own(ask, now) {
            Some(own) if self.is_served_by(own, ask, now) => true,
            Some(own) if !own.is_long => false,
            _ => self.is_any_free(ask, now),
        }
    }

    /// The lane that serves `ask` at `now` with regard to what it prefers, and what others do.
    pub(in crate::policy::pool) fn find_for(&mut self, ask: &Ask, now: Timestamp) -> Option<u32> {
        let Some(own) = self.own(ask, now) else {
            return self.find(ask, now);
        };
        if self.is_served_by(own, ask, now) {
            self.seen = now;
            return Some(own.lane);
        }
        if own.is_long {
            self.find_unwanted(ask, now)
        } else {
            None
        }
    }

    /// A lane that serves `ask` and that nobody waits for.
    fn find_unwanted(&mut self, ask: &Ask, now: Timestamp) -> Option<u32> {
        let best = self.find(ask, now)?;
        if !self.lanes[best as usize].is_wanted() {
            return Some(best);
        }
        let view = self.models.get(ask.model).view;
        self.unwanted(view)
            .filter(|&lane| self.can_serve(lane, view, &ask.cost, now))
            .fold(None, |best, lane| self.better(best, Some(lane), now))
    }

    /// Of the lanes of a view that serve soonest those that nobody waits for.
    fn unwanted(&self, view: usize) -> impl Iterator<Item = u32> {
        let tiers = self.views[view].tiers.iter();
        let lanes = tiers.flat_map(|tier| {
            let ready = tier.ready.front(WIDE_FRONT);
            let numbers = ready.chain(tier.waiting.front(WIDE_FRONT));
            numbers.map(|number| tier.lanes[number as usize])
        });
        lanes.filter(|&lane| !self.lanes[lane as usize].is_wanted())
    }

    /// What a waiter finds that waits for its own lane; `None` if it does not.
    pub(in crate::policy::pool) fn claim_own(
        &mut self,
        ask: &Ask,
        now: Timestamp,
    ) -> Option<Claim> {
        let own = self.own(ask, now)?;
        if let Some(lane) = self.find_for(ask, now) {
            self.found = Some((*ask, lane));
            return Some(Claim::Ready(self.served_since(lane, ask, now)));
        }
        let view = self.models.get(ask.model).view;
        if !self.may_claim(view) {
            return Some(Claim::Nothing);
        }
        let state = &self.lanes[own.lane as usize];
        let is_free = !state.is_claimed
            && state
                .seats
                .iter()
                .all(|seat| seat.view != view || !seat.is_claimed);
        let mine = own.at.filter(|_| is_free).map(|at| (at, own.lane));
        let other = own
            .is_long
            .then(|| self.soonest_unwanted(view, ask))
            .flatten();
        if let Some((at, lane)) = mine.into_iter().chain(other).min() {
            self.hold(lane, view, at, &ask.cost, now);
            return Some(Claim::At(at));
        }
        if own.at.is_none() && is_free {
            let at = self.lanes[own.lane as usize]
                .ready_at(&ask.cost)
                .unwrap_or(now);
            self.hold(own.lane, view, at, &ask.cost, now);
            return Some(Claim::OnRelease);
        }
        Some(Claim::Nothing)
    }

    fn soonest_unwanted(&self, view: usize, ask: &Ask) -> Option<(Timestamp, u32)> {
        let ready = |lane: u32| {
            let ready = self.lanes[lane as usize].ready_at(&ask.cost)?;
            Some((ready.max(self.open_at(lane, view)?), lane))
        };
        self.unwanted(view).filter_map(ready).min()
    }

    /// The lane that a waiter is counted with. It is the same when it leaves as when it joined: what
    /// is waited for is not given another use.
    fn waits_for(&self, ask: &Ask) -> Option<u32> {
        let Preference {
            place, is_patient, ..
        } = ask.preference?;
        let state = &self.lanes[place.lane as usize];
        let is_counted = is_patient && state.serial == place.serial && !state.is_unused;
        is_counted.then_some(place.lane)
    }

    pub(in crate::policy::pool) fn line_of(&self, ask: &Ask) -> Option<usize> {
        let lane = &self.lanes[self.waits_for(ask)? as usize];
        let mut lines = lane.lines.iter();
        Some(lines.find(|line| line.model == ask.model)?.number)
    }

    pub(in crate::policy::pool) fn joined_own(&mut self, ask: &Ask) {
        let Some(lane) = self.waits_for(ask) else {
            return;
        };
        let state = &mut self.lanes[lane as usize];
        state.waiting.add(&ask.cost);
        match state.lines.iter_mut().find(|line| line.model == ask.model) {
            Some(line) => line.calls += 1,
            None => state.lines.push(Line {
                model: ask.model,
                number: self.models.add_line(),
                calls: 1,
            }),
        }
    }

    pub(in crate::policy::pool) fn left_own(&mut self, ask: &Ask) {
        let Some(lane) = self.waits_for(ask) else {
            return;
        };
        let state = &mut self.lanes[lane as usize];
        state.waiting.sub(&ask.cost);
        let lines = &mut state.lines;
        if let Some(at) = lines.iter().position(|line| line.model == ask.model) {
            lines[at].calls -= 1;
            if lines[at].calls == 0 {
                let line = lines.swap_remove(at);
                self.models.free_line(line.number);
            }
        }
        self.free_lane(lane);
    }
}
