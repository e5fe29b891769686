//! Sessions: where they go, that they stay, and who waits for what.

mod extremes;
mod history;
mod removal;

use super::*;
use crate::policy::Unit;

/// Scopes `a`, `b` and so on of a quota each, with affinity.
fn affine(keys: &[usize], quota: Option<&Quota>, affinity: Affinity) -> PoolConfig {
    let scopes = scopes(keys).into_iter().map(|scope| match quota {
        Some(quota) => scope.quota(quota.clone()),
        None => scope,
    });
    let builder = scopes.fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    builder.affinity(affinity).build().expect("it is valid")
}

fn bursty(requests: u64) -> Quota {
    let quota = Quota::builder().requests_per_minute(requests);
    let quota = quota.burst(Unit::REQUESTS, requests).build();
    quota.expect("it is valid")
}

fn of(pool: &mut Pool, session: u64, now: Timestamp) -> Ask {
    let any = ask(pool, OPUS);
    pool.prefer(any, session, now)
}

/// The key that a call of this session gets at once.
fn key_of(pool: &mut Pool, session: u64, now: Timestamp) -> String {
    let ask = of(pool, session, now);
    let pick = pool.try_take(&ask, now).expect("it is free");
    let alias = pool.alias(&pick).to_string();
    pool.release(pick, Settlement::AsReserved, now);
    alias
}

fn keys_of(pool: &mut Pool, sessions: u64, now: Timestamp) -> Vec<String> {
    (0..sessions)
        .map(|session| key_of(pool, session, now))
        .collect()
}

#[test]
fn a_session_stays_with_its_key_and_another_process_chooses_the_same() {
    let config = affine(&[3, 3, 3, 3], None, Affinity::new());
    let (mut one, mut other) = (Pool::new(&config, T0), Pool::new(&config, T0));
    let first = keys_of(&mut one, 40, T0);
    let mut backwards: Vec<_> = (0..40).rev().map(|n| key_of(&mut other, n, T0)).collect();
    backwards.reverse();
    assert_eq!(first, backwards);
    for _ in 0..10 {
        assert_eq!(keys_of(&mut one, 40, T0 + secs(20)), first);
    }
    let different: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(different.len() > 8, "{different:?}");
}

#[test]
fn what_hashing_names_is_the_same_in_every_release() {
    let mut pool = Pool::new(&affine(&[2, 2, 2], None, Affinity::new()), T0);
    let keys = keys_of(&mut pool, 8, T0);
    assert_eq!(keys, NAMED);
}

const NAMED: [&str; 8] = ["b2", "b2", "a1", "a2", "a2", "b1", "c2", "c1"];

#[test]
fn sessions_are_spread_in_proportion_to_quotas() {
    let [small, large] = [1_000, 3_000].map(bursty);
    let [a, b] = <[_; 2]>::try_from(scopes(&[1, 1])).expect("two");
    let config = PoolConfig::builder()
        .scope(a.quota(small))
        .scope(b.quota(large));
    let config = config.affinity(Affinity::new().sessions(10_000)).build();
    let mut pool = Pool::new(&config.expect("valid"), T0);
    let sessions = 4_000;
    let at_a = (0..sessions).filter(|&session| {
        let ask = of(&mut pool, session, T0);
        let place = ask.preference.expect("there is one").place;
        &*pool.scopes[pool.lanes[place.lane as usize].scope as usize].name == "a"
    });
    let at_a = at_a.count();
    assert!((900..1_100).contains(&at_a), "{at_a} of {sessions}");
}

#[test]
fn a_removed_scope_or_key_moves_its_own_sessions_and_no_others() {
    let quota = bursty(60_000);
    let all = affine(&[3, 3, 3, 3, 3], Some(&quota), Affinity::new());
    let few = affine(&[3, 3, 3, 3], Some(&quota), Affinity::new());
    let mut pool = Pool::new(&all, T0);
    let before = keys_of(&mut pool, 500, T0);
    pool.disable("b2", T0).expect("it is there");
    let _ = pool.apply(&few, T0);
    let after = keys_of(&mut pool, 500, T0);
    for (before, after) in before.iter().zip(&after) {
        match &**before {
            "b2" => assert!(
                after.starts_with('b') && after != "b2",
                "to another of its scope"
            ),
            key if key.starts_with('e') => assert!(!after.starts_with('e')),
            key => assert_eq!(key, after),
        }
    }
    // What comes back takes nobody away from where they are.
    let _ = pool.apply(&all, T0);
    pool.enable("b2", T0).expect("it is there");
    assert_eq!(keys_of(&mut pool, 500, T0), after);
    // New sessions find it.
    let new: Vec<_> = (500..1_000)
        .map(|session| key_of(&mut pool, session, T0))
        .collect();
    assert!(new.iter().any(|key| key.starts_with('e')));
    assert!(new.iter().any(|key| key == "b2"));
}

