use proptest::prelude::*;

use super::*;

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
    /// When all that had been spent was last seen drained or refunded.
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
                    match bench.queue.try_admit(&ask, 0, bench.now) {
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
                        let spent = model.spent + used;
                        if spent <= reserved {
                            model.emptied = bench.now;
                        }
                        model.spent = spent.saturating_sub(reserved);
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
