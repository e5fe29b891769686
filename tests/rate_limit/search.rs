//! Rates that are sought, and growth that is bounded.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    outcome::{Outcome, Verdict},
    policy::{Quota, Ramp, RampState, RateSearch, Unit},
    rate_limit::{RateLimitHandle, RateLimitLayer},
    testing::{Reply, Scripted},
};

use crate::support::*;

/// A token bucket of a server's.
struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn admits(&mut self) -> bool {
        let passed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        self.level = (self.level + passed * self.rate).min(self.burst);
        let admits = self.level >= 1.0 - 1e-9;
        if admits {
            self.level -= 1.0;
        }
        admits
    }
}

/// Served, refused.
type Counts = Arc<Mutex<[u64; 2]>>;

/// So many a second, or a refusal.
fn refusing(
    rate: f64,
    counts: &Counts,
) -> Scripted<impl Fn(&u32) -> Reply<Verdict> + Clone + Send + Sync + 'static> {
    let bucket = Arc::new(Mutex::new(Bucket {
        rate,
        burst: rate,
        level: rate,
        at: Instant::now(),
    }));
    let counts = Arc::clone(counts);
    Scripted::new(move |_: &u32| {
        let admits = bucket.lock().expect("no panic").admits();
        counts.lock().expect("no panic")[usize::from(!admits)] += 1;
        match admits {
            true => Reply::after(ms(300), Verdict::Success),
            false => Reply::after(ms(50), Verdict::Throttled),
        }
    })
}

fn said(result: Result<&Verdict, &tower_relay::error::BoxError>) -> Outcome {
    Outcome::new(*result.expect("the server answers"))
}

/// So many workers call without pause, until `end`.
async fn saturate<S>(service: &S, workers: u32, end: Duration)
where
    S: Service<u32, Response = Verdict> + Clone,
    S::Error: std::fmt::Debug,
{
    let begin = Instant::now();
    let work = (0..workers).map(|worker| async move {
        while begin.elapsed() < end {
            service.clone().oneshot(worker).await.expect("it waits");
        }
    });
    futures::future::join_all(work).await;
}

fn sought(rate: f64) -> Quota {
    let search = RateSearch::per_second(0.1..=100_000.0).starting_at(rate);
    built(Quota::builder().seek(Unit::REQUESTS, search))
}

