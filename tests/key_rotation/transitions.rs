//! What is told, how often, and from where.

use std::sync::{Arc, Mutex, OnceLock, mpsc};

use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    key_rotation::{KeyRotationHandle, KeyRotationLayer, Transition},
    outcome::Verdict,
    policy::{Unit, pool},
    testing::Reply,
};

use crate::support::*;

/// Notes what it is told, in short.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn by(&self, layer: KeyRotationLayer<Api>) -> KeyRotationLayer<Api> {
        let heard = Arc::clone(&self.0);
        layer.on_transition(move |transition| {
            let short = match transition {
                Transition::Pool(change) => match change {
                    pool::Transition::Rested { scope, .. } => format!("{scope} rested"),
                    pool::Transition::Reopened { scope } => format!("{scope} reopened"),
                    pool::Transition::Exhausted { scope, .. } => format!("{scope} exhausted"),
                    pool::Transition::Excluded { scope } => format!("{scope} excluded"),
                    pool::Transition::Rejected { alias, .. } => format!("{alias} rejected"),
                    pool::Transition::Accepted { alias } => format!("{alias} accepted"),
                    pool::Transition::Denied { alias, model } => format!("{alias} denied {model}"),
                    pool::Transition::Drained { alias } => format!("{alias} drained"),
                    other => format!("{other:?}"),
                },
                other => format!("{other:?}"),
            };
            heard.lock().expect("no panic").push(short);
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once() {
    let (server, _) = server(|ask| match ask.id {
        0 => hinted(ask, Verdict::Throttled, 10 * SECOND),
        1 => say(ask, Verdict::KeyRejected),
        2 => say(ask, Verdict::ModelDenied),
        3 => say(ask, Verdict::Exhausted),
        4 => say(ask, Verdict::Region),
        _ => ok(ask),
    });
    let heard = Heard::default();
    let pool = heard.by(layer(accounts(1, &plenty())));
    let (service, handle) = (pool.layer(server), pool.handle());
    let call = |id: u64| within(once(&service, Ask::numbered(id).model("m")));
    for (id, told) in [
        (0, "a rested"),
        (1, "a1 rejected"),
        (2, "a1 denied m"),
        (3, "a exhausted"),
        (4, "a excluded"),
    ] {
        call(id).await.expect("answered");
        assert_eq!(heard.take(), [told]);
        match id {
            0 => {
                sleep(12 * SECOND).await;
                call(9).await.expect("answered");
                assert_eq!(heard.take(), ["a reopened"]);
            }
            1 | 2 => handle.enable("a1").expect("it is there"),
            3 | 4 => {
                handle.reopen("a").expect("it is there");
                assert_eq!(heard.take(), ["a reopened"]);
            }
            _ => {}
        }
        call(9).await.expect("answered");
        assert_eq!(heard.take(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wave_of_failures_with_one_cause_is_one_change() {
    for verdict in [
        Verdict::KeyRejected,
        Verdict::Exhausted,
        Verdict::Region,
        Verdict::Throttled,
    ] {
        let (server, _) = server(move |ask| {
            let outcome = tower_relay::outcome::Outcome::new(verdict);
            Reply::after(SECOND, answer(ask, outcome.after(MINUTE)))
        });
        let heard = Heard::default();
        let pool = heard.by(layer(accounts(1, &plenty())));
        let service = pool.layer(server);
        let calls = (0..100).map(|id| once(&service, Ask::numbered(id)));
        within(futures::future::join_all(calls)).await;
        let told = heard.take();
        // A rest or an exhaustion may be told again where it is prolonged, which is seldom.
        let most = match verdict {
            Verdict::Throttled | Verdict::Exhausted => 15,
            _ => 1,
        };
        assert!((1..=most).contains(&told.len()), "{verdict:?}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_key_is_told_of_when_its_last_call_has_ended_also_by_a_panic() {
    for panics in [false, true] {
        let (server, _) = server(move |ask| {
            if panics {
                Reply::panic()
            } else {
                slowly(SECOND, ask)
            }
        });
        let heard = Heard::default();
        let pool = heard.by(layer(accounts(1, &plenty())));
        let (mut service, handle) = (pool.layer(server), pool.handle());
        let first = service.call(Ask::default());
        let second = service.call(Ask::default());
        handle.drain("a1").expect("it is there");
        drop(first);
        assert_eq!(heard.take(), [""; 0]);
        let second = tokio::spawn(second);
        assert_eq!(within(second).await.is_err(), panics);
        assert_idle(&handle);
        assert_eq!(heard.take(), ["a1 drained"], "panics: {panics}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_beginning_and_the_end_of_waiting_are_told() {
    let (server, _) = server(ok);
    let heard = Heard::default();
    let pool = heard.by(layer(accounts(1, &per_second(1))));
    let service = pool.layer(server);
    let calls = (0..3).map(|id| service.clone().oneshot(Ask::numbered(id)));
    within(futures::future::try_join_all(calls))
        .await
        .expect("answered");
    assert_eq!(heard.take(), ["Saturated", "Cleared"]);
}

#[test]
fn a_callback_that_uses_the_handle_deadlocks_nothing() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.expect("it is built").block_on(async {
            let handle: Arc<OnceLock<KeyRotationHandle>> = Arc::default();
            let inside = Arc::clone(&handle);
            let keys = accounts(2, &per_second(1));
            let reloaded = keys.clone();
            let layer = layer(keys).on_transition(move |_| {
                let handle = inside.get().expect("it is set");
                let _ = (
                    handle.snapshot(),
                    handle.scopes(),
                    handle.available(Unit::REQUESTS),
                );
                handle.enable("a1").expect("it is there");
                handle.set_rate_limit(&per_second(100));
                assert_eq!(handle.reload(reloaded.clone()), []);
            });
            handle.set(layer.handle()).expect("it is set once");
            let (server, log) = server(|ask| match ask.id {
                1 => say(ask, Verdict::KeyRejected),
                2 => hinted(ask, Verdict::Throttled, SECOND),
                3 => say(ask, Verdict::Exhausted),
                _ => ok(ask),
            });
            let service = retry(3).layer(layer.layer(server));
            let calls = (0..6).map(|id| service.clone().oneshot(Ask::numbered(id)));
            let calls = futures::future::join_all(calls);
            let _ = tokio::time::timeout(10 * MINUTE, calls).await;
            assert!(log.calls() >= 6);
        });
        done.send(()).expect("the test waits for it");
    });
    is_done
        .recv_timeout(2 * SECOND)
        .expect("it calls back inside its lock");
}
