use std::time::Duration;

use super::{Key, KeyPool};
use crate::{
    admit::{Claim, Joint, Limiter, Resource, Spent, Tokens, nanos},
    clock,
    outcome::{Outcome, Usage, Verdict},
    policy::{
        CallSize, Cost, Part, Readings, Rng, Timestamp,
        pool::{
            self, Absorbed, Ask, Change, Check, Pick, Pool, Settlement, Transition, Unservable,
        },
    },
};

/// What a pool admits to, all or nothing: a key with its scope's quota, the quota of the whole,
/// and a place in flight.
///
/// What a call takes of them stays here, under the lock, and the call holds its number: guards are
/// moved with their response, and the less there is to move the better.
#[derive(Debug)]
pub(super) struct Pooled {
    joint: Together,
    taken: Vec<Place>,
    free: Option<u32>,
}

type Together = Joint<Keys, Joint<Tokens, Limiter>>;

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are taken, and a box would be an allocation for each call"
)]
enum Place {
    Free(Option<u32>),
    Taken(<Together as Resource>::Grant),
}

/// What a call wants of a pool.
pub(super) type PooledAsk = <Together as Resource>::Ask;

/// What a call holds of a pool: its key, and where the rest is kept.
#[derive(Debug)]
pub(super) struct Picked {
    place: u32,
    awaits_success: bool,
    /// Whether the limit of calls in flight waits for a success, and for any other answer.
    learns: (bool, bool),
    key: Key,
}

impl Picked {
    #[inline]
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether others wait for an outcome of this verdict to be reported.
    #[inline]
    pub(super) fn awaits(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Success => self.awaits_success || self.learns.0,
            verdict => self.learns.1 || verdict.concerns_keys(),
        }
    }

    /// Whether the pool waits for it, and not the limit alone.
    #[inline]
    fn concerns_keys(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Success => self.awaits_success,
            verdict => verdict.concerns_keys(),
        }
    }
}

impl Pooled {
    pub(super) fn new(keys: Keys, quota: Tokens, places: Limiter) -> Self {
        Self {
            joint: Joint(keys, Joint(quota, places)),
            taken: Vec::new(),
            free: None,
        }
    }

    pub(super) const fn keys(&self) -> &Keys {
        &self.joint.0
    }

    pub(super) const fn keys_mut(&mut self) -> &mut Keys {
        &mut self.joint.0
    }

    /// The quota and the places of the whole.
    pub(super) const fn whole(&self) -> &Joint<Tokens, Limiter> {
        &self.joint.1
    }

    pub(super) const fn whole_mut(&mut self) -> &mut Joint<Tokens, Limiter> {
        &mut self.joint.1
    }

    #[inline]
    pub(super) fn ask(
        &mut self,
        model: Option<&str>,
        cost: Cost,
        size: Option<CallSize>,
        affinity: Option<u64>,
    ) -> PooledAsk {
        let Joint(keys, Joint(tokens, _)) = &mut self.joint;
        let policy = &mut keys.policy;
        let id = policy.resolve(model);
        let fits = |cost: &Cost| policy.admits(&Ask::new(id, *cost));
        let wanted = tokens.want(model, cost, size, fits);
        let mut ask = Ask::new(id, wanted.cost);
        if let Some(session) = affinity {
            ask = policy.prefer(ask, session, clock::now_shared());
        }
        (ask, (wanted, ()))
    }

    /// Tells the policy, and the limit of calls in flight, how a call went.
    pub(super) fn report(
        &mut self,
        picked: &Picked,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Absorbed {
        let Place::Taken((key, (_, place))) = &mut self.taken[picked.place as usize] else {
            unreachable!("who is picked has a place");
        };
        let Joint(keys, Joint(_, limiter)) = &mut self.joint;
        // The limit last: an algorithm may be a user's, and panic.
        let absorbed = if picked.concerns_keys(outcome.verdict()) {
            keys.report(key, outcome, now)
        } else {
            Absorbed::Nothing
        };
        if place.awaits(outcome) {
            limiter.record(place, outcome, now);
        }
        absorbed
    }

    /// Tells the policy what the answer shows of the quotas of the key's scope. That of the whole
    /// is not the server's.
    pub(super) fn hear(&mut self, picked: &Picked, readings: &Readings, now: Timestamp) {
        let Place::Taken((key, _)) = &self.taken[picked.place as usize] else {
            unreachable!("who is picked has a place");
        };
        self.joint.0.policy.observe(&key.pick, readings, now);
    }

    #[inline]
    fn keep(&mut self, grant: <Together as Resource>::Grant) -> Picked {
        let pick = &grant.0.pick;
        let key = self.joint.0.credentials[pick.key()].clone();
        let key = key.expect("every key of the pool has its credential");
        let awaits_success = pick.awaits(Verdict::Success);
        let learns = grant.1.1.learns();
        let place = match self.free {
            Some(place) => {
                let freed = std::mem::replace(&mut self.taken[place as usize], Place::Taken(grant));
                let Place::Free(next) = freed else {
                    unreachable!("the list of free places holds free places");
                };
                self.free = next;
                place
            }
            None => {
                self.taken.push(Place::Taken(grant));
                u32::try_from(self.taken.len() - 1).expect("fewer than 2^32 calls are in flight")
            }
        };
        Picked {
            place,
            awaits_success,
            learns,
            key,
        }
    }

    #[inline]
    fn vacate(&mut self, picked: &Picked) -> <Together as Resource>::Grant {
        let place = &mut self.taken[picked.place as usize];
        let Place::Taken(grant) = std::mem::replace(place, Place::Free(self.free)) else {
            unreachable!("who is picked has a place");
        };
        self.free = Some(picked.place);
        grant
    }
}

impl Resource for Pooled {
    type Ask = PooledAsk;
    type Grant = Picked;
    type Notice = super::Transition;

