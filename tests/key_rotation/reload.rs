//! What an operator changes while calls wait and run.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::Rejected,
    key_rotation::{KeyRotationHandle, Source},
    outcome::Verdict,
    policy::{
        Unit,
        pool::{Change, KeyState},
    },
    testing::Reply,
};

use crate::support::*;

/// A pool of one scope that gives one request an hour, with three callers queued behind it.
macro_rules! queued {
    ($service:ident, $handle:ident, $log:ident, $calls:ident) => {
        let (server, $log) = server(ok);
        let hourly = built(tower_relay::policy::Quota::builder().requests_per_hour(1));
        let layer = layer(pool([scope("a", &["a1"]).quota(hourly.clone())]));
        let ($service, $handle) = (layer.layer(server), layer.handle());
        within(once(&$service, Ask::numbered(0)))
            .await
            .expect("answered");
        let $calls: Vec<_> = (1..4)
            .map(|id| tokio::spawn($service.clone().oneshot(Ask::numbered(id))))
            .collect();
        settle().await;
        assert_eq!($handle.snapshot().waiting(), 3);
    };
}

fn hourly() -> tower_relay::policy::Quota {
    built(tower_relay::policy::Quota::builder().requests_per_hour(1))
}

#[tokio::test(start_paused = true)]
async fn a_new_scope_serves_waiters_at_once() {
    queued!(service, handle, log, calls);
    let start = Instant::now();
    let wider = pool([
        scope("a", &["a1"]).quota(hourly()),
        scope("b", &["b1"]).quota(plenty()),
    ]);
    let added = ["b", "b1"].map(Into::into);
    let [name, alias] = added;
    assert_eq!(
        handle.reload(wider),
        [Change::ScopeAdded(name), Change::KeyAdded(alias)]
    );
    for call in calls {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_eq!((since(start), log.ids()), (0, vec![0, 1, 2, 3]));
    assert_eq!(log.keys()[1..], ["b1", "b1", "b1"]);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn a_larger_quota_serves_waiters_at_once_and_a_smaller_one_takes_effect() {
    queued!(service, handle, log, calls);
    let start = Instant::now();
    let larger = pool([scope("a", &["a1"]).quota(per_second(2))]);
    assert_eq!(handle.reload(larger), [Change::ScopeChanged("a".into())]);
    for call in calls {
        within(call).await.expect("no panic").expect("answered");
    }
    assert!(since(start) <= 2_000, "{} ms", since(start));
    assert_eq!(log.ids(), [0, 1, 2, 3]);
    handle.reload(pool([scope("a", &["a1"]).quota(hourly())]));
    let late = tokio::spawn(service.clone().oneshot(Ask::numbered(4)));
    let start = Instant::now();
    within(late).await.expect("no panic").expect("answered");
    assert!(since(start) > 1_000_000, "{} ms", since(start));
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_nothing_changed_changes_nothing() {
    let (server, _) = server(|_| Reply::never());
    let keys = || {
        pool([
            scope("a", &["a1", "a2"])
                .quota(hourly())
                .quota_for(["large"], plenty()),
            scope("b", &["b1"]).quota(plenty()),
        ])
    };
    let layer = layer(keys());
    let (mut service, handle) = (layer.layer(server), layer.handle());
    handle.disable("b1").expect("it is there");
    let _in_flight = service.call(Ask::default());
    let before = handle.scopes();
    assert_eq!(handle.reload(keys()), []);
    assert_eq!(handle.scopes(), before);
    assert_eq!(handle.reread().expect("they are values"), []);
    assert_eq!(handle.scopes(), before);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_of_a_removed_scope_end_well() {
    let (server, log) = server(|ask| match ask.id {
        0 => slowly(SECOND, ask),
        1 => Reply::after(
            SECOND,
            answer(
                ask,
                tower_relay::outcome::Outcome::new(Verdict::KeyRejected),
            ),
        ),
        _ => ok(ask),
    });
    let layer = layer(pool([scope("a", &["a1"]).quota(plenty())])).concurrency(Fixed::of(10));
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..2)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    settle().await;
    let changes = handle.reload(pool([scope("b", &["b1"]).quota(plenty())]));
    assert_eq!(changes.len(), 4, "{changes:?}");
    within(once(&service, Ask::numbered(2)))
        .await
        .expect("answered");
    for call in calls {
        let answer = within(call).await.expect("no panic").expect("answered");
        assert_eq!(answer.secret, "hush-a1-hush");
    }
    assert_eq!(log.keys(), ["a1", "a1", "b1"]);
    assert_idle(&handle);
    assert_eq!(state(&handle, "b1"), KeyState::Usable);
    // The places of what was removed are used again, without its state.
    handle.reload(pool([scope("a", &["a1"]).quota(plenty())]));
    within(once(&service, Ask::numbered(3)))
        .await
        .expect("answered");
    assert_eq!(state(&handle, "a1"), KeyState::Usable);
    assert_eq!(key(&handle, "a1").totals().get(Verdict::KeyRejected), 0);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_used_by_the_next_call_and_the_old_one_by_calls_in_flight() {
    let (server, log) = server(|ask| slowly(SECOND, ask));
    let keys = |secret: &str| {
        let scope = tower_relay::key_rotation::Scope::new("a");
        let source = Source::value(secret.to_owned());
        pool([scope.quota(plenty()).key("a1", source)])
    };
    let layer = layer(keys("hush-old-hush"));
    let (service, handle) = (layer.layer(server), layer.handle());
    let before = tokio::spawn(service.clone().oneshot(Ask::numbered(0)));
    settle().await;
    let changes = handle.reload(keys("hush-new-hush"));
    assert_eq!(changes, [Change::KeyChanged("a1".into())]);
    let after = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
    let before = within(before).await.expect("no panic").expect("answered");
    let after = within(after).await.expect("no panic").expect("answered");
    assert_eq!(
        (&*before.secret, &*after.secret),
        ("hush-old-hush", "hush-new-hush")
    );
    assert_eq!(log.keys(), ["old", "new"]);
    assert_eq!(key(&handle, "a1").totals().get(Verdict::Success), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_the_old_secret_does_not_take_the_new_one_out() {
    let (server, log) = server(|ask| match &*ask.alias() {
        "old" => Reply::after(
            SECOND,
            answer(
                ask,
                tower_relay::outcome::Outcome::new(Verdict::KeyRejected),
            ),
        ),
        _ => ok(ask),
    });
    let keys = |secret: &str| {
        let scope = tower_relay::key_rotation::Scope::new("a");
        let source = Source::value(secret.to_owned());
        pool([scope.quota(plenty()).key("a1", source)])
    };
    let pool = layer(keys("hush-old-hush"));
    let service = retry(1).layer(pool.layer(server.clone()));
    let retried = retry(2).layer(pool.layer(server));
    let plain = tokio::spawn(service.oneshot(Ask::numbered(0)));
    let retried = tokio::spawn(retried.oneshot(Ask::numbered(1)));
    settle().await;
    pool.handle().reload(keys("hush-new-hush"));
    let answer = within(plain).await.expect("no panic").expect("answered");
    assert_eq!(answer.outcome.verdict(), Verdict::KeyRejected);
    let answer = within(retried).await.expect("no panic").expect("answered");
    assert!(answer.outcome.is_success());
    assert_eq!(state(&pool.handle(), "a1"), KeyState::Usable);
    assert_eq!(log.keys(), ["old", "old", "new"]);
}

async fn assert_told(
    calls: Vec<tokio::task::JoinHandle<Result<Answer, tower_relay::error::BoxError>>>,
    handle: &KeyRotationHandle,
    text: &str,
) {
    let start = Instant::now();
    for call in calls {
        let error = within(call)
            .await
            .expect("no panic")
            .expect_err("nobody can");
        let Rejected::NobodyCanServe(_) = rejected(&error) else {
            panic!("{error}");
        };
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(since(start), 0);
    assert_idle(handle);
}

#[tokio::test(start_paused = true)]
async fn disabling_every_key_fails_waiters_at_once_and_names_them() {
    queued!(service, handle, log, calls);
    handle.disable("a1").expect("it is there");
    assert_told(calls, &handle, "no key can serve the call: a1 is disabled").await;
    assert_eq!((log.calls(), handle.snapshot().refused()), (1, 3));
    handle.enable("a1").expect("it is there");
    sleep(60 * MINUTE).await;
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
}

#[tokio::test(start_paused = true)]
async fn draining_every_key_fails_waiters_too_and_a_call_in_flight_ends_well() {
    let (server, _) = server(|ask| slowly(SECOND, ask));
    let layer = layer(accounts(2, &plenty())).concurrency(Fixed::of(2));
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..4)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    settle().await;
    handle.drain("a1").expect("it is there");
    handle.drain("b1").expect("it is there");
    assert_eq!(state(&handle, "a1"), KeyState::Draining);
    let (mut answered, mut told) = (0, Vec::new());
    for call in calls {
        match within(call).await.expect("no panic") {
            Ok(_) => answered += 1,
            Err(error) => told.push(error.to_string()),
        }
    }
    let text = "no key can serve the call: a1 is draining, b1 is draining";
    assert_eq!((answered, told), (2, vec![text.to_owned(); 2]));
    assert_eq!(state(&handle, "a1"), KeyState::Disabled);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_whole_change_with_callers_queued() {
    let (server, log) = server(|ask| slowly(SECOND, ask));
    let layer = layer(accounts(2, &plenty()))
        .rate_limit(hourly())
        .concurrency(Fixed::of(1));
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..6)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    sleep(10 * SECOND).await;
    assert_eq!(log.calls(), 1);
    handle.set_rate_limit(&per_second(1_000));
    sleep(10 * MS).await;
    assert_eq!(log.calls(), 2, "one place");
    handle.set_concurrency(Fixed::of(2));
    sleep(10 * MS).await;
    assert_eq!(log.calls(), 3, "two places");
    handle.remove_concurrency();
    sleep(10 * MS).await;
    assert_eq!(log.calls(), 6);
    for call in calls {
        within(call).await.expect("no panic").expect("answered");
    }
    assert_idle(&handle);
    assert_eq!(handle.available(Unit::REQUESTS), Some(1));
}
