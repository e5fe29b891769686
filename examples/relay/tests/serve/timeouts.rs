//! Providers that take too long.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    client::{get, post, send, soon},
    echo::{Echo, Event},
    relay::{File, Relay},
};

async fn relay(echo: &Echo, timeouts: &str) -> (Relay, File) {
    let config = format!("[timeouts]\n{timeouts}\n{}", echo.config("anthropic", ""));
    Relay::with(&config).await
}

/// How the calls with the one key ended.
async fn tally(relay: &Relay) -> Value {
    let status = get(relay.at("/-/status")).await.json();
    status["upstreams"][0]["scopes"][0]["totals"].clone()
}

fn stream(relay: &Relay) -> Request<Full<Bytes>> {
    let request = Request::post(relay.at("/stream"));
    request.body(Full::default()).expect("a request")
}

#[tokio::test]
async fn no_answer_in_time_is_a_504_and_a_fault_of_the_providers() {
    let mut echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "first_byte = \"200ms\"").await;
    let answer = post(relay.at("/hang"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.json()["error"]["type"], "timeout_error");
    let expected = "upstream `echo`: no answer within 200ms (timeouts.first_byte)";
    assert_eq!(
        answer.refusal(),
        ("timed_out".to_owned(), expected.to_owned())
    );
    // It may have acted, and would be paid for twice.
    assert_eq!(answer.headers["x-should-retry"], "false");
    assert!(matches!(echo.event().await, Event::Hangs));
    assert!(
        matches!(echo.event().await, Event::Gone),
        "it was not called off"
    );
    assert_eq!(tally(&relay).await, json!({ "server_fault": 1 }));
    assert!(echo.events.try_recv().is_err(), "it was sent again");
}

#[tokio::test]
async fn a_stream_that_says_no_more_in_time_breaks_off_and_never_ends_well() {
    let mut echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "idle = \"200ms\"\nfirst_byte = \"off\"").await;
    let mut body = send(stream(&relay)).await.into_body();
    let mut frames = echo.frames().await;
    for _ in 0..3 {
        // Three pauses that are together longer than one may be.
        tokio::time::sleep(Duration::from_millis(120)).await;
        frames
            .send_data("on and on".into())
            .await
            .expect("it is read");
        assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_ok()));
    }
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_err()));
    soon(async { while frames.send_data("more".into()).await.is_ok() {} }).await;
    assert_eq!(tally(&relay).await, json!({ "server_fault": 1 }));
}

#[tokio::test]
async fn a_slow_reader_is_no_pause_of_the_providers() {
    let mut echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "idle = \"200ms\"").await;
    let mut body = send(stream(&relay)).await.into_body();
    let mut frames = echo.frames().await;
    let sender = tokio::spawn(async move {
        // More than fits on the way.
        for _ in 0..256 {
            frames
                .send_data(vec![b'.'; 1 << 16].into())
                .await
                .expect("it is read");
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sender.is_finished(), "it was read ahead of its reader");
    let mut length = 0;
    while let Some(frame) = soon(body.frame()).await {
        length += frame.expect("it is whole").into_data().expect("data").len();
    }
    assert_eq!(length, 256 << 16);
    sender.await.expect("all was sent");
}

#[tokio::test]
async fn all_together_may_take_only_so_long() {
    let mut echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "total = \"300ms\"").await;
    let answer = post(relay.at("/hang"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    let expected = "upstream `echo`: not done within 300ms (timeouts.total)";
    assert_eq!(answer.refusal().1, expected);
    assert!(matches!(echo.event().await, Event::Hangs));
    assert!(matches!(echo.event().await, Event::Gone));

    let mut body = send(stream(&relay)).await.into_body();
    let mut frames = echo.frames().await;
    frames.send_data("half".into()).await.expect("it is read");
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_ok()));
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_err()));
}

#[tokio::test]
async fn a_call_that_cannot_be_served_in_all_its_time_is_refused_at_once() {
    let echo = Echo::start().await;
    let quota = "[[upstream.scope.quota]]\nrequests_per_minute = 2\n";
    let config = echo.config("openai", "timeouts = { total = \"10s\" }") + quota;
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    let answer = tokio::time::timeout(Duration::from_secs(5), get(relay.at("/v1/x"))).await;
    let answer = answer.expect("it does not wait for nothing");
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn no_connection_in_time_is_a_504_that_may_be_tried_again() {
    // It accepts, and says nothing to whoever begins with TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("it is bound").port();
    let echo = Echo::start().await;
    let lines = "timeouts = { connect = \"50ms\" }\nmax_wait = \"2s\"";
    let config = echo.config("openai", lines);
    let config = config.replace(&echo.url(), &format!("https://127.0.0.1:{port}"));
    let (relay, _file) = Relay::with(&("[breaker]\nenabled = false\n".to_owned() + &config)).await;
    let answer = post(relay.at("/v1/x"), &json!({})).await;
    assert_eq!(
        answer.status,
        StatusCode::GATEWAY_TIMEOUT,
        "{}",
        answer.text
    );
    let expected = "upstream `echo`: no connection within 50ms (timeouts.connect)";
    assert_eq!(answer.refusal().1, expected);
    assert!(!answer.headers.contains_key("x-should-retry"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_reload_changes_them_for_calls_to_come() {
    let mut echo = Echo::start().await;
    let (mut relay, file) = relay(&echo, "").await;
    let kept = tokio::spawn(send(stream(&relay)));
    let mut frames = echo.frames().await;
    file.write(&format!(
        "[timeouts]\nfirst_byte = \"200ms\"\n{}",
        echo.config("anthropic", "")
    ));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let answer = post(relay.at("/hang"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    let mut body = kept.await.expect("no panic").into_body();
    frames.send_data("kept".into()).await.expect("it is read");
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_ok()));
}
