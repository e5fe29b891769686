//! Waiters, served as a queue serves them.

use proptest::{prelude::*, strategy::Strategy as Generate};

use super::{
    Strategy,
    world::{VERDICTS, strategies},
    *,
};
use crate::policy::Unit;

/// Who waits, in order of arrival, with when it was expected to be served.
struct Line {
    configs: [PoolConfig; 2],
    pool: Pool,
    now: Timestamp,
    waiters: Vec<(Ask, Timestamp)>,
    picks: Vec<Pick>,
}

impl Line {
    fn join(&mut self, ask: Ask) {
        if let Ok(expected) = self.pool.expect(&ask, self.now) {
            self.pool.joined(&ask);
            self.waiters.push((ask, expected));
        }
    }

    /// Serves all that can be served, and says when somebody is due if nothing else happens.
    fn settle(&mut self) -> Option<Timestamp> {
        loop {
            // Who is served may take the probe or trial that another had claimed before.
            let waiting = self.waiters.len();
            let due = self.pass();
            if self.waiters.len() == waiting {
                return due;
            }
        }
    }

    fn pass(&mut self) -> Option<Timestamp> {
        self.pool.begin_pass();
        let (mut due, mut closed, mut place) = (None, Vec::new(), 0);
        while let Some(&(ask, expected)) = self.waiters.get(place) {
            place += 1;
            if closed.contains(&self.pool.line(&ask)) {
                continue;
            }
            match self.pool.claim(&ask, self.now) {
                Claim::Ready(since) => {
                    assert!(since <= self.now);
                    assert!(
                        expected <= self.now,
                        "{ask:?} served at {:?}, expected at {expected:?}",
                        self.now
                    );
                    place -= 1;
                    self.waiters.remove(place);
                    self.pool.left(&ask);
                    let before = self.pool.clone();
                    let pick = self.pool.take(&ask, self.now, self.now);
                    let is_small = before.scopes.len() <= 8;
                    assert!(!is_small || is_first_choice(&before, pick.lane, &ask, self.now));
                    self.picks.push(pick);
                }
                Claim::At(at) => {
                    assert!(at > self.now);
                    due = Some(due.unwrap_or(at).min(at));
                }
                Claim::OnRelease => assert!(!self.picks.is_empty()),
                Claim::Nothing => closed.push(self.pool.line(&ask)),
                Claim::Never(_) => {
                    place -= 1;
                    self.waiters.remove(place);
                    self.pool.left(&ask);
                    self.pool.begin_pass();
                    (due, place) = (None, 0);
                    closed.clear();
                }
            }
        }
        due
    }

    fn end_call(&mut self, outcome: &Outcome) {
        let pick = self.picks.remove(0);
        let absorbed = self.pool.report(&pick, outcome, self.now, &mut no_jitter());
        self.pool.release(pick, Settlement::AsReserved, self.now);
        if let Absorbed::Again(at) = absorbed {
            assert!(at >= self.now);
        }
    }
}

