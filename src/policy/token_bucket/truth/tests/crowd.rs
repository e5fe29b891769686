//! Callers that always have work, before a server with books and a clock of its own.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

const MS: Duration = Duration::from_millis(1);
const MILLION: i128 = 1_000_000;

/// A token bucket somewhere else: one unit per minute, a clock of its own.
pub(super) struct Server {
    unit: Unit,
    limit: u64,
    /// How much faster its clock runs, in millionths.
    drift: i128,
    /// In tokens × a minute's nanoseconds × a million.
    level: i128,
    at: Timestamp,
    rounding: u64,
    shows_limit: bool,
    refunds: bool,
    /// What others use in a minute, as long as there is any.
    others: u64,
    accepted: u64,
    pub(super) refused: u64,
}

const TOKEN: i128 = 60_000_000_000 * MILLION;

impl Server {
    pub(super) fn new(unit: Unit, limit: u64, drift: i128) -> Self {
        Self {
            unit,
            limit,
            drift,
            level: i128::from(limit) * TOKEN,
            at: START,
            rounding: 1,
            shows_limit: true,
            refunds: true,
            others: 0,
            accepted: 0,
            refused: 0,
        }
    }

    fn refill(&mut self, now: Timestamp) {
        let elapsed = i128::try_from(now.since(self.at).as_nanos()).expect("short");
        let rate = i128::from(self.limit) * (MILLION + self.drift);
        let rate = rate - i128::from(self.others) * MILLION;
        let full = i128::from(self.limit) * TOKEN;
        self.level = (self.level + elapsed * rate).clamp(0, full);
        self.at = self.at.max(now);
    }

    fn call(&mut self, cost: u64, now: Timestamp) -> Readings {
        self.refill(now);
        let is_served = self.level >= i128::from(cost) * TOKEN;
        if is_served {
            self.level -= i128::from(cost) * TOKEN;
            self.accepted += cost;
        } else {
            self.refused += 1;
        }
        let left = u64::try_from(self.level / TOKEN).expect("no debt");
        let rounded = (left + self.rounding / 2) / self.rounding * self.rounding;
        let mut reading = Reading::new(self.unit, MINUTE)
            .remaining(rounded)
            .rounded_to(self.rounding);
        if self.shows_limit {
            reading = reading.limit(self.limit);
        }
        let readings = Readings::NONE.with(reading);
        if is_served {
            readings
        } else {
            readings.of_refusal()
        }
    }
}

/// Callers that always have work: each sends as soon as it may and waits for its answer.
pub(super) struct Crowd {
    pub(super) bucket: TokenBucket,
    pub(super) server: Server,
    now: Timestamp,
    idle: usize,
    pub(super) cost: u64,
    /// What a call turns out to have used, in thousandths of its cost.
    used: u64,
    pub(super) latency: Duration,
    /// Answers by when they begin: with their place among the calls.
    answers: BinaryHeap<Reverse<(Timestamp, usize)>>,
    calls: Vec<Option<(Reservation, Readings)>>,
    hears: bool,
    sent: u64,
    chance: u64,
}

impl Crowd {
    pub(super) fn new(quota: &Quota, server: Server, cost: u64) -> Self {
        Self {
            bucket: TokenBucket::new(quota, START),
            server,
            now: START,
            idle: 200,
            cost,
            used: 1_000,
            latency: 2 * SECOND,
            answers: BinaryHeap::new(),
            calls: Vec::new(),
            hears: true,
            sent: 0,
            chance: 7,
        }
    }

    fn of(&self) -> Cost {
        if self.server.unit == Unit::REQUESTS {
            Cost::REQUEST
        } else {
            Cost::REQUEST.input_tokens(self.cost)
        }
    }

    /// Something below `most`, the same in every run.
    pub(super) fn random(&mut self, most: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.chance >> 33) % most.max(1)
    }

    /// Runs for so long. Says what share of the server's quota was used, and what share of the
    /// calls it refused.
    pub(super) fn run(&mut self, time: Duration) -> (f64, f64) {
        let end = self.now + time;
        let (accepted, refused, sent) = (self.server.accepted, self.server.refused, self.sent);
        loop {
            let cost = self.of();
            let ready = self.bucket.ready_at(&cost).expect("it fits").max(self.now);
            let next = self.answers.peek().map(|Reverse((at, _))| *at);
            if self.idle > 0 && next.is_none_or(|next| ready < next) {
                if ready >= end {
                    break;
                }
                self.now = ready;
                self.send(&cost);
            } else {
                let Some(next) = next.filter(|&next| next < end) else {
                    break;
                };
                self.now = next;
                self.answer();
            }
        }
        self.now = end;
        let limit = self.server.limit as f64 * (1.0 + self.server.drift as f64 / 1e6);
        let rate = (limit - self.server.others as f64) / 60.0;
        let accepted = self.server.accepted - accepted;
        let sent = (self.sent - sent).max(1);
        let refused = self.server.refused - refused;
        (
            accepted as f64 / (rate * time.as_secs_f64()),
            refused as f64 / sent as f64,
        )
    }

    fn send(&mut self, cost: &Cost) {
        let call = self.bucket.take(cost, self.now);
        let readings = self.server.call(cost.get(self.server.unit), self.now);
        self.idle -= 1;
        self.sent += 1;
        let most = u64::try_from(self.latency.as_nanos()).expect("short");
        let after = most / 2 + self.random(most);
        self.answers.push(Reverse((
            self.now + Duration::from_nanos(after),
            self.calls.len(),
        )));
        self.calls.push(Some((call, readings)));
    }

    fn answer(&mut self) {
        let Reverse((_, place)) = self.answers.pop().expect("asked for where there is one");
        let (call, readings) = self.calls[place].take().expect("answered once");
        if self.hears {
            self.bucket.observe(&call, &readings, self.now);
        }
        let used = Cost::REQUEST.input_tokens(self.cost * self.used / 1_000);
        if self.used != 1_000 {
            if self.server.refunds {
                let back = self.cost - self.cost * self.used / 1_000;
                self.server.level += i128::from(back) * TOKEN;
                self.server.accepted -= back;
            }
            self.bucket.settle(call, &used, self.now);
        }
        self.idle += 1;
    }
}

