use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::policy::Timestamp;

use super::{
    Pool, PoolConfig,
    affinity::{Load, Sticky, hash_of},
    config::{ClassConfig, KeyConfig, ScopeConfig},
    models::{Pattern, class_of},
    ring::Ring,
    state::{Access, Credit, Key, Lane, Scope, Standing, Totals},
    view::View,
};

impl Pool {
    /// Adds a scope without keys, in the place of one that is long gone if there is one.
    pub(super) fn add_scope(&mut self, config: &ScopeConfig, now: Timestamp) {
        let free = self.free_scopes.pop();
        let index = free.unwrap_or(self.scopes.len() as u32);
        let scope = Scope {
            name: Arc::clone(&config.name),
            // No pick of what was here before is left.
            generation: 0,
            keys: Vec::new(),
            lanes: Vec::new(),
            credit: Credit::Fine,
            access: Access::Open,
            ring: Ring::new(self.strategy),
            rings: HashMap::new(),
            retrials: BTreeSet::new(),
            trials: Vec::new(),
            in_flight: 0,
            totals: Totals::default(),
            load: Load::default(),
        };
        match free {
            Some(free) => self.scopes[free as usize] = scope,
            None => self.scopes.push(scope),
        }
        self.names.insert(Arc::clone(&config.name), index);
        self.set_classes(index, &config.classes, now);
    }

    /// Gives a scope these classes, and one for all other models. One that has a pattern of an old
    /// one keeps its state. Says whether anything changed.
    pub(super) fn set_classes(
        &mut self,
        scope: u32,
        classes: &[ClassConfig],
        now: Timestamp,
    ) -> bool {
        let mut old = std::mem::take(&mut self.scopes[scope as usize].lanes);
        let mut is_changed = false;
        let mut lanes = Vec::with_capacity(classes.len() + 1);
        let has_default = classes.iter().any(|class| class.patterns.is_empty());
        let wanted = classes
            .iter()
            .map(|class| (&class.patterns[..], Some(&class.quota)));
        for (patterns, quota) in wanted.chain((!has_default).then_some((&[][..], None))) {
            let is_same = |of: &[Arc<str>]| {
                of.len() + patterns.len() == 0 || of.iter().any(|of| patterns.contains(of))
            };
            let lane = match old.iter().position(|(of, _)| is_same(of)) {
                Some(at) => {
                    let (of, lane) = old.remove(at);
                    is_changed |= of != patterns;
                    lane
                }
                None => {
                    is_changed |= quota.is_some();
                    self.add_lane(Lane::new(scope, quota, now))
                }
            };
            let state = &mut self.lanes[lane as usize];
            if state.quota.as_ref() != quota {
                state.set_quota(quota, now);
                is_changed = true;
            }
            lanes.push((patterns.to_vec(), lane));
        }
        is_changed |= !old.is_empty();
        for (_, lane) in old {
            self.remove_lane(lane);
        }
        self.scopes[scope as usize].lanes = lanes;
        is_changed
    }

    fn add_lane(&mut self, mut lane: Lane) -> u32 {
        lane.hash = hash_of(&self.scopes[lane.scope as usize].name);
        lane.serial = self.serials;
        self.serials = self.serials.wrapping_add(1);
        if let Some(free) = self.free_lanes.pop() {
            self.lanes[free as usize] = lane;
            return free;
        }
        self.lanes.push(lane);
        self.lanes.len() as u32 - 1
    }

    pub(super) fn remove_lane(&mut self, lane: u32) {
        self.lanes[lane as usize].is_removed = true;
        self.free_lane(lane);
    }

    /// Frees the number of a removed lane once nobody uses it or waits for it.
    pub(super) fn free_lane(&mut self, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        let is_needed = state.in_flight > 0 || state.is_wanted();
        if state.is_removed && !is_needed && !state.is_unused {
            state.is_unused = true;
            self.free_lanes.push(lane);
        }
    }

    /// Adds a usable key.
    pub(super) fn add_key(&mut self, scope: u32, config: &KeyConfig, now: Timestamp) {
        let free = self.free_keys.pop();
        let index = free.unwrap_or(self.keys.len() as u32);
        // No pick of what was here before is left, but there may be a check.
        let generation = free.map_or(0, |free| self.keys[free as usize].generation);
        let key = Key {
            alias: Arc::clone(&config.alias),
            weight: config.weight,
            scope,
            number: 0,
            generation,
            standing: Standing::Usable,
            breaker: self.new_breaker(now),
            denied: Vec::new(),
            in_flight: 0,
            totals: Totals::default(),
            hash: hash_of(&config.alias),
            load: Load::default(),
        };
        match free {
            Some(free) => self.keys[free as usize] = key,
            None => self.keys.push(key),
        }
        self.aliases.insert(Arc::clone(&config.alias), index);
        self.scopes[scope as usize].keys.push(index);
    }

    /// Makes all rings and views anew, for a configuration whose scopes and keys are there.
    pub(super) fn rebuild(&mut self, config: &PoolConfig, now: Timestamp) {
        self.broken.clear();
        for index in 0..self.scopes.len() {
            let scope = &mut self.scopes[index];
            (scope.ring, scope.rings) = (Ring::new(self.strategy), HashMap::new());
            for (number, &index) in scope.keys.iter().enumerate() {
                let key = &mut self.keys[index as usize];
                key.number = number as u32;
                if key.standing.is_usable() {
                    scope.ring.add(key.number, key.weight);
                }
                if key.standing.is_broken() {
                    self.broken.insert(index);
                    let at = key.standing.retried_at();
                    scope.retrials.extend(at.map(|at| (at, index)));
                    if key.standing.awaits_end() {
                        scope.trials.push(index);
                    }
                }
            }
        }
        let names = config.scopes.iter().map(|scope| &scope.name);
        self.order = names.map(|name| self.names[name]).collect();
        self.models.set_routes(config);
        self.claimed.clear();
        self.found = None;
        for lane in &mut self.lanes {
            (lane.is_claimed, lane.seats) = (false, Vec::new());
        }
        self.views.clear();
        for route in self.models.routes().to_vec() {
            self.views.push(View::default());
            for scope in &config.scopes {
                let lane = self.lane_of(scope, &route);
                self.add_seat(self.views.len() - 1, lane);
            }
        }
        for lane in 0..self.lanes.len() as u32 {
            self.place(lane, now);
        }
        match (&mut self.sticky, config.affinity) {
            (Some(sticky), Some(affinity)) => {
                sticky.config = affinity;
                sticky.sessions.set_most(affinity.sessions);
            }
            (sticky, affinity) => *sticky = affinity.map(Sticky::new),
        }
        self.sum_loads(now);
    }

    /// The lane that serves calls of `route` in `scope`.
    fn lane_of(&self, scope: &ScopeConfig, route: &Pattern) -> u32 {
        let lanes = &self.scopes[self.names[&scope.name] as usize].lanes;
        let default = || lanes.iter().position(|(patterns, _)| patterns.is_empty());
        let index = class_of(scope, route).or_else(default);
        lanes[index.expect("every scope has a default class")].1
    }
}
