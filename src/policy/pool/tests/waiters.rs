use super::*;
use crate::policy::Unit;

#[test]
fn each_waiter_claims_the_scope_that_serves_it_soonest_and_later_ones_see_the_rest() {
    let mut pool = pool(scopes(&[1, 1, 1]));
    for rest in [30, 10, 20] {
        call(&mut pool, OPUS, throttled(rest), T0);
    }
    let ask = ask(&mut pool, OPUS);
    for _ in 0..2 {
        pool.begin_pass();
        for seconds in [10, 20, 30] {
            assert_eq!(pool.claim(&ask, T0), Claim::At(T0 + secs(seconds)));
        }
        assert_eq!(pool.claim(&ask, T0), Claim::Nothing);
    }
    pool.joined(&ask);
    assert!(!pool.is_free(&ask, T0 + secs(60)), "claimed");
    assert_eq!(
        pool.expect(&ask, T0),
        Ok(T0 + secs(10)),
        "what is claimed counts"
    );
    pool.left(&ask);
    assert!(pool.is_free(&ask, T0 + secs(60)), "nobody waits any more");
}

#[test]
fn a_caller_of_a_resting_class_blocks_nobody_who_can_use_another() {
    let scope = scopes(&[1])
        .remove(0)
        .quota_for(["opus"], per_minute(60_000));
    let mut pool = pool([scope]);
    call(&mut pool, "opus", throttled(10), T0);
    let (resting, other) = (ask(&mut pool, "opus"), ask(&mut pool, "haiku"));
    assert_ne!(pool.line(&resting), pool.line(&other));
    pool.begin_pass();
    assert_eq!(pool.claim(&resting, T0), Claim::At(T0 + secs(10)));
    assert!(matches!(pool.claim(&other, T0), Claim::Ready(_)));
}

#[test]
fn a_caller_of_an_excluded_model_blocks_nobody_who_can_use_the_key() {
    let mut pool = pool(scopes(&[1, 1]));
    assert_eq!(
        call(&mut pool, "denied", verdict(Verdict::ModelDenied), T0).0,
        "a1"
    );
    assert_eq!(call(&mut pool, "denied", throttled(10), T0).0, "b1");
    let (denied, other) = (ask(&mut pool, "denied"), ask(&mut pool, "other"));
    pool.begin_pass();
    assert_eq!(pool.claim(&denied, T0), Claim::At(T0 + secs(10)));
    assert_eq!(pool.claim(&denied, T0), Claim::Nothing);
    assert!(matches!(pool.claim(&other, T0), Claim::Ready(_)));
    let pick = pool.take(&other, T0, T0);
    assert_eq!(&**pool.alias(&pick), "a1");
}

#[test]
fn all_resting_callers_wait_for_the_soonest_and_are_not_released_at_one_instant() {
    let limited = scopes(&[1, 1])
        .into_iter()
        .map(|scope| scope.quota(per_minute(600)));
    for mut pool in [pool(scopes(&[1, 1])), pool(limited)] {
        call(&mut pool, OPUS, throttled(10), T0);
        call(&mut pool, OPUS, throttled(20), T0);
        let ask = ask(&mut pool, OPUS);
        let mut sent = Vec::new();
        let mut now = T0;
        for _ in 0..20 {
            pool.begin_pass();
            let at = match pool.claim(&ask, now) {
                Claim::At(at) => at,
                Claim::Ready(_) => now,
                other => panic!("{other:?}"),
            };
            now = at;
            pool.begin_pass();
            assert!(matches!(pool.claim(&ask, now), Claim::Ready(since) if since <= now));
            sent.push(now);
            let _ = pool.take(&ask, now, now);
        }
        assert_eq!(sent[0], T0 + secs(10));
        for pair in sent.windows(2) {
            assert!(pair[1] > pair[0] || pair[1] >= T0 + secs(20), "{pair:?}");
        }
    }
}

#[test]
fn a_full_scope_serves_again_when_a_call_ends() {
    let quota = Quota::builder().max_in_flight(2).build().expect("valid");
    let mut pool = pool([scopes(&[1]).remove(0).quota(quota)]);
    let first = take(&mut pool, OPUS, T0);
    let second = take(&mut pool, OPUS, T0);
    let ask = ask(&mut pool, OPUS);
    assert!(!pool.is_free(&ask, T0));
    pool.begin_pass();
    assert_eq!(pool.claim(&ask, T0), Claim::OnRelease);
    assert_eq!(pool.claim(&ask, T0), Claim::Nothing);
    assert_eq!(
        pool.expect(&ask, T0),
        Ok(T0),
        "nobody knows when a call ends"
    );
    pool.release(first, Settlement::AsReserved, T0 + secs(3));
    pool.begin_pass();
    let since = T0 + secs(3);
    assert_eq!(pool.claim(&ask, T0 + secs(4)), Claim::Ready(since));
    let _ = pool.undo(second, T0 + secs(5));
    assert_eq!(
        pool.claim(&ask, T0 + secs(5)),
        Claim::Ready(since),
        "a place was free before"
    );
}

