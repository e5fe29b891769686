//! Sessions in the layer: who stays, who waits, and what affinity never costs.

use tower::Layer;
use tower_relay::{
    key_rotation::{KeyPool, KeyPoolBuilder},
    policy::pool::{Affinity, Strategy},
};

use crate::support::*;

/// Scopes of so many calls a second, paced.
fn sticky(scopes: u8, rate: u64) -> KeyPoolBuilder {
    let names = (b'a'..b'a' + scopes).map(|name| char::from(name).to_string());
    let scopes = names.map(|name| scope(&name, &[&format!("{name}1")]).quota(per_second(rate)));
    scopes
        .fold(KeyPool::builder(), KeyPoolBuilder::scope)
        .affinity(Affinity::new())
}

fn built_pool(builder: KeyPoolBuilder) -> KeyPool {
    builder.build().expect("it is valid")
}

/// The session is the thousand that a call's number is of.
fn session(ask: &Ask) -> Option<u64> {
    (ask.id >= 1_000).then_some(ask.id / 1_000)
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_session_wait_for_their_key_though_another_is_free() {
    let layer = layer(built_pool(sticky(2, 10))).affinity(session);
    let (server, log) = server(ok);
    let service = layer.layer(server);
    for n in 0..6 {
        within(once(&service, Ask::numbered(7_000 + n)))
            .await
            .expect("it is served");
    }
    let keys = log.keys();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(log.whole(), [0, 100, 200, 300, 400, 500]);
    // Calls of no session take what is free.
    within(once(&service, Ask::numbered(1)))
        .await
        .expect("it is served");
    assert_eq!(log.whole()[6], 500);
    assert_ne!(log.keys()[6], keys[0]);
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_one_session_leaves_no_scope_idle() {
    let layer = layer(built_pool(sticky(2, 10))).affinity(session);
    let (server, log) = server(ok);
    let service = layer.layer(server);
    let calls = (0..100).map(|n| within(once(&service, Ask::numbered(7_000 + n))));
    for result in futures::future::join_all(calls).await {
        result.expect("it is served");
    }
    // Two scopes of ten a second: 5 s, and the second of patience at the end.
    assert!(log.whole()[99] <= 5_600, "{}", log.whole()[99]);
    let [one, other] = ["a1", "b1"].map(|alias| log.calls_with(alias));
    assert!(one.min(other) >= 44, "{one} and {other}");
    let mut seen = log.seen();
    seen.sort_by_key(|(_, ask)| ask.id);
    let is_in_order = seen.windows(2).all(|pair| pair[0].0 <= pair[1].0);
    assert!(is_in_order, "first come first served: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn affinity_refuses_nobody_who_could_be_served_elsewhere() {
    let full = layer(built_pool(sticky(2, 1)))
        .max_waiting(0)
        .affinity(session);
    let brief = layer(built_pool(sticky(2, 1)))
        .max_wait(100 * MS)
        .affinity(session);
    let plain = layer(built_pool(sticky(2, 1))).affinity(session);
    for layer in [full, brief, plain] {
        let (server, log) = server(ok);
        let service = layer.layer(server);
        for n in 0..2 {
            let ask = Ask::numbered(7_000 + n).within(200 * MS);
            within(once(&service, ask))
                .await
                .expect("the other key is free");
        }
        assert_eq!(log.whole(), [0, 0]);
        assert_idle(&layer.handle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_or_whose_scope_is_removed_blocks_nobody() {
    let layer = layer(built_pool(sticky(2, 1))).affinity(session);
    let (server, log) = server(ok);
    let service = layer.layer(server);
    within(once(&service, Ask::numbered(7_000)))
        .await
        .expect("it is served");
    let home = log.keys()[0].clone();
    let spawn = |n| {
        let service = service.clone();
        tokio::spawn(async move { once(&service, Ask::numbered(n)).await.map(drop) })
    };
    let gone = spawn(7_001);
    let stays = spawn(7_002);
    settle().await;
    assert_eq!(log.calls(), 1, "both wait");
    gone.abort();
    settle().await;
    let start = log.began().elapsed();
    layer.handle().disable(&home).expect("it is there");
    within(stays)
        .await
        .expect("no panic")
        .expect("the other scope serves it");
    assert_eq!((log.calls(), log.began().elapsed()), (2, start));
    assert_ne!(log.keys()[1], home);
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn affinity_stands_beside_every_strategy_and_a_reload_changes_it() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LeastInFlight,
    ] {
        let layer = layer(built_pool(sticky(4, 1_000).strategy(strategy))).affinity(session);
        let (server, log) = server(ok);
        let service = layer.layer(server);
        for n in 0..40 {
            within(once(&service, Ask::numbered(1_000 * (n % 4 + 1))))
                .await
                .expect("served");
            tokio::time::advance(MS).await;
        }
        let keys = log.keys();
        assert!((4..40).all(|n| keys[n] == keys[n - 4]), "{keys:?}");
        let _changes = layer.handle().reload(accounts(4, &plenty()));
        for n in 0..8 {
            within(once(&service, Ask::numbered(1_000 + n)))
                .await
                .expect("served");
        }
        let after: std::collections::BTreeSet<_> = log.keys().split_off(40).into_iter().collect();
        assert!(after.len() > 1, "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_picked_up_goes_back_and_the_session_with_it() {
    let layer = layer(built_pool(sticky(2, 10))).affinity(session);
    let (server, log) = server(ok);
    let service = layer.layer(server);
    within(once(&service, Ask::numbered(7_000)))
        .await
        .expect("it is served");
    let mut late = Box::pin(once(&service, Ask::numbered(7_001)));
    let mut next = Box::pin(once(&service, Ask::numbered(7_002)));
    assert!(futures::poll!(&mut late).is_pending());
    assert!(futures::poll!(&mut next).is_pending());
    tokio::time::advance(100 * MS).await;
    assert!(
        futures::poll!(&mut next).is_pending(),
        "the one before it is served"
    );
    tokio::time::advance(100 * MS).await;
    // Neither picked its grant up in time; nothing of it is lost.
    let (late, next) = within(async { futures::join!(late, next) }).await;
    late.and(next).expect("both are served");
    let keys = log.keys();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_idle(&layer.handle());
}
