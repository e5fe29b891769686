//! What an algorithm hears of a call, and a user's own in place of ours.

use std::sync::{Arc, Mutex, mpsc};

use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_relay::{
    adaptive_concurrency::{AdaptiveConcurrencyHandle, AdaptiveConcurrencyLayer},
    circuit_breaker::CircuitBreakerLayer,
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::{
        Timestamp,
        breaker::BreakerConfig,
        limit::{Change, LimitAlgorithm, Reason, Sample, Signal, When},
    },
    protocol::Guard,
    testing::{Reply, Scripted},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn an_algorithm_of_the_users_own_plugs_in() {
    /// Half of what it was after every loss.
    #[derive(Clone)]
    struct Halve(usize);
    impl LimitAlgorithm for Halve {
        fn limit(&self) -> usize {
            self.0
        }
        fn record(&mut self, sample: &Sample, _: Timestamp) -> Option<Change> {
            if sample.signal() != Signal::Loss || self.0 == 1 {
                return None;
            }
            let from = self.0;
            self.0 /= 2;
            Some(Change::new(from, self.0, Reason::Loss))
        }
    }

    let layer = AdaptiveConcurrencyLayer::new(Halve(8)).classify(status);
    let service = layer.layer(Server::refusing(0, 1));
    service.clone().oneshot(0).await.expect("it is an answer");
    assert_eq!(service.handle().limit(), 4);
    service.clone().oneshot(0).await.expect("it is an answer");
    assert_eq!(layer.handle().limit(), 2);
    // Boxed, too.
    let boxed: Box<dyn LimitAlgorithm + Send> = Box::new(Halve(6));
    layer.handle().set_algorithm(boxed);
    assert_eq!(layer.handle().limit(), 6);
}

#[tokio::test(start_paused = true)]
async fn at_the_first_byte_a_call_is_recorded_at_its_head_and_once() {
    let recorder = Recorder::new(3, When::FirstByte);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Holding);
    let service = layer.layer(slow(80));
    let (_, first) = service.clone().oneshot(0).await.expect("served");
    let (_, second) = service.clone().oneshot(0).await.expect("served");
    let heard = recorder.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].to_first_byte().map(whole), Some(80));
    assert_eq!(heard[0].to_end(), None);
    let seen = |n: usize| (heard[n].signal(), heard[n].in_flight(), heard[n].limit());
    assert_eq!(seen(0), (Signal::Success, 1, 3));
    assert_eq!(seen(1), (Signal::Success, 2, 3));
    sleep(ms(500)).await;
    first.finish(Ending::complete(Usage::UNKNOWN.output_tokens(10)));
    drop(second);
    assert_eq!(recorder.heard().len(), 2);
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_call_is_recorded_with_its_usage_as_its_size() {
    let recorder = Recorder::new(3, When::End);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Holding);
    let service = layer.layer(slow(80));
    let (_, guard) = service.clone().oneshot(0).await.expect("served");
    assert!(recorder.heard().is_empty(), "its end is not known");
    sleep(ms(500)).await;
    guard.finish(Ending::complete(Usage::UNKNOWN.output_tokens(1_234)));
    let heard = recorder.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].to_end().map(whole), Some(580));
    assert_eq!(heard[0].to_first_byte(), None);
    assert_eq!(heard[0].known_size(), Some(1_234));
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn where_the_answer_is_the_end_an_algorithm_that_waits_for_it_learns_too() {
    let recorder = Recorder::new(3, When::End);
    let service = AdaptiveConcurrencyLayer::new(recorder.clone()).layer(slow(80));
    service.clone().oneshot(0).await.expect("served");
    let totals: Vec<_> = recorder.heard().iter().map(Sample::to_end).collect();
    assert_eq!(totals, [Some(ms(80))]);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_refusal_is_recorded_at_its_head_all_the_same() {
    let recorder = Recorder::new(3, When::End);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Holding);
    let service = layer.classify(status).layer(Server::refusing(0, 1));
    let (_, guard) = service.clone().oneshot(0).await.expect("it is an answer");
    assert_eq!(recorder.heard()[0].signal(), Signal::Loss);
    drop(guard);
    assert_eq!(recorder.heard().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_answer_that_its_caller_broke_off_is_no_quick_success() {
    let recorder = Recorder::new(3, When::End);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Holding);
    let service = layer.layer(slow(80));
    let (_, dropped) = service.clone().oneshot(0).await.expect("served");
    let (_, partial) = service.clone().oneshot(0).await.expect("served");
    drop(dropped);
    partial.finish(Ending::partial(Usage::UNKNOWN.output_tokens(3)));
    assert!(recorder.heard().is_empty());
    assert_idle(&service.handle());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_answer_that_failed_in_its_middle_is_a_failure() {
    let recorder = Recorder::new(3, When::End);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Holding);
    let service = layer.layer(slow(80));
    let (_, guard) = service.clone().oneshot(0).await.expect("served");
    let overloaded = Outcome::new(Verdict::Overloaded);
    guard.finish(Ending::partial(Usage::UNKNOWN).failed(overloaded));
    let heard = recorder.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].signal(), Signal::Loss);
}

