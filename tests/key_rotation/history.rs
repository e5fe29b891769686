//! Random histories: calls, models, failures, cancellations, reloads, an operator's changes.

use std::time::Duration;

use tokio::{task::JoinHandle, time::advance};
use tower::{Layer, ServiceExt};
use tower_relay::{
    error::{BoxError, KeyFailed, Rejected},
    key_rotation::{KeyPool, Source},
    outcome::{Outcome, Verdict},
    policy::{Quota, Unit},
    testing::Reply,
};

use crate::support::*;

/// Marsaglia's xorshift: any seed but zero.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const SLACK: Duration = Duration::from_millis(5);
/// Scope, class, requests per second, burst, most in flight.
const QUOTAS: [(&str, bool, u64, u64, usize); 4] = [
    ("a", false, 5, 3, 4),
    ("a", true, 2, 2, 2),
    ("b", false, 10, 1, 3),
    ("b", true, 20, 5, 3),
];
const WHOLE: (u64, u64) = (20, 4);
const MOST_PLACES: usize = 6;

fn quota(scope: &str, large: bool) -> Quota {
    let mut quotas = QUOTAS.iter();
    let &(_, _, rate, burst, most) = quotas
        .find(|quota| (quota.0, quota.1) == (scope, large))
        .expect("it is in the list");
    let quota = Quota::builder().requests_per_second(rate);
    built(quota.burst(Unit::REQUESTS, burst).max_in_flight(most))
}

/// One of four pools that differ in keys and secrets, not in the quotas of `a` and `b`.
fn variant(number: u64) -> KeyPool {
    let org = |name: &str, keys: &[&str]| {
        let scope = scope(name, keys).quota(quota(name, false));
        scope.quota_for(["large"], quota(name, true))
    };
    let a = match number % 4 {
        0 => org("a", &["a1"]),
        1 => org("a", &["a1", "a2"]),
        2 => org("a", &[]).weighted_key("a1", 3, secret("a1")),
        _ => org("a", &[]).key("a1", Source::value("hush-a1-other")),
    };
    let mut scopes = vec![a, org("b", &["b1", "b2"])];
    if number % 3 == 0 {
        scopes.push(scope("c", &["c1"]).quota(per_second(3)));
    }
    pool(scopes)
}

fn script(ask: &Ask) -> Reply<Answer> {
    let mut dice = Dice(ask.id * 2_654_435_761 + u64::from(ask.secret.as_bytes()[5]) + 1);
    let _ = dice.below(7);
    let latency = Duration::from_millis(dice.below(400));
    let verdict = match dice.below(30) {
        0 | 1 => Verdict::Throttled,
        2 => Verdict::KeyRejected,
        3 => Verdict::ModelDenied,
        4 => Verdict::Exhausted,
        5 => Verdict::Overloaded,
        6 => Verdict::ServerFault,
        7 => return Reply::never(),
        8 => return Reply::panic(),
        9 => return fail(Verdict::KeyRejected, None),
        10 => return fail(Verdict::Throttled, Some(SECOND)),
        11 => return fail(Verdict::CallerFault, None),
        _ => Verdict::Success,
    };
    let mut outcome = Outcome::new(verdict);
    if dice.below(2) == 0 && verdict != Verdict::Success {
        outcome = outcome.after(Duration::from_millis(dice.below(5_000)));
    }
    Reply::after(latency, answer(ask, outcome))
}

/// Asserts `sends in any window w <= burst + rate x (w + slack)` over every window.
fn assert_envelope(sends: &[Duration], rate: u64, burst: u64, what: &str) {
    let credit = |at: Duration| at.as_nanos() as i128 * i128::from(rate);
    let second = 1_000_000_000;
    let allowed = i128::from(burst) * second + credit(SLACK);
    let mut lowest = i128::MAX;
    for (index, &at) in sends.iter().enumerate() {
        let before = index as i128 * second - credit(at);
        lowest = lowest.min(before);
        let worst = before + second - lowest;
        assert!(worst <= allowed, "{what}: too many by {at:?}");
    }
}

type Call = JoinHandle<Result<Answer, BoxError>>;

