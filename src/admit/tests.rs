use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    queue::{Counts, Look, Queue},
    resource::{Claim, Joint, Resource, Spent},
    slots::Slots,
    tokens::Tokens,
};
use crate::{
    outcome::Usage,
    policy::{Cost, CostTooLarge, Quota, Timestamp, Unit},
};

const SLACK: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

// === a resource of two scopes ===

/// Two scopes, each of which serves one call and then rests.
struct Scopes {
    rests_until: [Timestamp; 2],
    rest: Duration,
    claimed: [bool; 2],
    /// Claimed by others at the beginning of every pass.
    taken: [bool; 2],
    /// Nobody may ask for this scope any more.
    closed: Option<usize>,
    waiters: [usize; 3],
}

/// What a call can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Only(usize),
    Either,
}

impl Scopes {
    fn new(first: u64, second: u64) -> Self {
        Self {
            rests_until: [at(first), at(second)],
            rest: Duration::from_secs(1_000),
            claimed: [false; 2],
            taken: [false; 2],
            closed: None,
            waiters: [0; 3],
        }
    }
}

impl Resource for Scopes {
    type Ask = Ask;
    type Grant = (usize, Ask);

    fn lines(&self) -> usize {
        3
    }

    fn line(&self, ask: &Ask) -> usize {
        match ask {
            Ask::Only(scope) => *scope,
            Ask::Either => 2,
        }
    }

    fn is_free(&self, ask: &Ask, now: Timestamp) -> bool {
        let usable = |scope: usize| *ask == Ask::Either || *ask == Ask::Only(scope);
        (0..2).any(|scope| usable(scope) && self.rests_until[scope] <= now)
    }

    fn begin_pass(&mut self) {
        self.claimed = self.taken;
    }

    fn claim(&mut self, ask: &Ask, now: Timestamp) -> Claim {
        let usable = |scope: &usize| *ask == Ask::Either || *ask == Ask::Only(*scope);
        if self.closed.is_some_and(|closed| *ask == Ask::Only(closed)) {
            return Claim::Never(CostTooLarge::new(Unit::REQUESTS, 2, 1));
        }
        let free = (0..2).filter(usable).filter(|scope| !self.claimed[*scope]);
        let Some(scope) = free.min_by_key(|scope| self.rests_until[*scope]) else {
            return Claim::Nothing;
        };
        let ready = self.rests_until[scope];
        if ready == Timestamp::MAX {
            self.claimed[scope] = true;
            return Claim::OnRelease;
        }
        if ready <= now {
            return Claim::Ready(ready);
        }
        self.claimed[scope] = true;
        Claim::At(ready)
    }

    fn take(&mut self, ask: &Ask, _: Timestamp, now: Timestamp) -> (usize, Ask) {
        let scope = match *ask {
            Ask::Only(scope) => scope,
            Ask::Either if self.rests_until[0] <= self.rests_until[1] => 0,
            Ask::Either => 1,
        };
        self.rests_until[scope] = now + self.rest;
        (scope, *ask)
    }

    fn is_inert(_: &(usize, Ask), _: Spent) -> bool {
        false
    }

    fn release(&mut self, (scope, _): (usize, Ask), _: Spent, now: Timestamp) {
        self.rests_until[scope] = now;
    }

    fn undo(&mut self, (scope, ask): (usize, Ask), now: Timestamp) -> Ask {
        self.rests_until[scope] = now;
        ask
    }

    fn expect(&self, _: &Ask, now: Timestamp) -> Result<Timestamp, CostTooLarge> {
        Ok(now)
    }

    fn joined(&mut self, ask: &Ask) {
        self.waiters[self.line(ask)] += 1;
    }

    fn left(&mut self, ask: &Ask) {
        self.waiters[self.line(ask)] -= 1;
    }
}

