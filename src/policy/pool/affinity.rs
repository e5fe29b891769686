//! Which scope and key the calls of one session prefer, and what they give up for it.

mod keys;
mod load;
mod place;
mod sessions;
mod wait;

use std::time::Duration;

use crate::policy::{InvalidConfig, nanos};

#[cfg(test)]
pub(super) use self::load::turn;
pub(super) use self::{
    load::Load,
    sessions::{Place, Sessions},
};

const PER_MILLE: u64 = 1_000;
const LEAST_LOAD: u32 = 1_010;
const MOST_LOAD: u32 = 100_000;
const MOST_GUARD: u32 = 900;
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
const MOST_SESSIONS: usize = 1_000_000;

/// Keeps the calls of one session at one scope and one key, so that its prompts are found in the
/// provider's cache, without loading any of them much more than the others.
///
/// An option of a [`Pool`](super::Pool) beside its [`Strategy`](super::Strategy), which chooses for
/// calls of no session, and where the session's own scope is not to be had. What makes a session is
/// the caller's business: see [`Pool::prefer`](super::Pool::prefer).
///
/// - **First seen**, a session goes to the scope that rendezvous hashing names (Thaler and
///   Ravishankar 1998), of those that can serve it and in proportion to what their quotas grant:
///   by names, so that another process and the next start choose the same. A scope whose load
///   exceeds the mean by half of what [is allowed](Self::load_per_mille) (Mirrokni, Thorup and
///   Zadimoghaddam 2016), or with [little left](Self::guard_per_mille) of its quota, takes none.
///   Among the scope's keys the same is done again.
/// - **There it stays.** While the scope rests, or cannot serve otherwise, for up to five minutes, which
///   is how long prompts stay cached, its calls go to one other scope and come back; if it is out for
///   longer or for good they stay there.
/// - **It waits for its scope** for up to its [patience](Self::patience) before it goes elsewhere,
///   and only where the scope is free or nobody waits for it: so no scope idles while calls wait
///   for longer than that.
/// - **It moves** where its scope has more load than is allowed, or a longer line than it is patient
///   for while another idles, if the move evens the loads; once a minute at most.
///
/// *Load* is what sessions ask of a scope, as a share of its quota, half of it forgotten every five
/// minutes; a scope that is asked for less than a thirtieth of its quota is never too loaded.
/// Sessions are moved whole and one by one, so the bound is kept where they are small beside a scope's
/// mean load: below a third of it, say. One that asks alone for more than a scope is allowed has the
/// least loaded one nearly to itself; what that cannot serve within the patience goes to others.
///
/// ```
/// use tower_relay::{
///     policy::{Cost, Timestamp, pool::{Affinity, Ask, Pool, PoolConfig, ScopeConfig, Settlement}},
/// };
///
/// let config = PoolConfig::builder()
///     .scope(ScopeConfig::new("org-a").key("a1").key("a2"))
///     .scope(ScopeConfig::new("org-b").key("b1"))
///     .affinity(Affinity::new())
///     .build()?;
/// let now = Timestamp::ZERO;
/// let mut pool = Pool::new(&config, now);
/// let any = Ask::new(pool.resolve(None), Cost::REQUEST);
/// let mut key_of = |session| {
///     let ask = pool.prefer(any, session, now);
///     let pick = pool.try_take(&ask, now).expect("nothing limits it");
///     let alias = pool.alias(&pick).clone();
///     pool.release(pick, Settlement::AsReserved, now);
///     alias
/// };
/// let first = key_of(7);
/// assert!((0..100).all(|_| key_of(7) == first));
/// assert!((0..100).any(|session| key_of(session) != first));
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Affinity {
    pub(super) load: u32,
    pub(super) guard: u32,
    pub(super) patience: Duration,
    pub(super) sessions: usize,
}

