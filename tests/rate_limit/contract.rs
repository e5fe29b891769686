//! What Tower asks of a service, and what its combinators do with ours.

use std::{convert::Infallible, sync::Arc};

use tokio::{sync::Semaphore, time::Instant};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
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
    error::BoxError,
    policy::{Quota, Unit},
    protocol::Plain,
    rate_limit::{
        KeyedRateLimit, KeyedRateLimitHandle, KeyedRateLimitLayer, Permit, RateLimit,
        RateLimitHandle, RateLimitLayer,
    },
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_limit() {
    let layer = RateLimitLayer::per_second(50);
    let server = echo::<u32>();
    let first = layer.layer(server.clone());
    let second = layer.clone().layer(server.clone());
    let calls = [&first, &second, &first, &second].map(|service| service.clone().oneshot(0));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(wholes(&server.sent_after()), [0, 20, 40, 60]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    assert_eq!(second.handle().snapshot().completed(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_nothing() {
    let quota = built(Quota::builder().requests_per_second(1).max_in_flight(1));
    let service = RateLimitLayer::new(quota).layer(echo::<u32>());
    let mut idle = service.clone();
    idle.ready().await.expect("ready");
    assert_eq!(service.handle().available(Unit::REQUESTS), Some(1));
    assert_eq!(service.handle().snapshot().active(), 0);
    let start = Instant::now();
    service.clone().oneshot(1).await.expect("served");
    service.clone().oneshot(2).await.expect("served");
    assert_eq!(since(start), 1_000);
}

#[tokio::test(start_paused = true)]
async fn every_inner_call_follows_readiness_of_that_instance() {
    let server = echo::<u32>();
    let mut service = RateLimitLayer::per_second(1_000).layer(ReadinessProbe::new(server.clone()));
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
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not ready")]
async fn the_readiness_probe_catches_an_unready_call() {
    let mut probe = ReadinessProbe::new(echo::<u32>());
    probe.ready().await.expect("ready");
    drop(probe.clone().call(1));
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_does_not_sit_on_an_inner_permit() {
    let permits = Arc::new(Semaphore::new(1));
    let inner = ConcurrencyLimit::with_semaphore(echo::<u32>(), Arc::clone(&permits));
    let service = RateLimitLayer::per_second(1).layer(inner);
    service.clone().oneshot(0).await.expect("served");
    let queued = tokio::spawn(service.clone().oneshot(1));
    settle().await;
    assert_eq!(service.handle().snapshot().waiting(), 1);
    assert_eq!(permits.available_permits(), 1);
    queued.await.expect("no panic").expect("served");
}

#[tokio::test(start_paused = true)]
async fn load_shed_sheds_nothing_that_can_wait() {
    let service = LoadShed::new(RateLimitLayer::per_second(10).layer(echo::<u32>()));
    let start = Instant::now();
    let calls = (0..3).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(since(start), 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_kills_no_buffer() {
    let layer = RateLimitLayer::per_second(1).max_waiting(0);
    let service = Buffer::new(layer.layer(echo::<u32>()), 8);
    assert_eq!(service.clone().oneshot(1).await.expect("served"), 1);
    assert_eq!(retry_after(service.clone().oneshot(2).await), 1_000);
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(service.oneshot(3).await.expect("served"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_evicts_no_endpoint_of_a_balancer() {
    let endpoints: Vec<_> = (0..2)
        .map(|_| {
            let layer = RateLimitLayer::per_second(1).max_waiting(0);
            Constant::new(layer.layer(echo::<u32>()), 1)
        })
        .collect();
    let mut balance = Balance::new(ServiceList::new::<u32>(endpoints));
    let mut refused = 0;
    for _ in 0..20 {
        let ready = balance.ready().await.expect("ready");
        refused += u32::from(ready.call(0).await.is_err());
    }
    assert!(refused >= 18, "{refused}");
    assert_eq!(balance.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed() {
    let layer = RateLimitLayer::per_second(10);
    let start = Instant::now();
    let boxed = BoxService::new(layer.layer(echo::<u32>()));
    let cloned = BoxCloneService::new(layer.layer(echo::<u32>()));
    let shared = BoxCloneSyncService::new(layer.layer(echo::<u32>()));
    assert_eq!(boxed.oneshot(1).await.expect("served"), 1);
    assert_eq!(cloned.clone().oneshot(2).await.expect("served"), 2);
    assert_eq!(shared.clone().oneshot(3).await.expect("served"), 3);
    assert_eq!(since(start), 200);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_never_asks_the_inner_service() {
    let (inner, mut handle) = tower_test::mock::pair::<u32, u32>();
    handle.allow(0);
    let mut service = RateLimitLayer::per_second(1).layer(inner);
    assert!(futures::poll!(std::pin::pin!(service.ready())).is_ready());
}

// === static checks ===

/// As async-openai 0.43 bounds the services it takes.
#[derive(Clone)]
struct Factory(#[allow(dead_code, reason = "stands for a closure")] Arc<()>);
struct OpaqueResponse;
struct OpenAiLikeError(String);

impl From<BoxError> for OpenAiLikeError {
    fn from(error: BoxError) -> Self {
        Self(error.to_string())
    }
}

async fn with_http_service<S>(service: S) -> Result<OpaqueResponse, OpenAiLikeError>
where
    S: Service<Factory, Response = OpaqueResponse> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<OpenAiLikeError> + Send + Sync + 'static,
{
    service
        .clone()
        .oneshot(Factory(Arc::default()))
        .await
        .map_err(Into::into)
}

#[tokio::test(start_paused = true)]
async fn it_fits_the_service_slot_of_async_openai() {
    let layer = RateLimitLayer::per_second(1).max_waiting(0);
    let inner = service_fn(async |_: Factory| Ok::<_, Infallible>(OpaqueResponse));
    let service = ServiceBuilder::new().layer(layer).service(inner);
    assert!(with_http_service(service.clone()).await.is_ok());
    let Err(OpenAiLikeError(message)) = with_http_service(service).await else {
        panic!("the second call is over the limit");
    };
    assert_eq!(
        message,
        "rate limit refused: its limit is spent, admission in 1s"
    );
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
    let service = RateLimitLayer::per_second(1).layer(inner);
    let error = service.clone().oneshot(Request).await.err();
    assert!(error.expect("it fails").is::<Failure>());
}

#[test]
fn everything_is_send_and_sync_and_cloned_where_its_parts_are() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    struct NotClone;
    type Server = Scripted<fn(&NotClone) -> Reply<NotClone>>;
    type Limited = RateLimit<Server, Plain>;
    type Key = fn(&NotClone) -> u32;
    type Keyed = KeyedRateLimit<Server, u32, Key, Plain>;

    cloned::<RateLimitLayer>();
    cloned::<Limited>();
    cloned::<RateLimitHandle>();
    cloned::<KeyedRateLimitLayer<u32, Key>>();
    cloned::<Keyed>();
    cloned::<KeyedRateLimitHandle<u32>>();
    shared::<Permit>();
    shared::<<Limited as Service<NotClone>>::Future>();
    shared::<<Keyed as Service<NotClone>>::Future>();
}

#[tokio::test(start_paused = true)]
async fn a_closure_as_cost_keeps_the_service_clone_and_its_future_send() {
    let layer = RateLimitLayer::new(built(tokens(60, 10))).cost(|n: &u64| input(*n));
    let service = layer.layer(echo::<u64>());
    let task = tokio::spawn(service.clone().oneshot(4));
    assert_eq!(task.await.expect("no panic").expect("served"), 4);
    assert_eq!(service.handle().available(Unit::INPUT_TOKENS), Some(6));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_the_limits_and_where_a_call_stands() {
    let layer = RateLimitLayer::per_second(1).max_waiting(7);
    let service = layer.clone().protocol(Holding).layer(echo::<u32>());
    let (_, guard) = service.clone().oneshot(0).await.expect("served");
    for shown in [format!("{layer:?}"), format!("{service:?}")] {
        assert!(shown.contains("max_waiting: 7"), "{shown}");
    }
    let shown = format!("{:?}", service.handle());
    assert!(shown.contains("active: 1"), "{shown}");
    let shown = format!("{guard:?}");
    assert!(shown.contains("progress: Answered(Success)"), "{shown}");
    let queued = service.clone().call(1);
    assert_eq!(format!("{queued:?}"), "rate_limit::ResponseFuture(queued)");
}
