//! Classes of callers in the queue.

use proptest::prelude::*;

use super::*;
use crate::policy::Shares;

const WEIGHTS: [u32; 3] = [1, 2, 4];
/// Divided by each weight without a remainder.
const WHOLE: u128 = 4;

fn shares() -> Shares {
    let [others, a, b] = WEIGHTS;
    let built = Shares::builder().class("a", a).class("b", b).others(others);
    built.build().expect("valid")
}

fn shared<R: Resource>(resource: R) -> Bench<R> {
    let mut bench = Bench::new(resource);
    let _none = bench.queue.set_shares(Some(shares()));
    bench
}

#[test]
fn who_is_overtaken_keeps_its_timer_and_is_served_in_its_turn() {
    let mut bench = shared(tokens(10));
    let _spent = bench.queue.try_admit(&cost(10), 0, at(0)).expect("free");
    let large = bench.join_as(2, cost(10));
    let then = bench.join_as(2, cost(10));
    assert_eq!(bench.waits(large), Some(at(10)));
    bench.now = at(10);
    bench.pass();
    let _sent = bench.granted(large);
    assert_eq!(bench.waits(then), Some(at(20)));
    // The other class begins where the call before began, and so before this one.
    bench.now = at(12);
    let small = bench.join_as(1, cost(2));
    let _sent = bench.granted(small);
    // Its claim is later by what the other took, and its timer is not set anew for that.
    assert_eq!(bench.woken(), 1, "the one that was granted");
    bench.now = at(20);
    bench.pass();
    assert_eq!(bench.waits(then), Some(at(22)));
    bench.now = at(22);
    bench.pass();
    let _sent = bench.granted(then);
}

#[test]
fn a_claimant_that_goes_away_leaves_its_turn_to_the_next() {
    let mut bench = shared(tokens(10));
    let _spent = bench.queue.try_admit(&cost(10), 0, at(0)).expect("free");
    let first = bench.join_as(1, cost(10));
    let second = bench.join_as(2, cost(4));
    assert_eq!(bench.waits(first), Some(at(10)));
    assert!(bench.waits(second).expect("it waits") > at(4));
    let _woken = bench.woken();
    bench.leave(first);
    assert_eq!(
        bench.woken(),
        1,
        "the next has a claim, and must set its timer"
    );
    assert_eq!(bench.waits(second), Some(at(4)));
    let classes = bench.queue.class_counts();
    let waiting: Vec<_> = classes.iter().map(|class| class.waiting).collect();
    assert_eq!(waiting, [0, 0, 1]);
}

#[test]
fn grants_that_go_back_give_their_turns_back() {
    let mut bench = shared(tokens(10));
    let _spent = bench.queue.try_admit(&cost(10), 0, at(0)).expect("free");
    let stale = bench.join_as(1, cost(1));
    let other = bench.join_as(2, cost(1));
    bench.now = at(1);
    bench.pass();
    assert_eq!(bench.queue.class_counts()[1].admitted, 1);
    // Nobody picks it up for longer than the slack. It is recalled, and is first again.
    bench.now = at(10);
    let _sent = bench.granted(stale);
    let _sent = bench.granted(other);
    let admitted: Vec<_> = bench
        .queue
        .class_counts()
        .iter()
        .map(|class| class.admitted)
        .collect();
    assert_eq!(admitted, [1, 1, 1]);
    let (third, fourth) = (bench.join_as(1, cost(5)), bench.join_as(2, cost(5)));
    bench.now = at(12);
    bench.pass();
    // Dropped instead of picked up.
    bench.leave(third);
    assert_eq!(bench.queue.class_counts()[1].admitted, 1);
    bench.leave(fourth);
}

