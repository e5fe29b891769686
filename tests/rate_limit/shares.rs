//! Classes of callers that share a limit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, poll};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    policy::Shares,
    rate_limit::{RateLimitHandle, RateLimitLayer},
    testing::{Reply, Scripted},
};

use crate::support::*;

/// A class and a cost.
type Ask = (&'static str, u64);

fn class(ask: &Ask) -> Option<&str> {
    Some(ask.0).filter(|name| !name.is_empty())
}

fn shares(a: u32, b: u32) -> Shares {
    let built = Shares::builder().class("a", a).class("b", b).build();
    built.expect("valid")
}

/// One token per second, one call's worth saved up, and what was served in which order.
struct World {
    service: Box<dyn Fn(Ask) -> futures::future::BoxFuture<'static, Result<(), BoxError>>>,
    handle: RateLimitHandle,
    order: Arc<Mutex<Vec<Ask>>>,
}

impl World {
    fn new(shares: Option<Shares>, max_waiting: usize) -> Self {
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        let server = Scripted::new(move |ask: &Ask| {
            seen.lock().expect("no panic").push(*ask);
            Reply::now(())
        });
        let layer = RateLimitLayer::new(built(tokens(60, 10))).max_waiting(max_waiting);
        let layer = match shares {
            Some(shares) => layer.shares(shares),
            None => layer,
        };
        let layer = layer.cost(|ask: &Ask| input(ask.1)).class(class);
        let handle = layer.handle();
        let service = layer.layer(server);
        Self {
            service: Box::new(move |ask| service.clone().call(ask).boxed()),
            handle,
            order,
        }
    }

    /// One whose tokens are spent.
    async fn spent(shares: Option<Shares>, max_waiting: usize) -> Self {
        let world = Self::new(shares, max_waiting);
        world.call(("", 10)).await.expect("served");
        world.order.lock().expect("no panic").clear();
        world
    }

    fn call(&self, ask: Ask) -> futures::future::BoxFuture<'static, Result<(), BoxError>> {
        (self.service)(ask)
    }

    fn classes(&self) -> Vec<&'static str> {
        let order = self.order.lock().expect("no panic");
        order.iter().map(|(class, _)| *class).collect()
    }

    fn counts(&self, name: &str) -> (usize, u64, u64) {
        let shares = self.handle.shares();
        let share = shares
            .iter()
            .find(|share| share.name().unwrap_or("") == name);
        let share = share.expect("it has a share");
        (share.waiting(), share.admitted(), share.refused())
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_served_in_proportion_to_the_weights() {
    let world = World::spent(Some(shares(3, 1)), 1_000).await;
    let calls = (0..60).flat_map(|_| [world.call(("b", 2)), world.call(("a", 1))]);
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    sleep(Duration::from_millis(80_100)).await;
    let order = world.order.lock().expect("no panic").clone();
    let of = |class| -> u64 {
        let calls = order.iter().filter(|(name, _)| *name == class);
        calls.map(|(_, tokens)| tokens).sum()
    };
    assert_eq!((of("a"), of("b")), (60, 20));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_are_not_held_up_by_a_backlog_of_another_class() {
    let world = World::spent(Some(shares(1, 1)), 10_000).await;
    let batch: Vec<_> = (0..5_000)
        .map(|_| tokio::spawn(world.call(("b", 10))))
        .collect();
    settle().await;
    let start = Instant::now();
    world.call(("a", 1)).await.expect("served");
    assert!(
        since(start) <= 11_000,
        "behind one call of the other class at the most"
    );
    assert_eq!(world.counts("b").0, 5_000 - world.classes().len() + 1);
    batch.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_large_call_in_its_turn_is_waited_for() {
    let world = World::spent(Some(shares(1, 1)), 100).await;
    let large = tokio::spawn(world.call(("b", 10)));
    settle().await;
    let small: Vec<_> = (0..30)
        .map(|_| tokio::spawn(world.call(("a", 1))))
        .collect();
    large.await.expect("no panic").expect("served");
    // It came first, and the other class had its turn when it began to wait.
    assert_eq!(world.classes(), ["b"]);
    for call in small {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_class_leaves_everything_to_the_others() {
    let world = World::spent(Some(shares(1, 1_000)), 100).await;
    let start = Instant::now();
    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(world.call(("a", 1))))
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(since(start), 20_000);
}

#[tokio::test(start_paused = true)]
async fn within_a_class_the_order_is_that_of_arrival() {
    let world = World::spent(Some(shares(2, 1)), 1_000).await;
    let calls: Vec<_> = (1..=9)
        .flat_map(|n| {
            [
                world.call(("b", n)),
                world.call(("a", n)),
                world.call(("", n)),
            ]
        })
        .map(tokio::spawn)
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    let order = world.order.lock().expect("no panic").clone();
    for class in ["a", "b", ""] {
        let sizes: Vec<_> = order
            .iter()
            .filter(|ask| ask.0 == class)
            .map(|ask| ask.1)
            .collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_foretold_by_the_share_of_the_class() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let server = Scripted::new(move |ask: &Ask| {
        seen.lock().expect("no panic").push(*ask);
        Reply::now(())
    });
    let hurry =
        |ask: &Ask| Some(Instant::now() + Duration::from_secs(ask.1 * 10)).filter(|_| ask.0 == "a");
    let layer = RateLimitLayer::new(built(tokens(60, 10))).shares(shares(1, 4));
    let layer = layer
        .cost(|ask: &Ask| input(ask.1))
        .class(class)
        .deadline(hurry);
    let service = layer.layer(server);
    service.clone().oneshot(("", 10)).await.expect("served");
    let batch: Vec<_> = (0..500)
        .map(|_| tokio::spawn(service.clone().oneshot(("b", 1))))
        .collect();
    settle().await;
    // In the order of arrival it would be served after 500 s, and is refused at once.
    let calls: Vec<_> = (0..3)
        .map(|_| tokio::spawn(service.clone().oneshot(("a", 1))))
        .collect();
    settle().await;
    assert!(
        calls[..2].iter().all(|call| !call.is_finished()),
        "5 s, 10 s: in time"
    );
    // The third has two of its class and eight of the other before it.
    let [_, _, third] = &mut { calls }[..] else {
        unreachable!("three")
    };
    let refused = third
        .now_or_never()
        .expect("refused at once")
        .expect("no panic");
    let error = refused.expect_err("too late");
    let Rejected::TooLate(late) = rejected(&error) else {
        panic!("{error}");
    };
    let wait = late.retry_after().as_secs();
    assert!((10..=15).contains(&wait), "{wait} s are foretold, of 15");
    batch.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_one_class_leaves_the_others_their_places() {
    let world = World::spent(Some(shares(1, 4)), 10).await;
    let mut batch: Vec<_> = (0..11).map(|_| world.call(("b", 1))).collect();
    let full = batch.pop().expect("eleven").await.expect_err("ten wait");
    assert!(matches!(rejected(&full), Rejected::QueueFull(full) if full.waiting() == 10));
    // A sixth of ten places, rounded up.
    let kept: Vec<_> = (0..2).map(|_| world.call(("a", 1))).collect();
    assert_eq!(world.counts("a"), (2, 0, 0));
    let full = world.call(("a", 1)).await.expect_err("it has its share");
    assert!(matches!(rejected(&full), Rejected::QueueFull(full) if full.waiting() == 12));
    assert_eq!(world.counts("a"), (2, 0, 1));
    assert_eq!(world.counts("b"), (10, 0, 1));
    assert_eq!(world.handle.snapshot().refused(), 2);
    drop((batch, kept));
    assert_eq!([world.counts("a").0, world.counts("b").0], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_where_nobody_may() {
    let world = World::spent(Some(shares(1, 1)), 0).await;
    world.call(("a", 1)).await.expect_err("there is no place");
    assert_eq!(world.counts("a"), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn shares_can_be_changed_while_calls_wait() {
    let world = World::spent(None, 100).await;
    assert_eq!(world.handle.shares().len(), 0);
    let early: Vec<_> = (0..2).map(|_| tokio::spawn(world.call(("b", 1)))).collect();
    settle().await;
    world.handle.set_shares(&shares(1, 1));
    // They came while there were none.
    assert_eq!(world.counts("").0, 2);
    let calls = ["b", "b", "b", "a", "a", "a"].map(|class| tokio::spawn(world.call((class, 1))));
    settle().await;
    assert_eq!([world.counts("a").0, world.counts("b").0], [3, 3]);
    // Every class keeps its calls and their order.
    world.handle.set_shares(&shares(1, 2));
    assert_eq!([world.counts("a").0, world.counts("b").0], [3, 3]);
    advance(Duration::from_millis(4_100)).await;
    settle().await;
    assert_eq!(world.classes(), ["b", "b", "a", "b"]);
    // Without shares, whoever came first.
    world.handle.remove_shares();
    for call in early.into_iter().chain(calls) {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(world.classes()[4..], ["b", "b", "a", "a"]);
    assert_eq!(world.handle.snapshot().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_gone_becomes_one_of_the_others() {
    let world = World::spent(Some(shares(1, 1)), 100).await;
    let calls = ["a", "b"].map(|class| world.call((class, 1)));
    let other = Shares::builder().class("b", 1).class("c", 1).build();
    world.handle.set_shares(&other.expect("valid"));
    assert_eq!([world.counts("").0, world.counts("b").0], [1, 1]);
    for call in calls {
        call.await.expect("served");
    }
    assert_eq!(world.counts("b"), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_that_go_away_cost_their_class_nothing() {
    let world = World::spent(Some(shares(1, 1)), 100).await;
    for _ in 0..50 {
        // Granted or not, none is sent.
        let mut call = world.call(("a", 1));
        assert!(poll!(&mut call).is_pending());
        drop(call);
    }
    let calls: Vec<_> = ["b", "a", "b", "a"]
        .map(|class| tokio::spawn(world.call((class, 1))))
        .into();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(world.classes(), ["b", "a", "b", "a"]);
    assert_eq!(world.counts("a"), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_picks_up_gives_its_turn_back() {
    let world = World::spent(Some(shares(1, 1)), 100).await;
    let mut stalled = world.call(("a", 1));
    assert!(poll!(&mut stalled).is_pending());
    let others: Vec<_> = ["b", "b"]
        .map(|class| tokio::spawn(world.call((class, 1))))
        .into();
    settle().await;
    // The other's timer serves it, and it is not polled in time.
    advance(Duration::from_millis(1_002)).await;
    settle().await;
    assert_eq!(world.counts("a"), (0, 1, 0));
    advance(Duration::from_millis(500)).await;
    let late = poll!(&mut stalled);
    assert!(
        late.is_ready(),
        "what has flowed in since serves it after all"
    );
    assert_eq!(world.counts("a"), (0, 1, 0));
    for call in others {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_class_leaves_nothing_behind() {
    let layer = RateLimitLayer::new(built(tokens(60, 10))).shares(shares(1, 1));
    let layer = layer.cost(|ask: &Ask| input(ask.1));
    let handle = layer.handle();
    let layer = layer.class(|ask: &Ask| match ask.0 {
        "bad" => panic!("a class that cannot be read"),
        name => Some(name),
    });
    let mut service = layer.layer(echo::<Ask>());
    let mut bad = service.clone();
    catch_unwind(AssertUnwindSafe(|| drop(bad.call(("bad", 1))))).expect_err("it panics");
    assert_eq!(
        (handle.snapshot().active(), handle.snapshot().waiting()),
        (0, 0)
    );
    service.call(("a", 10)).await.expect("served");
    assert_eq!(handle.shares()[1].admitted(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_class_is_not_asked_without_shares() {
    let layer = RateLimitLayer::per_second(1).class(|_: &u32| panic!("nobody asks"));
    layer.layer(echo::<u32>()).oneshot(1).await.expect("served");
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_turns() {
    let world = World::spent(Some(shares(1, 1)), 100).await;
    // Every call is a clone's.
    let calls = ["a", "a", "a", "b", "b", "b"].map(|class| tokio::spawn(world.call((class, 1))));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(world.classes(), ["a", "b", "a", "b", "a", "b"]);
}
