//! Histories of sessions that wait, are served, and lose their scopes.

use proptest::{prelude::*, strategy::Strategy as Generate};

use super::{super::world::VERDICTS, *};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    /// A call of a session, of a model, of a size; of no session if that is 0.
    Call(u64, usize, u64),
    /// A caller in the queue goes away.
    Leave(usize),
    Report(usize, usize, u64),
    Release(usize),
    Switch(usize, usize),
    Reload(usize),
    /// A grant that was not picked up goes back to the queue.
    Recall(usize),
}

fn step() -> impl Generate<Value = Step> {
    prop_oneof![
        4 => (0..900_u64).prop_map(Step::Wait),
        12 => (0..12_u64, 0..2_usize, 1..80_u64)
            .prop_map(|(session, model, tokens)| Step::Call(session, model, tokens)),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => (any::<usize>(), 0..9_usize, 0..400_u64)
            .prop_map(|(pick, verdict, hint)| Step::Report(pick, verdict, hint)),
        6 => any::<usize>().prop_map(Step::Release),
        1 => (0..6_usize, 0..4_usize).prop_map(|(key, how)| Step::Switch(key, how)),
        1 => (0..4_usize).prop_map(Step::Reload),
        1 => any::<usize>().prop_map(Step::Recall),
    ]
}

const KEYS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "d1"];
const MOST: usize = 9;

fn config(which: usize) -> PoolConfig {
    let quota = |requests, calls| {
        let quota = Quota::builder()
            .requests_per_second(requests)
            .input_tokens_per_minute(requests * 2_400)
            .max_in_flight(calls);
        quota.build().expect("valid")
    };
    let mut scopes: Vec<_> = scopes(&[2, 2, 1, 1])
        .into_iter()
        .map(|scope| scope.quota_for(["opus-*"], quota(4, 3)).quota(quota(2, 2)))
        .collect();
    match which {
        0 => {}
        1 => drop(scopes.pop()),
        2 => drop(scopes.remove(0)),
        _ => {
            scopes[1] = ScopeConfig::new("b")
                .key("b1")
                .quota_for(["opus-1"], quota(9, 5))
        }
    }
    let builder = scopes
        .into_iter()
        .fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    let affinity = Affinity::new().sessions(MOST).patience(millis(700));
    let builder = builder.affinity(affinity).exhausted_rest(secs(30));
    builder.reprobe_rejected(secs(5)).build().expect("valid")
}

struct World {
    pool: Pool,
    now: Timestamp,
    waiters: Vec<(Ask, Timestamp)>,
    picks: Vec<Pick>,
}

impl World {
    /// Serves all that can be served, as a queue does.
    fn settle(&mut self) {
        self.pool.begin_pass();
        let (mut closed, mut place) = (Vec::new(), 0);
        while let Some(&(ask, _)) = self.waiters.get(place) {
            place += 1;
            let line = self.pool.line(&ask);
            assert!(line < self.pool.lines());
            if closed.contains(&line) {
                continue;
            }
            match self.pool.claim(&ask, self.now) {
                Claim::Ready(since) => {
                    assert!(since <= self.now);
                    place -= 1;
                    self.waiters.remove(place);
                    self.pool.left(&ask);
                    let pick = self.pool.take(&ask, self.now, self.now);
                    self.picks.push(pick);
                }
                Claim::At(at) => assert!(at > self.now),
                Claim::OnRelease => assert!(!self.picks.is_empty()),
                Claim::Nothing => closed.push(line),
                Claim::Never(_) => {
                    place = 0;
                    self.waiters.retain(|(other, _)| {
                        *other != ask || {
                            self.pool.left(other);
                            false
                        }
                    });
                    self.pool.begin_pass();
                    closed.clear();
                }
            }
        }
    }

    fn act(&mut self, step: Step) {
        let Self {
            pool, now, picks, ..
        } = self;
        match step {
            Step::Wait(time) => *now = *now + millis(time),
            Step::Call(session, model, tokens) => {
                let model = pool.resolve(Some(["opus-1", "haiku"][model]));
                let any = Ask::new(model, Cost::REQUEST.input_tokens(tokens));
                let ask = match session {
                    0 => any,
                    _ => pool.prefer(any, session, *now),
                };
                if let Some(preference) = ask.preference {
                    // Nothing is preferred that is not about to serve.
                    let lane = &pool.lanes[preference.place.lane as usize];
                    assert!(!lane.is_removed);
                    assert!(lane.awake_at() <= *now + secs(60));
                    let view = pool.models.get(model).view;
                    let open = pool.open_at(preference.place.lane, view);
                    assert!(open.is_some_and(|open| open <= *now + secs(60)));
                }
                if self.waiters.is_empty() {
                    let is_free = pool.is_free(&ask, *now);
                    match pool.try_take(&ask, *now) {
                        Some(pick) => {
                            picks.push(pick);
                            return;
                        }
                        None => assert!(!is_free),
                    }
                }
                if pool.expect(&ask, *now).is_ok() {
                    pool.joined(&ask);
                    self.waiters.push((ask, *now));
                }
            }
            Step::Leave(at) if !self.waiters.is_empty() => {
                let (ask, _) = self.waiters.remove(at % self.waiters.len());
                pool.left(&ask);
            }
            Step::Report(at, verdict, hint) if !picks.is_empty() => {
                let pick = &picks[at % picks.len()];
                let outcome = Outcome::new(VERDICTS[verdict]).after(secs(hint));
                let _ = pool.report(pick, &outcome, *now, &mut no_jitter());
            }
            Step::Release(at) if !picks.is_empty() => {
                let pick = picks.swap_remove(at % picks.len());
                pool.release(pick, Settlement::AsReserved, *now);
            }
            Step::Recall(at) if !picks.is_empty() => {
                let pick = picks.swap_remove(at % picks.len());
                let ask = pool.undo(pick, *now);
                pool.joined(&ask);
                self.waiters.insert(0, (ask, *now));
            }
            Step::Switch(key, how) => {
                let alias = KEYS[key];
                let _ = match how {
                    0 => pool.enable(alias, *now),
                    1 => pool.disable(alias, *now),
                    2 => pool.drain(alias, *now),
                    _ => pool.reopen(&alias[..1], *now),
                };
            }
            Step::Reload(which) => {
                let _ = pool.apply(&config(which), *now);
            }
            Step::Leave(_) | Step::Report(..) | Step::Release(_) | Step::Recall(_) => {}
        }
    }

