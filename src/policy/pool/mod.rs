//! Which key serves a call, and when: scopes, their quotas, their keys, and the health of each.
//!
//! Providers meter accounts, not keys. A [`Pool`] therefore consists of **scopes**, each with
//! quotas per class of models and with **keys**, which are known here by their alias alone: no
//! secret ever enters. It says who serves a call now or when somebody will, and takes in how the
//! call went, so that what failed is left alone for as long as its cause lasts: a throttled class
//! rests, a scope without credit rests long and is then probed by one call, a rejected key is out,
//! a model that a key may not use is closed to that key. Nothing of the server's own faults is
//! held against a key, unless it fails while the others do well.
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{
//!     outcome::{Outcome, Verdict},
//!     policy::{Cost, Quota, Rng, Timestamp, pool::{Absorbed, Ask, Pool, PoolConfig, ScopeConfig, Settlement}},
//! };
//!
//! # struct Fixed;
//! # impl Rng for Fixed {
//! #     fn next_u64(&mut self) -> u64 { 0 }
//! # }
//! # let mut rng = Fixed;
//! let quota = Quota::builder().requests_per_minute(6_000).build()?;
//! let config = PoolConfig::builder()
//!     .scope(ScopeConfig::new("org-a").quota(quota.clone()).key("a1").key("a2"))
//!     .scope(ScopeConfig::new("org-b").quota(quota).key("b1"))
//!     .build()?;
//! let now = Timestamp::ZERO;
//! let mut pool = Pool::new(&config, now);
//!
//! let ask = Ask::new(pool.resolve(Some("claude-opus-4")), Cost::REQUEST);
//! assert!(pool.is_free(&ask, now));
//! let pick = pool.take(&ask, now, now);
//! assert_eq!(&**pool.alias(&pick), "a1");
//!
//! // The server refuses it for ten seconds: org-a rests, and org-b can serve the call at once.
//! let refused = Outcome::new(Verdict::Throttled).after(Duration::from_secs(10));
//! assert_eq!(pool.report(&pick, &refused, now, &mut rng), Absorbed::Again(now));
//! pool.release(pick, Settlement::AsReserved, now);
//! let pick = pool.take(&ask, now, now);
//! assert_eq!(&**pool.alias(&pick), "b1");
//! # pool.release(pick, Settlement::AsReserved, now);
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! With classes of models, weights and its own times:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::policy::{Quota, Timestamp, pool::{Pool, PoolConfig, ScopeConfig, Strategy}};
//!
//! let small = Quota::builder().requests_per_minute(50).max_in_flight(5).build()?;
//! let large = Quota::builder().requests_per_minute(4_000).build()?;
//! let scope = ScopeConfig::new("org-a")
//!     .quota_for(["claude-opus-*", "claude-fable-1"], small)
//!     .quota(large)
//!     .weighted_key("a1", 3)
//!     .weighted_key("a2", 1);
//! let config = PoolConfig::builder()
//!     .scope(scope)
//!     .strategy(Strategy::Weighted)
//!     .longest_rest(Duration::from_secs(60))
//!     .reprobe_rejected(Duration::from_secs(3_600))
//!     .build()?;
//! let mut pool = Pool::new(&config, Timestamp::ZERO);
//! pool.drain("a2", Timestamp::ZERO)?;
//! assert_eq!(pool.snapshot(Timestamp::ZERO)[0].classes().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who waits for what
//!
//! A queue drives the pool in passes over its waiters, in order of arrival. Each waiter
//! [claims](Pool::claim) the scope that serves it soonest, and later ones see the rest (who waits
//! for a key or for credit alone claims it for its own line, for others can use another key); the
//! waiters of one [line](Pool::line), which is one model, and one scope if they prefer it, can be served by the same keys, so a
//! line is closed by its first waiter that finds nothing. What is ready is [taken](Pool::take)
//! at once. Whoever is admitted holds one [`Pick`], which gives everything back exactly once.
//!
//! # A key that fails while others do well
//!
//! Faults and overload are the endpoint's, and in an outage no key is better than another. But
//! where one key fails and the others do not, the others can carry its load: each key has a
//! [breaker](crate::policy::breaker), whose failures are only those that came when the last ten
//! calls with *other* keys had all succeeded, none more than 30 s ago. It opens at 15 % of at least
//! 20 calls in 60 s and [can be set otherwise](PoolConfig::key_breaker), or
//! [left out](PoolConfigBuilder::no_breaker). An open one takes the key out of the choice; then calls
//! serve as probes, three at once with leases, and ten that succeed bring the key back. A key
//! without which calls of some model had nobody left is never taken out.
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::{
//!     outcome::{Outcome, Verdict},
//!     policy::{Cost, Rng, Timestamp, pool::{Ask, KeyState, Pool, PoolConfig, ScopeConfig, Settlement}},
//! };
//!
//! # struct Fixed;
//! # impl Rng for Fixed {
//! #     fn next_u64(&mut self) -> u64 { 0 }
//! # }
//! let scope = ScopeConfig::new("org-a").key("a1").key("a2");
//! let mut now = Timestamp::ZERO;
//! let mut pool = Pool::new(&PoolConfig::builder().scope(scope).build()?, now);
//! let ask = Ask::new(pool.resolve(None), Cost::REQUEST);
//! let mut calls_with_a1 = 0;
//! for _ in 0..200 {
//!     now = now + Duration::from_millis(10);
//!     let pick = pool.try_take(&ask, now).expect("no quota");
//!     let outcome = match &**pool.alias(&pick) {
//!         "a1" => {
//!             calls_with_a1 += 1;
//!             Outcome::new(Verdict::ServerFault)
//!         }
//!         _ => Outcome::SUCCESS,
//!     };
//!     let _ = pool.report(&pick, &outcome, now, &mut Fixed);
//!     pool.release(pick, Settlement::AsReserved, now);
//! }
//! // Ten before the others had ten successes, and the twenty that it takes.
//! assert!(calls_with_a1 <= 30);
//! let state = pool.snapshot(now)[0].keys()[0].state();
//! assert!(matches!(state, KeyState::BreakerOpen(_)));
//! # Ok::<(), tower_relay::policy::InvalidConfig>(())
//! ```
//!
//! # Sessions
//!
//! Providers keep prompts cached for minutes, for each account: a call is cheaper and quicker where the
//! last one of its session went. [`PoolConfigBuilder::affinity`] makes [preferred](Pool::prefer) calls
//! stay, within bounds; see [`Affinity`].
//!
//! # What it costs
//!
//! In each model's view of the pool, scopes of equal quotas stand in one of three heaps: those that
//! can serve, in the order of choice, and by the instant at which they can those that wait and
//! those that the end of a call must open first. Every change moves one scope, so a pick, a claim
//! and a report take steps that grow with the logarithm of the scopes; the keys of a scope take
//! turns in constant time, weighted ones in logarithmic. A pick also grows with the number of
//! *different* quotas among the scopes and of the patterns that are in one class of a scope; both
//! are small.
//!
//! Which of the scopes has most headroom is exact where all dimensions of the quota drain alike,
//! and among eight or fewer; otherwise it is the best of the first eight in the order in which
//! they will be full. One lock sees every choice, so choosing the best sends no herd to it, and
//! needs no chance, unlike the power of two choices of balancers that know the load only late.
//!
//! A call of a known session takes a constant number of steps more, the first of a session and one
//! that has to move as many as there are scopes, and keys in the scope.
//!
//! A scope waits in its heap for the cost of its last call, or for that of a larger one that found
//! it wanting. Of those that wait, the first eight are looked at for smaller calls; so where more
//! do, after large calls, small ones may find a scope later than they could, never too early.
//!
//! # Known limits
//!
//! - Where most keys fail at a time, whatever the reason, none of their breakers opens; nor where
//!   others have fewer than ten calls in half a minute, or where one key has nearly all calls.
//! - Keys of one pool are taken to share an endpoint. Those of a scope whose own endpoint is down
//!   are taken out one by one, if the other scopes do well: what is wanted, by another reason.
//! - Successes are reported when answers end, failures when they begin: where streams last minutes
//!   and the load grows quickly, a breaker sees the failures of the larger load first.
//! - A probe of credit or a trial of a key lasts until its call is reported or released: bound
//!   the time of calls elsewhere.
//! - The first denial of a model takes as many steps as there are scopes, and a reload as many as
//!   there are keys.
//! - A class whose quota names a burst comes back from a rest with what it has saved up meanwhile.
//! - Sessions of several processes are hashed alike, but each process sees its own loads alone.
//! - 256 names of models are told apart; see [`Pool::resolve`].

mod admit;
mod affinity;
mod breakers;
mod build;
mod check;
mod config;
mod control;
mod health;
mod heap;
mod models;
mod refusal;
mod ring;
mod select;
mod snapshot;
mod state;
mod structure;
#[cfg(test)]
mod tests;
mod view;
mod work;

pub use self::{
    admit::Settlement,
    affinity::Affinity,
    check::Check,
    config::{PoolConfig, PoolConfigBuilder, ScopeConfig, Strategy},
    control::Change,
    models::ModelId,
    refusal::{Absorbed, Claim, NobodyCanServe, Transition, UnknownName, Unservable, WhyNot},
    snapshot::{ClassSnapshot, KeySnapshot, KeyState, ScopeSnapshot, ScopeState},
    state::Totals,
    structure::{Ask, Pick, Pool},
};