#[test]
fn a_rest_of_a_minute_lends_sessions_out_and_one_for_good_gives_them_away() {
    let mut pool = Pool::new(
        &affine(&[1, 1, 1], Some(&bursty(60_000)), Affinity::new()),
        T0,
    );
    let before = keys_of(&mut pool, 60, T0);
    let ask = of(
        &mut pool,
        before.iter().position(|key| key == "a1").expect("some") as u64,
        T0,
    );
    let pick = pool.try_take(&ask, T0).expect("it is free");
    let refused = Outcome::new(Verdict::Throttled).after(secs(60));
    let _ = pool.report(&pick, &refused, T0, &mut no_jitter());
    pool.release(pick, Settlement::AsReserved, T0);

    let meanwhile = keys_of(&mut pool, 60, T0 + secs(10));
    assert_eq!(
        keys_of(&mut pool, 60, T0 + secs(50)),
        meanwhile,
        "guests stay, too"
    );
    for (home, key) in before.iter().zip(&meanwhile) {
        assert_eq!(home == key, home != "a1");
    }
    assert_eq!(
        keys_of(&mut pool, 60, T0 + secs(61)),
        before,
        "they come back"
    );

    pool.disable("a1", T0).expect("it is there");
    let gone = keys_of(&mut pool, 60, T0 + secs(62));
    pool.enable("a1", T0).expect("it is there");
    assert_eq!(
        keys_of(&mut pool, 60, T0 + secs(70)),
        gone,
        "their caches are there now"
    );
}

/// The largest load over the mean, where so many sessions call in turn for a time.
fn unevenness(pool: &mut Pool, calls: impl Fn(u64) -> u64, minutes: u64) -> f64 {
    let mut keys = std::collections::HashMap::<String, u64>::new();
    for n in 0..minutes * 6_000 {
        let now = T0 + millis(n * 10);
        let key = key_of(pool, calls(n), now);
        if n > minutes * 3_000 {
            *keys.entry(key).or_default() += 1;
        }
    }
    let most = *keys.values().max().expect("some") as f64;
    most * pool.aliases.len() as f64 / keys.values().sum::<u64>() as f64
}

#[test]
fn no_key_has_much_more_than_the_mean_load() {
    // Of 60 sessions a fifth have half of the calls.
    let calls = |n: u64| {
        if n % 2 == 0 {
            n / 2 % 12
        } else {
            12 + n / 2 % 48
        }
    };
    let quota = bursty(6_000);
    let mut by_hash = 0.0_f64;
    for keys in [&[1; 8][..], &[3, 3]] {
        let mut pool = Pool::new(&affine(keys, Some(&quota), Affinity::new()), T0);
        let bounded = unevenness(&mut pool, calls, 4);
        assert!(bounded <= 1.25, "{bounded}");
        let loose = Affinity::new().load_per_mille(100_000);
        let mut pool = Pool::new(&affine(keys, Some(&quota), loose), T0);
        by_hash = by_hash.max(unevenness(&mut pool, calls, 4));
    }
    assert!(by_hash > 1.25, "hashing alone is no better: {by_hash}");
}

#[test]
fn a_scope_with_little_left_takes_no_new_session_but_keeps_its_own() {
    let hour = Quota::builder().rate(Unit::REQUESTS, 1_000, secs(3_600));
    let hour = hour.burst(Unit::REQUESTS, 1_000).build().expect("valid");
    let affinity = Affinity::new().load_per_mille(100_000);
    let mut pool = Pool::new(&affine(&[1, 1], Some(&hour), affinity), T0);
    let own = (0..)
        .find(|&session| key_of(&mut pool, session, T0) == "a1")
        .expect("some");
    for _ in 0..940 {
        assert_eq!(key_of(&mut pool, own, T0), "a1");
    }
    assert!((1_000..1_040).all(|session| key_of(&mut pool, session, T0) == "b1"));
    assert_eq!(key_of(&mut pool, own, T0), "a1");
    // Where all have little left, hashing decides again.
    let at_b = (1_000..)
        .find(|&session| key_of(&mut pool, session, T0) == "b1")
        .expect("some");
    for _ in 0..890 {
        assert_eq!(key_of(&mut pool, at_b, T0), "b1");
    }
    let new: Vec<_> = (2_000..2_020)
        .map(|session| key_of(&mut pool, session, T0))
        .collect();
    assert!(new.iter().any(|key| key == "a1") && new.iter().any(|key| key == "b1"));
}

/// Two sessions with homes at two scopes that serve a call in 100 ms each.
fn two_paced() -> (Pool, [u64; 2]) {
    let mut pool = Pool::new(
        &affine(&[1, 1], Some(&per_minute(600)), Affinity::new()),
        T0,
    );
    let mut home = |alias: &str| {
        let mut sessions = 0..;
        let session = sessions.find(|&session| {
            let ask = of(&mut pool, session, T0);
            let lane = ask.preference.expect("one").place.lane;
            alias.starts_with(&*pool.scopes[pool.lanes[lane as usize].scope as usize].name)
        });
        session.expect("some")
    };
    let homes = [home("a1"), home("b1")];
    (pool, homes)
}

