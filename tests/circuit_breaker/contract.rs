//! What Tower asks of a service, and what its combinators do with ours.

use std::{convert::Infallible, pin::pin, sync::Arc};

use futures::poll;
use tokio::sync::Semaphore;
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
    circuit_breaker::{
        CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, Gate, GateLayer,
        KeyedCircuitBreaker, KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer, Permit,
    },
    error::BoxError,
    policy::breaker::{Mode, Refused, State},
    protocol::Plain,
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_ready_without_asking_the_inner_service() {
    let (inner, mut mock) = tower_test::mock::pair::<Ask, tower_relay::outcome::Outcome>();
    mock.allow(0);
    let layer = layer(plain());
    let handle = layer.handle();
    let mut service = layer.layer(inner.clone());
    assert!(poll!(pin!(service.ready())).is_pending(), "closed, it asks");
    handle.set_mode(Mode::ForcedOpen);
    assert!(poll!(pin!(service.ready())).is_ready());
    let (why, wait) = refusal(service.call(Ask::Good).await);
    assert_eq!((why, wait), (Refused::Forced, None));

    let mut gate = layer.gate().layer(inner);
    assert!(poll!(pin!(gate.ready())).is_ready());
    assert_eq!(refusal(gate.call(Ask::Good).await).0, Refused::Forced);
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_because_it_was_open_is_refused_though_it_has_closed() {
    let (mut service, server, handle) = watched(plain());
    open(&service, &handle).await;
    service.ready().await.expect("ready");
    handle.reset();
    let (_, wait) = refusal(service.call(Ask::Good).await);
    assert!(wait.is_some(), "it may ask again");
    assert_eq!(server.sent_after().len(), 5);
    // Only that one.
    let answer = service.ready().await.expect("ready").call(Ask::Good).await;
    assert!(answer.expect("served").is_success());
}

#[tokio::test(start_paused = true)]
async fn a_clone_forgets_that_nobody_asked() {
    let layer = layer(plain());
    let (mut service, handle) = (layer.layer(server()), layer.handle());
    handle.set_mode(Mode::ForcedOpen);
    service.ready().await.expect("ready");
    // Called without being asked, which this server bears, to see what is remembered.
    let mut clone = service.clone();
    handle.set_mode(Mode::ForcedClosed);
    assert!(clone.call(Ask::Good).await.expect("served").is_success());
    assert!(service.call(Ask::Good).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn asking_again_after_it_has_closed_asks_the_inner_service() {
    let (mut service, _, handle) = watched(plain());
    open(&service, &handle).await;
    service.ready().await.expect("ready");
    handle.reset();
    service.ready().await.expect("ready");
    assert!(service.call(Ask::Good).await.expect("served").is_success());
}

#[tokio::test(start_paused = true)]
async fn readiness_from_before_it_opened_does_not_let_a_call_pass() {
    let (mut service, server, handle) = watched(plain());
    service.ready().await.expect("ready");
    open(&service, &handle).await;
    assert_eq!(
        refusal(service.call(Ask::Good).await),
        (Refused::Open, Some(5_000))
    );
    assert_eq!(server.sent_after().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn every_inner_call_follows_readiness_of_that_instance_in_every_state() {
    let (mut service, server, handle) = watched(plain().open(ms(1_000), ms(1_000)));
    let gate = CircuitBreakerLayer::default().gate();
    for n in 0..200_u64 {
        let ask = if n % 40 < 8 { Ask::Break } else { Ask::Good };
        // One instance again and again, and fresh clones between.
        if n % 3 == 0 {
            drop(service.clone().oneshot(ask).await);
        } else {
            drop(service.ready().await.expect("ready").call(ask).await);
        }
        if ask == Ask::Good {
            drop(gate.layer(service.clone()).oneshot(ask).await);
        }
        tokio::time::sleep(ms(500)).await;
    }
    assert!(handle.refused() >= 10, "{}", handle.refused());
    assert!(server.sent_after().len() > 100);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_hands_on_only_errors_of_the_inner_service() {
    let (inner, mock) = tower_test::mock::pair::<Ask, tower_relay::outcome::Outcome>();
    let layer = layer(plain());
    let mut service = layer.layer(inner);
    drop(mock);
    let Err(closed) = service.ready().await else {
        panic!("the mock is gone");
    };
    assert!(closed.is::<tower_test::mock::error::Closed>(), "{closed}");
    layer.handle().set_mode(Mode::ForcedOpen);
    assert!(service.ready().await.is_ok(), "open, it does not ask");
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_no_probe() {
    let (service, _, handle) = watched(plain());
    open_and_wait(&service, &handle).await;
    let mut idle = service.clone();
    idle.ready().await.expect("ready");
    assert_eq!(handle.snapshot().probes(), 0);
    assert!(
        service
            .oneshot(Ask::Good)
            .await
            .expect("served")
            .is_success()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_takes_no_permit_of_an_inner_layer() {
    let permits = Arc::new(Semaphore::new(1));
    let inner = ConcurrencyLimit::with_semaphore(server(), Arc::clone(&permits));
    let layer = layer(plain());
    let mut service = layer.layer(inner);
    layer.handle().set_mode(Mode::ForcedOpen);
    service.ready().await.expect("ready");
    drop(service.call(Ask::Good));
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_breaker() {
    let (layer, server) = (layer(plain()), server());
    let first = layer.layer(server.clone());
    let second = layer.clone().layer(server.clone());
    for service in [&first, &second, &first, &second, &first] {
        drop(service.clone().oneshot(Ask::Break).await);
    }
    for service in [&first, &second] {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::Open
        );
        assert_eq!(service.handle().refused(), layer.handle().refused());
    }
    assert_eq!(second.handle().refused(), 2);
    assert_eq!(server.sent_after().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn load_shed_lets_the_breaker_say_it_itself() {
    let (service, _, handle) = watched(plain());
    let service = LoadShed::new(service);
    open(&service, &handle).await;
    assert_eq!(
        refusal(service.oneshot(Ask::Good).await),
        (Refused::Open, Some(5_000))
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_kills_no_buffer() {
    let (service, _, handle) = watched(plain());
    let service = Buffer::new(service, 8);
    open(&service, &handle).await;
    assert_eq!(
        refusal(service.clone().oneshot(Ask::Good).await).0,
        Refused::Open
    );
    tokio::time::sleep(ms(5_000)).await;
    assert!(
        service
            .oneshot(Ask::Good)
            .await
            .expect("served")
            .is_success()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_evicts_no_endpoint_of_a_balancer() {
    let layers = [layer(plain()), layer(plain())];
    let endpoints: Vec<_> = layers
        .iter()
        .map(|layer| Constant::new(layer.layer(ReadinessProbe::new(server())), 1))
        .collect();
    layers[0].handle().set_mode(Mode::ForcedOpen);
    let mut balance = Balance::new(ServiceList::new::<Ask>(endpoints));
    let mut refused = 0;
    for _ in 0..40 {
        let ready = balance.ready().await.expect("ready");
        refused += u64::from(ready.call(Ask::Good).await.is_err());
    }
    assert_eq!(balance.len(), 2);
    assert!(refused > 0);
    assert_eq!(layers[0].handle().refused(), refused);
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed() {
    let (service, ..) = watched(plain());
    let boxed = BoxService::new(service.clone());
    let cloned = BoxCloneService::new(service.clone());
    let shared = BoxCloneSyncService::new(service);
    assert!(boxed.oneshot(Ask::Good).await.expect("served").is_success());
    assert!(
        cloned
            .oneshot(Ask::Good)
            .await
            .expect("served")
            .is_success()
    );
    assert!(
        shared
            .oneshot(Ask::Good)
            .await
            .expect("served")
            .is_success()
    );
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
    let layer = CircuitBreakerLayer::default();
    let handle = layer.handle();
    let inner = service_fn(async |_: Factory| Ok::<_, Infallible>(OpaqueResponse));
    let service = ServiceBuilder::new()
        .layer(layer.gate())
        .layer(layer)
        .service(inner);
    assert!(with_http_service(service.clone()).await.is_ok());
    handle.set_mode(Mode::ForcedOpen);
    let Err(OpenAiLikeError(message)) = with_http_service(service).await else {
        panic!("it is open");
    };
    assert_eq!(message, "circuit breaker refused: it was forced open");
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
    let service = CircuitBreakerLayer::default().layer(inner);
    let error = service.clone().oneshot(Request).await.err();
    assert!(error.expect("it fails").is::<Failure>());
}

#[test]
fn everything_is_send_and_sync_and_cloned_where_its_parts_are() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    struct NotClone;
    type Server = Scripted<fn(&NotClone) -> Reply<NotClone>>;
    type Watched = CircuitBreaker<Server, Plain>;
    type Key = fn(&NotClone) -> u32;
    type Keyed = KeyedCircuitBreaker<Server, u32, Key, Plain>;

    cloned::<CircuitBreakerLayer>();
    cloned::<Watched>();
    cloned::<CircuitBreakerHandle>();
    cloned::<GateLayer>();
    cloned::<Gate<Server>>();
    cloned::<KeyedCircuitBreakerLayer<u32, Key>>();
    cloned::<Keyed>();
    cloned::<KeyedCircuitBreakerHandle<u32>>();
    shared::<Permit>();
    shared::<<Watched as Service<NotClone>>::Future>();
    shared::<<Gate<Server> as Service<NotClone>>::Future>();
    shared::<<Keyed as Service<NotClone>>::Future>();
}

#[tokio::test(start_paused = true)]
async fn debug_shows_where_it_stands_and_no_request() {
    let layer = CircuitBreakerLayer::default();
    let inner = Scripted::new(|_: &String| Reply::now(String::from("hush")));
    let service = layer.layer(inner.clone());
    let keyed = KeyedCircuitBreakerLayer::new(
        tower_relay::policy::breaker::BreakerConfig::default(),
        |ask: &String| ask.clone(),
    );
    let keyed_service = keyed.layer(inner);
    drop(keyed_service.clone().oneshot("hush".into()).await);
    let called = service.clone().call("hush".into());
    let by_key = keyed_service.clone().call("hush".into());
    let shown = format!(
        "{called:?} {by_key:?} {keyed:?} {keyed_service:?} {:?}",
        keyed.handle()
    );
    assert!(
        shown.starts_with("circuit_breaker::ResponseFuture(called)"),
        "{shown}"
    );
    assert!(!shown.contains("hush"), "{shown}");
    layer.handle().set_mode(Mode::ForcedOpen);
    assert_eq!(layer.handle().snapshot().state(), State::Open);
    let refused = service.clone().call("hush".into());
    assert_eq!(
        format!("{refused:?}"),
        "circuit_breaker::ResponseFuture(refused)"
    );
    for shown in [
        format!("{layer:?}"),
        format!("{service:?}"),
        format!("{:?}", layer.handle()),
        format!("{:?}", layer.gate()),
    ] {
        assert!(shown.contains("state: Open, mode: ForcedOpen"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