#[test]
fn two_full_scopes_are_two_claims() {
    let quota = Quota::builder().max_in_flight(1).build().expect("valid");
    let mut pool = pool(
        scopes(&[1, 1])
            .into_iter()
            .map(|scope| scope.quota(quota.clone())),
    );
    let _ = (take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0));
    let ask = ask(&mut pool, OPUS);
    for _ in 0..2 {
        pool.begin_pass();
        assert_eq!(pool.claim(&ask, T0), Claim::OnRelease);
        assert_eq!(pool.claim(&ask, T0), Claim::OnRelease);
        assert_eq!(pool.claim(&ask, T0), Claim::Nothing);
    }
}

#[test]
fn the_claims_of_a_line_are_bounded() {
    let many = (0..100).map(|n| ScopeConfig::new(n.to_string()).key(format!("k{n}")));
    let mut pool = pool(many.map(|scope| scope.quota(per_minute(60))));
    for _ in 0..100 {
        let _ = take(&mut pool, OPUS, T0);
    }
    let ask = ask(&mut pool, OPUS);
    for _ in 0..2 {
        pool.begin_pass();
        let claims = (0..100).take_while(|_| pool.claim(&ask, T0) == Claim::At(T0 + secs(1)));
        assert_eq!(claims.count(), 64);
    }
}

#[test]
fn claims_of_what_calls_in_flight_will_bring_are_bounded_too() {
    let quota = Quota::builder().max_in_flight(1).build().expect("valid");
    let many = (0..100).map(|n| ScopeConfig::new(n.to_string()).key(format!("k{n}")));
    let mut pool = pool(many.map(|scope| scope.quota(quota.clone())));
    for _ in 0..100 {
        let _ = take(&mut pool, OPUS, T0);
    }
    let ask = ask(&mut pool, OPUS);
    pool.begin_pass();
    let claims = (0..100).take_while(|_| pool.claim(&ask, T0) == Claim::OnRelease);
    assert_eq!(claims.count(), 64);
}

#[test]
fn what_was_found_for_one_call_is_not_taken_for_another() {
    let scope = scopes(&[1]).remove(0).quota_for(["opus"], per_minute(600));
    let mut one = pool([scope]);
    let (opus, haiku) = (ask(&mut one, "opus"), ask(&mut one, "haiku"));
    one.begin_pass();
    assert!(matches!(one.claim(&opus, T0), Claim::Ready(_)));
    let pick = one.take(&haiku, T0, T0);
    assert!(one.is_free(&opus, T0), "its class was left alone");
    one.release(pick, Settlement::AsReserved, T0);

    let mut two = pool(scopes(&[1, 1]));
    let busy = take(&mut two, OPUS, T0);
    let ask = ask(&mut two, OPUS);
    two.begin_pass();
    assert!(matches!(two.claim(&ask, T0), Claim::Ready(_)));
    two.disable("b1", T0).expect("known");
    let pick = two.take(&ask, T0, T0);
    assert_eq!(&**two.alias(&pick), "a1", "what was found is gone");
    two.enable("b1", T0).expect("known");
    let other = take(&mut two, OPUS, T0);
    two.begin_pass();
    let _ = take(&mut two, OPUS, T0);
    assert!(matches!(two.claim(&ask, T0), Claim::Ready(_)));
    assert_eq!(&**two.alias(&other), "b1");
    let _ = two.report(&other, &verdict(Verdict::Region), T0, &mut no_jitter());
    let last = two.take(&ask, T0, T0);
    assert_eq!(&**two.alias(&last), "a1", "its scope is gone");
    drop((busy, pick, other));
}

