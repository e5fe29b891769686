//! The breaker of each key: a key that fails while others do well is left alone for a while.
//!
//! Failures are the endpoint's, and a breaker of the endpoint counts them. A key's own counts only
//! those that came while calls with other keys succeeded, so that an outage takes no key out.

use std::{sync::Arc, time::Duration};

use crate::{
    outcome::{Hint, Outcome},
    policy::{
        Rng, Timestamp,
        breaker::{Breaker, BreakerConfig, Gate, Mark, Signal, Transition as News},
    },
};

use super::{
    Pick, Pool, Transition,
    state::{Access, Credit, Standing},
};

/// How many calls with other keys must have succeeded in a row for a failure to count. Where all
/// keys fail alike, fewer than one call in 28 is a failure that counts, whatever their share: the
/// largest value of p (1 - p)¹⁰.
const ROW: u32 = 10;
/// No older than this may they be, so that the successes from before an outage prove nothing
/// after it. A pool of two keys with twenty calls a minute each has ten in this time.
const FRESH: Duration = Duration::from_secs(30);
/// Enough for ten calls with others, where two keys take turns.
const RUNS: usize = 32;
/// How long ends of one key make one run: so that a key with nearly all calls leaves room for
/// those with others, and a run is no older than it says by more than this.
const ALIKE: Duration = Duration::from_secs(1);

/// How the last calls of all keys ended.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    runs: [Run; RUNS],
    newest: usize,
}

/// Ends in a row that were alike, of one key.
#[derive(Clone, Copy, Debug)]
struct Run {
    key: u32,
    /// None are failures.
    successes: u32,
    /// When the first of them was.
    at: Timestamp,
}

// === impl Ends ===

impl Default for Ends {
    fn default() -> Self {
        let nobody = Run {
            key: u32::MAX,
            successes: 0,
            at: Timestamp::ZERO,
        };
        Self {
            runs: [nobody; RUNS],
            newest: 0,
        }
    }
}

impl Ends {
    #[inline]
    fn succeeded(&mut self, key: u32, now: Timestamp) {
        let run = &mut self.runs[self.newest % RUNS];
        if run.key == key && run.successes > 0 && now.since(run.at) < ALIKE {
            run.successes = run.successes.saturating_add(1);
        } else {
            self.begin(key, 1, now);
        }
    }

    fn failed(&mut self, key: u32, now: Timestamp) {
        let run = &self.runs[self.newest % RUNS];
        if run.key != key || run.successes > 0 || now.since(run.at) >= ALIKE {
            self.begin(key, 0, now);
        }
    }

    #[inline]
    fn begin(&mut self, key: u32, successes: u32, at: Timestamp) {
        self.newest = self.newest.wrapping_add(1);
        self.runs[self.newest % RUNS] = Run { key, successes, at };
    }

