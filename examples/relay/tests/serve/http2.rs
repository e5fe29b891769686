//! HTTP/2, on either side.

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::{
    client::{Answer, get, http2, send, soon},
    echo::{Echo, Event},
    relay::Relay,
};

fn call(relay: &Relay, path: &str) -> Request<Full<Bytes>> {
    let request = Request::post(relay.at(path));
    request.body(Full::from("{}")).expect("a request")
}

#[tokio::test]
async fn a_caller_may_begin_with_either_version_on_one_port() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let response = soon(http2().request(call(&relay, "/v1/x?a=b"))).await;
    let response = response.expect("it is answered");
    assert_eq!(response.version(), Version::HTTP_2);
    let told = Answer::of(response).await.json();
    assert_eq!(told["target"], "/v1/x?a=b");
    assert_eq!(told["body"], "{}");
    let headers = told["headers"].as_array().expect("a list");
    assert!(headers.contains(&"via: 2.0 tower-relay".into()), "{told}");
    assert!(headers.contains(&format!("host: {}", echo.host()).into()));
    assert_eq!(
        send(call(&relay, "/v1/x")).await.version(),
        Version::HTTP_11
    );
}

#[tokio::test]
async fn a_caller_of_http2_that_goes_away_takes_its_call_alone_with_it() {
    let mut echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let client = http2();
    let stays = soon(client.request(call(&relay, "/stream"))).await;
    let mut stays = stays.expect("it is answered").into_body();
    let mut kept = echo.frames().await;

    let waiting = tokio::spawn(client.request(call(&relay, "/hang")));
    assert!(matches!(echo.event().await, Event::Hangs));
    waiting.abort();
    assert!(matches!(echo.event().await, Event::Gone), "before its head");

    let goes = soon(client.request(call(&relay, "/stream"))).await;
    let mut frames = echo.frames().await;
    drop(goes);
    soon(async { while frames.send_data(vec![b'.'; 1 << 16].into()).await.is_ok() {} }).await;

    kept.send_data("still here".into())
        .await
        .expect("it is read");
    let frame = soon(stays.frame()).await.expect("there is one");
    assert_eq!(
        frame.expect("it is whole").into_data().expect("data"),
        "still here"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_breaks_off_over_http2_too() {
    let mut echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let response = soon(http2().request(call(&relay, "/stream"))).await;
    let mut body = response.expect("it is answered").into_body();
    let mut frames = echo.frames().await;
    frames.send_data("half".into()).await.expect("it is read");
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_ok()));
    frames.abort(std::io::Error::other("it breaks"));
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_err()));
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_lets_streams_of_http2_end_and_then_closes_the_connection() {
    let mut echo = Echo::start().await;
    let (mut relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let client = http2();
    let response = soon(client.request(call(&relay, "/stream"))).await;
    let mut body = response.expect("it is answered").into_body();
    let mut frames = echo.frames().await;
    relay.signal("TERM").await;
    relay.hears("relay: stopping").await;
    frames.send_data("late".into()).await.expect("it is read");
    let frame = soon(body.frame()).await.expect("there is one");
    assert_eq!(
        frame.expect("it is whole").into_data().expect("data"),
        "late"
    );
    drop(frames);
    let rest = soon(body.collect()).await.expect("it ends as it should");
    assert!(rest.to_bytes().is_empty());
    assert_eq!(relay.line().await, "relay: stopped");
    assert_eq!(relay.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_provider_is_called_over_http2_where_that_is_wanted() {
    let echo = Echo::start().await;
    for (lines, version) in [("", "HTTP/1.1"), ("http2 = true", "HTTP/2.0")] {
        let (relay, _file) = Relay::with(&echo.config("openai", lines)).await;
        assert_eq!(get(relay.at("/version")).await.text, version);
        let told = get(relay.at("/v1/x")).await.json();
        let headers = told["headers"].as_array().expect("a list");
        assert!(headers.contains(&"authorization: Bearer secret-a".into()));
    }
}

#[tokio::test]
async fn no_connection_of_http2_has_more_calls_than_it_carries() {
    let mut echo = Echo::start().await;
    let lines = "http2 = true\nstreams_per_connection = 2\nconcurrency = { enabled = false }";
    let (relay, _file) = Relay::with(&echo.config("openai", lines)).await;
    let mut calls = Vec::new();
    for expected in [1, 1, 2, 2, 3] {
        calls.push(tokio::spawn(send(call(&relay, "/hang"))));
        assert!(matches!(echo.event().await, Event::Hangs));
        assert_eq!(echo.connections(), expected);
    }
    // One that has ended leaves its place to the next.
    calls[0].abort();
    assert!(matches!(echo.event().await, Event::Gone));
    let is_free = async {
        while in_flight(&relay).await != 4 {
            tokio::task::yield_now().await;
        }
    };
    soon(is_free).await;
    for _ in 0..2 {
        calls.push(tokio::spawn(send(call(&relay, "/hang"))));
        assert!(matches!(echo.event().await, Event::Hangs));
    }
    assert_eq!(echo.connections(), 3);
    for call in calls {
        call.abort();
    }
}

async fn in_flight(relay: &Relay) -> u64 {
    let status: Value = get(relay.at("/-/status")).await.json();
    let in_flight = status["upstreams"][0]["scopes"][0]["in_flight"].as_u64();
    in_flight.expect("a number")
}

#[tokio::test]
async fn trailers_are_passed_on() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "http2 = true")).await;
    let response = soon(http2().request(call(&relay, "/trailers"))).await;
    let response = response.expect("it is answered");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["trailer"], "x-sum");
    let body = soon(response.into_body().collect()).await.expect("it ends");
    let trailers = body.trailers().expect("there are some");
    assert_eq!(trailers["x-sum"], "7");
}
