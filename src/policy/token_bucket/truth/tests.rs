use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;
use crate::policy::{Quota, QuotaBuilder};

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MILLION: i128 = 1_000_000;

/// A token bucket somewhere else: one unit per minute, a clock of its own.
struct Server {
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
    refused: u64,
}

const TOKEN: i128 = 60_000_000_000 * MILLION;

impl Server {
    fn new(unit: Unit, limit: u64, drift: i128) -> Self {
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
struct Crowd {
    bucket: TokenBucket,
    server: Server,
    now: Timestamp,
    idle: usize,
    cost: u64,
    /// What a call turns out to have used, in thousandths of its cost.
    used: u64,
    latency: Duration,
    /// Answers by when they begin: with their place among the calls.
    answers: BinaryHeap<Reverse<(Timestamp, usize)>>,
    calls: Vec<Option<(Reservation, Readings)>>,
    hears: bool,
    sent: u64,
    chance: u64,
}

impl Crowd {
    fn new(quota: &Quota, server: Server, cost: u64) -> Self {
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
    fn random(&mut self, most: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.chance >> 33) % most.max(1)
    }

    /// Runs for so long. Says what share of the server's quota was used, and what share of the
    /// calls it refused.
    fn run(&mut self, time: Duration) -> (f64, f64) {
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

fn built(builder: QuotaBuilder) -> Quota {
    builder.build().expect("a valid quota")
}

fn requests(limit: u64, remaining: u64) -> Readings {
    let reading = Reading::new(Unit::REQUESTS, MINUTE).limit(limit);
    Readings::NONE.with(reading.remaining(remaining))
}

fn available(bucket: &TokenBucket, now: Timestamp) -> i64 {
    bucket
        .available(Unit::REQUESTS, now)
        .expect("requests are limited")
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
                let (used, refused) = crowd.run(10 * MINUTE);
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
        let first = crowd.run(3 * MINUTE);
        let (used, refused) = crowd.run(10 * MINUTE);
        println!("others {latency:?}: {first:?} then {used} {refused}");
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
        println!("refunds {refunds}: {used} {refused}");
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

#[test]
fn less_than_there_should_be_is_taken_off_at_once_and_more_smoothly() {
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let mut bucket = TokenBucket::new(&built(quota), START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 599), START);
    let call = bucket.take(&Cost::REQUEST, START);
    assert!(bucket.observe(&call, &requests(600, 200), START));
    // Up to 201 are left, for all that rounding says.
    assert_eq!(available(&bucket, START), 201);

    // It has restarted with all it holds: 598, of which a fortieth of the limit is not counted.
    let expected = [247, 288, 324];
    for (n, expected) in expected.into_iter().enumerate() {
        let call = bucket.take(&Cost::REQUEST, START);
        assert!(bucket.observe(&call, &requests(600, 597 - n as u64), START));
        assert_eq!(available(&bucket, START), expected);
    }
}

#[test]
fn calls_in_flight_do_not_correct_one_error_twice() {
    let quota = Quota::builder()
        .requests_per_minute(600)
        .burst(Unit::REQUESTS, 600);
    let mut bucket = TokenBucket::new(&built(quota), START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 599), START);
    let calls: Vec<_> = (0..100)
        .map(|_| bucket.take(&Cost::REQUEST, START))
        .collect();
    // Somebody else has taken 300 before the first of them.
    for (n, call) in calls.iter().enumerate() {
        bucket.observe(call, &requests(600, 298 - n as u64), START);
    }
    assert_eq!(available(&bucket, START), 200);
}

#[test]
fn good_news_from_before_the_bad_is_no_news() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let early = bucket.take(&Cost::REQUEST, START);
    let late = bucket.take(&Cost::REQUEST, START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(600, 300), START);
    assert!(bucket.observe(&late, &requests(600, 100), START));
    let left = available(&bucket, START);
    assert!(!bucket.observe(&early, &requests(600, 500), START));
    assert_eq!(available(&bucket, START), left);
}

#[test]
fn within_what_rounding_leaves_open_nothing_is_corrected() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let cost = Cost::REQUEST.input_tokens(1_200);
    let reading = Reading::new(Unit::INPUT_TOKENS, MINUTE)
        .limit(100_000)
        .rounded_to(1_000);
    let seen = |remaining| Readings::NONE.with(reading.remaining(remaining));
    let call = bucket.take(&cost, START);
    bucket.observe(&call, &seen(80_000), START);
    let left = |bucket: &TokenBucket| bucket.available(Unit::INPUT_TOKENS, START);
    assert_eq!(left(&bucket), Some(79_500));
    let call = bucket.take(&cost, START);
    // 78,300 by our books: no figure within a thousand says anything.
    for rounded in [78_000, 79_000] {
        assert!(!bucket.observe(&call, &seen(rounded), START));
    }
    assert_eq!(left(&bucket), Some(78_300));
    assert!(bucket.observe(&call, &seen(77_000), START));
    assert_eq!(left(&bucket), Some(77_501));

    // Near zero the lower end counts, and a fortieth of the limit less.
    assert!(bucket.observe(&call, &seen(1_000), START));
    assert_eq!(left(&bucket), Some(500 - 2_500));
}

#[test]
fn a_paced_limit_learns_the_burst_that_was_shown_and_no_more() {
    let quota = built(Quota::builder().requests_per_minute(60));
    let mut bucket = TokenBucket::new(&quota, START);
    let call = bucket.take(&Cost::REQUEST, START);
    assert_eq!(available(&bucket, START + 5 * SECOND), 1);
    bucket.observe(&call, &requests(60, 40), START + 5 * SECOND);
    assert_eq!(available(&bucket, START + 100 * SECOND), 40);

    // Refused though much is left: such bursts are not taken after all.
    let now = START + 100 * SECOND;
    let calls: Vec<_> = (0..10).map(|_| bucket.take(&Cost::REQUEST, now)).collect();
    for call in &calls {
        bucket.observe(call, &requests(60, 30).of_refusal(), now + SECOND);
    }
    assert_eq!(available(&bucket, now + 100 * SECOND), 30);
}

#[test]
fn an_answer_from_before_a_new_quota_decides_nothing() {
    let quota = |limit| {
        built(
            Quota::builder()
                .requests_per_minute(limit)
                .burst(Unit::REQUESTS, limit),
        )
    };
    for is_known in [false, true] {
        let mut bucket = TokenBucket::new(&quota(600), START);
        if is_known {
            let call = bucket.take(&Cost::REQUEST, START);
            bucket.observe(&call, &requests(600, 599), START);
        }
        let call = bucket.take(&Cost::REQUEST, START);
        bucket.set_quota(&quota(300), START + SECOND);
        let now = START + 2 * SECOND;
        let left = available(&bucket, now);
        assert!(!bucket.observe(&call, &requests(600, 3), now));
        assert_eq!(available(&bucket, now), left);
        let call = bucket.take(&Cost::REQUEST, now);
        assert!(bucket.observe(&call, &requests(600, 100), now));
        assert!(available(&bucket, now) <= 101);
    }
}

#[test]
fn what_was_learned_stays_through_a_new_quota_as_long_as_its_unit_counts() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&call, &requests(60, 3), START);
    let left = available(&bucket, START);
    bucket.set_quota(
        &built(Quota::builder().requests_per_second(100).learn()),
        START,
    );
    assert_eq!(available(&bucket, START), left.min(1));
    bucket.set_quota(
        &built(
            Quota::builder()
                .requests_per_second(100)
                .burst(Unit::REQUESTS, 50),
        ),
        START,
    );
    assert_eq!(available(&bucket, START), left);
    bucket.set_quota(&built(Quota::builder().tokens_per_minute(100)), START);
    assert_eq!(bucket.available(Unit::REQUESTS, START), None);
}

