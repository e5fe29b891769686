//! Who calls again as soon as the pool says that it may is never in a loop without end.

use proptest::prelude::*;

use super::{
    world::{VERDICTS, World, steps, strategies},
    *,
};

#[test]
fn a_denial_that_excludes_nothing_stands_as_it_is() {
    let mut pool = pool(scopes(&[2, 1]));
    for name in 0..256 {
        let _ = pool.resolve(Some(&format!("m{name}")));
    }
    for model in [None, Some("one too many")] {
        let ask = Ask::new(pool.resolve(model), Cost::REQUEST);
        let pick = pool.take(&ask, T0, T0);
        let absorbed = pool.report(&pick, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
        assert_eq!(absorbed, Absorbed::Nothing, "{model:?}");
        pool.release(pick, Settlement::AsReserved, T0);
    }
    assert_eq!(told(&mut pool), []);
    let pick = take(&mut pool, "m255", T0);
    let absorbed = pool.report(&pick, &verdict(Verdict::ModelDenied), T0, &mut no_jitter());
    assert_eq!(absorbed, Absorbed::Again(T0), "a name is denied to its key");
    assert_eq!(told(&mut pool).len(), 1);
    pool.release(pick, Settlement::AsReserved, T0);
}

#[test]
fn what_another_call_has_told_already_keeps_this_one_away_too() {
    for bad in [
        Verdict::Throttled,
        Verdict::RampLimit,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::Region,
    ] {
        let mut pool = pool(scopes(&[1]));
        let ask = ask(&mut pool, OPUS);
        let picks = [take(&mut pool, OPUS, T0), take(&mut pool, OPUS, T0)];
        let absorbed = [9, 5].map(|hint| {
            let pick = &picks[usize::from(hint == 5)];
            pool.report(pick, &verdict(bad).after(secs(hint)), T0, &mut no_jitter())
        });
        assert_eq!(absorbed[0], absorbed[1], "{bad:?}");
        pool.begin_pass();
        let expected = match &absorbed[0] {
            Absorbed::Again(at) => Claim::At(*at),
            Absorbed::Never(why) => Claim::Never(why.clone()),
            Absorbed::Nothing => panic!("{bad:?} is kept away from"),
        };
        assert_eq!(pool.claim(&ask, T0), expected, "{bad:?}");
    }
}

#[test]
fn who_is_refused_for_credit_while_a_probe_finds_out_waits_for_it() {
    let mut pool = pool(scopes(&[1]));
    let late = take(&mut pool, OPUS, T0);
    let ask = *late.ask();
    call(&mut pool, OPUS, verdict(Verdict::Exhausted), T0);
    let now = T0 + PoolConfig::EXHAUSTED_REST;
    let probe = take(&mut pool, OPUS, now);
    let absorbed = pool.report(&late, &verdict(Verdict::Exhausted), now, &mut no_jitter());
    assert_eq!(absorbed, Absorbed::Again(now), "nobody knows when it ends");
    pool.release(late, Settlement::AsReserved, now);
    pool.begin_pass();
    assert_eq!(pool.claim(&ask, now), Claim::OnRelease);
    pool.release(probe, Settlement::AsReserved, now);
}

/// What a call that always fails in the same way has come to.
#[derive(Debug, PartialEq)]
enum End {
    /// The failure stands.
    Stands,
    Never,
    /// Other calls must end first.
    Waits,
    /// It has come to this instant.
    At(Timestamp),
}

/// Calls again and again until the pool says no, or time has moved.
fn persist(pool: &mut Pool, ask: &Ask, outcome: &Outcome, now: Timestamp) -> End {
    let mut tried = Vec::new();
    loop {
        pool.begin_pass();
        match pool.claim(ask, now) {
            Claim::Ready(_) => {}
            Claim::At(at) => return End::At(at),
            Claim::OnRelease => return End::Waits,
            Claim::Never(_) => return End::Never,
            Claim::Nothing => panic!("it is the first"),
        }
        let pick = pool.take(ask, now, now);
        let alias = pool.alias(&pick).to_string();
        assert!(!tried.contains(&alias), "{alias} again, after {tried:?}");
        tried.push(alias);
        let absorbed = pool.report(&pick, outcome, now, &mut no_jitter());
        pool.release(pick, Settlement::AsReserved, now);
        match absorbed {
            Absorbed::Nothing => return End::Stands,
            Absorbed::Never(_) => return End::Never,
            Absorbed::Again(at) if at > now => {
                pool.begin_pass();
                let early = pool.claim(ask, at.before(Duration::from_nanos(1)));
                assert!(!matches!(early, Claim::Ready(_)), "served before {at:?}");
                return End::At(at);
            }
            Absorbed::Again(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn a_call_that_always_fails_tries_no_key_twice_at_one_instant(
        strategy in strategies(),
        steps in steps(),
        model in prop::option::of(prop::sample::select(&world::MODELS[..])),
        hint in 0..20_u64,
    ) {
        let mut world = World::after(strategy, steps);
        let ask = Ask::new(world.pool.resolve(model), Cost::REQUEST.input_tokens(9));
        for verdict in VERDICTS {
            let outcome = Outcome::new(verdict).after(secs(hint));
            let (mut pool, mut now) = (world.pool.clone(), world.now);
            for _ in 0..20 {
                match persist(&mut pool, &ask, &outcome, now) {
                    End::At(at) => {
                        prop_assert!(at > now, "{verdict:?}");
                        now = at;
                    }
                    End::Waits => {
                        prop_assert!(!world.picks.is_empty(), "{verdict:?}");
                        break;
                    }
                    End::Stands | End::Never => break,
                }
            }
        }
    }

    #[test]
    fn a_late_failure_is_tried_again_but_not_for_ever(
        strategy in strategies(),
        steps in steps(),
        hint in 0..20_u64,
    ) {
        let world = World::after(strategy, steps);
        for verdict in VERDICTS {
            let outcome = Outcome::new(verdict).after(secs(hint));
            let mut pool = world.pool.clone();
            // The picks are of all ages; what the first says is news to the others.
            for pick in &world.picks {
                let absorbed = pool.report(pick, &outcome, world.now, &mut no_jitter());
                if let Absorbed::Again(at) = absorbed {
                    let mut again = pool.clone();
                    let now = world.now.max(at);
                    let end = persist(&mut again, pick.ask(), &outcome, now);
                    if let End::At(at) = end {
                        prop_assert!(at > now, "{verdict:?}");
                    }
                }
            }
        }
    }
}