fn rate(handle: &RateLimitHandle) -> f64 {
    handle.sought_rate(Unit::REQUESTS).expect("it is sought")
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_nobody_told_is_found_and_used() {
    for (quota, start, workers) in [(10.0, 1.0, 20), (10.0, 1_000.0, 20), (200.0, 20.0, 150)] {
        let counts = Counts::default();
        let layer = RateLimitLayer::new(sought(start)).classify(said);
        let service = layer.layer(refusing(quota, &counts));
        saturate(&service, workers, Duration::from_secs(60)).await;
        let before = *counts.lock().expect("no panic");
        saturate(&service, workers, Duration::from_secs(300)).await;
        let [served, refused] = *counts.lock().expect("no panic");
        let (served, refused) = (served - before[0], refused - before[1]);
        let used = served as f64 / (quota * 300.0);
        let of = format!("{quota} a second from {start}: used {used}, {refused} refused");
        assert!((0.97..1.03).contains(&used), "{of}");
        assert!(refused as f64 <= 0.01 * served as f64, "{of}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_need_the_rate_does_not_raise_it_and_an_idle_hour_is_no_burst() {
    let server = Scripted::new(|_: &u32| Reply::after(ms(300), Verdict::Success));
    let layer = RateLimitLayer::new(sought(40.0)).classify(said);
    let (service, handle) = (layer.layer(server.clone()), layer.handle());
    saturate(&service, 1, Duration::from_secs(60)).await;
    assert_eq!(rate(&handle), 40.0);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let before = server.sent_after().len();
    let calls = (0..40).map(|call| service.clone().oneshot(call));
    futures::future::try_join_all(calls).await.expect("served");
    assert_envelope(&server.sent_after()[before..], 1, 43, SLACK);
}

#[tokio::test(start_paused = true)]
async fn the_same_search_keeps_what_was_learned_when_the_quota_is_set_again() {
    let counts = Counts::default();
    let layer = RateLimitLayer::new(sought(1.0)).classify(said);
    let (service, handle) = (layer.layer(refusing(50.0, &counts)), layer.handle());
    saturate(&service, 40, Duration::from_secs(120)).await;
    let learned = rate(&handle);
    assert!((45.0..55.0).contains(&learned), "{learned}");
    handle.set_quota(&sought(1.0));
    assert_eq!(rate(&handle), learned);
    handle.set_quota(&sought(2.0));
    assert_eq!(rate(&handle), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_wherever_it_is_leaves_the_rate_as_it_was() {
    let server = Scripted::new(|_: &u32| Reply::after(ms(300), Verdict::Success));
    let layer = RateLimitLayer::new(sought(10.0)).classify(said);
    let (service, handle) = (layer.layer(server), layer.handle());
    for call in 0..200 {
        let mut future = std::pin::pin!(service.clone().oneshot(call));
        let wait = ms(u64::from(call) * 7 % 150);
        tokio::select! {
            biased;
            _ = &mut future => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    assert!((9.9..22.0).contains(&rate(&handle)), "{}", rate(&handle));
    assert_eq!(handle.snapshot().waiting(), 0);
    assert_eq!(
        handle.available(Unit::REQUESTS).map(|left| left <= 1),
        Some(true)
    );
}

// === growth ===

const MINUTE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(15 * 60);

fn bounded(floor: u64) -> Ramp {
    Ramp::above_per_minute(floor)
}

fn with(ramp: Ramp) -> Quota {
    built(Quota::builder().ramp(Unit::REQUESTS, ramp))
}

/// How many were sent in each minute from the first on.
fn by_minutes(sent: &[Duration]) -> Vec<u64> {
    let minutes = sent.last().map_or(0, |last| last.as_secs() / 60 + 1);
    let in_minute = |minute: u64| sent.iter().filter(move |at| at.as_secs() / 60 == minute);
    (0..minutes)
        .map(|minute| in_minute(minute).count() as u64)
        .collect()
}

/// Each minute against that of a quarter of an hour before.
fn assert_unprovoked(minutes: &[u64], floor: u64) {
    for (minute, &sent) in minutes.iter().enumerate() {
        let before = minute.checked_sub(15).map_or(0, |before| minutes[before]);
        let most = floor.max(before + before / 2);
        assert!(
            sent <= most,
            "minute {minute}: {sent} after {before}: {minutes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_grows_no_faster_than_the_server_bears() {
    let server = Scripted::new(|_: &u32| Reply::after(ms(300), Verdict::Success));
    let service = RateLimitLayer::new(with(bounded(60)))
        .classify(said)
        .layer(server.clone());
    saturate(&service, 8, WINDOW * 5).await;
    // Idle for ten minutes, and then everybody at once.
    tokio::time::advance(MINUTE * 10).await;
    saturate(&service, 8, WINDOW * 2).await;
    let minutes = by_minutes(&server.sent_after());
    assert_unprovoked(&minutes, 60);
    let most = minutes.iter().max().expect("some were sent");
    assert!((100..=170).contains(most), "{minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_provokes_nobody_with_what_was_saved_and_without() {
    for saves in [false, true] {
        let server = Scripted::new(|_: &u32| Reply::after(ms(300), Verdict::Success));
        let mut ramp = bounded(60);
        let mut last = 0;
        for _ in 0..4 {
            let layer = RateLimitLayer::new(with(ramp.clone())).classify(said);
            let (service, handle) = (layer.layer(server.clone()), layer.handle());
            saturate(&service, 8, WINDOW * 3 / 2).await;
            let snapshot = handle.ramp(Unit::REQUESTS).expect("it is bounded");
            if saves {
                let (step, used) = (snapshot.state().step(), snapshot.state().used().to_vec());
                ramp = ramp.resume(RampState::new(step, used), Duration::from_secs(20));
            }
            last = snapshot.allowed().round() as u64;
            tokio::time::advance(Duration::from_secs(20)).await;
        }
        assert_unprovoked(&by_minutes(&server.sent_after()), 60);
        assert_eq!(last >= 2, saves, "{last} a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_growth_lowers_what_is_allowed_and_says_so() {
    let server = Scripted::new(|_: &u32| Reply::now(Verdict::RampLimit));
    let layer = RateLimitLayer::new(with(bounded(600))).classify(said);
    let (service, handle) = (layer.layer(server), layer.handle());
    let ramp = || handle.ramp(Unit::REQUESTS).expect("it is bounded");
    assert_eq!(ramp().held_until(), None);
    let before = ramp().allowed();
    service.clone().oneshot(1).await.expect("it answers");
    assert!((ramp().allowed() / before - 0.75).abs() < 0.01);
    assert!(ramp().held_until().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_growth_cuts_a_rate_that_is_sought_and_no_other() {
    let server = Scripted::new(|_: &u32| Reply::now(Verdict::RampLimit));
    let layer = RateLimitLayer::new(sought(10.0)).classify(said);
    let (service, handle) = (layer.layer(server.clone()), layer.handle());
    service.oneshot(1).await.expect("it answers");
    assert_eq!(rate(&handle), 4.75);
    let plain = RateLimitLayer::per_second(10).classify(said);
    let service = plain.layer(server);
    let start = Instant::now();
    for call in 0..11 {
        service.clone().oneshot(call).await.expect("it answers");
    }
    assert_eq!(since(start), 1_000);
}
