use crate::policy::{Cost, CostTooLarge, Timestamp};

use super::{
    Ask, Claim, ModelId, NobodyCanServe, Pick, Pool, Strategy, Transition, Unservable, WhyNot,
    heap::FRONT,
    refusal::MOST_NAMED,
    state::{Access, Credit, Standing, Trial, stride},
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
        let view = self.models.get(ask.model).view;
        self.views[view].tiers.iter().any(|tier| {
            let mut numbers = tier.ready.front().chain(tier.waiting.front());
            numbers.any(|number| self.can_serve(tier.lanes[number as usize], view, &ask.cost, now))
        })
    }

    /// Forgets all claims: a new pass over the waiters begins.
    pub fn begin_pass(&mut self, now: Timestamp) {
        self.pass += 1;
        self.found = None;
        while let Some(lane) = self.claimed.pop() {
            self.lanes[lane as usize].is_claimed = false;
            self.place(lane, now);
        }
    }

    /// What `ask` finds at `now` among what nobody before it in this pass has claimed. What is
    /// ready is not claimed, but to be [taken](Self::take); otherwise the scope that can serve it
    /// soonest is.
    ///
    /// A pass grants the waiters of one line no more than 64 claims.
    pub fn claim(&mut self, ask: &Ask, now: Timestamp) -> Claim {
        if let Some(lane) = self.find(ask, now) {
            self.found = Some((*ask, lane));
            return Claim::Ready(self.served_since(lane, ask, now));
        }
        let view = self.models.get(ask.model).view;
        let pass = self.pass;
        self.views[view].enter(pass);
        if let Err(why) = self.fits(ask) {
            return Claim::Never(why);
        }
        if self.views[view].claims == MOST_CLAIMS {
            return Claim::Nothing;
        }
        let soonest = self.soonest(view, &ask.cost);
        let view = &mut self.views[view];
        if let Some((at, lane)) = soonest {
            view.claims += 1;
            self.lanes[lane as usize].is_claimed = true;
            self.claimed.push(lane);
            self.place(lane, now);
            return Claim::At(at);
        }
        for tier in &mut view.tiers {
            if tier.full_claimed < tier.full && tier.fits(&ask.cost).is_ok() {
                tier.full_claimed += 1;
                view.claims += 1;
                return Claim::OnRelease;
            }
        }
        Claim::Nothing
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
                .find(ask, now)
                .expect("take follows a claim or is_free that found something"),
        };
        self.rouse(lane, now);
        let scope_index = self.lanes[lane as usize].scope;
        let key = self.take_key(scope_index, view);
        let weight = self.scopes[scope_index as usize].ring.weight;

        self.taken += 1;
        let state = &mut self.lanes[lane as usize];
        let bucket = state.bucket.as_mut();
        let reservation = bucket.map(|bucket| bucket.take_late(&ask.cost, at, now));
        state.in_flight += 1;
        state.reference = ask.cost;
        state.last_taken = self.taken;
        state.last_used = now;
        if !state.gap.is_zero() {
            state.next_at = now + state.gap;
        }
        self.clock = self.clock.max(state.turn);
        let weight = match self.strategy {
            Strategy::Weighted => weight,
            _ => 1,
        };
        state.turn = self.clock.saturating_add(stride(weight));
        let rests = state.rests;

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
        } else {
            self.place(lane, now);
        }
        Pick {
            ask: *ask,
            reservation,
            scope: scope_index,
            lane,
            key,
            scope_generation,
            key_generation,
            rests,
            probe,
            is_trial,
        }
    }

    /// Returns a pick whose call is over.
    pub fn release(&mut self, mut pick: Pick, settlement: Settlement, now: Timestamp) {
        let lane = &mut self.lanes[pick.lane as usize];
        if let (Some(bucket), Some(reservation)) = (&mut lane.bucket, pick.reservation.take()) {
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
        lane.last_used = now;
        if lane.is_removed && lane.in_flight == 0 {
            self.free_lanes.push(pick.lane);
        }
        self.release_key(&pick);
        let scope = &mut self.scopes[pick.scope as usize];
        scope.in_flight -= 1;
        if scope.access == Access::Removed && scope.in_flight == 0 {
            self.free_scopes.push(pick.scope);
        }
        let is_current = scope.generation == pick.scope_generation;
        if let (true, Some(due)) = (is_current && pick.is_probe_of(scope.credit), pick.probe) {
            // It has not found out: the next one may.
            scope.credit = Credit::Spent(due);
        }
        if pick.probe.is_some() || pick.is_trial {
            self.place_all(pick.scope, now);
        }
        self.place(pick.lane, now);
    }

    /// Returns a pick that was not used, and what had been asked for.
    pub fn undo(&mut self, pick: Pick, now: Timestamp) -> Ask {
        let ask = pick.ask;
        self.release(pick, Settlement::Unsent, now);
        ask
    }

    /// The soonest instant at which `ask` could be served if it joined the waiters at `now`. A
    /// lower bound; where all depends on the end of calls in flight, it is `now`.
    ///
    /// # Errors
    ///
    /// [`Unservable`] if no wait is long enough.
    pub fn expect(&self, ask: &Ask, now: Timestamp) -> Result<Timestamp, Unservable> {
        self.fits(ask)?;
        let model = self.models.get(ask.model);
        let view = &self.views[model.view];
        // All lanes together must serve those ahead and this one: no less than an equal share each.
        let mut ahead = model.waiting.cost;
        ahead.add(&ask.cost);
        let mut ahead = ahead.share(view.usable().max(1) as u64);
        ahead.sub(&ask.cost);
        let mut soonest = Timestamp::MAX;
        for tier in view
            .tiers
            .iter()
            .filter(|tier| tier.fits(&ask.cost).is_ok())
        {
            if tier.full > 0 {
                return Ok(now);
            }
            let numbers = tier.ready.front().chain(tier.waiting.front());
            let lanes = numbers.map(|number| tier.lanes[number as usize]);
            for lane in lanes.chain(self.claimed.iter().copied()) {
                let is_here = |seat: &super::state::Seat| seat.view == model.view;
                let state = &self.lanes[lane as usize];
                if !state.seats.iter().any(is_here) {
                    continue;
                }
                let after = match &state.bucket {
                    None => Some(Timestamp::ZERO),
                    Some(bucket) => {
                        let largest = &model.waiting.largest;
                        bucket.ready_after(&ahead, largest, &ask.cost).ok()
                    }
                };
                let Some(after) = after else { continue };
                let awake = state.rest_until.max(state.next_at);
                let at = after.max(awake).max(self.open_at(lane, model.view));
                soonest = soonest.min(at);
            }
        }
        Ok(soonest.max(now))
    }

    /// Counts a waiter in.
    pub fn joined(&mut self, ask: &Ask) {
        self.waiting += 1;
        let waiting = &mut self.models.get_mut(ask.model).waiting;
        waiting.calls += 1;
        waiting.cost.add(&ask.cost);
        waiting.largest = waiting.largest.max(&ask.cost);
    }

    /// Counts a waiter out.
    pub fn left(&mut self, ask: &Ask, now: Timestamp) {
        self.waiting -= 1;
        let waiting = &mut self.models.get_mut(ask.model).waiting;
        waiting.calls -= 1;
        waiting.cost.sub(&ask.cost);
        if waiting.calls == 0 {
            (waiting.cost, waiting.largest) = (Cost::ZERO, Cost::ZERO);
        }
        if self.waiting == 0 {
            // Nobody is left to begin the next pass.
            let found = self.found;
            self.begin_pass(now);
            self.found = found;
        }
    }

    /// Whether anything can ever serve `ask`.
    fn fits(&self, ask: &Ask) -> Result<(), Unservable> {
        let view = &self.views[self.models.get(ask.model).view];
        let mut most: Option<CostTooLarge> = None;
        for tier in view.tiers.iter().filter(|tier| tier.usable() > 0) {
            match tier.fits(&ask.cost) {
                Ok(()) => return Ok(()),
                Err(why) => {
                    let is_more = |most: &CostTooLarge| why.capacity() > most.capacity();
                    if most.as_ref().is_none_or(is_more) {
                        most = Some(why);
                    }
                }
            }
        }
        let nobody = self.nobody(ask);
        let all_too_large = nobody.keys().all(|(_, why)| why == WhyNot::TooLarge);
        Err(match most {
            Some(why) if all_too_large => Unservable::TooLarge(why),
            _ => Unservable::Nobody(nobody),
        })
    }

    fn nobody(&self, ask: &Ask) -> NobodyCanServe {
        let why = |key: &super::state::Key| match key.standing {
            Standing::Disabled => WhyNot::Disabled,
            Standing::Draining => WhyNot::Draining,
            Standing::Rejected(_) => WhyNot::Rejected,
            _ if self.scopes[key.scope as usize].access == Access::Region => WhyNot::Region,
            _ if key.denied.contains(&ask.model) => WhyNot::ModelDenied,
            _ => WhyNot::TooLarge,
        };
        let keys = self.scopes.iter().flat_map(|scope| &scope.keys);
        let keys = keys.clone().take(MOST_NAMED).map(|&key| {
            let key = &self.keys[key as usize];
            (std::sync::Arc::clone(&key.alias), why(key))
        });
        let keys: Vec<_> = keys.collect();
        let unnamed = self.aliases.len() - keys.len();
        NobodyCanServe { keys, unnamed }
    }

    /// The lane that serves `ask` at `now`, if one can.
    fn find(&mut self, ask: &Ask, now: Timestamp) -> Option<u32> {
        let view = self.models.get(ask.model).view;
        let mut best: Option<(u32, u64, (u64, u64))> = None;
        for tier in 0..self.views[view].tiers.len() {
            while let Some((at, lane)) = self.views[view].tiers[tier].next() {
                if at > now {
                    break;
                }
                self.rouse(lane, now);
                self.place(lane, now);
            }
            let Some(lane) = self.best_ready(view, tier, &ask.cost, now) else {
                continue;
            };
            if self.views[view].tiers.len() == 1 {
                return Some(lane);
            }
            let (share, rank) = self.merit(lane, now);
            if best.is_none_or(|(_, most, first)| share > most || share == most && rank < first) {
                best = Some((lane, share, rank));
            }
        }
        match best {
            Some((lane, ..)) => Some(lane),
            // What waits to serve a large call again may serve a small one now.
            None => self.early(view, &ask.cost, now),
        }
    }

    fn early(&self, view: usize, cost: &Cost, now: Timestamp) -> Option<u32> {
        self.views[view].tiers.iter().find_map(|tier| {
            let lanes = tier
                .waiting
                .front()
                .map(|number| tier.lanes[number as usize]);
            lanes
                .into_iter()
                .find(|&lane| self.can_serve(lane, view, cost, now))
        })
    }

    /// The first in the order of choice that affords `cost`. What does not is put to wait until it
    /// does: it comes back once for each time that it is taken or becomes due.
    fn best_ready(&mut self, view: usize, tier: usize, cost: &Cost, now: Timestamp) -> Option<u32> {
        loop {
            let candidates = &self.views[view].tiers[tier];
            candidates.fits(cost).ok()?;
            let ready = candidates.ready.len();
            let is_by_share = self.strategy == Strategy::MostHeadroom && !candidates.is_exact;
            let looks = if is_by_share { FRONT } else { 1 };
            let lanes = candidates.ready.front().take(looks);
            let lanes = lanes.map(|number| candidates.lanes[number as usize]);
            let (mut best, mut poor) = (None, None);
            for lane in lanes {
                if !self.can_serve(lane, view, cost, now) {
                    poor = Some(lane);
                } else if looks == 1 {
                    return Some(lane);
                } else {
                    let (share, rank) = self.merit(lane, now);
                    let merit = (share, std::cmp::Reverse(rank));
                    if best.is_none_or(|(most, _)| merit > most) {
                        best = Some((merit, lane));
                    }
                }
            }
            if let Some((_, lane)) = best {
                return Some(lane);
            }
            let poor = poor?;
            self.lanes[poor as usize].reference = *cost;
            self.place(poor, now);
            if self.views[view].tiers[tier].ready.len() == ready {
                return None;
            }
        }
    }

    /// What decides between lanes: the larger share, then the smaller rank.
    fn merit(&self, lane: u32, now: Timestamp) -> (u64, (u64, u64)) {
        let lane = &self.lanes[lane as usize];
        let last = lane.last_taken;
        match self.strategy {
            Strategy::MostHeadroom => (lane.headroom(now), (0, last)),
            Strategy::RoundRobin | Strategy::Weighted => (0, (lane.turn, last)),
            Strategy::LeastInFlight => (0, (lane.in_flight as u64, last)),
            Strategy::LeastRecentlyUsed => (0, (lane.last_used.as_nanos(), last)),
        }
    }

    /// Whether a lane serves a call of this cost at `now`.
    #[inline]
    fn can_serve(&self, lane: u32, view: usize, cost: &Cost, now: Timestamp) -> bool {
        let state = &self.lanes[lane as usize];
        state.is_awake(now)
            && !state.is_full()
            && !state.is_claimed
            && state.affords(cost, now)
            && self.open_at(lane, view) <= now
    }

    /// From when on the scope of a lane has credit and a key for the calls of a view; never if
    /// only somebody's doing opens it.
    #[inline]
    fn open_at(&self, lane: u32, view: usize) -> Timestamp {
        let index = self.lanes[lane as usize].scope;
        let scope = &self.scopes[index as usize];
        let paid_at = match scope.credit {
            _ if scope.access != Access::Open => Timestamp::MAX,
            Credit::Fine => Timestamp::ZERO,
            Credit::Spent(until) => until,
            Credit::Probing(_) => Timestamp::MAX,
        };
        if !self.ring(index, view).is_empty() {
            return paid_at;
        }
        let retrial = scope.retrials.first();
        paid_at.max(retrial.map_or(Timestamp::MAX, |&(at, _)| at))
    }

    /// The lane that serves a call of this cost soonest, among the first that wait in each tier.
    fn soonest(&self, view: usize, cost: &Cost) -> Option<(Timestamp, u32)> {
        let tiers = self.views[view].tiers.iter();
        let lanes = tiers.flat_map(|tier| {
            let numbers = tier.waiting.front().chain(tier.ready.front());
            numbers.map(|number| tier.lanes[number as usize])
        });
        lanes
            .filter_map(|lane| {
                let ready = self.lanes[lane as usize].ready_at(cost)?;
                Some((ready.max(self.open_at(lane, view)), lane))
            })
            .min()
    }

    /// Since when a lane could have served `ask`.
    fn served_since(&self, lane: u32, ask: &Ask, now: Timestamp) -> Timestamp {
        let view = self.models.get(ask.model).view;
        let state = &self.lanes[lane as usize];
        let ready = state.ready_at(&ask.cost).unwrap_or(now);
        let ready = ready.max(self.open_at(lane, view)).max(state.free_since);
        ready.min(now)
    }

    /// Tells that a rest is over, and takes the keys back whose trial is due.
    fn rouse(&mut self, lane: u32, now: Timestamp) {
        let state = &mut self.lanes[lane as usize];
        let scope = state.scope;
        if state.is_resting && state.rest_until <= now {
            state.is_resting = false;
            let scope = std::sync::Arc::clone(&self.scopes[scope as usize].name);
            self.tell(Transition::Reopened { scope });
        }
        self.retry_keys(scope, now);
    }

    /// The key whose turn it is.
    fn take_key(&mut self, scope: u32, view: usize) -> u32 {
        let model: Option<ModelId> = self.views[view].model;
        let scope = &mut self.scopes[scope as usize];
        let own = model.filter(|model| scope.rings.contains_key(model));
        let ring = match own {
            Some(model) => scope.rings.get_mut(&model).expect("it was just found"),
            None => &mut scope.ring,
        };
        let number = ring
            .first()
            .expect("a lane without usable key is not ready");
        let key = scope.keys[number as usize];
        let weight = match self.strategy {
            Strategy::Weighted => self.keys[key as usize].weight,
            _ => 1,
        };
        ring.turn(number, weight);
        key
    }
}
