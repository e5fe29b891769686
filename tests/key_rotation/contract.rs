//! What Tower asks of a service, and what its combinators do with ours.

use std::{convert::Infallible, sync::Arc};

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
    key_rotation::{
        Key, KeyPool, KeyRotation, KeyRotationHandle, KeyRotationLayer, Permit, Scope, Source,
    },
    policy::Unit,
    protocol::Plain,
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_pool() {
    let (server, log) = server(ok);
    let layer = layer(accounts(1, &per_second(50)));
    let first = layer.layer(server.clone());
    let second = layer.clone().layer(server);
    let calls =
        [&first, &second, &first, &second].map(|service| service.clone().oneshot(Ask::default()));
    within(futures::future::try_join_all(calls))
        .await
        .expect("answered");
    assert_eq!(log.whole(), [0, 20, 40, 60]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    assert_eq!(second.handle().snapshot().completed(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_nothing() {
    let (server, _) = server(ok);
    let pool = layer(accounts(1, &per_second(1))).concurrency(Fixed::of(1));
    let service = pool.layer(server);
    let mut idle = service.clone();
    idle.ready().await.expect("ready");
    assert_idle(&pool.handle());
    assert_eq!(remaining(&pool.handle(), 0), 1);
    let start = Instant::now();
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    assert_eq!(since(start), 1_000);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_never_asks_the_inner_service() {
    let (inner, mut mock) = tower_test::mock::pair::<Ask, Answer>();
    mock.allow(0);
    let mut service = layer(accounts(1, &plenty())).layer(inner);
    assert!(futures::poll!(std::pin::pin!(service.ready())).is_ready());
    mock.send_error("gone");
    assert!(futures::poll!(std::pin::pin!(service.ready())).is_ready());
}

#[tokio::test(start_paused = true)]
async fn every_inner_call_follows_readiness_of_that_instance() {
    let (server, log) = server(ok);
    let mut service = layer(accounts(2, &per_second(500))).layer(server);
    let calls: Vec<_> = (0..50)
        .map(|id| {
            if id % 2 == 0 {
                service.call(Ask::numbered(id))
            } else {
                service.clone().call(Ask::numbered(id))
            }
        })
        .collect();
    within(futures::future::try_join_all(calls))
        .await
        .expect("answered");
    assert_eq!(log.calls(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_does_not_sit_on_an_inner_permit() {
    let (server, _) = server(ok);
    let permits = Arc::new(Semaphore::new(1));
    let inner = ConcurrencyLimit::with_semaphore(server, Arc::clone(&permits));
    let service = layer(accounts(1, &per_second(1))).layer(inner);
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    let queued = tokio::spawn(service.clone().oneshot(Ask::default()));
    settle().await;
    assert_eq!(service.handle().snapshot().waiting(), 1);
    assert_eq!(permits.available_permits(), 1);
    within(queued).await.expect("no panic").expect("answered");
}

#[tokio::test(start_paused = true)]
async fn load_shed_sheds_nothing_that_can_wait() {
    let (server, _) = server(ok);
    let service = LoadShed::new(layer(accounts(1, &per_second(10))).layer(server));
    let start = Instant::now();
    let calls = (0..3).map(|id| service.clone().oneshot(Ask::numbered(id)));
    within(futures::future::try_join_all(calls))
        .await
        .expect("answered");
    assert_eq!(since(start), 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_kills_no_buffer_and_evicts_no_endpoint() {
    let (server, _) = server(ok);
    let one = || {
        layer(accounts(1, &per_second(1)))
            .max_waiting(0)
            .layer(server.clone())
    };
    let buffer = Buffer::new(one(), 8);
    within(buffer.clone().oneshot(Ask::default()))
        .await
        .expect("answered");
    let error = within(buffer.clone().oneshot(Ask::default())).await;
    let wait = rejected(&error.expect_err("refused")).retry_after();
    assert_eq!(wait.map(whole), Some(1_000));
    tokio::time::sleep(SECOND).await;
    within(buffer.oneshot(Ask::default()))
        .await
        .expect("answered");

    let endpoints: Vec<_> = (0..2).map(|_| Constant::new(one(), 1)).collect();
    let mut balance = Balance::new(ServiceList::new::<Ask>(endpoints));
    let mut refused = 0;
    for _ in 0..20 {
        let ready = within(balance.ready()).await.expect("ready");
        refused += u32::from(within(ready.call(Ask::default())).await.is_err());
    }
    assert!(refused >= 18, "{refused}");
    assert_eq!(balance.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed() {
    let (server, log) = server(ok);
    let layer = layer(accounts(1, &per_second(10)));
    let boxed = BoxService::new(layer.layer(server.clone()));
    let cloned = BoxCloneService::new(layer.layer(server.clone()));
    let shared = BoxCloneSyncService::new(layer.layer(server));
    within(boxed.oneshot(Ask::default()))
        .await
        .expect("answered");
    within(cloned.clone().oneshot(Ask::default()))
        .await
        .expect("answered");
    within(shared.clone().oneshot(Ask::default()))
        .await
        .expect("answered");
    assert_eq!(log.whole(), [0, 100, 200]);
}

/// As async-openai 0.43 bounds the services it takes.
#[derive(Clone)]
struct Factory(#[allow(dead_code, reason = "stands for a closure")] Arc<()>);
struct Opaque;
struct Failure(String);

impl From<tower_relay::error::BoxError> for Failure {
    fn from(error: tower_relay::error::BoxError) -> Self {
        Self(error.to_string())
    }
}

async fn with_http_service<S>(service: S) -> Result<Opaque, Failure>
where
    S: Service<Factory, Response = Opaque> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Failure> + Send + Sync + 'static,
{
    let call = service.clone().oneshot(Factory(Arc::default()));
    call.await.map_err(Into::into)
}

#[tokio::test(start_paused = true)]
async fn it_fits_the_service_slot_of_async_openai_and_needs_nothing_cloned() {
    let inner = service_fn(async |_: Factory| Ok::<_, Infallible>(Opaque));
    let layer = KeyRotationLayer::new(accounts(1, &per_second(1))).max_waiting(0);
    let service = layer.authorize(|_: &mut Factory, _: &Key| {}).layer(inner);
    assert!(with_http_service(service.clone()).await.is_ok());
    let Err(Failure(message)) = with_http_service(service).await else {
        panic!("the second call is over the quota");
    };
    assert_eq!(
        message,
        "key rotation refused: its limit is spent, admission in 1s"
    );
}

#[test]
fn everything_is_send_and_sync_and_cloned_where_its_parts_are() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    struct NotClone;
    type Inner = Scripted<fn(&NotClone) -> Reply<NotClone>>;
    type Pooled = KeyRotation<Inner, Plain>;

    cloned::<KeyPool>();
    cloned::<Key>();
    cloned::<Scope>();
    cloned::<Source>();
    cloned::<KeyRotationLayer>();
    cloned::<Pooled>();
    cloned::<KeyRotationHandle>();
    shared::<Permit>();
    shared::<<Pooled as Service<NotClone>>::Future>();
}

#[tokio::test(start_paused = true)]
async fn a_setting_after_a_handle_makes_another_pool() {
    let (server, _) = server(ok);
    let layer = layer(accounts(1, &per_second(1)));
    let before = layer.handle();
    let layer = layer.rate_limit(per_second(2));
    within(once(&layer.layer(server), Ask::default()))
        .await
        .expect("answered");
    assert_eq!(before.snapshot().admitted(), 0);
    assert_eq!(before.available(Unit::REQUESTS), None);
    assert_eq!(layer.handle().snapshot().admitted(), 1);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not ready")]
async fn the_readiness_probe_catches_an_unready_call() {
    let (server, _) = server(ok);
    let mut probe = ReadinessProbe::new(server);
    probe.ready().await.expect("ready");
    drop(probe.clone().call(Ask::default()));
}
