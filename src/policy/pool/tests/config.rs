use super::*;

#[test]
fn an_impossible_pool_names_the_field_and_the_fix() {
    let quota = || per_minute(1);
    let zero = Duration::ZERO;
    let one = |scope: ScopeConfig| PoolConfig::builder().scope(scope);
    let a = || ScopeConfig::new("a").key("a1");
    for (builder, expected) in [
        (
            PoolConfig::builder(),
            "scopes: the pool is empty; add at least one scope with a key",
        ),
        (
            one(ScopeConfig::new("a")),
            "scope.key: scope `a` has no key; add one or leave it out",
        ),
        (
            one(a()).scope(ScopeConfig::new("b").key("a1")),
            "key.alias: `a1` is given twice in the pool; rename one of the two",
        ),
        (
            one(a().key(" ")),
            "key.alias: a key has an empty name; give it one",
        ),
        (
            one(a()).scope(ScopeConfig::new("a").key("b1")),
            "scope.name: `a` is given twice in the pool; rename one of the two",
        ),
        (
            one(ScopeConfig::new("").key("a1")),
            "scope.name: a scope has an empty name; give it one",
        ),
        (
            one(a().weighted_key("a2", 0)),
            "key.weight: key `a2` has weight 0; use 1 to 1000",
        ),
        (
            one(a().weighted_key("a2", 1_001)),
            "key.weight: key `a2` has weight 1001; use 1 to 1000",
        ),
        (
            one(a().quota_for(["x", "y"], quota()).quota_for(["y"], quota())),
            "scope.quota.models: scope `a`: `y` has two quotas; keep one of the two",
        ),
        (
            one(a().quota(quota()).quota(quota())),
            "scope.quota.models: scope `a`: two quotas name no models; keep one, or name the \
             other's models",
        ),
        (
            one(a().quota_for([""], quota())),
            "scope.quota.models: scope `a`: a pattern is empty; name a model, or leave models out",
        ),
        (
            one(a().quota_for(["x*y"], quota())),
            "scope.quota.models: scope `a`: `x*y` has a `*` before its end; move it there",
        ),
        (
            one(a()).default_rest(zero),
            "default_rest: 0 would ask again at once; use at least 1 ms",
        ),
        (
            one(a()).longest_rest(zero),
            "longest_rest: 0 would ask again at once; use at least 1 ms",
        ),
        (
            one(a()).exhausted_rest(zero),
            "exhausted_rest: 0 would ask again at once; use at least 1 ms",
        ),
        (
            one(a()).reprobe_rejected(zero),
            "reprobe_rejected: 0 would ask again at once; use at least 1 ms",
        ),
        (
            one(a()).longest_rest(millis(10)),
            "default_rest: 1s is longer than longest_rest, 10ms; raise that or lower this",
        ),
        (
            one((0..1_001).fold(a(), |scope, n| scope.quota_for([n.to_string()], quota()))),
            "models: 1001 are too many; use at most 1000",
        ),
    ] {
        let error = builder.build().expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    let bounds = one(a().weighted_key("a2", 1).weighted_key("a3", 1_000))
        .default_rest(secs(5))
        .longest_rest(secs(5));
    assert_eq!(bounds.build().expect("at the bounds").keys(), 3);
    assert!(
        one((0..1_000).fold(a(), |s, n| s.quota_for([n.to_string()], quota())))
            .build()
            .is_ok()
    );
}

#[test]
fn rests_are_as_configured() {
    let config = PoolConfig::builder()
        .scope(scopes(&[1]).remove(0))
        .default_rest(secs(2))
        .longest_rest(secs(8))
        .exhausted_rest(secs(20))
        .build()
        .expect("valid");
    for (outcome, rest) in [
        (verdict(Verdict::Throttled), 2),
        (throttled(100), 8),
        (throttled(5), 5),
        (verdict(Verdict::Exhausted), 20),
        (verdict(Verdict::Exhausted).after(secs(99)), 20),
        (verdict(Verdict::Exhausted).after(secs(9)), 9),
    ] {
        let mut pool = Pool::new(&config, T0);
        let (_, absorbed) = call(&mut pool, OPUS, outcome, T0);
        assert_eq!(absorbed, Absorbed::Again(T0 + secs(rest)));
    }
}
