use super::*;

// === tokens and slots ===

#[test]
fn slots_are_counted_and_know_since_when_they_are_free() {
    let one = NonZeroUsize::new(1);
    let mut slots = Slots::new(one);
    slots.begin_pass();
    assert_eq!(
        slots.claim(&(), at(3), at(3)),
        Claim::Ready(Timestamp::ZERO)
    );
    let slot = slots.take(&(), at(3), at(3));
    assert_eq!(slots.claim(&(), at(4), at(4)), Claim::OnRelease);
    assert_eq!(slots.claim(&(), at(4), at(4)), Claim::Nothing);
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(4), at(4)), Claim::OnRelease);
    slots.release(slot, Spent::Nothing, None, at(5));
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(9), at(9)), Claim::Ready(at(5)));

    slots.set_limit(NonZeroUsize::new(2), at(10));
    assert_eq!(
        slots.claim(&(), at(11), at(11)),
        Claim::Ready(at(5)),
        "it was not full"
    );
    let (first, second) = (
        slots.take(&(), at(11), at(11)),
        slots.take(&(), at(11), at(11)),
    );
    slots.set_limit(None, at(12));
    assert_eq!(slots.claim(&(), at(13), at(13)), Claim::Ready(at(12)));
    slots.set_limit(one, at(14));
    slots.undo(first, at(15));
    slots.begin_pass();
    assert_eq!(
        slots.claim(&(), at(15), at(15)),
        Claim::OnRelease,
        "one of one"
    );
    slots.undo(second, at(16));
    slots.begin_pass();
    assert_eq!(slots.claim(&(), at(17), at(17)), Claim::Ready(at(16)));
    assert_eq!(slots.expect(&(), Part::WHOLE, at(18)), Ok(at(18)));
    // A place among several free ones leaves the instant as it is.
    slots.set_limit(NonZeroUsize::new(3), at(19));
    let slot = slots.take(&(), at(19), at(19));
    slots.release(slot, Spent::Nothing, None, at(20));
    assert_eq!(slots.claim(&(), at(21), at(21)), Claim::Ready(at(16)));
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
        tokens.release(reservation, spent, None, at(0));
        assert_eq!(left(&tokens, 0), expected, "{spent:?}");
    }
}

#[test]
fn what_waits_ahead_is_part_of_what_is_expected() {
    let mut tokens = tokens(10);
    assert_eq!(
        tokens.expect(&cost(10), Part::WHOLE, at(3)),
        Ok(at(3)),
        "not in the past"
    );
    let _spent = tokens.take(&cost(10), at(3), at(3));
    assert_eq!(tokens.expect(&cost(2), Part::WHOLE, at(3)), Ok(at(5)));
    tokens.joined(&cost(4));
    tokens.joined(&cost(3));
    assert_eq!(tokens.expect(&cost(2), Part::WHOLE, at(3)), Ok(at(12)));
    tokens.left(&cost(4));
    assert_eq!(tokens.expect(&cost(2), Part::WHOLE, at(3)), Ok(at(8)));
    tokens.left(&cost(3));
    assert_eq!(tokens.expect(&cost(2), Part::WHOLE, at(3)), Ok(at(5)));
    assert!(tokens.expect(&cost(11), Part::WHOLE, at(3)).is_err());
}

#[test]
fn the_largest_of_those_ahead_is_forgotten_when_nobody_waits() {
    // Paced: the capacity is that of the largest cost.
    let quota = Quota::builder().input_tokens_per_minute(60).build();
    let mut tokens = Tokens::new(&quota.expect("valid"), at(0));
    let _spent = tokens.take(&cost(1), at(0), at(0));
    tokens.joined(&cost(9));
    // Room for nine once the first nine have been taken: 1 + 9 + 1 - 9.
    assert_eq!(tokens.expect(&cost(1), Part::WHOLE, at(0)), Ok(at(2)));
    tokens.joined(&cost(1));
    tokens.left(&cost(9));
    assert_eq!(tokens.expect(&cost(1), Part::WHOLE, at(0)), Ok(at(0)));
    tokens.left(&cost(1));
    assert_eq!(tokens.expect(&cost(1), Part::WHOLE, at(0)), Ok(at(1)));
}

