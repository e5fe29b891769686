//! R1: retries against a server that is overloaded for ten seconds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use tower_relay::{
    outcome::{Idempotency, Outcome, Verdict},
    policy::{Attempts, Decision, RetryBudget, RetryPolicy, Timestamp},
};

use crate::{
    chance::Chance,
    upstream::{Nanos, SECOND, nanos},
};

/// Who pays for retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Funding {
    NoRetries,
    /// The library's budget, funded by successes.
    Successes,
    Unlimited,
    /// A fifth of the requests and ten a second (Finagle).
    Requests,
    /// A fifth of what is in flight, at least three (Envoy).
    InFlight,
    /// Ten tokens, one per failure, a tenth back per success, retries above half (gRPC A6).
    Grpc,
}

impl Funding {
    pub(crate) const ALL: &[Self] = &[
        Self::NoRetries,
        Self::Successes,
        Self::Unlimited,
        Self::Requests,
        Self::InFlight,
        Self::Grpc,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoRetries => "no retries",
            Self::Successes => "RetryBudget (default)",
            Self::Unlimited => "no budget",
            Self::Requests => "Finagle: 20 % of requests + 10 a second",
            Self::InFlight => "Envoy: 20 % of what is in flight",
            Self::Grpc => "gRPC A6: 10 tokens, ratio 0.1",
        }
    }
}

const SERVERS: usize = 10;
const RATE: f64 = 80.0;
const SERVICE: f64 = 0.1;
const SLOW: (Nanos, Nanos) = (60 * SECOND, 70 * SECOND);
const TIMEOUT: Nanos = SECOND;
const END: Nanos = 300 * SECOND;

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// Share of the calls that succeeded.
    pub(crate) success: f64,
    /// Seconds after the slow time until nine tenths succeed over three seconds; the whole rest
    /// if never.
    pub(crate) recovery: f64,
    pub(crate) attempts_per_call: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Done(usize),
    TimedOut(usize, u32),
    Again(usize, u32),
}

struct Call {
    attempts: Attempts,
    /// The number of the attempt under way; 0 when the call is over.
    attempt: u32,
}

struct World {
    funding: Funding,
    policy: RetryPolicy,
    budget: RetryBudget,
    chance: Chance,
    service: Chance,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    sequence: u64,
    calls: Vec<Call>,
    busy: usize,
    /// Call and attempt.
    line: VecDeque<(usize, u32)>,
    serving: Vec<(usize, u32)>,
    in_flight: usize,
    retrying: usize,
    deposits: VecDeque<(Nanos, f64)>,
    tokens: f64,
    /// Successes in each second.
    successes: Vec<u32>,
    attempts: u64,
}

pub(crate) fn run(funding: Funding, seed: u64) -> Outage {
    let unlimited = RetryBudget::unlimited();
    let attempts = if funding == Funding::NoRetries { 1 } else { 3 };
    let policy = RetryPolicy::builder().attempts(attempts).build();
    let mut world = World {
        funding,
        policy: policy.expect("there is an attempt"),
        budget: match funding {
            Funding::Successes => RetryBudget::default(),
            _ => unlimited,
        },
        chance: Chance::new(seed, 3),
        service: Chance::new(seed, 4),
        events: BinaryHeap::new(),
        sequence: 0,
        calls: Vec::new(),
        busy: 0,
        line: VecDeque::new(),
        serving: Vec::new(),
        in_flight: 0,
        retrying: 0,
        deposits: VecDeque::new(),
        tokens: 10.0,
        successes: vec![0; (END / SECOND) as usize + 1],
        attempts: 0,
    };
    world.run();
    world.outage()
}

impl World {
    fn run(&mut self) {
        self.schedule(0, Event::Arrival);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > END {
                return;
            }
            match event {
                Event::Arrival => {
                    let wait = self.chance.exponential(1.0 / RATE);
                    self.schedule(now + nanos(wait), Event::Arrival);
                    let start = Timestamp::from_nanos(now);
                    self.calls.push(Call {
                        attempts: Attempts::new(start, None, Idempotency::Idempotent),
                        attempt: 0,
                    });
                    if self.funding == Funding::Requests {
                        self.deposits.push_back((now, 0.2));
                    }
                    self.send(self.calls.len() - 1, 1, now);
                }
                Event::Again(call, attempt) => self.send(call, attempt, now),
                Event::Done(place) => self.done(place, now),
                Event::TimedOut(call, attempt) => self.timed_out(call, attempt, now),
            }
        }
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn send(&mut self, call: usize, attempt: u32, now: Nanos) {
        self.attempts += 1;
        self.in_flight += 1;
        self.retrying += usize::from(attempt > 1);
        self.calls[call].attempt = attempt;
        self.schedule(now + TIMEOUT, Event::TimedOut(call, attempt));
        self.line.push_back((call, attempt));
        self.serve(now);
    }

