use super::*;
use crate::policy::{Reading, Readings, Unit};

fn two(quota: u64) -> Vec<ScopeConfig> {
    let scopes = scopes(&[2, 1]).into_iter();
    scopes.map(|scope| scope.quota(per_minute(quota))).collect()
}

#[test]
fn a_reload_keeps_the_state_of_what_is_unchanged() {
    let mut pool = pool(two(60));
    let _ = take(&mut pool, OPUS, T0);
    call(&mut pool, OPUS, throttled(100), T0);
    pool.disable("a2", T0).expect("known");
    assert_eq!(pool.apply(&config(two(60)), T0), []);
    assert_eq!(rest_of(&pool, 1, T0), Some(T0 + secs(100)));
    assert!(!is_free(&mut pool, OPUS, T0), "the quota stays spent");
    assert!(is_free(&mut pool, OPUS, T0 + secs(1)));
    let snapshot = pool.snapshot(T0);
    assert_eq!(snapshot[0].keys()[1].state(), KeyState::Disabled);
    assert_eq!(snapshot[0].in_flight(), 1);
    assert_eq!(snapshot[1].totals().get(Verdict::Throttled), 1);
}

#[test]
fn a_reload_says_what_it_changed() {
    let mut pool = pool(two(60));
    let new = [
        ScopeConfig::new("a")
            .quota(per_minute(120))
            .weighted_key("a1", 2)
            .key("a9"),
        ScopeConfig::new("c").key("c1").key("a2"),
    ];
    assert_eq!(
        pool.apply(&config(new.clone()), T0),
        [
            Change::KeyRemoved("b1".into()),
            Change::ScopeRemoved("b".into()),
            Change::ScopeChanged("a".into()),
            Change::ScopeAdded("c".into()),
            Change::KeyChanged("a1".into()),
            Change::KeyAdded("a9".into()),
            Change::KeyAdded("c1".into()),
            Change::KeyChanged("a2".into()),
        ]
    );
    assert_eq!(pool.apply(&config(new), T0), []);
    let names: Vec<_> = pool
        .snapshot(T0)
        .iter()
        .map(|scope| scope.name().to_owned())
        .collect();
    assert_eq!(names.len(), 2);
    let fewer = [
        ScopeConfig::new("a").key("a1"),
        ScopeConfig::new("c").key("c1").key("a2"),
    ];
    let changes = pool.apply(&config(fewer), T0);
    assert!(
        changes.contains(&Change::ScopeChanged("a".into())),
        "{changes:?}"
    );
}

#[test]
fn picks_of_what_was_removed_are_released_and_their_places_used_again() {
    let mut pool = pool(scopes(&[1, 1]));
    let (a, b) = (take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0));
    for round in 0..5 {
        let other = ScopeConfig::new(format!("x{round}")).key(format!("k{round}"));
        let _ = pool.apply(&config([other.quota_for(["x"], per_minute(1))]), T0);
    }
    let sizes = (pool.scopes.len(), pool.keys.len(), pool.lanes.len());
    let free = |pool: &Pool| {
        let free = [&pool.free_scopes, &pool.free_keys, &pool.free_lanes];
        free.map(Vec::len)
    };
    assert!(sizes.0 <= 4 && sizes.1 <= 4 && sizes.2 <= 6, "{sizes:?}");
    let gone = pool.report(&a, &verdict(Verdict::KeyRejected), T0, &mut no_jitter());
    assert_eq!(gone, Absorbed::Again(T0));
    let gone = pool.report(&b, &throttled(9), T0, &mut no_jitter());
    assert_eq!(gone, Absorbed::Again(T0));
    pool.release(a, Settlement::Unsent, T0);
    pool.release(b, Settlement::Used(Cost::REQUEST), T0);
    // One scope with one key and two classes is in use.
    assert_eq!(free(&pool), [sizes.0 - 1, sizes.1 - 1, sizes.2 - 2]);
    assert_eq!(served(&mut pool, 2, T0), ["k4", "k4"]);
    assert_eq!(free(&pool), [sizes.0 - 1, sizes.1 - 1, sizes.2 - 2]);
    for round in 0..20 {
        let other = ScopeConfig::new(format!("y{round}")).key(format!("l{round}"));
        let _ = pool.apply(&config([other]), T0);
        assert!(is_free(&mut pool, OPUS, T0));
    }
    assert_eq!(
        (pool.scopes.len(), pool.keys.len(), pool.lanes.len()),
        sizes
    );
}

