use super::*;

#[test]
fn a_longer_hint_extends_a_running_rest_and_a_shorter_one_does_not_cut_it() {
    let mut pool = pool(scopes(&[1]));
    let calls: Vec<_> = (0..3).map(|_| take(&mut pool, OPUS, T0)).collect();
    for (pick, (hint, rests)) in calls.iter().zip([(10, 10), (30, 30), (5, 30)]) {
        let absorbed = pool.report(pick, &throttled(hint), T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Again(T0 + secs(rests)));
        assert_eq!(rest_of(&pool, 0, T0), Some(T0 + secs(rests)));
    }
    assert!(!is_free(
        &mut pool,
        OPUS,
        T0 + secs(30).saturating_sub(millis(1))
    ));
    assert!(is_free(&mut pool, OPUS, T0 + secs(30)));
    let scope = "a".into();
    assert_eq!(
        told(&mut pool).last(),
        Some(&Transition::Reopened { scope })
    );
    for pick in calls {
        pool.release(pick, Settlement::AsReserved, T0);
    }
}

#[test]
fn a_hint_of_two_weeks_is_not_obeyed_and_none_at_all_is_no_hot_loop() {
    let mut two = pool(scopes(&[1]));
    call(&mut two, OPUS, throttled(14 * 86_400), T0);
    assert_eq!(rest_of(&two, 0, T0), Some(T0 + PoolConfig::LONGEST_REST));
    for none in [throttled(0), verdict(Verdict::RampLimit)] {
        let mut pool = pool(scopes(&[1]));
        let (_, absorbed) = call(&mut pool, OPUS, none, T0);
        assert_eq!(absorbed, Absorbed::Again(T0 + PoolConfig::DEFAULT_REST));
        assert!(!is_free(&mut pool, OPUS, T0 + millis(999)));
    }
}

#[test]
fn a_throttled_scope_that_is_full_is_expected_after_its_rest() {
    let quota = Quota::builder().max_in_flight(1).build().expect("valid");
    let mut pool = pool([scopes(&[1]).remove(0).quota(quota)]);
    let (_, absorbed) = call(&mut pool, OPUS, throttled(30), T0);
    assert_eq!(absorbed, Absorbed::Again(T0 + secs(30)));
}

#[test]
fn everyone_obeying_one_hint_comes_back_at_another_instant() {
    let mut ends = Vec::new();
    for bits in [0, u64::MAX / 2, u64::MAX] {
        let mut pool = pool(scopes(&[1]));
        let pick = take(&mut pool, OPUS, T0);
        let _ = pool.report(&pick, &throttled(600), T0, &mut Bits(bits));
        ends.push(rest_of(&pool, 0, T0).expect("it rests"));
    }
    assert_eq!(ends[0], T0 + secs(600));
    assert!(ends[1] > T0 + secs(629) && ends[1] < T0 + secs(631));
    assert_eq!(ends[2], T0 + secs(660));
}

#[test]
fn a_revoked_key_is_called_once_and_used_again_when_it_is_back() {
    let mut pool = pool(scopes(&[1, 1]));
    let (revoked, absorbed) = call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    assert_eq!(revoked, "a1");
    assert_eq!(
        absorbed,
        Absorbed::Again(T0),
        "the other key serves at once"
    );
    let rejected = Transition::Rejected {
        alias: "a1".into(),
        retried: None,
    };
    assert_eq!(told(&mut pool), [rejected]);
    for hour in 0..24 {
        let now = T0 + secs(3_600) * hour;
        assert_eq!(served(&mut pool, 4, now), ["b1"; 4]);
    }
    pool.enable("a1", T0).expect("it is in the pool");
    assert!(served(&mut pool, 4, T0).contains(&"a1".to_owned()));
}

