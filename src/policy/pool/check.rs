use crate::{
    outcome::{Outcome, Verdict},
    policy::{Cost, Rng, Timestamp},
};

use super::{
    Ask, Pick, Pool, UnknownName,
    state::{Access, Credit, Standing, Trial},
};

/// A key that somebody asks about outside of all calls; see [`Pool::check`].
#[derive(Debug)]
#[must_use = "what is found out is to be told to the pool"]
pub struct Check {
    pick: Pick,
}

impl Check {
    /// The number of the key, as [`Pick::key`].
    #[must_use]
    pub const fn key(&self) -> usize {
        self.pick.key()
    }
}

impl Pool {
    /// Begins to find out about a key by other means than a call. `None` if it is disabled or
    /// draining: whatever were found would change nothing. It takes no quota and no place in
    /// flight, so it may be dropped without a word.
    ///
    /// ```
    /// use tower_relay::{
    ///     outcome::{Outcome, Verdict},
    ///     policy::{Rng, Timestamp, pool::{KeyState, Pool, PoolConfig, ScopeConfig}},
    /// };
    ///
    /// # struct Fixed;
    /// # impl Rng for Fixed {
    /// #     fn next_u64(&mut self) -> u64 { 0 }
    /// # }
    /// let scope = ScopeConfig::new("org-a").key("a1").key("a2");
    /// let now = Timestamp::ZERO;
    /// let mut pool = Pool::new(&PoolConfig::builder().scope(scope).build()?, now);
    /// let state = |pool: &Pool| pool.snapshot(now)[0].keys()[0].state();
    ///
    /// let check = pool.check("a1")?.expect("it is in use");
    /// pool.checked(check, &Outcome::new(Verdict::KeyRejected), now, &mut Fixed);
    /// assert_eq!(state(&pool), KeyState::Rejected(None));
    ///
    /// let check = pool.check("a1")?.expect("a rejected key can be asked about");
    /// pool.checked(check, &Outcome::SUCCESS, now, &mut Fixed);
    /// assert_eq!(state(&pool), KeyState::Usable);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`UnknownName`] if no key has this alias.
    pub fn check(&self, alias: &str) -> Result<Option<Check>, UnknownName> {
        let index = self.key(alias)?;
        let key = &self.keys[index as usize];
        if matches!(key.standing, Standing::Disabled | Standing::Draining) {
            return Ok(None);
        }
        let scope = &self.scopes[key.scope as usize];
        let lanes = &scope.lanes;
        // Without a model: the default class.
        let default = lanes.iter().find(|(patterns, _)| patterns.is_empty());
        let lane = default.or_else(|| lanes.first()).map(|(_, lane)| *lane);
        let lane = lane.expect("every scope has a class");
        let pick = Pick {
            ask: Ask::new(super::ModelId(0), Cost::ZERO),
            taken_at: Timestamp::ZERO,
            is_reserved: false,
            scope: key.scope,
            lane,
            key: index,
            scope_generation: scope.generation,
            key_generation: key.generation,
            rests: self.lanes[lane as usize].rests,
            // Only the credit that it finds spent now can it find back.
            probe: match scope.credit {
                Credit::Spent(due) | Credit::Probing(due) => Some(due),
                Credit::Fine => None,
            },
            is_trial: true,
            is_spaced: false,
            mark: key.breaker.counted(),
        };
        Ok(Some(Check { pick }))
    }

    /// Takes in what a check has found, as [`report`](Self::report) does for a call, with these
    /// differences:
    ///
    /// - a success takes a rejected key back, ends the rest of a scope whose credit was used up,
    ///   and makes an open breaker let probes pass at once: calls then decide whether it closes.
    ///   It cuts no rest of a throttled class short, for that is the server's word;
    /// - a throttle rests the default class of the scope, for the check names no model;
    /// - it counts in no totals.
    ///
    /// A check from before a reload, or a rejection or enabling of the key, decides nothing.
    pub fn checked(&mut self, check: Check, outcome: &Outcome, now: Timestamp, rng: &mut impl Rng) {
        let mut pick = check.pick;
        let key = &self.keys[pick.key()];
        let is_in_use = !matches!(
            key.standing,
            Standing::Disabled | Standing::Draining | Standing::Removed
        );
        if key.generation != pick.key_generation || !is_in_use {
            return;
        }
        if outcome.verdict() == Verdict::Success {
            self.revive(&mut pick, now);
        }
        let _nobody_asks = self.heed(&pick, outcome, now, rng);
    }

    /// Makes what is out such that the success of `pick` brings it back.
    fn revive(&mut self, pick: &mut Pick, now: Timestamp) {
        match self.keys[pick.key()].standing {
            Standing::Rejected(_) => {
                self.set_standing(pick.key, Standing::OnTrial(Trial::Due));
            }
            Standing::Tripped(_) => {
                let breaker = &mut self.keys[pick.key()].breaker;
                breaker.half_open();
                let _half_open = breaker.next_transition();
                self.follow_breaker(pick.key, now);
            }
            _ => {}
        }
        let scope = &mut self.scopes[pick.scope()];
        if let (Credit::Spent(due), Access::Open) = (scope.credit, scope.access) {
            let is_current = scope.generation == pick.scope_generation;
            if is_current && pick.probe == Some(due) {
                scope.credit = Credit::Probing(due);
            }
        }
        // It says nothing of any class: relapses and distances stay.
        pick.rests = self.lanes[pick.lane as usize].rests.wrapping_sub(1);
    }
}