#[test]
fn a_class_that_is_added_or_removed_is_a_change_of_the_scope() {
    let scope = || scopes(&[1]).remove(0).quota(per_minute(60));
    let mut pool = pool([scope()]);
    let changed = [Change::ScopeChanged("a".into())];
    let more = config([scope().quota_for(["opus"], per_minute(60))]);
    assert_eq!(pool.apply(&more, T0), changed);
    assert_eq!(pool.apply(&more, T0), []);
    assert_eq!(pool.apply(&config([scope()]), T0), changed);
}

#[test]
fn a_class_keeps_its_state_when_patterns_come_and_go() {
    let scope = |models: &[&str]| {
        let scope = scopes(&[1]).remove(0).quota(per_minute(6_000));
        scope.quota_for(models.iter().copied(), per_minute(60))
    };
    let mut pool = pool([scope(&["opus-4", "opus-5"])]);
    let _ = take(&mut pool, "opus-4", T0);
    let changed = [Change::ScopeChanged("a".into())];
    let more = config([scope(&["opus-6", "opus-5", "opus-4"])]);
    assert_eq!(pool.apply(&more, T0), changed);
    assert!(
        !is_free(&mut pool, "opus-6", T0 + millis(999)),
        "it is spent"
    );
    call(&mut pool, "opus-6", throttled(50), T0 + secs(1));
    assert_eq!(pool.apply(&config([scope(&["opus-5"])]), T0), changed);
    assert!(!is_free(&mut pool, "opus-5", T0 + secs(50)), "it rests");
    assert!(is_free(&mut pool, "opus-6", T0 + secs(1)));
    assert_eq!(pool.apply(&config([scope(&["opus-7"])]), T0), changed);
    assert!(is_free(&mut pool, "opus-7", T0), "nothing is known of it");
}

#[test]
fn a_class_that_is_gone_is_not_sent_to_rest() {
    let scope = |model| scopes(&[1]).remove(0).quota_for([model], per_minute(60));
    let mut pool = pool([scope("opus")]);
    let old = take(&mut pool, "opus", T0);
    let _ = pool.apply(&config([scope("sonnet")]), T0);
    let absorbed = pool.report(&old, &throttled(9), T0, &mut no_jitter());
    assert_eq!(absorbed, Absorbed::Again(T0));
    assert_eq!(told(&mut pool), []);
    pool.release(old, Settlement::AsReserved, T0);
}

#[test]
fn a_snapshot_counts_the_calls_in_flight_of_classes_and_keys() {
    let scope = scopes(&[2]).remove(0).quota_for(["opus"], per_minute(60));
    let mut pool = pool([scope]);
    let calls = ["haiku", "haiku", "opus", "haiku"];
    let mut picks: Vec<_> = calls.map(|model| take(&mut pool, model, T0)).into();
    let counts = |pool: &Pool| {
        let scope = &pool.snapshot(T0)[0];
        let classes: Vec<_> = scope
            .classes()
            .iter()
            .map(ClassSnapshot::in_flight)
            .collect();
        let keys: Vec<_> = scope.keys().iter().map(KeySnapshot::in_flight).collect();
        (scope.in_flight(), classes, keys)
    };
    assert_eq!(counts(&pool), (4, vec![1, 3], vec![2, 2]));
    let first = picks.remove(0);
    let _ = pool.report(&first, &throttled(10), T0, &mut no_jitter());
    pool.release(first, Settlement::AsReserved, T0);
    assert_eq!(counts(&pool), (3, vec![1, 2], vec![1, 2]));
    let rests = |now| rest_of(&pool, 0, now);
    assert_eq!(rests(T0 + millis(9_999)), Some(T0 + secs(10)));
    assert_eq!(rests(T0 + secs(10)), None);
    drop(picks);
}

#[test]
fn scopes_are_shown_in_the_order_of_the_configuration() {
    let named = |names: &[&str]| {
        let scope = |name: &&str| ScopeConfig::new(*name).key(format!("{name}1"));
        config(names.iter().map(scope))
    };
    let mut pool = Pool::new(&named(&["a", "b", "c"]), T0);
    let _ = pool.apply(&named(&["d", "c", "b", "e"]), T0);
    let snapshot = pool.snapshot(T0);
    let names: Vec<_> = snapshot.iter().map(ScopeSnapshot::name).collect();
    assert_eq!(names, ["d", "c", "b", "e"]);
    for name in names {
        pool.disable(&format!("{name}1"), T0).expect("known");
    }
    let ask = ask(&mut pool, OPUS);
    let Err(Unservable::Nobody(nobody)) = pool.expect(&ask, T0) else {
        panic!("all are disabled");
    };
    let aliases: Vec<_> = nobody.keys().map(|(alias, _)| alias).collect();
    assert_eq!(aliases, ["d1", "c1", "b1", "e1"]);
}

