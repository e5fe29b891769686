use crate::policy::{Cost, Part, Readings, Reservation, Timestamp};

use super::{
    Ask, Claim, Pick, Pool, Strategy, Unservable,
    heap::{FRONT, WIDE_FRONT},
    state::{Access, Credit, Standing, Trial},
};

/// Claims that the waiters of one line can hold in one pass. Who claims is woken; the others are
/// served by whoever is. More would make every pass as long as the pool is large.
const MOST_CLAIMS: usize = 64;

/// What a call has really used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Nothing: it was never sent.
    Unsent,
    /// As much as was reserved, for all anybody knows.
    AsReserved,
    /// This much.
    Used(Cost),
}

impl Pool {
    /// Whether `ask` can be served at `now` if nobody waits. It may say no where
    /// [`claim`](Self::claim) finds a way, never yes where that finds none.
    #[must_use]
    #[inline]
    pub fn is_free(&self, ask: &Ask, now: Timestamp) -> bool {
        match ask.preference {
            None => self.is_any_free(ask, now),
            Some(_) => self.is_free_for(ask, now),
        }
    }

    #[inline]
    pub(super) fn is_any_free(&self, ask: &Ask, now: Timestamp) -> bool {
        let view = self.models.get(ask.model).view;
        self.views[view].tiers.iter().any(|tier| {
            let ready = tier.ready.front(FRONT);
            let mut numbers = ready.chain(tier.waiting.front(FRONT));
            numbers.any(|number| self.can_serve(tier.lanes[number as usize], view, &ask.cost, now))
        })
    }

    /// Forgets all claims: a new pass over the waiters begins.
    pub fn begin_pass(&mut self) {
        // A lane that became ready since is found by whoever asks next.
        let now = self.seen;
        self.pass += 1;
        self.found = None;
        while let Some(lane) = self.claimed.pop() {
            let state = &mut self.lanes[lane as usize];
            state.is_claimed = false;
            for seat in &mut state.seats {
                seat.is_claimed = false;
            }
            self.place(lane, now);
        }
    }

    /// What `ask` finds at `now` among what nobody before it in this pass has claimed. What is
    /// ready is not claimed, but to be [taken](Self::take); otherwise the scope that can serve it
    /// soonest is.
    ///
    /// A pass grants the waiters of one line no more than 64 claims.
    pub fn claim(&mut self, ask: &Ask, now: Timestamp) -> Claim {
        if ask.preference.is_some() {
            if let Some(claim) = self.claim_own(ask, now) {
                return claim;
            }
        }
        if let Some(lane) = self.find(ask, now) {
            self.found = Some((*ask, lane));
            return Claim::Ready(self.served_since(lane, ask, now));
        }
        let view = self.models.get(ask.model).view;
        let may_claim = self.may_claim(view);
        if let Err(why) = self.fits(ask) {
            return Claim::Never(why);
        }
        if !may_claim {
            return Claim::Nothing;
        }
        if let Some((at, lane)) = self.soonest(view, &ask.cost) {
            self.hold(lane, view, at, &ask.cost, now);
            return Claim::At(at);
        }
        let view = &mut self.views[view];
        for tier in &mut view.tiers {
            if tier.full_claimed < tier.full.len() && tier.fits(&ask.cost).is_ok() {
                tier.full_claimed += 1;
                view.claims += 1;
                return Claim::OnRelease;
            }
        }
        Claim::Nothing
    }

    /// Whether calls of a view may claim more in this pass.
    pub(super) fn may_claim(&mut self, view: usize) -> bool {
        let pass = self.pass;
        self.views[view].enter(pass);
        self.views[view].claims < MOST_CLAIMS
    }

    /// Claims a lane that serves a call of this cost from `at` on.
    pub(super) fn hold(
        &mut self,
        lane: u32,
        view: usize,
        at: Timestamp,
        cost: &Cost,
        now: Timestamp,
    ) {
        self.views[view].claims += 1;
        let state = &mut self.lanes[lane as usize];
        if state.ready_at(cost) == Some(at) {
            state.is_claimed = true;
        } else {
            // It waits for a key or for credit: who may use another key takes nothing from it.
            for seat in state.seats.iter_mut().filter(|seat| seat.view == view) {
                seat.is_claimed = true;
            }
        }
        self.claimed.push(lane);
        self.place(lane, now);
    }

    /// Takes what was found free or [`Claim::Ready`] at `now`, as of the instant `at`.
    ///
    /// # Panics
    ///
    /// If nothing can serve `ask` at `now`: if neither was found.
    pub fn take(&mut self, ask: &Ask, at: Timestamp, now: Timestamp) -> Pick {
        let found = self.found.take();
        let view = self.models.get(ask.model).view;
        let lane = match found {
            Some((of, lane)) if of == *ask && self.can_serve(lane, view, &ask.cost, now) => lane,
            _ => self
                .find_any(ask, now)
                .expect("take follows a claim or is_free that found something"),
        };
        self.take_lane(lane, ask, at, now)
    }

