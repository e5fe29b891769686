//! Histories of everything that can happen to a pool.

use proptest::{prelude::*, strategy::Strategy as Generate};

use super::{Strategy, *};
use crate::policy::Unit;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    Call(usize, u64),
    Report(usize, usize, u64),
    Release(usize, usize),
    Switch(usize, usize),
    Reload(usize),
    Trip(usize),
    Check(usize),
    Checked(usize, usize),
}

pub(super) const MODELS: [&str; 3] = ["opus-1", "opus-2", "haiku"];
pub(super) const VERDICTS: [Verdict; 9] = [
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
        1 => (0..5_usize).prop_map(Step::Reload),
        1 => (0..6_usize).prop_map(Step::Trip),
        1 => (0..6_usize).prop_map(Step::Check),
        1 => (any::<usize>(), 0..9_usize).prop_map(|(check, verdict)| Step::Checked(check, verdict)),
    ]
}

pub(super) fn steps() -> impl Generate<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..120)
}

pub(super) fn strategies() -> impl Generate<Value = Strategy> {
    prop::sample::select(&STRATEGIES[..])
}

/// Three scopes, the last with other quotas or none, or missing with one key moved elsewhere and
/// the others' classes changed. The first is there without breakers too.
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
        0 | 4 => scopes.push(last.quota(quota(3_000, 5))),
        1 => scopes.push(last),
        2 => {}
        _ => {
            let [a, b] = <[_; 2]>::try_from(super::scopes(&[2, 1])).expect("two");
            let a = a.quota_for(["opus-1"], quota(4_000, 2));
            scopes = vec![b.quota(quota(2_000, 3)).key("c1"), a];
        }
    }
    let builder = scopes
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    let builder = builder
        .strategy(strategy)
        .reprobe_rejected(secs(5))
        .exhausted_rest(secs(9));
    let builder = match variant {
        4 => builder.no_breaker(),
        _ => builder,
    };
    builder.build().expect("valid")
}

const KEYS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];

/// A pool with the calls that it serves.
pub(super) struct World {
    strategy: Strategy,
    pub(super) pool: Pool,
    pub(super) now: Timestamp,
    pub(super) picks: Vec<Pick>,
    checks: Vec<Check>,
    bits: u64,
}

impl World {
    pub(super) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            pool: Pool::new(&variant(0, strategy), T0),
            now: T0,
            picks: Vec::new(),
            checks: Vec::new(),
            bits: 1,
        }
    }

    pub(super) fn after(strategy: Strategy, steps: Vec<Step>) -> Self {
        let mut world = Self::new(strategy);
        for step in steps {
            world.act(step);
        }
        world
    }

    pub(super) fn rng(&mut self) -> Bits {
        self.bits = self.bits.wrapping_mul(6_364_136_223_846_793_005);
        self.bits = self.bits.wrapping_add(1);
        Bits(self.bits)
    }

    pub(super) fn ask(&mut self, model: usize, tokens: u64) -> Ask {
        let model = self.pool.resolve(Some(MODELS[model]));
        Ask::new(model, Cost::REQUEST.input_tokens(tokens))
    }

    pub(super) fn act(&mut self, step: Step) {
        let mut rng = self.rng();
        match step {
            Step::Wait(time) => self.now = self.now + millis(time),
            Step::Call(model, tokens) => {
                let ask = self.ask(model, tokens);
                self.pool.begin_pass();
                if let Claim::Ready(since) = self.pool.claim(&ask, self.now) {
                    let pick = self.pool.take(&ask, since, self.now);
                    self.picks.push(pick);
                }
            }
            Step::Report(pick, verdict, hint) if !self.picks.is_empty() => {
                let pick = &self.picks[pick % self.picks.len()];
                let outcome = Outcome::new(VERDICTS[verdict]).after(secs(hint));
                let _ = self.pool.report(pick, &outcome, self.now, &mut rng);
            }
            Step::Release(pick, how) if !self.picks.is_empty() => {
                let pick = self.picks.swap_remove(pick % self.picks.len());
                let settlement = match how {
                    0 => Settlement::Unsent,
                    1 => Settlement::AsReserved,
                    2 => Settlement::Used(Cost::REQUEST),
                    _ => {
                        let _ = self.pool.undo(pick, self.now);
                        return;
                    }
                };
                self.pool.release(pick, settlement, self.now);
            }
            Step::Switch(key, how) => {
                let alias = KEYS[key];
                let _ = match how {
                    0 => self.pool.enable(alias, self.now),
                    1 => self.pool.disable(alias, self.now),
                    2 => self.pool.drain(alias, self.now),
                    _ => self.pool.reopen(&alias[..1], self.now),
                };
            }
            Step::Reload(which) => {
                let _ = self.pool.apply(&variant(which, self.strategy), self.now);
            }
            Step::Trip(key) if self.pool.breaker.is_some() => {
                self.pool.trip(KEYS[key], self.now, &mut rng);
            }
            Step::Check(key) => {
                let check = self.pool.check(KEYS[key]);
                self.checks.extend(check.ok().flatten());
            }
            Step::Checked(check, verdict) if !self.checks.is_empty() => {
                let check = self.checks.swap_remove(check % self.checks.len());
                let outcome = Outcome::new(VERDICTS[verdict]);
                self.pool.checked(check, &outcome, self.now, &mut rng);
            }
            Step::Report(..) | Step::Release(..) | Step::Checked(..) | Step::Trip(_) => {}
        }
    }
}
