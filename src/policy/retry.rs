use std::time::Duration;

use super::{
    Backoff, InvalidConfig, RetryBudget, RetryCause, Rng, Timestamp, Withdrawal, backoff::SHORTEST,
    nanos,
};
use crate::outcome::{Advice, Effect, Hint, Idempotency, Outcome, Verdict};

/// Which failures are retried, when, and how often.
///
/// | verdict | retried |
/// |---|---|
/// | throttled, ramp limit, overloaded, server fault | yes |
/// | key rejected, model denied, region, exhausted | if a layer inside absorbed it and serves the call otherwise |
/// | refused locally | if the refusal says when to come back: it is waited out |
/// | caller's fault, success, cancelled | no |
///
/// * What may have had an [`Effect`] is retried only if the request is [idempotent](Idempotency).
///   That holds whatever the server advises: it knows that another try may work, not whether
///   the first one did half the work.
/// * [`Advice::Stop`] always wins. [`Advice::Retry`] makes every failure of the server's or the
///   caller's retryable.
/// * The delay is the own backoff, or the server's hint plus a positive jitter if that is later:
///   a hint is never undercut and never multiplied. Where the backoff does not fit into the time
///   left and the hint does, the hint is enough.
/// * A hint longer than the [longest obeyed](RetryPolicyBuilder::longest_hint), or any wait that
///   would not end before the deadline and `max_elapsed`, is not begun: the call fails at once.
/// * Waiting for a layer of ours ([`Hint::Absorbed`], or a local refusal) is not a retry: it
///   costs no attempt, no budget and no backoff, and only deadline and `max_elapsed` bound it.
///   An absorbed instant is taken as it is, because the layer that named it has a queue of its
///   own, and if it has come the call is sent again at once, up to 64 times; a local refusal's is
///   jittered like a hint.
///   The last attempt alone is not waited out, because its request is gone.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Backoff, Growth, RetryPolicy};
///
/// let policy = RetryPolicy::builder()
///     .attempts(3)
///     .backoff(Backoff::new(Growth::Fibonacci, Duration::from_millis(100), Duration::from_secs(5))?)
///     .build()?;
/// assert_eq!(policy.attempts(), 3);
/// assert_eq!(RetryPolicy::default().attempts(), 5);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    max_elapsed: Duration,
    longest_hint: Duration,
    hint_jitter_percent: u32,
    backoff: Backoff,
}

impl RetryPolicy {
    /// Attempts of a call, the first included: with full jitter, five outlast an outage of some
    /// four seconds, and a call that failed five times is more likely to be at fault itself.
    pub const DEFAULT_ATTEMPTS: u32 = 5;
    /// Longest time over all attempts: ten minutes, what a batch puts up with and where most
    /// clients' own timeouts lie.
    pub const DEFAULT_MAX_ELAPSED: Duration = Duration::from_secs(600);
    /// Longest hint obeyed: two minutes, because limits per minute reset within one, and what
    /// takes longer is better decided by the caller.
    pub const DEFAULT_LONGEST_HINT: Duration = Duration::from_secs(120);
    /// Jitter on hints: a tenth keeps the callers who got the same hint from coming back as
    /// one, and delays nobody much.
    pub const DEFAULT_HINT_JITTER_PERCENT: u32 = 10;

    /// The default policy, to be changed.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder {
            policy: Self::default(),
        }
    }

    /// How many attempts a call has, the first included.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl Default for RetryPolicy {
    /// 5 attempts within 10 minutes, the default [`Backoff`], hints up to 2 minutes.
    fn default() -> Self {
        Self {
            attempts: Self::DEFAULT_ATTEMPTS,
            max_elapsed: Self::DEFAULT_MAX_ELAPSED,
            longest_hint: Self::DEFAULT_LONGEST_HINT,
            hint_jitter_percent: Self::DEFAULT_HINT_JITTER_PERCENT,
            backoff: Backoff::default(),
        }
    }
}

/// Builds a [`RetryPolicy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
}