#[test]
fn tokens_are_claimed_by_the_first_who_must_wait_for_them() {
    let mut tokens = tokens(2);
    tokens.begin_pass();
    assert!(matches!(
        tokens.claim(&cost(3), at(0), at(0)),
        Claim::Never(_)
    ));
    assert_eq!(tokens.claim(&cost(1), at(0), at(0)), Claim::Ready(at(0)));
    let reservation = tokens.take(&cost(2), at(0), at(0));
    assert_eq!(tokens.claim(&cost(1), at(0), at(0)), Claim::At(at(1)));
    assert_eq!(tokens.claim(&cost(0), at(0), at(0)), Claim::Nothing);
    tokens.begin_pass();
    assert_eq!(tokens.claim(&cost(2), at(0), at(0)), Claim::At(at(2)));
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
    type Notice = std::convert::Infallible;

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

    fn claim(&mut self, _: &usize, _: Timestamp, _: Timestamp) -> Claim {
        self.claim.clone()
    }

    fn take(&mut self, ask: &usize, _: Timestamp, _: Timestamp) -> usize {
        *ask
    }

    fn is_inert(grant: &usize, spent: Spent) -> bool {
        *grant == 0 && spent == Spent::Nothing
    }

    fn release(&mut self, _: usize, _: Spent, _: Option<&Outcome>, _: Timestamp) {}

    fn undo(&mut self, grant: usize, _: Timestamp) -> usize {
        grant
    }

    fn expect(&self, _: &usize, _: Part, _: Timestamp) -> Result<Timestamp, Unservable> {
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
    let never = || Claim::Never(too_large());
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
            assert_eq!(joint.claim(&(0, 0), at(0), at(0)), expected);
        }
    }
}

#[test]
fn a_call_that_waits_for_the_first_of_two_leaves_the_second_to_others_until_then() {
    // A bucket of two, both spent: one is back after a second, two after two.
    let spent = || {
        let mut tokens = tokens(2);
        let _spent = tokens.take(&cost(2), at(0), at(0));
        tokens
    };
    let (one, two) = (cost(1), cost(2));
    for (first, found, next) in [
        // It is sent at 5 at the soonest: the bucket is others' until then.
        (Claim::At(at(5)), Claim::At(at(5)), Claim::At(at(1))),
        (Claim::OnRelease, Claim::OnRelease, Claim::At(at(1))),
        (Claim::Nothing, Claim::Nothing, Claim::At(at(1))),
        // It waits for the bucket longer than for the first: what is there first is its.
        (Claim::At(at(1)), Claim::At(at(2)), Claim::Nothing),
        (Claim::Ready(at(0)), Claim::At(at(2)), Claim::Nothing),
    ] {
        let mut joint = Joint(Told::new(first.clone(), 1, 0), spent());
        joint.begin_pass();
        assert_eq!(joint.claim(&(0, two), at(0), at(0)), found);
        assert_eq!(joint.1.claim(&one, at(0), at(0)), next, "after {first:?}");
    }
    let mut slots = Slots::new(NonZeroUsize::new(1));
    let _taken = slots.take(&(), at(0), at(0));
    assert_eq!(slots.claim(&(), at(5), at(0)), Claim::OnRelease);
    assert_eq!(
        slots.claim(&(), at(0), at(0)),
        Claim::OnRelease,
        "not claimed before"
    );
    assert_eq!(slots.claim(&(), at(0), at(0)), Claim::Nothing);
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
    assert_eq!(joint.expect(&(0, 0), Part::WHOLE, at(0)), Ok(at(7)));
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
    slots.release(uncounted, Spent::AS_RESERVED, None, at(2));
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
fn the_mean_outlives_its_counter() {
    let two = Duration::from_secs(2);
    let mut counts = Counts {
        busy: two * u32::MAX,
        timed: u32::MAX,
        ..Counts::default()
    };
    counts.count_time(two);
    assert_eq!(counts.timed, u32::MAX / 2 + 1);
    let mean = counts.mean_latency().expect("calls were timed");
    assert!(mean.abs_diff(two) < Duration::from_micros(1), "{mean:?}");
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
