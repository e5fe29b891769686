//! Settings, sessions, quotas and calls that nobody would wish for.

use proptest::prelude::*;

use super::*;

/// Calls that wait for a pool, in the order in which they came.
struct Line {
    pool: Pool,
    now: Timestamp,
    waiting: Vec<(Ask, Timestamp)>,
    served: Vec<(String, Duration)>,
}

impl Line {
    fn of(config: &PoolConfig) -> Self {
        Self {
            pool: Pool::new(config, T0),
            now: T0,
            waiting: Vec::new(),
            served: Vec::new(),
        }
    }

    fn join(&mut self, session: u64, cost: Cost) {
        let any = Ask::new(self.pool.resolve(Some(OPUS)), cost);
        let ask = self.pool.prefer(any, session, self.now);
        self.pool.joined(&ask);
        self.waiting.push((ask, self.now));
    }

    /// Serves all that can be served, and looks at who cannot.
    fn pass(&mut self) {
        let Self {
            pool, now, waiting, ..
        } = self;
        pool.begin_pass();
        let (mut closed, mut place) = (Vec::new(), 0);
        while let Some(&(ask, since)) = waiting.get(place) {
            place += 1;
            let line = pool.line(&ask);
            if closed.contains(&line) {
                continue;
            }
            match pool.claim(&ask, *now) {
                Claim::Ready(served) => {
                    place -= 1;
                    let _ = waiting.remove(place);
                    pool.left(&ask);
                    let pick = pool.take(&ask, served, *now);
                    self.served
                        .push((pool.alias(&pick).to_string(), now.since(since)));
                    pool.release(pick, Settlement::AsReserved, *now);
                }
                Claim::Nothing => closed.push(line),
                Claim::At(at) => assert!(at > *now),
                claim => panic!("{claim:?}"),
            }
        }
        for (ask, since) in waiting.iter() {
            let Some(preference) = ask.preference else {
                continue;
            };
            let view = pool.models.get(ask.model).view;
            let patience = pool.patience(preference.place.lane, &ask.cost);
            let idle = (0..pool.lanes.len() as u32)
                .filter(|&lane| !pool.lanes[lane as usize].is_wanted())
                .find(|&lane| pool.can_serve(lane, view, &ask.cost, *now));
            let waited = now.since(*since);
            assert!(
                idle.is_none() || waited <= patience + STEP,
                "{waited:?} beside an idle {idle:?}, patient for {patience:?}"
            );
        }
    }

    fn pass_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            self.pass();
        }
    }
}

const STEP: Duration = Duration::from_millis(20);

fn pool_of(quotas: &[Quota], affinity: Affinity) -> PoolConfig {
    let scopes = scopes(&vec![1; quotas.len()]).into_iter().zip(quotas);
    let scopes = scopes.map(|(scope, quota)| scope.quota(quota.clone()));
    let builder = scopes.fold(PoolConfig::builder(), PoolConfigBuilder::scope);
    builder.affinity(affinity).build().expect("valid")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The quotas differ by a hundred times, and the settings are what they may be.
    #[test]
    fn no_scope_idles_beside_a_call_that_has_waited_for_longer_than_its_patience(
        calls in prop::collection::vec((0..60_u64, 0..8_usize), 10..200),
        load in prop::sample::select(vec![1_010, 1_250, 100_000_u32]),
        guard in prop::sample::select(vec![0, 100, 900_u32]),
        patience in prop::sample::select(vec![0, 1, 1_000, 60_000_u64]),
        most in prop::sample::select(vec![1, 3, 1_000_000_usize]),
    ) {
        let affinity = Affinity::new().load_per_mille(load).guard_per_mille(guard);
        let affinity = affinity.patience(millis(patience)).sessions(most);
        let quotas = [per_minute(30), per_minute(3_000), per_minute(300)];
        let mut line = Line::of(&pool_of(&quotas, affinity));
        let all = calls.len();
        // Most are at home where least is served.
        let mut sessions = vec![0, u64::MAX];
        for lane in [0, 2] {
            let is_home = |&session: &u64| {
                let preference = of(&mut line.pool.clone(), session, T0).preference;
                preference.is_some_and(|preference| preference.place.lane == lane)
            };
            sessions.extend((1..).filter(is_home).take(3));
        }
        for (pause, session) in calls {
            line.pass_for(millis(pause));
            line.join(sessions[session], Cost::REQUEST);
            line.pass();
        }
        line.pass_for(secs(130));
        prop_assert_eq!(line.served.len(), all);
        prop_assert!(line.pool.sessions() <= most);
        prop_assert!(line.pool.lanes.iter().all(|lane| lane.lines.is_empty()));
    }
}