impl Affinity {
    /// The bound of the paper: below it sessions move often, above it a key has the load of many.
    pub const DEFAULT_LOAD_PER_MILLE: u32 = 1_250;
    /// A new session costs little elsewhere, and what is left is for those that are here.
    pub const DEFAULT_GUARD_PER_MILLE: u32 = 100;
    /// A cached prompt saves more than that: its first token comes seconds earlier.
    pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);
    /// Of some hundred bytes each: under two megabytes.
    pub const DEFAULT_SESSIONS: usize = 16_384;

    /// All as it is by default.
    pub const fn new() -> Self {
        Self {
            load: Self::DEFAULT_LOAD_PER_MILLE,
            guard: Self::DEFAULT_GUARD_PER_MILLE,
            patience: Self::DEFAULT_PATIENCE,
            sessions: Self::DEFAULT_SESSIONS,
        }
    }

    /// How much load a scope may have, in thousandths of the mean, before sessions leave it; the
    /// same of a scope's keys. From 1,010 to 100,000. Default:
    /// [`DEFAULT_LOAD_PER_MILLE`](Self::DEFAULT_LOAD_PER_MILLE).
    pub const fn load_per_mille(mut self, thousandths: u32) -> Self {
        self.load = thousandths;
        self
    }

    /// A scope of whose quota less is left than so many thousandths, in the dimension of which the
    /// least is, takes no new session while another has more. Up to 900. Default:
    /// [`DEFAULT_GUARD_PER_MILLE`](Self::DEFAULT_GUARD_PER_MILLE).
    pub const fn guard_per_mille(mut self, thousandths: u32) -> Self {
        self.guard = thousandths;
        self
    }

    /// How long calls may have to wait for their own scope while another is free, or for as long as
    /// its quota takes to serve four such calls, if that is longer. Up to a minute; with zero they
    /// never wait. Calls that may wait no longer than twice that, by their deadline or by the queue's
    /// bounds, do not. Default: [`DEFAULT_PATIENCE`](Self::DEFAULT_PATIENCE).
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many sessions are remembered, each for each of its models; the least recently used is
    /// forgotten, and hashed again when it is seen again. From 1 to 1,000,000, of some hundred bytes
    /// each. Default: [`DEFAULT_SESSIONS`](Self::DEFAULT_SESSIONS).
    pub const fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions;
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let wrong = |field, problem| Err(InvalidConfig::new(field, problem));
        if !(LEAST_LOAD..=MOST_LOAD).contains(&self.load) {
            let load = self.load;
            let problem = format!("{load} is not from {LEAST_LOAD} to {MOST_LOAD}; 1250 is usual");
            return wrong("affinity.load_per_mille", problem);
        }
        if self.guard > MOST_GUARD {
            let problem = format!("{} is above {MOST_GUARD}; 100 is usual", self.guard);
            return wrong("affinity.guard_per_mille", problem);
        }
        if self.patience > LONGEST_PATIENCE {
            let problem = format!("{:?} is longer than a minute", self.patience);
            return wrong("affinity.patience", problem);
        }
        if !(1..=MOST_SESSIONS).contains(&self.sessions) {
            let sessions = self.sessions;
            let problem = format!("{sessions} is not from 1 to {MOST_SESSIONS}");
            return wrong("affinity.sessions", problem);
        }
        Ok(())
    }

    /// What a scope may have before sessions leave it, where the mean is `mean`: three quarters of
    /// the way, for loads go on changing while they leave.
    fn most(&self, mean: u64) -> u64 {
        self.part_of_excess(mean, 3).max(load::ALLOWANCE)
    }

    /// What a scope may come to by another session: halfway, so that it need not leave again.
    fn most_placed(&self, mean: u64) -> u64 {
        self.part_of_excess(mean, 2).max(load::ALLOWANCE)
    }

    /// What a key may have of its scope's mean. Both exceed their means, and a session that changes
    /// its key alone loses nothing that its scope has cached.
    fn most_of_key(&self, mean: u64, keys: u64) -> u64 {
        self.part_of_excess(mean, 3).max(load::ALLOWANCE / keys)
    }

    fn most_placed_key(&self, mean: u64, keys: u64) -> u64 {
        self.part_of_excess(mean, 1).max(load::ALLOWANCE / keys)
    }

    /// The mean and so many quarters of what is allowed above it.
    fn part_of_excess(&self, mean: u64, quarters: u64) -> u64 {
        let excess = times(mean, u64::from(self.load) - PER_MILLE);
        let part = excess / 4 * quarters;
        mean.saturating_add(part)
    }

    /// By how much loads differ for sure.
    fn margin(&self, mean: u64) -> u64 {
        times(mean, u64::from(self.load) - PER_MILLE)
    }

    fn patience_nanos(&self) -> u64 {
        nanos(self.patience)
    }
}

impl Default for Affinity {
    fn default() -> Self {
        Self::new()
    }
}

fn times(amount: u64, per_mille: u64) -> u64 {
    let product = u128::from(amount) * u128::from(per_mille) / u128::from(PER_MILLE);
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// Affinity as a pool keeps it.
#[derive(Clone, Debug)]
pub(super) struct Sticky {
    pub(super) config: Affinity,
    pub(super) sessions: Sessions,
}

impl Sticky {
    pub(super) fn new(config: Affinity) -> Self {
        Self {
            config,
            sessions: Sessions::new(config.sessions),
        }
    }
}

/// What a call prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preference {
    pub(super) session: u64,
    pub(super) place: Place,
    /// Whether it waits for it.
    pub(super) is_patient: bool,
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): a bijection, the same everywhere.
pub(super) const fn mix(mut hash: u64) -> u64 {
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A name's hash, FNV-1a mixed: the same in every process and release.
pub(super) fn hash_of(name: &str) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold))
}