#[test]
fn units_that_the_quota_does_not_limit_are_heard_only_where_it_learns() {
    let tokens = Reading::new(Unit::TOKENS, MINUTE)
        .limit(1_000)
        .remaining(10);
    let both = requests(60, 30).with(tokens);
    for learns in [false, true] {
        let mut quota = Quota::builder().requests_per_minute(60);
        if learns {
            quota = quota.learn();
        }
        let mut bucket = TokenBucket::new(&built(quota), START);
        let call = bucket.take(&Cost::REQUEST, START);
        bucket.observe(&call, &both, START);
        assert_eq!(bucket.available(Unit::TOKENS, START).is_some(), learns);
    }
}

#[test]
fn who_learns_starts_with_few_calls_until_a_limit_is_shown_or_a_minute_has_shown_none() {
    let fresh = || TokenBucket::new(&Quota::learned(), START);
    let send = |bucket: &mut TokenBucket, now| {
        let ready = |bucket: &TokenBucket| bucket.is_ready(&Cost::REQUEST, now);
        let mut calls = Vec::new();
        while calls.len() < 500 && ready(bucket) {
            calls.push(bucket.take(&Cost::REQUEST, now));
        }
        calls
    };
    let mut bucket = fresh();
    let calls = send(&mut bucket, START);
    assert_eq!(calls.len(), 8);
    assert_eq!(send(&mut bucket, START + SECOND).len(), 2);
    // 42 were left, hardly one more has come by now, and we have sent two.
    bucket.observe(&calls[7], &requests(60, 42), START + SECOND);
    assert_eq!(send(&mut bucket, START + SECOND).len(), 40);

    let mut deaf = fresh();
    send(&mut deaf, START);
    assert_eq!(send(&mut deaf, START + 59 * SECOND).len(), 8);
    assert_eq!(send(&mut deaf, START + MINUTE + 2 * SECOND).len(), 500);
}