async fn history(seed: u64) {
    let mut dice = Dice(seed * 7_919 + 1);
    let (server, log) = server(script);
    let whole = Quota::builder().requests_per_second(WHOLE.0);
    let whole = built(whole.burst(Unit::REQUESTS, WHOLE.1));
    let pool = layer(variant(seed))
        .rate_limit(whole)
        .concurrency(Fixed::of(4))
        .max_waiting(20);
    let handle = pool.handle();
    let plain = pool.layer(server);
    let retried = retry(3).layer(plain.clone());
    let mut calls: Vec<Call> = Vec::new();
    for id in 0..120 {
        match dice.below(16) {
            0..=7 => {
                let mut ask = Ask::numbered(id + 1_000 * seed);
                match dice.below(3) {
                    0 => ask = ask.model("large"),
                    1 => ask = ask.model("small"),
                    _ => {}
                }
                if dice.below(4) == 0 {
                    ask = ask.within(Duration::from_millis(dice.below(3_000)));
                }
                calls.push(if dice.below(2) == 0 {
                    tokio::spawn(plain.clone().oneshot(ask))
                } else {
                    tokio::spawn(retried.clone().oneshot(ask))
                });
            }
            8 if !calls.is_empty() => {
                let leaves = dice.below(calls.len() as u64) as usize;
                calls.swap_remove(leaves).abort();
            }
            9 => {
                handle.reload(variant(dice.below(12)));
            }
            10 => {
                let places = 1 + dice.below(MOST_PLACES as u64) as usize;
                handle.set_concurrency(Fixed::of(places));
            }
            11 => {
                let alias = ["a1", "a2", "b1", "b2"][dice.below(4) as usize];
                let _ = match dice.below(4) {
                    0 => handle.disable(alias),
                    1 => handle.drain(alias),
                    _ => handle.enable(alias),
                };
            }
            12 => {
                let scope = ["a", "b", "c"][dice.below(3) as usize];
                let _ = handle.reopen(scope);
            }
            13 => tokio::time::sleep(Duration::from_millis(dice.below(700))).await,
            // The timers of this time all fire late.
            _ => {
                settle().await;
                advance(Duration::from_millis(dice.below(700))).await;
            }
        }
        if dice.below(2) == 0 {
            tokio::task::yield_now().await;
        }
        check(&handle);
    }
    for alias in ["a1", "a2", "b1", "b2"] {
        let _ = handle.enable(alias);
    }
    // Those whose server never answers hold places that others wait for.
    let mut left = calls;
    while !left.is_empty() {
        tokio::time::sleep(MINUTE).await;
        check(&handle);
        let mut open = Vec::new();
        for call in left {
            if !call.is_finished() {
                open.push(call);
                continue;
            }
            let Ok(Err(error)) = call.await else {
                continue;
            };
            let is_typed = Rejected::find(&*error).is_some()
                || KeyFailed::find(&*error).is_some()
                || error.is::<Broken>();
            assert!(is_typed, "{error:?}");
        }
        if tokio::time::Instant::now() > log.began() + 120 * MINUTE {
            open.drain(..).for_each(|call| call.abort());
        }
        left = open;
    }
    settle().await;
    assert_idle(&handle);
    let snapshot = handle.snapshot();
    assert!(snapshot.peak_active() <= MOST_PLACES as u64);
    let ended = snapshot.completed() + snapshot.cancelled();
    assert!(snapshot.admitted() <= ended, "{snapshot:?}");

    let seen = log.seen();
    for (name, large, rate, burst, _) in QUOTAS {
        let of = seen.iter().filter(|(_, ask)| {
            ask.alias().starts_with(name) && (ask.model_name() == "large") == large
        });
        let sends: Vec<_> = of.map(|(at, _)| *at).collect();
        assert_envelope(
            &sends,
            rate,
            burst,
            &format!("seed {seed}, {name}, large: {large}"),
        );
    }
    assert_envelope(
        &log.times(),
        WHOLE.0,
        WHOLE.1,
        &format!("seed {seed}, the whole"),
    );
}

fn check(handle: &tower_relay::key_rotation::KeyRotationHandle) {
    for scope in handle.scopes() {
        let in_flight: usize = scope.keys().iter().map(|key| key.in_flight()).sum();
        // Calls with keys that were removed are the scope's still.
        assert!(in_flight <= scope.in_flight(), "{scope:?}");
        for class in scope.classes() {
            let is_large = class.models().count() > 0;
            let mut quotas = QUOTAS.iter();
            let quota = quotas.find(|quota| (quota.0, quota.1) == (scope.name(), is_large));
            if let Some(quota) = quota {
                assert!(class.in_flight() <= quota.4, "{scope:?}");
            }
        }
    }
    assert!(handle.snapshot().waiting() <= 20);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_quotas_hold_counts_come_back_and_every_call_ends() {
    for seed in 1..=30 {
        // Panics of the provider are part of it.
        within(history(seed)).await;
    }
}