#[test]
fn a_refund_is_found_among_many_scopes_that_are_spent() {
    let many = (0..40).map(|n| ScopeConfig::new(n.to_string()).key(format!("k{n}")));
    let mut pool = pool(many.map(|scope| scope.quota(per_minute(1))));
    let mut picks: Vec<_> = (0..40)
        .map(|n| take(&mut pool, OPUS, T0 + millis(n)))
        .collect();
    let now = T0 + secs(1);
    assert!(!is_free(&mut pool, OPUS, now));
    let _ = pool.undo(picks.pop().expect("40"), now);
    assert!(is_free(&mut pool, OPUS, now));
}

#[test]
fn those_who_left_are_not_expected() {
    let quota = Quota::builder()
        .input_tokens_per_minute(60_000)
        .build()
        .expect("valid");
    let mut pool = pool([scopes(&[1]).remove(0).quota(quota)]);
    let model = pool.resolve(None);
    let of = |tokens| Ask::new(model, Cost::REQUEST.input_tokens(tokens));
    let _ = pool.take(&of(1_000), T0, T0);
    let ask = of(1_000);
    pool.joined(&ask);
    pool.joined(&ask);
    assert_eq!(pool.expect(&ask, T0), Ok(T0 + secs(3)));
    pool.left(&ask);
    assert_eq!(pool.expect(&ask, T0), Ok(T0 + secs(2)));
    pool.left(&ask);
    pool.joined(&of(5_000));
    pool.left(&of(5_000));
    pool.joined(&ask);
    assert_eq!(
        pool.expect(&ask, T0),
        Ok(T0 + secs(2)),
        "the largest has left, too"
    );
}

#[test]
fn those_ahead_are_expected_to_be_served_by_all_scopes_together() {
    let mut pool = pool(
        scopes(&[1, 1])
            .into_iter()
            .map(|scope| scope.quota(per_minute(60))),
    );
    let _ = (take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0));
    let ask = ask(&mut pool, OPUS);
    let mut expected = Vec::new();
    for _ in 0..6 {
        expected.push(pool.expect(&ask, T0).expect("it fits"));
        pool.joined(&ask);
    }
    let seconds = [1, 1, 2, 2, 3, 3].map(|seconds| T0 + secs(seconds));
    assert_eq!(expected, seconds);
    for _ in 0..6 {
        pool.left(&ask);
    }
    assert_eq!(pool.expect(&ask, T0), Ok(T0 + secs(1)));
}

#[test]
fn who_may_pass_those_ahead_is_expected_before_them() {
    let quota = |burst: u64| {
        let quota = Quota::builder().input_tokens_per_minute(600);
        quota
            .burst(Unit::INPUT_TOKENS, burst)
            .build()
            .expect("valid")
    };
    let two = scopes(&[1, 1]).into_iter().zip([500, 30]);
    let mut pool = pool(two.map(|(scope, burst)| scope.quota(quota(burst))));
    let model = pool.resolve(None);
    let of = |tokens| Ask::new(model, Cost::REQUEST.input_tokens(tokens));
    let (large, small) = (of(500), of(10));
    let _ = pool.take(&large, T0, T0);
    pool.joined(&large);
    assert_eq!(pool.expect(&small, T0), Ok(T0), "the small scope is free");
    pool.begin_pass();
    assert_eq!(pool.claim(&large, T0), Claim::At(T0 + secs(50)));
    assert_eq!(pool.claim(&small, T0), Claim::Ready(T0));
    // Equals pass nobody: of three, each scope has half.
    pool.joined(&large);
    assert_eq!(pool.expect(&large, T0), Ok(T0 + secs(75)));
}

#[test]
fn only_a_line_of_equals_passes_nobody() {
    let quota = Quota::builder().input_tokens_per_minute(600);
    let quota = quota.burst(Unit::INPUT_TOKENS, 510).build().expect("valid");
    let two = || scopes(&[1, 1]).into_iter();
    // Those ahead, and when a call of 500 is expected that needs 50 s of its own.
    for (ahead, seconds) in [(&[500, 500][..], 75), (&[500, 10], 50), (&[490, 510], 50)] {
        let mut pool = pool(two().map(|scope| scope.quota(quota.clone())));
        let model = pool.resolve(None);
        let of = |tokens| Ask::new(model, Cost::REQUEST.input_tokens(tokens));
        let _ = (pool.take(&of(510), T0, T0), pool.take(&of(510), T0, T0));
        for &tokens in ahead {
            pool.joined(&of(tokens));
        }
        let expected = pool.expect(&of(500), T0);
        assert_eq!(expected, Ok(T0 + secs(seconds)), "{ahead:?}");
    }
}

