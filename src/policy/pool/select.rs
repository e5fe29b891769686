use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::policy::{Cost, CostTooLarge, Timestamp};

use super::{
    Ask, ModelId, NobodyCanServe, Pool, Strategy, Transition, Unservable, WhyNot,
    heap::FRONT,
    refusal::MOST_NAMED,
    ring::{Ring, stride},
    state::{Access, Key, Standing},
};

impl Pool {
    /// Whether anything can ever serve `ask`.
    pub(super) fn fits(&self, ask: &Ask) -> Result<(), Unservable> {
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
        let mut reasons = self.reasons(ask);
        Err(match most {
            Some(why) if reasons.all(|(_, why)| why == WhyNot::TooLarge) => {
                Unservable::TooLarge(why)
            }
            _ => Unservable::Nobody(self.nobody(ask)),
        })
    }

    /// Whether a bucket of those who can serve `ask` can ever admit its cost; where nobody can
    /// serve it for another reason, that is not said here.
    #[cfg(feature = "key-rotation")]
    pub(crate) fn admits(&self, ask: &Ask) -> Result<(), CostTooLarge> {
        match self.fits(ask) {
            Err(Unservable::TooLarge(why)) => Err(why),
            _ => Ok(()),
        }
    }

    /// Every key, with why it cannot serve `ask`.
    fn reasons(&self, ask: &Ask) -> impl Iterator<Item = (&Key, WhyNot)> {
        let model = ask.model;
        let why = move |key: &Key| match key.standing {
            Standing::Disabled => WhyNot::Disabled,
            Standing::Draining => WhyNot::Draining,
            Standing::Rejected(_) => WhyNot::Rejected,
            _ if self.scopes[key.scope as usize].access == Access::Region => WhyNot::Region,
            _ if key.denied.contains(&model) => WhyNot::ModelDenied,
            _ => WhyNot::TooLarge,
        };
        let scopes = self.order.iter();
        let keys = scopes.flat_map(|&scope| &self.scopes[scope as usize].keys);
        keys.map(move |&key| {
            let key = &self.keys[key as usize];
            (key, why(key))
        })
    }

    fn nobody(&self, ask: &Ask) -> NobodyCanServe {
        let named = self.reasons(ask).take(MOST_NAMED);
        let named = named.map(|(key, why)| (Arc::clone(&key.alias), why));
        let keys: Vec<_> = named.collect();
        let unnamed = self.aliases.len() - keys.len();
        NobodyCanServe { keys, unnamed }
    }

    /// The lane that serves `ask` at `now`, if one can.
    pub(super) fn find(&mut self, ask: &Ask, now: Timestamp) -> Option<u32> {
        self.seen = now;
        let view = self.models.get(ask.model).view;
        let mut best = None;
        for tier in 0..self.views[view].tiers.len() {
            while let Some((at, lane)) = self.views[view].tiers[tier].next() {
                if at > now {
                    break;
                }
                self.rouse(lane, now);
                self.place(lane, now);
            }
            let ready = self.best_ready(view, tier, &ask.cost, now);
            // What waits to serve a large call again may serve a small one now.
            let early = self.best_waiting(view, tier, &ask.cost, now);
            best = self.better(best, self.better(ready, early, now), now);
        }
        best
    }

    fn best_waiting(&self, view: usize, tier: usize, cost: &Cost, now: Timestamp) -> Option<u32> {
        let tier = &self.views[view].tiers[tier];
        let lanes = tier
            .waiting
            .front(FRONT)
            .map(|number| tier.lanes[number as usize]);
        lanes
            .filter(|&lane| self.can_serve(lane, view, cost, now))
            .fold(None, |best, lane| self.better(best, Some(lane), now))
    }

    /// The first in the order of choice that affords `cost`. What does not is put to wait until it
    /// does: it comes back once for each time that it is taken or becomes due.
    fn best_ready(&mut self, view: usize, tier: usize, cost: &Cost, now: Timestamp) -> Option<u32> {
        loop {
            let candidates = &self.views[view].tiers[tier];
            let ready = candidates.ready.len();
            let is_by_share = self.strategy == Strategy::MostHeadroom && !candidates.is_exact;
            let looks = if is_by_share { FRONT } else { 1 };
            let lanes = candidates.ready.front(looks);
            let lanes = lanes.map(|number| candidates.lanes[number as usize]);
            let (mut best, mut poor) = (None, None);
            for lane in lanes {
                if self.can_serve(lane, view, cost, now) {
                    best = self.better(best, Some(lane), now);
                } else {
                    poor = Some(lane);
                }
            }
            if best.is_some() {
                return best;
            }
            let poor = poor?;
            self.views[view].tiers[tier].fits(cost).ok()?;
            self.lanes[poor as usize].reference = *cost;
            self.place(poor, now);
            if self.views[view].tiers[tier].ready.len() == ready {
                return None;
            }
        }
    }

