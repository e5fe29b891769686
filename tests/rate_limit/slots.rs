//! Places in flight, alone and together with a rate.

use std::num::NonZeroUsize;

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    policy::{Quota, Unit},
    rate_limit::RateLimitLayer,
    testing::{Reply, Scripted},
};

use crate::support::*;

fn slots(calls: usize) -> Quota {
    built(Quota::builder().max_in_flight(calls))
}

fn slow(time: u64) -> Scripted<impl Fn(&u32) -> Reply<u32> + Clone> {
    Scripted::new(move |n: &u32| Reply::after(ms(time), *n))
}

#[tokio::test(start_paused = true)]
async fn the_limit_in_flight_is_reached_and_never_exceeded() {
    let server = slow(100);
    let service = RateLimitLayer::new(slots(3)).layer(server.clone());
    let calls = (0..10).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(server.peak_in_flight(), 3);
    assert_eq!(service.handle().snapshot().peak_active(), 3);
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 0, 0, 100, 100, 100, 200, 200, 200, 300]
    );
    assert_eq!(slots(3).max_in_flight(), NonZeroUsize::new(3));
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_held_as_long_as_the_guard() {
    let service = RateLimitLayer::new(slots(1))
        .protocol(Holding)
        .layer(echo::<u32>());
    let (_, guard) = service.clone().oneshot(1).await.expect("served");
    let start = Instant::now();
    let next = tokio::spawn(service.clone().oneshot(2));
    sleep(ms(700)).await;
    assert_eq!(service.handle().snapshot().waiting(), 1);
    drop(guard);
    let _held = next.await.expect("no panic").expect("served");
    assert_eq!(since(start), 700);
}

#[tokio::test(start_paused = true)]
async fn tokens_do_not_age_while_a_call_waits_for_a_slot() {
    let server = Scripted::new(|n: &u32| Reply::after(ms(if *n < 10 { 1_000 } else { 1 }), ()));
    let quota = built(
        Quota::builder()
            .requests_per_second(100)
            .burst(Unit::REQUESTS, 10)
            .max_in_flight(10),
    );
    let service = RateLimitLayer::new(quota).layer(server.clone());
    let calls = (0..100).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    let sends = server.sent_after();
    assert_envelope(&sends, 10, 100, ms(0));
    assert_eq!(wholes(&sends)[..10], [0; 10]);
    assert_eq!(wholes(&sends)[10..20], [1_000; 10]);
    assert_eq!(server.peak_in_flight(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_a_slot_is_charged_when_it_is_sent() {
    let server = Scripted::new(|n: &u32| Reply::after(ms(if *n == 0 { 998 } else { 0 }), ()));
    let quota = built(Quota::builder().requests_per_second(500).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(server.clone());
    let calls = (0..50).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    // Replaying the tokens of the time before the slot was free would send several at 998.
    let sends = wholes(&server.sent_after());
    assert_eq!(sends[..4], [0, 998, 1_000, 1_002]);
    assert_envelope(&server.sent_after(), 1, 500, ms(0));
}

#[tokio::test(start_paused = true)]
async fn rate_and_slots_are_taken_together_or_not_at_all() {
    let server = slow(5_000);
    let quota = built(Quota::builder().requests_per_second(1).max_in_flight(2));
    let service = RateLimitLayer::new(quota).layer(server.clone());
    let calls: Vec<_> = (0..4)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(4_000)).await;
    // Two are sent. The third waits for a slot and holds no token meanwhile.
    assert_eq!(server.in_flight(), 2);
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(1));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(wholes(&server.sent_after()), [0, 1_000, 5_000, 6_000]);
}

#[tokio::test(start_paused = true)]
async fn a_larger_limit_lets_waiters_in_at_once() {
    let server = slow(1_000);
    let service = RateLimitLayer::new(slots(1)).layer(server.clone());
    let calls: Vec<_> = (0..4)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(300)).await;
    service.handle().set_quota(&slots(3));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(wholes(&server.sent_after()), [0, 300, 300, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_takes_effect_while_calls_wait() {
    let server = slow(1_000);
    let service = RateLimitLayer::new(slots(4)).layer(server.clone());
    let calls: Vec<_> = (0..8)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(300)).await;
    service.handle().set_quota(&slots(1));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 0, 0, 0, 1_000, 2_000, 3_000, 4_000]
    );
    assert_eq!(service.handle().snapshot().active(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_limit_lets_all_in() {
    let server = slow(1_000);
    let quota = |calls: Option<usize>| {
        let builder = Quota::builder()
            .requests_per_second(1_000)
            .burst(Unit::REQUESTS, 1_000);
        built(match calls {
            Some(calls) => builder.max_in_flight(calls),
            None => builder,
        })
    };
    let service = RateLimitLayer::new(quota(Some(1))).layer(server.clone());
    let calls: Vec<_> = (0..50)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(10)).await;
    service.handle().set_quota(&quota(None));
    settle().await;
    assert_eq!(server.in_flight(), 50);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_waiters_and_cancelled_calls_leave_the_slots_right() {
    let server = slow(100);
    let service = RateLimitLayer::new(slots(2)).layer(server.clone());
    for round in 0..20 {
        let calls: Vec<_> = (0..6)
            .map(|n| tokio::spawn(service.clone().call(n)))
            .collect();
        sleep(ms(50)).await;
        for (index, call) in calls.iter().enumerate() {
            if (index + round) % 2 == 0 {
                call.abort();
            }
        }
        for call in calls {
            let _ = call.await;
        }
        let snapshot = service.handle().snapshot();
        assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    }
    assert_eq!(server.peak_in_flight(), 2);
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_slot_sets_no_timer() {
    let day = 86_400_000;
    let server = Scripted::new(move |n: &u32| Reply::after(ms(u64::from(*n) * 100 * day), *n));
    let service = RateLimitLayer::new(slots(1)).layer(server);
    let holds = tokio::spawn(service.clone().call(1));
    let waits = tokio::spawn(Counted::new(service.clone().call(0)));
    let start = Instant::now();
    holds.await.expect("no panic").expect("served");
    let (answer, polls) = waits.await.expect("no panic");
    answer.expect("served");
    assert_eq!(since(start), 100 * day);
    assert_eq!(polls, 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_turns_into_one_for_a_slot_keeps_no_timer_going() {
    let day = 86_400_000;
    let server = Scripted::new(move |n: &u32| Reply::after(ms(u64::from(*n) * 100 * day), *n));
    let quota = |calls| built(Quota::builder().requests_per_second(1).max_in_flight(calls));
    let service = RateLimitLayer::new(quota(2)).layer(server);
    let holds = tokio::spawn(service.clone().call(1));
    let waits = tokio::spawn(Counted::new(service.clone().call(0)));
    sleep(ms(500)).await;
    service.handle().set_quota(&quota(1));
    holds.await.expect("no panic").expect("served");
    let (answer, polls) = waits.await.expect("no panic");
    answer.expect("served");
    assert!(polls <= 4, "{polls} polls");
}
