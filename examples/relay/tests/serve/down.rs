//! A provider that is down.

use std::time::Duration;

use embedded_provider::{Capacity, Faults, Latency, Limits, Provider, Scope};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, post, soon},
    relay::Relay,
};

const DOWN: Faults = Faults {
    server_error_share: 0.0,
    overloaded_share: 1.0,
    stream_error_share: 0.0,
};

async fn provider(faults: Faults) -> Provider {
    let scope = Scope::new("org", ["secret-one", "secret-two"], Limits::default());
    let provider = Provider::builder().scope(scope).faults(faults);
    provider.start().await.expect("a port")
}

fn config(provider: &Provider, top: &str, lines: &str) -> String {
    let url = provider.url();
    format!(
        "{top}\n[[upstream]]\nname = \"pretend\"\nprovider = \"anthropic\"\nbase_url = \"{url}\"\n\
         {lines}\n[[upstream.scope]]\nname = \"org-a\"\n\
         key = [{{ alias = \"a1\", value = \"secret-one\" }}]\n"
    )
}

async fn ask(url: String) -> Answer {
    let question = json!({
        "model": "some-model",
        "max_tokens": 5,
        "messages": [{ "role": "user", "content": "Hello!" }],
    });
    post(url, &question).await
}

async fn status(relay: &Relay) -> Value {
    let status = get(relay.at("/-/status")).await;
    status.json()["upstreams"][0].clone()
}

