//! A call that goes away at any point, or breaks, leaves the books right.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::poll;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer},
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::{
        Cost, Quota, Unit,
        pool::{KeyState, ScopeState},
    },
    protocol::Guard,
    testing::Reply,
};

use crate::support::*;

/// One key of a scope with two requests an hour and one place.
fn scarce() -> KeyPool {
    let quota = Quota::builder()
        .requests_per_hour(2)
        .burst(Unit::REQUESTS, 2)
        .max_in_flight(1);
    pool([scope("a", &["a1"]).quota(built(quota))])
}

/// The same jointly with a bucket and places of the whole.
fn joint() -> KeyRotationLayer<Api> {
    let whole = Quota::builder()
        .requests_per_hour(2)
        .burst(Unit::REQUESTS, 2);
    layer(scarce())
        .rate_limit(built(whole))
        .concurrency(Fixed::of(1))
}

/// What is left of the scope and of the whole, and how many are in flight.
fn books(handle: &KeyRotationHandle) -> (i64, i64, u64) {
    let available = handle.available(Unit::REQUESTS).expect("it is metered");
    let active = handle.snapshot().active();
    let scope = &handle.scopes()[0];
    assert_eq!(scope.in_flight() as u64, active);
    assert_eq!(scope.classes()[0].in_flight() as u64, active);
    assert_eq!(scope.keys()[0].in_flight() as u64, active);
    (remaining(handle, 0), available, active)
}

const UNTOUCHED: (i64, i64, u64) = (2, 2, 0);
const CHARGED: (i64, i64, u64) = (1, 1, 0);

