//! All keys rest: who comes next, when, and what the wait costs.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tower::{Layer, Service};
use tower_relay::outcome::Verdict;

use crate::support::*;

/// Counts how often a future is polled.
struct Counted<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.future.as_mut().poll(cx).map(|output| (output, polls))
    }
}

/// Sends all that `asks` say at once, and says how often each was polled.
async fn polls<S>(service: &S, asks: impl Iterator<Item = Ask>) -> Vec<usize>
where
    S: Service<Ask, Response = Answer, Error = tower_relay::error::BoxError> + Clone,
    S::Future: Send + 'static,
{
    let calls: Vec<_> = asks
        .map(|ask| {
            let future = Box::pin(service.clone().call(ask));
            tokio::spawn(Counted { future, polls: 0 })
        })
        .collect();
    let mut all = Vec::new();
    for call in calls {
        let (answer, polls) = within(call).await.expect("no panic");
        assert!(answer.expect("answered").outcome.is_success());
        all.push(polls);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_the_soonest_in_order_and_are_not_released_at_one_instant() {
    for quota in [None, Some(per_second(2))] {
        let (server, log) = server(|ask| match ask.id {
            0 => {
                let hint = match &*ask.alias() {
                    "a1" => 60,
                    "b1" => 30,
                    _ => 90,
                };
                hinted(ask, Verdict::Throttled, hint * SECOND)
            }
            _ => slowly(SECOND, ask),
        });
        let names = ["a", "b", "c"].map(|name| scope(name, &[&format!("{name}1")]));
        let scopes = names.map(|scope| match &quota {
            Some(quota) => scope.quota(quota.clone()),
            None => scope,
        });
        let pool = layer(pool(scopes));
        let service = pool.layer(server);
        for _ in 0..3 {
            within(once(&service, Ask::numbered(0)))
                .await
                .expect("answered");
        }
        let polls = polls(&service, (1..=40).map(Ask::numbered)).await;
        let served = &log.ids()[3..];
        assert_eq!(served, (1..=40).collect::<Vec<_>>());
        let first = log.times()[3];
        assert!(
            (30 * SECOND..=33 * SECOND + MS).contains(&first),
            "{first:?}"
        );
        assert_eq!(log.keys()[3], "b1");
        if quota.is_some() {
            assert_eq!(
                log.most_at_once(SECOND..60 * MINUTE),
                1,
                "{:?}",
                log.whole()
            );
        } else {
            // A hundredth of the rest apart, until the first has succeeded a second later.
            let early = log.times()[3..]
                .iter()
                .filter(|at| **at < first + SECOND)
                .count();
            assert!((1..=4).contains(&early), "{:?}", log.whole());
        }
        let all: usize = polls.iter().sum();
        assert!(all <= 40 * 10, "{polls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_for_five_resting_scopes_are_polled_a_few_times_each() {
    let (server, _) = server(|ask| match ask.id {
        0 => hinted(ask, Verdict::Throttled, 30 * SECOND),
        _ => ok(ask),
    });
    let pool = layer(accounts(5, &per_second(50)));
    let service = pool.layer(server);
    for _ in 0..5 {
        within(once(&service, Ask::numbered(0)))
            .await
            .expect("answered");
    }
    let polls = polls(&service, (1..=1_000).map(Ask::numbered)).await;
    let all: usize = polls.iter().sum();
    let most = polls.iter().max().expect("some");
    assert!(all <= 8_000, "{all} polls in all");
    assert!(*most <= 20, "{most} polls of one");
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn waiters_for_a_joint_bucket_and_places_are_polled_as_seldom() {
    let (server, _) = server(|ask| slowly(20 * MS, ask));
    let pool = layer(accounts(5, &plenty()))
        .rate_limit(per_second(100))
        .concurrency(Fixed::of(3));
    let service = pool.layer(server);
    let polls = polls(&service, (1..=1_000).map(Ask::numbered)).await;
    let all: usize = polls.iter().sum();
    // One of them is the server's own.
    assert!(all <= 5_000, "{all} polls in all");
}

#[tokio::test(start_paused = true)]
async fn waiters_of_many_models_are_polled_as_seldom() {
    let (server, _) = server(ok);
    let pool = layer(accounts(1, &per_second(100)));
    let service = pool.layer(server);
    let ask = |id: u64| Ask::numbered(id).model(&format!("m{}", id % 60));
    let polls = polls(&service, (0..300).map(ask)).await;
    let all: usize = polls.iter().sum();
    assert!(all <= 9_000, "{all} polls in all");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_task_is_not_polled_holds_up_nobody() {
    let (server, log) = server(|ask| match ask.id {
        0 => hinted(ask, Verdict::Throttled, 30 * SECOND),
        _ => ok(ask),
    });
    let pool = layer(accounts(1, &per_second(10)));
    let mut service = pool.layer(server);
    within(once(&service, Ask::numbered(0)))
        .await
        .expect("answered");
    let stalled = service.call(Ask::numbered(1));
    let mut calls: Vec<_> = Vec::new();
    for id in 2..6 {
        calls.push(tokio::spawn(service.call(Ask::numbered(id))));
    }
    for call in calls {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_eq!(log.ids(), [0, 2, 3, 4, 5]);
    let last = log.times()[4];
    assert!(last <= 34 * SECOND, "{last:?}");
    within(stalled).await.expect("answered");
    assert_idle(&pool.handle());
}