    fn lines(&self) -> usize {
        self.joint.lines()
    }

    fn line(&self, ask: &PooledAsk) -> usize {
        self.joint.line(ask)
    }

    fn hurry(&self, ask: &mut PooledAsk, room: Duration) {
        self.joint.hurry(ask, room);
    }

    fn is_free(&self, ask: &PooledAsk, now: Timestamp) -> bool {
        self.joint.is_free(ask, now)
    }

    fn begin_pass(&mut self) {
        self.joint.begin_pass();
    }

    fn claim(&mut self, ask: &PooledAsk, from: Timestamp, now: Timestamp) -> Claim {
        self.joint.claim(ask, from, now)
    }

    #[inline]
    fn try_take(&mut self, ask: &PooledAsk, now: Timestamp) -> Option<Picked> {
        let grant = self.joint.try_take(ask, now)?;
        Some(self.keep(grant))
    }

    fn take(&mut self, ask: &PooledAsk, at: Timestamp, now: Timestamp) -> Picked {
        let grant = self.joint.take(ask, at, now);
        self.keep(grant)
    }

    /// A key's calls are counted.
    #[inline]
    fn is_inert(_: &Picked, _: Spent) -> bool {
        false
    }

    /// An algorithm that learns at the end hears how long the call took.
    #[inline]
    fn is_timeless(picked: &Picked) -> bool {
        let (at_head, at_all) = picked.learns;
        at_head || !at_all
    }

    #[inline]
    fn count_usage(&mut self, picked: &Picked, reported: &Usage) {
        if let Place::Taken((key, _)) = &self.taken[picked.place as usize] {
            self.joint.0.policy.count_usage(&key.pick, reported);
        }
    }

    #[inline]
    fn release(&mut self, picked: Picked, spent: Spent, outcome: Option<&Outcome>, now: Timestamp) {
        let grant = self.vacate(&picked);
        self.joint.release(grant, spent, outcome, now);
    }

    fn undo(&mut self, picked: Picked, now: Timestamp) -> PooledAsk {
        let grant = self.vacate(&picked);
        self.joint.undo(grant, now)
    }

    fn expect(
        &self,
        ask: &PooledAsk,
        ahead: Part,
        now: Timestamp,
    ) -> Result<Timestamp, Unservable> {
        self.joint.expect(ask, ahead, now)
    }

    fn work(&self, ask: &PooledAsk) -> u64 {
        self.joint.work(ask)
    }

    fn joined(&mut self, ask: &PooledAsk) {
        self.joint.joined(ask);
    }

    fn left(&mut self, ask: &PooledAsk) {
        self.joint.left(ask);
    }

    #[inline]
    fn has_notice(&self) -> bool {
        self.joint.has_notice() || self.whole().1.has_notice()
    }

    fn next_notice(&mut self) -> Option<super::Transition> {
        let of_pool = self.joint.next_notice().map(super::Transition::Pool);
        of_pool.or_else(|| {
            let limiter = &mut self.whole_mut().1;
            limiter.next_notice().map(super::Transition::Concurrency)
        })
    }
}

// === impl Keys ===

/// The pool's keys as something to be admitted to.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) policy: Pool,
    /// By the numbers that the policy gives them.
    credentials: Vec<Option<Key>>,
    source: KeyPool,
    chance: Chance,
}

/// What a call takes of the pool's policy.
#[derive(Debug)]
pub(super) struct KeyGrant {
    pick: Pick,
    /// What the policy has heard of the call already.
    reported: Option<Verdict>,
}

impl Keys {
    pub(super) fn new(source: &KeyPool, now: Timestamp) -> Self {
        let mut keys = Self {
            policy: Pool::new(source.config(), now),
            credentials: Vec::new(),
            source: source.clone(),
            chance: Chance(fastrand::Rng::new()),
        };
        let _none = keys.file();
        keys
    }

    /// Begins to find out about a key that is in use.
    pub(super) fn check(&self, alias: &str) -> Option<(Key, Check)> {
        let check = self.policy.check(alias).ok()??;
        let key = self.credentials[check.key()].clone();
        Some((
            key.expect("every key of the pool has its credential"),
            check,
        ))
    }

