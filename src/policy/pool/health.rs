use std::{sync::Arc, time::Duration};

use crate::{
    outcome::{Hint, Outcome, Usage, Verdict},
    policy::{Rng, Timestamp, nanos},
};

use super::{
    Absorbed, ModelId, Pick, Pool, Transition,
    state::{Access, Credit, Standing, Trial},
    view::View,
};

/// After a rest without a quota, calls keep a hundredth of it as distance, within these bounds:
/// enough to be no burst, and nothing that is felt once a call has succeeded.
const GAP_SHARE: u32 = 100;
const SHORTEST_GAP: Duration = Duration::from_millis(10);
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// Without a hint every relapse doubles the rest; with one it is no shorter than this part of what
/// it would be without, so that a server that always says "at once" is not asked at once for ever.
const HINT_SHARE: u32 = 32;
/// Out of credit is no matter of seconds, whatever the server says: one provider names half a minute
/// for a quota of the day. A rest is no shorter than this part of the longest.
const EXHAUSTED_SHARE: u32 = 30;
/// What reopens does so up to this part of its rest later.
const JITTER_SHARE: u64 = 10;

impl Pool {
    /// Takes in how the call of `pick` went, as soon as that is known and before it is released;
    /// again if its answer fails later on. Says when this very call can be served here.
    ///
    /// | verdict | what happens |
    /// |---|---|
    /// | throttled, ramp limit | the scope's class rests until the hint, without one longer after each relapse |
    /// | exhausted | the scope rests long; then one call at a time until one succeeds |
    /// | key rejected | the key is out until a reload, [`enable`](Self::enable) or a trial |
    /// | model denied | the key is out for this model, if it has a [number of its own](Self::resolve) |
    /// | region | the scope is out until a reload or [`reopen`](Self::reopen): all its keys call from the same place, and waiting does not move it |
    /// | success | ends a trial, a probe, and the distance kept after a rest; counts in the breaker |
    /// | overloaded, server fault | count in the [breaker](super::PoolConfig::key_breaker) of the key, if other keys do well at the same time |
    /// | all others | nothing: they are not about keys |
    ///
    /// What a pick from before a reload, [`enable`](Self::enable) or [`reopen`](Self::reopen) has
    /// to say about its key or scope decides nothing: its call may try once more, and then has a
    /// word. So whoever calls again as soon as [`Absorbed::Again`] says tries no key twice before
    /// time has passed, except one that somebody has brought back.
    pub fn report(
        &mut self,
        pick: &Pick,
        outcome: &Outcome,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Absorbed {
        let verdict = outcome.verdict();
        self.scopes[pick.scope()].totals.count(verdict);
        self.keys[pick.key()].totals.count(verdict);
        self.heed(pick, outcome, now, rng)
    }

    /// Counts what the answer to the call of `pick` said that it used, in the totals of its scope
    /// and key. It changes nothing else: quotas are settled by [`release`](Self::release).
    pub fn count_usage(&mut self, pick: &Pick, usage: &Usage) {
        self.scopes[pick.scope()].totals.add(usage);
        self.keys[pick.key()].totals.add(usage);
    }

    /// Acts on how a call, or a check, of a key went.
    #[inline]
    pub(super) fn heed(
        &mut self,
        pick: &Pick,
        outcome: &Outcome,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Absorbed {
        let verdict = outcome.verdict();
        self.count(pick, outcome, now, rng);
        if verdict == Verdict::Success && !pick.awaits(verdict) {
            return Absorbed::Nothing;
        }
        let hint = match outcome.hint() {
            Some(Hint::After(wait)) => Some(wait),
            // Another pool further in has dealt with it.
            Some(Hint::Absorbed(_)) => return Absorbed::Nothing,
            None => None,
        };
        match verdict {
            Verdict::Success => {
                self.succeed(pick, now);
                return Absorbed::Nothing;
            }
            Verdict::Throttled | Verdict::RampLimit => self.rest(pick, hint, now, rng),
            Verdict::Exhausted => self.exhaust(pick, hint, now, rng),
            Verdict::KeyRejected => self.reject(pick, now, rng),
            // Nobody is kept away from: the same key would be tried again, at once and for ever.
            Verdict::ModelDenied if !self.models.is_name(pick.ask.model) => {
                return Absorbed::Nothing;
            }
            Verdict::ModelDenied => self.deny(pick, now),
            Verdict::Region => self.exclude(pick, now),
            _ => return Absorbed::Nothing,
        }
        match self.expect(&pick.ask, now) {
            Ok(at) => Absorbed::Again(at),
            Err(why) => Absorbed::Never(why),
        }
    }

    fn is_scope_current(&self, pick: &Pick) -> bool {
        self.scopes[pick.scope()].generation == pick.scope_generation
    }

    fn is_key_current(&self, pick: &Pick) -> bool {
        self.keys[pick.key()].generation == pick.key_generation
    }

    fn succeed(&mut self, pick: &Pick, now: Timestamp) {
        if self.is_key_current(pick) && pick.is_trial {
            if let Standing::OnTrial(_) = self.keys[pick.key()].standing {
                self.set_standing(pick.key, Standing::Usable);
                let alias = Arc::clone(&self.keys[pick.key()].alias);
                self.tell(Transition::Accepted { alias });
                self.place_all(pick.scope, now);
            }
        }
        if !self.is_scope_current(pick) {
            return;
        }
        let scope = &mut self.scopes[pick.scope()];
        if pick.is_probe_of(scope.credit) {
            scope.credit = Credit::Fine;
            // What calls from before have to say about the credit is old.
            scope.generation = scope.generation.wrapping_add(1);
            let scope = Arc::clone(&scope.name);
            self.tell(Transition::Reopened { scope });
            self.place_all(pick.scope, now);
        }
        let lane = &mut self.lanes[pick.lane as usize];
        if lane.rests == pick.rests {
            lane.relapses = 0;
            if !lane.gap.is_zero() {
                (lane.gap, lane.next_at) = (Duration::ZERO, Timestamp::ZERO);
                self.place(pick.lane, now);
            }
        }
    }

    /// The class rests; rests merge to the longest.
    fn rest(&mut self, pick: &Pick, hint: Option<Duration>, now: Timestamp, rng: &mut impl Rng) {
        if !self.is_scope_current(pick) || self.lanes[pick.lane as usize].is_removed {
            return;
        }
        let lane = &mut self.lanes[pick.lane as usize];
        if lane.rests == pick.rests {
            lane.relapses = lane.relapses.saturating_add(1);
        }
        let own = doubled(self.rests.default, lane.relapses.saturating_sub(1));
        let wait = hint.map_or(own, |hint| hint.max(own / HINT_SHARE));
        let wait = wait.min(self.rests.longest);
        let until = now + wait + jitter(wait, rng);
        lane.rests = lane.rests.wrapping_add(1);
        let is_paced = lane
            .bucket
            .as_ref()
            .is_some_and(|bucket| !bucket.is_unlimited());
        if !is_paced {
            lane.gap = (wait / GAP_SHARE).clamp(SHORTEST_GAP, LONGEST_GAP);
        }
        if until > lane.rest_until {
            lane.rest_until = until;
            lane.is_resting = true;
            let scope = Arc::clone(&self.scopes[pick.scope()].name);
            self.tell(Transition::Rested { scope, until });
        }
        self.place(pick.lane, now);
    }

    /// The scope rests until its credit may be back.
    fn exhaust(&mut self, pick: &Pick, hint: Option<Duration>, now: Timestamp, rng: &mut impl Rng) {
        if !self.is_scope_current(pick) {
            return;
        }
        let longest = self.rests.exhausted;
        let wait = hint.unwrap_or(longest);
        let wait = wait.clamp(longest / EXHAUSTED_SHARE, longest);
        let until = now + wait + jitter(wait, rng);
        let scope = &mut self.scopes[pick.scope()];
        let running = match scope.credit {
            // The probe's own word; until then it was due.
            probing @ Credit::Probing(_) if pick.is_probe_of(probing) => Timestamp::ZERO,
            Credit::Probing(_) => return,
            Credit::Spent(until) => until,
            Credit::Fine => Timestamp::ZERO,
        };
        if until > running {
            scope.credit = Credit::Spent(until);
            let scope = Arc::clone(&scope.name);
            self.tell(Transition::Exhausted { scope, until });
            self.place_all(pick.scope, now);
            self.spare(now);
        }
    }

    fn reject(&mut self, pick: &Pick, now: Timestamp, rng: &mut impl Rng) {
        let is_in_use = match self.keys[pick.key()].standing {
            Standing::Usable => true,
            Standing::OnTrial(_) => pick.is_trial,
            standing => standing.is_broken(),
        };
        if !self.is_key_current(pick) || !is_in_use {
            return;
        }
        let at = match self.rests.reprobe {
            Some(after) => now + after + jitter(after, rng),
            None => Timestamp::MAX,
        };
        self.set_standing(pick.key, Standing::Rejected(at));
        self.forget(pick.key, now);
        let key = &mut self.keys[pick.key()];
        key.generation = key.generation.wrapping_add(1);
        let alias = Arc::clone(&key.alias);
        let retried = (at < Timestamp::MAX).then_some(at);
        self.tell(Transition::Rejected { alias, retried });
        self.place_all(pick.scope, now);
        self.spare(now);
    }

    fn deny(&mut self, pick: &Pick, now: Timestamp) {
        let model = pick.ask.model;
        let key = &self.keys[pick.key()];
        if !self.is_key_current(pick) || key.denied.contains(&model) {
            return;
        }
        self.own_view(model, now);
        let key = &mut self.keys[pick.key()];
        key.denied.push(model);
        let (number, weight, is_usable) = (key.number, key.weight, key.standing.is_usable());
        let alias = Arc::clone(&key.alias);
        let scope = &mut self.scopes[pick.scope()];
        let ring = scope
            .rings
            .entry(model)
            .or_insert_with(|| scope.ring.clone());
        if is_usable {
            ring.remove(number, weight);
        }
        let model = self.models.name(model);
        self.tell(Transition::Denied { alias, model });
        self.place_all(pick.scope, now);
        self.spare(now);
    }

    fn exclude(&mut self, pick: &Pick, now: Timestamp) {
        let scope = &mut self.scopes[pick.scope()];
        if scope.generation != pick.scope_generation || scope.access != Access::Open {
            return;
        }
        scope.access = Access::Region;
        let scope = Arc::clone(&scope.name);
        self.tell(Transition::Excluded { scope });
        self.place_all(pick.scope, now);
        self.spare(now);
    }

    /// Gives a model a view of its own, because not every key may use it. As many steps as its
    /// route has scopes, once for each model.
    fn own_view(&mut self, model: ModelId, now: Timestamp) {
        let entry = self.models.get(model);
        if self.views[entry.view].model.is_some() {
            return;
        }
        let lanes: Vec<u32> = self.views[entry.view]
            .tiers
            .iter()
            .flat_map(|tier| tier.lanes.iter().copied())
            .collect();
        self.views.push(View {
            model: Some(model),
            ..View::default()
        });
        let view = self.views.len() - 1;
        self.models.get_mut(model).view = view;
        for lane in lanes {
            self.add_seat(view, lane);
            self.place(lane, now);
        }
    }

    /// Changes a key's standing, and with it all that follows from being usable or not.
    pub(super) fn set_standing(&mut self, index: u32, standing: Standing) {
        let key = &mut self.keys[index as usize];
        let scope = &mut self.scopes[key.scope as usize];
        let was = std::mem::replace(&mut key.standing, standing);
        match (was.is_usable(), standing.is_usable()) {
            (false, true) => scope.ring.add(key.number, key.weight),
            (true, false) => scope.ring.remove(key.number, key.weight),
            _ => {}
        }
        for (model, ring) in &mut scope.rings {
            match (was.is_usable(), standing.is_usable()) {
                _ if key.denied.contains(model) => {}
                (false, true) => ring.add(key.number, key.weight),
                (true, false) => ring.remove(key.number, key.weight),
                _ => {}
            }
        }
        if let Some(at) = was.retried_at() {
            scope.retrials.remove(&(at, index));
        }
        if let Some(at) = standing.retried_at() {
            scope.retrials.insert((at, index));
        }
        if was.awaits_end() {
            scope.trials.retain(|&key| key != index);
        }
        if standing.awaits_end() {
            scope.trials.push(index);
        }
        if was.is_broken() {
            self.broken.remove(&index);
        }
        if standing.is_broken() {
            self.broken.insert(index);
        }
    }

    /// Makes the keys usable whose trial is due.
    #[inline]
    pub(super) fn retry_keys(&mut self, scope: u32, now: Timestamp) {
        while let Some(&(at, key)) = self.scopes[scope as usize].retrials.first() {
            if at > now {
                return;
            }
            let standing = match self.keys[key as usize].standing {
                Standing::Rejected(_) => Standing::OnTrial(Trial::Due),
                _ => Standing::HalfOpen,
            };
            self.set_standing(key, standing);
            self.place_all(scope, now);
        }
    }

    /// Counts a call of a key out.
    pub(super) fn release_key(&mut self, pick: &Pick, now: Timestamp) {
        self.leave_breaker(pick, now);
        let key = &mut self.keys[pick.key()];
        key.in_flight -= 1;
        let is_idle = key.in_flight == 0;
        match key.standing {
            Standing::Draining if is_idle => {
                let alias = Arc::clone(&key.alias);
                self.set_standing(pick.key, Standing::Disabled);
                self.tell(Transition::Drained { alias });
            }
            Standing::Removed if is_idle => self.free_keys.push(pick.key),
            Standing::OnTrial(Trial::InFlight)
                if pick.is_trial && key.generation == pick.key_generation =>
            {
                // It has not found out: the next one may.
                self.set_standing(pick.key, Standing::OnTrial(Trial::Due));
            }
            _ => {}
        }
    }
}

/// `rest`, doubled so often.
fn doubled(rest: Duration, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    rest.saturating_mul(factor)
}

/// Up to a tenth of `rest`.
fn jitter(rest: Duration, rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.up_to(nanos(rest) / JITTER_SHARE))
}
