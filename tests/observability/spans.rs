//! In whose span events are, and what the span of a call tells.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use http_body_util::BodyExt;
use metrics_util::debugging::DebugValue;
use tower::{Layer, ServiceExt};
use tower_http::trace::TraceLayer;
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    policy::limit::Fixed,
    testing::{Reply, Scripted},
};
use tracing::Instrument;

use super::{
    calls::{Stack, request},
    observed,
};

#[test]
fn events_are_in_the_span_of_the_caller_at_every_poll() {
    let (capture, _) = observed(|| async {
        let stack = Stack::new();
        // Throttled once, so that the call waits, and is polled again by a timer.
        let call = stack.call("throttle");
        call.instrument(tracing::info_span!(target: "app", "job"))
            .await;
    });
    let events = capture.events();
    let messages: Vec<_> = events.iter().map(|event| event.message()).collect();
    assert!(
        messages.contains(&"sending again after a wait"),
        "{messages:?}"
    );
    assert!(messages.contains(&"a scope has changed"), "{messages:?}");
    for event in &events {
        assert_eq!(event.spans.last(), Some(&"job"), "{event:?}");
    }
}

#[test]
fn events_of_a_call_and_of_its_body_are_in_the_span_of_a_trace_layer_around_the_stack() {
    let (capture, _) = observed(|| async {
        let stack = Stack::new();
        let traced = TraceLayer::new_for_http()
            .make_span_with(|_: &http::Request<_>| tracing::info_span!(target: "app", "request"));
        let service = traced.layer(stack.service.clone());
        let response = service
            .oneshot(request("break", "m"))
            .await
            .expect("a head");
        assert!(response.into_body().collect().await.is_err());
        // What is polled by nobody's task but the runtime's keeps it too.
        let service = traced.layer(stack.service.clone());
        let spawned = tokio::spawn(service.oneshot(request("throttle", "m")));
        let _ = spawned.await.expect("no panic");
    });
    let events = capture.events();
    let failed = events
        .iter()
        .find(|event| event.message() == "an answer failed after its head");
    assert_eq!(failed.expect("it is told").spans, ["request"]);
    assert!(events.len() > 3, "{events:#?}");
    for event in &events {
        assert_eq!(event.spans.last(), Some(&"request"), "{event:?}");
    }
}

