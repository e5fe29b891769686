//! Random histories: no permit is leaked or invented.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tokio::{sync::oneshot, task::JoinHandle};
use tower::{Layer, Service, service_fn};
use tower_relay::{
    adaptive_concurrency::{AdaptiveConcurrencyLayer, Permit},
    error::BoxError,
    outcome::{Ending, Usage},
    protocol::Guard,
};

use crate::support::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Call,
    /// Answers a call with a status, and keeps its body open.
    Answer(usize, u16),
    /// Ends a body: complete, or dropped.
    End(usize, bool),
    /// A caller goes away, wherever its call is.
    Abort(usize),
    Fixed(usize),
    Learned(usize, bool),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Call),
        5 => (any::<usize>(), prop::sample::select(vec![200, 200, 200, 429, 500, 400]))
            .prop_map(|(which, code)| Step::Answer(which, code)),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, whole)| Step::End(which, whole)),
        2 => any::<usize>().prop_map(Step::Abort),
        1 => (1..6usize).prop_map(Step::Fixed),
        1 => (1..6usize, any::<bool>()).prop_map(|(at, end)| Step::Learned(at, end)),
        2 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

type Call = JoinHandle<Result<(u16, Permit), BoxError>>;

struct Request {
    arrived: Arc<std::sync::Mutex<Vec<oneshot::Sender<u16>>>>,
}

async fn check(steps: Vec<Step>) {
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 3, 6)).protocol(Holding);
    let layer = layer.classify(status);
    let handle = layer.handle();
    let at_server = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&at_server);
    let mut service = layer.layer(service_fn(move |request: Request| {
        let counts = Arc::clone(&counts);
        counts.fetch_add(1, Ordering::Relaxed);
        let (answers, answer) = oneshot::channel();
        request.arrived.lock().expect("no panic").push(answers);
        async move {
            let status = answer.await.unwrap_or(500);
            counts.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, BoxError>(status)
        }
    }));
    let arrived: Arc<std::sync::Mutex<Vec<oneshot::Sender<u16>>>> = Arc::default();
    let mut calls: Vec<Call> = Vec::new();
    let mut bodies: Vec<Permit> = Vec::new();
    for step in steps {
        let before = handle.snapshot();
        match step {
            Step::Call => {
                let request = Request {
                    arrived: Arc::clone(&arrived),
                };
                calls.push(tokio::spawn(service.call(request)));
            }
            Step::Answer(which, code) => {
                let mut arrived = arrived.lock().expect("no panic");
                if !arrived.is_empty() {
                    let which = which % arrived.len();
                    let _gone = arrived.swap_remove(which).send(code);
                }
            }
            Step::End(which, is_whole) => {
                if !bodies.is_empty() {
                    let body = bodies.swap_remove(which % bodies.len());
                    if is_whole {
                        body.finish(Ending::complete(Usage::UNKNOWN));
                    }
                }
            }
            Step::Abort(which) => {
                if !calls.is_empty() {
                    calls.swap_remove(which % calls.len()).abort();
                }
            }
            Step::Fixed(limit) => handle.set_algorithm(fixed(limit)),
            Step::Learned(limit, false) => handle.set_algorithm(aimd(1, limit, 8)),
            Step::Learned(limit, true) => handle.set_algorithm(vegas(1, limit, 8).by_size()),
            Step::Wait => tokio::time::sleep(ms(50)).await,
        }
        settle().await;
        for index in (0..calls.len()).rev() {
            if calls[index].is_finished() {
                let (_, body) = calls
                    .swap_remove(index)
                    .await
                    .expect("no panic")
                    .expect("answered");
                bodies.push(body);
            }
        }
        let now = handle.snapshot();
        let (active, limit) = (now.active(), handle.limit() as u64);
        // Exactly who is at the server or holds a body has a place.
        let unfinished = calls.len() as u64 - now.waiting() as u64;
        assert_eq!(active, unfinished + bodies.len() as u64, "{step:?}");
        assert!(active <= limit.max(before.active()), "{step:?}");
        if now.admitted() > before.admitted() {
            assert!(active <= limit, "{step:?}: admitted above the limit");
        }
        if now.waiting() > 0 {
            assert!(active >= limit, "{step:?}: they wait for nothing");
        }
    }
    drop(bodies);
    for call in calls {
        call.abort();
        let _gone = call.await;
    }
    assert_idle(&handle);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_limit_that_changes_leaks_and_invents_no_permit(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("it starts");
        runtime.block_on(check(steps));
    }
}