#[test]
fn a_grant_that_is_dropped_leaves_its_class_as_it_was() {
    let mut bench = shared(tokens(10));
    let _spent = bench.queue.try_admit(&cost(10), 0, at(0)).expect("free");
    let dropped = bench.join_as(1, cost(10));
    let other = bench.join_as(2, cost(10));
    let other_then = bench.join_as(2, cost(10));
    bench.now = at(10);
    bench.pass();
    bench.leave(dropped);
    let _sent = bench.granted(other);
    // Of the two the one class was served, the other not.
    let next = bench.join_as(1, cost(10));
    bench.now = at(20);
    bench.pass();
    let _sent = bench.granted(next);
    assert!(bench.waits(other_then).is_some());
}

#[test]
fn in_a_pass_claims_are_turns_too() {
    let mut bench = shared(Scopes::new(10, 20));
    let [first, second] = [1, 1].map(|class| bench.join_as(class, Ask::Either));
    let other = bench.join_as(2, Ask::Either);
    assert_eq!(bench.waits(first), Some(at(10)));
    assert_eq!(bench.waits(other), Some(at(20)));
    assert_ne!(bench.waits(second), Some(at(20)));
}

#[test]
fn many_classes_and_calls_cost_a_step_or_two_each() {
    let mut bench = shared(tokens(1));
    let _spent = bench.queue.try_admit(&cost(1), 0, at(0)).expect("free");
    let tickets: Vec<_> = (0..10_000).map(|n| bench.join_as(n % 3, cost(1))).collect();
    assert!(bench.woken() <= 20_000, "no storm");
    for ticket in tickets {
        bench.leave(ticket);
    }
    assert_eq!(bench.queue.waiting(), 0);
    assert!(
        bench
            .queue
            .class_counts()
            .iter()
            .all(|class| class.waiting == 0)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u64),
    Leave(prop::sample::Index),
    Release(prop::sample::Index),
    Wait(u64),
    Shares(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        10 => (0..3_usize, 0..=10_u64).prop_map(|(class, tokens)| Step::Join(class, tokens)),
        2 => index().prop_map(Step::Leave),
        4 => index().prop_map(Step::Release),
        8 => (0..8_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Shares),
    ];
    prop::collection::vec(step, 1..150)
}

/// Ten tokens, one more each second; three slots; a list of waiters of each class.
struct Model {
    spent: u64,
    in_flight: u64,
    /// Number and cost of each waiter, by class; without shares all are of the first.
    waiters: [Vec<(usize, u64)>; 3],
    is_shared: bool,
    tags: [u128; 3],
    reached: u128,
}

impl Model {
    fn join(&mut self, class: usize, number: usize, tokens: u64) {
        let class = if self.is_shared { class } else { 0 };
        if self.waiters[class].is_empty() {
            self.tags[class] = self.tags[class].max(self.reached);
        }
        self.waiters[class].push((number, tokens));
    }

    fn waiting(&self) -> usize {
        self.waiters.iter().map(Vec::len).sum()
    }

    fn settle(&mut self) {
        if self.waiting() == 0 {
            self.reached = self
                .tags
                .into_iter()
                .max()
                .expect("three")
                .max(self.reached);
        }
    }

