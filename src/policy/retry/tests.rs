use proptest::prelude::*;

use super::{super::backoff::testing::Fixed, *};
use crate::policy::{Growth, Jitter};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const LEAST: u64 = 0;
const MOST: u64 = u64::MAX;

/// An instant that is not the start of the time line.
fn t0() -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(1_000)
}

/// Exactly 1, 2, 4 seconds after failures and 2, 4, 8 after throttles.
fn policy() -> RetryPolicyBuilder {
    let backoff = Backoff::new(Growth::Exponential, SECOND, 60 * SECOND).expect("it is valid");
    RetryPolicy::builder().backoff(backoff.jitter(Jitter::None))
}

fn of(verdict: Verdict) -> Outcome {
    Outcome::new(verdict).with_effect(Effect::None)
}

/// What a fresh call that started at `t0` and has until `deadline` does at `t0`.
fn first(
    policy: RetryPolicyBuilder,
    deadline: Option<Duration>,
    outcome: Outcome,
    chance: u64,
) -> Decision {
    let policy = policy.build().expect("it is valid");
    let deadline = deadline.map(|after| t0() + after);
    let mut attempts = Attempts::new(t0(), deadline, Idempotency::Unknown);
    let budget = &mut RetryBudget::default();
    attempts.decide(&policy, &outcome, t0(), budget, &mut Fixed(chance))
}

/// How long after `t0` the retry is, and whether it was paid for.
fn retry(decision: Decision) -> (Duration, bool) {
    match decision {
        Decision::Retry { at, charge } => (at.since(t0()), charge != Charge::Free),
        Decision::GiveUp(reason) => panic!("gave up: {reason:?}"),
    }
}

fn reason(decision: Decision) -> Reason {
    match decision {
        Decision::GiveUp(reason) => reason,
        retry => panic!("expected to give up: {retry:?}"),
    }
}

#[test]
fn verdicts_decide_what_is_retried() {
    let now = |verdict| first(policy(), None, of(verdict), LEAST);
    for (verdict, seconds) in [
        (Verdict::Throttled, 2),
        (Verdict::RampLimit, 2),
        (Verdict::Overloaded, 1),
        (Verdict::ServerFault, 1),
    ] {
        assert_eq!(retry(now(verdict)), (seconds * SECOND, true), "{verdict:?}");
    }
    for verdict in [
        Verdict::Success,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::Region,
        Verdict::CallerFault,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
    ] {
        assert_eq!(reason(now(verdict)), Reason::Final, "{verdict:?}");
    }
}

#[test]
fn what_a_layer_inside_absorbed_is_waited_out_for_nothing() {
    let at = t0() + 7 * SECOND;
    for verdict in [
        Verdict::Throttled,
        Verdict::RampLimit,
        Verdict::Overloaded,
        Verdict::ServerFault,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::Region,
        Verdict::RefusedLocally,
    ] {
        let decision = first(policy(), None, of(verdict).absorbed(at), MOST);
        assert_eq!(retry(decision), (7 * SECOND, false), "{verdict:?}");
    }
    for verdict in [Verdict::Success, Verdict::CallerFault, Verdict::Cancelled] {
        let decision = first(policy(), None, of(verdict).absorbed(at), MOST);
        assert_eq!(reason(decision), Reason::Final, "{verdict:?}");
    }
}

#[test]
fn the_servers_advice_is_obeyed_and_stop_wins() {
    let advised = |verdict, advice| first(policy(), None, of(verdict).with_advice(advice), LEAST);
    for verdict in [
        Verdict::CallerFault,
        Verdict::KeyRejected,
        Verdict::Exhausted,
    ] {
        assert_eq!(retry(advised(verdict, Advice::Retry)), (SECOND, true));
    }
    for verdict in [
        Verdict::Success,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
    ] {
        assert_eq!(reason(advised(verdict, Advice::Retry)), Reason::Final);
    }
    assert_eq!(
        reason(advised(Verdict::Throttled, Advice::Stop)),
        Reason::Stopped
    );
    assert_eq!(
        reason(advised(Verdict::CallerFault, Advice::Stop)),
        Reason::Final
    );
    let absorbed = of(Verdict::Throttled).absorbed(t0());
    let decision = first(policy(), None, absorbed.with_advice(Advice::Stop), LEAST);
    assert_eq!(reason(decision), Reason::Stopped);
}