#[test]
fn a_saturated_client_neither_wastes_nor_is_refused_whichever_clock_is_faster() {
    let tokens = || Quota::builder().tokens_per_minute(400_000);
    let paced = built(tokens());
    let burst = built(tokens().burst(Unit::TOKENS, 400_000));
    let few = built(Quota::builder().requests_per_minute(5));
    let one = built(Quota::builder().requests_per_minute(1));
    let cases = [
        (&paced, Unit::TOKENS, 400_000, 2_000, 1),
        (&paced, Unit::TOKENS, 400_000, 2_000, 1_000),
        (&burst, Unit::TOKENS, 400_000, 2_000, 1),
        (&few, Unit::REQUESTS, 5, 1, 1),
        (&one, Unit::REQUESTS, 1, 1, 1),
        (&Quota::learned(), Unit::TOKENS, 400_000, 2_000, 1),
        (&Quota::learned(), Unit::REQUESTS, 50, 1, 1),
    ];
    for drift in [-10_000, 10_000] {
        for (quota, unit, limit, cost, rounding) in cases {
            for latency in [100 * MS, 20 * SECOND] {
                let mut server = Server::new(unit, limit, drift);
                server.rounding = rounding;
                let mut crowd = Crowd::new(quota, server, cost);
                crowd.latency = latency;
                crowd.run(2 * MINUTE);
                // One a minute takes an hour to tell a hundredth.
                let minutes = if limit == 1 { 60 } else { 10 };
                let (used, refused) = crowd.run(minutes * MINUTE);
                let case = format!("{unit:?} {limit} {rounding} {drift} {latency:?}");
                assert!(used >= 0.97, "{case}: {used} used");
                assert!(refused <= 0.001, "{case}: {refused} refused");
            }
        }
    }
}

#[test]
fn without_hearing_the_server_a_slower_clock_refuses_for_ever_unless_a_margin_is_kept() {
    let run = |margin| {
        let quota = Quota::builder()
            .requests_per_minute(600)
            .burst(Unit::REQUESTS, 600);
        let quota = built(quota.margin_per_mille(margin));
        let mut crowd = Crowd::new(&quota, Server::new(Unit::REQUESTS, 600, -10_000), 1);
        crowd.hears = false;
        crowd.run(10 * MINUTE);
        crowd.run(10 * MINUTE)
    };
    let (_, refused) = run(0);
    assert!((0.008..0.012).contains(&refused), "{refused} refused");
    let (used, refused) = run(11);
    assert!(
        used >= 0.97 && refused == 0.0,
        "{used} used, {refused} refused"
    );
}

#[test]
fn what_another_client_uses_is_left_to_it() {
    let quota = built(Quota::builder().tokens_per_minute(400_000));
    for (latency, worst) in [(100 * MS, 0.001), (2 * SECOND, 0.001), (20 * SECOND, 0.001)] {
        let mut crowd = Crowd::new(&quota, Server::new(Unit::TOKENS, 400_000, 0), 2_000);
        crowd.latency = latency;
        crowd.run(2 * MINUTE);
        crowd.server.others = 200_000;
        crowd.run(3 * MINUTE);
        let (used, refused) = crowd.run(10 * MINUTE);
        assert!(used >= 0.97, "{latency:?}: {used} used");
        assert!(refused <= worst, "{latency:?}: {refused} refused");
        crowd.server.others = 0;
        crowd.run(MINUTE);
        let (used, refused) = crowd.run(5 * MINUTE);
        assert!(used >= 0.97, "{latency:?}: {used} used after");
        assert!(refused <= worst, "{latency:?}: {refused} refused after");
    }
}

#[test]
fn a_refund_that_only_one_of_the_two_makes_is_found_out() {
    let quota = built(Quota::builder().tokens_per_minute(400_000));
    for refunds in [true, false] {
        let mut server = Server::new(Unit::TOKENS, 400_000, 0);
        server.refunds = refunds;
        let mut crowd = Crowd::new(&quota, server, 2_000);
        crowd.used = 700;
        crowd.run(2 * MINUTE);
        let (used, refused) = crowd.run(10 * MINUTE);
        assert!(used >= 0.97, "refunds {refunds}: {used} used");
        assert!(refused <= 0.001, "refunds {refunds}: {refused} refused");
    }
}

#[test]
fn a_quota_that_the_server_lowers_holds_and_one_that_it_raises_does_not() {
    let quota = built(Quota::builder().tokens_per_minute(400_000));
    let mut crowd = Crowd::new(&quota, Server::new(Unit::TOKENS, 400_000, 0), 2_000);
    crowd.run(2 * MINUTE);
    crowd.server.limit = 100_000;
    crowd.run(MINUTE);
    let (used, refused) = crowd.run(10 * MINUTE);
    assert!(
        used >= 0.97 && refused <= 0.001,
        "{used} used, {refused} refused"
    );
    crowd.server.limit = 800_000;
    crowd.run(5 * MINUTE);
    let (used, refused) = crowd.run(10 * MINUTE);
    assert!(
        (0.49..=0.501).contains(&used),
        "{used} used of twice the quota"
    );
    assert!(refused == 0.0, "{refused} refused");
}
