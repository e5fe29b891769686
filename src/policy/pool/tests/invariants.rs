use proptest::{prelude::*, strategy::Strategy as Generate};

use super::{Strategy, *};
use crate::policy::Unit;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Call(usize, u64),
    Report(usize, usize, u64),
    Release(usize, usize),
    Switch(usize, usize),
    Reload(usize),
}

const MODELS: [&str; 3] = ["opus-1", "opus-2", "haiku"];
const VERDICTS: [Verdict; 9] = [
    Verdict::Success,
    Verdict::Throttled,
    Verdict::RampLimit,
    Verdict::Exhausted,
    Verdict::KeyRejected,
    Verdict::ModelDenied,
    Verdict::Region,
    Verdict::Overloaded,
    Verdict::Cancelled,
];
const STRATEGIES: [Strategy; 5] = [
    Strategy::MostHeadroom,
    Strategy::RoundRobin,
    Strategy::Weighted,
    Strategy::LeastInFlight,
    Strategy::LeastRecentlyUsed,
];

fn step() -> impl Generate<Value = Step> {
    prop_oneof![
        3 => (0..3_000_u64).prop_map(Step::Wait),
        6 => (0..3_usize, 1..400_u64).prop_map(|(model, cost)| Step::Call(model, cost)),
        4 => (any::<usize>(), 0..9_usize, 0..40_u64)
            .prop_map(|(pick, verdict, hint)| Step::Report(pick, verdict, hint)),
        4 => (any::<usize>(), 0..4_usize).prop_map(|(pick, how)| Step::Release(pick, how)),
        1 => (0..6_usize, 0..4_usize).prop_map(|(key, how)| Step::Switch(key, how)),
        1 => (0..3_usize).prop_map(Step::Reload),
    ]
}

/// Three scopes, the last with other quotas or none, or missing.
fn variant(variant: usize, strategy: Strategy) -> PoolConfig {
    let quota = |tokens: u64, calls: usize| {
        let quota = Quota::builder()
            .requests_per_second(3)
            .input_tokens_per_minute(tokens)
            .burst(Unit::INPUT_TOKENS, tokens / 10)
            .max_in_flight(calls);
        quota.build().expect("valid")
    };
    let mut scopes = scopes(&[2, 2, 2]);
    let last = scopes.pop().expect("three");
    let mut scopes: Vec<_> = scopes
        .into_iter()
        .map(|scope| {
            scope
                .quota_for(["opus-*"], quota(5_000, 4))
                .quota(quota(2_000, 3))
        })
        .collect();
    match variant {
        0 => scopes.push(last.quota(quota(3_000, 5))),
        1 => scopes.push(last),
        _ => {}
    }
    let builder = scopes
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    let builder = builder
        .strategy(strategy)
        .reprobe_rejected(secs(5))
        .exhausted_rest(secs(9));
    builder.build().expect("valid")
}

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
        KeyState::Usable | KeyState::OnTrial => true,
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

proptest! {
    #[test]
    fn only_what_may_serve_is_picked_and_everything_comes_back(
        strategy in 0..5_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let strategy = STRATEGIES[strategy];
        let mut pool = Pool::new(&variant(0, strategy), T0);
        let mut now = T0;
        let mut picks: Vec<Pick> = Vec::new();
        let mut bits = 1_u64;
        for step in steps {
            let before = pool.snapshot(now);
            match step {
                Step::Wait(time) => now = now + millis(time),
                Step::Call(model, tokens) => {
                    let model_id = pool.resolve(Some(MODELS[model]));
                    let ask = Ask::new(model_id, Cost::REQUEST.input_tokens(tokens));
                    let is_free = pool.is_free(&ask, now);
                    pool.begin_pass();
                    let claim = pool.claim(&ask, now);
                    let is_ready = matches!(claim, Claim::Ready(_));
                    prop_assert!(is_ready || !is_free);
                    match claim {
                        Claim::Ready(since) => {
                            prop_assert!(since <= now);
                            let pick = pool.take(&ask, since.max(now.before(millis(2))), now);
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
                            let is_exact = expected == at;
                            let depends_on_calls = expected == now && !picks.is_empty();
                            prop_assert!(is_exact || depends_on_calls, "{:?}", expected);
                        }
                        Claim::OnRelease => prop_assert!(!picks.is_empty()),
                        Claim::Nothing => prop_assert!(false, "it is the first"),
                        Claim::Never(why) => {
                            prop_assert_eq!(pool.expect(&ask, now), Err(why));
                        }
                    }
                }
                Step::Report(pick, verdict, hint) if !picks.is_empty() => {
                    let pick = &picks[pick % picks.len()];
                    bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let outcome = Outcome::new(VERDICTS[verdict]).after(secs(hint));
                    let _ = pool.report(pick, &outcome, now, &mut Bits(bits));
                    for (old, new) in before.iter().zip(pool.snapshot(now)) {
                        for (old, new) in old.classes().iter().zip(new.classes()) {
                            prop_assert!(new.rests_until() >= old.rests_until(), "rests only extend");
                        }
                    }
                }
                Step::Release(pick, how) if !picks.is_empty() => {
                    let pick = picks.swap_remove(pick % picks.len());
                    let settlement = match how {
                        0 => Settlement::Unsent,
                        1 => Settlement::AsReserved,
                        2 => Settlement::Used(Cost::REQUEST),
                        _ => {
                            let _ = pool.undo(pick, now);
                            continue;
                        }
                    };
                    pool.release(pick, settlement, now);
                }
                Step::Switch(key, how) => {
                    let alias = ["a1", "a2", "b1", "b2", "c1", "c2"][key];
                    let _ = match how {
                        0 => pool.enable(alias, now),
                        1 => pool.disable(alias, now),
                        2 => pool.drain(alias, now),
                        _ => pool.reopen(&alias[..1], now),
                    };
                }
                Step::Reload(which) => {
                    let _ = pool.apply(&variant(which, strategy), now);
                }
                Step::Report(..) | Step::Release(..) => {}
            }
            let in_flight: usize = pool.scopes.iter().map(|scope| scope.in_flight).sum();
            prop_assert_eq!(in_flight, picks.len());
            let in_flight: usize = pool.keys.iter().map(|key| key.in_flight).sum();
            prop_assert_eq!(in_flight, picks.len());
        }
        for pick in picks.drain(..) {
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