#[test]
fn what_may_have_had_an_effect_needs_an_idempotent_request() {
    let policy = policy().build().expect("it is valid");
    let decide = |idempotency, outcome: Outcome| {
        let budget = &mut RetryBudget::default();
        Attempts::new(t0(), None, idempotency).decide(
            &policy,
            &outcome,
            t0(),
            budget,
            &mut Fixed(LEAST),
        )
    };
    let possible = Outcome::new(Verdict::ServerFault);
    assert_eq!(
        reason(decide(Idempotency::Unknown, possible)),
        Reason::NotIdempotent
    );
    let advised = possible.with_advice(Advice::Retry);
    assert_eq!(
        reason(decide(Idempotency::Unknown, advised)),
        Reason::NotIdempotent
    );
    let absorbed = possible.absorbed(t0());
    assert_eq!(
        reason(decide(Idempotency::Unknown, absorbed)),
        Reason::NotIdempotent
    );
    assert_eq!(
        retry(decide(Idempotency::Idempotent, possible)),
        (SECOND, true)
    );
    let none = possible.with_effect(Effect::None);
    assert_eq!(retry(decide(Idempotency::Unknown, none)), (SECOND, true));
}

#[test]
fn a_hint_is_never_undercut_and_jittered_by_a_tenth_at_most() {
    let hinted = |seconds, chance| {
        let outcome = of(Verdict::Throttled).after(seconds * SECOND);
        retry(first(policy(), None, outcome, chance)).0
    };
    assert_eq!(hinted(50, LEAST), 50 * SECOND);
    assert_eq!(hinted(50, MOST), 55 * SECOND);
    // Own backoff after a throttle: 2 s.
    assert_eq!(hinted(1, MOST), 2 * SECOND);
    let exact = policy().hint_jitter_percent(0);
    let outcome = of(Verdict::Throttled).after(50 * SECOND);
    assert_eq!(retry(first(exact, None, outcome, MOST)).0, 50 * SECOND);
}

#[test]
fn a_hint_is_not_multiplied_by_the_number_of_retries() {
    let policy = policy().build().expect("it is valid");
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    let mut budget = RetryBudget::default();
    let outcome = of(Verdict::Throttled).after(20 * SECOND);
    let mut waits = [0; 4];
    for wait in &mut waits {
        let decision = attempts.decide(&policy, &outcome, t0(), &mut budget, &mut Fixed(LEAST));
        *wait = retry(decision).0.as_secs();
    }
    assert_eq!(waits, [20, 20, 20, 20]);
    let decision = attempts.decide(&policy, &outcome, t0(), &mut budget, &mut Fixed(LEAST));
    assert_eq!(reason(decision), Reason::AttemptsSpent);
}

#[test]
fn the_backoff_grows_with_each_paid_retry_and_not_with_free_ones() {
    let policy = policy().attempts(4).build().expect("it is valid");
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    let mut budget = RetryBudget::default();
    let mut decide = |outcome| {
        let decision = attempts.decide(&policy, &outcome, t0(), &mut budget, &mut Fixed(LEAST));
        let (wait, paid) = retry(decision);
        (wait.as_millis(), paid, budget.level())
    };
    assert_eq!(decide(of(Verdict::ServerFault)), (1_000, true, 486));
    assert_eq!(
        decide(of(Verdict::KeyRejected).absorbed(t0() + MS)),
        (1, false, 486)
    );
    assert_eq!(decide(of(Verdict::ServerFault)), (2_000, true, 472));
    let later = of(Verdict::RefusedLocally).after(3 * SECOND);
    assert_eq!(decide(later), (3_000, false, 472));
    assert_eq!(decide(of(Verdict::Throttled)), (8_000, true, 467));
}

#[test]
fn a_hint_beyond_the_longest_obeyed_ends_the_call() {
    let hinted = |verdict, wait| first(policy(), None, of(verdict).after(wait), LEAST);
    let longest = Duration::from_secs(120);
    assert_eq!(retry(hinted(Verdict::Throttled, longest)).0, longest);
    let longer = hinted(Verdict::Throttled, longest + Duration::from_nanos(1));
    assert_eq!(reason(longer), Reason::HintTooLong);
    let forever = hinted(Verdict::Throttled, Duration::MAX);
    assert_eq!(reason(forever), Reason::HintTooLong);
    // Our own layers are waited for as long as there is time.
    assert_eq!(
        retry(hinted(Verdict::RefusedLocally, 2 * longest)),
        (2 * longest, false)
    );
    let absorbed = of(Verdict::Throttled).absorbed(t0() + 3 * longest);
    assert_eq!(
        retry(first(policy(), None, absorbed, LEAST)),
        (3 * longest, false)
    );
}