    /// Whether the last calls with other keys have all succeeded.
    pub(super) fn do_others_well(&self, key: u32, now: Timestamp) -> bool {
        let (older, newer) = self.runs.split_at((self.newest % RUNS) + 1);
        let latest_first = older.iter().rev().chain(newer.iter().rev());
        let mut row = 0_u32;
        for run in latest_first.filter(|run| run.key != key) {
            if run.successes == 0 || now.since(run.at) > FRESH {
                return false;
            }
            row = row.saturating_add(run.successes);
            if row >= ROW {
                return true;
            }
        }
        false
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new_breaker(&self, now: Timestamp) -> Breaker {
        match &self.breaker {
            Some(config) => Breaker::new(config, now),
            None => Breaker::new(&BreakerConfig::default(), now),
        }
    }

    /// Begins anew with all breakers, for another configuration.
    pub(super) fn renew_breakers(&mut self, now: Timestamp) {
        for index in 0..self.keys.len() {
            let generation = self.keys[index].breaker.generation().wrapping_add(1);
            let breaker = self.new_breaker(now).of_generation(generation);
            let key = &mut self.keys[index];
            key.breaker = breaker;
            if key.standing.is_broken() {
                key.standing = Standing::Usable;
            }
        }
    }

    /// Counts how a call went in the breaker of its key.
    #[inline]
    pub(super) fn count(
        &mut self,
        pick: &Pick,
        outcome: &Outcome,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let Some(config) = &self.breaker else {
            return;
        };
        if outcome.is_success() {
            self.ends.succeeded(pick.key, now);
            let breaker = &mut self.keys[pick.key()].breaker;
            if breaker.succeed(config, pick.mark, now) {
                return;
            }
        }
        self.count_news(pick, outcome, now, rng);
    }

    #[cold]
    fn count_news(&mut self, pick: &Pick, outcome: &Outcome, now: Timestamp, rng: &mut impl Rng) {
        let Some(config) = &self.breaker else {
            return;
        };
        let signal = Signal::of(outcome, Duration::ZERO);
        if let Signal::Failure { .. } = signal {
            let is_absorbed = matches!(outcome.hint(), Some(Hint::Absorbed(_)));
            let is_own = !is_absorbed && self.ends.do_others_well(pick.key, now);
            self.ends.failed(pick.key, now);
            if !is_own {
                return;
            }
        }
        let ticket = pick.mark.ticket(config, pick.taken_at);
        let breaker = &mut self.keys[pick.key()].breaker;
        let _receipt = breaker.report(config, ticket, signal, now, rng);
        if pick.mark.is_probe() || breaker.has_transition() {
            self.heed_breaker(pick.key, now);
        }
    }

    /// What a call with this key is to its breaker; a probe takes a place.
    #[inline]
    pub(super) fn enter_breaker(&mut self, index: u32, now: Timestamp) -> Mark {
        let key = &self.keys[index as usize];
        match key.standing {
            Standing::HalfOpen => self.enter_half_open(index, now),
            _ => key.breaker.counted(),
        }
    }

    #[cold]
    fn enter_half_open(&mut self, index: u32, now: Timestamp) -> Mark {
        let breaker = &mut self.keys[index as usize].breaker;
        let config = self.breaker.as_ref();
        let probe = config.and_then(|config| breaker.probe(config, now));
        let _half_open = breaker.next_transition();
        let mark = probe.unwrap_or_else(|| breaker.counted());
        self.follow_breaker(index, now);
        mark
    }

    /// Gives a probe's place back, if its result has not.
    #[inline]
    pub(super) fn leave_breaker(&mut self, pick: &Pick, now: Timestamp) {
        if let (true, Some(config)) = (pick.mark.is_probe(), &self.breaker) {
            let ticket = pick.mark.ticket(config, pick.taken_at);
            self.keys[pick.key()].breaker.release(ticket);
            self.follow_breaker(pick.key, now);
        }
    }

    /// Does what the breaker of a key has come to.
    #[cold]
    pub(super) fn heed_breaker(&mut self, index: u32, now: Timestamp) {
        let key = &mut self.keys[index as usize];
        let (news, was) = (key.breaker.next_transition(), key.standing);
        let alias = Arc::clone(&key.alias);
        let is_running = was == Standing::Usable || was.is_broken();
        match news {
            Some(News::Opened { .. }) if !is_running || self.is_needed(index) => {
                self.forget(index, now);
                if was.is_broken() {
                    self.tell(Transition::BreakerClosed { alias });
                }
            }
            Some(News::Opened { until, .. }) => {
                self.tell(Transition::BreakerOpened { alias, until });
            }
            Some(News::Closed) if was.is_broken() => {
                self.tell(Transition::BreakerClosed { alias });
            }
            _ => {}
        }
        self.follow_breaker(index, now);
    }

    /// Makes a key usable or not, as its breaker says.
    pub(super) fn follow_breaker(&mut self, index: u32, now: Timestamp) {
        let Some(config) = &self.breaker else {
            return;
        };
        let key = &self.keys[index as usize];
        if key.standing != Standing::Usable && !key.standing.is_broken() {
            return;
        }
        let standing = match key.breaker.gate(config, now) {
            Gate::Closed => Standing::Usable,
            Gate::Until(at) => Standing::Tripped(at),
            Gate::Place => Standing::HalfOpen,
            Gate::Full(at) => Standing::Probing(at),
        };
        if standing != key.standing {
            let scope = key.scope;
            self.set_standing(index, standing);
            self.place_all(scope, now);
        }
    }

    /// Forgets what the breaker of a key has seen, and what its calls in flight will say to it.
    pub(super) fn forget(&mut self, index: u32, now: Timestamp) {
        if let Some(config) = &self.breaker {
            let breaker = &mut self.keys[index as usize].breaker;
            breaker.reset(config, now);
            let _closed = breaker.next_transition();
        }
    }

    /// Lets in again what breakers keep out, where nobody else is left for some calls.
    pub(super) fn spare(&mut self, now: Timestamp) {
        if self.broken.is_empty() {
            return;
        }
        let broken: Vec<_> = self.broken.iter().copied().collect();
        for index in broken {
            if self.is_needed(index) {
                self.forget(index, now);
                let alias = Arc::clone(&self.keys[index as usize].alias);
                self.tell(Transition::BreakerClosed { alias });
                self.follow_breaker(index, now);
            }
        }
    }

    /// Whether calls of some model could be served by no other key, even after a short rest. Steps
    /// for each key that is out; mostly the first one looked at is not.
    fn is_needed(&self, index: u32) -> bool {
        self.views.iter().any(|view| {
            let may = |key: u32| {
                let denied = &self.keys[key as usize].denied;
                view.model.is_none_or(|model| !denied.contains(&model))
            };
            let others = self
                .scopes
                .iter()
                .filter(|scope| scope.access == Access::Open && scope.credit == Credit::Fine)
                .flat_map(|scope| scope.keys.iter().copied())
                .filter(|&key| key != index);
            let mut serving =
                others.filter(|&key| self.keys[key as usize].standing == Standing::Usable);
            may(index) && !serving.any(may)
        })
    }

    /// Opens the breaker of a key in use, unless it is needed.
    #[cfg(test)]
    pub(super) fn trip(&mut self, alias: &str, now: Timestamp, rng: &mut impl Rng) {
        let Ok(index) = self.key(alias) else {
            return;
        };
        for _ in 0..20 {
            let config = self.breaker.as_ref().expect("it has breakers");
            let breaker = &mut self.keys[index as usize].breaker;
            let ticket = breaker.counted().ticket(config, now);
            let _receipt = breaker.report(config, ticket, Signal::FAILURE, now, rng);
            if breaker.has_transition() {
                self.heed_breaker(index, now);
            }
        }
    }
}
