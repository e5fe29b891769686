//! A limit of calls in flight that is learned, in one queue with the keys and the quotas.

use std::sync::{Arc, Mutex};

use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    key_rotation::{KeyRotationLayer, Transition},
    outcome::{Ending, Usage, Verdict},
    policy::{
        Quota, Timestamp, Unit,
        limit::{Aimd, Bounds, Change, LimitAlgorithm, Reason, Sample, Signal, When},
    },
    protocol::Guard,
};

use crate::support::*;

fn aimd(initial: usize, max: usize) -> Aimd {
    let bounds = Bounds::new(1..=max).and_then(|bounds| bounds.starting_at(initial));
    Aimd::new(bounds.expect("they are in order"))
}

/// Two places, and every sample that was heard.
#[derive(Clone)]
struct Recorder(When, Arc<Mutex<Vec<Sample>>>);

impl Recorder {
    fn new(when: When) -> Self {
        Self(when, Arc::default())
    }

    fn heard(&self) -> Vec<Sample> {
        self.1.lock().expect("no panic").clone()
    }
}

impl LimitAlgorithm for Recorder {
    fn limit(&self) -> usize {
        2
    }

    fn record(&mut self, sample: &Sample, _: Timestamp) -> Option<Change> {
        self.1.lock().expect("no panic").push(*sample);
        None
    }

    fn when(&self) -> When {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_over_the_pool_is_learned_up_to_what_the_server_takes() {
    let (server, _) = server(|ask| slowly(100 * MS, ask));
    let layer = layer(accounts(3, &plenty())).concurrency(aimd(1, 12));
    let (service, handle) = (layer.layer(server.clone()), layer.handle());
    let calls = (0..200).map(|id| service.clone().oneshot(Ask::numbered(id)));
    futures::future::try_join_all(calls).await.expect("served");
    assert_eq!(handle.concurrency().map(usize::from), Some(12));
    assert_eq!(handle.snapshot().peak_active(), 12);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_overloads_is_one_cut_that_is_told() {
    let told: Arc<Mutex<Vec<Change>>> = Arc::default();
    let writes = Arc::clone(&told);
    let (server, _) = server(|ask| say(ask, Verdict::Overloaded));
    let layer = layer(accounts(3, &plenty()))
        .concurrency(aimd(20, 100))
        .on_transition(move |transition| {
            if let Transition::Concurrency(change) = transition {
                writes.lock().expect("no panic").push(*change);
            }
        });
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..20)
        .map(|id| service.clone().call(Ask::numbered(id)))
        .collect();
    for call in calls {
        call.await.expect("an answer");
    }
    let told = told.lock().expect("no panic");
    assert_eq!(*told, [Change::new(20, 18, Reason::Loss)]);
    assert_eq!(handle.concurrency().map(usize::from), Some(18));
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn key_quota_and_place_are_taken_together_or_not_at_all() {
    let whole = built(
        Quota::builder()
            .requests_per_second(1)
            .burst(Unit::REQUESTS, 10),
    );
    let (server, log) = server(|ask| slowly(SECOND / 2, ask));
    let layer = layer(accounts(2, &plenty()))
        .rate_limit(whole)
        .concurrency(aimd(2, 2));
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..5)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    settle().await;
    // The three that wait for a place hold nothing of any quota, nor a key.
    assert_eq!((log.calls(), handle.snapshot().waiting()), (2, 3));
    assert_eq!(handle.available(Unit::REQUESTS), Some(8));
    let in_flight: u64 = handle.scopes().iter().map(|s| s.in_flight() as u64).sum();
    assert_eq!(in_flight, 2);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(log.ids(), [0, 1, 2, 3, 4], "one queue, in order");
    assert_eq!(log.whole(), [0, 0, 500, 500, 1_000]);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn at_the_first_byte_each_call_is_recorded_once_with_what_it_says_of_capacity() {
    let recorder = Recorder::new(When::FirstByte);
    let (server, _) = server(|ask| match ask.id {
        0 => slowly(80 * MS, ask),
        1 => say(ask, Verdict::Throttled),
        2 => say(ask, Verdict::ServerFault),
        _ => say(ask, Verdict::CallerFault),
    });
    let layer = layer(accounts(9, &plenty())).concurrency(recorder.clone());
    let service = layer.layer(server);
    for id in 0..4 {
        let answer = service.clone().oneshot(Ask::numbered(id)).await;
        answer.expect("an answer");
    }
    let heard = recorder.heard();
    let signals: Vec<_> = heard.iter().map(Sample::signal).collect();
    let expected = [
        Signal::Success,
        Signal::Loss,
        Signal::Failure,
        Signal::Neutral,
    ];
    assert_eq!(signals, expected);
    assert_eq!(heard[0].to_first_byte(), Some(80 * MS));
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_call_is_recorded_with_its_whole_time_and_its_usage() {
    let recorder = Recorder::new(When::End);
    let (server, _) = server(|ask| slowly(80 * MS, ask));
    let layer = KeyRotationLayer::new(accounts(1, &plenty()))
        .concurrency(recorder.clone())
        .protocol(Holding);
    let service = layer.layer(server);
    // More than are timed for the mean latency in a second, were they all at once.
    for id in 0..3 {
        let (_, guard) = service
            .clone()
            .oneshot(Ask::numbered(id))
            .await
            .expect("served");
        sleep(500 * MS).await;
        guard.finish(Ending::complete(Usage::UNKNOWN.output_tokens(7)));
    }
    let (_, broken_off) = service
        .clone()
        .oneshot(Ask::numbered(9))
        .await
        .expect("served");
    drop(broken_off);
    let heard = recorder.heard();
    assert_eq!(heard.len(), 3);
    for sample in heard {
        assert_eq!(sample.to_end(), Some(580 * MS));
        assert_eq!(sample.known_size(), Some(7));
    }
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_frees_its_place_and_teaches_nothing() {
    let recorder = Recorder::new(When::FirstByte);
    let (server, log) = server(|ask| slowly(SECOND, ask));
    let layer = layer(accounts(1, &plenty())).concurrency(recorder.clone());
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..4)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    sleep(100 * MS).await;
    calls[0].abort();
    calls[1].abort();
    settle().await;
    assert_eq!(log.calls(), 4);
    for call in calls {
        let _gone = call.await;
    }
    assert_eq!(recorder.heard().len(), 2);
    assert_idle(&handle);
}

#[tokio::test(start_paused = true)]
async fn another_algorithm_takes_over_with_callers_queued() {
    let (server, log) = server(|ask| slowly(SECOND, ask));
    let layer = layer(accounts(2, &plenty())).concurrency(Fixed::of(1));
    let (service, handle) = (layer.layer(server), layer.handle());
    let calls: Vec<_> = (0..6)
        .map(|id| tokio::spawn(service.clone().oneshot(Ask::numbered(id))))
        .collect();
    sleep(100 * MS).await;
    handle.set_concurrency(aimd(3, 3));
    sleep(100 * MS).await;
    assert_eq!(log.calls(), 3);
    handle.remove_concurrency();
    assert_eq!(handle.concurrency(), None);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    assert_eq!(log.whole(), [0, 100, 100, 200, 200, 200]);
    assert_idle(&handle);
}
