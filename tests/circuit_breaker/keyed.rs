//! A breaker per key, in a bounded map.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::time::sleep;
use tower::{Layer, Service as _, ServiceExt, service_fn};
use tower_relay::{
    circuit_breaker::{KeyedCircuitBreaker, KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer},
    outcome::Outcome,
    policy::breaker::{BreakerConfig, BreakerConfigBuilder, Mode, Refused, State},
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

type Keyed = (u32, Ask);
type Key = fn(&Keyed) -> u32;
type KeyedServer = Scripted<fn(&Keyed) -> Reply<Outcome>>;

fn keyed(config: BreakerConfigBuilder) -> KeyedCircuitBreakerLayer<u32, Key, Api> {
    let config = config.build().expect("it is valid");
    KeyedCircuitBreakerLayer::new(config, (|ask: &Keyed| ask.0) as Key).protocol(Api)
}

fn keyed_server() -> KeyedServer {
    Scripted::new(|ask| match ask.1 {
        Ask::Good => Reply::now(Outcome::SUCCESS),
        Ask::Hang => Reply::never(),
        _ => Reply::fail("connection reset"),
    })
}

type Service = KeyedCircuitBreaker<ReadinessProbe<KeyedServer>, u32, Key, Api>;

fn over(
    layer: &KeyedCircuitBreakerLayer<u32, Key, Api>,
) -> (Service, KeyedServer, KeyedCircuitBreakerHandle<u32>) {
    let server = keyed_server();
    let service = layer.layer(ReadinessProbe::new(server.clone()));
    (service, server, layer.handle())
}

async fn fail(service: &Service, key: u32, times: usize) {
    for _ in 0..times {
        drop(service.clone().oneshot((key, Ask::Break)).await);
    }
}

async fn passes(service: &Service, key: u32) -> bool {
    service.clone().oneshot((key, Ask::Good)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn one_keys_failures_open_one_breaker() {
    let (service, server, handle) = over(&keyed(plain()));
    fail(&service, 1, 10).await;
    assert!(passes(&service, 2).await);
    assert_eq!(
        refusal(service.clone().oneshot((1, Ask::Good)).await),
        (Refused::Open, Some(5_000))
    );
    assert_eq!(server.sent_after().len(), 6);
    let state = |key| handle.get(&key).map(|handle| handle.snapshot().state());
    assert_eq!(
        [1, 2, 3].map(state),
        [Some(State::Open), Some(State::Closed), None]
    );
    assert_eq!(handle.keys(), 2);
    sleep(ms(5_000)).await;
    assert!(passes(&service, 1).await);
    assert_eq!(state(1), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_keys_breaker_can_be_set_by_its_handle() {
    let (service, _, handle) = over(&keyed(plain()));
    assert!(passes(&service, 1).await && passes(&service, 2).await);
    handle
        .get(&1)
        .expect("it is held")
        .set_mode(Mode::ForcedOpen);
    assert!(!passes(&service, 1).await && passes(&service, 2).await);
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_the_breakers() {
    let layer = keyed(plain());
    let (first, ..) = over(&layer);
    let (second, ..) = over(&layer.clone());
    fail(&first, 1, 3).await;
    fail(&second, 1, 2).await;
    assert!(!passes(&first, 1).await && !passes(&second, 1).await);
}

#[tokio::test(start_paused = true)]
async fn a_full_map_forgets_idle_breakers_that_are_as_good_as_new_and_no_others() {
    let (service, _, handle) = over(&keyed(plain()).max_keys(3));
    fail(&service, 1, 5).await;
    handle.get(&1).expect("held").set_mode(Mode::ForcedOpen);
    fail(&service, 2, 1).await;
    assert!(passes(&service, 3).await);
    // All have counted something of late.
    assert!(passes(&service, 4).await);
    assert_eq!((handle.keys(), handle.get(&4).is_none()), (3, true));
    // A window later those that are closed can go, but none that somebody holds.
    sleep(ms(40_000)).await;
    let held = handle.get(&3).expect("it is held");
    assert!(passes(&service, 4).await);
    assert_eq!(handle.keys(), 3);
    let is_held = |key| handle.get(&key).is_some();
    assert_eq!([1, 2, 3, 4].map(is_held), [true, false, true, true]);
    assert!(passes(&service, 5).await);
    assert_eq!([1, 3, 4, 5].map(is_held), [true, true, true, false]);
    drop(held);
    assert!(passes(&service, 5).await);
    assert_eq!([1, 3, 4, 5].map(is_held), [true, false, true, true]);
    assert!(!passes(&service, 1).await, "it is still forced open");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_has_just_closed_keeps_its_ramp() {
    let (service, _, handle) = over(&keyed(plain().ramp(ms(10_000))).max_keys(1));
    fail(&service, 1, 5).await;
    sleep(ms(5_000)).await;
    assert!(passes(&service, 1).await);
    assert_eq!(
        handle.get(&1).expect("held").snapshot().state(),
        State::Closed
    );
    assert!(passes(&service, 2).await);
    assert!(handle.get(&1).is_some(), "it has not forgotten the outage");
    sleep(ms(40_000)).await;
    assert!(passes(&service, 2).await);
    assert!(handle.get(&2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_keeps_its_breaker() {
    let (service, _, handle) = over(&keyed(plain()).max_keys(1));
    let under_way = sent(&service, (1, Ask::Hang)).await;
    sleep(ms(60_000)).await;
    assert!(passes(&service, 2).await);
    assert!(handle.get(&1).is_some());
    drop(under_way);
    assert!(passes(&service, 2).await);
    assert!(handle.get(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_passes_unwatched_and_tells_nobody() {
    let told = Arc::new(AtomicUsize::new(0));
    let tells = Arc::clone(&told);
    let layer = keyed(plain().consecutive_failures(1))
        .max_keys(1)
        .on_transition(move |_| {
            tells.fetch_add(1, SeqCst);
        });
    let (service, server, handle) = over(&layer);
    assert!(passes(&service, 1).await);
    fail(&service, 2, 20).await;
    assert_eq!((server.sent_after().len(), handle.keys()), (21, 1));
    assert_eq!(told.load(SeqCst), 0);
    fail(&service, 1, 20).await;
    assert_eq!((server.sent_after().len(), told.load(SeqCst)), (22, 1));
}

#[tokio::test(start_paused = true)]
async fn the_map_stays_bounded_however_many_keys_come() {
    let (service, _, handle) = over(&keyed(plain()).max_keys(100));
    for key in 0..10_000 {
        assert!(passes(&service, key).await);
        if key % 100 == 0 {
            sleep(ms(40_000)).await;
        }
    }
    assert_eq!(handle.keys(), 100);
    assert!(handle.get(&0).is_none());
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_of_every_key() {
    let told = Arc::new(AtomicUsize::new(0));
    let tells = Arc::clone(&told);
    let layer = keyed(plain()).on_transition(move |_| {
        tells.fetch_add(1, SeqCst);
    });
    let (service, ..) = over(&layer);
    for key in 0..3 {
        fail(&service, key, 8).await;
    }
    assert_eq!(told.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_takes_at_most_256_bytes_beside_the_map() {
    let inner = service_fn(|_: u32| ready(Ok::<_, Infallible>(())));
    let layer = KeyedCircuitBreakerLayer::new(BreakerConfig::default(), |n: &u32| *n);
    let mut service = layer.layer(inner);
    drop(service.call(0));
    let key = allocation_counter::measure(|| {
        for n in 1..=1_000 {
            drop(service.call(n));
        }
    });
    // The map and the circle of keys: two words and a bit each, with room to grow.
    let map = 2 * (24 + 4);
    let each = key.bytes_current / 1_000;
    assert!(each <= 256 + map, "{each}");
    assert_eq!(layer.handle().keys(), 1_001);
}
