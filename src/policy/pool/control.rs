use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::policy::Timestamp;

use super::{
    Pool, PoolConfig, Transition, UnknownName,
    state::{Access, Credit, Standing},
};

/// What a new configuration changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A scope was added, by name.
    ScopeAdded(Arc<str>),
    /// A scope was removed.
    ScopeRemoved(Arc<str>),
    /// The quotas of a scope changed, or the models that they are for.
    ScopeChanged(Arc<str>),
    /// A key was added, by alias.
    KeyAdded(Arc<str>),
    /// A key was removed.
    KeyRemoved(Arc<str>),
    /// A key's weight or scope changed.
    KeyChanged(Arc<str>),
}

impl Pool {
    /// Uses a key again, whatever took it out: disabled, draining, rejected, denied a model, or its
    /// breaker, which forgets what it has seen.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn enable(&mut self, alias: &str, now: Timestamp) -> Result<(), UnknownName> {
        let index = self.key(alias)?;
        self.set_standing(index, Standing::Usable);
        self.forget(index, now);
        let key = &mut self.keys[index as usize];
        key.generation = key.generation.wrapping_add(1);
        let scope = &mut self.scopes[key.scope as usize];
        for model in key.denied.drain(..) {
            if let Some(ring) = scope.rings.get_mut(&model) {
                ring.add(key.number, key.weight);
            }
        }
        let scope = key.scope;
        self.place_all(scope, now);
        Ok(())
    }

    /// Uses a key no more until it is enabled; its calls in flight decide nothing about it.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn disable(&mut self, alias: &str, now: Timestamp) -> Result<(), UnknownName> {
        let index = self.key(alias)?;
        self.set_standing(index, Standing::Disabled);
        let key = &mut self.keys[index as usize];
        key.generation = key.generation.wrapping_add(1);
        let scope = key.scope;
        self.place_all(scope, now);
        self.spare(now);
        Ok(())
    }

    /// Uses a key for no new calls, and tells when the last in flight has ended.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn drain(&mut self, alias: &str, now: Timestamp) -> Result<(), UnknownName> {
        let index = self.key(alias)?;
        let key = &self.keys[index as usize];
        let (scope, alias) = (key.scope, Arc::clone(&key.alias));
        match (key.standing, key.in_flight) {
            (Standing::Disabled | Standing::Draining, _) => {}
            (_, 0) => {
                self.set_standing(index, Standing::Disabled);
                self.tell(Transition::Drained { alias });
            }
            _ => self.set_standing(index, Standing::Draining),
        }
        self.place_all(scope, now);
        self.spare(now);
        Ok(())
    }

    /// Calls a scope again, whatever it rests for: throttled, exhausted or refused for the region.
    /// What has been spent of its quotas stays; what the server has shown of its own is forgotten.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no scope has this name.
    pub fn reopen(&mut self, scope: &str, now: Timestamp) -> Result<(), UnknownName> {
        let index = *self.names.get(scope).ok_or_else(|| unknown(scope))?;
        let scope = &mut self.scopes[index as usize];
        scope.generation = scope.generation.wrapping_add(1);
        (scope.credit, scope.access) = (Credit::Fine, Access::Open);
        for &(_, lane) in &scope.lanes {
            let lane = &mut self.lanes[lane as usize];
            (lane.rest_until, lane.next_at) = (Timestamp::ZERO, Timestamp::ZERO);
            (lane.gap, lane.is_resting) = (Duration::ZERO, false);
            lane.relapses = 0;
            if let Some(bucket) = &mut lane.bucket {
                bucket.forget_shown(now);
            }
        }
        let scope = Arc::clone(&scope.name);
        self.tell(Transition::Reopened { scope });
        self.place_all(index, now);
        Ok(())
    }

    /// Takes another configuration, and says what it changed.
    ///
    /// Scopes of the same name and keys of the same alias in the same scope keep their state:
    /// quotas spent, rests, credit, calls in flight, totals, breakers (unless they are configured
    /// otherwise now), disabled and draining. A class of models
    /// is the same if it keeps one of its patterns, or is for all other models still. A reload is
    /// the operator's word that secrets may have changed: rejected keys, denied models and refused
    /// regions are tried again, and what calls from before have to say about keys decides nothing.
    /// A key that moves to another scope is a new one. Picks of what was removed are released as
    /// all others.
    pub fn apply(&mut self, config: &PoolConfig, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        (self.strategy, self.rests) = (config.strategy, config.rests);
        if self.breaker != config.breaker {
            self.breaker.clone_from(&config.breaker);
            self.renew_breakers(now);
        }
        let moved = self.remove_unwanted(config, &mut changes);
        for scope in &config.scopes {
            let name = Arc::clone(&scope.name);
            match self.names.get(&scope.name) {
                None => {
                    self.add_scope(scope, now);
                    changes.push(Change::ScopeAdded(name));
                }
                Some(&index) => {
                    if self.set_classes(index, &scope.classes, now) {
                        changes.push(Change::ScopeChanged(name));
                    }
                    let scope = &mut self.scopes[index as usize];
                    if scope.access == Access::Region {
                        scope.access = Access::Open;
                        scope.generation = scope.generation.wrapping_add(1);
                    }
                    scope.retrials.clear();
                    scope.trials.clear();
                    scope.keys.clear();
                }
            }
        }
        for scope in &config.scopes {
            let index = self.names[&scope.name];
            for wanted in &scope.keys {
                let alias = Arc::clone(&wanted.alias);
                let Some(&key_index) = self.aliases.get(&alias) else {
                    self.add_key(index, wanted, now);
                    changes.push(if moved.contains(&alias) {
                        Change::KeyChanged(alias)
                    } else {
                        Change::KeyAdded(alias)
                    });
                    continue;
                };
                self.scopes[index as usize].keys.push(key_index);
                let key = &mut self.keys[key_index as usize];
                key.generation = key.generation.wrapping_add(1);
                key.denied.clear();
                if matches!(key.standing, Standing::Rejected(_) | Standing::OnTrial(_)) {
                    key.standing = Standing::Usable;
                }
                if std::mem::replace(&mut key.weight, wanted.weight) != wanted.weight {
                    changes.push(Change::KeyChanged(alias));
                }
            }
        }
        self.rebuild(config, now);
        self.spare(now);
        changes
    }

    /// Removes the scopes and keys that `config` lacks, and says which keys have another scope.
    fn remove_unwanted(
        &mut self,
        config: &PoolConfig,
        changes: &mut Vec<Change>,
    ) -> HashSet<Arc<str>> {
        let scopes = config.scopes.iter();
        let homes: HashMap<_, _> = scopes
            .flat_map(|scope| scope.keys.iter().map(|key| (&key.alias, &scope.name)))
            .collect();
        let mut moved = HashSet::new();
        let mut old: Vec<_> = self.aliases.values().copied().collect();
        old.sort_unstable();
        for index in old {
            let key = &mut self.keys[index as usize];
            let home = homes.get(&key.alias);
            if home == Some(&&self.scopes[key.scope as usize].name) {
                continue;
            }
            key.standing = Standing::Removed;
            key.generation = key.generation.wrapping_add(1);
            self.aliases.remove(&key.alias);
            if home.is_some() {
                moved.insert(Arc::clone(&key.alias));
            } else {
                changes.push(Change::KeyRemoved(Arc::clone(&key.alias)));
            }
            if key.in_flight == 0 {
                self.free_keys.push(index);
            }
        }
        let wanted: HashSet<_> = config.scopes.iter().map(|scope| &scope.name).collect();
        let mut old: Vec<_> = self.names.values().copied().collect();
        old.sort_unstable();
        for index in old {
            let scope = &mut self.scopes[index as usize];
            if wanted.contains(&scope.name) {
                continue;
            }
            scope.access = Access::Removed;
            scope.generation = scope.generation.wrapping_add(1);
            scope.keys.clear();
            let lanes = std::mem::take(&mut scope.lanes);
            self.names.remove(&scope.name);
            changes.push(Change::ScopeRemoved(Arc::clone(&scope.name)));
            if scope.in_flight == 0 {
                self.free_scopes.push(index);
            }
            for (_, lane) in lanes {
                self.remove_lane(lane);
            }
        }
        moved
    }

    pub(super) fn key(&self, alias: &str) -> Result<u32, UnknownName> {
        self.aliases
            .get(alias)
            .copied()
            .ok_or_else(|| unknown(alias))
    }
}

fn unknown(name: &str) -> UnknownName {
    UnknownName { name: name.into() }
}
