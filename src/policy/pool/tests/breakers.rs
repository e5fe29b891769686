//! A key that fails while others do well is left alone, and nobody else is.

use super::*;
use crate::policy::breaker::{BreakerConfig, Mode};

/// Chance that does not repeat itself.
struct Dice(u64);

impl Dice {
    fn percent(&mut self) -> u64 {
        self.next_u64() % 100
    }
}

impl Rng for Dice {
    fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const FAULT: Outcome = verdict(Verdict::ServerFault);

fn state(pool: &Pool, alias: &str, now: Timestamp) -> KeyState {
    let scopes = pool.snapshot(now);
    let mut keys = scopes.iter().flat_map(|scope| scope.keys());
    let key = keys.find(|key| key.alias() == alias);
    key.expect("it is in the pool").state()
}

/// One call every 100 ms; `fails` says how often, in percent, by the alias. Says who was called.
fn run(
    pool: &mut Pool,
    calls: u64,
    now: &mut Timestamp,
    mut fails: impl FnMut(&str) -> u64,
) -> Vec<String> {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut seen = Vec::new();
    for _ in 0..calls {
        *now = *now + millis(100);
        let pick = take(pool, OPUS, *now);
        let alias = pool.alias(&pick).to_string();
        let outcome = if dice.percent() < fails(&alias) {
            FAULT
        } else {
            Outcome::SUCCESS
        };
        let _ = pool.report(&pick, &outcome, *now, &mut no_jitter());
        pool.release(pick, Settlement::AsReserved, *now);
        seen.push(alias);
    }
    seen
}

fn calls_with(alias: &str, seen: &[String]) -> usize {
    seen.iter().filter(|of| *of == alias).count()
}

/// Opens the breaker of `alias`.
fn trip(pool: &mut Pool, alias: &str, now: &mut Timestamp) -> Timestamp {
    for _ in 0..1_000 {
        run(pool, 1, now, |of| if of == alias { 100 } else { 0 });
        if let KeyState::BreakerOpen(until) = state(pool, alias, *now) {
            return until;
        }
    }
    panic!("it does not open");
}

/// How the scopes may be laid out: a key each, or all in one.
fn layouts() -> [Vec<ScopeConfig>; 2] {
    let four = (1..=4).map(|n| ScopeConfig::new(format!("s{n}")).key(format!("k{n}")));
    let one = (1..=4).fold(ScopeConfig::new("s"), |s, n| s.key(format!("k{n}")));
    [four.collect(), vec![one]]
}

#[test]
fn a_key_that_fails_while_others_succeed_is_rested_and_comes_back_through_probes() {
    for layout in layouts() {
        let (mut pool, mut now) = (pool(layout), T0);
        let sick = |alias: &str| if alias == "k2" { 30 } else { 0 };
        let seen = run(&mut pool, 200, &mut now, sick);
        let first = told(&mut pool);
        let opened = |told: &Transition| matches!(told, Transition::BreakerOpened { alias, .. } if &**alias == "k2");
        assert!(first.iter().any(opened), "{first:?}");
        // In turn it would have had 50; it had the 20 that it takes and few more.
        let calls = calls_with("k2", &seen);
        assert!((20..=40).contains(&calls), "{calls}");
        // While it is sick it has a small part of the calls, and others serve all the rest.
        let seen = run(&mut pool, 6_000, &mut now, sick);
        let calls = calls_with("k2", &seen);
        assert!((10..=150).contains(&calls), "{calls} of 6,000");
        let again: Vec<_> = told(&mut pool).into_iter().filter(opened).collect();
        assert!(again.len() >= 3, "{again:?}");
        // Healed, it comes back and has its turn again.
        run(&mut pool, 4_000, &mut now, |_| 0);
        assert_eq!(state(&pool, "k2", now), KeyState::Usable);
        let alias = "k2".into();
        assert!(told(&mut pool).contains(&Transition::BreakerClosed { alias }));
        let seen = run(&mut pool, 400, &mut now, |_| 0);
        assert_eq!(calls_with("k2", &seen), 100);
    }
}

#[test]
fn the_time_open_grows_while_it_is_sick() {
    let (mut pool, mut now) = (pool(layouts()[0].clone()), T0);
    let until = trip(&mut pool, "k1", &mut now);
    assert_eq!(until.since(now), secs(5));
    for expected in [10, 20, 40, 80, 160, 300, 300] {
        now = until_of(&pool, now);
        let before = now;
        // Until a probe has failed.
        let mut tries = 0;
        loop {
            run(
                &mut pool,
                1,
                &mut now,
                |of| if of == "k1" { 100 } else { 0 },
            );
            match state(&pool, "k1", now) {
                KeyState::BreakerOpen(until) if until > now => {
                    assert_eq!(until.since(now), secs(expected));
                    break;
                }
                _ => tries += 1,
            }
            // Ten calls with others must succeed again after the pause.
            assert!(tries < 100, "since {:?}", now.since(before));
        }
    }
}

fn until_of(pool: &Pool, now: Timestamp) -> Timestamp {
    match state(pool, "k1", now) {
        KeyState::BreakerOpen(until) => until,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_outage_of_all_keys_takes_none_out_whatever_its_depth() {
    for layout in layouts() {
        for depth in [10, 30, 50, 80, 100] {
            let (mut pool, mut now) = (pool(layout.clone()), T0);
            run(&mut pool, 400, &mut now, |_| 0);
            let seen = run(&mut pool, 4_000, &mut now, |_| depth);
            assert_eq!(told(&mut pool), [], "{depth} %");
            for key in ["k1", "k2", "k3", "k4"] {
                assert_eq!(state(&pool, key, now), KeyState::Usable);
                assert!((990..=1_010).contains(&calls_with(key, &seen)));
            }
        }
    }
}

#[test]
fn an_outage_that_one_key_meets_first_takes_it_not_out() {
    let (mut pool, mut now) = (pool(layouts()[0].clone()), T0);
    run(&mut pool, 400, &mut now, |_| 0);
    // All calls in flight fail at once: two of each key, in turn.
    let picks: Vec<_> = (0..400).map(|_| take(&mut pool, OPUS, now)).collect();
    for pick in picks {
        let _ = pool.report(&pick, &FAULT, now, &mut no_jitter());
        pool.release(pick, Settlement::AsReserved, now);
    }
    assert_eq!(told(&mut pool), []);
    // What hangs fails long after the last success of anybody.
    let (mut pool, mut now) = (super::pool(layouts()[0].clone()), T0);
    run(&mut pool, 400, &mut now, |_| 0);
    let picks: Vec<_> = (0..400).map(|_| take(&mut pool, OPUS, now)).collect();
    now = now + secs(31);
    for pick in &picks {
        if &**pool.alias(pick) == "k1" {
            let _ = pool.report(pick, &FAULT, now, &mut no_jitter());
        }
    }
    assert_eq!(told(&mut pool), []);
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);
    picks
        .into_iter()
        .for_each(|pick| pool.release(pick, Settlement::AsReserved, now));
}

#[test]
fn an_outage_takes_a_half_open_key_not_out_again() {
    let (mut pool, mut now) = (pool(layouts()[0].clone()), T0);
    let until = trip(&mut pool, "k1", &mut now);
    let _ = told(&mut pool);
    // The outage begins while it is open.
    run(&mut pool, 20, &mut now, |_| 100);
    now = now.max(until);
    let seen = run(&mut pool, 400, &mut now, |_| 100);
    assert_eq!(state(&pool, "k1", now), KeyState::HalfOpen);
    assert_eq!(calls_with("k1", &seen), 100);
    assert_eq!(told(&mut pool), []);
}

#[test]
fn limits_and_what_has_a_cause_of_its_own_neither_open_nor_close_nor_count() {
    let (mut pool, mut now) = (pool(layouts()[0].clone()), T0);
    for neutral in [
        Verdict::CallerFault,
        Verdict::Cancelled,
        Verdict::RefusedLocally,
        Verdict::ModelDenied,
    ] {
        for _ in 0..200 {
            now = now + millis(10);
            let pick = pool.resolve(None);
            let pick = pool
                .try_take(&Ask::new(pick, Cost::REQUEST), now)
                .expect("free");
            let outcome = match &**pool.alias(&pick) {
                "k1" => verdict(neutral),
                _ => Outcome::SUCCESS,
            };
            let _ = pool.report(&pick, &outcome, now, &mut no_jitter());
            pool.release(pick, Settlement::AsReserved, now);
        }
        assert_eq!(told(&mut pool), [], "{neutral:?}");
    }
    // A throttled probe is no probe that failed, and none that succeeded.
    let until = trip(&mut pool, "k1", &mut now);
    now = now.max(until);
    let _ = told(&mut pool);
    for _ in 0..4 {
        now = now + secs(2);
        let (alias, _) = loop {
            let pick = take(&mut pool, OPUS, now);
            let alias = pool.alias(&pick).to_string();
            let outcome = match &*alias {
                "k1" => throttled(1),
                _ => Outcome::SUCCESS,
            };
            let absorbed = pool.report(&pick, &outcome, now, &mut no_jitter());
            pool.release(pick, Settlement::AsReserved, now);
            if alias == "k1" {
                break (alias, absorbed);
            }
        };
        assert_eq!(
            (&*alias, state(&pool, "k1", now)),
            ("k1", KeyState::HalfOpen)
        );
    }
}

#[test]
fn with_one_key_nothing_is_ever_opened() {
    let (mut pool, mut now) = (pool(scopes(&[1])), T0);
    run(&mut pool, 400, &mut now, |_| 0);
    run(&mut pool, 2_000, &mut now, |_| 60);
    assert_eq!(told(&mut pool), []);
    assert_eq!(state(&pool, "a1", now), KeyState::Usable);
}

#[test]
fn the_last_usable_key_is_never_taken_out() {
    // k1 is sick; the others do well, but are gone before it would open.
    let (mut pool, mut now) = (pool(layouts()[0].clone()), T0);
    let sick = |of: &str| if of == "k1" { 100 } else { 0 };
    run(&mut pool, 76, &mut now, sick);
    assert_eq!(told(&mut pool), [], "one failure is missing");
    for key in ["k2", "k3", "k4"] {
        pool.disable(key, now).expect("known");
    }
    let _ = run(&mut pool, 40, &mut now, sick);
    assert_eq!(told(&mut pool), []);
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);

    // Open already, it is let in as soon as the last other one goes, whatever takes it out.
    for how in 0..5 {
        let (mut pool, mut now) = (super::pool(layouts()[0][..2].to_vec()), T0);
        trip(&mut pool, "k1", &mut now);
        let _ = told(&mut pool);
        let mut ends = |outcome| {
            let (alias, _) = call(&mut pool, OPUS, verdict(outcome), now);
            assert_eq!(alias, "k2");
        };
        match how {
            0 => ends(Verdict::KeyRejected),
            1 => ends(Verdict::ModelDenied),
            2 => ends(Verdict::Region),
            3 => ends(Verdict::Exhausted),
            _ => pool.drain("k2", now).expect("known"),
        }
        let alias = "k1".into();
        assert!(
            told(&mut pool).contains(&Transition::BreakerClosed { alias }),
            "way {how}"
        );
        assert_eq!(state(&pool, "k1", now), KeyState::Usable);
        assert_eq!(served(&mut pool, 3, now), ["k1"; 3]);
    }
}

#[test]
fn the_only_key_of_a_model_stays_though_others_serve_other_models() {
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    let only = Verdict::ModelDenied;
    while call(&mut pool, "rare", verdict(only), now).0 != "k2" {
        pool.enable("k1", now).expect("known");
    }
    let _ = told(&mut pool);
    run(
        &mut pool,
        400,
        &mut now,
        |of| if of == "k1" { 100 } else { 0 },
    );
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);
    pool.enable("k2", now).expect("known");
    run(
        &mut pool,
        400,
        &mut now,
        |of| if of == "k1" { 100 } else { 0 },
    );
    assert!(matches!(state(&pool, "k1", now), KeyState::BreakerOpen(_)));
}

