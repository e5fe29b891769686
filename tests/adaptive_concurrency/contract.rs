//! What the learned limit makes of the contract: `tests/contract` has what holds of every layer.

use futures::future::try_join_all;
use tower::{Layer, Service, ServiceExt};
use tower_relay::adaptive_concurrency::AdaptiveConcurrencyLayer;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_handles_of_two_services_are_their_layers() {
    let layer = AdaptiveConcurrencyLayer::new(fixed(2));
    let server = slow(100);
    let services = [
        layer.layer(server.clone()),
        layer.clone().layer(server.clone()),
    ];
    try_join_all((0..4).map(|n| services[n % 2].clone().oneshot(0)))
        .await
        .expect("served");
    assert_eq!(wholes(&server.sent_after()), [0, 0, 100, 100]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    services[1].handle().set_algorithm(fixed(9));
    assert_eq!(services[0].handle().limit(), 9);
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
