use super::*;

#[test]
fn a_rejected_key_is_tried_again_slowly_when_asked_to_with_one_call_at_a_time() {
    let config = PoolConfig::builder().scope(scopes(&[1]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    let (_, absorbed) = call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    assert_eq!(absorbed, Absorbed::Again(T0 + secs(60)));
    let (alias, retried) = ("a1".into(), Some(T0 + secs(60)));
    assert_eq!(told(&mut pool), [Transition::Rejected { alias, retried }]);
    let state = |pool: &Pool| pool.snapshot(T0)[0].keys()[0].state();
    assert_eq!(state(&pool), KeyState::Rejected(Some(T0 + secs(60))));
    assert!(!is_free(&mut pool, OPUS, T0 + secs(59)));

    let second = T0 + secs(60);
    let trial = take(&mut pool, OPUS, second);
    assert_eq!(state(&pool), KeyState::OnTrial);
    assert!(!is_free(&mut pool, OPUS, second), "one call at a time");
    let waiter = ask(&mut pool, OPUS);
    assert_eq!(pool.claim(&waiter, second), Claim::OnRelease);
    let again = pool.report(
        &trial,
        &verdict(Verdict::KeyRejected),
        second,
        &mut no_jitter(),
    );
    assert_eq!(again, Absorbed::Again(second + secs(60)));

    let third = second + secs(60);
    let lost = take(&mut pool, OPUS, third);
    pool.release(trial, Settlement::AsReserved, third);
    assert!(
        !is_free(&mut pool, OPUS, third),
        "an earlier trial gives nothing back"
    );
    let _ = pool.undo(lost, third);
    let good = take(&mut pool, OPUS, third);
    let _ = pool.report(&good, &Outcome::SUCCESS, third, &mut no_jitter());
    assert_eq!(state(&pool), KeyState::Usable);
    assert!(
        is_free(&mut pool, OPUS, third),
        "while the trial is still in flight"
    );
    let alias = "a1".into();
    assert!(told(&mut pool).contains(&Transition::Accepted { alias }));
    pool.release(good, Settlement::AsReserved, third);
    assert_eq!(state(&pool), KeyState::Usable);
    pool.disable("a1", third).expect("known");
    let ask = ask(&mut pool, OPUS);
    assert!(pool.expect(&ask, third).is_err(), "no trial is waited for");
}

#[test]
fn an_earlier_trial_does_not_end_a_later_one() {
    let config = PoolConfig::builder().scope(scopes(&[1]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    let early = take(&mut pool, OPUS, T0 + secs(60));
    let rejected = verdict(Verdict::KeyRejected);
    let _ = pool.report(&early, &rejected, T0 + secs(60), &mut no_jitter());
    let now = T0 + secs(120);
    let late = take(&mut pool, OPUS, now);
    let _ = pool.report(&early, &Outcome::SUCCESS, now, &mut no_jitter());
    assert_eq!(pool.snapshot(now)[0].keys()[0].state(), KeyState::OnTrial);
    let _ = pool.report(&late, &Outcome::SUCCESS, now, &mut no_jitter());
    assert_eq!(pool.snapshot(now)[0].keys()[0].state(), KeyState::Usable);
    drop((early, late));
}

#[test]
fn a_trial_that_is_due_joins_the_keys_that_are_usable() {
    let config = PoolConfig::builder().scope(scopes(&[2]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    assert_eq!(served(&mut pool, 2, T0 + secs(59)), ["a2", "a2"]);
    let due = T0 + secs(60);
    let names = served(&mut pool, 3, due);
    assert!(names.contains(&"a1".into()), "{names:?}");
}

#[test]
fn a_trial_is_no_help_to_a_model_that_the_key_may_not_use() {
    let config = PoolConfig::builder().scope(scopes(&[2]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    let [a1, a2] = [take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0)];
    let _ = pool.report(&a1, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    let _ = pool.report(&a1, &verdict(Verdict::KeyRejected), T0, &mut no_jitter());
    let absorbed = pool.report(
        &a2,
        &verdict(Verdict::KeyRejected),
        T0 + secs(5),
        &mut no_jitter(),
    );
    assert_eq!(
        absorbed,
        Absorbed::Again(T0 + secs(65)),
        "that of the other key"
    );
    assert!(!is_free(&mut pool, OPUS, T0 + secs(60)));
    assert_eq!(served(&mut pool, 1, T0 + secs(65)), ["a2"]);
    pool.disable("a2", T0).expect("known");
    assert!(!is_free(&mut pool, OPUS, T0 + secs(65)));
    assert!(is_free(&mut pool, "claude-haiku", T0 + secs(65)));
    drop((a1, a2));
}

#[test]
fn a_scope_without_credit_is_probed_by_exactly_one_call_until_one_succeeds() {
    let mut pool = pool(scopes(&[2]));
    call(
        &mut pool,
        OPUS,
        verdict(Verdict::Exhausted).after(secs(70)),
        T0,
    );
    let mut now = T0 + secs(70);
    for _ in 0..3 {
        assert!(!is_free(&mut pool, OPUS, now.before(millis(1))));
        let probe = take(&mut pool, OPUS, now);
        assert_eq!(pool.snapshot(now)[0].state(), ScopeState::Probing);
        assert!(!is_free(&mut pool, OPUS, now + secs(3_600)), "one alone");
        let _ = pool.report(&probe, &verdict(Verdict::Exhausted), now, &mut no_jitter());
        pool.release(probe, Settlement::AsReserved, now);
        now = now + PoolConfig::EXHAUSTED_REST;
    }
    for nothing in [
        Verdict::Cancelled,
        Verdict::Overloaded,
        Verdict::ServerFault,
    ] {
        let probe = take(&mut pool, OPUS, now);
        assert!(!is_free(&mut pool, OPUS, now));
        let _ = pool.report(&probe, &verdict(nothing), now, &mut no_jitter());
        pool.release(probe, Settlement::Unsent, now);
    }
    let probe = take(&mut pool, OPUS, now);
    let _ = told(&mut pool);
    let _ = pool.report(&probe, &Outcome::SUCCESS, now, &mut no_jitter());
    let scope = "a".into();
    assert_eq!(told(&mut pool), [Transition::Reopened { scope }]);
    assert!(
        is_free(&mut pool, OPUS, now),
        "while the probe is still in flight"
    );
    pool.release(probe, Settlement::AsReserved, now);
    assert_eq!(pool.snapshot(now)[0].state(), ScopeState::Open);
}

#[test]
fn an_earlier_probe_does_not_end_a_later_one() {
    let mut pool = pool(scopes(&[1]));
    call(&mut pool, OPUS, verdict(Verdict::Exhausted), T0);
    let first = T0 + PoolConfig::EXHAUSTED_REST;
    let early = take(&mut pool, OPUS, first);
    let _ = pool.report(
        &early,
        &verdict(Verdict::Exhausted),
        first,
        &mut no_jitter(),
    );
    let second = first + PoolConfig::EXHAUSTED_REST;
    let late = take(&mut pool, OPUS, second);
    let _ = pool.report(&early, &Outcome::SUCCESS, second, &mut no_jitter());
    assert_eq!(pool.snapshot(second)[0].state(), ScopeState::Probing);
    let _ = pool.report(
        &early,
        &verdict(Verdict::Exhausted),
        second,
        &mut no_jitter(),
    );
    pool.release(early, Settlement::AsReserved, second);
    assert_eq!(pool.snapshot(second)[0].state(), ScopeState::Probing);
    let _ = pool.undo(late, second);
    assert_eq!(
        pool.snapshot(second)[0].state(),
        ScopeState::Exhausted(first + secs(1_800))
    );
}

#[test]
fn the_end_of_a_trial_may_come_before_the_next_trial() {
    let config = PoolConfig::builder().scope(scopes(&[2]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    let now = T0 + secs(30);
    call(&mut pool, OPUS, verdict(Verdict::KeyRejected), now);
    let now = T0 + secs(60);
    let trial = take(&mut pool, OPUS, now);
    let ask = *trial.ask();
    pool.begin_pass();
    assert_eq!(
        pool.claim(&ask, now),
        Claim::At(now + secs(30)),
        "of the other key"
    );
    let absorbed = pool.report(&trial, &throttled(5), now, &mut no_jitter());
    assert_eq!(
        absorbed,
        Absorbed::Again(now + secs(5)),
        "it has not found out"
    );
    pool.release(trial, Settlement::AsReserved, now);
    pool.begin_pass();
    assert_eq!(pool.claim(&ask, now), Claim::At(now + secs(5)));
}

#[test]
fn a_trial_in_flight_of_a_key_that_may_not_use_the_model_is_not_waited_for() {
    let config = PoolConfig::builder().scope(scopes(&[2]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    let a1 = take(&mut pool, OPUS, T0);
    let _ = pool.report(&a1, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    let _ = pool.report(&a1, &verdict(Verdict::KeyRejected), T0, &mut no_jitter());
    pool.disable("a2", T0).expect("known");
    let now = T0 + secs(60);
    let trial = take(&mut pool, "claude-haiku", now);
    let (denied, other) = (ask(&mut pool, OPUS), ask(&mut pool, "claude-haiku"));
    pool.begin_pass();
    assert_eq!(pool.claim(&other, now), Claim::OnRelease);
    let why = pool.expect(&denied, now).expect_err("nobody may use it");
    assert_eq!(
        why.to_string(),
        "no key can serve the call: a1 may not use the model, a2 is disabled"
    );
    assert_eq!(pool.claim(&denied, now), Claim::Never(why));
    drop((a1, trial));
}

#[test]
fn a_trial_after_a_time_without_end_is_none() {
    let config = PoolConfig::builder().scope(scopes(&[1]).remove(0));
    let config = config
        .reprobe_rejected(Duration::MAX)
        .build()
        .expect("valid");
    let mut pool = Pool::new(&config, T0);
    let (_, absorbed) = call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    assert!(matches!(absorbed, Absorbed::Never(_)), "{absorbed:?}");
    let alias = "a1".into();
    let retried = None;
    assert_eq!(told(&mut pool), [Transition::Rejected { alias, retried }]);
}
