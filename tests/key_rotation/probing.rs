//! Keys that are asked about outside of all calls.

use std::{
    future::{Future, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_relay::{
    key_rotation::{Key, KeyPool, KeyRotationHandle, Source},
    outcome::{Outcome, Verdict},
    policy::pool::{KeyState, ScopeState},
};

use crate::support::*;

type Asked = Arc<Mutex<Vec<(Duration, String)>>>;

/// Asks every 30 s in a task of its own; `says` is the answer, by the alias. Says what was asked,
/// and when.
fn asking(
    handle: &KeyRotationHandle,
    says: impl Fn(&str) -> Verdict + Clone + Send + Sync + 'static,
) -> (Asked, tokio::task::JoinHandle<()>) {
    let (asked, start) = (Asked::default(), Instant::now());
    let writes = Arc::clone(&asked);
    let probe = handle.probe(move |key: Key| {
        let entry = (start.elapsed(), key.alias().to_owned());
        writes.lock().expect("no panic").push(entry);
        let verdict = says(key.alias());
        async move {
            sleep(100 * MS).await;
            Outcome::new(verdict)
        }
    });
    (asked, tokio::spawn(probe))
}

fn times_of(asked: &Asked, alias: &str) -> Vec<Duration> {
    let asked = asked.lock().expect("no panic");
    let own = asked.iter().filter(|(_, of)| of == alias);
    own.map(|(at, _)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn every_key_in_use_is_asked_every_half_minute_and_not_all_at_once() {
    let layer = layer(accounts(5, &per_second(10)));
    let handle = layer.handle();
    handle.disable("b1").expect("known");
    let before = remaining(&handle, 0);
    let (asked, task) = asking(&handle, |_| Verdict::Success);
    sleep(600 * SECOND + 10 * SECOND).await;
    for key in ["a1", "c1", "d1", "e1"] {
        let times = times_of(&asked, key);
        assert!((20..=22).contains(&times.len()), "{key}: {times:?}");
        for pair in times.windows(2) {
            let distance = pair[1] - pair[0];
            assert!(
                distance >= 26 * SECOND && distance <= 34 * SECOND,
                "{distance:?}"
            );
        }
    }
    assert_eq!(times_of(&asked, "b1"), []);
    let mut times: Vec<_> = asked
        .lock()
        .expect("asked")
        .iter()
        .map(|(at, _)| *at)
        .collect();
    times.dedup_by_key(|at| at.as_secs() / 5);
    let all = asked.lock().expect("asked").len();
    assert!(
        times.len() * 10 >= all * 9,
        "{} of {all} apart",
        times.len()
    );
    // It takes nothing and counts nowhere.
    assert_eq!(remaining(&handle, 0), before);
    assert_eq!(handle.snapshot().admitted(), 0);
    assert_eq!(key(&handle, "a1").totals().get(Verdict::Success), 0);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dead_key_is_out_before_a_call_meets_it_and_back_when_it_is_well() {
    let well = Arc::new(Mutex::new(false));
    let is_well = Arc::clone(&well);
    let layer = layer(accounts(2, &plenty()));
    let (server, log) = server(ok);
    let (handle, service) = (layer.handle(), layer.layer(server));
    let (_, task) = asking(&handle, move |alias| {
        match alias == "a1" && !*is_well.lock().expect("no panic") {
            true => Verdict::KeyRejected,
            false => Verdict::Success,
        }
    });
    sleep(35 * SECOND).await;
    assert_eq!(state(&handle, "a1"), KeyState::Rejected(None));
    for _ in 0..10 {
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    assert_eq!(log.calls_with("a1"), 0);
    *well.lock().expect("no panic") = true;
    sleep(35 * SECOND).await;
    assert_eq!(state(&handle, "a1"), KeyState::Usable);
    for _ in 0..10 {
        within(once(&service, Ask::default()))
            .await
            .expect("answered");
    }
    assert_eq!(log.calls_with("a1"), 5);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_credit_is_served_as_soon_as_a_question_finds_it() {
    let (server, _) = server(|ask| match ask.id {
        0 => say(ask, Verdict::Exhausted),
        _ => ok(ask),
    });
    let layer = layer(accounts(1, &plenty()));
    let (handle, service) = (layer.handle(), layer.layer(server));
    let start = Instant::now();
    within(once(&service, Ask::default()))
        .await
        .expect("answered");
    assert!(matches!(
        handle.scopes()[0].state(),
        ScopeState::Exhausted(_)
    ));
    let waiter = tokio::spawn(service.clone().oneshot(Ask::numbered(1)));
    let (asked, task) = asking(&handle, |_| Verdict::Success);
    within(waiter).await.expect("no panic").expect("answered");
    let first = times_of(&asked, "a1")[0];
    // The question takes 100 ms.
    let waited = start.elapsed();
    assert!(
        waited <= 31 * SECOND && waited >= first + 100 * MS,
        "{waited:?}"
    );
    assert!(waited <= first + 110 * MS, "{waited:?} for {first:?}");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn hangs_and_panics_end_their_question_and_no_other() {
    let layer = layer(accounts(3, &plenty()));
    let handle = layer.handle();
    let asked: Asked = Asked::default();
    let (writes, start) = (Arc::clone(&asked), Instant::now());
    let probe = handle
        .probe(move |key: Key| {
            let alias = key.alias().to_owned();
            writes
                .lock()
                .expect("no panic")
                .push((start.elapsed(), alias.clone()));
            assert!(alias != "a1", "at once");
            async move {
                match &*alias {
                    "b1" => {
                        tokio::task::yield_now().await;
                        panic!("later")
                    }
                    _ => pending().await,
                }
            }
        })
        .every(30 * SECOND)
        .timeout(2 * SECOND);
    let task = tokio::spawn(probe);
    sleep(305 * SECOND).await;
    assert!(!task.is_finished());
    for alias in ["a1", "b1", "c1"] {
        let times = times_of(&asked, alias);
        assert!((9..=11).contains(&times.len()), "{alias}: {times:?}");
        assert_eq!(state(&handle, alias), KeyState::Usable);
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_does_not_end_the_questions() {
    let told = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&told);
    let layer = layer(accounts(3, &plenty())).on_transition(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        panic!("of a listener")
    });
    let handle = layer.handle();
    let (asked, task) = asking(&handle, |alias| match alias {
        "a1" => Verdict::KeyRejected,
        _ => Verdict::Success,
    });
    sleep(305 * SECOND).await;
    assert!(!task.is_finished());
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(state(&handle, "a1"), KeyState::Rejected(None));
    for alias in ["b1", "c1"] {
        let times = times_of(&asked, alias);
        assert!((9..=11).contains(&times.len()), "{alias}: {times:?}");
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn slow_answers_are_asked_one_after_the_other() {
    let layer = layer(accounts(4, &plenty()));
    let handle = layer.handle();
    let running = Arc::new(Mutex::new((0_u32, 0_u32, 0_u32)));
    let counts = Arc::clone(&running);
    let probe = handle.probe(move |_: Key| {
        let counts = Arc::clone(&counts);
        async move {
            {
                let mut counts = counts.lock().expect("no panic");
                (counts.0, counts.2) = (counts.0 + 1, counts.2 + 1);
                counts.1 = counts.1.max(counts.0);
            }
            sleep(9 * SECOND).await;
            counts.lock().expect("no panic").0 -= 1;
            Outcome::SUCCESS
        }
    });
    let task = tokio::spawn(probe.every(4 * SECOND));
    sleep(91 * SECOND).await;
    let (_, most, all) = *running.lock().expect("no panic");
    assert_eq!(most, 1);
    assert!((10..=11).contains(&all), "{all}");
    task.abort();
}

/// In real time, for a paused clock stands still while a future is polled.
#[tokio::test]
async fn answers_that_are_there_at_once_do_not_keep_the_runtime_from_others() {
    let keys = (0..5_000).map(|n| (format!("k{n}"), Source::value(format!("secret-{n}"))));
    let layer = layer(KeyPool::accounts(plenty(), keys).expect("valid"));
    let handle = layer.handle();
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let probe = handle.probe(move |_: Key| {
        let count = counts.fetch_add(1, Ordering::Relaxed);
        // It would not end otherwise.
        let hang = count >= 10_000;
        async move {
            match hang {
                true => pending().await,
                false => Outcome::SUCCESS,
            }
        }
    });
    let mut probe = Box::pin(probe.every(Duration::ZERO));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10 {
        let before = asked.load(Ordering::Relaxed);
        assert!(probe.as_mut().poll(&mut cx).is_pending());
        let turns = asked.load(Ordering::Relaxed) - before;
        assert!(turns <= 64, "{turns}");
        sleep(MS).await;
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_pool_and_holds_nothing_when_it_is_dropped() {
    let layer = layer(accounts(2, &plenty()));
    let handle = layer.handle();
    let (asked, task) = asking(&handle, |_| Verdict::Success);
    sleep(40 * SECOND).await;
    assert!(asked.lock().expect("asked").len() >= 2);
    drop((layer, handle));
    within(task).await.expect("it is ready");

    // In the middle of a question.
    let layer = super::support::layer(accounts(1, &plenty()));
    let handle = layer.handle();
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let probe = handle.probe(move |_: Key| {
        let holds = Arc::clone(&holds);
        async move {
            let _held = holds;
            pending().await
        }
    });
    let task = tokio::spawn(probe.every(SECOND));
    sleep(2 * SECOND).await;
    assert_eq!(Arc::strong_count(&held), 3);
    task.abort();
    assert!(task.await.expect_err("it was aborted").is_cancelled());
    assert_eq!(Arc::strong_count(&held), 1);
    assert_idle(&handle);
    // A pool whose keys are all disabled is not asked, nor is the probe over.
    handle.disable("a1").expect("known");
    let (asked, task) = asking(&handle, |_| Verdict::Success);
    sleep(100 * SECOND).await;
    assert!(asked.lock().expect("asked").is_empty() && !task.is_finished());
    handle.enable("a1").expect("known");
    sleep(40 * SECOND).await;
    // Every 30 s, and some: once or twice.
    assert!((1..=2).contains(&times_of(&asked, "a1").len()));
    task.abort();
}