/// A queue, its clock, and a waker that counts.
struct Bench<R: Resource> {
    queue: Queue<R>,
    now: Timestamp,
    woken: Arc<Count>,
    ended: u64,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<R: Resource> Bench<R> {
    fn new(resource: R) -> Self {
        Self {
            queue: Queue::new(resource, SLACK),
            now: Timestamp::ZERO,
            woken: Arc::default(),
            ended: 0,
        }
    }

    fn join(&mut self, ask: R::Ask) -> u32 {
        let (ticket, _) = self.queue.join(ask, self.now, self.now);
        self.pass();
        ticket
    }

    fn pass(&mut self) {
        let mut wake = Vec::new();
        self.queue.pass(self.now, &mut wake);
        wake.into_iter().for_each(Waker::wake);
    }

    fn look(&mut self, ticket: u32) -> Look<R> {
        self.look_by(ticket, Timestamp::ZERO)
    }

    fn look_by(&mut self, ticket: u32, fallback: Timestamp) -> Look<R> {
        let mut waker = Waker::from(Arc::clone(&self.woken));
        let mut wake = Vec::new();
        let look = self
            .queue
            .look(ticket, fallback, self.now, &mut waker, &mut wake);
        wake.into_iter().for_each(Waker::wake);
        look
    }

    /// When a waiter looks again, if it still waits.
    fn waits(&mut self, ticket: u32) -> Option<Timestamp> {
        match self.look(ticket) {
            Look::Wait(due) => Some(due),
            Look::Granted(_) | Look::Failed(_) => None,
        }
    }

    fn granted(&mut self, ticket: u32) -> R::Grant {
        match self.look(ticket) {
            Look::Granted(grant) => grant,
            Look::Wait(due) => panic!("it waits until {due:?}"),
            Look::Failed(why) => panic!("{why}"),
        }
    }

    fn release(&mut self, grant: R::Grant) {
        self.release_as(grant, Spent::Nothing);
        self.pass();
    }

    fn release_as(&mut self, grant: R::Grant, spent: Spent) {
        self.queue.resource.release(grant, spent, self.now);
        self.ended += 1;
    }

    /// Calls in flight, calls admitted so far, calls waiting.
    fn counts(&self) -> (u64, u64, usize) {
        let admitted = self.queue.counts.admitted;
        (admitted - self.ended, admitted, self.queue.waiting())
    }

    fn leave(&mut self, ticket: u32) {
        self.queue.leave(ticket, self.now);
        self.pass();
    }

    /// How many have been woken since the last time this was asked.
    fn woken(&self) -> usize {
        self.woken.0.swap(0, Ordering::Relaxed)
    }
}

#[test]
fn a_call_for_a_resting_scope_blocks_nobody_who_can_use_the_other() {
    let mut bench = Bench::new(Scopes::new(100, 0));
    let first = bench.join(Ask::Only(0));
    let second = bench.join(Ask::Only(0));
    let other = bench.join(Ask::Only(1));
    assert_eq!(bench.waits(first), Some(at(100)));
    assert_eq!(bench.granted(other).0, 1);
    assert_eq!(bench.queue.waiting(), 2);
    bench.now = at(100);
    bench.pass();
    assert_eq!(bench.granted(first).0, 0);
    assert!(bench.waits(second).is_some());
    assert_eq!(bench.queue.resource.waiters, [1, 0, 0]);
}

#[test]
fn each_claims_what_serves_it_soonest_and_later_ones_see_the_rest() {
    let mut bench = Bench::new(Scopes::new(100, 50));
    let [first, second, third] = [Ask::Either; 3].map(|ask| bench.join(ask));
    assert_eq!(bench.waits(first), Some(at(50)));
    assert_eq!(bench.waits(second), Some(at(100)));
    // Without a claim: looks with those who are due, but not at once.
    assert_eq!(bench.waits(third), Some(at(50)));
    assert!(matches!(bench.look_by(third, at(60)), Look::Wait(due) if due == at(60)));
    assert_eq!(bench.woken(), 0);
    bench.now = at(50);
    bench.pass();
    assert_eq!(bench.woken(), 1);
    assert_eq!(bench.granted(first).0, 1);
    assert_eq!(bench.waits(second), Some(at(100)));
    // The second keeps the scope that it can use at 100; the third claims the one at 1,050.
    assert_eq!(bench.waits(third), Some(at(1_050)));
}

#[test]
fn among_lines_the_earlier_arrival_is_served_first() {
    let mut bench = Bench::new(Scopes::new(10, 10));
    let either = bench.join(Ask::Either);
    let only = bench.join(Ask::Only(0));
    let late = bench.join(Ask::Either);
    bench.now = at(10);
    bench.pass();
    // The earlier takes the first scope, though the later could use no other.
    assert_eq!(bench.granted(either).0, 0);
    assert!(bench.waits(only).is_some());
    assert_eq!(bench.granted(late).0, 1);
}

#[test]
fn a_claim_on_the_next_release_has_no_timer() {
    let mut scopes = Scopes::new(0, 0);
    scopes.rests_until = [Timestamp::MAX; 2];
    let mut bench = Bench::new(scopes);
    let tickets = [Ask::Either; 3].map(|ask| bench.join(ask));
    for ticket in tickets {
        assert!(matches!(bench.look_by(ticket, at(50)), Look::Wait(due) if due == Timestamp::MAX));
    }
    bench.now = at(7);
    bench.queue.resource.rests_until[1] = bench.now;
    bench.pass();
    assert_eq!(bench.granted(tickets[0]).0, 1);
    // The served, and the next, which now has an instant to wait for.
    assert_eq!(bench.woken(), 2);
    assert_eq!(bench.waits(tickets[1]), Some(at(1_007)));
    assert_eq!(bench.queue.waiting(), 2);
}

#[test]
fn all_claims_of_a_line_that_finds_nothing_are_void() {
    let mut bench = Bench::new(Scopes::new(100, 50));
    let [first, second] = [Ask::Either; 2].map(|ask| bench.join(ask));
    assert_eq!(bench.waits(second), Some(at(100)));
    bench.queue.resource.taken = [true; 2];
    bench.now = at(50);
    bench.pass();
    assert_eq!(bench.waits(first), Some(Timestamp::MAX));
    bench.now = at(100);
    bench.pass();
    assert_eq!(bench.waits(second), Some(Timestamp::MAX), "it would spin");
}

#[test]
fn a_claimant_whose_instant_comes_sooner_is_woken_and_one_whose_comes_later_is_not() {
    let mut bench = Bench::new(Scopes::new(100, 100));
    let only = bench.join(Ask::Only(0));
    assert_eq!(bench.waits(only), Some(at(100)));
    bench.queue.resource.rests_until[0] = at(200);
    bench.pass();
    assert_eq!(bench.woken(), 0);
    bench.queue.resource.rests_until[0] = at(100);
    bench.pass();
    assert_eq!(bench.woken(), 0, "its timer is set to that very instant");
    bench.queue.resource.rests_until[0] = at(99);
    bench.pass();
    assert_eq!(bench.woken(), 1);
    bench.pass();
    assert_eq!(bench.woken(), 0, "once is enough");
    assert_eq!(bench.waits(only), Some(at(99)));
}

#[test]
fn who_can_never_be_served_is_told_so_and_makes_room() {
    let mut bench = Bench::new(Scopes::new(100, 200));
    let first = bench.join(Ask::Only(0));
    let closed = bench.join(Ask::Only(1));
    let last = bench.join(Ask::Only(0));
    assert!(bench.waits(closed).is_some());
    bench.queue.resource.closed = Some(1);
    bench.pass();
    assert_eq!(bench.woken(), 1);
    assert!(matches!(bench.look(closed), Look::Failed(why) if why.cost() == 2));
    assert_eq!(bench.queue.resource.waiters, [2, 0, 0]);
    assert_eq!((bench.queue.waiting(), bench.queue.counts.refused), (2, 1));
    assert!(bench.waits(first).is_some() && bench.waits(last).is_some());
    // One that fails and is never looked at again leaves like any other.
    bench.queue.resource.closed = Some(0);
    bench.pass();
    assert_eq!(bench.queue.waiting(), 0);
    bench.leave(first);
    bench.leave(last);
    assert_eq!((bench.queue.waiting(), bench.queue.counts.admitted), (0, 0));
}

#[test]
fn who_leaves_from_anywhere_in_a_line_leaves_the_line_in_order() {
    for leaver in 0..4 {
        let mut bench = Bench::new(Scopes::new(10, 10_000));
        bench.queue.resource.rest = Duration::from_secs(1);
        let mut tickets: Vec<_> = (0..4).map(|_| bench.join(Ask::Only(0))).collect();
        bench.leave(tickets.remove(leaver));
        assert_eq!(bench.queue.resource.waiters, [3, 0, 0]);
        // Its place is given to the next that comes, at the end of the line.
        tickets.push(bench.join(Ask::Only(0)));
        for (n, ticket) in tickets.iter().enumerate() {
            bench.now = at(10 + n as u64);
            bench.pass();
            assert_eq!(bench.queue.waiting(), 3 - n);
            assert_eq!(bench.granted(*ticket).0, 0);
        }
    }
}

#[test]
fn places_are_used_again() {
    let mut bench = Bench::new(Scopes::new(10, 10));
    let tickets: Vec<_> = (0..5).map(|_| bench.join(Ask::Either)).collect();
    for ticket in &tickets {
        bench.leave(*ticket);
    }
    let mut again: Vec<_> = (0..5).map(|_| bench.join(Ask::Either)).collect();
    again.sort_unstable();
    assert_eq!(again, tickets);
    assert_eq!(bench.join(Ask::Either), 5);
}

#[test]
fn a_grant_left_unseen_goes_back_when_its_caller_leaves() {
    let mut bench = Bench::new(Scopes::new(10, 10_000));
    let first = bench.join(Ask::Only(0));
    let second = bench.join(Ask::Only(0));
    bench.now = at(10);
    bench.pass();
    assert_eq!(bench.counts(), (1, 1, 1));
    bench.leave(first);
    assert_eq!(bench.counts(), (1, 1, 0));
    let grant = bench.granted(second);
    bench.release(grant);
    assert_eq!(bench.counts(), (0, 1, 0));
}

#[test]
fn a_grant_seen_later_than_the_slack_goes_back_and_its_call_to_its_place() {
    let mut bench = Bench::new(Scopes::new(10, 10_000));
    bench.queue.resource.rest = Duration::from_secs(1);
    let [first, second, third] = [Ask::Only(0); 3].map(|ask| bench.join(ask));
    for now in 10..13 {
        bench.now = at(now);
        bench.pass();
        assert_eq!(bench.counts().0, now - 9);
    }
    let fourth = bench.join(Ask::Only(0));
    // The scope rests long from now on, so that what goes back cannot be granted at once.
    bench.queue.resource.rest = Duration::from_secs(100);
    bench.now = at(16);
    assert_eq!(bench.granted(second), (0, Ask::Only(0)), "just in time");
    bench.queue.resource.rests_until[0] = at(500);
    bench.now = at(19);
    // Undone, the scope is free again: to the first alone, who came before the fourth.
    assert_eq!(bench.granted(first), (0, Ask::Only(0)));
    assert_eq!(bench.queue.resource.rests_until[0], at(119));
    assert_eq!(bench.granted(third), (0, Ask::Only(0)));
    assert!(bench.waits(fourth).is_some());
    assert_eq!(bench.counts(), (3, 3, 1));
    assert_eq!(bench.queue.resource.waiters, [1, 0, 0]);
}

#[test]
fn the_age_of_a_grant_counts_from_the_instant_it_is_charged_as_of() {
    let mut bench = Bench::new(Scopes::new(10, 10_000));
    let ticket = bench.join(Ask::Only(0));
    bench.now = at(13);
    bench.pass();
    bench.now = at(15);
    let undone = bench.queue.resource.rests_until[0];
    bench.granted(ticket);
    assert_eq!(bench.queue.resource.rests_until[0], undone, "5 s: not yet");

    let mut bench = Bench::new(Scopes::new(10, 10_000));
    let ticket = bench.join(Ask::Only(0));
    bench.now = at(13);
    bench.pass();
    bench.now = at(16);
    bench.granted(ticket);
    assert_eq!(
        bench.queue.resource.rests_until[0],
        at(1_016),
        "granted anew"
    );
}

/// One scope, as many calls as it has tokens of one per second.
fn tokens(burst: u64) -> Tokens {
    Tokens::new(&quota(burst, None), Timestamp::ZERO)
}

fn quota(burst: u64, max_in_flight: Option<usize>) -> Quota {
    let builder = Quota::builder()
        .input_tokens_per_minute(60)
        .burst(Unit::INPUT_TOKENS, burst)
        .slack(Duration::ZERO);
    let builder = match max_in_flight {
        Some(calls) => builder.max_in_flight(calls),
        None => builder,
    };
    builder.build().expect("valid")
}

fn cost(n: u64) -> Cost {
    Cost::ZERO.input_tokens(n)
}

fn left(tokens: &Tokens, now: u64) -> i64 {
    let left = tokens.bucket().available(Unit::INPUT_TOKENS, at(now));
    left.expect("metered")
}

#[test]
fn recalled_calls_return_to_the_order_they_came_in() {
    // Four are granted and seen late, in an order of their own, when debt lets none of them go.
    let mut bench = Bench::new(tokens(4));
    bench.queue.set_slack(Duration::ZERO);
    let spent = bench.queue.try_admit(&cost(4), at(0)).expect("affordable");
    let tickets: Vec<_> = (0..5).map(|_| bench.join(cost(1))).collect();
    assert_eq!(bench.queue.waiting(), 5);
    bench.now = at(4);
    bench.pass();
    assert_eq!(bench.queue.waiting(), 1);
    bench.now = at(5);
    let debt = Usage::UNKNOWN.input_tokens(104);
    bench.release_as(spent, Spent::Exactly(debt));
    for n in [2, 0, 3, 1] {
        assert!(bench.waits(tickets[n]).is_some());
    }
    assert_eq!(bench.queue.waiting(), 5);
    // Each refund has made it a second sooner: 4 + 100 - 1 spent at 5, 4 given back.
    let first = bench.waits(tickets[0]).expect("it waits");
    assert!(first > at(90) && first < at(110), "{first:?}");
    for (n, ticket) in tickets.iter().enumerate() {
        bench.now = first + Duration::from_secs(n as u64);
        bench.pass();
        assert_eq!(bench.queue.waiting(), 4 - n);
        let _spent = bench.granted(*ticket);
    }
}

#[test]
fn a_claim_lost_to_a_call_that_came_back_is_no_claim() {
    let mut bench = Bench::new(tokens(1));
    bench.queue.set_slack(Duration::from_millis(1));
    let spent = bench.queue.try_admit(&cost(1), at(0)).expect("affordable");
    let first = bench.join(cost(1));
    let second = bench.join(cost(1));
    bench.now = at(1);
    bench.pass();
    assert_eq!(bench.waits(second), Some(at(2)));
    bench.now = at(1) + Duration::from_millis(500);
    let debt = Usage::UNKNOWN.input_tokens(11);
    bench.release_as(spent, Spent::Exactly(debt));
    bench.pass();
    assert_eq!(bench.waits(second), Some(at(12)));
    assert_eq!(bench.waits(first), Some(at(11)));
    let looks = bench.waits(second).expect("it waits");
    assert!(looks < at(12), "{looks:?} is its old claim");
    bench.now = at(12);
    let looks = bench.waits(second).expect("nobody passed");
    assert!(looks > bench.now, "it would spin");
}

#[test]
fn looks_without_a_claim_grow_rarer() {
    let mut bench = Bench::new(tokens(10));
    let _spent = bench.queue.try_admit(&cost(10), at(0));
    let _first = bench.join(cost(10));
    let last = bench.join(cost(1));
    assert_eq!(bench.waits(last), Some(at(10)), "with whoever is due next");
    bench.now = at(9);
    // A quarter of the 9 s it has waited, and a millisecond.
    let pause = Duration::from_millis(2_251);
    assert_eq!(bench.waits(last), Some(at(9) + pause));
}

#[test]
fn who_joins_a_line_looks_a_quarter_of_the_slack_after_the_call_before_it() {
    let mut queue = Queue::new(tokens(1), SLACK);
    let (_, alone) = queue.join(cost(1), at(10), at(0));
    assert_eq!(alone, at(10));
    let (_, soon) = queue.join(cost(1), at(11), at(0));
    assert_eq!(soon, at(11), "sooner than that");
    let (_, later) = queue.join(cost(1), at(30), at(0));
    assert_eq!(later, at(12) + Duration::from_millis(250));
    let (_, after) = queue.join(cost(1), at(40), at(33));
    assert_eq!(
        after,
        at(34) + Duration::from_millis(250),
        "never in the past"
    );
}

// === tokens and slots ===

#[test]
fn slots_are_counted_and_know_since_when_they_are_free() {
    let one = NonZeroUsize::new(1);
    let mut slots = Slots::new(one);
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(3)), Claim::Ready(Timestamp::ZERO));
    let slot = slots.take(&(), at(3), at(3));
    assert_eq!(slots.claim(&(), at(4)), Claim::OnRelease);
    assert_eq!(slots.claim(&(), at(4)), Claim::Nothing);
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(4)), Claim::OnRelease);
    slots.release(slot, Spent::Nothing, at(5));
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(9)), Claim::Ready(at(5)));

    slots.set_limit(NonZeroUsize::new(2), at(10));
    assert_eq!(
        slots.claim(&(), at(11)),
        Claim::Ready(at(5)),
        "it was not full"
    );
    let (first, second) = (
        slots.take(&(), at(11), at(11)),
        slots.take(&(), at(11), at(11)),
    );
    slots.set_limit(None, at(12));
    assert_eq!(slots.claim(&(), at(13)), Claim::Ready(at(12)));
    slots.set_limit(one, at(14));
    slots.undo(first, at(15));
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(15)), Claim::OnRelease, "one of one");
    slots.undo(second, at(16));
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(17)), Claim::Ready(at(16)));
    assert_eq!(slots.expect(&(), at(18)), Ok(at(18)));
    // A place among several free ones leaves the instant as it is.
    slots.set_limit(NonZeroUsize::new(3), at(19));
    let slot = slots.take(&(), at(19), at(19));
    slots.release(slot, Spent::Nothing, at(20));
    assert_eq!(slots.claim(&(), at(21)), Claim::Ready(at(16)));
}

