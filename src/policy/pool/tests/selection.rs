use super::*;
use crate::policy::Unit;

fn counts(names: &[String]) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for name in names {
        *counts.entry(name.clone()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

fn weighted(weights: &[(&str, u32)]) -> Vec<ScopeConfig> {
    let scope = |(name, weight): &(&str, u32)| {
        ScopeConfig::new(*name).weighted_key(format!("{name}1"), *weight)
    };
    weights.iter().map(scope).collect()
}

#[test]
fn the_pool_does_not_drain_one_key_before_it_touches_the_next() {
    for strategy in [
        Strategy::MostHeadroom,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LeastInFlight,
        Strategy::LeastRecentlyUsed,
    ] {
        let mut keys = with_strategy(strategy, scopes(&[3]));
        assert_eq!(
            served(&mut keys, 6, T0),
            ["a1", "a2", "a3", "a1", "a2", "a3"]
        );
        let limited = scopes(&[1, 1, 1])
            .into_iter()
            .map(|scope| scope.quota(per_minute(6_000)));
        let mut scopes = with_strategy(strategy, limited);
        assert_eq!(
            served(&mut scopes, 3, T0),
            ["a1", "b1", "c1"],
            "{strategy:?}"
        );
    }
}

#[test]
fn two_keys_of_one_scope_are_one_quota() {
    let mut pool = pool([scopes(&[2]).remove(0).quota(per_minute(60))]);
    let first = take(&mut pool, OPUS, T0);
    assert!(!is_free(&mut pool, OPUS, T0 + millis(999)));
    let second = take(&mut pool, OPUS, T0 + secs(1));
    assert_ne!(pool.alias(&first), pool.alias(&second));
}

#[test]
fn models_of_one_class_share_its_quota_and_others_do_not() {
    let scope = scopes(&[1]).remove(0);
    let scope = scope
        .quota_for(["claude-opus-*", "claude-fable"], per_minute(60))
        .quota_for(["claude-opus-5*"], per_minute(60))
        .quota_for(["claude-opus-5-mini"], per_minute(60))
        .quota(per_minute(60));
    let mut pool = pool([scope]);
    for model in [
        "claude-opus-4",
        "claude-opus-5",
        "claude-opus-5-mini",
        "else",
    ] {
        let _ = take(&mut pool, model, T0);
    }
    for model in [
        "claude-opus-4-1",
        "claude-fable",
        "claude-opus-5-x",
        "claude-opus-5-mini",
        "any",
        "claude-fables",
    ] {
        assert!(!is_free(&mut pool, model, T0), "{model}");
    }
    let none = Ask::new(pool.resolve(None), Cost::REQUEST);
    assert!(!pool.is_free(&none, T0));
}

#[test]
fn a_scope_without_quota_for_a_model_is_unlimited_for_it() {
    let scope = scopes(&[1]).remove(0).quota_for(["opus"], per_minute(60));
    let mut pool = pool([scope]);
    let _ = take(&mut pool, "opus", T0);
    assert!(!is_free(&mut pool, "opus", T0));
    for _ in 0..100 {
        let _ = take(&mut pool, "haiku", T0);
    }
}

#[test]
fn each_scope_classes_a_model_in_its_own_way() {
    let [a, b] = <[_; 2]>::try_from(scopes(&[1, 1])).expect("two");
    let mut pool = pool([
        a.quota_for(["x-*"], per_minute(60)).quota(per_minute(60)),
        b.quota_for(["x-1"], per_minute(60)).quota(per_minute(60)),
    ]);
    for model in ["x-1", "x-1", "x-2", "y"] {
        let _ = take(&mut pool, model, T0);
    }
    // Left is nothing: `x-1` and `x-2` share a class of `a`, `x-2` and `y` one of `b`.
    for model in ["x-1", "x-2"] {
        assert!(!is_free(&mut pool, model, T0), "{model}");
    }
    assert!(!is_free(&mut pool, "y", T0));
}

#[test]
fn names_beyond_the_bound_keep_their_quota_and_are_not_denied_one_by_one() {
    let scope = scopes(&[1]).remove(0);
    let scope = scope
        .quota_for(["opus-*"], per_minute(60))
        .quota_for(["last"], per_minute(60));
    let mut pool = pool([scope]);
    for name in 0..300 {
        let _ = pool.resolve(Some(&format!("haiku-{name}")));
    }
    let lines = pool.lines();
    assert_eq!(lines, 257);
    let shared = ask(&mut pool, "opus-1");
    assert_eq!(ask(&mut pool, "opus-2"), shared);
    let long = "x".repeat(10_000);
    assert_eq!(ask(&mut pool, &long), ask(&mut pool, "haiku-299"));
    let _ = ask(&mut pool, "last");
    assert_eq!(pool.lines(), 259, "one for each pattern");
    assert!(pool.line(&shared) < pool.lines());

    let pick = take(&mut pool, "opus-1", T0);
    let denied = pool.report(&pick, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    assert_eq!(denied, Absorbed::Nothing);
    assert!(!is_free(&mut pool, "opus-2", T0));
    assert!(is_free(&mut pool, "last", T0));
    assert!(is_free(&mut pool, "opus-2", T0 + secs(1)));
}

#[test]
fn most_headroom_takes_the_scope_with_the_largest_share_left() {
    let quota = |requests: u64| {
        let quota = Quota::builder().requests_per_minute(requests);
        quota
            .burst(Unit::REQUESTS, requests)
            .build()
            .expect("valid")
    };
    let [a, b] = <[_; 2]>::try_from(scopes(&[1, 1])).expect("two");
    let mut pool = pool([a.quota(quota(10)), b.quota(quota(90))]);
    let served = served(&mut pool, 100, T0);
    assert_eq!(counts(&served), [("a1".into(), 10), ("b1".into(), 90)]);
    let half = &counts(&served[..50]);
    assert_eq!(half, &[("a1".into(), 5), ("b1".into(), 45)]);
    assert!(!is_free(&mut pool, OPUS, T0));
}

#[test]
fn most_headroom_goes_by_what_is_left_and_not_by_turns() {
    let quota = Quota::builder()
        .input_tokens_per_minute(1_000)
        .burst(Unit::INPUT_TOKENS, 1_000);
    let quota = quota.build().expect("valid");
    let mut pool = pool(
        scopes(&[1, 1])
            .into_iter()
            .map(|scope| scope.quota(quota.clone())),
    );
    let model = pool.resolve(None);
    let mut names = Vec::new();
    for tokens in [500, 10, 10, 10] {
        let pick = pool.take(&Ask::new(model, Cost::ZERO.input_tokens(tokens)), T0, T0);
        names.push(pool.alias(&pick).to_string());
    }
    assert_eq!(names, ["a1", "b1", "b1", "b1"]);
}

#[test]
fn full_scopes_come_first_and_take_turns() {
    let quota = |amount, period| {
        let quota = Quota::builder().rate(Unit::REQUESTS, amount, period);
        quota.burst(Unit::REQUESTS, amount).build().expect("valid")
    };
    let of = |requests| Cost::ZERO.of(Unit::REQUESTS, requests);
    let limited = |quota: Quota| {
        let two = scopes(&[1, 1]).into_iter();
        two.map(move |scope| scope.quota(quota.clone()))
    };
    let mut slow = pool(limited(quota(2, secs(2))));
    let model = slow.resolve(None);
    // Both are full after two seconds, the one that was taken first not a moment earlier. Whoever
    // changes anything about them finds that out.
    for (requests, after, alias) in [(2, 0, "a1"), (1, 500, "b1"), (1, 2_000, "a1")] {
        let now = T0 + millis(after);
        for key in ["a1", "b1"] {
            slow.enable(key, now).expect("it is there");
        }
        let pick = slow.take(&Ask::new(model, of(requests)), now, now);
        assert_eq!(&**slow.alias(&pick), alias, "after {after} ms");
    }

    let mut fast = Pool::new(
        &config(limited(quota(1_000_000_000, secs(1)))),
        Timestamp::ZERO,
    );
    let now = Timestamp::from_nanos(10);
    for _ in 0..98 {
        let _ = fast.take(&Ask::new(model, of(0)), now, now);
    }
    for (requests, alias) in [(40, "a1"), (1, "b1")] {
        let pick = fast.take(&Ask::new(model, of(requests)), now, now);
        assert_eq!(&**fast.alias(&pick), alias);
    }
}

#[test]
fn a_star_goes_before_the_class_without_patterns() {
    for star_first in [true, false] {
        let scope = scopes(&[1]).remove(0);
        let (star, rest) = (per_minute(60), per_minute(60_000));
        let mut pool = pool([if star_first {
            scope.quota_for(["*"], star).quota(rest)
        } else {
            scope.quota(rest).quota_for(["*"], star)
        }]);
        let _ = take(&mut pool, OPUS, T0);
        assert!(!is_free(&mut pool, OPUS, T0 + millis(999)));
    }
}

#[test]
fn headroom_counts_the_scarcest_dimension_and_places_in_flight() {
    let quota = Quota::builder()
        .requests_per_minute(100)
        .input_tokens_per_minute(1_000)
        .burst(Unit::REQUESTS, 100)
        .burst(Unit::INPUT_TOKENS, 1_000)
        .max_in_flight(10)
        .build()
        .expect("valid");
    let two = scopes(&[1, 1])
        .into_iter()
        .map(|scope| scope.quota(quota.clone()));
    let mut pool = pool(two);
    let model = pool.resolve(Some(OPUS));
    let large = Ask::new(model, Cost::REQUEST.input_tokens(500));
    let small = Ask::new(model, Cost::REQUEST.input_tokens(1));
    let first = pool.take(&large, T0, T0);
    assert_eq!(&**pool.scope_name(&first), "a");
    pool.release(first, Settlement::AsReserved, T0);
    assert!((pool.snapshot(T0)[0].classes()[0].headroom() - 0.5).abs() < 1e-5);
    let remaining = pool.snapshot(T0)[0].classes()[0].remaining().to_vec();
    assert_eq!(remaining, [(Unit::REQUESTS, 99), (Unit::INPUT_TOKENS, 500)]);
    for _ in 0..5 {
        let pick = pool.take(&small, T0, T0);
        assert_eq!(
            pool.scope_name(&pick).to_string(),
            "b",
            "tokens are scarce in a"
        );
    }
    let pick = pool.take(&small, T0, T0);
    assert_eq!(
        pool.scope_name(&pick).to_string(),
        "a",
        "places are scarcer in b"
    );
}

#[test]
fn weights_share_scopes_evenly_mixed() {
    let mut pool = with_strategy(Strategy::Weighted, weighted(&[("a", 3), ("b", 1)]));
    let served = served(&mut pool, 40, T0);
    assert_eq!(counts(&served), [("a1".into(), 30), ("b1".into(), 10)]);
    for four in served.chunks(4) {
        assert_eq!(counts(four), [("a1".into(), 3), ("b1".into(), 1)]);
    }
}

#[test]
fn weights_share_the_keys_of_a_scope() {
    let scope = ScopeConfig::new("a")
        .weighted_key("a1", 3)
        .weighted_key("a2", 1);
    let mut by_weight = with_strategy(Strategy::Weighted, [scope.clone()]);
    let names = served(&mut by_weight, 40, T0);
    assert_eq!(counts(&names), [("a1".into(), 30), ("a2".into(), 10)]);
    let mut even = with_strategy(Strategy::RoundRobin, [scope]);
    let names = served(&mut even, 40, T0);
    assert_eq!(counts(&names), [("a1".into(), 20), ("a2".into(), 20)]);
}

#[test]
fn weights_hold_for_a_class_that_is_used_less_than_others() {
    let scopes = weighted(&[("a", 3), ("b", 1)]).into_iter();
    let classes = |scope: ScopeConfig| scope.quota_for(["opus"], per_minute(60_000_000));
    let mut pool = with_strategy(Strategy::Weighted, scopes.map(classes));
    let mut names = Vec::new();
    for n in 0..40 {
        names.push(call(&mut pool, "opus", Outcome::SUCCESS, T0 + millis(n)).0);
        for _ in 0..10 {
            call(&mut pool, "haiku", Outcome::SUCCESS, T0 + millis(n));
        }
    }
    assert_eq!(counts(&names), [("a1".into(), 30), ("b1".into(), 10)]);
}

#[test]
fn a_scope_weighs_as_much_as_the_keys_that_may_use_the_model() {
    let scope = |name: &str| ScopeConfig::new(name);
    let a = scope("a").weighted_key("a1", 3).weighted_key("a2", 1);
    let mut pool = with_strategy(Strategy::Weighted, [a, scope("b").weighted_key("b1", 1)]);
    let pick = take(&mut pool, OPUS, T0);
    assert_eq!(&**pool.alias(&pick), "a1");
    let denied = pool.report(&pick, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    assert_eq!(denied, Absorbed::Again(T0));
    let names = served(&mut pool, 20, T0);
    assert_eq!(counts(&names), [("a2".into(), 10), ("b1".into(), 10)]);
    pool.release(pick, Settlement::AsReserved, T0);
}

#[test]
fn small_calls_among_large_ones_take_turns_too() {
    let quota = Quota::builder()
        .input_tokens_per_minute(60_000)
        .burst(Unit::INPUT_TOKENS, 1_000);
    let quota = quota.build().expect("valid");
    for strategy in [Strategy::MostHeadroom, Strategy::RoundRobin] {
        let two = scopes(&[1, 1]).into_iter();
        let mut pool = with_strategy(strategy, two.map(|scope| scope.quota(quota.clone())));
        let model = pool.resolve(None);
        let of = |tokens| Ask::new(model, Cost::REQUEST.input_tokens(tokens));
        let mut names = Vec::new();
        for tokens in [600, 600].into_iter().chain([10; 40]) {
            let pick = pool.take(&of(tokens), T0, T0);
            names.push(pool.alias(&pick).to_string());
        }
        let half = [("a1".to_owned(), 21), ("b1".to_owned(), 21)];
        assert_eq!(counts(&names), half, "{strategy:?}");
    }
}

#[test]
fn a_scope_that_comes_back_does_not_catch_up() {
    for strategy in [Strategy::RoundRobin, Strategy::Weighted] {
        for is_reloaded in [false, true] {
            let mut pool = with_strategy(strategy, scopes(&[1, 1]));
            pool.disable("a1", T0).expect("known");
            assert_eq!(served(&mut pool, 100, T0), ["b1"; 100]);
            if is_reloaded {
                let two = scopes(&[1, 1]).into_iter();
                let two = two.fold(PoolConfig::builder(), PoolConfigBuilder::scope);
                let same = two.strategy(strategy).build().expect("valid");
                assert_eq!(pool.apply(&same, T0), []);
            }
            pool.enable("a1", T0).expect("known");
            let names = served(&mut pool, 10, T0);
            let back = names.iter().filter(|name| *name == "a1").count();
            assert!((5..=6).contains(&back), "{strategy:?}: {names:?}");
        }
    }
}

#[test]
fn a_class_that_shares_a_scope_with_another_does_not_catch_up_with_it() {
    let [a, b] = <[_; 2]>::try_from(scopes(&[1, 1])).expect("two");
    let b = b.quota_for(["opus"], per_minute(60_000_000));
    let mut pool = with_strategy(Strategy::RoundRobin, [a, b]);
    for _ in 0..100 {
        call(&mut pool, "haiku", Outcome::SUCCESS, T0);
    }
    let calls = (0..10).map(|n| call(&mut pool, "opus", Outcome::SUCCESS, T0 + millis(n)).0);
    let names: Vec<_> = calls.collect();
    assert_eq!(counts(&names), [("a1".into(), 5), ("b1".into(), 5)]);
}

#[test]
fn least_in_flight_takes_the_idlest() {
    let mut pool = with_strategy(Strategy::LeastInFlight, scopes(&[1, 1]));
    let first = take(&mut pool, OPUS, T0);
    let second = take(&mut pool, OPUS, T0);
    let third = take(&mut pool, OPUS, T0);
    let names = [&first, &second, &third].map(|pick| pool.alias(pick).to_string());
    assert_eq!(names, ["a1", "b1", "a1"]);
    pool.release(first, Settlement::AsReserved, T0);
    pool.release(third, Settlement::AsReserved, T0);
    assert_eq!(served(&mut pool, 2, T0), ["a1", "a1"]);
}

#[test]
fn least_recently_used_counts_ends_as_well() {
    let mut pool = with_strategy(Strategy::LeastRecentlyUsed, scopes(&[1, 1]));
    let first = take(&mut pool, OPUS, T0);
    let second = take(&mut pool, OPUS, T0 + secs(1));
    let third = take(&mut pool, OPUS, T0 + secs(1));
    let names = [&first, &second, &third].map(|pick| pool.alias(pick).to_string());
    assert_eq!(names, ["a1", "b1", "a1"], "beginnings count");
    pool.release(third, Settlement::AsReserved, T0 + secs(1));
    pool.release(second, Settlement::AsReserved, T0 + secs(2));
    pool.release(first, Settlement::AsReserved, T0 + secs(3));
    assert_eq!(served(&mut pool, 1, T0 + secs(4)), ["b1"]);
}

#[test]
fn strategies_hold_over_scopes_of_different_quotas() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::LeastRecentlyUsed,
        Strategy::LeastInFlight,
    ] {
        let scopes = scopes(&[1, 1, 1])
            .into_iter()
            .zip([6_000, 600_000, 60_000_000]);
        let scopes = scopes.map(|(scope, requests)| scope.quota(per_minute(requests)));
        let mut pool = with_strategy(strategy, scopes);
        let names: Vec<_> = (0..6)
            .map(|n| call(&mut pool, OPUS, Outcome::SUCCESS, T0 + millis(20) * n).0)
            .collect();
        assert_eq!(names, ["a1", "b1", "c1", "a1", "b1", "c1"], "{strategy:?}");
    }
}

#[test]
fn a_small_call_passes_where_a_large_one_must_wait() {
    let quota = Quota::builder()
        .input_tokens_per_minute(60_000)
        .burst(Unit::INPUT_TOKENS, 1_000);
    let quota = quota.build().expect("valid");
    let mut pool = pool([scopes(&[1]).remove(0).quota(quota)]);
    let model = pool.resolve(None);
    let large = Ask::new(model, Cost::REQUEST.input_tokens(900));
    let small = Ask::new(model, Cost::REQUEST.input_tokens(50));
    let _ = pool.take(&large, T0, T0);
    assert!(!pool.is_free(&large, T0));
    assert!(pool.is_free(&small, T0));
    pool.begin_pass();
    assert_eq!(pool.claim(&large, T0), Claim::At(T0 + millis(800)));
    assert_eq!(
        pool.claim(&small, T0),
        Claim::Nothing,
        "it waits its turn in one line"
    );
    pool.begin_pass();
    assert_eq!(pool.claim(&small, T0), Claim::Ready(T0));
}

#[test]
fn a_large_call_finds_the_one_scope_of_many_that_can_serve_it() {
    let quota = Quota::builder()
        .input_tokens_per_minute(60_000)
        .burst(Unit::INPUT_TOKENS, 1_000);
    let quota = quota.build().expect("valid");
    let many = (0..50).map(|n| ScopeConfig::new(n.to_string()).key(format!("k{n}")));
    let mut pool = pool(many.map(|scope| scope.quota(quota.clone())));
    let model = pool.resolve(None);
    let small = Ask::new(model, Cost::REQUEST.input_tokens(300));
    let large = Ask::new(model, Cost::REQUEST.input_tokens(900));
    for _ in 0..49 {
        let _ = pool.take(&small, T0, T0);
    }
    pool.begin_pass();
    assert!(matches!(pool.claim(&large, T0), Claim::Ready(_)));
    let pick = pool.take(&large, T0, T0);
    assert_eq!(&**pool.alias(&pick), "k49");
    // All others have 700 left, which serves the small.
    for _ in 0..98 {
        pool.begin_pass();
        assert!(matches!(pool.claim(&small, T0), Claim::Ready(_)));
        let _ = pool.take(&small, T0, T0);
    }
}
