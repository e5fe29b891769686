//! What Tower asks of a service, and what its combinators do with ours.

use std::sync::Arc;

use tokio::{sync::Semaphore, time::Instant};
use tower::{
    Layer, Service, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    limit::ConcurrencyLimit,
    load::Constant,
    load_shed::LoadShed,
    service_fn,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_relay::{
    adaptive_concurrency::{
        AdaptiveConcurrency, AdaptiveConcurrencyHandle, AdaptiveConcurrencyLayer, Permit,
    },
    protocol::Plain,
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_limit() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(2));
    let server = slow(100);
    let first = layer.layer(server.clone());
    let second = layer.clone().layer(server.clone());
    let calls = [&first, &second, &first, &second].map(|service| service.clone().oneshot(0));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(server.peak_in_flight(), 2);
    assert_eq!(wholes(&server.sent_after()), [0, 0, 100, 100]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    second.handle().set_algorithm(fixed(9));
    assert_eq!(first.handle().limit(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_setting_makes_a_limit_of_its_own_and_a_protocol_does_not() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1));
    let set = layer.clone().max_waiting(5);
    layer.handle().set_algorithm(fixed(7));
    assert_eq!((layer.handle().limit(), set.handle().limit()), (7, 1));
    assert_eq!(layer.protocol(Holding).handle().limit(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_nothing() {
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(echo::<u32>());
    let mut idle = service.clone();
    idle.ready().await.expect("ready");
    assert_idle(&service.handle());
    let start = Instant::now();
    service.clone().oneshot(1).await.expect("served");
    assert_eq!(since(start), 0);
}

#[tokio::test(start_paused = true)]
async fn every_inner_call_follows_readiness_of_that_instance() {
    let server = slow(1);
    let layer = AdaptiveConcurrencyLayer::new(fixed(4));
    let mut service = layer.layer(ReadinessProbe::new(server.clone()));
    let calls: Vec<_> = (0..50)
        .map(|n| {
            if n % 2 == 0 {
                service.call(n)
            } else {
                service.clone().call(n)
            }
        })
        .collect();
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(server.sent_after().len(), 50);
    assert_eq!(server.peak_in_flight(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_does_not_sit_on_an_inner_permit() {
    let permits = Arc::new(Semaphore::new(2));
    let inner = ConcurrencyLimit::with_semaphore(slow(100), Arc::clone(&permits));
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(inner);
    let calls: Vec<_> = (0..2)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    settle().await;
    assert_eq!(service.handle().snapshot().waiting(), 1);
    assert_eq!(permits.available_permits(), 1);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn load_shed_sheds_nothing_that_can_wait() {
    let service = LoadShed::new(AdaptiveConcurrencyLayer::new(fixed(1)).layer(slow(100)));
    let start = Instant::now();
    let calls = (0..3).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(since(start), 300);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_kills_no_buffer() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1)).max_waiting(0);
    let service = Buffer::new(layer.layer(slow(100)), 8);
    let calls = (1..=2).map(|n| service.clone().oneshot(n));
    let ends = futures::future::join_all(calls).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1);
    assert_eq!(service.oneshot(3).await.expect("served"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_evicts_no_endpoint_of_a_balancer() {
    let endpoints: Vec<_> = (0..2)
        .map(|_| {
            let layer = AdaptiveConcurrencyLayer::new(fixed(1)).max_waiting(0);
            Constant::new(layer.layer(slow(60_000)), 1)
        })
        .collect();
    let mut balance = Balance::new(ServiceList::new::<u32>(endpoints));
    let mut calls = Vec::new();
    for n in 0..20 {
        let ready = balance.ready().await.expect("ready");
        calls.push(ready.call(n));
    }
    let ends = futures::future::join_all(calls).await;
    assert!(ends.iter().filter(|end| end.is_err()).count() >= 18);
    assert_eq!(balance.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1));
    let boxed = BoxService::new(layer.layer(echo::<u32>()));
    let cloned = BoxCloneService::new(layer.layer(echo::<u32>()));
    let shared = BoxCloneSyncService::new(layer.layer(echo::<u32>()));
    assert_eq!(boxed.oneshot(1).await.expect("served"), 1);
    assert_eq!(cloned.clone().oneshot(2).await.expect("served"), 2);
    assert_eq!(shared.clone().oneshot(3).await.expect("served"), 3);
    assert_eq!(layer.handle().snapshot().completed(), 3);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_never_asks_the_inner_service() {
    let (inner, mut handle) = tower_test::mock::pair::<u32, u32>();
    handle.allow(0);
    let mut service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(inner);
    assert!(futures::poll!(std::pin::pin!(service.ready())).is_ready());
}

#[tokio::test(start_paused = true)]
async fn neither_request_nor_response_nor_error_need_be_clone() {
    struct Request;
    struct Response;
    #[derive(Debug)]
    struct Failure;
    impl std::fmt::Display for Failure {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("failed")
        }
    }
    impl std::error::Error for Failure {}

    let inner = service_fn(async |_: Request| Err::<Response, _>(Failure));
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(inner);
    let error = service.clone().oneshot(Request).await.err();
    assert!(error.expect("it fails").is::<Failure>());
}

#[test]
fn everything_is_send_and_sync_and_cloned_where_its_parts_are() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    struct NotClone;
    type Server = Scripted<fn(&NotClone) -> Reply<NotClone>>;
    type Limited = AdaptiveConcurrency<Server, Plain>;

    cloned::<AdaptiveConcurrencyLayer>();
    cloned::<Limited>();
    cloned::<AdaptiveConcurrencyHandle>();
    shared::<Permit>();
    shared::<<Limited as Service<NotClone>>::Future>();
}

#[tokio::test(start_paused = true)]
async fn debug_shows_the_limit_and_where_a_call_stands() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(1)).max_waiting(7);
    let service = layer.clone().protocol(Holding).layer(echo::<u32>());
    let (_, guard) = service.clone().oneshot(0).await.expect("served");
    for shown in [format!("{layer:?}"), format!("{service:?}")] {
        assert!(shown.contains("max_waiting: 7"), "{shown}");
    }
    let shown = format!("{:?}", service.handle());
    assert!(
        shown.contains("limit: 1") && shown.contains("active: 1"),
        "{shown}"
    );
    let queued = service.clone().call(1);
    let shown = format!("{queued:?}");
    assert_eq!(shown, "adaptive_concurrency::ResponseFuture(queued)");
    drop(guard);
}