    /// Which of two comes first in the order of choice, where there are two.
    #[inline]
    pub(super) fn better(
        &self,
        one: Option<u32>,
        other: Option<u32>,
        now: Timestamp,
    ) -> Option<u32> {
        match (one, other) {
            (Some(a), Some(b)) if self.merit(b, now) > self.merit(a, now) => other,
            (Some(_), _) => one,
            (None, _) => other,
        }
    }

    /// What decides between lanes: the larger share, then the earlier turn.
    fn merit(&self, lane: u32, now: Timestamp) -> (u64, Reverse<u64>) {
        let lane = &self.lanes[lane as usize];
        let share = match self.strategy {
            Strategy::MostHeadroom => lane.headroom(now),
            _ => 0,
        };
        (share, Reverse(lane.turn_of(self.strategy)))
    }

    /// Whether a lane serves a call of this cost at `now`.
    #[inline]
    pub(super) fn can_serve(&self, lane: u32, view: usize, cost: &Cost, now: Timestamp) -> bool {
        let state = &self.lanes[lane as usize];
        state.is_awake(now)
            && !state.is_full()
            && !state.is_claimed
            && state.affords(cost, now)
            && self.open_at(lane, view).is_some_and(|at| at <= now)
    }

    /// From when on the scope of a lane has credit and a key for the calls of a view; `None` if it
    /// takes the end of a call or somebody's doing.
    #[inline]
    pub(super) fn open_at(&self, lane: u32, view: usize) -> Option<Timestamp> {
        self.opening(self.lanes[lane as usize].scope, view)?.from
    }

    /// The lane that serves a call of this cost soonest, among the first that wait in each tier.
    pub(super) fn soonest(&self, view: usize, cost: &Cost) -> Option<(Timestamp, u32)> {
        let tiers = self.views[view].tiers.iter();
        let lanes = tiers.flat_map(|tier| {
            let numbers = tier.waiting.front(FRONT).chain(tier.ready.front(FRONT));
            numbers.map(|number| tier.lanes[number as usize])
        });
        lanes
            .filter_map(|lane| {
                let ready = self.lanes[lane as usize].ready_at(cost)?;
                Some((ready.max(self.open_at(lane, view)?), lane))
            })
            .min()
    }

    /// Since when a lane could have served `ask`.
    pub(super) fn served_since(&self, lane: u32, ask: &Ask, now: Timestamp) -> Timestamp {
        let view = self.models.get(ask.model).view;
        let state = &self.lanes[lane as usize];
        let ready = state.ready_at(&ask.cost).unwrap_or(now);
        let open = self.open_at(lane, view).unwrap_or(now);
        ready.max(open).max(state.free_since).min(now)
    }

    /// Tells that a rest is over, and takes the keys back whose trial is due.
    pub(super) fn rouse(&mut self, lane: u32, now: Timestamp) {
        let state = &mut self.lanes[lane as usize];
        let scope = state.scope;
        if state.is_resting && state.rest_until <= now {
            state.is_resting = false;
            let scope = Arc::clone(&self.scopes[scope as usize].name);
            self.tell(Transition::Reopened { scope });
        }
        self.retry_keys(scope, now);
    }

    /// Gives a lane that is taken its next turn, after one of all others. Turns are counted in
    /// each view: what is taken in one that shares no lane moves nobody here.
    pub(super) fn advance(&mut self, lane: u32, view: usize) {
        let weight = match self.strategy {
            Strategy::Weighted => self.ring(self.lanes[lane as usize].scope, view).weight,
            _ => 1,
        };
        let state = &mut self.lanes[lane as usize];
        let turn = self.views[view].clock.max(state.turn);
        for seat in &state.seats {
            let clock = &mut self.views[seat.view].clock;
            *clock = turn.max(*clock);
        }
        state.turn = turn.saturating_add(stride(weight));
    }

    /// The key whose turn it is.
    pub(super) fn take_key(&mut self, scope: u32, view: usize) -> u32 {
        let model = self.views[view].model;
        let scope = &mut self.scopes[scope as usize];
        let keys = &self.keys;
        let number = ring_mut(&mut scope.ring, &mut scope.rings, model)
            .take(|number| keys[scope.keys[number as usize] as usize].weight)
            .expect("a lane without usable key is not ready");
        scope.keys[number as usize]
    }

    /// Takes a usable key, whose turn it need not be.
    pub(super) fn take_this_key(&mut self, key: u32, view: usize) -> u32 {
        let model = self.views[view].model;
        let state = &self.keys[key as usize];
        let scope = &mut self.scopes[state.scope as usize];
        let ring = ring_mut(&mut scope.ring, &mut scope.rings, model);
        ring.take_this(state.number, state.weight);
        key
    }
}

/// The keys of a scope for the calls of a view that is of one model, or of none.
fn ring_mut<'a>(
    all: &'a mut Ring,
    own: &'a mut HashMap<ModelId, Ring>,
    model: Option<ModelId>,
) -> &'a mut Ring {
    model.and_then(|model| own.get_mut(&model)).unwrap_or(all)
}
