//! The traps of key rotation that the policy alone can avoid, each as a claim.

mod affinity;
mod again;
mod breakers;
mod config;
mod control;
mod health;
mod invariants;
mod line;
mod probes;
mod selection;
mod steps;
mod waiters;
mod world;

use std::time::Duration;

use super::*;
use crate::{
    outcome::{Outcome, Verdict},
    policy::{Cost, Quota, Rng, Timestamp},
};

const T0: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const OPUS: &str = "claude-opus-4";

/// Bits that are always the same.
struct Bits(u64);

impl Rng for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0
    }
}

/// Rests are exact.
const fn no_jitter() -> Bits {
    Bits(0)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn per_minute(requests: u64) -> Quota {
    let quota = Quota::builder().requests_per_minute(requests).build();
    quota.expect("it is above zero")
}

/// Scopes `a`, `b` and so on, each with so many keys: `a1`, `a2`...
fn scopes(keys: &[usize]) -> Vec<ScopeConfig> {
    let names = ('a'..='z').zip(keys);
    names
        .map(|(name, &keys)| {
            let scope = ScopeConfig::new(name.to_string());
            (1..=keys).fold(scope, |scope, key| scope.key(format!("{name}{key}")))
        })
        .collect()
}

fn config(scopes: impl IntoIterator<Item = ScopeConfig>) -> PoolConfig {
    let builder = scopes
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    builder.build().expect("it is valid")
}

fn pool(scopes: impl IntoIterator<Item = ScopeConfig>) -> Pool {
    Pool::new(&config(scopes), T0)
}

fn with_strategy(strategy: Strategy, scopes: impl IntoIterator<Item = ScopeConfig>) -> Pool {
    let builder = scopes
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    Pool::new(&builder.strategy(strategy).build().expect("valid"), T0)
}

fn ask(pool: &mut Pool, model: &str) -> Ask {
    Ask::new(pool.resolve(Some(model)), Cost::REQUEST)
}

/// Takes a call of this model at once.
fn take(pool: &mut Pool, model: &str, now: Timestamp) -> Pick {
    let ask = ask(pool, model);
    assert!(pool.is_free(&ask, now), "nothing serves {model}");
    pool.take(&ask, now, now)
}

fn is_free(pool: &mut Pool, model: &str, now: Timestamp) -> bool {
    let ask = ask(pool, model);
    let is_free = pool.is_free(&ask, now);
    pool.begin_pass();
    let is_ready = matches!(pool.claim(&ask, now), Claim::Ready(_));
    pool.begin_pass();
    assert_eq!(is_free, is_ready, "is_free and claim agree");
    is_free
}

/// Takes a call, reports how it went and releases it. Says who served it, and what was absorbed.
fn call(pool: &mut Pool, model: &str, outcome: Outcome, now: Timestamp) -> (String, Absorbed) {
    let pick = take(pool, model, now);
    let alias = pool.alias(&pick).to_string();
    let absorbed = pool.report(&pick, &outcome, now, &mut no_jitter());
    pool.release(pick, Settlement::AsReserved, now);
    (alias, absorbed)
}

/// The aliases that serve so many calls, one after the other.
fn served(pool: &mut Pool, calls: usize, now: Timestamp) -> Vec<String> {
    let one = |_| call(pool, OPUS, Outcome::SUCCESS, now).0;
    (0..calls).map(one).collect()
}

/// Whether `lane` comes first in the order of choice among those that can serve `ask`.
fn is_first_choice(pool: &Pool, lane: u32, ask: &Ask, now: Timestamp) -> bool {
    let view = pool.models.get(ask.model).view;
    let merit = |lane: u32| {
        let lane = &pool.lanes[lane as usize];
        match pool.strategy {
            Strategy::MostHeadroom => lane.headroom(now),
            strategy => u64::MAX - lane.turn_of(strategy),
        }
    };
    let lanes = pool.views[view].tiers.iter().flat_map(|tier| &tier.lanes);
    let able = lanes.filter(|&&lane| pool.can_serve(lane, view, &ask.cost, now));
    able.map(|&lane| merit(lane)).max() == Some(merit(lane))
}

fn told(pool: &mut Pool) -> Vec<Transition> {
    std::iter::from_fn(|| pool.next_transition()).collect()
}

const fn verdict(verdict: Verdict) -> Outcome {
    Outcome::new(verdict)
}

fn throttled(seconds: u64) -> Outcome {
    verdict(Verdict::Throttled).after(secs(seconds))
}

fn rest_of(pool: &Pool, scope: usize, now: Timestamp) -> Option<Timestamp> {
    let snapshot = pool.snapshot(now);
    snapshot[scope]
        .classes()
        .iter()
        .find_map(ClassSnapshot::rests_until)
}
