//! Whom the removal of a scope or key moves, in a pool that is busy.

use std::collections::BTreeMap;

use super::*;
use crate::policy::pool::affinity::{mix, turn};

/// Sessions of all sizes: the largest has a seventeenth of all calls.
const SESSIONS: u64 = 300;

/// After ten minutes of these, at 70 % of all quotas, by chance of this seed.
fn busy(keys: &[usize], seed: u64) -> (Pool, Timestamp) {
    let affinity = Affinity::new();
    let quota = bursty(2_400 / keys.len() as u64);
    let mut pool = Pool::new(&affine(keys, Some(&quota), affinity), T0);
    let mut now = T0;
    for call in 0..16_800 {
        let chance = |what| mix(mix(seed ^ what) ^ call) as f64 / u64::MAX as f64;
        now = now + Duration::from_secs_f64(-chance(1).max(1e-9).ln() / 28.0);
        let session = SESSIONS as f64 * chance(2).powi(2);
        let _ = key_of(&mut pool, session as u64, now);
    }
    (pool, now)
}

/// Where the next call of each session goes, if it is the only one.
fn next_keys(pool: &Pool, now: Timestamp) -> BTreeMap<u64, String> {
    let next = |session| (session, key_of(&mut pool.clone(), session, now));
    (0..SESSIONS).map(next).collect()
}

#[test]
fn in_a_busy_pool_the_next_call_of_no_other_session_is_moved_by_a_removal() {
    for (keys, seed) in [(&[1; 20][..], 1), (&[1; 20], 2), (&[3; 5], 3), (&[3; 5], 4)] {
        let (pool, now) = busy(keys, seed);
        let before = next_keys(&pool, now);
        let scopes = scopes(keys).into_iter().skip(1);
        let scopes = scopes.map(|scope| scope.quota(bursty(2_400 / keys.len() as u64)));
        let builder = scopes.fold(PoolConfig::builder(), PoolConfigBuilder::scope);
        let few = builder.affinity(Affinity::new()).build().expect("valid");
        let mut without_key = pool.clone();
        without_key.disable("a1", now).expect("it is there");
        let mut without_scope = pool;
        let _ = without_scope.apply(&few, now);
        let mut own = 0;
        for (session, key) in next_keys(&without_key, now) {
            if before[&session] == "a1" {
                own += 1;
                assert_ne!(key, "a1");
            } else {
                assert_eq!(before[&session], key, "{session} of {keys:?}");
            }
        }
        assert!(own > 0);
        for (session, key) in next_keys(&without_scope, now) {
            if before[&session].starts_with('a') {
                assert!(!key.starts_with('a'));
            } else {
                assert_eq!(before[&session], key, "{session} of {keys:?}");
            }
        }
    }
}

#[test]
fn a_session_brings_its_load_to_its_new_key() {
    let (mut pool, now) = busy(&[3; 5], 5);
    pool.disable("b1", now).expect("it is there");
    let _: Vec<_> = (0..SESSIONS)
        .map(|session| key_of(&mut pool, session, now))
        .collect();
    let turn = turn(now);
    for scope in &pool.scopes {
        let loads = scope
            .keys
            .iter()
            .map(|&key| pool.keys[key as usize].load.at(turn));
        let sum: u64 = loads.sum();
        let whole = scope.load.at(turn);
        assert!(sum.abs_diff(whole) <= whole / 1_000, "{sum} of {whole}");
    }
    // Those of the key that is gone are spread over its scope's others at once.
    let load = |alias: &str| {
        let key = pool.aliases[alias];
        pool.keys[key as usize].load.at(turn)
    };
    let [gone, two, three] = ["b1", "b2", "b3"].map(load);
    assert!(gone * 5 < two.min(three), "{gone} {two} {three}");
    assert!(two * 2 < three * 3 && three * 2 < two * 3, "{two} {three}");
}
