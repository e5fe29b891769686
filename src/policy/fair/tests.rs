//! Turns against the ideal and against a naive reference.
#![expect(
    clippy::needless_range_loop,
    reason = "pairs of classes are pairs of numbers"
)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn turns(weights: &[u32]) -> Turns {
    let built = weights[1..].iter().enumerate();
    let built = built.fold(Shares::builder(), |built, (n, weight)| {
        built.class(format!("c{n}"), *weight)
    });
    Turns::new(&built.others(weights[0]).build().expect("valid"))
}

/// Classes with calls of these sizes, the first of each class first.
struct Bench {
    turns: Turns,
    calls: Vec<VecDeque<(u64, u64)>>,
    arrivals: u64,
}

impl Bench {
    fn new(weights: &[u32]) -> Self {
        Self {
            turns: turns(weights),
            calls: vec![VecDeque::new(); weights.len()],
            arrivals: 0,
        }
    }

    fn join(&mut self, class: usize, work: u64) {
        self.turns.joined(class);
        self.calls[class].push_back((self.arrivals, work));
        self.arrivals += 1;
    }

    fn serve(&mut self) -> Option<(usize, u64)> {
        self.turns.begin_round();
        let first = |class: usize| self.calls[class].front().map(|(arrival, _)| *arrival);
        let class = self.turns.next(first)?;
        let (_, work) = self.calls[class].pop_front().expect("it has a call");
        self.turns.served(class, work);
        self.turns.left(class);
        Some((class, work))
    }
}

#[test]
fn weights_decide_how_much_work_is_served_whatever_the_sizes() {
    let mut bench = Bench::new(&[1, 20, 80]);
    for n in 0..4_000 {
        bench.join(1, 1 + n % 3);
        bench.join(2, 500);
    }
    let mut served = [0; 3];
    for _ in 0..3_000 {
        let (class, work) = bench.serve().expect("both wait");
        served[class] += work;
    }
    let share = served[1] as f64 / (served[1] + served[2]) as f64;
    assert!((share - 0.2).abs() < 0.005, "{share}");
}

#[test]
fn an_idle_class_saves_nothing_up_and_owes_nothing() {
    let mut bench = Bench::new(&[1, 1, 1]);
    for _ in 0..50 {
        bench.join(1, 10);
    }
    for _ in 0..40 {
        let _served = bench.serve();
    }
    for _ in 0..10 {
        bench.join(2, 10);
    }
    let order: Vec<_> = (0..20)
        .map(|_| bench.serve().expect("it waits").0)
        .collect();
    let of_two = order.iter().filter(|class| **class == 2).count();
    assert_eq!(of_two, 10);
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    // Nobody waits any more: all are equal again, and the first to come is served first.
    bench.join(2, 1_000);
    let _alone = bench.serve();
    bench.join(2, 1);
    bench.join(1, 1);
    assert_eq!(bench.serve(), Some((2, 1)));
}

#[test]
fn the_smallest_weight_is_served_in_its_turn() {
    let mut bench = Bench::new(&[1, 1_000, 1]);
    for _ in 0..6_000 {
        bench.join(1, 1);
    }
    bench.join(2, 5);
    bench.join(2, 5);
    assert_eq!(bench.serve(), Some((1, 1)), "it came first");
    assert_eq!(bench.serve(), Some((2, 5)));
    // By then the other has been served a thousand times as much.
    let before = (0..6_000).take_while(|_| bench.serve().expect("it waits").0 == 1);
    assert_eq!(before.count(), 5_000);
}

#[test]
fn a_turn_that_is_given_back_is_the_next() {
    let mut bench = Bench::new(&[1, 1, 1]);
    bench.join(1, 10);
    bench.join(2, 10);
    bench.join(2, 10);
    assert_eq!(bench.serve(), Some((1, 10)));
    bench.turns.give_back(1, 10);
    bench.turns.came_back(1);
    bench.calls[1].push_back((0, 10));
    let order: Vec<_> = (0..3)
        .filter_map(|_| bench.serve())
        .map(|(class, _)| class)
        .collect();
    assert_eq!(order, [1, 2, 2]);
}

#[test]
fn what_is_planned_counts_for_its_round_alone() {
    let mut turns = turns(&[1, 1, 1]);
    turns.joined(1);
    turns.joined(2);
    let first = |class| [None, Some(0), Some(1)][class];
    turns.begin_round();
    assert_eq!(turns.next(first), Some(1));
    turns.plan(1, 5);
    assert_eq!(turns.next(first), Some(2));
    turns.begin_round();
    assert_eq!(turns.next(first), Some(1));
}

