use super::*;

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
    // Without a claim: stands by a quarter of the slack after the first who is due.
    let standby = at(51) + Duration::from_millis(250);
    assert_eq!(bench.waits(third), Some(standby));
    assert!(matches!(bench.look_by(third, at(60)), Look::Wait(due) if due == standby));
    assert!(matches!(bench.look_by(third, at(51)), Look::Wait(due) if due == at(51)));
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
fn the_next_in_line_stands_by_for_a_claimant_whose_instant_comes_sooner() {
    let mut bench = Bench::new(Scopes::new(100, 10_000));
    let [claimant, next, last] = [Ask::Only(0); 3].map(|ask| bench.join(ask));
    let quarter = Duration::from_millis(1_250);
    assert_eq!(bench.waits(claimant), Some(at(100)));
    assert_eq!(bench.waits(next), Some(at(100) + quarter));
    assert!(bench.waits(last).is_some());
    bench.pass();
    assert_eq!(bench.woken(), 0);
    bench.queue.resource.rests_until[0] = at(99);
    bench.pass();
    assert_eq!(bench.woken(), 2, "the claimant and the next, nobody else");
    assert_eq!(bench.waits(next), Some(at(99) + quarter));
    bench.queue.resource.rests_until[0] = Timestamp::MAX;
    bench.pass();
    assert_eq!(bench.woken(), 0, "nobody knows when");
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
    assert!(matches!(bench.look(closed), Look::Failed(why) if why == too_large()));
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
fn a_peak_leaves_no_room_behind() {
    for (peak, kept) in [(1_024, 1_024), (1_025, 0)] {
        let mut bench = Bench::new(Scopes::new(10, 10));
        let tickets: Vec<_> = (0..peak).map(|_| bench.join(Ask::Either)).collect();
        let (last, others) = tickets.split_last().expect("many");
        for ticket in others {
            bench.leave(*ticket);
        }
        assert_eq!(bench.queue.room(), peak);
        bench.leave(*last);
        assert_eq!(bench.queue.room(), kept);
        assert_eq!(bench.join(Ask::Either) as usize, kept.min(1) * (peak - 1));
    }
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
    // Undone, the scope is free again: to the first alone, who came before the others. The
    // third's grant is stale as well and went back with it.
    assert_eq!(bench.granted(first), (0, Ask::Only(0)));
    assert_eq!(bench.queue.resource.rests_until[0], at(119));
    assert_eq!(bench.waits(third), Some(at(119)));
    assert!(bench.waits(fourth).is_some());
    assert_eq!(bench.counts(), (2, 2, 2));
    assert_eq!(bench.queue.resource.waiters, [2, 0, 0]);
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

#[test]
fn recalled_calls_return_to_the_order_they_came_in() {
    // Four are granted and seen late, in an order of their own, when debt lets none of them go.
    let mut bench = Bench::new(tokens(4));
    bench.queue.set_slack(Duration::ZERO);
    let spent = bench
        .queue
        .try_admit(&cost(4), 0, at(0))
        .expect("affordable");
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
fn after_a_stall_no_call_is_credited_what_came_in_for_another() {
    // Three are granted, and seen after a stall in which half as much has come in again.
    let mut bench = Bench::new(tokens(4));
    bench.queue.set_slack(Duration::ZERO);
    let _spent = bench
        .queue
        .try_admit(&cost(4), 0, at(0))
        .expect("affordable");
    let tickets: Vec<_> = (0..3).map(|_| bench.join(cost(1))).collect();
    bench.now = at(4);
    bench.pass();
    assert_eq!(left(&bench.queue.resource, 4), 1);
    bench.now = at(4) + Duration::from_millis(1_500);
    for ticket in tickets {
        let _spent = bench.granted(ticket);
    }
    // All three are sent now: as much is spent.
    let now = bench.now;
    let left = bench
        .queue
        .resource
        .bucket()
        .available(Unit::INPUT_TOKENS, now);
    assert_eq!(left, Some(1));
}

#[test]
fn a_claim_lost_to_a_call_that_came_back_is_no_claim() {
    let mut bench = Bench::new(tokens(1));
    bench.queue.set_slack(Duration::from_millis(1));
    let spent = bench
        .queue
        .try_admit(&cost(1), 0, at(0))
        .expect("affordable");
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
    let _spent = bench.queue.try_admit(&cost(10), 0, at(0));
    let _first = bench.join(cost(10));
    let standby = bench.join(cost(1));
    let last = bench.join(cost(1));
    let quarter = Duration::from_millis(1_250);
    assert_eq!(bench.waits(standby), Some(at(10) + quarter));
    assert_eq!(bench.waits(last), Some(at(10)), "with whoever is due next");
    bench.now = at(9);
    // A quarter of the 9 s it has waited, and a millisecond.
    let pause = Duration::from_millis(2_251);
    assert_eq!(bench.waits(last), Some(at(9) + pause));
}

#[test]
fn who_joins_a_line_looks_a_quarter_of_the_slack_after_the_call_before_it() {
    let mut queue = Queue::new(tokens(1), SLACK);
    let (_, alone) = queue.join(cost(1), 0, at(10), at(0));
    assert_eq!(alone, at(10));
    let (_, soon) = queue.join(cost(1), 0, at(11), at(0));
    assert_eq!(soon, at(11), "sooner than that");
    let (_, later) = queue.join(cost(1), 0, at(30), at(0));
    assert_eq!(later, at(12) + Duration::from_millis(250));
    let (_, after) = queue.join(cost(1), 0, at(40), at(33));
    assert_eq!(
        after,
        at(34) + Duration::from_millis(250),
        "never in the past"
    );
}