    /// Serves whoever is next as long as that one can be served, and nobody in its place.
    fn serve(&mut self) -> Vec<usize> {
        let mut served = Vec::new();
        loop {
            let waiting = (0..3).filter(|class| !self.waiters[*class].is_empty());
            let next = waiting.min_by_key(|class| (self.tags[*class], self.waiters[*class][0].0));
            let Some(class) = next else { break };
            let (number, tokens) = self.waiters[class][0];
            if self.spent + tokens > 10 || self.in_flight == 3 {
                break;
            }
            self.spent += tokens;
            self.in_flight += 1;
            self.waiters[class].remove(0);
            self.reached = self.reached.max(self.tags[class]);
            let work = u128::from(tokens * 1_000_000_000).max(1);
            self.tags[class] += work * WHOLE / u128::from(WEIGHTS[class]);
            self.settle();
            served.push(number);
        }
        served
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Over any interleaving of arrivals, departures, releases, time and changes of the shares, calls
    /// are served as by a naive reference: by turns, first come first served within a class, and
    /// never one that fits before one whose turn it is.
    #[test]
    fn the_queue_shares_as_a_naive_one(steps in steps()) {
        type Metered = Joint<Tokens, Slots>;
        let quota = quota(10, Some(3));
        let resource = Joint(Tokens::new(&quota, at(0)), Slots::new(quota.max_in_flight()));
        let mut bench: Bench<Metered> = shared(resource);
        bench.queue.set_slack(Duration::ZERO);
        let mut model = Model {
            spent: 0,
            in_flight: 0,
            waiters: [const { Vec::new() }; 3],
            is_shared: true,
            tags: [0; 3],
            reached: 0,
        };
        let mut tickets: Vec<(usize, u32)> = Vec::new();
        let mut held: Vec<<Metered as Resource>::Grant> = Vec::new();
        let mut numbers = 0;
        for step in steps {
            match step {
                Step::Join(class, tokens) => {
                    let number = numbers;
                    numbers += 1;
                    let ask = (cost(tokens), ());
                    match bench.queue.try_admit(&ask, class, bench.now) {
                        Some(grant) => {
                            prop_assert_eq!(model.waiting(), 0);
                            model.spent += tokens;
                            model.in_flight += 1;
                            prop_assert!(model.spent <= 10 && model.in_flight <= 3);
                            held.push(grant);
                        }
                        None => {
                            model.join(class, number, tokens);
                            let class = if model.is_shared { class } else { 0 };
                            tickets.push((number, bench.join_as(class, ask)));
                        }
                    }
                }
                Step::Leave(index) if !tickets.is_empty() => {
                    let (number, ticket) = tickets.remove(index.index(tickets.len()));
                    model.waiters.iter_mut().for_each(|all| all.retain(|one| one.0 != number));
                    model.settle();
                    bench.leave(ticket);
                }
                Step::Release(index) if !held.is_empty() => {
                    let grant = held.remove(index.index(held.len()));
                    model.in_flight -= 1;
                    bench.release_as(grant, Spent::AS_RESERVED);
                    bench.pass();
                }
                Step::Wait(seconds) => {
                    bench.now = bench.now + Duration::from_secs(seconds);
                    model.spent = model.spent.saturating_sub(seconds);
                    bench.pass();
                }
                Step::Shares(is_shared) => {
                    let _old = bench.queue.set_shares(is_shared.then(shares));
                    bench.pass();
                    if !(is_shared && model.is_shared) {
                        // All are of one class from now on, or were.
                        let mut all = model.waiters.concat();
                        all.sort_unstable();
                        model.waiters = [all, Vec::new(), Vec::new()];
                    }
                    (model.tags, model.reached, model.is_shared) = ([0; 3], 0, is_shared);
                }
                Step::Leave(_) | Step::Release(..) => {}
            }
            let expected = model.serve();
            let mut served = Vec::new();
            tickets.retain(|&(number, ticket)| match bench.look(ticket) {
                Look::Granted(grant) => {
                    served.push(number);
                    held.push(grant);
                    false
                }
                Look::Failed(why) => panic!("{why}"),
                Look::Wait(due) => {
                    assert!(due > bench.now, "it would spin");
                    true
                }
            });
            let mut expected_by_arrival = expected.clone();
            expected_by_arrival.sort_unstable();
            prop_assert_eq!(served, expected_by_arrival);
            prop_assert_eq!(bench.counts().2, model.waiting());
            for (class, counts) in bench.queue.class_counts().iter().enumerate() {
                prop_assert_eq!(counts.waiting, model.waiters[class].len());
            }
            let left = left(&bench.queue.resource.0, bench.now.since(at(0)).as_secs());
            prop_assert_eq!(left, 10 - i64::try_from(model.spent).expect("small"));
        }
    }
}

/// What waits is as small as it can be: the timer beside it is as large again.
#[test]
fn a_waiting_call_with_its_timer_takes_no_more_than_240_bytes() {
    let place = Queue::<Joint<Tokens, Slots>>::PLACE;
    let timer = size_of::<tokio::time::Sleep>();
    assert!(place + timer <= 240, "{place} and {timer}");
}
