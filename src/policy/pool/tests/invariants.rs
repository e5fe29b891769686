use proptest::prelude::*;

use super::{
    world::{MODELS, Step, World, steps, strategies},
    *,
};

/// What a picked key and its scope must be like just before.
fn may_be_picked(before: &[ScopeSnapshot], alias: &str, model: &str, now: Timestamp) -> bool {
    let mut found = before
        .iter()
        .flat_map(|s| s.keys().iter().map(move |key| (s, key)));
    let Some((scope, key)) = found.find(|(_, key)| key.alias() == alias) else {
        return false;
    };
    let class = scope.classes().iter().find(|class| {
        let mut patterns = class.models();
        patterns.any(|pattern| model.starts_with(pattern.trim_end_matches('*')))
    });
    let default = scope
        .classes()
        .iter()
        .find(|class| class.models().count() == 0);
    let class = class.or(default).expect("there is a default class");
    let is_key_usable = match key.state() {
        KeyState::Usable | KeyState::OnTrial | KeyState::HalfOpen => true,
        KeyState::BreakerOpen(at) => at <= now,
        KeyState::Rejected(at) => at.is_some_and(|at| at <= now),
        _ => false,
    };
    let is_scope_open = match scope.state() {
        ScopeState::Open => true,
        ScopeState::Exhausted(until) => until <= now,
        _ => false,
    };
    is_key_usable
        && is_scope_open
        && key.denied().all(|denied| denied != model)
        && class.rests_until().is_none()
        && class.remaining().iter().all(|&(_, left)| left > 0)
}

/// How many can be chosen, wait for a release or are claimed, in each tier.
fn kinds(pool: &Pool) -> Vec<(usize, usize, usize)> {
    let tiers = pool.views.iter().flat_map(|view| &view.tiers);
    let kinds = tiers.map(|tier| {
        let ordered = tier.ready.len() + tier.waiting.len();
        (ordered, tier.full.len(), tier.claimed)
    });
    kinds.collect()
}

/// This pool with everything where it belongs.
fn placed(pool: &Pool, now: Timestamp) -> Pool {
    let mut pool = pool.clone();
    for lane in 0..pool.lanes.len() as u32 {
        pool.place(lane, now);
    }
    pool
}

proptest! {
    #[test]
    fn only_what_may_serve_is_picked_and_everything_comes_back(
        strategy in strategies(),
        steps in steps(),
    ) {
        let mut world = World::new(strategy);
        for step in steps {
            let before = world.pool.snapshot(world.now);
            match step {
                Step::Call(model, tokens) => {
                    let ask = world.ask(model, tokens);
                    let World { pool, now, picks, .. } = &mut world;
                    let now = *now;
                    let is_free = pool.is_free(&ask, now);
                    pool.begin_pass();
                    let claim = pool.claim(&ask, now);
                    let is_ready = matches!(claim, Claim::Ready(_));
                    prop_assert!(is_ready || !is_free);
                    match claim {
                        Claim::Ready(since) => {
                            prop_assert!(since <= now);
                            prop_assert_eq!(pool.expect(&ask, now), Ok(now));
                            let before_pick = pool.clone();
                            let pick = pool.take(&ask, since.max(now.before(millis(2))), now);
                            prop_assert!(is_first_choice(&before_pick, pick.lane, &ask, now));
                            let alias = pool.alias(&pick).to_string();
                            prop_assert!(
                                may_be_picked(&before, &alias, MODELS[model], now),
                                "{} for {} in {:?}", alias, MODELS[model], before
                            );
                            picks.push(pick);
                        }
                        Claim::At(at) => {
                            prop_assert!(at > now);
                            // It is right: then, or never before, the call is served.
                            let mut later = pool.clone();
                            later.begin_pass();
                            prop_assert!(matches!(later.claim(&ask, at), Claim::Ready(_)));
                            let mut early = pool.clone();
                            early.begin_pass();
                            let claim = early.claim(&ask, at.before(Duration::from_nanos(1)));
                            prop_assert_eq!(claim, Claim::At(at));
                            let expected = pool.expect(&ask, now).expect("it will be served");
                            let depends_on_calls = expected < at && !picks.is_empty();
                            prop_assert!(expected == at || depends_on_calls, "{:?}", expected);
                        }
                        Claim::OnRelease => prop_assert!(!picks.is_empty()),
                        Claim::Nothing => prop_assert!(false, "it is the first"),
                        Claim::Never(why) => {
                            prop_assert_eq!(pool.expect(&ask, now), Err(why));
                        }
                    }
                }
                Step::Report(..) => {
                    world.act(step);
                    for (old, new) in before.iter().zip(world.pool.snapshot(world.now)) {
                        for (old, new) in old.classes().iter().zip(new.classes()) {
                            prop_assert!(new.rests_until() >= old.rests_until(), "rests only extend");
                        }
                    }
                }
                _ => world.act(step),
            }
            prop_assert_eq!(kinds(&world.pool), kinds(&placed(&world.pool, world.now)));
            let in_flight: usize = world.pool.scopes.iter().map(|scope| scope.in_flight).sum();
            prop_assert_eq!(in_flight, world.picks.len());
            let in_flight: usize = world.pool.keys.iter().map(|key| key.in_flight).sum();
            prop_assert_eq!(in_flight, world.picks.len());
        }
        let World { mut pool, now, picks, .. } = world;
        for pick in picks {
            pool.release(pick, Settlement::AsReserved, now);
        }
        prop_assert!(pool.lanes.iter().all(|lane| lane.in_flight == 0));
        let scopes = pool.snapshot(now);
        prop_assert!(scopes.iter().all(|scope| scope.in_flight() == 0));
        // Whatever happened, everything can be made to serve again.
        for scope in &scopes {
            let _ = pool.reopen(scope.name(), now);
            for key in scope.keys() {
                let _ = pool.enable(key.alias(), now);
            }
        }
        let later = now + secs(600);
        for model in MODELS {
            let model = pool.resolve(Some(model));
            let ask = Ask::new(model, Cost::REQUEST.input_tokens(1));
            prop_assert!(pool.is_free(&ask, later));
        }
    }

    #[test]
    fn keys_of_one_scope_never_get_more_than_its_quota(
        waits in prop::collection::vec(0..3_000_u64, 1..100),
    ) {
        let quota = Quota::builder().requests_per_second(2).slack(Duration::ZERO).build();
        let mut pool = pool([scopes(&[3]).remove(0).quota(quota.expect("valid"))]);
        let mut sent = Vec::new();
        let mut now = T0;
        for wait in waits {
            now = now + millis(wait);
            let ask = ask(&mut pool, OPUS);
            if pool.is_free(&ask, now) {
                let pick = pool.take(&ask, now, now);
                sent.push((now, pool.alias(&pick).to_string()));
                pool.release(pick, Settlement::AsReserved, now);
            }
        }
        for pair in sent.windows(2) {
            prop_assert!(pair[1].0.since(pair[0].0) >= millis(500));
            prop_assert!(pair[0].1 != pair[1].1, "keys take turns");
        }
    }
}