#[test]
fn the_tokens_of_those_ahead_are_one_sum_where_there_is_one_scope() {
    let quota = Quota::builder()
        .tokens_per_minute(600)
        .burst(Unit::TOKENS, 100);
    let quota = quota.build().expect("valid");
    let mut pool = pool([scopes(&[1]).remove(0).quota(quota)]);
    let model = pool.resolve(None);
    let ask = Ask::new(model, Cost::REQUEST.input_tokens(30).output_tokens(20));
    for _ in 0..4 {
        pool.joined(&ask);
    }
    assert_eq!(pool.expect(&ask, T0), Ok(T0 + secs(15)));
}

#[test]
fn those_ahead_may_use_what_the_scopes_have_in_different_shares() {
    let quota = |requests: u64, tokens: u64| {
        let quota = Quota::builder()
            .requests_per_second(requests)
            .rate(Unit::INPUT_TOKENS, tokens, secs(1))
            .burst(Unit::INPUT_TOKENS, 1_000);
        quota.build().expect("valid")
    };
    let [a, b] = <[_; 2]>::try_from(scopes(&[1, 1])).expect("two");
    let mut pool = pool([a.quota(quota(1, 1_000)), b.quota(quota(1_000, 1))]);
    let model = pool.resolve(None);
    for _ in 0..4 {
        pool.joined(&Ask::new(model, Cost::ZERO.input_tokens(1_000)));
    }
    for _ in 0..100 {
        pool.joined(&Ask::new(model, Cost::REQUEST));
    }
    // One scope serves a second's tokens, the other a tenth of a second's requests.
    let expected = pool.expect(&Ask::new(model, Cost::REQUEST), T0);
    assert_eq!(expected, Ok(T0 + millis(500)));
}

#[test]
fn a_caller_that_waits_for_a_trial_blocks_nobody_who_can_use_another_key() {
    let config = PoolConfig::builder().scope(scopes(&[2]).remove(0));
    let config = config.reprobe_rejected(secs(60)).build().expect("valid");
    let mut pool = Pool::new(&config, T0);
    let [a1, a2] = [take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0)];
    let _ = pool.report(&a1, &verdict(Verdict::KeyRejected), T0, &mut no_jitter());
    let _ = pool.report(&a2, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    let (waits, other) = (ask(&mut pool, OPUS), ask(&mut pool, "claude-haiku"));
    for _ in 0..2 {
        pool.begin_pass();
        assert_eq!(pool.claim(&waits, T0), Claim::At(T0 + secs(60)));
        assert_eq!(
            pool.claim(&waits, T0),
            Claim::Nothing,
            "one trial, one claim"
        );
        assert!(matches!(pool.claim(&other, T0), Claim::Ready(_)));
    }
    let pick = pool.take(&other, T0, T0);
    assert_eq!(&**pool.alias(&pick), "a2");
    assert_eq!(pool.expect(&waits, T0), Ok(T0 + secs(60)));
    drop((a1, a2, pick));
}

#[test]
fn a_call_that_is_too_large_for_the_usable_keys_names_all_that_are_out() {
    let quota = |tokens| {
        let quota = Quota::builder().tokens_per_minute(tokens);
        quota.burst(Unit::TOKENS, tokens).build().expect("valid")
    };
    let two = scopes(&[40, 1]).into_iter().zip([1_000, 5_000]);
    let mut pool = pool(two.map(|(scope, tokens)| scope.quota(quota(tokens))));
    pool.disable("b1", T0).expect("known");
    let ask = Ask::new(pool.resolve(None), Cost::REQUEST.input_tokens(5_000));
    let why = pool.expect(&ask, T0).expect_err("the large scope is out");
    assert!(matches!(why, Unservable::Nobody(_)), "{why}");
}