#[test]
fn probes_are_bounded_and_give_their_places_back_however_they_end() {
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    now = trip(&mut pool, "k1", &mut now);
    // Its breaker has three places; the others are k2's.
    let hold = |pool: &mut Pool, now| {
        let picks: Vec<_> = (0..40).map(|_| take(pool, OPUS, now)).collect();
        let probes = picks
            .into_iter()
            .partition(|pick| &**pool.alias(pick) == "k1");
        let (probes, rest): (Vec<_>, Vec<_>) = probes;
        for pick in rest {
            pool.release(pick, Settlement::AsReserved, now);
        }
        probes
    };
    let probes = hold(&mut pool, now);
    assert_eq!(probes.len(), 3);
    assert_eq!(hold(&mut pool, now).len(), 0);
    assert_eq!(state(&pool, "k1", now), KeyState::HalfOpen);
    // Cancelled, never sent, or answered by a limit: the place is free again.
    for pick in probes {
        let _ = pool.undo(pick, now);
    }
    let mut probes = hold(&mut pool, now);
    assert_eq!(probes.len(), 3);
    pool.release(probes.remove(0), Settlement::AsReserved, now);
    let again = hold(&mut pool, now);
    assert_eq!(again.len(), 1);
    // What is never heard of loses its place with the lease of 30 s, and is not heard later.
    assert_eq!(hold(&mut pool, now + secs(29)).len(), 0);
    let later = now + secs(30);
    let fresh = hold(&mut pool, later);
    assert_eq!(fresh.len(), 3);
    for old in probes.into_iter().chain(again) {
        let _ = pool.report(&old, &FAULT, later, &mut no_jitter());
        pool.release(old, Settlement::AsReserved, later);
    }
    assert_eq!(state(&pool, "k1", later), KeyState::HalfOpen);
    assert_eq!(hold(&mut pool, later).len(), 0, "the old ones had no place");
    for pick in fresh {
        assert!(pick.awaits(Verdict::Success), "a probe is told at its head");
        let _ = pool.report(&pick, &Outcome::SUCCESS, later, &mut no_jitter());
        pool.release(pick, Settlement::AsReserved, later);
    }
    assert_eq!(hold(&mut pool, later).len(), 3);
}