#[test]
fn a_call_waits_for_its_scope_while_the_line_is_short_and_others_serve_it_if_not() {
    let (mut pool, [a, b]) = two_paced();
    assert_eq!(key_of(&mut pool, a, T0), "a1");
    let next = of(&mut pool, a, T0);
    assert!(!pool.is_free(&next, T0) && pool.try_take(&next, T0).is_none());
    let mut waiting = Vec::new();
    let mut join = |pool: &mut Pool, ask: Ask| {
        pool.joined(&ask);
        waiting.push(ask);
    };
    // Ten calls are the second of patience.
    for _ in 0..9 {
        join(&mut pool, next);
    }
    pool.begin_pass();
    assert_eq!(pool.claim(&next, T0), Claim::At(T0 + millis(100)));
    assert_eq!(pool.claim(&next, T0), Claim::Nothing);
    join(&mut pool, next);
    join(&mut pool, next);
    pool.begin_pass();
    assert_eq!(pool.claim(&next, T0), Claim::Ready(T0), "the other is free");
    // But not where somebody waits for that.
    let other = of(&mut pool, b, T0);
    pool.joined(&other);
    pool.begin_pass();
    assert_eq!(pool.claim(&next, T0), Claim::At(T0 + millis(100)));
    assert_eq!(pool.claim(&other, T0), Claim::Ready(T0));
    pool.left(&other);
    // Who prefers nothing has the turn that it has.
    let any = ask(&mut pool, OPUS);
    pool.begin_pass();
    assert!(matches!(pool.claim(&any, T0), Claim::Ready(_)));
    for ask in waiting {
        pool.left(&ask);
    }
    assert!(pool.lanes.iter().all(|lane| lane.lines.is_empty()));
}

#[test]
fn a_call_that_may_not_wait_takes_what_is_free() {
    let (mut pool, [a, _]) = two_paced();
    assert_eq!(key_of(&mut pool, a, T0), "a1");
    let mut next = of(&mut pool, a, T0);
    pool.hurry(&mut next, secs(2));
    assert!(pool.try_take(&next, T0).is_none());
    pool.hurry(&mut next, millis(1_999));
    assert!(pool.is_free(&next, T0));
    let pick = pool.try_take(&next, T0).expect("b is free");
    assert_eq!(&**pool.alias(&pick), "b1");
    pool.release(pick, Settlement::AsReserved, T0);
    // Served elsewhere for once, the session is where it was.
    assert_eq!(key_of(&mut pool, a, T0 + secs(1)), "a1");
}

#[test]
fn without_the_option_a_session_is_nothing() {
    let mut pool = pool(scopes(&[1, 1]));
    let any = ask(&mut pool, OPUS);
    assert_eq!(pool.prefer(any, 7, T0), any);
    assert_eq!(pool.sessions(), 0);
}

#[test]
fn a_reload_can_begin_change_and_end_it() {
    let with = |sessions| affine(&[1, 1], None, Affinity::new().sessions(sessions));
    let plain = scopes(&[1, 1])
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    let plain = plain.build().expect("valid");
    let mut pool = Pool::new(&plain, T0);
    let _ = pool.apply(&with(100), T0);
    let keys = keys_of(&mut pool, 80, T0);
    assert_eq!(pool.sessions(), 80);
    let _ = pool.apply(&with(90), T0);
    assert_eq!(keys_of(&mut pool, 80, T0), keys);
    let _ = pool.apply(&with(50), T0);
    assert_eq!(pool.sessions(), 0, "they are too many now");
    let _ = keys_of(&mut pool, 80, T0);
    assert_eq!(pool.sessions(), 50);
    let waiting = of(&mut pool, 1, T0);
    pool.joined(&waiting);
    let _ = pool.apply(&plain, T0);
    assert_eq!(pool.sessions(), 0);
    assert!(matches!(pool.claim(&waiting, T0), Claim::Ready(_)));
    pool.left(&waiting);
}

#[test]
fn garbage_is_refused_by_name() {
    let error = |affinity: Affinity| {
        let builder = PoolConfig::builder().scope(ScopeConfig::new("a").key("a1"));
        let error = builder.affinity(affinity).build().expect_err("it is wrong");
        error.field().to_owned()
    };
    let new = Affinity::new;
    for load in [0, 1_009, 100_001, u32::MAX] {
        assert_eq!(error(new().load_per_mille(load)), "affinity.load_per_mille");
    }
    assert_eq!(
        error(new().guard_per_mille(901)),
        "affinity.guard_per_mille"
    );
    for sessions in [0, usize::MAX] {
        assert_eq!(error(new().sessions(sessions)), "affinity.sessions");
    }
    assert_eq!(error(new().patience(secs(61))), "affinity.patience");
}
