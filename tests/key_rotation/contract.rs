//! What the pool makes of the contract: `tests/contract` has what holds of every layer.

use futures::future::try_join_all;
use tower::{Layer, ServiceExt};
use tower_relay::policy::Unit;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_handles_of_two_services_are_their_layers() {
    let (server, log) = server(ok);
    let layer = layer(accounts(1, &per_second(50)));
    let services = [layer.layer(server.clone()), layer.clone().layer(server)];
    let calls = (0..4).map(|n| services[n % 2].clone().oneshot(Ask::default()));
    within(try_join_all(calls)).await.expect("answered");
    assert_eq!(log.whole(), [0, 20, 40, 60]);
    assert_eq!(layer.handle().snapshot().admitted(), 4);
    for service in services {
        assert_eq!(service.handle().snapshot().completed(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_no_key_no_scope_and_no_token() {
    let (server, _) = server(ok);
    let pool = layer(accounts(1, &per_second(1))).concurrency(Fixed::of(1));
    let service = pool.layer(server);
    let mut idle = service.clone();
    idle.ready().await.expect("ready");
    assert_idle(&pool.handle());
    assert_eq!(remaining(&pool.handle(), 0), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_which_layer_refused_why_and_for_how_long() {
    let (server, _) = server(ok);
    let service = layer(accounts(1, &per_second(1)))
        .max_waiting(0)
        .layer(server);
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    let error = within(once(&service, Ask::default()))
        .await
        .expect_err("it is over the quota");
    assert_eq!(
        error.to_string(),
        "key rotation refused: its limit is spent, admission in 1s"
    );
    assert_eq!(rejected(&error).retry_after(), Some(SECOND));
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