#[test]
fn tokens_settle_as_the_answer_says() {
    let exactly = |n| Spent::Exactly(Usage::UNKNOWN.input_tokens(n));
    let at_least = |n| Spent::AtLeast(Usage::UNKNOWN.input_tokens(n));
    for (spent, expected) in [
        (Spent::Nothing, 10),
        (exactly(1), 9),
        (exactly(9), 1),
        (at_least(1), 6),
        (at_least(7), 3),
        (Spent::Exactly(Usage::UNKNOWN), 6),
        (Spent::AtLeast(Usage::UNKNOWN), 6),
        (Spent::Exactly(Usage::UNKNOWN.output_tokens(50)), 6),
    ] {
        let mut tokens = tokens(10);
        let reservation = tokens.take(&cost(4), at(0), at(0));
        tokens.release(reservation, spent, at(0));
        assert_eq!(left(&tokens, 0), expected, "{spent:?}");
    }
}

#[test]
fn what_waits_ahead_is_part_of_what_is_expected() {
    let mut tokens = tokens(10);
    assert_eq!(
        tokens.expect(&cost(10), at(3)),
        Ok(at(3)),
        "not in the past"
    );
    let _spent = tokens.take(&cost(10), at(3), at(3));
    assert_eq!(tokens.expect(&cost(2), at(3)), Ok(at(5)));
    tokens.joined(&cost(4));
    tokens.joined(&cost(3));
    assert_eq!(tokens.expect(&cost(2), at(3)), Ok(at(12)));
    tokens.left(&cost(4));
    assert_eq!(tokens.expect(&cost(2), at(3)), Ok(at(8)));
    tokens.left(&cost(3));
    assert_eq!(tokens.expect(&cost(2), at(3)), Ok(at(5)));
    assert!(tokens.expect(&cost(11), at(3)).is_err());
}