    /// Everything that is counted, counted again.
    fn check(&self) {
        let pool = &self.pool;
        assert!(pool.sessions() <= MOST);
        let mut numbers = std::collections::HashSet::new();
        for model in 0..3 {
            assert!(numbers.insert(pool.models.get(ModelId(model)).line));
        }
        for (index, lane) in (0..).zip(&pool.lanes) {
            let of_lane = self.waiters.iter().filter(|(ask, _)| {
                let preference = ask.preference.filter(|preference| preference.is_patient);
                let place = preference.map(|preference| preference.place);
                place.is_some_and(|place| {
                    let is_it = place.lane == index && place.serial == lane.serial;
                    is_it && !lane.is_unused
                })
            });
            let asks: Vec<_> = of_lane.map(|(ask, _)| ask).collect();
            assert_eq!(lane.waiting.calls, asks.len());
            let of_lines: usize = lane.lines.iter().map(|line| line.calls).sum();
            assert_eq!(of_lines, asks.len());
            let mut cost = Cost::ZERO;
            asks.iter().for_each(|ask| cost.add(ask.cost()));
            assert_eq!(lane.waiting.cost, cost);
            for line in &lane.lines {
                assert!(line.calls > 0 && line.number < pool.lines());
                assert!(
                    numbers.insert(line.number),
                    "each line has a number of its own"
                );
                let calls = asks.iter().filter(|ask| pool.line(ask) == line.number);
                assert_eq!(calls.count(), line.calls);
            }
            let is_free = pool.free_lanes.contains(&index);
            assert_eq!(is_free, lane.is_unused);
            if is_free {
                assert_eq!((lane.in_flight, lane.waiting.calls), (0, 0));
            }
        }
        let mut free = pool.free_lanes.clone();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), pool.free_lanes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_the_counts_are_right_and_everybody_is_served(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World {
            pool: Pool::new(&config(0), T0),
            now: T0,
            waiters: Vec::new(),
            picks: Vec::new(),
        };
        for model in ["opus-1", "haiku"] {
            let _ = world.pool.resolve(Some(model));
        }
        for step in steps {
            world.act(step);
            world.check();
            world.settle();
            world.check();
        }
        // When all is well again, all are served.
        for scope in ["a", "b", "c", "d"] {
            let _ = world.pool.reopen(scope, world.now);
        }
        for key in KEYS {
            let _ = world.pool.enable(key, world.now);
        }
        let mut rounds = 0;
        while !(world.waiters.is_empty() && world.picks.is_empty()) {
            rounds += 1;
            prop_assert!(rounds < 400, "{} still wait", world.waiters.len());
            world.now = world.now + millis(500);
            for pick in std::mem::take(&mut world.picks) {
                world.pool.release(pick, Settlement::AsReserved, world.now);
            }
            world.settle();
            world.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Lanes serve one call in 100 ms each. Whoever waits is served no later than its own lane alone
    /// would have served those before it, and in their order.
    #[test]
    fn nobody_is_overtaken_for_longer_than_its_own_scope_takes_for_those_before(
        calls in prop::collection::vec((0..120_u64, 0..8_u64), 20..200),
    ) {
        let mut pool = Pool::new(&affine(&[1; 3], Some(&per_minute(600)), Affinity::new()), T0);
        let (mut waiters, mut now) = (Vec::<(Ask, Timestamp, usize)>::new(), T0);
        let mut calls = calls.into_iter().peekable();
        let mut at = T0;
        loop {
            while let Some((pause, session)) = calls.next_if(|(pause, _)| at + millis(*pause / 4) <= now) {
                at = at + millis(pause / 4);
                let ask = match session {
                    0 => ask(&mut pool, OPUS),
                    session => of(&mut pool, session, now),
                };
                waiters.push((ask, now, waiters.len()));
                pool.joined(&ask);
            }
            pool.begin_pass();
            let mut served = Vec::new();
            let mut place = 0;
            while let Some(&(ask, since, before)) = waiters.get(place) {
                place += 1;
                if !matches!(pool.claim(&ask, now), Claim::Ready(_)) {
                    continue;
                }
                place -= 1;
                waiters.remove(place);
                pool.left(&ask);
                let pick = pool.take(&ask, now, now);
                pool.release(pick, Settlement::AsReserved, now);
                let bound = millis(100 * (before as u64 + 1) + 10);
                prop_assert!(now.since(since) <= bound, "{:?} after {before}", now.since(since));
                served.push(ask);
            }
            // No lane idles while another has a line that is longer than its callers' patience.
            let any = ask(&mut pool, OPUS);
            let view = pool.models.get(any.model).view;
            let idle = (0..3).filter(|&lane| pool.can_serve(lane, view, &Cost::REQUEST, now)).count();
            let longest = pool.lanes.iter().map(|lane| lane.waiting.calls).max();
            prop_assert!(idle == 0 || longest <= Some(11), "{longest:?}");
            if waiters.is_empty() && calls.peek().is_none() {
                break;
            }
            now = now + millis(10);
        }
    }
}