impl RetryPolicyBuilder {
    /// How many attempts a call has, the first included. With 1 nothing is sent twice or waited
    /// out. Default: 5.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.policy.attempts = attempts;
        self
    }

    /// How long after the call's start the last attempt may begin; [`Duration::MAX`] for no
    /// limit. The time an attempt takes counts too. Default: 10 minutes.
    pub const fn max_elapsed(mut self, elapsed: Duration) -> Self {
        self.policy.max_elapsed = elapsed;
        self
    }

    /// The longest hint of a server that is obeyed; a longer one ends the call, with the hint
    /// attached. Default: 2 minutes.
    pub const fn longest_hint(mut self, longest: Duration) -> Self {
        self.policy.longest_hint = longest;
        self
    }

    /// How much a hint is prolonged at the most, by chance, in percent of it. Default: 10.
    pub const fn hint_jitter_percent(mut self, percent: u32) -> Self {
        self.policy.hint_jitter_percent = percent;
        self
    }

    /// How long to wait where the server gives no hint, and at the least beside one. Default:
    /// [`Backoff::default`].
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// If there are no attempts, a duration is zero, or the jitter is above 100 percent.
    pub fn build(self) -> Result<RetryPolicy, InvalidConfig> {
        let policy = self.policy;
        let refuse = |field, problem| Err(InvalidConfig::new(field, problem));
        if policy.attempts == 0 {
            return refuse("attempts", "the first counts too; write 1 for no retry");
        }
        if policy.max_elapsed.is_zero() {
            return refuse(
                "max_elapsed",
                "nothing fits into no time; write attempts(1) for no retry, Duration::MAX for no limit",
            );
        }
        if policy.longest_hint.is_zero() {
            return refuse(
                "longest_hint",
                "every hint is longer than zero; write the longest wait that is acceptable",
            );
        }
        if policy.hint_jitter_percent > 100 {
            return refuse("hint_jitter_percent", "write a number from 0 to 100");
        }
        Ok(policy)
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Decision {
    /// Send the request again.
    #[non_exhaustive]
    Retry {
        /// Not before this instant.
        at: Timestamp,
        /// What that costs.
        charge: Charge,
    },
    /// Hand the failure to the caller as it is.
    GiveUp(Reason),
}

/// What sending a request again costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Charge {
    /// An attempt and these tokens of the budget.
    Paid(Withdrawal),
    /// Nothing: a layer of ours was waited for.
    Free,
}

/// Why a failed call is not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It would fail again: the verdict is final.
    Final,
    /// The server asks not to try again.
    Stopped,
    /// The failed attempt may have had an effect, and the request is not idempotent.
    NotIdempotent,
    /// That was the last attempt.
    AttemptsSpent,
    /// The request cannot be sent a second time.
    NotReplayable,
    /// The server asks for a longer wait than is obeyed.
    HintTooLong,
    /// The wait would not end before the caller's deadline.
    Deadline,
    /// The wait would not end within `max_elapsed`.
    MaxElapsed,
    /// Too few calls succeed to pay for a retry.
    BudgetEmpty,
}

impl Reason {
    /// All reasons.
    pub const ALL: &[Self] = &[
        Self::Final,
        Self::Stopped,
        Self::NotIdempotent,
        Self::AttemptsSpent,
        Self::NotReplayable,
        Self::HintTooLong,
        Self::Deadline,
        Self::MaxElapsed,
        Self::BudgetEmpty,
    ];

    /// The name that logs and metrics show, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Stopped => "stopped",
            Self::NotIdempotent => "not_idempotent",
            Self::AttemptsSpent => "attempts_spent",
            Self::NotReplayable => "not_replayable",
            Self::HintTooLong => "hint_too_long",
            Self::Deadline => "deadline",
            Self::MaxElapsed => "max_elapsed",
            Self::BudgetEmpty => "budget_empty",
        }
    }
}