impl Line {
    /// What an operator does. It may open what was out, so nobody is expected any more.
    fn meddle(&mut self, what: Meddling) {
        let Meddling { how, scope, key } = what;
        let scope = char::from(b'a' + scope).to_string();
        let alias = format!("{scope}{key}");
        // Not all names are those of this pool.
        let _ = match how {
            0 => self.pool.enable(&alias, self.now),
            1 => self.pool.disable(&alias, self.now),
            2 => self.pool.drain(&alias, self.now),
            3 => self.pool.reopen(&scope, self.now),
            how => {
                let _ = self.pool.apply(&self.configs[how - 4], self.now);
                Ok(())
            }
        };
        for (_, expected) in &mut self.waiters {
            *expected = T0;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Meddling {
    how: usize,
    scope: u8,
    key: u8,
}

fn meddling() -> impl Generate<Value = Option<Meddling>> {
    let one = (0..6_usize, 0..8_u8, 1..3_u8);
    prop::option::weighted(
        0.3,
        one.prop_map(|(how, scope, key)| Meddling { how, scope, key }),
    )
}

const MODELS: [&str; 3] = ["opus", "haiku", "sonnet"];

/// How calls end.
fn ends() -> impl Generate<Value = Vec<Outcome>> {
    let outcome = (prop::sample::select(&VERDICTS[..]), 0..3_u64)
        .prop_map(|(verdict, hint)| Outcome::new(verdict).after(secs(hint)));
    prop::collection::vec(outcome, 0..4)
}

/// Requests and tokens in a second, the burst of tokens, calls in flight: of a scope, and of a
/// class of it if there is one.
type Numbers = (u64, u64, u64, Option<usize>);

fn quota((requests, tokens, burst, calls): Numbers) -> Quota {
    let quota = Quota::builder()
        .requests_per_second(requests)
        .rate(Unit::INPUT_TOKENS, tokens, secs(1))
        .burst(Unit::INPUT_TOKENS, burst.max(tokens / 10));
    let quota = match calls {
        Some(calls) => quota.max_in_flight(calls),
        None => quota,
    };
    quota.build().expect("valid")
}

fn numbers() -> impl Generate<Value = Numbers> {
    (
        prop::sample::select(vec![1_u64, 3, 50]),
        prop::sample::select(vec![10_u64, 100, 1_000]),
        prop::sample::select(vec![30_u64, 200]),
        prop::option::weighted(0.3, 1..4_usize),
    )
}

type Numbered = [(Option<Numbers>, Option<Numbers>)];

fn config(strategy: Strategy, numbers: &Numbered, is_other: bool) -> PoolConfig {
    let mut scopes = scopes(&vec![2; numbers.len()]);
    if is_other {
        scopes.rotate_left(1);
    }
    let scopes = scopes
        .into_iter()
        .zip(numbers)
        .map(|(scope, (default, class))| {
            let scope = match default {
                Some(numbers) => scope.quota(quota(*numbers)),
                None => scope,
            };
            match class {
                Some(numbers) => scope.quota_for(["opus"], quota(*numbers)),
                None => scope,
            }
        });
    let builder = scopes.fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    let builder = builder
        .strategy(strategy)
        .reprobe_rejected(secs(2))
        .exhausted_rest(secs(3));
    builder.build().expect("valid")
}

fn line(strategy: Strategy, numbers: &Numbered) -> Line {
    let configs = [false, true].map(|is_other| config(strategy, numbers, is_other));
    Line {
        pool: Pool::new(&configs[0], T0),
        configs,
        now: T0,
        waiters: Vec::new(),
        picks: Vec::new(),
    }
}

/// When a call comes after the one before it, its model and tokens, how calls end before it, and
/// what an operator does.
type Arrival = (u64, usize, u64, Vec<Outcome>, Option<Meddling>);

fn arrivals(wait: u64, many: usize) -> impl Generate<Value = Vec<Arrival>> {
    let arrival = (0..wait, 0..3_usize, 0..30_u64, ends(), meddling());
    prop::collection::vec(arrival, 1..many)
}

/// Lets calls arrive and serves all. Says how often nobody was served who was due.
fn play(line: &mut Line, arrivals: Vec<Arrival>) -> usize {
    let (mut arrives, mut late) = (T0, 0);
    let mut arrivals = arrivals.into_iter().peekable();
    for _ in 0..10_000 {
        let due = line.settle();
        let is_next = |_: &Arrival| due.is_none_or(|due| arrives <= due);
        if let Some((wait, model, tokens, ends, meddling)) = arrivals.next_if(is_next) {
            line.now = line.now.max(arrives);
            for outcome in ends.iter().take(line.picks.len()) {
                line.end_call(outcome);
            }
            if let Some(meddling) = meddling {
                line.meddle(meddling);
            }
            let model = line.pool.resolve(Some(MODELS[model]));
            line.join(Ask::new(model, Cost::REQUEST.input_tokens(tokens)));
            arrives = arrives + millis(wait);
        } else if let Some(due) = due {
            line.now = due;
            let waiting = line.waiters.len();
            line.pass();
            late += usize::from(line.waiters.len() == waiting);
        } else if line.waiters.is_empty() {
            return late;
        } else {
            // All that is left depends on the end of calls.
            line.end_call(&Outcome::SUCCESS);
        }
    }
    panic!("somebody waits for ever: {:?}", line.waiters);
}

proptest! {
    #[test]
    fn whoever_waits_is_served_when_due_and_never_before_it_is_expected(
        strategy in strategies(),
        scopes in prop::collection::vec(
            (prop::option::weighted(0.9, numbers()), prop::option::weighted(0.5, numbers())),
            1..=8,
        ),
        arrivals in arrivals(600, 40),
    ) {
        let mut line = line(strategy, &scopes);
        prop_assert_eq!(play(&mut line, arrivals), 0, "somebody was due and not served");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn in_a_large_pool_too_nobody_is_served_before_it_is_expected_or_waits_for_ever(
        strategy in strategies(),
        numbers in numbers(),
        arrivals in arrivals(60, 100),
    ) {
        let mut line = line(strategy, &[(Some(numbers), None); 24]);
        let _ = play(&mut line, arrivals);
    }
}