#[test]
fn a_rejected_key_rests_no_scope_and_a_throttle_takes_no_key_out() {
    let mut pool = pool(scopes(&[2]));
    call(&mut pool, OPUS, verdict(Verdict::KeyRejected), T0);
    assert_eq!(rest_of(&pool, 0, T0), None);
    call(&mut pool, OPUS, throttled(1), T0);
    let keys = pool.snapshot(T0)[0].keys().to_vec();
    assert_eq!(keys[0].state(), KeyState::Rejected(None));
    assert_eq!(keys[1].state(), KeyState::Usable);
    assert_eq!(keys[0].totals().get(Verdict::KeyRejected), 1);
    assert_eq!(keys[1].totals().get(Verdict::Throttled), 1);
    assert_eq!(keys[1].totals().get(Verdict::Success), 0);
    let scope = &pool.snapshot(T0)[0];
    assert_eq!(scope.totals().get(Verdict::KeyRejected), 1);
    assert_eq!(scope.state(), ScopeState::Open);
}

#[test]
fn what_changes_nothing_is_not_told() {
    for verdict in [Verdict::Throttled, Verdict::Exhausted] {
        let mut pool = pool(scopes(&[1]));
        let pick = take(&mut pool, OPUS, T0);
        let outcome = Outcome::new(verdict).after(secs(9));
        let _ = pool.report(&pick, &outcome, T0, &mut no_jitter());
        let _ = pool.report(&pick, &outcome, T0, &mut no_jitter());
        assert_eq!(told(&mut pool).len(), 1, "{verdict:?}");
        drop(pick);
    }
}

#[test]
fn used_up_credit_is_no_rate_limit() {
    let mut pool = pool(scopes(&[2, 1]));
    let (first, absorbed) = call(&mut pool, OPUS, verdict(Verdict::Exhausted), T0);
    assert_eq!((&*first, absorbed), ("a1", Absorbed::Again(T0)));
    let until = T0 + PoolConfig::EXHAUSTED_REST;
    assert_eq!(pool.snapshot(T0)[0].state(), ScopeState::Exhausted(until));
    let scope = "a".into();
    assert_eq!(told(&mut pool), [Transition::Exhausted { scope, until }]);
    assert_eq!(
        served(&mut pool, 4, T0 + secs(1_799)),
        ["b1"; 4],
        "the whole scope rests"
    );
}

#[test]
fn a_shorter_word_about_the_credit_does_not_cut_a_longer_one() {
    let mut pool = pool(scopes(&[1]));
    let calls: Vec<_> = (0..2).map(|_| take(&mut pool, OPUS, T0)).collect();
    let long = verdict(Verdict::Exhausted).after(secs(100));
    let short = verdict(Verdict::Exhausted).after(secs(50));
    for outcome in [long, short] {
        let absorbed = pool.report(&calls[0], &outcome, T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Again(T0 + secs(100)));
    }
    for pick in calls {
        pool.release(pick, Settlement::AsReserved, T0);
    }
}

#[test]
fn out_of_credit_is_no_matter_of_seconds_whatever_the_server_says() {
    for (hint, rest) in [(36, 60), (61, 61), (86_400, 1_800)] {
        let mut pool = pool(scopes(&[1]));
        let outcome = verdict(Verdict::Exhausted).after(secs(hint));
        let (_, absorbed) = call(&mut pool, OPUS, outcome, T0);
        assert_eq!(absorbed, Absorbed::Again(T0 + secs(rest)), "{hint}");
    }
}

#[test]
fn a_throttle_without_end_is_asked_about_less_and_less_often_until_a_success() {
    let mut pool = pool(scopes(&[1]));
    let (mut now, mut waits) = (T0, Vec::new());
    let mut refused = |pool: &mut Pool, outcome| {
        let (_, absorbed) = call(pool, OPUS, outcome, now);
        let Absorbed::Again(at) = absorbed else {
            panic!("{absorbed:?}");
        };
        let wait = at.since(now).as_millis();
        now = at;
        wait
    };
    for _ in 0..9 {
        waits.push(refused(&mut pool, verdict(Verdict::Throttled)));
    }
    let seconds = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    assert_eq!(waits, seconds.map(|seconds| seconds * 1_000));
    // Nor is a server that always says "at once": a 32nd of that is the least.
    let at_once = || verdict(Verdict::Throttled).after(millis(1));
    assert_eq!(refused(&mut pool, at_once()), 16_000);
    call(&mut pool, OPUS, Outcome::SUCCESS, now);
    let (_, absorbed) = call(&mut pool, OPUS, at_once(), now);
    assert_eq!(
        absorbed,
        Absorbed::Again(now + Duration::from_micros(31_250))
    );
}