#[test]
fn a_reload_tries_rejected_keys_denied_models_and_refused_regions_again() {
    let mut pool = pool(scopes(&[2, 1]));
    let picks: Vec<_> = (0..4).map(|_| take(&mut pool, OPUS, T0)).collect();
    for pick in &picks {
        let bad = match &**pool.alias(pick) {
            "a1" => Verdict::KeyRejected,
            "a2" => Verdict::ModelDenied,
            _ => Verdict::Region,
        };
        let _ = pool.report(pick, &verdict(bad), T0, &mut no_jitter());
    }
    assert!(!is_free(&mut pool, OPUS, T0));
    let _ = pool.apply(&config(scopes(&[2, 1])), T0);
    let mut names = served(&mut pool, 4, T0);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["a1", "a2", "b1"]);
    for pick in &picks {
        for late in [Verdict::KeyRejected, Verdict::ModelDenied] {
            let _ = pool.report(pick, &verdict(late), T0, &mut no_jitter());
        }
        let late = pool.report(pick, &verdict(Verdict::Region), T0, &mut no_jitter());
        assert_eq!(late, Absorbed::Again(T0));
    }
    let keys: Vec<_> = pool
        .snapshot(T0)
        .iter()
        .flat_map(|s| s.keys().to_vec())
        .collect();
    assert!(keys.iter().all(|key| key.state() == KeyState::Usable));
    assert!(keys.iter().all(|key| key.denied().count() == 0));
    assert_eq!(pool.snapshot(T0)[1].state(), ScopeState::Open);
}

#[test]
fn a_late_rejection_does_not_take_an_enabled_key_out() {
    let mut pool = pool(scopes(&[1]));
    let old = take(&mut pool, OPUS, T0);
    pool.disable("a1", T0).expect("known");
    pool.enable("a1", T0).expect("known");
    for late in [Verdict::KeyRejected, Verdict::ModelDenied] {
        let absorbed = pool.report(&old, &verdict(late), T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Again(T0), "{late:?}");
    }
    assert!(is_free(&mut pool, OPUS, T0));
}

#[test]
fn a_probe_from_before_a_reload_that_lifts_a_region_gives_its_turn_back() {
    let mut pool = pool(scopes(&[1]));
    call(&mut pool, OPUS, verdict(Verdict::Exhausted), T0);
    let now = T0 + PoolConfig::EXHAUSTED_REST;
    let probe = take(&mut pool, OPUS, now);
    let _ = pool.report(&probe, &verdict(Verdict::Region), now, &mut no_jitter());
    let _ = pool.apply(&config(scopes(&[1])), now);
    assert!(!is_free(&mut pool, OPUS, now));
    pool.release(probe, Settlement::AsReserved, now);
    assert!(is_free(&mut pool, OPUS, now));
}

#[test]
fn a_late_throttle_does_not_rest_a_reopened_scope() {
    let mut pool = pool(scopes(&[1]));
    let old = take(&mut pool, OPUS, T0);
    call(&mut pool, OPUS, throttled(100), T0);
    pool.reopen("a", T0).expect("known");
    for late in [Verdict::Throttled, Verdict::Exhausted, Verdict::Region] {
        let absorbed = pool.report(&old, &verdict(late), T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Again(T0), "{late:?}");
    }
    let (first, second) = (take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0));
    drop((first, second));
}

#[test]
fn a_disabled_key_is_not_called_and_comes_back_when_enabled() {
    let mut pool = pool(scopes(&[2]));
    pool.disable("a1", T0).expect("known");
    pool.disable("a1", T0).expect("known");
    assert_eq!(served(&mut pool, 3, T0), ["a2"; 3]);
    pool.enable("a1", T0).expect("known");
    pool.enable("a1", T0).expect("known");
    let mut names = served(&mut pool, 2, T0);
    names.sort_unstable();
    assert_eq!(names, ["a1", "a2"]);
    let unknown = pool.disable("z9", T0).expect_err("there is no such key");
    assert_eq!(unknown.to_string(), "nothing in the pool is called `z9`");
    assert!(pool.enable("z9", T0).is_err() && pool.drain("z9", T0).is_err());
    assert!(pool.reopen("z", T0).is_err());
}

