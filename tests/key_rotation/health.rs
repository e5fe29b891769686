//! What a failure says of a key, a scope or neither, and what it costs the call.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt};
use tower_relay::{
    outcome::{Hint, Verdict},
    policy::{
        Quota,
        pool::{KeyState, ScopeState},
    },
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_throttled_scope_costs_no_wait_no_attempt_and_no_budget_when_another_can_serve() {
    let (server, log) = server(|ask| match &*ask.alias() {
        "a1" => hinted(ask, Verdict::Throttled, MINUTE),
        _ => ok(ask),
    });
    let (retry, pool) = (retry(2), layer(accounts(2, &plenty())));
    let start = Instant::now();
    let service = retry.layer(pool.layer(server));
    for _ in 0..10 {
        let answer = within(service.clone().oneshot(Ask::default())).await;
        assert!(answer.expect("answered").outcome.is_success());
    }
    // The waits it costs are of a timer's resolution.
    assert!(start.elapsed() <= 2 * MS, "{:?}", start.elapsed());
    assert_eq!(log.calls_with("a1"), 1);
    let snapshot = retry.handle().snapshot();
    assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 1));
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn five_revoked_keys_cost_no_wait_no_attempt_and_no_budget() {
    for in_one_scope in [false, true] {
        let (server, log) = server(|ask| match &*ask.alias() {
            "f1" => ok(ask),
            _ => say(ask, Verdict::KeyRejected),
        });
        let keys = if in_one_scope {
            pool([scope("all", &["a1", "b1", "c1", "d1", "e1", "f1"]).quota(plenty())])
        } else {
            accounts(6, &plenty())
        };
        let (retry, pool) = (retry(2), layer(keys));
        let service = retry.layer(pool.layer(server));
        let start = Instant::now();
        let answer = within(service.clone().oneshot(Ask::default())).await;
        assert!(answer.expect("answered").outcome.is_success());
        assert!(start.elapsed() <= 6 * MS, "{:?}", start.elapsed());
        let keys = log.keys();
        assert_eq!(keys.last().map(|key| &**key), Some("f1"));
        assert!(in_one_scope || keys.len() == 6, "{keys:?}");
        for _ in 0..20 {
            let answer = within(service.clone().oneshot(Ask::default())).await;
            assert!(answer.expect("answered").outcome.is_success());
        }
        // Each was called once, not for ever.
        assert_eq!((log.calls(), log.calls_with("f1")), (26, 21));
        let snapshot = retry.handle().snapshot();
        assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
        assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 5));
        assert_eq!(state(&pool.handle(), "a1"), KeyState::Rejected(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_called_by_one_wave_only() {
    let (server, log) = server(|ask| match &*ask.alias() {
        "a1" => tower_relay::testing::Reply::after(
            100 * MS,
            answer(
                ask,
                tower_relay::outcome::Outcome::new(Verdict::KeyRejected),
            ),
        ),
        _ => slowly(100 * MS, ask),
    });
    let pool = layer(accounts(2, &plenty()));
    let service = retry(1_000).layer(pool.layer(server));
    let wave = |calls: u64| {
        let calls = (0..calls).map(|id| service.clone().oneshot(Ask::numbered(id)));
        futures::future::try_join_all(calls)
    };
    within(wave(10)).await.expect("answered");
    assert_eq!(log.calls_with("a1"), 5);
    within(wave(10)).await.expect("answered");
    assert_eq!(log.calls_with("a1"), 5);
    assert_eq!(
        key(&pool.handle(), "a1").totals().get(Verdict::KeyRejected),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_key_s_rejection_ends_the_call_at_once_as_it_was() {
    let (server, log) = server(|ask| say(ask, Verdict::KeyRejected));
    let (retry, pool) = (retry(5), layer(accounts(2, &plenty())));
    let service = retry.layer(pool.layer(server));
    let start = Instant::now();
    let answer = within(service.oneshot(Ask::default())).await;
    let answer = answer.expect("the server's own answer");
    assert_eq!(answer.outcome.verdict(), Verdict::KeyRejected);
    assert!(start.elapsed() <= 2 * MS);
    assert_eq!(log.keys(), ["a1", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn used_up_credit_is_no_rate_limit() {
    let (server, log) = server(|ask| match &*ask.alias() {
        "a1" => say(ask, Verdict::Exhausted),
        _ => ok(ask),
    });
    let pool = layer(accounts(2, &plenty()));
    let service = retry(2).layer(pool.layer(server));
    for minute in 0..40 {
        let answer = within(service.clone().oneshot(Ask::default())).await;
        assert!(answer.expect("answered").outcome.is_success());
        // One refused call, then none for half an hour, then one that finds out.
        let risked = if minute < 30 { 1 } else { 2 };
        assert!(log.calls_with("a1") <= risked, "after {minute} min");
        advance(MINUTE).await;
    }
    assert_eq!(log.calls_with("a1"), 2);
    let scopes = pool.handle().scopes();
    assert!(matches!(scopes[0].state(), ScopeState::Exhausted(_)));
    assert_eq!(scopes[0].classes()[0].rests_until(), None);
    assert_eq!(scopes[1].state(), ScopeState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_or_failing_server_rotates_no_key_out_and_its_word_is_left_alone() {
    for verdict in [
        Verdict::Overloaded,
        Verdict::ServerFault,
        Verdict::CallerFault,
        Verdict::Cancelled,
    ] {
        let (server, log) = server(move |ask| hinted(ask, verdict, 7 * SECOND));
        let pool = layer(accounts(2, &plenty()));
        let service = pool.layer(server);
        for _ in 0..6 {
            let answer = within(once(&service, Ask::default())).await;
            let answer = answer.expect("answered");
            assert_eq!(answer.annotated, None, "{verdict:?}");
            assert_eq!(answer.outcome.hint(), Some(Hint::After(7 * SECOND)));
        }
        assert_eq!((log.calls_with("a1"), log.calls_with("b1")), (3, 3));
        for scope in pool.handle().scopes() {
            assert_eq!(scope.state(), ScopeState::Open);
            assert_eq!(scope.classes()[0].rests_until(), None);
            assert_eq!(scope.keys()[0].state(), KeyState::Usable);
            assert_eq!(scope.totals().get(verdict), 3);
        }
        assert_idle(&pool.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_s_failure_rests_no_other_scope_and_one_class_s_rest_no_other_class() {
    let (server, _) = server(|ask| match (&*ask.alias(), ask.model_name()) {
        ("a1", "large") => hinted(ask, Verdict::Throttled, MINUTE),
        _ => ok(ask),
    });
    let quota = plenty();
    let org = |name: &str, keys: &[&str]| {
        let scope = scope(name, keys).quota(quota.clone());
        scope.quota_for(["large"], quota.clone())
    };
    let pool = layer(pool([org("a", &["a1", "a2"]), org("b", &["b1"])]));
    let service = pool.layer(server);
    let answer = within(once(&service, Ask::of("large"))).await;
    let annotated = answer.expect("answered").annotated.expect("it is absorbed");
    assert!(matches!(annotated.hint(), Some(Hint::Absorbed(_))));
    let scopes = pool.handle().scopes();
    let rests = |scope: usize| {
        let classes = scopes[scope].classes().iter();
        let rests: Vec<_> = classes
            .map(|class| (class.models().count(), class.rests_until().is_some()))
            .collect();
        rests
    };
    assert_eq!(rests(0), [(0, false), (1, true)]);
    assert_eq!(rests(1), [(0, false), (1, false)]);
    assert!(scopes.iter().all(|scope| scope.state() == ScopeState::Open));
}

#[tokio::test(start_paused = true)]
async fn two_keys_of_one_scope_are_one_quota_and_take_turns() {
    let (server, log) = server(ok);
    let pool = layer(pool([scope("a", &["a1", "a2"]).quota(per_second(1))]));
    let service = pool.layer(server);
    let calls = (0..4).map(|id| service.clone().oneshot(Ask::numbered(id)));
    within(futures::future::try_join_all(calls))
        .await
        .expect("answered");
    assert_eq!(log.whole(), [0, 1_000, 2_000, 3_000]);
    assert_eq!(log.keys(), ["a1", "a2", "a1", "a2"]);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_not_drained_before_the_next_is_touched() {
    let quota = built(
        Quota::builder()
            .requests_per_minute(60)
            .burst(tower_relay::policy::Unit::REQUESTS, 20),
    );
    let (server, log) = server(ok);
    let service = layer(accounts(4, &quota)).layer(server);
    for _ in 0..20 {
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    for alias in ["a1", "b1", "c1", "d1"] {
        assert_eq!(log.calls_with(alias), 5, "{alias}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_denied_to_a_key_leaves_it_in_use_for_other_models() {
    let (server, log) = server(|ask| match (&*ask.alias(), ask.model_name()) {
        ("a1", "large") => say(ask, Verdict::ModelDenied),
        _ => ok(ask),
    });
    let (retry, pool) = (retry(2), layer(accounts(2, &plenty())));
    let service = retry.layer(pool.layer(server));
    for _ in 0..10 {
        for model in ["large", "small"] {
            let answer = within(service.clone().oneshot(Ask::of(model))).await;
            assert!(answer.expect("answered").outcome.is_success());
        }
    }
    let with = |alias: &str, model: &str| {
        let seen = log.seen();
        let mut of = seen
            .iter()
            .map(|(_, ask)| (ask.alias(), ask.model_name().to_owned()));
        of.by_ref()
            .filter(|seen| *seen == (alias.into(), model.into()))
            .count()
    };
    assert_eq!(with("a1", "large"), 1);
    assert_eq!(with("b1", "large"), 10);
    assert!(with("a1", "small") > 0, "{:?}", log.keys());
    let denied = key(&pool.handle(), "a1");
    assert_eq!(denied.denied().collect::<Vec<_>>(), ["large"]);
    assert_eq!(retry.handle().snapshot().retries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_nobody_can_remember_is_no_hot_loop() {
    // Without a name of the model, or with one too many, no key is taken out for it.
    for names in [0, 300] {
        let (server, log) = server(|ask| {
            if ask.model_name().starts_with('m') {
                return ok(ask);
            }
            say(ask, Verdict::ModelDenied)
        });
        let pool = layer(accounts(2, &plenty()));
        let service = retry(3).layer(pool.layer(server));
        for name in 0..names {
            let ask = Ask::of(&format!("m{name}"));
            within(service.clone().oneshot(ask))
                .await
                .expect("answered");
        }
        let before = log.calls();
        let mut ask = Ask::default();
        if names > 0 {
            ask = ask.model("one-too-many");
        }
        let answer = tokio::time::timeout(SECOND / 10, service.oneshot(ask)).await;
        let answer = answer.expect("it is no loop").expect("answered");
        assert_eq!(answer.outcome.verdict(), Verdict::ModelDenied);
        assert!(log.calls() - before <= 3, "{} calls", log.calls() - before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_came_back_is_used_again() {
    let (server, log) = server(|ask| {
        if ask.id == 0 {
            return say(ask, Verdict::KeyRejected);
        }
        ok(ask)
    });
    // By hand, by a reload, and by a trial.
    for way in 0..3 {
        let before = log.calls();
        let builder = tower_relay::key_rotation::KeyPool::builder()
            .scope(scope("a", &["a1"]).quota(plenty()))
            .reprobe_rejected(10 * MINUTE);
        let keys = builder.build().expect("it is valid");
        let pool = layer(keys.clone());
        let (service, handle) = (pool.layer(server.clone()), pool.handle());
        let answer = within(once(&service, Ask::numbered(0))).await;
        assert_eq!(
            answer.expect("answered").outcome.verdict(),
            Verdict::KeyRejected
        );
        assert!(matches!(state(&handle, "a1"), KeyState::Rejected(Some(_))));
        let start = Instant::now();
        let waits = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
        settle().await;
        assert_eq!(log.calls(), before + 1);
        match way {
            0 => handle.enable("a1").expect("it is there"),
            1 => assert_eq!(handle.reload(keys), []),
            _ => {}
        }
        within(waits).await.expect("no panic").expect("answered");
        let waited = since(start);
        if way < 2 {
            assert_eq!(waited, 0, "way {way}");
        } else {
            assert!((600_000..=660_000).contains(&waited), "{waited} ms");
        }
        assert_eq!(state(&handle, "a1"), KeyState::Usable, "way {way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_two_weeks_or_of_nothing_is_neither_obeyed_nor_a_hot_loop() {
    for (hint, least, most) in [
        (14 * 24 * 60 * MINUTE, 900_000, 990_000),
        (Duration::ZERO, 1_000, 1_100),
    ] {
        let (server, log) = server(move |ask| match ask.id {
            0 => hinted(ask, Verdict::Throttled, hint),
            _ => ok(ask),
        });
        let service = layer(accounts(1, &plenty())).layer(server);
        within(once(&service, Ask::numbered(0)))
            .await
            .expect("answered");
        within(once(&service, Ask::numbered(1)))
            .await
            .expect("answered");
        let waited = log.whole()[1];
        assert!((least..=most).contains(&waited), "{waited} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_hint_extends_a_running_rest_and_a_shorter_one_does_not_cut_it() {
    for hints in [[10, 60, 20], [60, 20, 10], [20, 10, 60]] {
        let (server, log) = server(move |ask| match ask.id {
            id @ 0..3 => tower_relay::testing::Reply::after(
                (id + 1) as u32 * MS,
                answer(
                    ask,
                    tower_relay::outcome::Outcome::new(Verdict::Throttled)
                        .after(hints[id as usize] * SECOND),
                ),
            ),
            _ => ok(ask),
        });
        let service = layer(accounts(1, &plenty())).layer(server);
        let calls = (0..3).map(|id| once(&service, Ask::numbered(id)));
        within(futures::future::try_join_all(calls))
            .await
            .expect("answered");
        within(once(&service, Ask::numbered(3)))
            .await
            .expect("answered");
        let waited = log.whole()[3];
        assert!(
            (60_000..=66_010).contains(&waited),
            "{hints:?}: {waited} ms"
        );
    }
}
