use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    outcome::Verdict,
    policy::{
        Cost, Timestamp,
        breaker::{BreakerConfig, Mark},
    },
};

use super::{
    ModelId, PoolConfig, Strategy, Transition,
    affinity::{Preference, Sticky},
    breakers::Ends,
    config::Rests,
    models::Models,
    ring::Ring,
    state::{Access, Credit, Key, Lane, Scope, Seat, Standing, Trial},
    view::{Spot, View},
};

/// Untold transitions beyond this many are forgotten, the oldest first.
const MOST_UNTOLD: usize = 1_024;

/// Scopes, their keys and what is known of their health: who serves a call, and when.
///
/// See the [module](crate::policy::pool) for the rules and an example.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(super) strategy: Strategy,
    /// If calls may prefer something.
    pub(super) sticky: Option<Sticky>,
    pub(super) rests: Rests,
    /// Of every key, if they have breakers.
    pub(super) breaker: Option<BreakerConfig>,
    pub(super) ends: Ends,
    /// The keys whose breakers are open or half-open.
    pub(super) broken: BTreeSet<u32>,
    pub(super) scopes: Vec<Scope>,
    pub(super) keys: Vec<Key>,
    pub(super) lanes: Vec<Lane>,
    pub(super) models: Models,
    /// One for each route, then those of models that not every key may use.
    pub(super) views: Vec<View>,
    /// The scopes in the order of their configuration.
    pub(super) order: Vec<u32>,
    pub(super) aliases: HashMap<Arc<str>, u32>,
    pub(super) names: HashMap<Arc<str>, u32>,
    /// Lanes claimed in the present pass.
    pub(super) claimed: Vec<u32>,
    pub(super) pass: u64,
    /// The instant that a call was last looked for or released at.
    pub(super) seen: Timestamp,
    pub(super) waiting: usize,
    /// What the last claim found ready.
    pub(super) found: Option<(Ask, u32)>,
    /// How often one was taken.
    pub(super) taken: u64,
    /// How often one was taken or released.
    pub(super) events: u64,
    pub(super) untold: VecDeque<Transition>,
    /// Places of what was removed and has no call in flight any more.
    pub(super) free_scopes: Vec<u32>,
    pub(super) free_keys: Vec<u32>,
    pub(super) free_lanes: Vec<u32>,
    /// How many lanes there have been.
    pub(super) serials: u32,
}

/// What a call wants: a model and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub(super) model: ModelId,
    pub(super) cost: Cost,
    pub(super) preference: Option<Preference>,
}

/// The key that serves a call, with all that was taken for it. To be released, or undone, once.
#[derive(Debug)]
#[must_use = "a pick that is dropped stays in flight"]
pub struct Pick {
    pub(super) ask: Ask,
    pub(super) taken_at: Timestamp,
    /// Whether the cost was reserved then, because there is a quota.
    pub(super) is_reserved: bool,
    pub(super) scope: u32,
    pub(super) lane: u32,
    pub(super) key: u32,
    pub(super) scope_generation: u32,
    pub(super) key_generation: u32,
    /// How often the lane had been sent to rest.
    pub(super) rests: u32,
    /// If it finds out whether the scope has credit again: since when one was to.
    pub(super) probe: Option<Timestamp>,
    /// Whether it finds out if the key is accepted again.
    pub(super) is_trial: bool,
    /// Whether it keeps a distance that its success ends.
    pub(super) is_spaced: bool,
    /// What it is to the breaker of its key.
    pub(super) mark: Mark,
}

// === impl Ask ===

impl Ask {
    /// A call of `model` that costs this much.
    #[must_use]
    pub const fn new(model: ModelId, cost: Cost) -> Self {
        Self {
            model,
            cost,
            preference: None,
        }
    }

    /// What the call costs.
    #[must_use]
    pub const fn cost(&self) -> &Cost {
        &self.cost
    }
}

// === impl Pick ===

impl Pick {
    /// The number of the key: it stays the same until the key is removed and all its calls have
    /// ended, and is then used again. See [`Pool::alias`].
    #[must_use]
    pub const fn key(&self) -> usize {
        self.key as usize
    }

    /// The number of the scope, with the life of [`key`](Self::key). See [`Pool::scope_name`].
    #[must_use]
    pub const fn scope(&self) -> usize {
        self.scope as usize
    }

    /// What was asked for.
    #[must_use]
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }
}

impl Pick {
    /// Whether others wait for an outcome of this verdict to be
    /// [reported](Pool::report). All others may be reported when the call is over.
    #[must_use]
    #[inline]
    pub const fn awaits(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Success => {
                self.probe.is_some() || self.is_trial || self.is_spaced || self.mark.is_probe()
            }
            verdict => verdict.concerns_keys(),
        }
    }

    /// Whether it is the one that finds out.
    pub(super) fn is_probe_of(&self, credit: Credit) -> bool {
        matches!((credit, self.probe), (Credit::Probing(due), Some(probe)) if due == probe)
    }
}

// === impl Pool ===

