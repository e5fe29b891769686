//! The limit follows what the server can take.

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    outcome::{Ending, Usage},
    policy::limit::{Reason, SizedVegas},
    protocol::Guard,
    testing::{Reply, Scripted},
};

use crate::support::*;

/// A server that answers every call with this status after a millisecond.
fn quickly(status: u16) -> Scripted<impl Fn(&u32) -> Reply<u16> + Clone> {
    Scripted::new(move |_: &u32| Reply::after(ms(1), status))
}

#[tokio::test(start_paused = true)]
async fn a_fast_429_or_500_never_raises_the_limit() {
    for code in [429, 500] {
        let layers = [
            AdaptiveConcurrencyLayer::new(aimd(1, 8, 1_000)),
            AdaptiveConcurrencyLayer::new(vegas(1, 8, 1_000)),
        ];
        for layer in layers {
            let told = Told::default();
            let layer = told.by(layer.classify(status));
            let service = layer.layer(quickly(code));
            load(&service, 40, ms(500)).await;
            assert_eq!(told.raises(), 0, "{code}: {:?}", told.changes());
            assert_eq!(layer.handle().limit(), 1, "{code}");
            assert_idle(&layer.handle());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fast_failures_are_no_baseline_for_the_calls_that_are_served() {
    let server = Scripted::new(|n: &u32| match n % 4 {
        0 => Reply::after(ms(1), 500),
        _ => Reply::after(ms(200), 200),
    });
    let layer = AdaptiveConcurrencyLayer::new(vegas(1, 8, 50)).classify(status);
    let service = layer.layer(server);
    let calls = (0..4_000).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("answers");
    // Judged by a millisecond, 200 would be a queue, and the limit would have fallen.
    assert_eq!(layer.handle().limit(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_parallel_refusals_is_one_cut() {
    let told = Told::default();
    let layer = told.by(AdaptiveConcurrencyLayer::new(aimd(1, 50, 100)).classify(status));
    // They come in one by one, over a while.
    let server = Scripted::new(|n: &u32| Reply::after(ms(80 + u64::from(*n)), 429));
    let service = layer.layer(server);
    let calls = (0..50).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("answers");
    let changes: Vec<_> = told.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].from(), changes[0].to()), (50, 45));
    assert_eq!(changes[0].reason(), Reason::Loss);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_server_that_takes_seconds_is_not_throttled() {
    let layer = AdaptiveConcurrencyLayer::new(SizedVegas::default());
    let service = layer.layer(slow(8_000));
    load(&service, 200, ms(400_000)).await;
    assert!(layer.handle().limit() >= 100, "{}", layer.handle().limit());
}

#[tokio::test(start_paused = true)]
async fn it_adapts_below_one_call_a_second() {
    let server = Server::refusing(4, 10_000);
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 12, 100)).classify(status);
    let service = layer.layer(server.clone());
    load(&service, 30, ms(600_000)).await;
    let limit = layer.handle().limit();
    assert!((3..=5).contains(&limit), "{limit}");
}

#[tokio::test(start_paused = true)]
async fn a_mix_that_shifts_to_longer_outputs_is_no_congestion() {
    let layer = AdaptiveConcurrencyLayer::new(vegas(1, 8, 60)).protocol(Holding);
    let service = layer.layer(slow(100));
    let until = Instant::now() + ms(60_000);
    let lowest = Mutex::new(usize::MAX);
    let callers = (0..100).map(|_| async {
        let began = until - ms(60_000);
        while Instant::now() < until {
            let (_, guard) = service.clone().oneshot(0).await.expect("served");
            let is_late = began.elapsed() > ms(20_000);
            sleep(ms(if is_late { 3_000 } else { 300 })).await;
            guard.finish(Ending::complete(Usage::UNKNOWN));
            if is_late {
                let mut lowest = lowest.lock().await;
                *lowest = service.handle().limit().min(*lowest);
            }
        }
    });
    futures::future::join_all(callers).await;
    assert_eq!(*lowest.lock().await, 60);
}

#[tokio::test(start_paused = true)]
async fn load_well_below_the_limit_never_raises_it() {
    let layers = [
        AdaptiveConcurrencyLayer::new(aimd(1, 20, 1_000)),
        AdaptiveConcurrencyLayer::new(vegas(1, 20, 1_000)),
    ];
    for layer in layers {
        let told = Told::default();
        let layer = told.by(layer);
        let service = layer.layer(slow(50));
        load(&service, 10, ms(60_000)).await;
        assert_eq!(told.raises(), 0, "{:?}", told.changes());
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_follows_the_capacity_of_a_server_that_refuses_down_and_up() {
    let server = Server::refusing(40, 100);
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 8, 1_000)).classify(status);
    let service = layer.layer(server.clone());
    let handle = layer.handle();
    let checks = async {
        // A hundred round trips each.
        sleep(ms(10_000)).await;
        assert!((34..=42).contains(&handle.limit()), "{}", handle.limit());
        server.set_room(10);
        sleep(ms(10_000)).await;
        assert!((8..=12).contains(&handle.limit()), "{}", handle.limit());
        server.set_room(40);
        sleep(ms(10_000)).await;
        assert!((30..=42).contains(&handle.limit()), "{}", handle.limit());
    };
    tokio::join!(load(&service, 100, ms(30_100)), checks);
    let (refused, served) = (&server.refused, &server.served);
    let share = refused.load(Ordering::Relaxed) * 100 / served.load(Ordering::Relaxed);
    assert!(share <= 2, "{share} % were refused");
}

#[tokio::test(start_paused = true)]
async fn the_limit_follows_the_capacity_of_a_server_that_queues_down_and_up() {
    let server = Server::queueing(40, 100);
    let layer = AdaptiveConcurrencyLayer::new(vegas(1, 8, 1_000)).classify(status);
    let service = layer.layer(server.clone());
    let handle = layer.handle();
    let checks = async {
        // Two hundred round trips each. The line wanted is 0.8 times the root.
        sleep(ms(20_000)).await;
        assert!((36..=70).contains(&handle.limit()), "{}", handle.limit());
        server.remove(30);
        sleep(ms(20_000)).await;
        assert!((8..=20).contains(&handle.limit()), "{}", handle.limit());
        server.add(30);
        sleep(ms(20_000)).await;
        assert!((30..=70).contains(&handle.limit()), "{}", handle.limit());
    };
    tokio::join!(load(&service, 200, ms(60_100)), checks);
}

#[tokio::test(start_paused = true)]
async fn shrinking_works_while_callers_queue() {
    let server = Scripted::new(|n: &u32| match n {
        0..20 => Reply::after(ms(100), 429),
        _ => Reply::after(ms(100), 200),
    });
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 20, 20)).classify(status);
    let service = layer.layer(server.clone());
    let calls: Vec<_> = (0..60)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    sleep(ms(150)).await;
    assert_eq!(layer.handle().limit(), 18);
    assert_eq!(server.in_flight(), 18);
    assert_eq!(layer.handle().snapshot().waiting(), 22);
    for call in calls {
        call.await.expect("no panic").expect("an answer");
    }
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_raise_lets_all_in_whom_it_has_room_for() {
    let server = Arc::new(Server::queueing(1_000, 100));
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 1, 10));
    let service = layer.layer((*server).clone());
    let calls: Vec<_> = (0..7)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    // Slow start: one more for each that succeeds, so 1, 2 and 4 at once.
    sleep(ms(350)).await;
    assert_eq!(server.served.load(Ordering::Relaxed), 7);
    assert_eq!(server.peak.load(Ordering::Relaxed), 4);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}