#[test]
fn no_wait_is_begun_that_cannot_fit() {
    let within = |deadline, outcome| first(policy(), Some(deadline), outcome, LEAST);
    for outcome in [
        of(Verdict::Throttled).after(5 * SECOND),
        of(Verdict::RefusedLocally).after(5 * SECOND),
        of(Verdict::Exhausted).absorbed(t0() + 5 * SECOND),
    ] {
        let fits = within(5 * SECOND + Duration::from_nanos(1), outcome);
        assert_eq!(retry(fits).0, 5 * SECOND);
        let late = within(5 * SECOND, outcome);
        assert_eq!(reason(late), Reason::Deadline);
    }
    let fault = of(Verdict::ServerFault);
    assert_eq!(reason(within(SECOND, fault)), Reason::Deadline);
    assert_eq!(reason(within(Duration::ZERO, fault)), Reason::Deadline);
    let short = policy().max_elapsed(SECOND);
    assert_eq!(
        reason(first(short.clone(), None, fault, LEAST)),
        Reason::MaxElapsed
    );
    let later = Some(2 * SECOND);
    assert_eq!(
        reason(first(short, later, fault, LEAST)),
        Reason::MaxElapsed
    );
    let endless = policy().max_elapsed(Duration::MAX);
    let never = of(Verdict::Exhausted).absorbed(Timestamp::MAX);
    assert_eq!(
        reason(first(endless.clone(), None, never, LEAST)),
        Reason::MaxElapsed
    );
    assert_eq!(retry(first(endless, None, fault, LEAST)).0, SECOND);
}

#[test]
fn elapsed_time_counts_from_the_start_of_the_call() {
    let policy = policy()
        .max_elapsed(10 * SECOND)
        .build()
        .expect("it is valid");
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    let mut at = |seconds: u32| {
        let (budget, fault) = (&mut RetryBudget::default(), of(Verdict::ServerFault));
        attempts.decide(
            &policy,
            &fault,
            t0() + seconds * SECOND,
            budget,
            &mut Fixed(LEAST),
        )
    };
    assert_eq!(retry(at(8)).0, 9 * SECOND);
    assert_eq!(reason(at(8)), Reason::MaxElapsed);
}

#[test]
fn a_start_left_open_is_fixed_by_the_first_wait_or_decision() {
    let policy = policy()
        .max_elapsed(10 * SECOND)
        .build()
        .expect("it is valid");
    let decide = |attempts: &mut Attempts, seconds: u32| {
        let (budget, fault) = (&mut RetryBudget::default(), of(Verdict::ServerFault));
        let now = t0() + seconds * SECOND;
        attempts.decide(&policy, &fault, now, budget, &mut Fixed(LEAST))
    };
    let open = || Attempts::new(Timestamp::MAX, None, Idempotency::Unknown);

    let mut decided = open();
    assert_eq!(retry(decide(&mut decided, 8)).0, 9 * SECOND);
    assert_eq!(retry(decide(&mut decided, 15)).0, 17 * SECOND);
    assert_eq!(reason(decide(&mut decided, 17)), Reason::MaxElapsed);

    let mut waited = open();
    waited.start(t0);
    waited.start(|| unreachable!("it has started"));
    assert_eq!(retry(decide(&mut waited, 8)).0, 9 * SECOND);
    assert_eq!(reason(decide(&mut waited, 9)), Reason::MaxElapsed);
}

#[test]
fn jitter_and_backoff_yield_where_only_the_hint_fits() {
    let hinted = |hint, deadline| {
        let outcome = of(Verdict::Throttled).after(hint);
        retry(first(policy(), Some(deadline), outcome, MOST)).0
    };
    let last = |deadline| deadline - Duration::from_nanos(1);
    assert_eq!(hinted(50 * SECOND, 52 * SECOND), last(52 * SECOND));
    // Own backoff: 2 s.
    assert_eq!(hinted(SECOND, 2 * SECOND), SECOND * 11 / 10);
    assert_eq!(hinted(SECOND, 3 * SECOND), 2 * SECOND);
}

#[test]
fn no_retry_is_a_hot_loop() {
    let soon = |outcome| retry(first(policy(), None, outcome, LEAST)).0;
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(soon(of(Verdict::RefusedLocally).after(nanosecond)), MS);
    let outcome = of(Verdict::Throttled).after(nanosecond);
    let short = first(policy(), Some(2 * MS), outcome, LEAST);
    assert_eq!(retry(short).0, MS);
}

#[test]
fn a_local_refusal_is_jittered_too() {
    let outcome = of(Verdict::RefusedLocally).after(20 * SECOND);
    assert_eq!(
        retry(first(policy(), None, outcome, MOST)),
        (22 * SECOND, false)
    );
}

