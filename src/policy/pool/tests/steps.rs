use super::*;

/// Entries of ordered structures that are looked at in so many calls after a warm-up.
fn steps(mut pool: Pool, calls: u64) -> u64 {
    let total = |pool: &Pool| {
        let tiers = pool.views.iter().flat_map(|view| &view.tiers);
        let tiers: u64 = tiers
            .map(|tier| tier.ready.steps + tier.waiting.steps)
            .sum();
        let rings: u64 = pool.scopes.iter().map(|scope| scope.ring.steps()).sum();
        tiers + rings
    };
    let mut now = T0;
    let mut run = |pool: &mut Pool, calls: u64| {
        for _ in 0..calls {
            let ask = ask(pool, OPUS);
            pool.begin_pass();
            match pool.claim(&ask, now) {
                Claim::Ready(_) => {
                    let pick = pool.take(&ask, now, now);
                    pool.release(pick, Settlement::AsReserved, now);
                }
                Claim::At(at) => now = at,
                other => panic!("{other:?}"),
            }
        }
    };
    run(&mut pool, calls);
    let before = total(&pool);
    run(&mut pool, calls);
    total(&pool) - before
}

fn one_scope(keys: usize) -> Pool {
    let scope = ScopeConfig::new("a").quota(per_minute(60_000));
    pool([(0..keys).fold(scope, |scope, key| scope.key(format!("k{key}")))])
}

fn many_scopes(scopes: usize, strategy: Strategy, quota: Option<u64>) -> Pool {
    let scopes = (0..scopes).map(|n| {
        let scope = ScopeConfig::new(n.to_string()).key(format!("k{n}"));
        match quota {
            Some(quota) => scope.quota(per_minute(quota)),
            None => scope,
        }
    });
    with_strategy(strategy, scopes)
}

#[test]
fn a_pick_takes_steps_that_grow_with_the_logarithm_of_the_keys() {
    const CALLS: u64 = 12_000;
    // Each change of a four-way heap of 10,000 moves at most eight levels and looks once more.
    let bound = |few: u64| few + CALLS * 4 * 9;
    assert!(steps(one_scope(10_000), CALLS) <= bound(steps(one_scope(10), CALLS)));
    for strategy in [
        Strategy::MostHeadroom,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LeastInFlight,
        Strategy::LeastRecentlyUsed,
    ] {
        for quota in [None, Some(1), Some(6_000)] {
            let few = steps(many_scopes(10, strategy, quota), CALLS);
            let many = steps(many_scopes(10_000, strategy, quota), CALLS);
            assert!(
                many <= bound(few),
                "{strategy:?} {quota:?}: {few} and {many}"
            );
        }
    }
}

/// Not a test but a measurement: `cargo test --release --no-default-features --lib
/// measure_a_pick -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn measure_a_pick() {
    let quota = || {
        Quota::builder()
            .requests_per_minute(6_000_000_000)
            .input_tokens_per_minute(60_000_000_000_000)
            .output_tokens_per_minute(60_000_000_000_000)
            .burst(crate::policy::Unit::REQUESTS, 6_000_000_000)
            .burst(crate::policy::Unit::INPUT_TOKENS, 60_000_000_000_000)
            .burst(crate::policy::Unit::OUTPUT_TOKENS, 60_000_000_000_000)
            .build()
            .expect("valid")
    };
    let measure = |what: &str, mut pool: Pool| {
        const CALLS: u32 = 1_000_000;
        let model = pool.resolve(Some(OPUS));
        let ask = Ask::new(model, Cost::REQUEST.input_tokens(1_200).output_tokens(800));
        let mut best = f64::MAX;
        for _ in 0..7 {
            let start = std::time::Instant::now();
            for n in 0..CALLS {
                let now = T0 + Duration::from_nanos(u64::from(n) * 150);
                assert!(pool.is_free(&ask, now));
                let pick = pool.take(&ask, now, now);
                let _ = pool.report(&pick, &Outcome::SUCCESS, now, &mut no_jitter());
                pool.release(pick, Settlement::AsReserved, now);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
        }
        println!("{what}: {best:.1} ns");
    };
    for keys in [10, 10_000] {
        let scope = ScopeConfig::new("a").quota(quota());
        let pool = pool([(0..keys).fold(scope, |scope, key| scope.key(format!("k{key}")))]);
        measure(&format!("one scope, {keys} keys"), pool);
    }
    for strategy in [Strategy::MostHeadroom, Strategy::RoundRobin] {
        for scopes in [10, 10_000] {
            let pool = many_scopes(scopes, strategy, None);
            measure(&format!("{scopes} scopes, {strategy:?}, no quota"), pool);
            let many = (0..scopes).map(|n| {
                let scope = ScopeConfig::new(n.to_string()).key(format!("k{n}"));
                scope.quota(quota())
            });
            let pool = with_strategy(strategy, many);
            measure(
                &format!("{scopes} scopes, {strategy:?}, three dimensions"),
                pool,
            );
        }
    }
}
