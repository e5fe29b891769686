//! One limit for each key.

use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::Rejected,
    policy::{Quota, Unit},
    rate_limit::KeyedRateLimitLayer,
    testing::{Reply, Scripted},
};

use crate::support::*;

type Key = fn(&(u32, u64)) -> u32;

fn keyed(quota: Quota) -> KeyedRateLimitLayer<u32, Key> {
    KeyedRateLimitLayer::new(quota, (|request| request.0) as Key)
}

type Server = Scripted<fn(&(u32, u64)) -> Reply<(u32, u64)>>;

fn server() -> Server {
    echo()
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_limit_of_its_own_shared_by_clones_and_services() {
    let layer = keyed(per_second(10));
    let server = server();
    let (one, two) = (layer.layer(server.clone()), layer.clone().layer(server));
    let start = Instant::now();
    let a = async {
        one.clone().oneshot((1, 0)).await.expect("served");
        two.clone().oneshot((1, 0)).await.expect("served");
        one.clone().oneshot((1, 0)).await.expect("served");
        since(start)
    };
    let b = async {
        two.clone().oneshot((2, 0)).await.expect("served");
        since(start)
    };
    assert_eq!(tokio::join!(a, b), (200, 0));
    assert_eq!(layer.handle().keys(), 2);
    let first = layer.handle().get(&1).expect("held");
    assert_eq!(first.snapshot().admitted(), 3);
    assert!(layer.handle().get(&3).is_none());
}

#[tokio::test(start_paused = true)]
async fn only_a_limiter_as_good_as_new_is_forgotten() {
    let layer = keyed(per_second(1)).max_keys(2).max_waiting(0);
    let service = layer.layer(server());
    for key in [1, 2] {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    advance(ms(400)).await;
    let error = service.clone().oneshot((3, 0)).await.expect_err("full");
    let Rejected::TooManyKeys(full) = rejected(&error) else {
        panic!("{error}");
    };
    assert_eq!((full.keys(), whole(full.retry_after())), (2, 600));
    assert_eq!(
        error.to_string(),
        "rate limit refused: all 2 keys it may hold are in use"
    );
    // The held keys are limited as before.
    assert_eq!(retry_after(service.clone().oneshot((1, 0)).await), 600);
    advance(ms(600)).await;
    service.clone().oneshot((3, 0)).await.expect("served");
    assert_eq!(layer.handle().keys(), 2);
    // Key 1 was used later than key 2, though in vain.
    assert!(layer.handle().get(&2).is_none());
    assert!(layer.handle().get(&1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_limiter_with_calls_in_flight_or_waiting_is_not_forgotten() {
    let inner = Scripted::new(|request: &(u32, u64)| Reply::after(ms(request.1), ()));
    let quota = built(Quota::builder().requests_per_second(1_000).max_in_flight(1));
    let layer = keyed(quota).max_keys(1);
    let service = layer.layer(inner);
    let running = tokio::spawn(service.clone().call((1, 5_000)));
    let queued = tokio::spawn(service.clone().call((1, 5_000)));
    settle().await;
    for _ in 0..2 {
        advance(ms(2_500)).await;
        settle().await;
        let error = service.clone().oneshot((2, 0)).await.expect_err("full");
        assert!(matches!(rejected(&error), Rejected::TooManyKeys(_)));
        assert_eq!(whole(rejected(&error).retry_after().expect("some")), 1_000);
    }
    running.await.expect("no panic").expect("served");
    queued.await.expect("no panic").expect("served");
    advance(ms(1)).await;
    service.clone().oneshot((2, 0)).await.expect("served");
    assert_eq!(layer.handle().keys(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limiter_whose_handle_is_held_is_not_forgotten() {
    let layer = keyed(per_second(1)).max_keys(1);
    let service = layer.layer(server());
    service.clone().oneshot((1, 0)).await.expect("served");
    let handle = layer.handle().get(&1).expect("held");
    advance(ms(2_000)).await;
    service.clone().oneshot((2, 0)).await.expect_err("full");
    assert_eq!(handle.available(Unit::REQUESTS), Some(1));
    drop(handle);
    service.clone().oneshot((2, 0)).await.expect("served");
}

#[tokio::test(start_paused = true)]
async fn keys_in_long_use_do_not_hide_those_that_can_be_forgotten() {
    let inner = Scripted::new(|request: &(u32, u64)| Reply::after(ms(request.1), ()));
    let layer = keyed(per_second(1)).max_keys(40);
    let service = layer.layer(inner);
    let streams: Vec<_> = (0..20)
        .map(|key| tokio::spawn(service.clone().call((key, 3_600_000))))
        .collect();
    settle().await;
    for key in 20..40 {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    advance(ms(60_000)).await;
    // Twenty are as good as new, behind twenty that are in use and were used longer ago.
    for key in 40..60 {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    assert_eq!(layer.handle().keys(), 40);
    for stream in streams {
        stream.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_keys_are_in_long_use_the_rest_is_found() {
    let inner = Scripted::new(|request: &(u32, u64)| Reply::after(ms(request.1), ()));
    let layer = keyed(per_second(1)).max_keys(520);
    let service = layer.layer(inner);
    let _streams: Vec<_> = (0..500)
        .map(|key| tokio::spawn(service.clone().call((key, 3_600_000))))
        .collect();
    settle().await;
    for key in 500..520 {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    advance(ms(60_000)).await;
    let mut refused = 0;
    for key in 520..540 {
        let error = service.clone().oneshot((key, 0)).await.err();
        refused += u32::from(error.is_some());
    }
    assert!(refused <= 10, "{refused}");
    for key in [0, 499] {
        assert!(layer.handle().get(&key).is_some(), "key {key} is in use");
    }
}

#[tokio::test(start_paused = true)]
async fn the_map_is_bounded_by_ten_thousand_unless_told() {
    let layer = keyed(per_second(1)).max_waiting(0);
    let service = layer.layer(server());
    for key in 0..10_000 {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    let error = service.clone().oneshot((10_000, 0)).await;
    assert_eq!(retry_after(error), 1_000);
    assert_eq!(layer.handle().keys(), 10_000);
    advance(ms(1_000)).await;
    for key in 10_000..20_000 {
        service.clone().oneshot((key, 0)).await.expect("served");
    }
    assert_eq!(layer.handle().keys(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_ones_own_and_a_new_one_for_all() {
    let layer = keyed(per_second(1)).quota(|key| per_second(u64::from(*key)));
    let service = layer.max_waiting(0);
    let handle = service.handle();
    let service = service.layer(server());
    for (key, wait) in [(4, 250), (10, 100)] {
        service.clone().oneshot((key, 0)).await.expect("served");
        assert_eq!(retry_after(service.clone().oneshot((key, 0)).await), wait);
    }
    handle.set_quota(&per_second(50));
    for key in [4, 10] {
        assert_eq!(retry_after(service.clone().oneshot((key, 0)).await), 20);
    }
    // A key seen later begins with it too.
    service.clone().oneshot((2, 0)).await.expect("served");
    assert_eq!(retry_after(service.clone().oneshot((2, 0)).await), 20);
}

#[tokio::test(start_paused = true)]
async fn windows_reset_at_the_same_instant_for_every_key() {
    let hour = std::time::Duration::from_secs(3_600);
    let quota = built(Quota::builder().window(Unit::REQUESTS, 1, hour * 24, hour));
    let service = keyed(quota).max_waiting(0).layer(server());
    for (minutes, left) in [(0, 60), (30, 30), (29, 1), (1, 24 * 60)] {
        advance(ms(minutes * 60_000)).await;
        let key = minutes as u32;
        service.clone().oneshot((key, 0)).await.expect("served");
        let wait = retry_after(service.clone().oneshot((key, 0)).await);
        assert_eq!(wait, left * 60_000, "first seen {minutes} minutes later");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_when_hashed_harms_no_other() {
    use std::hash::{Hash, Hasher};

    #[derive(Clone, PartialEq, Eq)]
    struct Brittle(u32);
    impl Hash for Brittle {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert_ne!(self.0, 13, "unlucky");
            self.0.hash(state);
        }
    }
    let layer = KeyedRateLimitLayer::new(per_second(1), |n: &u32| Brittle(*n)).max_keys(2);
    let service = layer.layer(echo::<u32>());
    for key in [1, 13, 2, 13, 3, 4] {
        let mut service = service.clone();
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.call(key)));
        assert_eq!(called.is_err(), key == 13);
        if let Ok(call) = called {
            call.await.expect("served");
        }
        advance(ms(1_000)).await;
    }
    assert_eq!(layer.handle().keys(), 2);
}

#[tokio::test(start_paused = true)]
async fn costs_bounds_and_protocols_hold_for_each_key() {
    let layer = keyed(built(tokens(60, 10)))
        .max_wait(ms(1_000))
        .protocol(Holding)
        .cost(|request: &(u32, u64)| input(request.1));
    let service = layer.layer(server());
    let (_, guard) = service.clone().oneshot((1, 9)).await.expect("served");
    let error = service.clone().call((1, 3)).await.expect_err("too late");
    assert_eq!(
        whole(rejected(&error).retry_after().expect("it says when")),
        2_000
    );
    drop(guard);
    let _held = service.clone().call((1, 2)).await.expect("served");
}

#[tokio::test(start_paused = true)]
async fn debug_shows_how_many_keys_and_none_of_them() {
    let layer = keyed(per_second(1)).max_keys(7);
    let service = layer.layer(server());
    service.clone().oneshot((4_711, 0)).await.expect("served");
    for shown in [
        format!("{layer:?}"),
        format!("{service:?}"),
        format!("{:?}", layer.handle()),
    ] {
        assert!(shown.contains("keys: 1, max_keys: 7"), "{shown}");
        assert!(!shown.contains("4711"), "{shown}");
    }
}

/// The key stands for what an outer map keeps; at least one is always held.
#[tokio::test(start_paused = true)]
async fn a_map_for_no_key_holds_one() {
    let layer = keyed(per_second(1)).max_keys(0);
    let service = layer.layer(server());
    service.clone().oneshot((1, 0)).await.expect("served");
    assert_eq!(layer.handle().keys(), 1);
}
