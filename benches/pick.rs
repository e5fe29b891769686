//! What a pick from a pool costs with ten scopes or keys and with ten thousand: asking whether a
//! call can be served, taking a key, reporting a success and giving all back.
//!
//! `cargo bench -p tower-relay-benches --bench pick`
#![allow(
    clippy::disallowed_methods,
    reason = "a bench reads the clock; the library's rule is for its sources"
)]

use std::time::Duration;

use tower_relay::{
    outcome::Outcome,
    policy::{
        Cost, Quota, Rng, Timestamp, Unit,
        pool::{
            Affinity, Ask, Pool, PoolConfig, PoolConfigBuilder, ScopeConfig, Settlement, Strategy,
        },
    },
};
use tower_relay_benches::nanos;

struct Never;

impl Rng for Never {
    fn next_u64(&mut self) -> u64 {
        0
    }
}

fn main() {
    println!("a pick, in ns (must: 10,000 at most twice 10)");
    for strategy in [Strategy::MostHeadroom, Strategy::RoundRobin] {
        compare(&format!("keys of one scope, {strategy:?}"), |many| {
            let scope = ScopeConfig::new("a").quota(quota());
            let scope = (0..many).fold(scope, |scope, n| scope.key(format!("k{n}")));
            pool([scope], strategy)
        });
        compare(&format!("scopes, {strategy:?}, three dimensions"), |many| {
            pool((0..many).map(scope), strategy)
        });
    }
    let affine = |many| {
        let builder = (0..many)
            .map(scope)
            .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
        let config = builder.affinity(Affinity::new()).build();
        Pool::new(&config.expect("a valid pool"), Timestamp::ZERO)
    };
    compare("scopes, a session that is known", affine);
    println!("the first call of a session, once for each");
    let (few, many) = (first(affine(10)), first(affine(10_000)));
    println!("{:44} 10: {few:5.0}   10,000: {many:5.0}", "scopes");
}

fn compare(what: &str, pool: impl Fn(usize) -> Pool) {
    let (few, many) = (pick(pool(10)), pick(pool(10_000)));
    println!(
        "{what:44} 10: {few:5.0}   10,000: {many:5.0}   {:.2}x",
        many / few
    );
}

/// The first sight of a session, which looks at every scope.
fn first(mut pool: Pool) -> f64 {
    let any = Ask::new(pool.resolve(None), Cost::REQUEST);
    let mut session = 0;
    nanos(2_000, || {
        session += 1;
        let ask = pool.prefer(any, session, Timestamp::ZERO);
        assert_ne!(ask, any);
    })
}

fn scope(n: usize) -> ScopeConfig {
    ScopeConfig::new(format!("{n}"))
        .key(format!("k{n}"))
        .quota(quota())
}

fn pick(mut pool: Pool) -> f64 {
    let model = pool.resolve(Some("claude-opus-4"));
    let ask = Ask::new(model, Cost::REQUEST.input_tokens(1_200).output_tokens(800));
    let mut now = Timestamp::ZERO;
    nanos(200_000, || {
        now = now + Duration::from_nanos(150);
        let ask = pool.prefer(ask, now.as_nanos() % 64, now);
        assert!(pool.is_free(&ask, now), "the quota is ample");
        let pick = pool.take(&ask, now, now);
        let _ = pool.report(&pick, &Outcome::SUCCESS, now, &mut Never);
        pool.release(pick, Settlement::AsReserved, now);
    })
}

fn pool(scopes: impl IntoIterator<Item = ScopeConfig>, strategy: Strategy) -> Pool {
    let builder = PoolConfig::builder().strategy(strategy);
    let builder = scopes
        .into_iter()
        .fold(builder, |builder, scope| builder.scope(scope));
    Pool::new(&builder.build().expect("a valid pool"), Timestamp::ZERO)
}

fn quota() -> Quota {
    const REQUESTS: u64 = 6_000_000_000;
    const TOKENS: u64 = 60_000_000_000_000;
    Quota::builder()
        .requests_per_minute(REQUESTS)
        .input_tokens_per_minute(TOKENS)
        .output_tokens_per_minute(TOKENS)
        .burst(Unit::REQUESTS, REQUESTS)
        .burst(Unit::INPUT_TOKENS, TOKENS)
        .burst(Unit::OUTPUT_TOKENS, TOKENS)
        .build()
        .expect("a valid quota")
}