#[test]
fn who_waits_for_an_open_key_waits_for_the_soonest() {
    // k2's scope rests for longer than k1's breaker is open.
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    let until = trip(&mut pool, "k1", &mut now);
    let (alias, absorbed) = call(&mut pool, OPUS, throttled(60), now);
    assert_eq!((&*alias, absorbed), ("k2", Absorbed::Again(until)));
    let waiter = ask(&mut pool, OPUS);
    assert_eq!(pool.claim(&waiter, now), Claim::At(until));
    pool.begin_pass();
    assert!(!is_free(
        &mut pool,
        OPUS,
        until.before(Duration::from_nanos(1))
    ));
    assert!(is_free(&mut pool, OPUS, until));
    // Three probes serve; then a release or a lease must open it.
    let probes: Vec<_> = (0..3).map(|_| take(&mut pool, OPUS, until)).collect();
    let lease = until + secs(30);
    assert_eq!(pool.claim(&waiter, until), Claim::At(lease));
    pool.begin_pass();
    assert_eq!(pool.expect(&waiter, until), Ok(until));
    for pick in probes {
        pool.release(pick, Settlement::AsReserved, until);
    }
    assert!(is_free(&mut pool, OPUS, until));
}

#[test]
fn enabling_or_another_configuration_forgets_and_a_reload_keeps_what_a_breaker_knows() {
    let layout = || layouts()[0][..2].to_vec();
    let (mut pool, mut now) = (pool(layout()), T0);
    let until = trip(&mut pool, "k1", &mut now);
    assert_eq!(pool.apply(&config(layout()), now), []);
    assert_eq!(state(&pool, "k1", now), KeyState::BreakerOpen(until));
    assert_eq!(served(&mut pool, 2, now), ["k2"; 2]);
    let probe = loop {
        let pick = take(&mut pool, OPUS, until);
        if &**pool.alias(&pick) == "k1" {
            break pick;
        }
        pool.release(pick, Settlement::AsReserved, until);
    };
    assert_eq!(pool.apply(&config(layout()), until), []);
    assert_eq!(state(&pool, "k1", until), KeyState::HalfOpen);
    pool.enable("k1", until).expect("known");
    assert_eq!(state(&pool, "k1", until), KeyState::Usable);
    // A probe from before says nothing any more.
    let _ = pool.report(&probe, &FAULT, until, &mut no_jitter());
    pool.release(probe, Settlement::AsReserved, until);
    assert_eq!(state(&pool, "k1", until), KeyState::Usable);

    now = until;
    trip(&mut pool, "k1", &mut now);
    let off = layout()
        .into_iter()
        .fold(PoolConfig::builder().no_breaker(), PoolConfigBuilder::scope);
    assert_eq!(pool.apply(&off.build().expect("valid"), now), []);
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);
    let _ = told(&mut pool);
    run(
        &mut pool,
        400,
        &mut now,
        |of| if of == "k1" { 100 } else { 0 },
    );
    assert_eq!(told(&mut pool), [], "without breakers");
}