#[test]
fn one_session_that_asks_for_all_gets_all() {
    let mut line = Line::of(&pool_of(
        &[per_minute(600), per_minute(600), per_minute(600)],
        Affinity::new(),
    ));
    // Thirty a second for a minute.
    for _ in 0..1_800 {
        line.join(u64::MAX, Cost::REQUEST);
        line.pass_for(millis(20));
        line.now = line.now + millis(13);
        line.pass();
    }
    assert!(line.served.len() > 1_600, "{}", line.served.len());
    let keys: std::collections::BTreeSet<_> = line.served.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 3);
}

#[test]
fn a_session_that_is_forgotten_is_hashed_to_the_same_key() {
    let few = affine(&[2; 4], None, Affinity::new().sessions(1));
    let mut pool = Pool::new(&few, T0);
    let keys = keys_of(&mut pool, 50, T0);
    assert_eq!(pool.sessions(), 1);
    let mut all = Pool::new(&affine(&[2; 4], None, Affinity::new()), T0);
    assert_eq!(keys, keys_of(&mut all, 50, T0));
}

#[test]
fn where_all_rest_everybody_waits_for_the_first_that_is_back() {
    let mut line = Line::of(&pool_of(
        &[per_minute(600), per_minute(600), per_minute(600)],
        Affinity::new(),
    ));
    for alias in ["a1", "b1", "c1"] {
        let session = (0..).find(|&session| {
            let alias_of = key_of(&mut line.pool.clone(), session, line.now);
            alias_of == alias
        });
        let any = ask(&mut line.pool, OPUS);
        let ask = line.pool.prefer(any, session.expect("some"), line.now);
        let pick = line.pool.try_take(&ask, line.now).expect("it is free");
        let rest = if alias == "b1" { 20 } else { 200 };
        let refused = Outcome::new(Verdict::Throttled).after(secs(rest));
        let _ = line
            .pool
            .report(&pick, &refused, line.now, &mut no_jitter());
        line.pool.release(pick, Settlement::AsReserved, line.now);
    }
    for session in 0..10 {
        line.join(session, Cost::REQUEST);
    }
    line.pass_for(secs(19));
    assert!(line.served.is_empty());
    line.pass_for(secs(9));
    assert_eq!(line.served.len(), 10, "{:?}", line.served);
    assert!(line.served.iter().all(|(key, _)| key == "b1"));
}

#[test]
fn those_who_wait_for_a_scope_are_served_by_what_a_reload_leaves() {
    let old = pool_of(&[per_minute(60), per_minute(60)], Affinity::new());
    let mut line = Line::of(&old);
    for session in 0..20 {
        line.join(session, Cost::REQUEST);
    }
    line.pass();
    let waiting = line.waiting.len();
    assert!(waiting > 10);
    // Every scope that was is gone.
    let other = ScopeConfig::new("z").key("z1").quota(per_minute(6_000));
    let other = PoolConfig::builder().scope(other).affinity(Affinity::new());
    let _ = line.pool.apply(&other.build().expect("valid"), line.now);
    let before = line.served.len();
    line.pass_for(secs(1));
    assert_eq!(line.served.len() - before, waiting);
    assert!(line.served[before..].iter().all(|(key, _)| key == "z1"));
    // And no key at all is a reason, not a wait.
    line.pool.disable("z1", line.now).expect("it is there");
    let any = ask(&mut line.pool, OPUS);
    let ask = line.pool.prefer(any, 3, line.now);
    assert_eq!(ask, any, "there is nothing to prefer");
    assert!(line.pool.expect(&ask, line.now).is_err());
}

#[test]
fn a_call_that_its_scope_can_never_serve_goes_where_it_can_be_served() {
    let tokens = |amount| {
        let quota = Quota::builder().input_tokens_per_minute(amount);
        let quota = quota.burst(Unit::INPUT_TOKENS, amount).build();
        quota.expect("valid")
    };
    let mut line = Line::of(&pool_of(&[tokens(1_000), tokens(100_000)], Affinity::new()));
    let small = (0..)
        .find(|&session| {
            line.join(session, Cost::REQUEST.input_tokens(1));
            line.pass();
            line.served.last().is_some_and(|(key, _)| key == "a1")
        })
        .expect("some");
    line.join(small, Cost::REQUEST.input_tokens(50_000));
    line.pass();
    assert_eq!(line.served.last().expect("it is served").0, "b1");
    let any = Ask::new(
        line.pool.resolve(Some(OPUS)),
        Cost::REQUEST.input_tokens(u64::MAX),
    );
    let ask = line.pool.prefer(any, small, line.now);
    assert!(line.pool.expect(&ask, line.now).is_err());
    assert!(line.pool.try_take(&ask, line.now).is_none());
}
