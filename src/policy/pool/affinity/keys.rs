//! Which key of its scope a session uses.

use std::time::Duration;

use crate::policy::Timestamp;

use super::{
    super::{Ask, Pool, Strategy},
    load::{converted, time_of, turn},
    mix,
    place::exponential,
};

const DWELL: Duration = Duration::from_secs(60);

impl Pool {
    /// The key for a call with a preference that is served by this lane: its session's, or the one
    /// whose turn it is if the session has another lane.
    pub(in crate::policy::pool) fn take_key_for(
        &mut self,
        ask: &Ask,
        lane: u32,
        view: usize,
        now: Timestamp,
    ) -> u32 {
        let scope = self.lanes[lane as usize].scope;
        let own = self.own_key(ask, lane, view, now);
        let key = match own {
            Some(key) => self.take_this_key(key, view),
            None => self.take_key(scope, view),
        };
        let time = time_of(self.lanes[lane as usize].quota.as_ref(), &ask.cost);
        self.keys[key as usize].load.add(time, turn(now));
        self.scopes[scope as usize].load.add(time, turn(now));
        key
    }

    /// The key that the session of `ask` uses of this lane, if it is the session's.
    fn own_key(&mut self, ask: &Ask, lane: u32, view: usize, now: Timestamp) -> Option<u32> {
        let preference = ask.preference?;
        let sessions = &self.sticky.as_ref()?.sessions;
        let number = sessions.peek((preference.session, ask.model))?;
        let known = *sessions.get(number);
        if known.at.lane != lane || !self.is_current(known.at) {
            return None;
        }
        let scope = self.lanes[lane as usize].scope;
        let used = known.key.filter(|&key| {
            let key = &self.keys[key as usize];
            let is_here = key.scope == scope && key.standing.is_usable();
            is_here && self.ring(scope, view).contains(key.number)
        });
        let turn = turn(now);
        let key = match used {
            Some(key) if known.settled > now || !self.is_key_loaded(key, lane, view, turn) => {
                return used;
            }
            Some(key) => {
                let added = known.load.at(turn);
                let other = self.choose_key(preference.session, scope, view, added, turn);
                let [from, to] = [key, other].map(|key| self.keys[key as usize].load.at(turn));
                let is_better = to.saturating_add(added).saturating_add(from / 8) < from;
                if is_better { other } else { key }
            }
            None => {
                let added = known.load.at(turn);
                self.choose_key(preference.session, scope, view, added, turn)
            }
        };
        let session = self.sticky.as_mut()?.sessions.get_mut(number);
        session.settled = session.settled.max(now + DWELL);
        session.key = Some(key);
        if known.key != Some(key) {
            let load = known.load.at(turn);
            if let Some(left) = known.key.filter(|&key| self.is_key_of(key, lane)) {
                self.unload_key(left, load, turn);
            }
            self.load_key(key, load, turn);
        }
        Some(key)
    }

    /// A session brings its load with it, so that the next one sees it and goes elsewhere.
    pub(super) fn load_key(&mut self, key: u32, load: u64, turn: u64) {
        let key = &mut self.keys[key as usize];
        key.load.add(load, turn);
        self.scopes[key.scope as usize].load.add(load, turn);
    }

    /// And takes it away.
    pub(super) fn unload_key(&mut self, key: u32, load: u64, turn: u64) {
        let key = &mut self.keys[key as usize];
        key.load.sub(load, turn);
        self.scopes[key.scope as usize].load.sub(load, turn);
    }

    /// Numbers of keys are used again.
    pub(super) fn is_key_of(&self, key: u32, lane: u32) -> bool {
        self.keys[key as usize].scope == self.lanes[lane as usize].scope
    }

    /// In a lane with more than its share a key may have less beyond its scope's mean: both excesses
    /// are the key's.
    fn is_key_loaded(&self, key: u32, lane: u32, view: usize, turn: u64) -> bool {
        let Some(sticky) = &self.sticky else {
            return false;
        };
        let state = &self.keys[key as usize];
        let (mean, keys) = self.mean_key_load(state.scope, view, turn);
        let of_lane = self.lanes[lane as usize].load.at(turn);
        let fair = converted(mean, of_lane, self.mean_load(view, turn).min(of_lane));
        let least = sticky.config.most_placed_key(mean, keys);
        state.load.at(turn) > sticky.config.most_of_key(fair, keys).max(least)
    }

    /// The mean load of the keys of a scope, and how many they are.
    fn mean_key_load(&self, scope: u32, view: usize, turn: u64) -> (u64, u64) {
        let keys = self.ring(scope, view).len().max(1) as u64;
        (self.scopes[scope as usize].load.at(turn) / keys, keys)
    }

    /// The key that rendezvous hashing names of those not too loaded, or the one with the least load.
    fn choose_key(&self, session: u64, scope: u32, view: usize, added: u64, turn: u64) -> u32 {
        let (mean, count) = self.mean_key_load(scope, view, turn);
        let most = self.sticky.as_ref().map_or(u64::MAX, |sticky| {
            sticky.config.most_placed_key(mean, count)
        });
        let is_weighted = self.strategy == Strategy::Weighted;
        let mut first: Option<(f64, u32)> = None;
        let mut least: Option<(u64, u32)> = None;
        let keys = &self.scopes[scope as usize].keys;
        for number in self.ring(scope, view).numbers() {
            let index = keys[number as usize];
            let key = &self.keys[index as usize];
            let load = key.load.at(turn);
            if least.is_none_or(|(least, _)| load < least) {
                least = Some((load, index));
            }
            if load.saturating_add(added) > most && !is_weighted {
                continue;
            }
            let weight = if is_weighted { key.weight } else { 1 };
            let rank = exponential(mix(session ^ key.hash)) / f64::from(weight);
            if first.is_none_or(|(least, _)| rank < least) {
                first = Some((rank, index));
            }
        }
        let first = first.map(|(_, key)| key);
        let least = least.map(|(_, key)| key);
        first
            .or(least)
            .expect("a lane without usable key is not ready")
    }
}