#[test]
fn a_rejected_key_is_rejected_and_no_longer_open() {
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    // A call from before is refused while the breaker is open.
    let early = loop {
        let pick = take(&mut pool, OPUS, now);
        if &**pool.alias(&pick) == "k1" {
            break pick;
        }
        pool.release(pick, Settlement::AsReserved, now);
    };
    let until = trip(&mut pool, "k1", &mut now);
    let rejected = verdict(Verdict::KeyRejected);
    let _ = pool.report(&early, &rejected, now, &mut no_jitter());
    assert_eq!(state(&pool, "k1", now), KeyState::Rejected(None));
    pool.release(early, Settlement::AsReserved, now);
    assert_eq!(served(&mut pool, 3, until), ["k2"; 3]);
    pool.enable("k1", until).expect("known");
    assert_eq!(state(&pool, "k1", until), KeyState::Usable);
}

#[test]
fn a_breaker_of_another_mode_is_refused_and_a_ramp_has_no_part() {
    let build = |breaker: BreakerConfig| {
        let builder = PoolConfig::builder().scope(scopes(&[2]).remove(0));
        builder.breaker(breaker).build()
    };
    let forced = PoolConfig::key_breaker().mode(Mode::ForcedOpen).build();
    let error = build(forced.expect("valid")).expect_err("it would refuse all");
    assert_eq!(error.field(), "breaker.mode");
    let ramp = |ramp| {
        let breaker = PoolConfig::key_breaker().ramp(ramp).build();
        build(breaker.expect("valid")).expect("valid")
    };
    assert_eq!(ramp(secs(9)), ramp(Duration::ZERO));
    assert_eq!(ramp(secs(9)), config(scopes(&[2]).into_iter().take(1)));
}