#[test]
fn one_wave_of_refusals_is_one_relapse() {
    let mut pool = pool(scopes(&[1]));
    let calls: Vec<_> = (0..5).map(|_| take(&mut pool, OPUS, T0)).collect();
    for pick in calls {
        let refused = verdict(Verdict::Throttled);
        let absorbed = pool.report(&pick, &refused, T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Again(T0 + PoolConfig::DEFAULT_REST));
        pool.release(pick, Settlement::AsReserved, T0);
    }
}

#[test]
fn a_denied_model_does_not_take_the_key_out_for_others() {
    let mut pool = pool(scopes(&[2]));
    let (alias, absorbed) = call(&mut pool, OPUS, verdict(Verdict::ModelDenied), T0);
    assert_eq!((&*alias, absorbed), ("a1", Absorbed::Again(T0)));
    let denied = Transition::Denied {
        alias: "a1".into(),
        model: OPUS.into(),
    };
    assert_eq!(told(&mut pool), [denied]);
    assert_eq!(served(&mut pool, 4, T0), ["a2"; 4]);
    let others: Vec<_> = (0..4)
        .map(|_| call(&mut pool, "claude-haiku", Outcome::SUCCESS, T0).0)
        .collect();
    assert_eq!(others, ["a2", "a1", "a2", "a1"]);
    let snapshot = pool.snapshot(T0);
    assert_eq!(snapshot[0].keys()[0].denied().collect::<Vec<_>>(), [OPUS]);
    assert_eq!(snapshot[0].keys()[1].denied().count(), 0);

    pool.enable("a1", T0).expect("it is in the pool");
    let names = served(&mut pool, 2, T0);
    assert!(names.contains(&"a1".into()), "{names:?}");
}

#[test]
fn a_denied_model_is_denied_once_per_key() {
    let mut pool = pool(scopes(&[1, 1]));
    let both = [take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0)];
    let twice = [&both[0], &both[0], &both[1]];
    let absorbed =
        twice.map(|pick| pool.report(pick, &verdict(Verdict::ModelDenied), T0, &mut no_jitter()));
    assert_eq!(absorbed[1], Absorbed::Again(T0));
    let Absorbed::Never(why) = &absorbed[2] else {
        panic!("{absorbed:?}");
    };
    assert_eq!(
        why.to_string(),
        "no key can serve the call: a1 may not use the model, b1 may not use the model"
    );
    assert_eq!(told(&mut pool).len(), 2);
    assert!(is_free(&mut pool, "claude-haiku", T0));
}

#[test]
fn a_refused_region_takes_the_scope_out_and_no_other() {
    let mut pool = pool(scopes(&[2, 1]));
    let (alias, absorbed) = call(&mut pool, OPUS, verdict(Verdict::Region), T0);
    assert_eq!((&*alias, absorbed), ("a1", Absorbed::Again(T0)));
    assert_eq!(served(&mut pool, 3, T0 + secs(86_400)), ["b1"; 3]);
    assert_eq!(pool.snapshot(T0)[0].state(), ScopeState::Region);
    let scope = "a".into();
    assert_eq!(told(&mut pool), [Transition::Excluded { scope }]);
    pool.reopen("a", T0).expect("it is in the pool");
    assert!(served(&mut pool, 2, T0).contains(&"a2".into()));
}

