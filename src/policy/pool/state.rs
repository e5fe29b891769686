use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    outcome::{Usage, Verdict},
    policy::{Cost, Quota, Timestamp, TokenBucket, breaker::Breaker},
};

use super::{ModelId, Strategy, affinity::Load, models::Waiting, ring::Ring};

/// What the provider meters as one.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) name: Arc<str>,
    pub(super) generation: u32,
    /// Its keys; a key's place here is its number in the rings.
    pub(super) keys: Vec<u32>,
    /// Its classes with the patterns they are for.
    pub(super) lanes: Vec<(Vec<Arc<str>>, u32)>,
    pub(super) credit: Credit,
    pub(super) access: Access,
    /// The usable keys.
    pub(super) ring: Ring,
    /// The usable keys of the models that not every key may use.
    pub(super) rings: HashMap<ModelId, Ring>,
    /// When a rejected key, or one that its breaker has taken out, is to be tried again.
    pub(super) retrials: BTreeSet<(Timestamp, u32)>,
    /// The keys that the end of a call in flight may bring back: a trial, or a breaker's probe.
    pub(super) trials: Vec<u32>,
    pub(super) in_flight: usize,
    pub(super) totals: Totals,
    /// Of its keys together.
    pub(super) load: Load,
}

/// Whether a scope's account can pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credit {
    Fine,
    /// Used up; one call is risked from this instant.
    Spent(Timestamp),
    /// That call is in flight.
    Probing(Timestamp),
}

/// Whether a scope may be called at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open,
    /// The place that its calls come from is refused.
    Region,
    /// It is no longer part of the pool.
    Removed,
}

/// A credential, known by its alias alone.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) alias: Arc<str>,
    pub(super) weight: u32,
    pub(super) scope: u32,
    /// Its number in the rings of its scope.
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) standing: Standing,
    pub(super) breaker: Breaker,
    pub(super) denied: Vec<ModelId>,
    pub(super) in_flight: usize,
    pub(super) totals: Totals,
    /// Of its name.
    pub(super) hash: u64,
    pub(super) load: Load,
}

/// Whether a key is in use, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Usable,
    Disabled,
    Draining,
    /// Refused by the server; tried again at this instant, never at `MAX`.
    Rejected(Timestamp),
    /// Refused before, and that trial is due or in flight.
    OnTrial(Trial),
    /// Its breaker is open until this instant.
    Tripped(Timestamp),
    /// Its breaker is half-open and has a place for a probe.
    HalfOpen,
    /// Its breaker is half-open and all places are held; the first lease ends at this instant.
    Probing(Timestamp),
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    Due,
    InFlight,
}

/// One class of models in one scope: what a quota and a rest belong to.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) scope: u32,
    /// Of its scope's name.
    pub(super) hash: u64,
    /// No other lane has or had it.
    pub(super) serial: u32,
    pub(super) is_removed: bool,
    /// Whether its number is free for another.
    pub(super) is_unused: bool,
    pub(super) quota: Option<Quota>,
    pub(super) bucket: Option<TokenBucket>,
    /// `usize::MAX` is no limit.
    pub(super) most: usize,
    pub(super) in_flight: usize,
    /// The instant since which a place in flight has been free.
    pub(super) free_since: Timestamp,
    pub(super) rest_until: Timestamp,
    pub(super) is_resting: bool,
    /// How often it was sent to rest: a success of a call from before does not count.
    pub(super) rests: u32,
    /// How often in a row it was sent to rest, each time by calls from after the last.
    pub(super) relapses: u32,
    /// After a rest, calls keep this distance until one succeeds, and where no quota does.
    pub(super) gap: Duration,
    pub(super) next_at: Timestamp,
    /// What it is ready for, or waits for: the cost of the last call.
    pub(super) reference: Cost,
    pub(super) turn: u64,
    pub(super) last_taken: u64,
    /// When it was last taken or released, in such events.
    pub(super) last_used: u64,
    /// Whether it is claimed for the calls of all views.
    pub(super) is_claimed: bool,
    pub(super) seats: Vec<Seat>,
    /// What sessions ask of it.
    pub(super) load: Load,
    /// Those who wait for it and nothing else, all together and by model.
    pub(super) waiting: Waiting,
    pub(super) lines: Vec<Line>,
}

/// Those who wait for one lane and are of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) model: ModelId,
    /// Its number as a line of the queue.
    pub(super) number: usize,
    pub(super) calls: usize,
}

/// Where a lane stands in a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) view: usize,
    pub(super) tier: usize,
    pub(super) number: u32,
    /// Whether it is claimed for the calls of this view alone.
    pub(super) is_claimed: bool,
}

