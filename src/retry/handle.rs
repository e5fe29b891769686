use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    outcome::Outcome,
    policy::{
        Attempts, Charge, Decision, Reason, RetryBudget, RetryPolicy, Rng, Timestamp, Withdrawal,
    },
};

/// Reads and changes a [`RetryLayer`](super::RetryLayer) while it runs.
///
/// ```
/// use tower_relay::{policy::RetryPolicy, retry::RetryLayer};
///
/// let layer = RetryLayer::default();
/// let handle = layer.handle();
/// handle.set_policy(RetryPolicy::builder().attempts(2).build()?);
/// assert_eq!(layer.handle().policy().attempts(), 2);
/// assert_eq!(handle.snapshot().calls(), 0);
/// assert_eq!(handle.snapshot().budget_level(), 500);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct RetryHandle {
    state: Arc<State>,
}

impl RetryHandle {
    pub(super) const fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// What has happened so far.
    #[must_use]
    pub fn snapshot(&self) -> RetrySnapshot {
        let state = &*self.state;
        let budget = state.lock().budget;
        RetrySnapshot {
            successes: state.successes.load(Relaxed),
            retries: state.retries.load(Relaxed),
            waits: state.waits.load(Relaxed),
            waiting: state.waiting.load(Relaxed),
            given_up: std::array::from_fn(|reason| state.given_up[reason].load(Relaxed)),
            budget,
        }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        self.state.lock().policy
    }

    /// Puts another policy in force, for calls under way too: each of their attempts that fails
    /// from now on is judged by it. A wait that has begun goes on, and a request that was sent
    /// as its last is not sent again.
    pub fn set_policy(&self, policy: RetryPolicy) {
        self.state.set_policy(policy);
    }
}

impl fmt::Debug for RetryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryHandle")
            .field(&self.snapshot())
            .finish()
    }
}

/// What a [`RetryLayer`](super::RetryLayer) has done so far. Calls that were dropped before
/// they ended are counted nowhere.
#[derive(Clone, Debug)]
pub struct RetrySnapshot {
    successes: u64,
    retries: u64,
    waits: u64,
    waiting: u64,
    given_up: [u64; Reason::ALL.len()],
    budget: RetryBudget,
}

impl RetrySnapshot {
    /// Calls that ended, well or not.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.successes + self.given_up.iter().sum::<u64>()
    }

    /// Calls that ended in a success, at whichever attempt.
    #[must_use]
    pub const fn successes(&self) -> u64 {
        self.successes
    }

    /// The share of successes among the calls that ended, from 0 to 1; `None` before the first.
    #[must_use]
    pub fn success_share(&self) -> Option<f64> {
        let calls = self.calls();
        (calls > 0).then(|| self.successes as f64 / calls as f64)
    }

    /// Requests sent again at the expense of an attempt and the budget.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// Requests sent again after waiting for a layer inside, at nobody's expense.
    #[must_use]
    pub const fn waited_out(&self) -> u64 {
        self.waits
    }

    /// Calls that wait now to be sent again.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Calls whose failure was returned for this reason.
    #[must_use]
    pub const fn given_up(&self, reason: Reason) -> u64 {
        self.given_up[reason as usize]
    }

    /// Tokens left in the budget.
    #[must_use]
    pub const fn budget_level(&self) -> u32 {
        self.budget.level()
    }

    /// Tokens of a full budget.
    #[must_use]
    pub const fn budget_capacity(&self) -> u32 {
        self.budget.capacity()
    }
}

/// A request is about to be sent again; told to [`RetryLayer::on_retry`](super::RetryLayer::on_retry)
/// before the wait.
#[derive(Clone, Copy, Debug)]
pub struct RetryEvent {
    pub(super) outcome: Outcome,
    pub(super) wait: Duration,
    pub(super) resends: u32,
    pub(super) charge: Charge,
}

impl RetryEvent {
    /// What the failed attempt turned out to be.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How long until the next attempt.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// How many times the request will have been sent again, by outer layers too, once the next
    /// attempt is made.
    #[must_use]
    pub const fn resends(&self) -> u32 {
        self.resends
    }

    /// What the next attempt costs.
    #[must_use]
    pub const fn charge(&self) -> Charge {
        self.charge
    }
}

/// What all services of one layer share.
#[derive(Debug)]
pub(super) struct State {
    core: Mutex<Core>,
    /// The policy's, for services to read without the lock.
    attempts: AtomicU32,
    /// Whether successes have something to repay; without it they need no lock.
    depleted: AtomicBool,
    successes: AtomicU64,
    retries: AtomicU64,
    waits: AtomicU64,
    waiting: AtomicU64,
    given_up: [AtomicU64; Reason::ALL.len()],
}

#[derive(Debug)]
struct Core {
    policy: RetryPolicy,
    budget: RetryBudget,
}

impl State {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self {
            core: Mutex::new(Core {
                policy,
                budget: RetryBudget::default(),
            }),
            attempts: AtomicU32::new(policy.attempts()),
            depleted: AtomicBool::new(false),
            successes: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            given_up: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The attempts of a call, the first included.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Relaxed)
    }

    pub(super) fn set_budget(&self, budget: RetryBudget) {
        self.with_budget(|current| *current = budget);
    }

    /// Takes in an attempt that succeeded.
    pub(super) fn succeed(&self, attempts: &Attempts) {
        self.successes.fetch_add(1, Relaxed);
        if self.depleted.load(Relaxed) {
            self.with_budget(|budget| attempts.succeed(budget));
        }
    }

    /// Takes in an attempt that failed at `now`.
    pub(super) fn decide(
        &self,
        attempts: &mut Attempts,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Decision {
        let mut chance = Chance(fastrand::Rng::new());
        let mut core = self.lock();
        let Core { policy, budget } = &mut *core;
        let decision = attempts.decide(policy, outcome, now, budget, &mut chance);
        self.depleted.store(!budget.is_full(), Relaxed);
        drop(core);
        if let Decision::GiveUp(reason) = decision {
            self.give_up(reason);
        }
        decision
    }

    /// Counts a call that ends in a failure.
    pub(super) fn give_up(&self, reason: Reason) {
        self.given_up[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn set_policy(&self, policy: RetryPolicy) {
        let mut core = self.lock();
        core.policy = policy;
        self.attempts.store(policy.attempts(), Relaxed);
    }

    fn refund(&self, withdrawal: Withdrawal) {
        self.with_budget(|budget| budget.refund(withdrawal));
    }

    fn with_budget(&self, change: impl FnOnce(&mut RetryBudget)) {
        let mut core = self.lock();
        change(&mut core.budget);
        self.depleted.store(!core.budget.is_full(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is to be sent again. Dropped before that, it gives back what it cost.
#[derive(Debug)]
pub(super) struct Pending {
    state: Arc<State>,
    charge: Charge,
}

impl Pending {
    pub(super) fn new(state: &Arc<State>, charge: Charge) -> Self {
        state.waiting.fetch_add(1, Relaxed);
        let state = state.clone();
        Self { state, charge }
    }

    /// The request is sent.
    pub(super) fn sent(mut self) {
        let count = match std::mem::replace(&mut self.charge, Charge::Free) {
            Charge::Paid(_) => &self.state.retries,
            Charge::Free => &self.state.waits,
        };
        count.fetch_add(1, Relaxed);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.state.waiting.fetch_sub(1, Relaxed);
        if let Charge::Paid(withdrawal) = self.charge {
            self.state.refund(withdrawal);
        }
    }
}

struct Chance(fastrand::Rng);

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}