#[test]
fn an_empty_budget_ends_the_call_and_costs_nothing() {
    let policy = policy().build().expect("it is valid");
    let mut budget = RetryBudget::new(18, 14, 5).expect("it is valid");
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    let mut decide =
        |verdict| attempts.decide(&policy, &of(verdict), t0(), &mut budget, &mut Fixed(LEAST));
    assert_eq!(retry(decide(Verdict::ServerFault)).0, SECOND);
    assert_eq!(reason(decide(Verdict::Throttled)), Reason::BudgetEmpty);
    assert_eq!(budget.level(), 4);
    // What was not paid for has not grown the backoff or used an attempt.
    budget.repay(None);
    let decision = attempts.decide(
        &policy,
        &of(Verdict::Throttled),
        t0(),
        &mut budget,
        &mut Fixed(LEAST),
    );
    assert_eq!(retry(decision).0, 4 * SECOND);
    assert_eq!(budget.level(), 0);
    // A free wait needs none.
    let absorbed = of(Verdict::Throttled).absorbed(t0());
    let decision = attempts.decide(&policy, &absorbed, t0(), &mut budget, &mut Fixed(LEAST));
    assert_eq!(retry(decision), (Duration::ZERO, false));
}

#[test]
fn another_key_is_tried_at_once_but_not_for_ever() {
    let policy = policy().build().expect("it is valid");
    let mut budget = RetryBudget::default();
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    for past in [t0(), Timestamp::ZERO] {
        let absorbed = of(Verdict::KeyRejected).absorbed(past);
        let mut wait = || {
            let now = t0();
            let decision = attempts.decide(&policy, &absorbed, now, &mut budget, &mut Fixed(LEAST));
            retry(decision).0
        };
        for _ in 0..32 {
            assert_eq!(wait(), Duration::ZERO);
        }
    }
    let absorbed = of(Verdict::KeyRejected).absorbed(t0());
    let decision = attempts.decide(&policy, &absorbed, t0(), &mut budget, &mut Fixed(LEAST));
    assert_eq!(retry(decision), (MS, false));
    assert_eq!(budget.level(), 500);
}

#[test]
fn a_success_repays_what_the_last_retry_withdrew() {
    let policy = policy().build().expect("it is valid");
    let mut budget = RetryBudget::default();
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    for verdict in [
        Verdict::ServerFault,
        Verdict::ServerFault,
        Verdict::Throttled,
    ] {
        let _ = attempts.decide(&policy, &of(verdict), t0(), &mut budget, &mut Fixed(LEAST));
    }
    assert_eq!(budget.level(), 467);
    attempts.succeed(&mut budget);
    assert_eq!(budget.level(), 472);
    Attempts::new(t0(), None, Idempotency::Unknown).succeed(&mut budget);
    assert_eq!(budget.level(), 473);
}

#[test]
fn nothing_is_sent_again_or_waited_out_without_a_request() {
    let policy = policy().attempts(2).build().expect("it is valid");
    let absorbed = of(Verdict::Throttled).absorbed(t0());
    let mut budget = RetryBudget::default();
    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    assert!(!attempts.is_last(2));
    assert!(attempts.is_last(1));
    let mut decide = |attempts: &mut Attempts, outcome| {
        attempts.decide(&policy, &outcome, t0(), &mut budget, &mut Fixed(LEAST))
    };
    let _ = decide(&mut attempts, of(Verdict::ServerFault));
    assert!(attempts.is_last(2));
    assert!(!attempts.is_last(3));
    assert_eq!(
        reason(decide(&mut attempts, absorbed)),
        Reason::AttemptsSpent
    );

    let mut attempts = Attempts::new(t0(), None, Idempotency::Unknown);
    attempts.not_replayable();
    for outcome in [absorbed, of(Verdict::ServerFault)] {
        assert_eq!(
            reason(decide(&mut attempts, outcome)),
            Reason::NotReplayable
        );
    }
    assert_eq!(budget.level(), 486);
}

#[test]
fn a_policy_that_cannot_work_is_refused_with_the_field() {
    let field = |builder: RetryPolicyBuilder| {
        builder
            .build()
            .expect_err("it is invalid")
            .field()
            .to_owned()
    };
    let builder = RetryPolicy::builder;
    assert_eq!(
        builder()
            .attempts(7)
            .build()
            .map(|policy| policy.attempts()),
        Ok(7)
    );
    assert_eq!(field(builder().attempts(0)), "attempts");
    assert_eq!(field(builder().max_elapsed(Duration::ZERO)), "max_elapsed");
    assert_eq!(
        field(builder().longest_hint(Duration::ZERO)),
        "longest_hint"
    );
    assert_eq!(
        field(builder().hint_jitter_percent(101)),
        "hint_jitter_percent"
    );
    assert!(builder().hint_jitter_percent(100).build().is_ok());
    assert_eq!(builder().build(), Ok(RetryPolicy::default()));
    assert!(builder().attempts(1).build().is_ok());
    assert_eq!(
        builder()
            .attempts(0)
            .build()
            .expect_err("it is invalid")
            .to_string(),
        "attempts: the first counts too; write 1 for no retry"
    );
}