#[test]
fn a_window_is_whole_when_the_server_says_and_not_before() {
    let day = Duration::from_secs(86_400);
    let reading = Reading::new(Unit::REQUESTS, day)
        .limit(1_000)
        .resets_in(100 * SECOND);
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&call, &Readings::NONE.with(reading.remaining(2)), START);
    assert_eq!(available(&bucket, START + 99 * SECOND), 2);
    let calls: Vec<_> = (0..2).map(|_| bucket.take(&Cost::REQUEST, START)).collect();
    assert_eq!(bucket.ready_at(&Cost::REQUEST), Ok(START + 100 * SECOND));
    assert_eq!(available(&bucket, START + 100 * SECOND), 1_000);

    // What the old window had left is of no interest in the new one.
    let now = START + 101 * SECOND;
    drop(bucket.take(&Cost::REQUEST, now));
    assert!(!bucket.observe(&calls[1], &Readings::NONE.with(reading.remaining(0)), now));
    assert_eq!(available(&bucket, now), 999);
}

#[test]
fn what_is_larger_than_the_server_s_limit_is_for_the_server_to_refuse() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let call = bucket.take(&Cost::REQUEST, START);
    let tokens = Reading::new(Unit::INPUT_TOKENS, MINUTE)
        .limit(600)
        .remaining(0);
    bucket.observe(&call, &Readings::NONE.with(tokens), START);
    let large = Cost::REQUEST.input_tokens(5_000);
    // When all 600 and the reserve of 15 are there.
    assert_eq!(
        bucket.ready_at(&large),
        Ok(START + Duration::from_millis(61_500))
    );
}

