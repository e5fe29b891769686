//! Scenario R1: whether retries keep a server down that could recover.
//!
//! Ten servers behind one queue, five times slower for ten seconds; clients give up on an
//! attempt after a second, but the server does not know and serves it all the same.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tower_relay::{
    outcome::{Idempotency, Outcome, Verdict},
    policy::{Attempts, Decision, RetryBudget, RetryPolicy, Rng, Timestamp},
};

const SERVERS: usize = 10;
const ARRIVALS_PER_SECOND: f64 = 80.0;
const SERVICE_SECONDS: f64 = 0.1;
const TIMEOUT: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(300);
const SLOW: std::ops::Range<Duration> = Duration::from_secs(60)..Duration::from_secs(70);

/// SplitMix64.
struct Chance(u64);

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Chance {
    fn exponential(&mut self, mean_seconds: f64) -> Duration {
        let uniform = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-mean_seconds * (1.0 - uniform).ln())
    }
}

/// What happens next, in the order of time; the number is the call's.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrived,
    Resent(usize),
    Answered(usize),
    TimedOut(usize),
}

struct Call {
    attempts: Attempts,
    arrived: Duration,
    succeeded: bool,
}

struct Report {
    /// From the end of the slow time to the first three seconds of which 90 % succeeded.
    recovery: Option<Duration>,
    success: f64,
}

fn run(attempts: u32, mut budget: RetryBudget, seed: u64) -> Report {
    let policy = RetryPolicy::builder().attempts(attempts).build().unwrap();
    // Apart, so that the variants see the same arrivals and the same services.
    let [mut arrivals, mut services, mut jitter] = [0, 1, 2].map(|n| Chance(seed << 8 | n << 60));
    let mut free_at = [Timestamp::ZERO; SERVERS];
    let mut calls: Vec<Call> = Vec::new();
    let mut events = BinaryHeap::from([Reverse((Timestamp::ZERO, Event::Arrived))]);
    while let Some(Reverse((now, event))) = events.pop() {
        let call = match event {
            Event::Arrived => {
                let arrived = now.since(Timestamp::ZERO);
                let next = now + arrivals.exponential(1.0 / ARRIVALS_PER_SECOND);
                if arrived < END {
                    events.push(Reverse((next, Event::Arrived)));
                }
                calls.push(Call {
                    attempts: Attempts::new(now, None, Idempotency::Idempotent),
                    arrived,
                    succeeded: false,
                });
                calls.len() - 1
            }
            Event::Resent(call) => call,
            Event::Answered(call) => {
                calls[call].attempts.succeed(&mut budget);
                calls[call].succeeded = true;
                continue;
            }
            Event::TimedOut(call) => {
                let outcome = Outcome::new(Verdict::ServerFault);
                let attempts = &mut calls[call].attempts;
                let decision = attempts.decide(&policy, &outcome, now, &mut budget, &mut jitter);
                if let Decision::Retry { at, .. } = decision {
                    events.push(Reverse((at, Event::Resent(call))));
                }
                continue;
            }
        };
        // First come first served: the server that is free soonest takes it.
        let server = free_at.iter_mut().min().unwrap();
        let begin = now.max(*server);
        let slow = SLOW.contains(&begin.since(Timestamp::ZERO));
        *server = begin + services.exponential(SERVICE_SECONDS * if slow { 5.0 } else { 1.0 });
        events.push(Reverse(if server.since(now) <= TIMEOUT {
            (*server, Event::Answered(call))
        } else {
            (now + TIMEOUT, Event::TimedOut(call))
        }));
    }
    report(&calls)
}

fn report(calls: &[Call]) -> Report {
    let share = |from: Duration, to: Duration| {
        let at = |time| calls.partition_point(|call| call.arrived < time);
        let within = &calls[at(from)..at(to)];
        within.iter().filter(|call| call.succeeded).count() as f64 / within.len() as f64
    };
    let recovery = (SLOW.end.as_secs()..END.as_secs() - 3)
        .map(Duration::from_secs)
        .find(|&from| share(from, from + Duration::from_secs(3)) >= 0.9)
        .map(|from| from - SLOW.end);
    Report {
        recovery,
        success: share(Duration::ZERO, END),
    }
}

/// Mean recovery in seconds over the seeds that recovered, how many did not, mean success.
fn over_seeds(seeds: u64, attempts: u32, budget: RetryBudget) -> (f64, usize, f64) {
    let reports: Vec<_> = (1..=seeds)
        .map(|seed| run(attempts, budget, seed))
        .collect();
    let recovered: Vec<_> = reports
        .iter()
        .filter_map(|report| report.recovery)
        .collect();
    let seconds: f64 = recovered.iter().map(Duration::as_secs_f64).sum();
    let success: f64 = reports.iter().map(|report| report.success).sum();
    (
        seconds / recovered.len() as f64,
        reports.len() - recovered.len(),
        success / reports.len() as f64,
    )
}

#[test]
fn with_the_budget_a_server_recovers_as_soon_as_without_retries() {
    let (without, down, success_without) = over_seeds(20, 1, RetryBudget::unlimited());
    assert_eq!(down, 0);
    let (with, down, success) = over_seeds(20, 3, RetryBudget::default());
    println!("without {without:.1} s {success_without:.3}, with {with:.1} s {success:.3}");
    assert_eq!(down, 0);
    assert!(
        with <= without * 1.1,
        "recovery after {with:.1} s, without retries {without:.1} s"
    );
    assert!(success >= success_without - 0.01);
}

/// The control: the model does go down when retries are free.
#[test]
fn without_the_budget_the_server_stays_down() {
    let (_, down, success) = over_seeds(5, 3, RetryBudget::unlimited());
    assert_eq!(down, 5);
    assert!(success < 0.4, "{success:.3} succeeded");
}