#[test]
fn the_largest_of_those_ahead_is_forgotten_when_nobody_waits() {
    // Paced: the capacity is that of the largest cost.
    let quota = Quota::builder().input_tokens_per_minute(60).build();
    let mut tokens = Tokens::new(&quota.expect("valid"), at(0));
    let _spent = tokens.take(&cost(1), at(0), at(0));
    tokens.joined(&cost(9));
    // Room for nine once the first nine have been taken: 1 + 9 + 1 - 9.
    assert_eq!(tokens.expect(&cost(1), at(0)), Ok(at(2)));
    tokens.joined(&cost(1));
    tokens.left(&cost(9));
    assert_eq!(tokens.expect(&cost(1), at(0)), Ok(at(0)));
    tokens.left(&cost(1));
    assert_eq!(tokens.expect(&cost(1), at(0)), Ok(at(1)));
}

#[test]
fn tokens_are_claimed_by_the_first_who_must_wait_for_them() {
    let mut tokens = tokens(2);
    tokens.begin_pass();
    assert!(matches!(tokens.claim(&cost(3), at(0)), Claim::Never(_)));
    assert_eq!(tokens.claim(&cost(1), at(0)), Claim::Ready(at(0)));
    let reservation = tokens.take(&cost(2), at(0), at(0));
    assert_eq!(tokens.claim(&cost(1), at(0)), Claim::At(at(1)));
    assert_eq!(tokens.claim(&cost(0), at(0)), Claim::Nothing);
    tokens.begin_pass();
    assert_eq!(tokens.claim(&cost(2), at(0)), Claim::At(at(2)));
    assert_eq!(tokens.undo(reservation, at(0)), cost(2));
    assert_eq!(left(&tokens, 0), 2);
    tokens.set_quota(&quota(7, None), at(0));
    assert_eq!(left(&tokens, 0), 7);
}