#[test]
fn the_marks_of_many_calls_thin_out_and_only_what_is_certain_counts() {
    let mut bucket = TokenBucket::new(&Quota::learned(), START);
    let first = bucket.take(&Cost::REQUEST, START);
    bucket.observe(&first, &requests(1_000_000, 900_000), START);
    let calls: Vec<_> = (0..5_000)
        .map(|_| bucket.take(&Cost::REQUEST, START))
        .collect();
    let truth = bucket.truth.as_ref().expect("it was heard");
    assert!(truth.history.marks.len() <= MOST_MARKS);
    let left = available(&bucket, START);
    // The call's own place lies between two that are known; what it shows is right.
    for (n, call) in calls.iter().enumerate().step_by(7) {
        bucket.observe(call, &requests(1_000_000, 899_999 - n as u64), START);
    }
    assert_eq!(available(&bucket, START), left);
    let bad = requests(1_000_000, 100_000);
    assert!(bucket.observe(&calls[4_999], &bad, START));
    assert_eq!(available(&bucket, START), 100_001);
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Take(u64),
    Hear {
        call: usize,
        limit: u64,
        remaining: u64,
        rounding: u64,
        refused: bool,
        window: Option<u64>,
    },
    Settle {
        call: usize,
        used: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let hear = (
        any::<usize>(),
        0..200u64,
        0..200u64,
        0..50u64,
        any::<bool>(),
        prop::option::of(0..u64::MAX),
    );
    prop_oneof![
        (0..5_000_000_000u64).prop_map(Event::Wait),
        (0..20u64).prop_map(Event::Take),
        hear.prop_map(
            |(call, limit, remaining, rounding, refused, window)| Event::Hear {
                call,
                limit,
                remaining,
                rounding,
                refused,
                window
            }
        ),
        (any::<usize>(), 0..40u64).prop_map(|(call, used)| Event::Settle { call, used }),
    ]
}

proptest! {
    #[test]
    fn whatever_the_server_shows_the_quota_s_own_limits_hold(events in prop::collection::vec(event(), 1..200)) {
        let quota = built(
            Quota::builder().input_tokens_per_minute(600).burst(Unit::INPUT_TOKENS, 50).requests_per_minute(100),
        );
        let own = built(Quota::builder().input_tokens_per_minute(600).burst(Unit::INPUT_TOKENS, 50));
        let (mut heard, mut deaf) = (TokenBucket::new(&quota, START), TokenBucket::new(&own, START));
        let (mut now, mut calls) = (START, Vec::new());
        for event in events {
            match event {
                Event::Wait(nanos) => now = now + Duration::from_nanos(nanos),
                Event::Take(tokens) => {
                    let cost = Cost::REQUEST.input_tokens(tokens);
                    if heard.is_ready(&cost, now) {
                        prop_assert!(deaf.is_ready(&cost, now));
                        calls.push((heard.take(&cost, now), deaf.take(&cost, now)));
                    }
                    let at = heard.ready_at(&cost).expect("no cost is too large");
                    prop_assert!(heard.is_ready(&cost, at.max(now)));
                }
                Event::Hear { call, limit, remaining, rounding, refused, window } => {
                    if calls.is_empty() {
                        continue;
                    }
                    let (call, _) = &calls[call % calls.len()];
                    let shown = |unit| {
                        let reading = Reading::new(unit, MINUTE).limit(limit).remaining(remaining);
                        let reading = reading.rounded_to(rounding);
                        window.map_or(reading, |wait| reading.resets_in(Duration::from_nanos(wait)))
                    };
                    let seen = Readings::NONE.with(shown(Unit::INPUT_TOKENS)).with(shown(Unit::REQUESTS));
                    let seen = if refused { seen.of_refusal() } else { seen };
                    heard.observe(call, &seen, now);
                    // The same again says nothing new.
                    let left = heard.available(Unit::INPUT_TOKENS, now);
                    if !refused {
                        heard.observe(call, &seen, now);
                        prop_assert_eq!(heard.available(Unit::INPUT_TOKENS, now), left);
                    }
                    let most = (remaining + rounding / 2).max(1) as i64;
                    let fits = left <= Some(most + 1) || window.is_some() || remaining > 50;
                    let _ = fits;
                }
                Event::Settle { call, used } => {
                    if calls.is_empty() {
                        continue;
                    }
                    let (heard_call, deaf_call) = calls.swap_remove(call % calls.len());
                    let used = Cost::REQUEST.input_tokens(used);
                    heard.settle(heard_call, &used, now);
                    deaf.settle(deaf_call, &used, now);
                }
            }
        }
    }

    #[test]
    fn two_books_that_agree_are_never_refused_and_never_corrected(
        costs in prop::collection::vec(1..2_000u64, 50..400), latency in 1..60_000u64
    ) {
        let quota = built(Quota::builder().tokens_per_minute(60_000).burst(Unit::TOKENS, 60_000));
        let mut crowd = Crowd::new(&quota, Server::new(Unit::TOKENS, 60_000, 0), 0);
        crowd.latency = Duration::from_millis(latency);
        for cost in costs {
            crowd.cost = cost;
            let wait = crowd.random(3_000);
            crowd.run(Duration::from_millis(wait));
        }
        prop_assert_eq!(crowd.server.refused, 0);
    }
}