#[test]
fn the_longest_hint_can_be_changed() {
    let outcome = of(Verdict::Throttled).after(5 * SECOND);
    let decide = |longest| first(policy().longest_hint(longest), None, outcome, LEAST);
    assert_eq!(reason(decide(4 * SECOND)), Reason::HintTooLong);
    assert_eq!(retry(decide(5 * SECOND)).0, 5 * SECOND);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let verdict = prop::sample::select(vec![
        Verdict::Success,
        Verdict::Throttled,
        Verdict::Exhausted,
        Verdict::RampLimit,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::Region,
        Verdict::Overloaded,
        Verdict::ServerFault,
        Verdict::CallerFault,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
    ]);
    let nanos = prop_oneof![0..2_000_000_u64, 0..200_000_000_000_u64, any::<u64>()];
    let advice = prop::sample::select(vec![Advice::Unsaid, Advice::Retry, Advice::Stop]);
    let effect = prop::sample::select(vec![Effect::None, Effect::Possible]);
    (verdict, 0..3, nanos, advice, effect).prop_map(|(verdict, kind, nanos, advice, effect)| {
        let outcome = Outcome::new(verdict)
            .with_effect(effect)
            .with_advice(advice);
        match kind {
            0 => outcome,
            1 => outcome.after(Duration::from_nanos(nanos)),
            _ => outcome.absorbed(Timestamp::from_nanos(nanos)),
        }
    })
}

proptest! {
    /// Whatever happens to a call, in whatever order.
    #[test]
    fn every_decision_keeps_the_rules(
        started in any::<u64>(),
        deadline in prop::option::of(0..700_000_000_000_u64),
        idempotent in any::<bool>(),
        attempts in 1..7_u32,
        steps in prop::collection::vec((any_outcome(), 0..60_000_000_000_u64, any::<u64>()), 1..20),
    ) {
        let policy = RetryPolicy::builder().attempts(attempts).build().expect("it is valid");
        let started = Timestamp::from_nanos(started);
        let deadline = deadline.map(|after| started + Duration::from_nanos(after));
        let idempotency = if idempotent { Idempotency::Idempotent } else { Idempotency::Unknown };
        let mut call = Attempts::new(started, deadline, idempotency);
        let mut budget = RetryBudget::new(60, 14, 5).expect("it is valid");
        let end = started + RetryPolicy::DEFAULT_MAX_ELAPSED;
        let (mut now, mut paid) = (started, 0);
        for (outcome, later, bits) in steps {
            now = now + Duration::from_nanos(later);
            let before = budget;
            match call.decide(&policy, &outcome, now, &mut budget, &mut Fixed(bits)) {
                Decision::GiveUp(_) => prop_assert_eq!(before, budget),
                Decision::Retry { at, charge } => {
                    let is_absorbed = matches!(outcome.hint(), Some(Hint::Absorbed(_)));
                    prop_assert!(is_absorbed || at.since(now) >= MS);
                    prop_assert!(at < end);
                    prop_assert!(deadline.is_none_or(|deadline| at < deadline));
                    prop_assert!(outcome.advice() != Advice::Stop);
                    prop_assert!(idempotent || outcome.effect() == Effect::None);
                    if let Some(Hint::Absorbed(soonest)) = outcome.hint() {
                        prop_assert_eq!(charge, Charge::Free);
                        prop_assert_eq!(at, soonest.max(now));
                    }
                    if let Some(Hint::After(hint)) = outcome.hint() {
                        prop_assert!(at.since(now) >= hint);
                        let most = (hint * 11 / 10).max(30 * SECOND);
                        prop_assert!(at.since(now) <= most);
                    }
                    match charge {
                        Charge::Free => prop_assert_eq!(before, budget),
                        Charge::Paid(withdrawal) => {
                            paid += 1;
                            prop_assert!(budget.level() < before.level());
                            let mut refunded = budget;
                            refunded.refund(withdrawal);
                            prop_assert_eq!(refunded, before);
                        }
                    }
                }
            }
        }
        prop_assert!(paid < attempts);
    }
}