#[tokio::test(start_paused = true)]
async fn dropped_before_its_first_poll_a_sent_call_stays_charged_and_frees_all_else() {
    let (server, _) = server(|_| Reply::never());
    let pool = joint();
    let call = pool.layer(server).call(Ask::default());
    assert_eq!(books(&pool.handle()), (1, 1, 1));
    drop(call);
    assert_eq!(books(&pool.handle()), CHARGED);
    let totals = *pool.handle().scopes()[0].totals();
    assert_eq!(
        totals.get(Verdict::Cancelled) + totals.get(Verdict::Success),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_before_its_first_poll_an_admitted_call_that_was_not_sent_is_free() {
    let (inner, mut mock) = tower_test::mock::pair::<Ask, Answer>();
    mock.allow(0);
    let pool = joint();
    let call = pool.layer(inner).call(Ask::default());
    assert_eq!(books(&pool.handle()), (1, 1, 1));
    drop(call);
    assert_eq!(books(&pool.handle()), UNTOUCHED);
}

#[tokio::test(start_paused = true)]
async fn dropped_while_queued_it_takes_nothing() {
    let (server, _) = server(|_| Reply::never());
    let pool = joint();
    let mut service = pool.layer(server);
    let first = service.call(Ask::default());
    for is_polled in [false, true] {
        let mut queued = Box::pin(service.call(Ask::default()));
        if is_polled {
            assert!(poll!(queued.as_mut()).is_pending());
        }
        assert_eq!(pool.handle().snapshot().waiting(), 1);
        drop(queued);
        assert_eq!(pool.handle().snapshot().waiting(), 0);
        assert_eq!(books(&pool.handle()), (1, 1, 1));
    }
    assert_eq!(pool.handle().snapshot().cancelled(), 2);
    drop(first);
    assert_eq!(books(&pool.handle()), CHARGED);
}

#[tokio::test(start_paused = true)]
async fn dropped_after_its_grant_and_before_its_poll_it_goes_to_the_next() {
    let (server, log) = server(ok);
    let pool = joint();
    let mut service = pool.layer(server);
    let mut first = Box::pin(service.call(Ask::numbered(1)));
    let mut second = Box::pin(service.call(Ask::numbered(2)));
    let mut third = Box::pin(service.call(Ask::numbered(3)));
    assert!(poll!(second.as_mut()).is_pending());
    assert!(poll!(third.as_mut()).is_pending());
    assert!(poll!(first.as_mut()).is_ready());
    assert_eq!(books(&pool.handle()), (0, 0, 1), "the second has it");
    drop(second);
    assert_eq!(books(&pool.handle()), (0, 0, 1), "the third has it");
    assert!(poll!(third.as_mut()).is_ready());
    assert_eq!(log.ids(), [1, 3]);
    assert_eq!(books(&pool.handle()), (0, 0, 0));
    assert_eq!(pool.handle().snapshot().cancelled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_picked_up_late_is_made_anew() {
    let (server, log) = server(|ask| {
        if ask.id == 1 {
            slowly(SECOND, ask)
        } else {
            ok(ask)
        }
    });
    let pool = joint();
    let mut service = pool.layer(server);
    let first = tokio::spawn(service.call(Ask::numbered(1)));
    let mut stalled = Box::pin(service.call(Ask::numbered(2)));
    assert!(poll!(stalled.as_mut()).is_pending());
    within(first).await.expect("no panic").expect("answered");
    assert_eq!(books(&pool.handle()), (0, 0, 1));
    advance(MINUTE).await;
    within(stalled).await.expect("answered");
    assert_eq!(log.whole(), [0, 61_000]);
    assert_eq!(books(&pool.handle()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_in_flight_it_stays_charged_says_nothing_of_its_key_and_frees_the_rest() {
    let (server, log) = server(|_| Reply::never());
    let pool = joint();
    let mut call = Box::pin(pool.layer(server).call(Ask::default()));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!((log.calls(), books(&pool.handle())), (1, (1, 1, 1)));
    drop(call);
    assert_eq!(books(&pool.handle()), CHARGED);
    assert_eq!(pool.handle().snapshot().cancelled(), 1);
    assert_eq!(state(&pool.handle(), "a1"), KeyState::Usable);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_authorize_refunds_everything() {
    for has_to_wait in [false, true] {
        let (server, log) = server(|ask| slowly(SECOND, ask));
        let pool = joint().authorize(|ask: &mut Ask, _| assert_eq!(ask.id, 0, "it panics"));
        let mut service = pool.layer(server);
        let mut charged = 0;
        if has_to_wait {
            let first = tokio::spawn(service.call(Ask::numbered(0)));
            let second = tokio::spawn(service.call(Ask::numbered(1)));
            within(first).await.expect("no panic").expect("answered");
            assert!(within(second).await.expect_err("it panics").is_panic());
            charged = 1;
        } else {
            let call = || drop(service.call(Ask::numbered(1)));
            catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
        }
        assert_eq!(log.calls(), charged);
        let left = 2 - charged as i64;
        assert_eq!(books(&pool.handle()), (left, left, 0));
        within(service.call(Ask::numbered(0)))
            .await
            .expect("answered");
        assert_idle(&pool.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_inner_call_or_its_future_frees_all_but_the_charge() {
    for in_call in [true, false] {
        let (server, _) = server(move |_| {
            assert!(!in_call, "it panics");
            Reply::panic()
        });
        let pool = joint();
        let service = pool.layer(server);
        let call = tokio::spawn(service.oneshot(Ask::default()));
        assert!(within(call).await.expect_err("it panics").is_panic());
        assert_eq!(books(&pool.handle()), CHARGED, "in call: {in_call}");
        assert_eq!(state(&pool.handle(), "a1"), KeyState::Usable);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_fails_its_readiness_costs_nothing() {
    for has_to_wait in [false, true] {
        let (inner, mut mock) = tower_test::mock::pair::<Ask, Answer>();
        let pool = joint();
        let mut service = pool.layer(inner);
        let mut call = if has_to_wait {
            mock.allow(0);
            let mut call = Box::pin(service.call(Ask::default()));
            assert!(poll!(call.as_mut()).is_pending());
            mock.send_error("gone");
            call
        } else {
            mock.send_error("gone");
            Box::pin(service.call(Ask::default()))
        };
        let error = within(&mut call).await.expect_err("gone");
        assert_eq!(error.to_string(), "gone");
        assert_eq!(books(&pool.handle()), UNTOUCHED);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_instead_of_a_response_comes_back_and_stays_charged_unless_it_never_left() {
    for (verdict, effect_is_none, left) in [
        (Verdict::ServerFault, false, CHARGED),
        (Verdict::ServerFault, true, UNTOUCHED),
        (Verdict::Overloaded, true, CHARGED),
        (Verdict::RefusedLocally, true, UNTOUCHED),
        (Verdict::Throttled, true, CHARGED),
        (Verdict::KeyRejected, true, CHARGED),
    ] {
        let (server, _) = server(move |_| {
            if effect_is_none {
                return fail(verdict, None);
            }
            Reply::fail(Broken(Outcome::new(verdict)))
        });
        let pool = joint();
        let result = within(pool.layer(server).oneshot(Ask::default())).await;
        result.expect_err("it fails");
        assert_eq!(books(&pool.handle()), left, "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_its_key_and_place_until_its_guard_ends_however_it_ends() {
    let quota = built(
        Quota::builder()
            .output_tokens_per_minute(1_000)
            .burst(Unit::OUTPUT_TOKENS, 1_000)
            .max_in_flight(1),
    );
    let usage = |tokens: u64| Usage::UNKNOWN.output_tokens(tokens);
    let fault = Outcome::new(Verdict::Overloaded);
    for (ending, left, verdict) in [
        (None, 900, Verdict::Success),
        (Some(Ending::complete(usage(30))), 970, Verdict::Success),
        (Some(Ending::complete(usage(300))), 700, Verdict::Success),
        // A body dropped half-way refunds nothing, and adds what was seen above the estimate.
        (Some(Ending::partial(usage(30))), 900, Verdict::Success),
        (Some(Ending::partial(usage(300))), 700, Verdict::Success),
        (
            Some(Ending::partial(usage(30)).failed(fault)),
            900,
            Verdict::Overloaded,
        ),
    ] {
        let (server, _) = server(ok);
        let keys = pool([scope("a", &["a1"]).quota(quota.clone())]);
        let pool = KeyRotationLayer::new(keys)
            .concurrency(Fixed::of(1))
            .protocol(Holding);
        let service = pool.layer(server);
        let ask = Ask::default().costing(Cost::REQUEST.output_tokens(100));
        let (_, guard) = within(service.oneshot(ask)).await.expect("answered");
        let handle = pool.handle();
        assert_eq!(handle.snapshot().active(), 1);
        assert_eq!(handle.scopes()[0].keys()[0].in_flight(), 1);
        assert_eq!(remaining(&handle, 0), 900);
        match ending {
            Some(ending) => guard.finish(ending),
            None => drop(guard),
        }
        assert_idle(&handle);
        assert_eq!(remaining(&handle, 0), left, "{ending:?}");
        assert_eq!(key(&handle, "a1").totals().get(verdict), 1, "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttle_inside_an_answer_rests_the_scope_and_is_counted_once() {
    let (server, _) = server(ok);
    let pool = KeyRotationLayer::new(accounts(2, &plenty())).protocol(Holding);
    let service = pool.layer(server);
    let (_, guard) = within(once(&service, Ask::default()))
        .await
        .expect("answered");
    guard.finish(Ending::UNKNOWN.failed(Outcome::new(Verdict::Throttled).after(MINUTE)));
    let scopes = pool.handle().scopes();
    assert!(scopes[0].classes()[0].rests_until().is_some());
    assert_eq!(scopes[0].totals().get(Verdict::Throttled), 1);
    assert_eq!(scopes[0].totals().get(Verdict::Success), 0);
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_panics_or_never_started_lets_the_next_one_find_out() {
    let is_broken = Arc::new(AtomicBool::new(true));
    for way in 0..3 {
        is_broken.store(true, Relaxed);
        let breaks = Arc::clone(&is_broken);
        let (server, _) = server(move |ask| match ask.id {
            0 => say(ask, Verdict::Exhausted),
            _ if !breaks.load(Relaxed) => ok(ask),
            _ if way == 1 => Reply::panic(),
            _ => Reply::never(),
        });
        let pool = layer(accounts(1, &plenty()));
        let service = pool.layer(server);
        within(once(&service, Ask::numbered(0)))
            .await
            .expect("answered");
        sleep(40 * MINUTE).await;
        let probe = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
        let next = tokio::spawn(service.clone().oneshot(Ask::numbered(2)));
        if way == 2 {
            settle().await;
            probe.abort();
        } else if way == 0 {
            settle().await;
            assert_eq!(pool.handle().scopes()[0].state(), ScopeState::Probing);
            assert_eq!(pool.handle().snapshot().waiting(), 1);
            probe.abort();
        }
        is_broken.store(false, Relaxed);
        let _ = within(probe).await;
        if way == 1 {
            // The next one panics too, having been sent while it was broken, or finds out.
            let _ = within(next).await;
            within(once(&service, Ask::numbered(3)))
                .await
                .expect("answered");
        } else {
            within(next).await.expect("no panic").expect("answered");
        }
        assert_eq!(
            pool.handle().scopes()[0].state(),
            ScopeState::Open,
            "way {way}"
        );
        assert_idle(&pool.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_succeeded_lets_waiters_in_before_its_answer_has_ended() {
    let (server, _) = server(|ask| match ask.id {
        0 => say(ask, Verdict::Exhausted),
        _ => slowly(SECOND, ask),
    });
    let pool = KeyRotationLayer::new(accounts(1, &plenty())).protocol(Holding);
    let service = pool.layer(server);
    drop(
        within(once(&service, Ask::numbered(0)))
            .await
            .expect("answered"),
    );
    sleep(40 * MINUTE).await;
    let probe = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
    let waits = tokio::spawn(service.clone().oneshot(Ask::numbered(2)));
    let held = within(probe).await.expect("no panic").expect("answered");
    drop(within(waits).await.expect("no panic").expect("answered"));
    drop(held);
    assert_idle(&pool.handle());
}

#[tokio::test(start_paused = true)]
async fn dropped_in_flight_after_a_wait_it_stays_charged_as_well() {
    let (server, log) = server(|ask| match ask.id {
        0 => slowly(SECOND, ask),
        _ => Reply::never(),
    });
    let pool = joint();
    let service = pool.layer(server);
    let first = tokio::spawn(service.clone().oneshot(Ask::numbered(0)));
    let second = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
    within(first).await.expect("no panic").expect("answered");
    settle().await;
    assert_eq!((log.calls(), books(&pool.handle())), (2, (0, 0, 1)));
    second.abort();
    settle().await;
    assert_eq!(books(&pool.handle()), (0, 0, 0));
}