/// Says what it is told, and remembers what it was asked.
struct Told {
    claim: Claim,
    lines: usize,
    expected: Timestamp,
    waiters: usize,
    passes: usize,
}

impl Told {
    fn new(claim: Claim, lines: usize, expected: u64) -> Self {
        Self {
            claim,
            lines,
            expected: at(expected),
            waiters: 0,
            passes: 0,
        }
    }
}

impl Resource for Told {
    type Ask = usize;
    type Grant = usize;

    fn lines(&self) -> usize {
        self.lines
    }

    fn line(&self, ask: &usize) -> usize {
        *ask
    }

    fn is_free(&self, _: &usize, _: Timestamp) -> bool {
        matches!(self.claim, Claim::Ready(_))
    }

    fn begin_pass(&mut self) {
        self.passes += 1;
    }

    fn claim(&mut self, _: &usize, _: Timestamp) -> Claim {
        self.claim.clone()
    }

    fn take(&mut self, ask: &usize, _: Timestamp, _: Timestamp) -> usize {
        *ask
    }

    fn is_inert(grant: &usize, spent: Spent) -> bool {
        *grant == 0 && spent == Spent::Nothing
    }

    fn release(&mut self, _: usize, _: Spent, _: Timestamp) {}

    fn undo(&mut self, grant: usize, _: Timestamp) -> usize {
        grant
    }