#[test]
fn a_call_that_costs_more_than_any_quota_is_refused_at_once_with_the_largest() {
    let quota = |tokens| {
        let quota = Quota::builder().tokens_per_minute(tokens);
        quota.burst(Unit::TOKENS, tokens).build().expect("valid")
    };
    let two = scopes(&[1, 1]).into_iter().zip([5_000, 1_000]);
    let mut pool = pool(two.map(|(scope, tokens)| scope.quota(quota(tokens))));
    let model = pool.resolve(None);
    let ask = Ask::new(model, Cost::REQUEST.input_tokens(5_001));
    assert!(!pool.is_free(&ask, T0));
    let why = pool.expect(&ask, T0).expect_err("it is too large");
    assert_eq!(
        why.to_string(),
        "the call costs 5001 tokens, but the quota never admits more than 5000 at once"
    );
    assert_eq!(pool.claim(&ask, T0), Claim::Never(why));
    let turned = scopes(&[1, 1]).into_iter().zip([1_000, 5_000]);
    let turned = super::pool(turned.map(|(scope, tokens)| scope.quota(quota(tokens))));
    let Err(Unservable::TooLarge(why)) = turned.expect(&ask, T0) else {
        panic!("it is too large");
    };
    assert_eq!(why.capacity(), 5_000);
    let equal = |unit| {
        let quota = Quota::builder().rate(unit, 10, secs(60)).burst(unit, 10);
        quota.build().expect("valid")
    };
    let units = [Unit::OUTPUT_TOKENS, Unit::INPUT_TOKENS];
    let two = scopes(&[1, 1]).into_iter().zip(units);
    let equals = super::pool(two.map(|(scope, unit)| scope.quota(equal(unit))));
    let twenty = Cost::REQUEST.input_tokens(20).output_tokens(20);
    let Err(Unservable::TooLarge(why)) = equals.expect(&Ask::new(model, twenty), T0) else {
        panic!("it is too large");
    };
    assert_eq!(why.unit(), Unit::OUTPUT_TOKENS, "the first of equals");
    let fits = Ask::new(model, Cost::REQUEST.input_tokens(5_000));
    assert!(pool.is_free(&fits, T0));
    let pick = pool.take(&fits, T0, T0);
    assert_eq!(&**pool.alias(&pick), "a1");
    pool.disable("a1", T0).expect("known");
    let why = pool
        .expect(&fits, T0)
        .expect_err("only the small one is left");
    assert_eq!(
        why.to_string(),
        "no key can serve the call: a1 is disabled, b1 has too small a quota"
    );
}

#[test]
fn nobody_can_ever_serve_is_said_at_once_with_a_reason_for_each_key() {
    let mut pool = pool(scopes(&[5, 1]));
    let picks: Vec<_> = (0..12).map(|_| take(&mut pool, OPUS, T0)).collect();
    let mut of = |alias: &str, verdict: Verdict| {
        let pick = picks.iter().find(|pick| &**pool.alias(pick) == alias);
        let pick = pick.expect("every key was picked");
        pool.report(pick, &Outcome::new(verdict), T0, &mut no_jitter())
    };
    let _ = of("b1", Verdict::Region);
    let _ = of("a1", Verdict::KeyRejected);
    let _ = of("a2", Verdict::ModelDenied);
    pool.disable("a3", T0).expect("known");
    pool.drain("a4", T0).expect("known");
    assert!(is_free(&mut pool, OPUS, T0));
    pool.disable("a5", T0).expect("known");
    let ask = ask(&mut pool, OPUS);
    let why = pool.expect(&ask, T0).expect_err("nobody is left");
    let Unservable::Nobody(nobody) = &why else {
        panic!("{why:?}");
    };
    assert_eq!(
        nobody.keys().collect::<Vec<_>>(),
        [
            ("a1", WhyNot::Rejected),
            ("a2", WhyNot::ModelDenied),
            ("a3", WhyNot::Disabled),
            ("a4", WhyNot::Draining),
            ("a5", WhyNot::Disabled),
            ("b1", WhyNot::Region),
        ]
    );
    assert_eq!(
        why.to_string(),
        "no key can serve the call: a1 was rejected by the server, a2 may not use the model, \
         a3 is disabled, a4 is draining, a5 is disabled, b1 is refused for the region"
    );
    assert!(std::error::Error::source(&why).is_some());
    pool.begin_pass();
    assert_eq!(pool.claim(&ask, T0), Claim::Never(why));
}

#[test]
fn a_refusal_names_32_keys_and_counts_the_rest() {
    let mut pool = pool(scopes(&[40]));
    for key in 1..=40 {
        pool.disable(&format!("a{key}"), T0).expect("known");
    }
    let ask = ask(&mut pool, OPUS);
    let why = pool
        .expect(&ask, T0)
        .expect_err("nobody is left")
        .to_string();
    assert!(why.ends_with("a32 is disabled, and 8 more"), "{why}");
}

#[test]
#[should_panic(expected = "take follows")]
fn taking_what_was_not_found_is_a_broken_contract() {
    let mut pool = pool([scopes(&[1]).remove(0).quota(per_minute(1))]);
    let _ = take(&mut pool, OPUS, T0);
    let ask = ask(&mut pool, OPUS);
    let _ = pool.take(&ask, T0, T0);
}