#[tokio::test(start_paused = true)]
async fn what_is_the_callers_fault_is_recorded_as_neutral() {
    let recorder = Recorder::new(3, When::FirstByte);
    let server = Scripted::new(|n: &u16| Reply::now(*n));
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).classify(status);
    let service = layer.layer(server);
    for n in [400, 200, 429, 500] {
        service.clone().oneshot(n).await.expect("it is an answer");
    }
    let signals: Vec<_> = recorder.heard().iter().map(Sample::signal).collect();
    let expected = [
        Signal::Neutral,
        Signal::Success,
        Signal::Loss,
        Signal::Failure,
    ];
    assert_eq!(signals, expected);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_inside_that_refuses_frees_the_place_and_says_nothing() {
    let recorder = Recorder::new(1, When::FirstByte);
    let config = BreakerConfig::builder()
        .no_conditions()
        .consecutive_failures(1);
    let breaker = CircuitBreakerLayer::new(config.build().expect("valid"));
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone());
    let server = Scripted::new(|_: &u32| Reply::<u32>::fail("broken"));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(breaker)
        .service(server.clone());
    for _ in 0..10 {
        service.clone().oneshot(0).await.expect_err("it fails");
    }
    assert_eq!(server.sent_after().len(), 1, "the breaker is open");
    let (first, rest) = recorder.heard().split_first().map_or_else(
        || panic!("the failure was heard"),
        |(first, rest)| (first.signal(), rest.to_vec()),
    );
    assert_eq!(first, Signal::Failure);
    assert!(
        rest.iter().all(|s| s.signal() == Signal::Neutral),
        "{rest:?}"
    );
    assert_idle(&layer.handle());
    assert_eq!(layer.handle().snapshot().completed(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_algorithm_hears_nothing_of_calls_sent_under_the_old_one() {
    let (old, new) = (
        Recorder::new(1, When::FirstByte),
        Recorder::new(100, When::FirstByte),
    );
    let service = AdaptiveConcurrencyLayer::new(old.clone()).layer(slow(100));
    let call = tokio::spawn(service.clone().oneshot(0));
    settle().await;
    service.handle().set_algorithm(new.clone());
    call.await.expect("no panic").expect("served");
    assert!(old.heard().is_empty() && new.heard().is_empty());
    service.clone().oneshot(0).await.expect("served");
    assert_eq!(new.heard()[0].in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_admits_one_and_one_without_end_still_counts() {
    let recorder = Recorder::new(0, When::FirstByte);
    let server = slow(100);
    let service = AdaptiveConcurrencyLayer::new(recorder).layer(server.clone());
    assert_eq!(service.handle().limit(), 1);
    let calls = (0..3).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(server.peak_in_flight(), 1);

    service
        .handle()
        .set_algorithm(Recorder::new(usize::MAX, When::FirstByte));
    let calls: Vec<_> = (0..5)
        .map(|n| tokio::spawn(service.clone().call(n)))
        .collect();
    settle().await;
    assert_eq!(server.in_flight(), 5);
    service.handle().set_algorithm(fixed(5));
    let sixth = tokio::spawn(service.clone().call(5));
    settle().await;
    assert_eq!(server.in_flight(), 5, "those of before count");
    for call in calls.into_iter().chain([sixth]) {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_untold_is_obeyed() {
    let recorder = Recorder::new(1, When::FirstByte);
    let server = slow(100);
    let service = AdaptiveConcurrencyLayer::new(recorder.clone()).layer(server.clone());
    recorder
        .limit
        .store(3, std::sync::atomic::Ordering::Relaxed);
    let calls = (0..7).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(
        wholes(&server.sent_after()),
        [0, 100, 100, 100, 200, 200, 200]
    );
}

#[test]
fn an_algorithm_that_looks_at_its_handle_when_dropped_deadlocks_nothing() {
    struct Nosy(Option<AdaptiveConcurrencyHandle>);
    impl LimitAlgorithm for Nosy {
        fn limit(&self) -> usize {
            1
        }
        fn record(&mut self, _: &Sample, _: Timestamp) -> Option<Change> {
            None
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            let _limit = self.0.as_ref().map(AdaptiveConcurrencyHandle::limit);
        }
    }
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let handle = AdaptiveConcurrencyLayer::new(fixed(1)).handle();
        handle.set_algorithm(Nosy(Some(handle.clone())));
        handle.set_algorithm(fixed(2));
        done.send(handle.limit()).expect("the test waits for it");
    });
    assert_eq!(is_done.recv_timeout(ms(900)), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_panics_loses_no_place() {
    #[derive(Clone)]
    struct Broken(When);
    impl LimitAlgorithm for Broken {
        fn limit(&self) -> usize {
            1
        }
        fn record(&mut self, _: &Sample, _: Timestamp) -> Option<Change> {
            panic!("the algorithm is broken")
        }
        fn when(&self) -> When {
            self.0
        }
    }
    for when in [When::FirstByte, When::End] {
        let service = AdaptiveConcurrencyLayer::new(Broken(when)).layer(slow(10));
        for n in 0..3 {
            let call = tokio::spawn(service.clone().oneshot(n));
            assert!(call.await.expect_err("it panics").is_panic());
            assert_idle(&service.handle());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_outside_the_lock_to_whom_may_use_the_handle() {
    let handle: Arc<Mutex<Option<AdaptiveConcurrencyHandle>>> = Arc::default();
    let seen: Arc<Mutex<Vec<(usize, usize, Reason)>>> = Arc::default();
    let (inside, writes) = (Arc::clone(&handle), Arc::clone(&seen));
    let layer = AdaptiveConcurrencyLayer::new(aimd(1, 20, 100))
        .classify(status)
        .on_change(move |change| {
            let handle = inside.lock().expect("no panic").clone().expect("it is set");
            assert_eq!(handle.limit(), change.to());
            handle.set_algorithm(fixed(7));
            let mut seen = writes.lock().expect("no panic");
            seen.push((change.from(), handle.limit(), change.reason()));
        });
    *handle.lock().expect("no panic") = Some(layer.handle());
    let service = layer.layer(Server::refusing(0, 1));
    let calls = (0..20).map(|n| service.clone().oneshot(n));
    futures::future::try_join_all(calls).await.expect("answers");
    assert_eq!(
        *seen.lock().expect("no panic"),
        [(20, 7, Reason::Loss)],
        "and the new one hears nothing of the burst"
    );
}