#[test]
fn a_check_brings_back_and_takes_out_without_a_place_or_a_total() {
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    let check = |pool: &mut Pool, outcome, now| {
        let check = pool.check("k1").expect("known").expect("in use");
        pool.checked(check, &outcome, now, &mut no_jitter());
    };
    check(&mut pool, verdict(Verdict::KeyRejected), now);
    assert_eq!(state(&pool, "k1", now), KeyState::Rejected(None));
    check(&mut pool, verdict(Verdict::KeyRejected), now);
    check(&mut pool, FAULT, now);
    assert_eq!(state(&pool, "k1", now), KeyState::Rejected(None));
    check(&mut pool, Outcome::SUCCESS, now);
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);

    // Credit: what was asked before it was spent does not find it back.
    let early = pool.check("k1").expect("known").expect("in use");
    check(&mut pool, verdict(Verdict::Exhausted), now);
    pool.checked(early, &Outcome::SUCCESS, now, &mut no_jitter());
    let until = now + PoolConfig::EXHAUSTED_REST;
    assert_eq!(pool.snapshot(now)[0].state(), ScopeState::Exhausted(until));
    check(&mut pool, Outcome::SUCCESS, now);
    assert_eq!(pool.snapshot(now)[0].state(), ScopeState::Open);

    // A throttle's rest is the server's word, and stays.
    check(&mut pool, throttled(20), now);
    check(&mut pool, Outcome::SUCCESS, now);
    assert_eq!(rest_of(&pool, 0, now), Some(now + secs(20)));
    now = now + secs(20);

    // An open breaker lets probes pass at once.
    let until = trip(&mut pool, "k1", &mut now);
    assert!(until > now + secs(4));
    check(&mut pool, FAULT, now);
    assert_eq!(state(&pool, "k1", now), KeyState::BreakerOpen(until));
    check(&mut pool, Outcome::SUCCESS, now);
    assert_eq!(state(&pool, "k1", now), KeyState::HalfOpen);
    let seen = run(&mut pool, 40, &mut now, |_| 0);
    assert_eq!(calls_with("k1", &seen), 20);
    assert_eq!(state(&pool, "k1", now), KeyState::Usable);
    let rejections = pool.snapshot(now)[0].totals().get(Verdict::KeyRejected);
    assert_eq!((rejections, pool.scopes[0].in_flight), (0, 0));

    // What is out by somebody's word is not asked, and a word from before decides nothing.
    let early = pool.check("k1").expect("known").expect("in use");
    pool.disable("k1", now).expect("known");
    pool.checked(early, &Outcome::SUCCESS, now, &mut no_jitter());
    assert_eq!(state(&pool, "k1", now), KeyState::Disabled);
    assert!(pool.check("k1").expect("known").is_none());
    assert!(pool.check("nobody").is_err());
}