    fn expect(&self, _: &usize, _: Timestamp) -> Result<Timestamp, CostTooLarge> {
        Ok(self.expected)
    }

    fn joined(&mut self, _: &usize) {
        self.waiters += 1;
    }

    fn left(&mut self, _: &usize) {
        self.waiters -= 1;
    }
}

#[test]
fn both_of_a_joint_resource_must_be_free() {
    let never = || Claim::Never(CostTooLarge::new(Unit::REQUESTS, 2, 1));
    let cases = [
        (
            Claim::Ready(at(1)),
            Claim::Ready(at(2)),
            Claim::Ready(at(2)),
        ),
        (Claim::Ready(at(9)), Claim::At(at(4)), Claim::At(at(9))),
        (Claim::At(at(3)), Claim::At(at(4)), Claim::At(at(4))),
        (Claim::Ready(at(1)), Claim::OnRelease, Claim::OnRelease),
        (Claim::At(at(1)), Claim::OnRelease, Claim::OnRelease),
        (Claim::OnRelease, Claim::Nothing, Claim::Nothing),
        (Claim::Ready(at(1)), Claim::Nothing, Claim::Nothing),
        (Claim::Nothing, never(), never()),
        (Claim::Ready(at(1)), never(), never()),
    ];
    for (one, other, expected) in cases {
        for (a, b) in [(one.clone(), other.clone()), (other, one)] {
            let mut joint = Joint(Told::new(a, 1, 0), Told::new(b, 1, 0));
            assert_eq!(joint.claim(&(0, 0), at(0)), expected);
        }
    }
}

