use super::*;

/// Entries of ordered structures that are looked at in so many calls after a warm-up.
fn steps(mut pool: Pool, calls: u64) -> u64 {
    let total = |pool: &Pool| {
        let tiers = pool.views.iter().flat_map(|view| &view.tiers);
        let tiers: u64 = tiers
            .map(|tier| tier.ready.steps + tier.waiting.steps + tier.full.steps)
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
            assert!(few > CALLS, "they are counted");
            assert!(
                many <= bound(few),
                "{strategy:?} {quota:?}: {few} and {many}"
            );
        }
    }
}