#[test]
fn a_key_that_draws_all_calls_by_failing_fast_is_found_out() {
    // k1 fails at once and so always has the fewest calls in flight; the other is slow.
    let mut pool = with_strategy(Strategy::LeastInFlight, layouts()[0][..2].to_vec());
    let (mut now, mut slow) = (T0, std::collections::VecDeque::new());
    for call in 0..400_u64 {
        now = now + millis(10);
        let pick = take(&mut pool, OPUS, now);
        if &**pool.alias(&pick) == "k2" {
            slow.push_back(pick);
        } else {
            let _ = pool.report(&pick, &FAULT, now, &mut no_jitter());
            pool.release(pick, Settlement::AsReserved, now);
        }
        let due = if call % 8 == 0 {
            slow.pop_front()
        } else {
            None
        };
        if let Some(pick) = due {
            let _ = pool.report(&pick, &Outcome::SUCCESS, now, &mut no_jitter());
            pool.release(pick, Settlement::AsReserved, now);
        }
    }
    assert!(matches!(state(&pool, "k1", now), KeyState::BreakerOpen(_)));
    slow.into_iter()
        .for_each(|pick| pool.release(pick, Settlement::AsReserved, now));
}

#[test]
fn old_successes_of_others_speak_for_nobody_though_a_new_one_follows() {
    let (mut pool, mut now) = (pool(layouts()[0][..2].to_vec()), T0);
    pool.disable("k1", now).expect("known");
    run(&mut pool, 9, &mut now, |_| 0);
    pool.enable("k1", now).expect("known");
    now = now + secs(31);
    // k2's tenth success; nine are old.
    while run(
        &mut pool,
        1,
        &mut now,
        |of| if of == "k1" { 100 } else { 0 },
    ) != ["k2"]
    {}
    assert!(!pool.ends.do_others_well(pool.aliases["k1"], now));
    let fails = |of: &str| if of == "k1" { 100 } else { 0 };
    run(&mut pool, 18, &mut now, fails);
    assert!(pool.ends.do_others_well(pool.aliases["k1"], now));
}

#[test]
fn a_breaker_adds_little_to_a_key() {
    assert!(size_of::<crate::policy::breaker::Breaker>() <= 128);
    assert!(size_of::<state::Key>() <= 360);
    assert!(size_of::<Pick>() <= 256, "{}", size_of::<Pick>());
}

#[test]
fn a_check_of_a_key_that_is_gone_says_nothing_of_the_one_in_its_place() {
    let (mut pool, now) = (pool(scopes(&[1, 1])), T0);
    for verdict in [Verdict::KeyRejected, Verdict::Exhausted, Verdict::Region] {
        let check = pool.check("a1").expect("known").expect("it is in use");
        let number = check.key();
        let gone = [ScopeConfig::new("c").key("c1"), scopes(&[0, 1])[1].clone()];
        pool.apply(&config(gone), now);
        let newcomer = pool.check("c1").expect("known").expect("it is in use");
        assert_eq!(newcomer.key(), number, "places are used again");
        pool.checked(check, &Outcome::new(verdict), now, &mut no_jitter());
        assert_eq!(state(&pool, "c1", now), KeyState::Usable, "{verdict:?}");
        assert_eq!(served(&mut pool, 2, now), ["c1", "b1"], "{verdict:?}");
        pool.apply(&config(scopes(&[1, 1])), now);
    }
}