    /// Takes what can serve `ask` at `now` if nobody waits: [`is_free`](Self::is_free) and
    /// [`take`](Self::take) in one, which finds a way wherever [`claim`](Self::claim) does.
    #[inline]
    pub fn try_take(&mut self, ask: &Ask, now: Timestamp) -> Option<Pick> {
        let lane = self.find_any(ask, now)?;
        Some(self.take_lane(lane, ask, now, now))
    }

    #[inline]
    fn find_any(&mut self, ask: &Ask, now: Timestamp) -> Option<u32> {
        match ask.preference {
            None => self.find(ask, now),
            Some(_) => self.find_for(ask, now),
        }
    }

    fn take_lane(&mut self, lane: u32, ask: &Ask, at: Timestamp, now: Timestamp) -> Pick {
        let view = self.models.get(ask.model).view;
        self.rouse(lane, now);
        let scope_index = self.lanes[lane as usize].scope;
        let key = match ask.preference {
            None => self.take_key(scope_index, view),
            Some(_) => self.take_key_for(ask, lane, view, now),
        };
        if self.sticky.is_some() {
            self.count_load(ask, lane, now);
            self.follow(ask, lane, now);
        }
        self.advance(lane, view);

        self.taken += 1;
        self.events += 1;
        let state = &mut self.lanes[lane as usize];
        let bucket = state.bucket.as_mut();
        let is_reserved = bucket.is_some();
        // Kept as the instant alone: a pick is moved on the hot path, and knows its cost.
        let taken_at = bucket.map_or(now, |bucket| bucket.take_late(&ask.cost, at, now).at());
        state.in_flight += 1;
        state.reference = ask.cost;
        state.last_taken = self.taken;
        state.last_used = self.events;
        if !state.gap.is_zero() {
            state.next_at = now + state.gap;
        }
        let rests = state.rests;
        let is_spaced = !state.gap.is_zero() || state.relapses > 0;

        let mark = self.enter_breaker(key, now);
        let (key_generation, is_trial) = {
            let key = &mut self.keys[key as usize];
            key.in_flight += 1;
            (key.generation, matches!(key.standing, Standing::OnTrial(_)))
        };
        let scope = &mut self.scopes[scope_index as usize];
        scope.in_flight += 1;
        let scope_generation = scope.generation;
        let probe = match scope.credit {
            Credit::Spent(until) => {
                scope.credit = Credit::Probing(until);
                Some(until)
            }
            _ => None,
        };
        if is_trial {
            self.set_standing(key, Standing::OnTrial(Trial::InFlight));
        }
        if probe.is_some() || is_trial {
            self.place_all(scope_index, now);
        } else if is_spaced || self.lanes[lane as usize].is_full() {
            self.place(lane, now);
        } else {
            self.keep_ready(lane, now);
        }
        Pick {
            ask: *ask,
            taken_at,
            is_reserved,
            scope: scope_index,
            lane,
            key,
            scope_generation,
            key_generation,
            rests,
            probe,
            is_trial,
            is_spaced,
            mark,
        }
    }

    /// Hears what the server shows of its quotas in its answer to the call of `pick`: they are those
    /// of the pick's scope and class of models, whichever of its keys was used. To be told as soon as
    /// the answer begins, before it is [reported](Self::report).
    ///
    /// A class without a quota hears nothing; for what is not known beforehand see
    /// [`Quota::learned`](crate::policy::Quota::learned), and for the rule
    /// [`TokenBucket::observe`](crate::policy::TokenBucket::observe).
    pub fn observe(&mut self, pick: &Pick, seen: &Readings, now: Timestamp) {
        let lane = &mut self.lanes[pick.lane as usize];
        if let (Some(bucket), true) = (&mut lane.bucket, pick.is_reserved) {
            let reservation = Reservation::again(pick.ask.cost, pick.taken_at);
            if bucket.observe(&reservation, seen, now) {
                self.place(pick.lane, now);
            }
        }
    }

    /// Returns a pick whose call is over.
    pub fn release(&mut self, pick: Pick, settlement: Settlement, now: Timestamp) {
        self.seen = now;
        self.events += 1;
        let lane = &mut self.lanes[pick.lane as usize];
        // What has not changed need not be put in order again.
        let mut is_moved = lane.is_full()
            || matches!(
                self.strategy,
                Strategy::LeastInFlight | Strategy::LeastRecentlyUsed
            );
        if let (Some(bucket), true) = (&mut lane.bucket, pick.is_reserved) {
            let reservation = Reservation::again(pick.ask.cost, pick.taken_at);
            is_moved |= settlement != Settlement::AsReserved;
            match settlement {
                Settlement::Unsent => bucket.refund(reservation, now),
                Settlement::AsReserved => {}
                Settlement::Used(cost) => bucket.settle(reservation, &cost, now),
            }
        }
        if lane.is_full() {
            lane.free_since = now;
        }
        lane.in_flight -= 1;
        lane.last_used = self.events;
        if lane.is_removed {
            self.free_lane(pick.lane);
        }
        self.release_key(&pick, now);
        let scope = &mut self.scopes[pick.scope as usize];
        scope.in_flight -= 1;
        if scope.access == Access::Removed && scope.in_flight == 0 {
            self.free_scopes.push(pick.scope);
        }
        if let (true, Some(due)) = (pick.is_probe_of(scope.credit), pick.probe) {
            // It has not found out: the next one may.
            scope.credit = Credit::Spent(due);
        }
        if pick.probe.is_some() || pick.is_trial {
            self.place_all(pick.scope, now);
        }
        if is_moved {
            self.place(pick.lane, now);
        }
    }