#[test]
fn a_joint_resource_has_a_line_for_each_pair() {
    let told = |lines, expected| Told::new(Claim::Nothing, lines, expected);
    let mut joint = Joint(told(3, 5), told(4, 7));
    assert_eq!(joint.lines(), 12);
    let lines: Vec<_> = (0..3)
        .flat_map(|a| (0..4).map(move |b| (a, b)))
        .map(|ask| joint.line(&ask))
        .collect();
    assert_eq!(lines, (0..12).collect::<Vec<_>>());
    assert_eq!(joint.expect(&(0, 0), at(0)), Ok(at(7)));
    assert_eq!(joint.take(&(1, 2), at(0), at(0)), (1, 2));
    assert_eq!(joint.undo((1, 2), at(0)), (1, 2));
    joint.begin_pass();
    joint.joined(&(0, 0));
    assert_eq!((joint.0.passes, joint.1.passes), (1, 1));
    assert_eq!((joint.0.waiters, joint.1.waiters), (1, 1));
    joint.left(&(0, 0));
    assert_eq!((joint.0.waiters, joint.1.waiters), (0, 0));
}

#[test]
fn a_joint_grant_is_inert_if_both_parts_are() {
    type Both = Joint<Told, Told>;
    assert!(Both::is_inert(&(0, 0), Spent::Nothing));
    assert!(!Both::is_inert(&(1, 0), Spent::Nothing));
    assert!(!Both::is_inert(&(0, 1), Spent::Nothing));
    let free = |a, b| Joint(Told::new(a, 1, 0), Told::new(b, 1, 0)).is_free(&(0, 0), at(0));
    let ready = || Claim::Ready(at(0));
    assert!(free(ready(), ready()));
    assert!(!free(ready(), Claim::OnRelease));
    assert!(!free(Claim::OnRelease, ready()));
}

#[test]
fn only_what_changes_nothing_is_inert() {
    let mut tokens = tokens(10);
    let reservation = tokens.take(&cost(4), at(0), at(0));
    let seen = Usage::UNKNOWN.input_tokens(4);
    for (spent, is_inert) in [
        (Spent::AS_RESERVED, true),
        (Spent::Exactly(Usage::UNKNOWN), true),
        (Spent::Exactly(seen), false),
        (Spent::AtLeast(seen), false),
        (Spent::Nothing, false),
    ] {
        assert_eq!(Tokens::is_inert(&reservation, spent), is_inert, "{spent:?}");
    }
    let mut slots = Slots::new(None);
    let uncounted = slots.take(&(), at(0), at(0));
    assert!(Slots::is_inert(&uncounted, Spent::Nothing));
    slots.set_limit(NonZeroUsize::new(1), at(1));
    assert!(slots.is_free(&(), at(1)), "what came before does not count");
    let counted = slots.take(&(), at(1), at(1));
    assert!(!Slots::is_inert(&counted, Spent::AS_RESERVED));
    slots.release(uncounted, Spent::AS_RESERVED, at(2));
    assert!(!slots.is_free(&(), at(2)), "nor does it give a place back");
}

#[test]
fn calls_are_timed_at_most_each_hundred_microseconds() {
    let mut counts = Counts::default();
    assert_eq!(counts.mean_latency(), None);
    let micros = |n| at(1) + Duration::from_micros(n);
    let timed = [0, 99, 100, 150, 201].map(|n| counts.is_timed(micros(n)));
    assert_eq!(timed, [true, false, true, false, true]);
    counts.count_time(Duration::from_secs(4));
    counts.count_time(Duration::from_secs(5));
    assert_eq!(counts.mean_latency(), Some(Duration::from_millis(4_500)));
}

#[test]
fn the_peak_is_of_calls_in_flight() {
    let mut counts = Counts::default();
    for (admitted, ended, peak) in [(3, 0, 3), (5, 4, 3), (9, 4, 5), (9, 9, 5)] {
        counts.admitted = admitted;
        counts.note_peak(ended);
        assert_eq!(counts.peak_active, peak);
    }
}

// === against a naive model ===

#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    Leave(prop::sample::Index),
    Release(prop::sample::Index, Option<u64>),
    Wait(u64),
    Slots(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (0..=10u64).prop_map(Step::Join),
        1 => index().prop_map(Step::Leave),
        3 => (index(), prop::option::of(0..20u64)).prop_map(|(i, used)| Step::Release(i, used)),
        3 => (0..8u64).prop_map(Step::Wait),
        1 => (1..5u64).prop_map(Step::Slots),
    ];
    prop::collection::vec(step, 1..120)
}

/// Ten tokens, one more each second; some slots; one list of waiters.
#[derive(Default)]
struct Model {
    spent: u64,
    /// When all that had been spent was last seen drained.
    emptied: Timestamp,
    in_flight: u64,
    slots: u64,
    /// Number and cost of each waiter.
    waiters: Vec<(usize, u64)>,
}

