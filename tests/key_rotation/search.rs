//! Rates that are sought, and growth that is bounded, for each scope and class of models.

use std::sync::{Arc, Mutex};

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_relay::{
    key_rotation::{KeyRotationHandle, KeyRotationLayer},
    outcome::{Outcome, Verdict},
    policy::{Quota, Ramp, RateSearch, Unit},
};

use crate::support::*;

fn sought(rate: f64) -> Quota {
    let search = RateSearch::per_second(0.1..=10_000.0).starting_at(rate);
    built(Quota::builder().seek(Unit::REQUESTS, search))
}

fn rates(handle: &KeyRotationHandle) -> Vec<f64> {
    let scopes = handle.scopes();
    let classes = scopes.iter().flat_map(|scope| scope.classes());
    let rates = classes.flat_map(|class| class.sought().map(|(_, rate)| rate).collect::<Vec<_>>());
    rates.collect()
}

/// Served and refused in five minutes after one of warming up, by ten a second and account.
async fn saturate(
    layer: &KeyRotationLayer<Api>,
    accounts: usize,
    hint: Option<std::time::Duration>,
) -> (f64, f64) {
    let begin = Instant::now();
    let levels = Arc::new(Mutex::new(vec![(10.0_f64, begin); accounts]));
    let counts = Arc::new(Mutex::new([0_u64; 2]));
    let writes = Arc::clone(&counts);
    let (server, _) = server(move |ask| {
        let account = usize::from(ask.alias().as_bytes()[0] - b'a');
        let (level, at) = &mut levels.lock().expect("no panic")[account];
        *level = (*level + at.elapsed().as_secs_f64() * 10.0).min(10.0);
        *at = Instant::now();
        let admits = *level >= 1.0 - 1e-9;
        if admits {
            *level -= 1.0;
        }
        if begin.elapsed() >= MINUTE {
            writes.lock().expect("no panic")[usize::from(!admits)] += 1;
        }
        match (admits, hint) {
            (true, _) => slowly(300 * MS, ask),
            (false, None) => say(ask, Verdict::Throttled),
            (false, Some(hint)) => hinted(ask, Verdict::Throttled, hint),
        }
    });
    let service = layer.layer(server);
    let work = (0..30 * accounts as u64).map(|id| {
        let service = service.clone();
        async move {
            while begin.elapsed() < 6 * MINUTE {
                let called = service.clone().oneshot(Ask::numbered(id)).await;
                called.expect("it waits");
            }
        }
    });
    futures::future::join_all(work).await;
    let [served, refused] = *counts.lock().expect("no panic");
    let used = served as f64 / (3_000.0 * accounts as f64);
    (used, refused as f64 / served as f64)
}

#[tokio::test(start_paused = true)]
async fn each_account_finds_its_own_quota_with_rests_that_are_hinted_and_without() {
    for (hint, least) in [(None, 0.97), (Some(SECOND), 0.95)] {
        let layer = layer(accounts(2, &sought(1.0)));
        let (used, refused) = saturate(&layer, 2, hint).await;
        let of = format!("{hint:?}: used {used}, refused {refused}");
        assert!((least..1.03).contains(&used), "{of}");
        assert!(refused < 0.01, "{of}");
        for rate in rates(&layer.handle()) {
            assert!((8.5..11.5).contains(&rate), "{rate}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_hint_rests_an_eighth_where_the_rate_is_sought() {
    for (quota, rests) in [
        (sought(1_000.0), 125..=140),
        (per_second(1_000), 1_000..=1_100),
    ] {
        let calls = Arc::new(Mutex::new(0));
        let (server, log) = server(move |ask| {
            let mut calls = calls.lock().expect("no panic");
            *calls += 1;
            if *calls == 1 {
                say(ask, Verdict::Throttled)
            } else {
                ok(ask)
            }
        });
        let service = layer(accounts(1, &quota)).layer(server);
        for id in 0..2 {
            service
                .clone()
                .oneshot(Ask::numbered(id))
                .await
                .expect("it answers");
        }
        assert!(rests.contains(&log.whole()[1]), "{:?}", log.whole());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_the_same_search_keeps_what_was_learned() {
    let (server, _) = server(|ask| say(ask, Verdict::Throttled));
    let layer = layer(accounts(1, &sought(40.0)));
    let (service, handle) = (layer.layer(server), layer.handle());
    service
        .clone()
        .oneshot(Ask::numbered(0))
        .await
        .expect("it answers");
    let learned = rates(&handle);
    assert_eq!(learned, [19.0]);
    handle.reload(accounts(1, &sought(40.0)));
    assert_eq!(rates(&handle), learned);
    handle.reload(accounts(1, &sought(30.0)));
    assert_eq!(rates(&handle), [30.0]);
}

#[tokio::test(start_paused = true)]
async fn growth_is_bounded_for_each_account_and_a_refusal_for_it_is_told() {
    let ramp = Ramp::above_per_minute(600);
    let quota = built(Quota::builder().ramp(Unit::REQUESTS, ramp));
    let refuses = Arc::new(Mutex::new(false));
    let asked = Arc::clone(&refuses);
    let (server, log) = server(move |ask| match *asked.lock().expect("no panic") {
        true => hinted(ask, Verdict::RampLimit, SECOND),
        false => ok(ask),
    });
    let layer = layer(accounts(1, &quota));
    let (service, handle) = (layer.layer(server), layer.handle());
    let begin = Instant::now();
    while begin.elapsed() < MINUTE {
        service
            .clone()
            .oneshot(Ask::numbered(0))
            .await
            .expect("it answers");
    }
    assert!((580..=600).contains(&log.calls()), "{}", log.calls());
    let ramp = || {
        let scopes = handle.scopes();
        let (unit, ramp) = &scopes[0].classes()[0].ramps()[0];
        assert_eq!(*unit, Unit::REQUESTS);
        ramp.clone()
    };
    let before = ramp().allowed();
    *refuses.lock().expect("no panic") = true;
    let refused = service
        .clone()
        .oneshot(Ask::numbered(1))
        .await
        .expect("it answers");
    assert_eq!(
        refused.outcome,
        Outcome::new(Verdict::RampLimit).after(SECOND)
    );
    assert!(ramp().allowed() < 0.76 * before && ramp().held_until().is_some());
    sleep(SECOND).await;
    assert_idle(&handle);
}