#[tokio::test]
async fn it_is_called_until_the_breaker_opens_and_not_after() {
    let provider = provider(DOWN).await;
    let breaker =
        "[breaker]\nconsecutive_failures = 2\nshortest_open = \"1h\"\nlongest_open = \"1h\"";
    let config = config(&provider, breaker, "max_wait = \"5s\"");
    let (relay, _file) = Relay::with(&config).await;
    for _ in 0..5 {
        let answer = ask(relay.at("/v1/messages")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let (kind, message) = answer.refusal();
        assert_eq!(kind, "down");
        let beginning = "upstream `pretend`: circuit breaker refused: the endpoint is down";
        assert!(message.starts_with(beginning), "{message}");
        let wait = answer.headers["retry-after"].to_str().expect("ASCII");
        let wait: u64 = wait.parse().expect("whole seconds");
        assert!((3_500..=3_960).contains(&wait), "{wait}");
    }
    assert_eq!(provider.counters().calls, 2);

    let status = status(&relay).await;
    let breaker = &status["breakers"][0];
    assert_eq!(breaker["host"], provider.addr().to_string());
    assert_eq!(breaker["state"], "open");
    assert_eq!(breaker["failure_ratio"], 1.0);
    assert_eq!(breaker["refused"], 5);
    let until = breaker["retried_in_ms"].as_f64().expect("a number");
    assert!((3.5e6..=3.96e6).contains(&until), "{until}");
}

#[tokio::test]
async fn who_asked_while_it_was_down_is_answered_when_it_is_back() {
    let provider = provider(DOWN).await;
    let breaker =
        "[breaker]\nconsecutive_failures = 1\nshortest_open = \"200ms\"\nlongest_open = \"200ms\"";
    let (relay, _file) = Relay::with(&config(&provider, breaker, "")).await;
    let calls: Vec<_> = (0..4)
        .map(|_| tokio::spawn(ask(relay.at("/v1/messages"))))
        .collect();
    let is_open = async {
        while status(&relay).await["breakers"][0]["refused"] == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(is_open).await;
    provider.set_faults(Faults::default()).expect("none");
    for call in calls {
        let answer = call.await.expect("no panic");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert_eq!(provider.counters().answered, 4);
    let is_closed = async {
        while status(&relay).await["breakers"][0]["state"] != "closed" {
            // Three successes close it.
            assert_eq!(ask(relay.at("/v1/messages")).await.status, StatusCode::OK);
        }
    };
    soon(is_closed).await;
}

#[tokio::test]
async fn status_shows_the_limit_of_calls_in_flight_and_neither_where_they_are_off() {
    let provider = provider(Faults::default()).await;
    let (relay, _file) = Relay::with(&config(&provider, "", "")).await;
    assert_eq!(ask(relay.at("/v1/messages")).await.status, StatusCode::OK);
    let shown = status(&relay).await;
    let concurrency = json!({ "limit": 64, "in_flight": 0 });
    assert_eq!(shown["concurrency"], concurrency);
    let host = provider.addr().to_string();
    let breaker = json!({
        "host": host, "state": "closed", "retried_in_ms": null, "failure_ratio": 0.0, "calls": 1,
        "refused": 0,
    });
    assert_eq!(shown["breakers"], json!([breaker]));

    let off = "[breaker]\nenabled = false\n[concurrency]\nenabled = false";
    let (relay, _file) = Relay::with(&config(&provider, off, "")).await;
    assert_eq!(ask(relay.at("/v1/messages")).await.status, StatusCode::OK);
    let shown = status(&relay).await;
    assert_eq!(
        (&shown["concurrency"], &shown["breakers"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn more_calls_than_may_be_in_flight_wait_for_those_before_them() {
    let provider = provider(Faults::default()).await;
    let one = Capacity {
        at_once: 1,
        queue: 0,
    };
    provider.set_capacity(Some(one)).expect("a valid capacity");
    let one_at_a_time = "concurrency = { max = 1 }";
    let (relay, _file) = Relay::with(&config(&provider, "", one_at_a_time)).await;
    let calls: Vec<_> = (0..10)
        .map(|_| tokio::spawn(ask(relay.at("/v1/messages"))))
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic").status, StatusCode::OK);
    }
    assert_eq!(provider.counters().calls, 10);
}

/// Tokens granted to calls that then wait for a place would all be sent at once.
#[tokio::test]
async fn what_waited_for_a_place_in_flight_is_sent_no_faster_than_the_quota_allows() {
    let limits = Limits {
        requests_per_minute: Some(6_000),
        burst: Duration::from_millis(250),
        ..Limits::default()
    };
    let slow = Latency {
        first_token: Duration::from_millis(400),
        ..Latency::default()
    };
    let provider = Provider::builder()
        .scope(Scope::new("org", ["secret-one"], limits))
        .latency(slow);
    let provider = provider.start().await.expect("a port");
    let eight = "concurrency = { min = 8, max = 8 }";
    let quota = "[[upstream.scope.quota]]\nrequests_per_minute = 6_000\n";
    let (relay, _file) = Relay::with(&(config(&provider, "", eight) + quota)).await;
    let calls: Vec<_> = (0..60)
        .map(|_| tokio::spawn(ask(relay.at("/v1/messages"))))
        .collect();
    let is_full = async {
        while provider.counters().calls < 8 {
            tokio::task::yield_now().await;
        }
    };
    soon(is_full).await;
    provider.set_latency(Latency::default());
    for call in calls {
        assert_eq!(call.await.expect("no panic").status, StatusCode::OK);
    }
    let counters = provider.counters();
    assert_eq!(counters.answered, 60);
    // What the headers show is believed by and by, and may cost a refusal or two; all that waited
    // at once would be more than twenty.
    assert!(counters.refused <= 2, "{counters:?}");
}

#[tokio::test]
async fn a_host_that_is_down_costs_no_wait_where_another_can_serve() {
    let (down, up) = (provider(DOWN).await, provider(Faults::default()).await);
    let breaker =
        "[breaker]\nconsecutive_failures = 1\nshortest_open = \"1h\"\nlongest_open = \"1h\"";
    let other = format!(
        "[[upstream.scope]]\nname = \"org-b\"\nbase_url = \"{}\"\n\
         key = [{{ alias = \"b1\", value = \"secret-two\" }}]\n",
        up.url()
    );
    let (relay, _file) = Relay::with(&(config(&down, breaker, "") + &other)).await;
    for _ in 0..10 {
        // It would come too late if it waited for the breaker.
        let answer = ask(relay.at("/v1/messages")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert!(down.counters().calls <= 1, "{:?}", down.counters());
    assert_eq!(up.counters().answered, 10);
    let shown = status(&relay).await;
    let hosts = shown["breakers"].as_array().expect("a list");
    assert_eq!(hosts.len(), 2);
}