/// One call's way through its attempts.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::{
///     outcome::{Idempotency, Outcome, Verdict},
///     policy::{Attempts, Decision, Reason, RetryBudget, RetryPolicy, Rng, Timestamp},
/// };
///
/// struct Never;
/// impl Rng for Never {
///     fn next_u64(&mut self) -> u64 {
///         0
///     }
/// }
///
/// let (policy, mut budget) = (RetryPolicy::default(), RetryBudget::default());
/// let now = Timestamp::ZERO;
/// let deadline = now + Duration::from_secs(30);
/// let mut call = Attempts::new(now, Some(deadline), Idempotency::Unknown);
///
/// let throttled = Outcome::new(Verdict::Throttled).after(Duration::from_secs(7));
/// let decision = call.decide(&policy, &throttled, now, &mut budget, &mut Never);
/// assert!(matches!(decision, Decision::Retry { at, .. } if at == now + Duration::from_secs(7)));
/// assert_eq!(budget.level(), 495);
///
/// let throttled = Outcome::new(Verdict::Throttled).after(Duration::from_secs(31));
/// let decision = call.decide(&policy, &throttled, now, &mut budget, &mut Never);
/// assert_eq!(decision, Decision::GiveUp(Reason::Deadline));
/// assert_eq!(budget.level(), 495);
/// ```
#[derive(Clone, Debug)]
pub struct Attempts {
    started: Timestamp,
    deadline: Option<Timestamp>,
    idempotency: Idempotency,
    replayable: bool,
    retries: u32,
    /// How often the call was sent again without a wait.
    at_once: u32,
    withdrawn: Option<Withdrawal>,
}

/// A layer that can serve a call otherwise is taken at its word this often, in zero time: more
/// than most pools have keys that die together. After that every wait takes a millisecond, so
/// that a layer that is wrong makes no hot loop.
const MOST_AT_ONCE: u32 = 64;

impl Attempts {
    /// A call that started at `started`, with what does not change from attempt to attempt.
    /// [`Timestamp::MAX`] leaves the start open until [`start`](Self::start).
    #[must_use]
    pub const fn new(
        started: Timestamp,
        deadline: Option<Timestamp>,
        idempotency: Idempotency,
    ) -> Self {
        Self {
            started,
            deadline,
            idempotency,
            replayable: true,
            retries: 0,
            at_once: 0,
            withdrawn: None,
        }
    }

    /// Fixes the start, if it is open still; the first decision does it otherwise. As time
    /// passes only while a call waits, one that never has to needs no clock.
    pub fn start(&mut self, now: impl FnOnce() -> Timestamp) {
        if self.started == Timestamp::MAX {
            self.started = now();
        }
    }

    /// Notes whether the request may be sent twice, for callers who look only when an attempt
    /// has failed.
    pub const fn set_idempotency(&mut self, idempotency: Idempotency) {
        self.idempotency = idempotency;
    }

    /// Notes that the request cannot be sent again.
    pub const fn not_replayable(&mut self) {
        self.replayable = false;
    }

    /// Whether the present attempt is the last of `attempts`, so that no copy of the request is
    /// needed.
    #[must_use]
    pub const fn is_last(&self, attempts: u32) -> bool {
        self.retries.saturating_add(1) >= attempts
    }

    /// What to do after an attempt that ended in `outcome`. Giving up takes nothing from the
    /// budget.
    pub fn decide(
        &mut self,
        policy: &RetryPolicy,
        outcome: &Outcome,
        now: Timestamp,
        budget: &mut RetryBudget,
        rng: &mut impl Rng,
    ) -> Decision {
        self.start(|| now);
        let (at, way) = match self.plan(policy, outcome, now, rng) {
            Ok(plan) => plan,
            Err(reason) => return Decision::GiveUp(reason),
        };
        let Way::Retry(cause) = way else {
            self.at_once += u32::from(at <= now);
            let charge = Charge::Free;
            return Decision::Retry { at, charge };
        };
        let Some(withdrawal) = budget.withdraw(cause) else {
            return Decision::GiveUp(Reason::BudgetEmpty);
        };
        self.retries = self.retries.saturating_add(1);
        self.withdrawn = Some(withdrawal);
        let charge = Charge::Paid(withdrawal);
        Decision::Retry { at, charge }
    }