    /// Takes in what was found out.
    pub(super) fn checked(&mut self, check: Check, outcome: &Outcome, now: Timestamp) {
        self.policy.checked(check, outcome, now, &mut self.chance);
    }

    pub(super) const fn source(&self) -> &KeyPool {
        &self.source
    }

    /// Takes another pool. What is no longer needed is for the caller to drop, outside the lock.
    pub(super) fn reload(&mut self, source: KeyPool, now: Timestamp) -> (Vec<Change>, Old) {
        let mut changes = self.policy.apply(source.config(), now);
        for key in source.keys() {
            let before = self.source.key(key.alias());
            if before.is_some_and(|before| !before.has_secret_of(key)) {
                let change = Change::KeyChanged(key.alias().into());
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
        }
        let before = std::mem::replace(&mut self.source, source);
        let credentials = self.file();
        (changes, Old(before, credentials))
    }

    /// Files the credentials by number, and returns the old ones.
    fn file(&mut self) -> Vec<Option<Key>> {
        let mut credentials = Vec::new();
        for (number, alias) in self.policy.keys() {
            if credentials.len() <= number {
                credentials.resize(number + 1, None);
            }
            credentials[number] = self.source.key(alias).cloned();
        }
        std::mem::replace(&mut self.credentials, credentials)
    }

    fn report(&mut self, grant: &mut KeyGrant, outcome: &Outcome, now: Timestamp) -> Absorbed {
        grant.reported = Some(outcome.verdict());
        self.policy
            .report(&grant.pick, outcome, now, &mut self.chance)
    }
}

/// What a reload leaves over: secrets and what users attached to them.
#[derive(Debug)]
pub(super) struct Old(
    #[expect(dead_code, reason = "held to be dropped later")] KeyPool,
    #[expect(dead_code, reason = "held to be dropped later")] Vec<Option<Key>>,
);

impl Resource for Keys {
    type Ask = Ask;
    type Grant = KeyGrant;
    type Notice = Transition;

    fn lines(&self) -> usize {
        self.policy.lines()
    }

    #[inline]
    fn line(&self, ask: &Ask) -> usize {
        self.policy.line(ask)
    }

    fn hurry(&self, ask: &mut Ask, room: Duration) {
        self.policy.hurry(ask, room);
    }

    #[inline]
    fn is_free(&self, ask: &Ask, now: Timestamp) -> bool {
        self.policy.is_free(ask, now)
    }

    fn begin_pass(&mut self) {
        self.policy.begin_pass();
    }

    fn claim(&mut self, ask: &Ask, _: Timestamp, now: Timestamp) -> Claim {
        match self.policy.claim(ask, now) {
            pool::Claim::Ready(since) => Claim::Ready(since),
            pool::Claim::At(at) => Claim::At(at),
            pool::Claim::OnRelease => Claim::OnRelease,
            pool::Claim::Nothing => Claim::Nothing,
            pool::Claim::Never(why) => Claim::Never(why),
        }
    }

    #[inline]
    fn try_take(&mut self, ask: &Ask, now: Timestamp) -> Option<KeyGrant> {
        let pick = self.policy.try_take(ask, now)?;
        Some(KeyGrant {
            pick,
            reported: None,
        })
    }

    fn take(&mut self, ask: &Ask, at: Timestamp, now: Timestamp) -> KeyGrant {
        KeyGrant {
            pick: self.policy.take(ask, at, now),
            reported: None,
        }
    }

    /// A key's calls are counted.
    #[inline]
    fn is_inert(_: &KeyGrant, _: Spent) -> bool {
        false
    }

    #[inline]
    fn release(
        &mut self,
        mut grant: KeyGrant,
        spent: Spent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) {
        let news = outcome.filter(|outcome| grant.reported != Some(outcome.verdict()));
        if let Some(outcome) = news {
            let _absorbed = self.report(&mut grant, outcome, now);
        }
        let reserved = grant.pick.ask().cost();
        let settlement = match spent {
            Spent::Nothing => Settlement::Unsent,
            spent if spent.is_as_reserved() => Settlement::AsReserved,
            spent => Settlement::Used(spent.of(reserved)),
        };
        self.policy.release(grant.pick, settlement, now);
    }

    fn undo(&mut self, grant: KeyGrant, now: Timestamp) -> Ask {
        self.policy.undo(grant.pick, now)
    }

    fn expect(&self, ask: &Ask, ahead: Part, now: Timestamp) -> Result<Timestamp, Unservable> {
        self.policy.expect_behind(ask, ahead, now)
    }

    fn work(&self, ask: &Ask) -> u64 {
        nanos(self.policy.time_of(ask))
    }

    fn joined(&mut self, ask: &Ask) {
        self.policy.joined(ask);
    }

    fn left(&mut self, ask: &Ask) {
        self.policy.left(ask);
    }

    #[inline]
    fn has_notice(&self) -> bool {
        self.policy.has_transition()
    }

    #[inline]
    fn next_notice(&mut self) -> Option<Transition> {
        self.policy.next_transition()
    }
}

#[derive(Debug)]
struct Chance(fastrand::Rng);

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}
