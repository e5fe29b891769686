//! A retry layer outside.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_relay::{
    outcome::{Outcome, Verdict},
    policy::{
        RetryPolicy,
        breaker::{Mode, Refused, State},
    },
    retry::RetryLayer,
    testing::{Reply, Scripted},
};

use crate::support::*;

fn retry(attempts: u32) -> RetryLayer<Api> {
    let policy = RetryPolicy::builder().attempts(attempts);
    RetryLayer::new(policy.build().expect("it is valid")).protocol(Api)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_waited_out_and_costs_neither_attempt_nor_budget() {
    let (service, server, handle) = watched(plain());
    open(&service, &handle).await;
    let retry = retry(2);
    let level = retry.handle().snapshot().budget_level();
    let start = Instant::now();
    let retried = retry.layer(service);
    assert!(
        within(retried.oneshot(Ask::Good))
            .await
            .expect("served")
            .is_success()
    );
    let took = whole(start.elapsed());
    assert!((5_000..=6_500).contains(&took), "{took}");
    assert_eq!(server.sent_after().len(), 6);
    let snapshot = retry.handle().snapshot();
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 1));
    assert_eq!(snapshot.budget_level(), level);
    assert_eq!(handle.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_callers_come_back_spread_and_never_before_the_time() {
    let (service, server, handle) = watched(plain());
    open(&service, &handle).await;
    let waits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let retry = retry(2).on_retry(move |event| {
        let entry = (event.outcome().verdict(), event.wait());
        seen.lock().expect("no panic").push(entry);
    });
    let retried = retry.layer(service);
    let calls = (0..50).map(|_| retried.clone().oneshot(Ask::Good));
    within(futures::future::try_join_all(calls))
        .await
        .expect("all are served");
    let waits = waits.lock().expect("no panic");
    let first = &waits[..50];
    assert!(
        first
            .iter()
            .all(|&(verdict, wait)| verdict == Verdict::RefusedLocally && wait >= ms(5_000))
    );
    let distinct: std::collections::HashSet<_> = first.iter().collect();
    assert!(distinct.len() > 40, "{}", distinct.len());
    let early = server
        .sent_after()
        .iter()
        .skip(5)
        .filter(|at| **at < ms(5_000))
        .count();
    assert_eq!(early, 0);
    assert_eq!(handle.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_was_forced_open_is_not_waited_for() {
    let (service, server, handle) = watched(plain());
    handle.set_mode(Mode::ForcedOpen);
    let retried = retry(5).layer(service);
    let start = Instant::now();
    assert_eq!(
        refusal(retried.oneshot(Ask::Good).await),
        (Refused::Forced, None)
    );
    assert_eq!((start.elapsed(), server.sent_after().len()), (ms(0), 0));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_many_relapses_is_outlasted_with_few_attempts() {
    // A minute and a half long; all who wait may attempt three times.
    let start = Instant::now();
    let server = Scripted::new(move |_: &u32| {
        if start.elapsed() < ms(90_000) {
            Reply::fail("connection refused")
        } else {
            Reply::now(Outcome::SUCCESS)
        }
    });
    let breaker = layer(plain().open(ms(5_000), ms(20_000)));
    let policy = RetryPolicy::builder().attempts(3).max_elapsed(ms(600_000));
    let retry = RetryLayer::new(policy.build().expect("it is valid"))
        .protocol(Api)
        .assume_idempotent();
    let service = retry.layer(breaker.layer(server.clone()));
    let calls = (0..50).map(|n| service.clone().oneshot(n));
    let results = within(futures::future::join_all(calls)).await;
    let served = results.iter().filter(|result| result.is_ok()).count();
    let dead = server.sent_after().len() - served;
    assert!(served >= 45, "{served}");
    assert!(dead <= 60, "{dead} calls reached it dead");
}
