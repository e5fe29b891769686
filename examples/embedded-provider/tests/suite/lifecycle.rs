//! Calls in flight, faults, the counters' sum, configuration errors and the end of the server.

use crate::client::{call, eventually, open, post, prompt, provider, requests, send, start};
use embedded_provider::{Builder, Faults, InvalidConfig, Latency, Limits, Provider, Scope};
use http_body_util::BodyExt;
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// So slow that no test sees the end of an answer.
const ENDLESS: Latency = Latency {
    first_token: Duration::from_secs(3_600),
    per_token: Duration::ZERO,
};

#[tokio::test]
async fn call_is_in_flight_until_its_body_ends_or_its_client_leaves() {
    let limits = Limits {
        max_in_flight: Some(1),
        ..Limits::default()
    };
    let provider = start(provider(limits).latency(ENDLESS)).await;
    for stream in [true, false] {
        let request = post("key-a", &prompt(10, stream));
        let client = tokio::spawn({
            let provider = provider.clone();
            async move {
                let mut body = open(&provider, request).await.into_body();
                while body.frame().await.is_some() {}
            }
        });
        eventually(|| provider.counters().in_flight == 1).await;
        let refused = send(&provider, post("key-a", &prompt(10, false))).await;
        assert_eq!(
            (refused.status.as_u16(), refused.header("retry-after")),
            (429, "1")
        );

        client.abort();
        eventually(|| provider.counters().in_flight == 0).await;
    }
    let counters = provider.counters();
    assert_eq!(
        (
            counters.disconnected,
            counters.peak_in_flight,
            counters.output_tokens_produced
        ),
        (2, 1, 0)
    );

    provider.set_latency(Latency::default());
    for _ in 0..5 {
        assert_eq!(
            call(&provider, "key-a").await,
            200,
            "a client that read the end may go on at once"
        );
    }
    assert_eq!(provider.counters().disconnected, 2);
}

#[tokio::test]
async fn counters_add_up() {
    let faults = Faults {
        server_error_share: 0.2,
        overloaded_share: 0.2,
        stream_error_share: 0.2,
    };
    let provider = start(provider(requests(40)).faults(faults)).await;
    let calls = (0..60).map(|number| {
        let provider = provider.clone();
        let key = if number % 6 == 0 { "key-z" } else { "key-a" };
        let request = post(key, &prompt(number % 5 * 10, number % 2 == 0));
        tokio::spawn(async move { send(&provider, request).await.status.as_u16() })
    });
    let mut statuses = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        statuses.push(call.await.expect("no call panics"));
    }
    let count = |status| statuses.iter().filter(|seen| **seen == status).count() as u64;
    let counters = provider.counters();
    assert_eq!(counters.calls, 60);
    assert_eq!(
        (counters.answered, counters.refused),
        (count(200), count(429))
    );
    assert_eq!((counters.unauthorized, counters.invalid), (10, count(400)));
    assert_eq!(
        (counters.server_errors, counters.overloaded),
        (count(500), count(529))
    );
    let failed = counters.refused + counters.unauthorized + counters.invalid;
    let admitted = counters.answered + counters.server_errors + counters.overloaded;
    assert_eq!(counters.calls, admitted + failed);
    assert_eq!(counters.requests_charged, admitted);
    assert_eq!((counters.in_flight, counters.disconnected), (0, 0));
    let scope = provider
        .scope_counters("org-a")
        .expect("a configured scope");
    assert_eq!(scope.calls, 50);
    assert_eq!(scope.requests_charged, counters.requests_charged);
}

#[tokio::test]
async fn faults_follow_the_seed_and_their_share() {
    let faults = Faults {
        server_error_share: 0.25,
        overloaded_share: 0.25,
        ..Faults::default()
    };
    let run = async |seed| {
        let provider = start(provider(Limits::default()).seed(seed).faults(faults)).await;
        let mut statuses = Vec::new();
        for _ in 0..100 {
            statuses.push(call(&provider, "key-a").await);
        }
        statuses
    };
    let statuses = run(1).await;
    for fault in [500, 529] {
        let count = statuses.iter().filter(|status| **status == fault).count();
        assert!((10..=40).contains(&count), "{count} of 100 are {fault}");
    }
    assert_eq!(statuses, run(1).await);
    assert_ne!(statuses, run(2).await);
}

