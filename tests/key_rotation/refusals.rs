//! What is refused, at once, with which words and numbers.

use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{QueueFull, Rejected},
    outcome::Verdict,
    policy::{Cost, Quota, Unit, pool::WhyNot},
    testing::Reply,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_end_in_time_is_refused_at_once_with_the_real_remainder() {
    for by_deadline in [true, false] {
        let (server, log) = server(ok);
        let mut pool = layer(accounts(2, &per_second(1)));
        if !by_deadline {
            pool = pool.max_wait(2 * SECOND);
        }
        let service = pool.layer(server);
        let ask = |id| {
            let ask = Ask::numbered(id);
            if by_deadline {
                ask.within(2 * SECOND)
            } else {
                ask
            }
        };
        let start = Instant::now();
        let mut calls: Vec<_> = (0..8)
            .map(|id| tokio::spawn(service.clone().oneshot(ask(id))))
            .collect();
        settle().await;
        // Two scopes, two seconds: at 0, 1 and 2 s two each.
        for call in calls.drain(6..) {
            let error = within(call).await.expect("no panic").expect_err("too late");
            let Rejected::TooLate(late) = rejected(&error) else {
                panic!("{error}");
            };
            assert_eq!(
                (whole(late.bound()), whole(late.retry_after())),
                (2_000, 3_000)
            );
            assert_eq!(
                error.to_string(),
                "key rotation refused: admission in 3s, later than the 2s this call can wait"
            );
        }
        assert_eq!(since(start), 0);
        for call in calls {
            within(call).await.expect("no panic").expect("answered");
        }
        assert_eq!((since(start), log.calls()), (2_000, 6));
        assert_idle(&pool.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_during_a_rest_is_refused_with_what_is_left_of_the_rest() {
    let (server, _) = server(|ask| hinted(ask, Verdict::Throttled, MINUTE));
    let pool = layer(accounts(1, &plenty()));
    let service = pool.layer(server);
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    tokio::time::sleep(20 * SECOND).await;
    let error = within(once(&service, Ask::default().within(10 * SECOND))).await;
    let error = error.expect_err("too late");
    let wait = rejected(&error).retry_after().expect("it says when");
    assert!((40 * SECOND..=46 * SECOND).contains(&wait), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_is_refused_though_a_key_is_free() {
    let (server, log) = server(ok);
    let service = layer(accounts(1, &plenty())).layer(server);
    let ask = Ask::default().within(SECOND);
    tokio::time::sleep(2 * SECOND).await;
    let error = within(once(&service, ask)).await.expect_err("too late");
    assert!(matches!(rejected(&error), Rejected::TooLate(_)));
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_a_call_waits_for_a_place_ends_the_wait() {
    let (server, _) = server(|_| Reply::never());
    let pool = layer(accounts(1, &plenty())).concurrency(Fixed::of(1));
    let mut service = pool.layer(server);
    let _holds = service.call(Ask::default());
    let start = Instant::now();
    let error = within(service.call(Ask::default().within(5 * SECOND))).await;
    let error = error.expect_err("too late");
    assert!(matches!(rejected(&error), Rejected::TooLate(_)));
    assert_eq!(since(start), 5_000);
    assert_eq!(pool.handle().snapshot().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_is_refused_with_the_time_until_it_could_be_served() {
    let (server, _) = server(ok);
    let pool = layer(accounts(1, &per_second(1))).max_waiting(2);
    let service = pool.layer(server);
    let calls: Vec<_> = (0..4)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    let mut told = Vec::new();
    for call in calls {
        if let Err(error) = within(call).await.expect("no panic") {
            let Rejected::QueueFull(full) = rejected(&error) else {
                panic!("{error}");
            };
            told.push((QueueFull::waiting(full), whole(full.retry_after())));
        }
    }
    assert_eq!(told, [(2, 3_000)]);
    assert_eq!(pool.handle().snapshot().refused(), 1);
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_no_scope_or_not_the_whole_ever_admits_is_refused_at_once_with_numbers() {
    let quota = |burst: u64| {
        let quota = Quota::builder().input_tokens_per_minute(6_000);
        built(quota.burst(Unit::INPUT_TOKENS, burst))
    };
    let (server, log) = server(ok);
    let keys = || {
        pool([
            scope("a", &["a1"]).quota(quota(100)),
            scope("b", &["b1"]).quota(quota(200)),
        ])
    };
    let by_scope = layer(keys());
    let by_whole = layer(keys()).rate_limit(quota(150));
    for (layer, tokens, capacity) in [(&by_scope, 201, 200), (&by_whole, 151, 150)] {
        let service = layer.layer(server.clone());
        let cost = Cost::ZERO.input_tokens(tokens);
        let error = within(once(&service, Ask::default().costing(cost))).await;
        let error = error.expect_err("too large");
        let Rejected::CostTooLarge(large) = rejected(&error) else {
            panic!("{error}");
        };
        assert_eq!((large.cost(), large.capacity()), (tokens, capacity));
        assert_eq!(rejected(&error).retry_after(), None);
        let cost = Cost::ZERO.input_tokens(capacity);
        within(once(&service, Ask::default().costing(cost)))
            .await
            .expect("it fits");
        assert_idle(&layer.handle());
    }
    assert_eq!(log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_can_never_be_served_is_told_why_for_every_key() {
    let (server, log) = server(|ask| match &*ask.alias() {
        "a1" => say(ask, Verdict::KeyRejected),
        "b1" => say(ask, Verdict::ModelDenied),
        "c1" => say(ask, Verdict::Region),
        _ => slowly(SECOND, ask),
    });
    let quota = Quota::builder().input_tokens_per_minute(60);
    let quota = built(quota.burst(Unit::INPUT_TOKENS, 1));
    let small = scope("f", &["f1"]).quota(quota);
    let names = ["a", "b", "c", "d", "e"];
    let mut scopes: Vec<_> = names
        .iter()
        .map(|name| scope(name, &[&format!("{name}1")]).quota(plenty()))
        .collect();
    scopes.push(small);
    let pool = layer(pool(scopes));
    let (retry, handle) = (retry(2), pool.handle());
    let pooled = pool.layer(server);
    handle.disable("d1").expect("it is there");
    let service = retry.layer(pooled.clone());
    let ask = || Ask::of("large").costing(Cost::REQUEST.input_tokens(10));
    let drained = tokio::spawn(pooled.oneshot(Ask::of("other")));
    settle().await;
    handle.drain("e1").expect("it is there");
    let _ = within(drained).await;
    let _ = within(service.clone().oneshot(ask())).await;
    handle.enable("e1").expect("it is there");
    let e1 = tokio::spawn(service.clone().oneshot(ask()));
    settle().await;
    handle.drain("e1").expect("it is there");
    let start = Instant::now();
    let error = within(service.oneshot(ask()))
        .await
        .expect_err("nobody can");
    assert_eq!(since(start), 0);
    let Rejected::NobodyCanServe(nobody) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!(
        nobody.keys().collect::<Vec<_>>(),
        [
            ("a1", WhyNot::Rejected),
            ("b1", WhyNot::ModelDenied),
            ("c1", WhyNot::Region),
            ("d1", WhyNot::Disabled),
            ("e1", WhyNot::Draining),
            ("f1", WhyNot::TooLarge),
        ]
    );
    assert_eq!(
        error.to_string(),
        "no key can serve the call: a1 was rejected by the server, b1 may not use the model, \
         c1 is refused for the region, d1 is disabled, e1 is draining, f1 has too small a quota"
    );
    within(e1).await.expect("no panic").expect("it ends well");
    for alias in ["a1", "b1", "c1"] {
        assert!(log.calls_with(alias) <= 2, "{alias}: {:?}", log.keys());
    }
    assert_idle(&handle);
}