/// How many attempts ended with which verdict, and what answers have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    counts: [u64; VERDICTS],
    input_tokens: u64,
    output_tokens: u64,
}

const VERDICTS: usize = Verdict::RefusedLocally as usize + 1;

// === impl Totals ===

impl Totals {
    /// Attempts that ended with this verdict.
    #[must_use]
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }

    /// Input tokens that answers reported, cached or not.
    #[must_use]
    pub const fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// Output tokens that answers reported, those of answers that broke off as far as they
    /// were seen.
    #[must_use]
    pub const fn output_tokens(&self) -> u64 {
        self.output_tokens
    }

    pub(super) const fn add(&mut self, usage: &Usage) {
        if let Some(tokens) = usage.input() {
            self.input_tokens = self.input_tokens.saturating_add(tokens);
        }
        if let Some(tokens) = usage.output() {
            self.output_tokens = self.output_tokens.saturating_add(tokens);
        }
    }

    pub(super) fn count(&mut self, verdict: Verdict) {
        self.counts[verdict as usize] += 1;
    }
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(scope: u32, quota: Option<&Quota>, now: Timestamp) -> Self {
        let mut lane = Self {
            scope,
            hash: 0,
            serial: 0,
            is_removed: false,
            is_unused: false,
            quota: None,
            bucket: None,
            most: usize::MAX,
            in_flight: 0,
            free_since: Timestamp::ZERO,
            rest_until: Timestamp::ZERO,
            is_resting: false,
            rests: 0,
            relapses: 0,
            gap: Duration::ZERO,
            next_at: Timestamp::ZERO,
            reference: Cost::ZERO,
            turn: 0,
            last_taken: 0,
            last_used: 0,
            is_claimed: false,
            seats: Vec::new(),
            load: Load::default(),
            waiting: Waiting::default(),
            lines: Vec::new(),
        };
        lane.set_quota(quota, now);
        lane
    }

    /// Changes the quota; what has been spent stays spent.
    pub(super) fn set_quota(&mut self, quota: Option<&Quota>, now: Timestamp) {
        let was_full = self.is_full();
        match (&mut self.bucket, quota) {
            (Some(bucket), Some(quota)) => bucket.set_quota(quota, now),
            (bucket, quota) => *bucket = quota.map(|quota| TokenBucket::new(quota, now)),
        }
        let most = quota.and_then(Quota::max_in_flight);
        self.most = most.map_or(usize::MAX, std::num::NonZeroUsize::get);
        self.quota = quota.cloned();
        if was_full {
            self.free_since = now;
        }
    }

    /// Whether somebody waits for it and nothing else.
    pub(super) const fn is_wanted(&self) -> bool {
        self.waiting.calls > 0
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.most
    }

    /// Its place in the order of choice, without regard to quotas.
    #[inline]
    pub(super) fn turn_of(&self, strategy: Strategy) -> u64 {
        match strategy {
            Strategy::MostHeadroom => self.last_taken,
            Strategy::RoundRobin | Strategy::Weighted => self.turn,
            // Equals take turns, for 2⁴⁴ calls.
            Strategy::LeastInFlight => (self.in_flight as u64) << 44 | self.last_taken,
            Strategy::LeastRecentlyUsed => self.last_used,
        }
    }

    /// From when on it is not at rest.
    #[inline]
    pub(super) fn awake_at(&self) -> Timestamp {
        self.rest_until.max(self.next_at)
    }

    #[inline]
    pub(super) fn is_awake(&self, now: Timestamp) -> bool {
        self.awake_at() <= now
    }

    #[inline]
    pub(super) fn affords(&self, cost: &Cost, now: Timestamp) -> bool {
        let bucket = self.bucket.as_ref();
        bucket.is_none_or(|bucket| bucket.is_ready(cost, now))
    }

    /// When it is awake and can afford `cost` if nothing else is taken before; `None` if it never
    /// can.
    pub(super) fn ready_at(&self, cost: &Cost) -> Option<Timestamp> {
        let affordable = match &self.bucket {
            None => Timestamp::ZERO,
            Some(bucket) => bucket.ready_at(cost).ok()?,
        };
        Some(self.awake_at().max(affordable))
    }

    /// The share that is left in the dimension that has the smallest, in millionths.
    pub(super) fn headroom(&self, now: Timestamp) -> u64 {
        const WHOLE: u64 = 1_000_000;
        let tokens = self
            .bucket
            .as_ref()
            .map_or(WHOLE, |bucket| u64::from(bucket.headroom(now)));
        let places = match self.most {
            usize::MAX => WHOLE,
            most => most.saturating_sub(self.in_flight) as u64 * WHOLE / most as u64,
        };
        tokens.min(places)
    }
}