#[tokio::test]
async fn injected_failures_have_their_form_and_are_charged() {
    let provider = start(provider(requests(9))).await;
    let whole = |server, overloaded| Faults {
        server_error_share: server,
        overloaded_share: overloaded,
        ..Faults::default()
    };
    for (faults, status, kind) in [
        (whole(1.0, 0.0), 500, "api_error"),
        (whole(0.0, 1.0), 529, "overloaded_error"),
    ] {
        provider.set_faults(faults).expect("valid shares");
        let answer = send(&provider, post("key-a", &prompt(10, true))).await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.json()["error"]["type"].as_str()
            ),
            (status, Some(kind))
        );
    }
    assert_eq!(provider.counters().requests_charged, 2);

    provider
        .set_faults(Faults {
            stream_error_share: 1.0,
            ..Faults::default()
        })
        .expect("valid shares");
    let answer = send(&provider, post("key-a", &prompt(10, true))).await;
    let events = answer.events();
    assert_eq!(answer.status, 200);
    assert_eq!(
        events.last().map(|event| &event["error"]["type"]),
        Some(&"overloaded_error".into())
    );
    assert!(events.iter().all(|event| event["type"] != "message_stop"));
    let counters = provider.counters();
    assert_eq!(
        (
            counters.answered,
            counters.stream_errors,
            counters.disconnected
        ),
        (1, 1, 0)
    );
    assert_eq!(
        call(&provider, "key-a").await,
        200,
        "only streams break off"
    );

    let wrong = provider
        .set_faults(whole(0.6, 0.6))
        .expect_err("more than all");
    assert_eq!(wrong.field(), "overloaded_share");
}

#[tokio::test]
async fn answers_from_before_a_reset_do_not_count_after_it() {
    let provider = start(provider(Limits::default()).latency(ENDLESS)).await;
    let answer = open(&provider, post("key-a", &prompt(10, true))).await;
    provider.reset_counters();
    assert_eq!(
        (provider.counters().calls, provider.counters().in_flight),
        (0, 1)
    );
    drop(answer);
    eventually(|| provider.counters().in_flight == 0).await;
    assert_eq!(provider.counters().disconnected, 0);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_server_and_connections() {
    let provider = start(provider(Limits::default()).latency(ENDLESS)).await;
    let addr = provider.addr();
    assert_eq!(provider.url(), format!("http://{addr}"));
    let body = open(&provider, post("key-a", &prompt(10, true)))
        .await
        .into_body();
    drop(provider.clone());
    TcpStream::connect(addr)
        .await
        .expect("a clone is not the last handle");
    drop(provider);
    body.collect().await.expect_err("the stream is cut off");
    TcpStream::connect(addr).await.expect_err("nobody listens");
}

#[tokio::test]
async fn wrong_configuration_is_one_error_that_names_the_field() {
    let org = |name: &str, keys: &[&str], limits| Scope::new(name, keys.to_vec(), limits);
    let some = Limits::default();
    let base = || provider(some);
    let share = |share| Faults {
        server_error_share: share,
        ..Faults::default()
    };
    let limited = |change: fn(&mut Limits)| {
        let mut limits = some;
        change(&mut limits);
        provider(limits)
    };
    let cases: [(Builder, &str); 12] = [
        (Provider::builder(), "scope"),
        (base().time_scale(0.0), "time_scale"),
        (base().time_scale(f64::INFINITY), "time_scale"),
        (base().scope(org("org-a", &["key-b"], some)), "name"),
        (base().scope(org("org-b", &["key-a"], some)), "keys"),
        (base().scope(org("org-b", &[], some)), "keys"),
        (base().scope(org("org-b", &[""], some)), "keys"),
        (
            limited(|limits| limits.requests_per_minute = Some(0)),
            "requests_per_minute",
        ),
        (
            limited(|limits| limits.max_in_flight = Some(0)),
            "max_in_flight",
        ),
        (limited(|limits| limits.burst = Duration::ZERO), "burst"),
        (base().faults(share(-0.1)), "server_error_share"),
        (base().faults(share(f64::NAN)), "server_error_share"),
    ];
    for (builder, field) in cases {
        let error = builder.start().await.expect_err(field);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let config = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<InvalidConfig>());
        assert_eq!(config.map(InvalidConfig::field), Some(field));
        assert!(
            error.to_string().contains(field) && error.to_string().contains(';'),
            "a fix in: {error}"
        );
        assert!(!format!("{error:?} {error}").contains("key-"));
    }
}

#[tokio::test]
async fn keys_are_never_in_debug_output() {
    let builder = provider(Limits::default());
    let configured = format!("{builder:?}");
    let provider = builder.start().await.expect("a valid configuration");
    let running = format!("{provider:?} {:?}", provider.counters());
    assert!(configured.contains("1 redacted") && running.contains("org-a"));
    assert!(!configured.contains("key-a") && !running.contains("key-a"));
}