#[test]
fn the_span_of_a_call_is_a_child_of_the_callers_and_knows_tokens_and_resends_and_failure() {
    let (capture, _) = observed(|| async {
        let stack = Stack::new();
        let job = tracing::info_span!(target: "tower_relay_test", "job");
        assert!(stack.call("well").instrument(job).await);
        assert!(!stack.call("fail").await);
    });
    let spans = capture.spans();
    let [job, well, failed] = &spans[..] else {
        panic!("three spans: {spans:#?}");
    };
    assert_eq!((job.name, well.parent), ("job", Some("job")));
    for (name, value) in [
        ("otel.name", "chat large-1"),
        ("otel.kind", "client"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "large-1"),
        ("gen_ai.usage.input_tokens", "7"),
        ("gen_ai.usage.output_tokens", "3"),
        ("server.address", "api.example.com"),
    ] {
        assert_eq!(
            well.values.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(well.values.get("error.type"), None);
    assert_eq!(well.values.get("http.request.resend_count"), None);
    assert_eq!(failed.values["error.type"], "server_fault");
    assert_eq!(failed.values["otel.status_code"], "ERROR");
    assert_eq!(failed.values["http.request.resend_count"], "1");
    assert!(well.is_closed && failed.is_closed);
}

#[test]
fn a_call_is_recorded_once_with_its_duration_its_tokens_and_the_time_to_its_head() {
    let (_, metrics) = observed(|| async {
        let stack = Stack::new();
        assert!(stack.call("well").await);
        // Dropped in the middle: it was cancelled.
        let call = stack.service.clone().oneshot(request("well", "large-2"));
        assert!(
            tokio::time::timeout(Duration::from_millis(10), call)
                .await
                .is_err()
        );
        // Two attempts of 50 ms and a wait between them.
        assert!(!stack.call("fail").await);
    });
    let values = |name: &str, label: (&str, &str)| {
        let series = metrics.iter().filter(|series| {
            let value = series.labels.get(label.0).map_or("", String::as_str);
            series.name == name && value == label.1
        });
        let values = series.flat_map(|series| match &series.value {
            DebugValue::Histogram(values) => values.iter().map(|value| value.0),
            _ => panic!("no histogram: {series:?}"),
        });
        values.collect::<Vec<f64>>()
    };
    const DURATION: &str = "gen_ai.client.operation.duration";
    assert_eq!(values(DURATION, ("error.type", "")), [0.05]);
    let cancelled = values(DURATION, ("error.type", "cancelled"));
    assert!((0.01..0.012).contains(&cancelled[0]) && cancelled.len() == 1);
    let failed = values(DURATION, ("error.type", "server_fault"));
    assert!(failed.len() == 1 && failed[0] >= 0.1, "{failed:?}");
    let first_byte = "tower_relay.call.time_to_first_byte";
    assert_eq!(values(first_byte, ("upstream", "u")), [0.05]);
    const TOKENS: &str = "gen_ai.client.token.usage";
    assert_eq!(values(TOKENS, ("gen_ai.token.type", "input")), [7.0]);
    assert_eq!(values(TOKENS, ("gen_ai.token.type", "output")), [3.0]);
}

#[test]
fn how_long_calls_waited_is_told_of_those_that_did_and_were_admitted() {
    let waited = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&waited);
    let (_, metrics) = observed(|| async move {
        let server = Scripted::new(|n: &u32| Reply::after(Duration::from_millis(100), *n));
        let layer = AdaptiveConcurrencyLayer::new(Fixed::of(1))
            .max_waiting(2)
            .on_wait(move |wait| told.lock().expect("not poisoned").push(wait));
        let service = layer.layer(server);
        // At once, after 100 ms, after 200 ms; the last is refused.
        let answers = join_all((0..4).map(|n| service.clone().oneshot(n))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    });
    let waited = waited.lock().expect("not poisoned").clone();
    assert_eq!(waited, [100, 200].map(Duration::from_millis));
    assert!(metrics.is_empty(), "what nobody publishes is not recorded");
}

#[test]
fn a_handle_publishes_what_its_layer_has_counted_by_key_and_by_verdict() {
    let (_, metrics) = observed(|| async {
        let stack = Stack::new();
        let calls = (0..20).map(|_| stack.call("well"));
        assert!(join_all(calls).await.into_iter().all(|is_well| is_well));
        assert!(!stack.call("throttle").await);
        stack.publish();
    });
    let sum = |name: &str, wanted: &[(&str, &str)]| {
        let series = metrics.iter().filter(|series| {
            let has = |(label, value): &(&str, &str)| {
                series.labels.get(*label).map_or("", String::as_str) == *value
            };
            series.name == name && wanted.iter().all(has)
        });
        let values = series.map(|series| match series.value {
            DebugValue::Counter(value) => value as f64,
            DebugValue::Gauge(value) => value.0,
            DebugValue::Histogram(_) => panic!("{series:?}"),
        });
        values.sum::<f64>()
    };
    let keys = ("layer", "key rotation");
    assert_eq!(sum("tower_relay.queue.succeeded", &[keys]), 20.0);
    assert_eq!(sum("tower_relay.key.calls", &[("error.type", "")]), 20.0);
    let throttled = sum("tower_relay.key.calls", &[("error.type", "throttled")]);
    assert_eq!(throttled, sum("tower_relay.queue.failed", &[keys]));
    assert!(throttled >= 1.0);
    let input = ("gen_ai.token.type", "input");
    assert_eq!(sum("tower_relay.key.tokens", &[input]), 140.0);
    assert_eq!(sum("tower_relay.key.state", &[("state", "usable")]), 2.0);
    assert_eq!(sum("tower_relay.key.state", &[]), 2.0, "one state each");
    assert_eq!(sum("tower_relay.scope.state", &[("state", "open")]), 2.0);
    assert_eq!(
        sum("tower_relay.breaker.state", &[("state", "closed")]),
        1.0
    );
    assert_eq!(sum("tower_relay.retry.succeeded", &[]), 20.0);
    assert_eq!(sum("tower_relay.queue.in_flight", &[]), 0.0);
    let rest = sum(
        "tower_relay.quota.rest",
        &[("gen_ai.request.model", "large-*")],
    );
    assert!(rest > 0.0, "the class that was throttled rests");
    assert_eq!(
        sum("tower_relay.quota.rest", &[("gen_ai.request.model", "*")]),
        0.0
    );
}