    /// Whoever gave up is served all the same: nobody told the server.
    fn serve(&mut self, now: Nanos) {
        while self.busy < SERVERS {
            let Some(next) = self.line.pop_front() else {
                return;
            };
            self.busy += 1;
            let slower = if now >= SLOW.0 && now < SLOW.1 {
                5.0
            } else {
                1.0
            };
            let service = nanos(self.service.exponential(SERVICE * slower));
            self.serving.push(next);
            self.schedule(now + service, Event::Done(self.serving.len() - 1));
        }
    }

    fn done(&mut self, place: usize, now: Nanos) {
        self.busy -= 1;
        let (id, attempt) = self.serving[place];
        let call = &mut self.calls[id];
        if call.attempt == attempt {
            call.attempt = 0;
            call.attempts.succeed(&mut self.budget);
            self.tokens = (self.tokens + 0.1).min(10.0);
            self.left(attempt);
            self.successes[(now / SECOND) as usize] += 1;
        }
        self.serve(now);
    }

    fn left(&mut self, attempt: u32) {
        self.in_flight -= 1;
        self.retrying -= usize::from(attempt > 1);
    }

    fn timed_out(&mut self, id: usize, attempt: u32, now: Nanos) {
        if self.calls[id].attempt != attempt {
            return;
        }
        self.left(attempt);
        self.tokens = (self.tokens - 1.0).max(0.0);
        let outcome = Outcome::new(Verdict::ServerFault);
        let instant = Timestamp::from_nanos(now);
        let decision = self.calls[id].attempts.decide(
            &self.policy,
            &outcome,
            instant,
            &mut self.budget,
            &mut self.chance,
        );
        let at = match decision {
            Decision::Retry { at, .. } if self.is_funded(now) => at.as_nanos(),
            _ => return self.over(id),
        };
        // The client has stopped listening: a late answer counts for nobody.
        self.over(id);
        self.schedule(at, Event::Again(id, attempt + 1));
    }

    fn over(&mut self, id: usize) {
        self.calls[id].attempt = 0;
    }

    /// What the budgets that are not the library's say.
    fn is_funded(&mut self, now: Nanos) -> bool {
        match self.funding {
            Funding::NoRetries | Funding::Successes | Funding::Unlimited => true,
            Funding::Requests => {
                let old = |deposit: &(Nanos, f64)| deposit.0 + 10 * SECOND < now;
                while self.deposits.front().is_some_and(old) {
                    self.deposits.pop_front();
                }
                // Ten a second, over the same ten seconds.
                let balance: f64 = self.deposits.iter().map(|(_, amount)| amount).sum();
                let is_funded = balance + 100.0 >= 1.0;
                if is_funded {
                    self.deposits.push_back((now, -1.0));
                }
                is_funded
            }
            Funding::InFlight => (self.retrying as f64) < (0.2 * self.in_flight as f64).max(3.0),
            Funding::Grpc => self.tokens > 5.0,
        }
    }

    fn outage(&self) -> Outage {
        let calls = self.calls.len() as f64;
        let end = SLOW.1 / SECOND;
        let last = END / SECOND - 3;
        let recovered = (end..last).find(|&second| {
            let second = second as usize;
            f64::from(self.successes[second..second + 3].iter().sum::<u32>()) >= 0.9 * 3.0 * RATE
        });
        Outage {
            success: f64::from(self.successes.iter().sum::<u32>()) / calls,
            recovery: (recovered.unwrap_or(END / SECOND) - end) as f64,
            attempts_per_call: self.attempts as f64 / calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_retries_it_recovers_when_the_backlog_is_worked_off() {
        // 60 calls a second too many for ten seconds, worked off at 20 a second.
        let mean = (0..10)
            .map(|seed| run(Funding::NoRetries, seed).recovery)
            .sum::<f64>()
            / 10.0;
        assert!((25.0..36.0).contains(&mean), "{mean}");
    }

    #[test]
    fn retries_funded_by_requests_never_let_it_recover_and_ours_do() {
        assert!(run(Funding::Unlimited, 1).success < 0.4);
        assert!(run(Funding::Requests, 1).success < 0.4);
        assert!(run(Funding::Successes, 1).success > 0.8);
    }
}
