//! Probes: they always give their place back, and only they decide.

use std::pin::pin;

use futures::poll;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_relay::{
    outcome::Verdict,
    policy::breaker::{Refused, State},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn it_lets_as_many_probes_pass_as_there_are_places() {
    let (service, server, handle) = watched(plain().probes(3).successes(3));
    open_and_wait(&service, &handle).await;
    let probes: Vec<_> = (0..10)
        .map(|_| tokio::spawn(service.clone().oneshot(Ask::Late(100, Verdict::Success))))
        .collect();
    settle().await;
    assert_eq!((handle.snapshot().probes(), server.in_flight()), (3, 3));
    let mut refused = 0;
    for probe in probes {
        if let Err(error) = probe.await.expect("no panic") {
            let (why, wait) = refusal::<()>(Err(error));
            assert_eq!(why, Refused::HalfOpen);
            assert!((300..=1_000).contains(&wait.expect("it says")), "{wait:?}");
            refused += 1;
        }
    }
    assert_eq!((refused, handle.refused()), (7, 7));
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_cancelled_while_it_waits_gives_its_place_back_and_decides_nothing() {
    let (service, server, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    for _ in 0..20 {
        let mut probe = Box::pin(sent(&service, Ask::Hang).await);
        assert!(poll!(probe.as_mut()).is_pending());
        assert_eq!(handle.snapshot().probes(), 1);
        drop(probe);
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 0));
    }
    assert_eq!(server.in_flight(), 0);
    assert_serves(&service).await;
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_its_first_poll_gives_its_place_back() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    for _ in 0..20 {
        drop(sent(&service, Ask::Good).await);
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 0));
    }
    assert_serves(&service).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_gives_its_place_back() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    let probe = tokio::spawn(service.clone().oneshot(Ask::Panic));
    assert!(probe.await.expect_err("it panics").is_panic());
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 0));
    assert_serves(&service).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_never_polled_loses_its_lease_and_its_say_unless_it_went_well() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    let unpolled = sent(&service, BAD).await;
    sleep(ms(29_999)).await;
    assert_eq!(
        refusal(service.clone().oneshot(Ask::Good).await).0,
        Refused::HalfOpen
    );
    sleep(ms(1)).await;
    let second = sent(&service, Ask::Good).await;
    assert_eq!(handle.snapshot().probes(), 1);
    drop(unpolled.await);
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 1));
    assert!(second.await.expect("served").is_success());
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_every_answer_takes_longer_than_the_lease_is_used_again() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    let slow = Ask::Late(40_000, Verdict::Success);
    assert!(service.clone().oneshot(slow).await.is_ok());
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_that_hang_for_ever_do_not_wedge_it() {
    let (service, server, handle) = watched(plain().probes(3));
    open_and_wait(&service, &handle).await;
    let mut hanging = Vec::new();
    for round in 1..=10 {
        for _ in 0..3 {
            hanging.push(tokio::spawn(service.clone().oneshot(Ask::Hang)));
        }
        settle().await;
        assert_eq!(handle.snapshot().probes(), 3);
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::HalfOpen
        );
        assert_eq!(server.in_flight(), 3 * round);
        sleep(ms(30_000)).await;
    }
    assert_serves(&service).await;
    assert_eq!(handle.snapshot().state(), State::Closed);
    // Nor do those that are cancelled then.
    drop(hanging);
    settle().await;
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_neutral_answer_gives_the_place_back_and_decides_nothing() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    for verdict in [
        Verdict::Throttled,
        Verdict::CallerFault,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::RefusedLocally,
    ] {
        let answer = service.clone().oneshot(Ask::Answer(verdict)).await;
        assert_eq!(answer.expect("served").verdict(), verdict);
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_for_twice_as_long() {
    let (service, server, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    drop(service.clone().oneshot(Ask::Break).await);
    assert_eq!(
        refusal(service.clone().oneshot(Ask::Good).await),
        (Refused::Open, Some(10_000))
    );
    assert_eq!(server.sent_after().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failure_admitted_while_closed_does_not_reopen_a_half_open_breaker() {
    let (service, _, handle) = watched(plain().probes(2).successes(2));
    let late = sent(&service, Ask::Late(6_000, Verdict::ServerFault)).await;
    open_and_wait(&service, &handle).await;
    drop(service.clone().oneshot(Ask::Good).await);
    assert_eq!(handle.snapshot().state(), State::HalfOpen);
    assert_eq!(late.await.expect("served").verdict(), Verdict::ServerFault);
    assert_eq!(handle.snapshot().state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_success_admitted_while_closed_neither_closes_nor_counts_as_a_probe() {
    let (service, _, handle) = watched(plain());
    let late = sent(&service, Ask::Late(6_000, Verdict::Success)).await;
    let later = sent(&service, Ask::Late(7_000, Verdict::Success)).await;
    let in_time = sent(&service, Ask::Late(1_000, Verdict::Success)).await;
    open(&service, &handle).await;
    assert!(in_time.await.expect("served").is_success());
    assert_eq!(handle.snapshot().state(), State::Open);
    sleep(ms(4_000)).await;
    let _probe = pin!(sent(&service, Ask::Hang).await);
    assert_eq!(handle.snapshot().state(), State::HalfOpen);
    for late in [late, later] {
        assert!(late.await.expect("served").is_success());
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state(), snapshot.probes()), (State::HalfOpen, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_outage_that_end_after_it_do_not_open_it_again() {
    let (service, _, handle) = watched(plain());
    let late: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn(
                service
                    .clone()
                    .oneshot(Ask::Late(6_000, Verdict::ServerFault)),
            )
        })
        .collect();
    settle().await;
    open_and_wait(&service, &handle).await;
    assert_serves(&service).await;
    for late in late {
        let answer = late.await.expect("no panic").expect("answered");
        assert_eq!(answer.verdict(), Verdict::ServerFault);
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.failures()), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_counts_as_nothing() {
    let (service, _, handle) = watched(plain());
    for _ in 0..50 {
        let mut call = Box::pin(sent(&service, Ask::Hang).await);
        assert!(poll!(call.as_mut()).is_pending());
    }
    assert_eq!(handle.snapshot().calls(), 0);
    for _ in 0..4 {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    drop(sent(&service, Ask::Hang).await);
    assert_eq!(handle.snapshot().consecutive_failures(), 4);
}

#[tokio::test(start_paused = true)]
async fn after_closing_the_share_of_calls_that_pass_grows() {
    let (service, _, handle) = watched(plain().ramp(ms(1_000)));
    open_and_wait(&service, &handle).await;
    drop(service.clone().oneshot(Ask::Good).await);
    let mut passed = Vec::new();
    for _ in 0..3 {
        let mut count = 0;
        for _ in 0..20 {
            match service.clone().oneshot(Ask::Good).await {
                Ok(_) => count += 1,
                refused => assert_eq!(refusal(refused).0, Refused::Ramp),
            }
        }
        passed.push(count);
        sleep(ms(500)).await;
    }
    assert_eq!(passed, [2, 11, 20]);
}
