//! The whole provider is away for a while.

use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_relay::{outcome::Verdict, testing::Reply};

use crate::support::*;

const AWAY: Duration = Duration::from_secs(90);

/// Throttles everybody until the blackout is over.
fn script(hint: Option<Duration>) -> impl Fn(&Ask) -> Reply<Answer> + Clone + Send + Sync {
    let start = Instant::now();
    move |ask| {
        if start.elapsed() >= AWAY {
            return slowly(200 * MS, ask);
        }
        let outcome = tower_relay::outcome::Outcome::new(Verdict::Throttled);
        let outcome = outcome.after(hint.unwrap_or_default());
        Reply::after(50 * MS, answer(ask, outcome))
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_it_out_uses_up_neither_attempts_nor_budget_and_nobody_returns_at_one_instant() {
    for hint in [Some(45 * SECOND), None] {
        for quota in [Some(per_second(5)), None] {
            let (server, log) = server(script(hint));
            let scopes = ["a", "b", "c"].map(|name| {
                let scope = scope(name, &[&format!("{name}1")]);
                match &quota {
                    Some(quota) => scope.quota(quota.clone()),
                    None => scope,
                }
            });
            let (retry, pool) = (retry(2), layer(pool(scopes)));
            let service = retry.layer(pool.layer(server));
            let calls: Vec<_> = (0..60)
                .map(|id| {
                    let ask = Ask::numbered(id).within(10 * MINUTE);
                    tokio::spawn(service.clone().oneshot(ask))
                })
                .collect();
            for call in calls {
                let answer = within(call).await.expect("no panic").expect("answered");
                assert!(answer.outcome.is_success());
            }
            let snapshot = retry.handle().snapshot();
            assert_eq!(snapshot.retries(), 0);
            assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
            assert_idle(&pool.handle());
            // Until the first answer says that it is over, no scope sends two at once; where there
            // is a quota, none ever does.
            let times = log.times();
            let back = *times.iter().find(|at| **at >= AWAY).expect("it ended");
            let until = if quota.is_some() {
                MINUTE * 60
            } else {
                back + 100 * MS
            };
            let most = log.most_at_once(SECOND..until);
            assert!(most <= 3, "{hint:?}, {quota:?}: {most} at once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_is_told_at_once_that_it_cannot_be_met() {
    let (server, log) = server(script(Some(45 * SECOND)));
    let (retry, pool) = (retry(5), layer(accounts(2, &per_second(5))));
    let service = retry.layer(pool.layer(server));
    let start = Instant::now();
    let ask = || Ask::default().within(20 * SECOND);
    let answer = within(service.clone().oneshot(ask()))
        .await
        .expect("the last answer");
    assert_eq!(answer.outcome.verdict(), Verdict::Throttled);
    assert_eq!(log.calls(), 2);
    assert!(start.elapsed() <= 102 * MS, "{:?}", start.elapsed());
    // Now the pool itself refuses, and nobody waits.
    let error = within(service.oneshot(ask()))
        .await
        .expect_err("it cannot be met");
    let wait = rejected(&error).retry_after().expect("it says when");
    assert!((44 * SECOND..=50 * SECOND).contains(&wait), "{wait:?}");
    assert!(start.elapsed() <= 102 * MS);
    assert_eq!(log.calls(), 2);
    assert_idle(&pool.handle());
}