impl Pool {
    /// A pool in which every key is usable and every quota unspent.
    #[must_use]
    pub fn new(config: &PoolConfig, now: Timestamp) -> Self {
        let mut pool = Self {
            strategy: config.strategy,
            sticky: config.affinity.map(Sticky::new),
            rests: config.rests,
            breaker: config.breaker.clone(),
            ends: Ends::default(),
            broken: BTreeSet::new(),
            scopes: Vec::new(),
            keys: Vec::new(),
            lanes: Vec::new(),
            models: Models::new(config),
            views: Vec::new(),
            order: Vec::new(),
            aliases: HashMap::new(),
            names: HashMap::new(),
            claimed: Vec::new(),
            pass: 0,
            seen: now,
            waiting: 0,
            found: None,
            taken: 0,
            events: 0,
            untold: VecDeque::new(),
            free_scopes: Vec::new(),
            free_keys: Vec::new(),
            free_lanes: Vec::new(),
            serials: 0,
        };
        for scope in &config.scopes {
            pool.add_scope(scope, now);
        }
        for scope in &config.scopes {
            for key in &scope.keys {
                pool.add_key(pool.names[&scope.name], key, now);
            }
        }
        pool.rebuild(config, now);
        pool
    }

    /// The number of a model's name. Without one, calls are of every scope's default class.
    ///
    /// The first 256 names are told apart. Later ones are one model with all others that match the
    /// same pattern: they keep its quotas, but no key is taken out for one of them, nor for a call
    /// that names no model.
    #[inline]
    pub fn resolve(&mut self, model: Option<&str>) -> ModelId {
        self.models.resolve(model)
    }

    /// How many lines of waiters there are. It grows when a model is first seen, or when calls of
    /// sessions wait for more scopes than ever before, and never shrinks.
    #[must_use]
    pub const fn lines(&self) -> usize {
        self.models.lines()
    }

    /// The line of waiters that `ask`, once it [has joined](Self::joined), belongs to: all asks of
    /// one line can be served by the same keys, and wait for the same scope if they prefer one. Below
    /// [`lines`](Self::lines).
    #[must_use]
    #[inline]
    pub fn line(&self, ask: &Ask) -> usize {
        let own = ask.preference.and_then(|_| self.line_of(ask));
        own.unwrap_or_else(|| self.models.get(ask.model).line)
    }