#[test]
fn a_draining_key_ends_its_calls_and_is_then_disabled() {
    let mut pool = pool(scopes(&[2]));
    let calls = [
        take(&mut pool, OPUS, T0),
        take(&mut pool, OPUS, T0),
        take(&mut pool, OPUS, T0),
    ];
    pool.drain("a1", T0).expect("known");
    pool.drain("a1", T0).expect("known");
    let state = |pool: &Pool| pool.snapshot(T0)[0].keys()[0].state();
    assert_eq!(state(&pool), KeyState::Draining);
    let mut left = Vec::new();
    for pick in calls {
        assert_eq!(served(&mut pool, 1, T0), ["a2"]);
        pool.release(pick, Settlement::AsReserved, T0);
        left.push(state(&pool));
    }
    assert_eq!(
        left,
        [KeyState::Draining, KeyState::Draining, KeyState::Disabled]
    );
    let drained = Transition::Drained { alias: "a1".into() };
    assert_eq!(told(&mut pool), [drained]);
    pool.drain("a2", T0).expect("known");
    assert_eq!(told(&mut pool).len(), 1, "idle keys are drained at once");
    pool.drain("a2", T0).expect("known");
    assert_eq!(told(&mut pool), [], "it is drained already");
    assert!(!is_free(&mut pool, OPUS, T0));
}

#[test]
fn settlements_reach_the_quota_of_the_scope() {
    let mut pool = pool([scopes(&[1]).remove(0).quota(per_minute(60))]);
    let unused = take(&mut pool, OPUS, T0);
    let ask = pool.undo(unused, T0);
    assert_eq!(ask.cost(), &Cost::REQUEST);
    assert!(is_free(&mut pool, OPUS, T0));
    for (settlement, free_at) in [
        (Settlement::Unsent, 0),
        (Settlement::AsReserved, 1),
        (Settlement::Used(Cost::ZERO.of(Unit::REQUESTS, 3)), 3),
    ] {
        let now = T0 + secs(1_000);
        let mut pool = pool.clone();
        let pick = take(&mut pool, OPUS, now);
        assert_eq!(pick.ask(), &ask);
        pool.release(pick, settlement, now);
        assert_eq!(pool.expect(&ask, now), Ok(now + secs(free_at)));
    }
}

#[test]
fn a_new_quota_takes_effect_with_calls_in_flight() {
    let quota = |calls| {
        Quota::builder()
            .max_in_flight(calls)
            .build()
            .expect("valid")
    };
    let scope = |calls| scopes(&[1]).remove(0).quota(quota(calls));
    let mut pool = pool([scope(1)]);
    let first = take(&mut pool, OPUS, T0);
    let _ = pool.apply(&config([scope(2)]), T0 + secs(1));
    let ask = ask(&mut pool, OPUS);
    pool.begin_pass();
    assert_eq!(pool.claim(&ask, T0 + secs(2)), Claim::Ready(T0 + secs(1)));
    let second = take(&mut pool, OPUS, T0 + secs(2));
    let _ = pool.apply(&config([scope(1)]), T0 + secs(3));
    pool.release(first, Settlement::AsReserved, T0 + secs(3));
    assert!(!is_free(&mut pool, OPUS, T0 + secs(3)));
    pool.release(second, Settlement::AsReserved, T0 + secs(4));
    assert!(is_free(&mut pool, OPUS, T0 + secs(4)));
}

#[test]
fn nothing_shows_more_of_a_key_than_its_alias() {
    let mut pool = pool(scopes(&[1]));
    let pick = take(&mut pool, OPUS, T0);
    assert_eq!((pick.key(), pick.scope()), (0, 0));
    let shown = format!("{pick:?} {pool:?}");
    assert!(shown.contains("a1"), "there is nothing else to show");
}

#[test]
fn a_reopened_scope_is_asked_again_whatever_the_server_has_shown() {
    let day = Duration::from_secs(86_400);
    let mut pool = pool([ScopeConfig::new("a").quota(Quota::learned()).key("a1")]);
    let pick = take(&mut pool, OPUS, T0);
    let spent = Reading::new(Unit::REQUESTS, day)
        .limit(1_000)
        .resets_in(day);
    pool.observe(&pick, &Readings::NONE.with(spent), T0);
    assert!(!is_free(&mut pool, OPUS, T0 + secs(60)));
    pool.reopen("a", T0 + secs(60)).expect("known");
    assert!(is_free(&mut pool, OPUS, T0 + secs(60)));
    // The answer to a call from before says nothing of now.
    pool.observe(&pick, &Readings::NONE.with(spent), T0 + secs(61));
    assert!(is_free(&mut pool, OPUS, T0 + secs(61)));
}
