use super::{Key, KeyPool};
use crate::{
    admit::{Claim, Joint, Resource, Slots, Spent, Tokens},
    outcome::{Outcome, Verdict},
    policy::{
        Cost, Rng, Timestamp,
        pool::{self, Absorbed, Ask, Change, Pick, Pool, Settlement, Transition, Unservable},
    },
};

/// What a pool admits to, all or nothing: a key with its scope's quota, the quota of the whole,
/// and a place in flight.
pub(super) type Pooled = Joint<Keys, Joint<Tokens, Slots>>;

/// The pool's keys as something to be admitted to.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) policy: Pool,
    /// By the numbers that the policy gives them.
    credentials: Vec<Option<Key>>,
    source: KeyPool,
    chance: Chance,
}

/// The key that serves a call.
#[derive(Debug)]
pub(super) struct Picked {
    pick: Pick,
    key: Key,
    /// What the policy has heard of the call already.
    reported: Option<Verdict>,
}

impl Picked {
    #[inline]
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    #[inline]
    pub(super) const fn awaits(&self, verdict: Verdict) -> bool {
        self.pick.awaits(verdict)
    }
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

    pub(super) const fn source(&self) -> &KeyPool {
        &self.source
    }

    #[inline]
    pub(super) fn ask(&mut self, model: Option<&str>, cost: Cost) -> Ask {
        Ask::new(self.policy.resolve(model), cost)
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

    /// Tells the policy how a call went.
    pub(super) fn report(
        &mut self,
        picked: &mut Picked,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Absorbed {
        picked.reported = Some(outcome.verdict());
        self.policy
            .report(&picked.pick, outcome, now, &mut self.chance)
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
    type Grant = Picked;
    type Notice = Transition;

    fn lines(&self) -> usize {
        self.policy.lines()
    }

    #[inline]
    fn line(&self, ask: &Ask) -> usize {
        ask.line()
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
    fn take(&mut self, ask: &Ask, at: Timestamp, now: Timestamp) -> Picked {
        let pick = self.policy.take(ask, at, now);
        let key = self.credentials[pick.key()].clone();
        Picked {
            key: key.expect("every key of the pool has its credential"),
            pick,
            reported: None,
        }
    }

    /// A key's calls are counted.
    #[inline]
    fn is_inert(_: &Picked, _: Spent) -> bool {
        false
    }

    fn release(
        &mut self,
        mut picked: Picked,
        spent: Spent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) {
        let news = outcome.filter(|outcome| picked.reported != Some(outcome.verdict()));
        if let Some(outcome) = news {
            let _absorbed = self.report(&mut picked, outcome, now);
        }
        let reserved = picked.pick.ask().cost();
        let settlement = match spent {
            Spent::Nothing => Settlement::Unsent,
            spent if spent.is_as_reserved() => Settlement::AsReserved,
            spent => Settlement::Used(spent.of(reserved)),
        };
        self.policy.release(picked.pick, settlement, now);
    }

    fn undo(&mut self, picked: Picked, now: Timestamp) -> Ask {
        self.policy.undo(picked.pick, now)
    }

    fn expect(&self, ask: &Ask, now: Timestamp) -> Result<Timestamp, Unservable> {
        self.policy.expect(ask, now)
    }

    fn joined(&mut self, ask: &Ask) {
        self.policy.joined(ask);
    }

    fn left(&mut self, ask: &Ask) {
        self.policy.left(ask);
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