    /// The number of every key, see [`Pick::key`], with its alias.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &Arc<str>)> {
        let aliases = self.aliases.iter();
        aliases.map(|(alias, &number)| (number as usize, alias))
    }

    /// The alias of a picked key.
    #[must_use]
    pub fn alias(&self, pick: &Pick) -> &Arc<str> {
        &self.keys[pick.key()].alias
    }

    /// The name of a picked scope.
    #[must_use]
    pub fn scope_name(&self, pick: &Pick) -> &Arc<str> {
        &self.scopes[pick.scope()].name
    }

    /// The oldest change of state that has not been told yet. The last 1,024 are kept.
    pub fn next_transition(&mut self) -> Option<Transition> {
        self.untold.pop_front()
    }

    /// Whether a change of state has not been told yet.
    #[must_use]
    #[inline]
    pub fn has_transition(&self) -> bool {
        !self.untold.is_empty()
    }

    pub(super) fn tell(&mut self, transition: Transition) {
        if self.untold.len() == MOST_UNTOLD {
            self.untold.pop_front();
        }
        self.untold.push_back(transition);
    }

    pub(super) fn add_seat(&mut self, view: usize, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        let tier = self.views[view].tier_of(state.quota.as_ref());
        let number = self.views[view].tiers[tier].add(lane);
        self.views[view].clock = state.turn.max(self.views[view].clock);
        state.seats.push(Seat {
            view,
            tier,
            number,
            is_claimed: false,
        });
    }

    /// Puts a lane where it belongs in all views, after anything about it has changed.
    #[inline]
    pub(super) fn place(&mut self, lane: u32, now: Timestamp) {
        for index in 0..self.lanes[lane as usize].seats.len() {
            let seat = self.lanes[lane as usize].seats[index];
            let spot = self.spot(lane, seat, now);
            self.views[seat.view].tiers[seat.tier].seat(seat.number, spot);
        }
    }

    /// Puts all lanes of a scope where they belong.
    pub(super) fn place_all(&mut self, scope: u32, now: Timestamp) {
        for index in 0..self.scopes[scope as usize].lanes.len() {
            self.place(self.scopes[scope as usize].lanes[index].1, now);
        }
    }

    fn spot(&self, lane: u32, seat: Seat, now: Timestamp) -> Spot {
        let lane = &self.lanes[lane as usize];
        let Some(opening) = self
            .opening(lane.scope, seat.view)
            .filter(|_| !lane.is_removed)
        else {
            return Spot::Out;
        };
        if lane.is_claimed || seat.is_claimed {
            return Spot::Claimed;
        }
        let Some(from) = opening.from.filter(|_| !lane.is_full()) else {
            let ready = lane.ready_at(&lane.reference).unwrap_or(now);
            return Spot::Full(opening.soonest.max(ready));
        };
        let is_ready = from <= now && lane.is_awake(now) && lane.affords(&lane.reference, now);
        if !is_ready {
            let at = from.max(lane.ready_at(&lane.reference).unwrap_or(now));
            if at > now {
                return Spot::At(at);
            }
        }
        Spot::Ready(self.rank(lane, now))
    }

    /// The place of a lane in the order of choice.
    #[inline]
    fn rank(&self, lane: &Lane, now: Timestamp) -> u64 {
        match self.strategy {
            Strategy::MostHeadroom => {
                let full_at = lane.bucket.as_ref().map(|bucket| bucket.full_at());
                match full_at.filter(|&full_at| full_at > now) {
                    // Those that are full come first, and take turns.
                    None => lane.last_taken,
                    Some(full_at) => full_at.as_nanos() | 1 << 63,
                }
            }
            _ => lane.turn_of(self.strategy),
        }
    }

    /// Puts a lane that has just been taken back into the order of choice. Whether it can serve
    /// another call is left to be found out when its turn comes: mostly it can. Where it is not
    /// in that order, it stays where it is as far as being taken goes.
    #[inline]
    pub(super) fn keep_ready(&mut self, lane: u32, now: Timestamp) {
        let rank = self.rank(&self.lanes[lane as usize], now);
        for index in 0..self.lanes[lane as usize].seats.len() {
            let seat = self.lanes[lane as usize].seats[index];
            let tier = &mut self.views[seat.view].tiers[seat.tier];
            if tier.ready.contains(seat.number) {
                tier.ready.set(seat.number, rank);
            } else {
                let spot = self.spot(lane, seat, now);
                self.views[seat.view].tiers[seat.tier].seat(seat.number, spot);
            }
        }
    }

    /// When a scope serves calls of a view as far as keys and credit are concerned; `None` if only
    /// somebody's doing opens it.
    #[inline]
    pub(super) fn opening(&self, index: u32, view: usize) -> Option<Opening> {
        let scope = &self.scopes[index as usize];
        if scope.access != Access::Open {
            return None;
        }
        let keys = if self.ring(index, view).is_empty() {
            self.next_trial(scope, view)?
        } else {
            Opening::from(Timestamp::ZERO)
        };
        Some(match scope.credit {
            Credit::Fine => keys,
            Credit::Spent(until) => Opening {
                from: keys.from.map(|from| from.max(until)),
                soonest: keys.soonest.max(until),
            },
            Credit::Probing(_) => Opening { from: None, ..keys },
        })
    }

    /// When a scope without usable key has one to try again.
    fn next_trial(&self, scope: &Scope, view: usize) -> Option<Opening> {
        let model = self.views[view].model;
        let is_allowed = |key: u32| {
            let denied = &self.keys[key as usize].denied;
            model.is_none_or(|model| !denied.contains(&model))
        };
        let mut retrials = scope.retrials.iter();
        let next = retrials.find(|(_, key)| is_allowed(*key));
        let next = next.map(|&(at, _)| Opening::from(at));
        if scope.trials.iter().any(|&key| is_allowed(key)) {
            // It is accepted, or given back, whenever its call ends.
            let from = next.and_then(|next| next.from);
            let soonest = Timestamp::ZERO;
            return Some(Opening { from, soonest });
        }
        next
    }

    /// The usable keys of a scope for the calls of a view.
    #[inline]
    pub(super) fn ring(&self, scope: u32, view: usize) -> &Ring {
        let scope = &self.scopes[scope as usize];
        let own = self.views[view]
            .model
            .and_then(|model| scope.rings.get(&model));
        own.unwrap_or(&scope.ring)
    }
}

/// When a scope serves again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// From when on whatever happens; `None` if only the end of a call in flight opens it.
    pub(super) from: Option<Timestamp>,
    /// From when on if the calls in flight end at once.
    pub(super) soonest: Timestamp,
}

impl Opening {
    const fn from(at: Timestamp) -> Self {
        Self {
            from: Some(at),
            soonest: at,
        }
    }
}

impl Standing {
    /// Whether the key may be picked.
    pub(super) const fn is_usable(self) -> bool {
        matches!(
            self,
            Self::Usable | Self::OnTrial(Trial::Due) | Self::HalfOpen
        )
    }

    /// Whether its breaker keeps calls from it.
    pub(super) const fn is_broken(self) -> bool {
        matches!(self, Self::Tripped(_) | Self::HalfOpen | Self::Probing(_))
    }

    /// When it may be picked again without anybody's doing, if it may not now.
    pub(super) fn retried_at(self) -> Option<Timestamp> {
        match self {
            Self::Rejected(at) => Some(at).filter(|&at| at < Timestamp::MAX),
            Self::Tripped(at) | Self::Probing(at) => Some(at),
            _ => None,
        }
    }

    /// Whether the end of a call in flight may make it one to be picked.
    pub(super) const fn awaits_end(self) -> bool {
        matches!(self, Self::OnTrial(Trial::InFlight) | Self::Probing(_))
    }
}
