//! A caller that goes away, at any point, leaves the places right and says nothing.

use futures::poll;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    policy::limit::When,
    testing::{Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_frees_its_place_and_counts_as_nothing() {
    for when in [When::FirstByte, When::End] {
        let recorder = Recorder::new(1, when);
        let server = Scripted::new(|_: &u32| Reply::<u32>::never());
        let service = AdaptiveConcurrencyLayer::new(recorder.clone()).layer(server.clone());
        let mut call = Box::pin(service.clone().call(1));
        assert!(poll!(call.as_mut()).is_pending());
        let mut waits = Box::pin(service.clone().call(2));
        assert!(poll!(waits.as_mut()).is_pending());
        advance(ms(100)).await;
        drop(call);
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!(server.sent_after().len(), 2, "the next is sent");
        drop(waits);
        assert!(recorder.heard().is_empty());
        assert_idle(&service.handle());
        let snapshot = service.handle().snapshot();
        assert_eq!((snapshot.cancelled(), snapshot.completed()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_takes_nothing_and_the_next_is_served() {
    for leaver in 0..3 {
        let server = slow(100);
        let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(server.clone());
        let mut calls: Vec<_> = (0..4)
            .map(|n| tokio::spawn(service.clone().call(n)))
            .collect();
        sleep(ms(50)).await;
        calls.remove(1 + leaver).abort();
        for call in calls {
            call.await.expect("no panic").expect("served");
        }
        assert_eq!(wholes(&server.sent_after()), [0, 100, 200]);
        assert_idle(&service.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_dropped_unseen_goes_to_the_next() {
    let server = slow(100);
    let service = AdaptiveConcurrencyLayer::new(fixed(1)).layer(server.clone());
    let mut holds = Box::pin(service.clone().call(0));
    let mut first = Box::pin(service.clone().call(1));
    let mut second = Box::pin(service.clone().call(2));
    for call in [&mut holds, &mut first, &mut second] {
        assert!(poll!(call.as_mut()).is_pending());
    }
    drop(holds);
    assert_eq!(service.handle().snapshot().active(), 1, "granted unseen");
    drop(first);
    second.await.expect("served");
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn an_admitted_call_whose_server_is_not_ready_gives_its_place_back_unheard() {
    let recorder = Recorder::new(1, When::FirstByte);
    let (inner, mut server) = tower_test::mock::pair::<u32, u32>();
    server.allow(0);
    let service = AdaptiveConcurrencyLayer::new(recorder.clone()).layer(inner);
    let mut call = Box::pin(service.clone().call(1));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(service.handle().snapshot().active(), 1);
    drop(call);
    assert_idle(&service.handle());
    server.send_error("gone");
    let error = service.clone().oneshot(1).await.expect_err("gone");
    assert_eq!(error.to_string(), "gone");
    assert_idle(&service.handle());
    assert!(recorder.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_gives_the_place_back_and_says_nothing() {
    for is_in_call in [false, true] {
        let recorder = Recorder::new(1, When::FirstByte);
        let server = Scripted::new(move |_: &u32| match is_in_call {
            true => panic!("in call"),
            false => Reply::<u32>::panic(),
        });
        let service = AdaptiveConcurrencyLayer::new(recorder.clone()).layer(server);
        for n in 0..3 {
            let call = tokio::spawn(service.clone().oneshot(n));
            assert!(call.await.expect_err("it panics").is_panic());
        }
        assert_idle(&service.handle());
        assert!(recorder.heard().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_loses_neither_place_nor_process() {
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 10, 20))
        .classify(status)
        .on_change(|_| panic!("the callback is broken"));
    let service = layer.layer(Server::refusing(0, 1));
    let calls: Vec<_> = (0..10)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    let mut panics = 0;
    for call in calls {
        panics += usize::from(call.await.is_err());
    }
    assert_eq!(panics, 1, "the one whose answer changed the limit");
    assert_idle(&layer.handle());
    assert_eq!(layer.handle().limit(), 9);
}
