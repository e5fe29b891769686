//! A service whose 429 is an `Err`: who is blamed, and what retry waits for.

use std::error::Error;

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_relay::{
    error::{KeyFailed, Rejected},
    outcome::{Advice, Hint, Verdict},
    policy::pool::KeyState,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_absorbed_failure_becomes_the_key_s_with_its_source() {
    let (server, _) = server(|_| fail(Verdict::Throttled, Some(MINUTE)));
    let pool = layer(accounts(2, &plenty()));
    let error = within(once(&pool.layer(server), Ask::default())).await;
    let error = error.expect_err("it fails");
    let failed = KeyFailed::find(&*error).expect("it is the key's");
    assert_eq!((failed.alias(), failed.scope()), ("a1", "a"));
    assert_eq!(failed.outcome().verdict(), Verdict::Throttled);
    // It can be served at once, by the other.
    assert!(matches!(failed.outcome().hint(), Some(Hint::Absorbed(_))));
    assert!(failed.source().is_some_and(|source| source.is::<Broken>()));
    assert!(Rejected::find(&*error).is_none());
    assert_eq!(error.to_string(), "the call with key a1 of scope a failed");
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_wait_for_an_absorbed_hint() {
    for verdict in [Verdict::Throttled, Verdict::KeyRejected, Verdict::Exhausted] {
        let (server, log) = server(move |ask| match &*ask.alias() {
            "e1" => ok(ask),
            _ => fail(verdict, Some(MINUTE)),
        });
        let (retry, pool) = (retry(2), layer(accounts(5, &plenty())));
        let service = retry.layer(pool.layer(server));
        let start = Instant::now();
        within(service.oneshot(Ask::default()))
            .await
            .expect("answered");
        assert!(
            start.elapsed() <= 5 * MS,
            "{verdict:?}: {:?}",
            start.elapsed()
        );
        assert_eq!(log.keys(), ["a1", "b1", "c1", "d1", "e1"]);
        let snapshot = retry.handle().snapshot();
        assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 4));
        assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
        assert_idle(&pool.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_key_s_failure_is_final_and_says_so() {
    let (server, log) = server(|_| fail(Verdict::KeyRejected, None));
    let (retry, pool) = (retry(5), layer(accounts(2, &plenty())));
    let service = retry.layer(pool.layer(server));
    let error = within(service.clone().oneshot(Ask::default())).await;
    let error = error.expect_err("it fails");
    let failed = KeyFailed::find(&*error).expect("it is the key's");
    assert_eq!(
        (failed.alias(), failed.outcome().advice()),
        ("b1", Advice::Stop)
    );
    assert_eq!(log.keys(), ["a1", "b1"]);
    assert_eq!(state(&pool.handle(), "b1"), KeyState::Rejected(None));
    let error = within(service.oneshot(Ask::default())).await;
    assert!(matches!(
        rejected(&error.expect_err("nobody")),
        Rejected::NobodyCanServe(_)
    ));
    assert_eq!(log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_a_key_s_is_handed_on_as_it_is() {
    for verdict in [
        Verdict::ServerFault,
        Verdict::Overloaded,
        Verdict::CallerFault,
    ] {
        let (server, _) = server(move |_| fail(verdict, Some(SECOND)));
        let pool = layer(accounts(1, &plenty()));
        let error = within(once(&pool.layer(server), Ask::default())).await;
        let error = error.expect_err("it fails");
        assert!(error.is::<Broken>(), "{error:?}");
        assert_eq!(key(&pool.handle(), "a1").totals().get(verdict), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_inside_a_pool_absorbs_once() {
    let (server, log) = server(|_| fail(Verdict::Throttled, Some(MINUTE)));
    let inner = layer(accounts(1, &plenty()));
    let outer = layer(pool([scope("x", &["x1"]).quota(plenty())]));
    let error = within(once(&outer.layer(inner.layer(server)), Ask::default())).await;
    let error = error.expect_err("it fails");
    let failed = KeyFailed::find(&*error).expect("it is the key's");
    assert_eq!(failed.alias(), "a1");
    let rests = |layer: &tower_relay::key_rotation::KeyRotationLayer<Api>| {
        layer.handle().scopes()[0].classes()[0]
            .rests_until()
            .is_some()
    };
    assert_eq!((rests(&inner), rests(&outer)), (true, false));
    assert_eq!(log.keys(), ["a1"]);
    assert_idle(&outer.handle());
}