#[test]
fn overload_and_server_faults_are_nobodys_here() {
    let mut pool = pool(scopes(&[1]));
    for verdict in [
        Verdict::Overloaded,
        Verdict::ServerFault,
        Verdict::CallerFault,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
        Verdict::Success,
    ] {
        let outcome = Outcome::new(verdict).after(secs(100));
        let (_, absorbed) = call(&mut pool, OPUS, outcome, T0);
        assert_eq!(absorbed, Absorbed::Nothing, "{verdict:?}");
        assert!(is_free(&mut pool, OPUS, T0), "{verdict:?}");
        assert_eq!(pool.snapshot(T0)[0].totals().get(verdict), 1);
    }
    assert_eq!(told(&mut pool), []);
}

#[test]
fn what_another_pool_has_absorbed_is_left_alone() {
    let mut pool = pool(scopes(&[1]));
    let absorbed = verdict(Verdict::Throttled).absorbed(T0 + secs(5));
    assert_eq!(call(&mut pool, OPUS, absorbed, T0).1, Absorbed::Nothing);
    assert!(is_free(&mut pool, OPUS, T0));
}

#[test]
fn a_throttle_rests_its_class_alone() {
    let scope = scopes(&[1]).remove(0);
    let scope = scope.quota_for(["claude-opus-*"], per_minute(60_000));
    let mut pool = pool([scope]);
    call(&mut pool, OPUS, throttled(5), T0);
    assert!(!is_free(&mut pool, OPUS, T0 + secs(1)));
    assert!(!is_free(&mut pool, "claude-opus-5", T0 + secs(1)));
    assert!(is_free(&mut pool, "claude-haiku", T0 + secs(1)));
}

#[test]
fn after_a_rest_without_quota_calls_keep_a_distance_until_one_succeeds() {
    let mut pool = pool(scopes(&[1]));
    let old = take(&mut pool, OPUS, T0);
    call(&mut pool, OPUS, throttled(5), T0);
    let mut now = T0 + secs(5);
    let first = take(&mut pool, OPUS, now);
    let _ = pool.report(&old, &Outcome::SUCCESS, now, &mut no_jitter());
    assert!(
        !is_free(&mut pool, OPUS, now + millis(49)),
        "an old success tells nothing"
    );
    now = now + millis(50);
    let second = take(&mut pool, OPUS, now);
    assert!(!is_free(&mut pool, OPUS, now));
    let _ = pool.report(&first, &Outcome::SUCCESS, now, &mut no_jitter());
    for _ in 0..10 {
        let _ = take(&mut pool, OPUS, now);
    }
    drop((first, second, old));
}

#[test]
fn a_success_in_flight_may_end_the_distance_that_is_expected() {
    let mut pool = pool(scopes(&[1]));
    call(&mut pool, OPUS, throttled(5), T0);
    let now = T0 + secs(5);
    let first = take(&mut pool, OPUS, now);
    let ask = *first.ask();
    assert_eq!(pool.expect(&ask, now), Ok(now));
    pool.release(first, Settlement::AsReserved, now);
    assert_eq!(
        pool.expect(&ask, now),
        Ok(now + millis(50)),
        "none is in flight"
    );
}

#[test]
fn the_distance_after_a_rest_has_bounds() {
    for (rest, gap) in [(1, 10), (300, 1_000)] {
        let mut pool = pool(scopes(&[1]));
        call(&mut pool, OPUS, throttled(rest), T0);
        let now = T0 + secs(rest);
        let _ = take(&mut pool, OPUS, now);
        assert!(!is_free(&mut pool, OPUS, now + millis(gap - 1)));
        assert!(is_free(&mut pool, OPUS, now + millis(gap)));
    }
}

#[test]
fn old_transitions_are_forgotten_when_nobody_asks_for_them() {
    let mut pool = pool(scopes(&[1]));
    let pick = take(&mut pool, OPUS, T0);
    for n in 0..2_000 {
        let _ = pool.report(&pick, &throttled(1), T0 + secs(n), &mut no_jitter());
    }
    let told = told(&mut pool);
    assert_eq!(told.len(), 1_024);
    let until = T0 + secs(2_000);
    let scope = "a".into();
    assert_eq!(told.last(), Some(&Transition::Rested { scope, until }));
}
