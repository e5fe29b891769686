//! Classes of callers that share a pool.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::{KeyPool, KeyPoolBuilder, KeyRotationHandle, KeyRotationLayer, Scope, Source},
    policy::{Cost, Quota, Shares},
    testing::{Reply, Scripted},
};

use crate::support::*;

/// Class, model, tokens.
type Question = (&'static str, &'static str, u64);

fn shares() -> Shares {
    let built = Shares::builder()
        .class("hurry", 20)
        .class("batch", 80)
        .build();
    built.expect("valid")
}

/// Scopes of 600 tokens a minute each, or without a quota.
fn pool(scopes: u64, quota: bool) -> KeyPoolBuilder {
    (0..scopes).fold(KeyPool::builder(), |pool, n| {
        let scope =
            Scope::new(format!("s{n}")).key(format!("k{n}"), Source::value(format!("hush-{n}")));
        pool.scope(match quota {
            true => scope.quota(tokens(600)),
            false => scope,
        })
    })
}

fn tokens(per_minute: u64) -> Quota {
    let quota = Quota::builder().tokens_per_minute(per_minute).build();
    quota.expect("valid")
}

fn class(question: &Question) -> Option<&str> {
    Some(question.0)
}

fn serve(
    layer: KeyRotationLayer,
) -> (
    impl Service<Question, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
    KeyRotationHandle,
) {
    let handle = layer.handle();
    let server = Scripted::new(|_: &Question| Reply::now(()));
    let layer = layer
        .cost(|question: &Question| Cost::REQUEST.input_tokens(question.2))
        .model(|question: &Question| Some(question.1))
        .class(class);
    (layer.layer(server), handle)
}

fn counts(handle: &KeyRotationHandle) -> Vec<(usize, u64)> {
    let shares = handle.shares();
    shares
        .iter()
        .map(|share| (share.waiting(), share.admitted()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn classes_share_scopes_by_weight_and_so_they_do_the_quota_of_the_whole() {
    let layers = [
        KeyRotationLayer::new(pool(4, true).build().expect("valid")),
        KeyRotationLayer::new(pool(4, false).build().expect("valid")).rate_limit(tokens(2_400)),
    ];
    for layer in layers {
        let (service, handle) = serve(layer.shares(shares()));
        let calls = (0..2_000).map(|n| (["hurry", "batch"][n % 2], "large", 10));
        let calls: Vec<_> = calls
            .map(|ask| tokio::spawn(service.clone().oneshot(ask)))
            .collect();
        sleep(100 * SECOND).await;
        let [_, (_, hurry), (_, batch)] = counts(&handle)[..] else {
            unreachable!("two classes and the others")
        };
        let all = hurry + batch;
        assert!((400..=408).contains(&all), "40 a second: {all}");
        assert!(hurry.abs_diff(all / 5) <= 4, "{hurry} of {all}");
        calls.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_for_one_model_holds_up_nobody_who_asks_another() {
    let scope = Scope::new("s0")
        .quota_for(["small"], tokens(600))
        .quota_for(["large"], tokens(600))
        .key("k0", Source::value("hush-0"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let (service, _) = serve(KeyRotationLayer::new(pool).shares(shares()));
    let calls = (0..500).map(|_| tokio::spawn(service.clone().oneshot(("hurry", "large", 10))));
    let calls: Vec<_> = calls.collect();
    sleep(SECOND).await;
    let start = Instant::now();
    service
        .clone()
        .oneshot(("hurry", "small", 10))
        .await
        .expect("served");
    assert_eq!(start.elapsed(), Duration::ZERO);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_foretold_by_the_share_of_the_class() {
    let layer = KeyRotationLayer::new(pool(2, true).build().expect("valid"));
    let layer = layer.shares(shares()).max_wait(10 * SECOND);
    let (service, handle) = serve(layer);
    let calls = (0..600).map(|n| {
        let mut service = service.clone();
        let future = service.call((["batch", "hurry"][n / 500], "large", 10));
        tokio::spawn(future)
    });
    let calls: Vec<_> = calls.collect();
    // Twenty tokens a second: of the first, what is served in ten seconds; of the others, what is
    // left to them of that.
    let [_, (hurry, _), (batch, _)] = counts(&handle)[..] else {
        unreachable!("two classes and the others")
    };
    assert!((20..=24).contains(&batch), "{batch}");
    assert!((4..=8).contains(&hurry), "{hurry}");
    let refused = calls
        .into_iter()
        .last()
        .expect("many")
        .await
        .expect("no panic");
    let error = refused.expect_err("too many are before it");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::TooLate(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn places_in_flight_are_shared_by_calls() {
    let layer = KeyRotationLayer::new(pool(2, false).build().expect("valid"));
    let layer = layer.concurrency(Fixed::of(2)).shares(shares());
    let handle = layer.handle();
    let server = Scripted::new(|_: &Question| Reply::after(SECOND, ()));
    let service = layer.class(class).layer(server);
    let calls = (0..400).map(|n| (["hurry", "batch"][n % 2], "large", 10));
    let calls: Vec<_> = calls
        .map(|ask| tokio::spawn(service.clone().oneshot(ask)))
        .collect();
    sleep(Duration::from_millis(49_500)).await;
    let [_, (_, hurry), (_, batch)] = counts(&handle)[..] else {
        unreachable!("two classes and the others")
    };
    assert_eq!(hurry + batch, 100);
    assert!(hurry.abs_diff(20) <= 2, "{hurry}");
    handle.remove_shares();
    assert_eq!(handle.shares().len(), 0);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}