    /// Repays the budget after an attempt that succeeded.
    pub fn succeed(&self, budget: &mut RetryBudget) {
        budget.repay(self.withdrawn);
    }

    /// When and at whose expense to send again, if all but the budget allows it.
    fn plan(
        &self,
        policy: &RetryPolicy,
        outcome: &Outcome,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> Result<(Timestamp, Way), Reason> {
        let way = Way::of(outcome)?;
        if outcome.effect() != Effect::None && self.idempotency != Idempotency::Idempotent {
            return Err(Reason::NotIdempotent);
        }
        if self.is_last(policy.attempts) {
            return Err(Reason::AttemptsSpent);
        }
        if !self.replayable {
            return Err(Reason::NotReplayable);
        }
        let backoff = match way {
            Way::Retry(cause) => policy.backoff.delay(self.retries + 1, cause, rng),
            Way::Wait => SHORTEST,
        };
        let at = match outcome.hint() {
            None => now + backoff,
            Some(Hint::Absorbed(at)) if self.at_once < MOST_AT_ONCE => at.max(now),
            Some(Hint::Absorbed(at)) => at.max(now + SHORTEST),
            Some(Hint::After(hint)) => {
                if matches!(way, Way::Retry(_)) && hint > policy.longest_hint {
                    return Err(Reason::HintTooLong);
                }
                let told = now + hint.max(SHORTEST);
                self.check(policy, told)?;
                let most = nanos(hint) / 100 * u64::from(policy.hint_jitter_percent);
                let room = nanos(self.end(policy).since(told)) - 1;
                let jittered = told + Duration::from_nanos(rng.up_to(most.min(room)));
                // Where only the server's own word fits, it is enough.
                let slower = jittered.max(now + backoff);
                self.check(policy, slower).map_or(jittered, |()| slower)
            }
        };
        self.check(policy, at)?;
        Ok((at, way))
    }

    /// Whether an attempt may begin at `at`.
    fn check(&self, policy: &RetryPolicy, at: Timestamp) -> Result<(), Reason> {
        if at < self.end(policy) {
            Ok(())
        } else if self.deadline.is_some_and(|deadline| at >= deadline) {
            Err(Reason::Deadline)
        } else {
            Err(Reason::MaxElapsed)
        }
    }

    /// The instant before which the last attempt must begin.
    fn end(&self, policy: &RetryPolicy) -> Timestamp {
        let end = self.started + policy.max_elapsed;
        self.deadline.map_or(end, |deadline| deadline.min(end))
    }
}

/// What sending again means.
#[derive(Clone, Copy)]
enum Way {
    /// Asking the server once more.
    Retry(RetryCause),
    /// Waiting for a layer of ours, which held the call back or absorbed the hint.
    Wait,
}

impl Way {
    fn of(outcome: &Outcome) -> Result<Self, Reason> {
        let absorbed = matches!(outcome.hint(), Some(Hint::Absorbed(_)));
        let asked = outcome.advice() == Advice::Retry;
        let (wanted, cause) = match outcome.verdict() {
            Verdict::Throttled | Verdict::RampLimit => (true, RetryCause::Throttle),
            Verdict::Overloaded | Verdict::ServerFault => (true, RetryCause::Fault),
            Verdict::Exhausted | Verdict::KeyRejected | Verdict::ModelDenied | Verdict::Region => {
                (asked || absorbed, RetryCause::Fault)
            }
            Verdict::CallerFault => (asked, RetryCause::Fault),
            Verdict::RefusedLocally => (outcome.hint().is_some(), RetryCause::Fault),
            Verdict::Success | Verdict::Cancelled => (false, RetryCause::Fault),
        };
        if !wanted {
            return Err(Reason::Final);
        }
        if outcome.advice() == Advice::Stop {
            return Err(Reason::Stopped);
        }
        if absorbed || outcome.verdict() == Verdict::RefusedLocally {
            return Ok(Self::Wait);
        }
        Ok(Self::Retry(cause))
    }
}

#[cfg(test)]
mod tests;