#[cfg(feature = "rate-limit")]
#[test]
fn the_part_ahead_is_what_the_weights_serve_first() {
    let mut turns = turns(&[1, 1, 4]);
    turns.joined(2);
    let backlog = |own: u128, other: u128| move |class| [0, own, other][class];
    // A new class is next: nothing of five thousand is before it.
    assert_eq!(turns.before(1, backlog(0, 5_000)).of(1_000), 0);
    // Ten of its own take 40 of the other with them.
    turns.joined(1);
    assert_eq!(turns.before(1, backlog(10, 5_000)).of(5_010), 50);
    // The other has less than that.
    assert_eq!(turns.before(1, backlog(10, 20)), Part::WHOLE);
    assert_eq!(turns.before(2, backlog(10, 20)).of(30), 25);
    assert_eq!(turns.before(0, |_| 0), Part::WHOLE);
    // The largest numbers that there can be.
    let most = u128::from(u64::MAX) << 16;
    let part = turns.before(1, backlog(most, most));
    assert_eq!(part, Part::WHOLE);
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u64),
    Leave(usize, prop::sample::Index),
    Serve,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = || 0..3_usize;
    let step = prop_oneof![
        4 => (class(), 1..=60_u64).prop_map(|(class, work)| Step::Join(class, work)),
        1 => (class(), any::<prop::sample::Index>()).prop_map(|(c, i)| Step::Leave(c, i)),
        3 => Just(Step::Serve),
    ];
    prop::collection::vec(step, 1..300)
}

/// The rule as it is written in the paper, in fractions: exact for the weights below.
struct Naive {
    /// Work over weight, times the product of all weights.
    tags: [u64; 3],
    reached: u64,
    waiting: [usize; 3],
}

const WEIGHTS: [u32; 3] = [1, 2, 4];
const WHOLE: u64 = 4;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// The order is that of the paper's rule; within a class it is that of arrival; and between two
    /// classes that have waited all along, what each was served over its weight differs by no more
    /// than one largest call of each.
    #[test]
    fn turns_are_taken_as_the_rule_says(steps in steps()) {
        let mut bench = Bench::new(&WEIGHTS);
        let mut naive = Naive { tags: [0; 3], reached: 0, waiting: [0; 3] };
        // Served to each since both of a pair have waited without a pause, and by which size at most.
        let mut since = [[(0_u64, 0_u64, 60_u64); 3]; 3];
        for step in steps {
            match step {
                Step::Join(class, work) => {
                    bench.join(class, work);
                    if naive.waiting[class] == 0 {
                        naive.tags[class] = naive.tags[class].max(naive.reached);
                        for other in 0..3 {
                            (since[class][other].0, since[class][other].1) = (0, 0);
                            (since[other][class].0, since[other][class].1) = (0, 0);
                        }
                    }
                    naive.waiting[class] += 1;
                }
                Step::Leave(class, index) if naive.waiting[class] > 0 => {
                    let at = index.index(bench.calls[class].len());
                    let _gone = bench.calls[class].remove(at);
                    bench.turns.left(class);
                    naive.waiting[class] -= 1;
                    if naive.waiting == [0; 3] {
                        naive.reached = naive.tags.into_iter().max().expect("three").max(naive.reached);
                    }
                }
                Step::Leave(..) => {}
                Step::Serve => {
                    let waiting = (0..3).filter(|class| naive.waiting[*class] > 0);
                    let expected = waiting.min_by_key(|class| {
                        let (arrival, _) = bench.calls[*class].front().expect("it waits");
                        (naive.tags[*class], *arrival)
                    });
                    let front = expected.map(|class| bench.calls[class][0]);
                    let served = bench.serve();
                    prop_assert_eq!(served.map(|(class, _)| class), expected);
                    prop_assert_eq!(served.map(|(_, work)| work), front.map(|(_, work)| work));
                    let Some((class, work)) = served else { continue };
                    naive.reached = naive.reached.max(naive.tags[class]);
                    naive.tags[class] += work * WHOLE / u64::from(WEIGHTS[class]);
                    naive.waiting[class] -= 1;
                    for other in 0..3 {
                        since[class][other].0 += work;
                        since[other][class].1 += work;
                        if other != class && naive.waiting[other] > 0 {
                            let (own, theirs, most) = since[class][other];
                            let scaled = |work: u64, class: usize| work * WHOLE / u64::from(WEIGHTS[class]);
                            let gap = scaled(own, class).abs_diff(scaled(theirs, other));
                            let bound = scaled(most, class) + scaled(most, other);
                            prop_assert!(gap <= bound, "{} beyond {}", gap, bound);
                        }
                    }
                    if naive.waiting == [0; 3] {
                        naive.reached = naive.tags.into_iter().max().expect("three").max(naive.reached);
                    }
                }
            }
        }
    }
}