impl Model {
    /// Serves from the front as long as the front can be served.
    fn serve(&mut self) -> Vec<usize> {
        let mut served = Vec::new();
        while let Some(&(number, cost)) = self.waiters.first() {
            let fits = self.spent + cost <= 10 && self.in_flight < self.slots;
            if !fits {
                break;
            }
            self.spent += cost;
            self.in_flight += 1;
            self.waiters.remove(0);
            served.push(number);
        }
        served
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// First come first served, rate and slots all or nothing, nothing lost and nothing invented,
    /// over any interleaving of arrivals, departures, releases and time.
    #[test]
    fn the_queue_does_as_a_naive_one(steps in steps()) {
        type Metered = Joint<Tokens, Slots>;
        let quota = quota(10, Some(3));
        let resource = Joint(Tokens::new(&quota, at(0)), Slots::new(quota.max_in_flight()));
        let mut bench: Bench<Metered> = Bench::new(resource);
        bench.queue.set_slack(Duration::ZERO);
        let mut model = Model { slots: 3, ..Model::default() };
        let mut tickets: Vec<(usize, u32)> = Vec::new();
        let mut held: Vec<(u64, Timestamp, <Metered as Resource>::Grant)> = Vec::new();
        let mut costs = Vec::new();
        for step in steps {
            match step {
                Step::Join(tokens) => {
                    let number = costs.len();
                    costs.push(tokens);
                    model.waiters.push((number, tokens));
                    let ask = (cost(tokens), ());
                    match bench.queue.try_admit(&ask, bench.now) {
                        Some(grant) => {
                            prop_assert_eq!(model.serve(), [number]);
                            held.push((tokens, bench.now, grant));
                        }
                        None => tickets.push((number, bench.join(ask))),
                    }
                }
                Step::Leave(index) if !tickets.is_empty() => {
                    let (number, ticket) = tickets.remove(index.index(tickets.len()));
                    model.waiters.retain(|waiter| waiter.0 != number);
                    bench.leave(ticket);
                }
                Step::Release(index, used) if !held.is_empty() => {
                    let (reserved, since, grant) = held.remove(index.index(held.len()));
                    let usage = used.map_or(Usage::UNKNOWN, |n| Usage::UNKNOWN.input_tokens(n));
                    let used = used.unwrap_or(reserved);
                    if used >= reserved || since >= model.emptied {
                        model.spent = (model.spent + used).saturating_sub(reserved);
                    }
                    model.in_flight -= 1;
                    bench.release_as(grant, Spent::Exactly(usage));
                    bench.pass();
                }
                Step::Wait(seconds) => {
                    bench.now = bench.now + Duration::from_secs(seconds);
                    // Someone is due at each instant in between at the latest.
                    if (1..=seconds).contains(&model.spent) {
                        model.emptied = bench.now;
                    }
                    model.spent = model.spent.saturating_sub(seconds);
                    bench.pass();
                }
                Step::Slots(limit) => {
                    model.slots = limit;
                    let now = bench.now;
                    bench.queue.resource.1.set_limit(NonZeroUsize::new(limit as usize), now);
                    bench.pass();
                }
                Step::Leave(_) | Step::Release(..) => {}
            }
            let expected = model.serve();
            let mut served = Vec::new();
            tickets.retain(|&(number, ticket)| match bench.look(ticket) {
                Look::Granted(grant) => {
                    served.push(number);
                    held.push((costs[number], bench.now, grant));
                    false
                }
                Look::Failed(why) => panic!("{why}"),
                Look::Wait(due) => {
                    assert!(due > bench.now, "it would spin");
                    true
                }
            });
            prop_assert_eq!(served, expected);
            let (active, _, waiting) = bench.counts();
            prop_assert_eq!(waiting, model.waiters.len());
            prop_assert_eq!(active, model.in_flight);
            let left = left(&bench.queue.resource.0, bench.now.since(at(0)).as_secs());
            prop_assert_eq!(left, 10 - i64::try_from(model.spent).expect("small"));
        }
    }

    /// No ticket is ever handed to two, and each scope serves in order of arrival.
    #[test]
    fn two_scopes_serve_each_line_in_order(
        asks in prop::collection::vec((0..3usize, 0..20u64), 1..40),
    ) {
        let mut bench = Bench::new(Scopes::new(3, 5));
        bench.queue.resource.rest = Duration::from_secs(2);
        let mut waiting: Vec<(usize, u32)> = Vec::new();
        for (line, wait) in asks.into_iter().chain((0..100).map(|_| (3, 1))) {
            if line < 3 {
                let ask = if line == 2 { Ask::Either } else { Ask::Only(line) };
                let ticket = bench.join(ask);
                prop_assert!(!waiting.iter().any(|&(_, other)| other == ticket));
                waiting.push((line, ticket));
            } else {
                bench.now = bench.now + Duration::from_secs(wait);
                bench.pass();
            }
            let mut stopped = [false; 3];
            let mut in_order = true;
            waiting.retain(|&(line, ticket)| match bench.look(ticket) {
                Look::Granted(_) => {
                    in_order &= !stopped[line];
                    false
                }
                Look::Failed(_) => unreachable!("no scope is closed"),
                Look::Wait(_) => {
                    stopped[line] = true;
                    true
                }
            });
            prop_assert!(in_order, "one overtook another of its line");
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!(bench.queue.resource.waiters, [0; 3]);
    }
}