    /// Returns a pick that was not used, and what had been asked for.
    pub fn undo(&mut self, pick: Pick, now: Timestamp) -> Ask {
        let ask = pick.ask;
        self.release(pick, Settlement::Unsent, now);
        ask
    }

    /// The soonest instant at which `ask` could be served if it joined the waiters at `now`: a
    /// lower bound, for which all calls in flight end at once and give nothing back.
    ///
    /// Among more than 32 scopes of equal quotas, 32 are looked at that serve a call like their
    /// last soonest; another may serve this one before.
    ///
    /// # Errors
    ///
    /// [`Unservable`] if no wait is long enough.
    pub fn expect(&self, ask: &Ask, now: Timestamp) -> Result<Timestamp, Unservable> {
        self.expect_behind(ask, Part::WHOLE, now)
    }

    /// As [`expect`](Self::expect), behind this part of those that wait for the same model.
    pub(crate) fn expect_behind(
        &self,
        ask: &Ask,
        part: Part,
        now: Timestamp,
    ) -> Result<Timestamp, Unservable> {
        self.fits(ask)?;
        let waiting = &self.models.get(ask.model).waiting;
        let lanes = self.views[self.models.get(ask.model).view].usable().max(1);
        let mut ahead = waiting.cost.part(part);
        if !waiting.is_all(&ask.cost) {
            // Who finds a lane passes those ahead who wait for another, each for its own.
            let passed = lanes.min(MOST_CLAIMS) - 1;
            ahead.sub(&waiting.largest.times(passed as u64));
        }
        // All lanes together must serve those ahead and this one: one of them no less than an
        // equal share, though where there are several it may be another for each unit.
        ahead.add(&ask.cost);
        let mut ahead = ahead.share(lanes as u64);
        ahead.sub(&ask.cost);
        let parts = ahead.parts().filter(|_| lanes > 1);
        let soonest = parts.map(|part| self.soonest_after(&part, ask)).max();
        let soonest = soonest.unwrap_or_else(|| self.soonest_after(&ahead, ask));
        Ok(soonest.max(now))
    }

    /// When the first lane can serve `ask` after `ahead`.
    fn soonest_after(&self, ahead: &Cost, ask: &Ask) -> Timestamp {
        let model = self.models.get(ask.model);
        let fronts = self.views[model.view].tiers.iter().flat_map(|tier| {
            let heaps = [&tier.ready, &tier.waiting, &tier.full].into_iter();
            let numbers = heaps.flat_map(|heap| heap.front(WIDE_FRONT));
            numbers.map(|number| tier.lanes[number as usize])
        });
        let is_here = |lane: &u32| {
            let mut seats = self.lanes[*lane as usize].seats.iter();
            seats.any(|seat| seat.view == model.view)
        };
        let claimed = self.claimed.iter().copied().filter(is_here);
        let lanes = fronts.chain(claimed).filter_map(|lane| {
            let lane = &self.lanes[lane as usize];
            let opening = self.opening(lane.scope, model.view)?;
            let affordable = match &lane.bucket {
                None => Timestamp::ZERO,
                Some(bucket) => {
                    let largest = &model.waiting.largest;
                    bucket.ready_after(ahead, largest, &ask.cost).ok()?
                }
            };
            let awake = match lane.in_flight {
                0 => lane.awake_at(),
                // One that succeeds ends the distance between calls.
                _ => lane.rest_until,
            };
            Some(affordable.max(awake).max(opening.soonest))
        });
        lanes.min().unwrap_or(Timestamp::MAX)
    }

    /// Counts a waiter in.
    pub fn joined(&mut self, ask: &Ask) {
        self.waiting += 1;
        self.models.get_mut(ask.model).waiting.add(&ask.cost);
        if ask.preference.is_some() {
            self.joined_own(ask);
        }
    }

    /// Counts a waiter out.
    pub fn left(&mut self, ask: &Ask) {
        self.waiting -= 1;
        self.models.get_mut(ask.model).waiting.sub(&ask.cost);
        if ask.preference.is_some() {
            self.left_own(ask);
        }
        if self.waiting == 0 {
            // Nobody is left to begin the next pass.
            let found = self.found;
            self.begin_pass();
            self.found = found;
        }
    }
}
