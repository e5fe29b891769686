//! Bodies that take their time.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::{
    client::{get, http2, send, soon},
    echo::{Echo, Event},
    relay::Relay,
};

fn call(relay: &Relay, path: &str) -> Request<Full<Bytes>> {
    let request = Request::post(relay.at(path));
    request.body(Full::default()).expect("a request")
}

#[tokio::test]
async fn a_frame_arrives_before_the_next_one_is_sent() {
    let mut echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let mut body = send(call(&relay, "/stream")).await.into_body();
    let mut frames = echo.frames().await;
    for sent in ["data: 1\n\n", "data: 2\n\n", ": comment\r\n"] {
        frames.send_data(sent.into()).await.expect("it is read");
        let frame = soon(body.frame()).await.expect("there is one");
        let data = frame.expect("it is whole").into_data().expect("data");
        assert_eq!(data, sent);
    }
    drop(frames);
    assert!(soon(body.frame()).await.is_none());
}

#[tokio::test]
async fn a_stream_that_breaks_off_breaks_off_on_this_side_too() {
    let mut echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let mut body = send(call(&relay, "/stream")).await.into_body();
    let mut frames = echo.frames().await;
    frames.send_data("half".into()).await.expect("it is read");
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_ok()));
    frames.abort(std::io::Error::other("it breaks"));
    assert!(soon(body.frame()).await.is_some_and(|frame| frame.is_err()));
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_queue_leaves_its_place() {
    let mut echo = Echo::start().await;
    let one = "concurrency = { min = 1, max = 1 }";
    let (relay, _file) = Relay::with(&echo.config("openai", one)).await;
    let held = tokio::spawn(send(call(&relay, "/stream")));
    let frames = echo.frames().await;
    let queue = async |field: &str, value: u64| {
        let shown = async {
            let status = get(relay.at("/-/status")).await.json();
            status["upstreams"][0]["queue"][field].as_u64()
        };
        shown.await == Some(value)
    };
    let until = async |field: &str, value: u64| {
        soon(async { while !queue(field, value).await {} }).await;
    };
    let over_http1 = tokio::spawn(send(call(&relay, "/hang")));
    let client = http2();
    let over_http2 = tokio::spawn(client.request(call(&relay, "/hang")));
    until("waiting", 2).await;
    over_http1.abort();
    until("waiting", 1).await;
    over_http2.abort();
    until("waiting", 0).await;
    assert!(queue("cancelled", 2).await);
    drop((frames, held.await));
    assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    assert!(echo.events.try_recv().is_err(), "one of them was sent");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_the_call_with_it() {
    let mut echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;

    let waiting = tokio::spawn(send(call(&relay, "/hang")));
    assert!(matches!(echo.event().await, Event::Hangs));
    waiting.abort();
    assert!(matches!(echo.event().await, Event::Gone));

    let response = send(call(&relay, "/stream")).await;
    let mut frames = echo.frames().await;
    drop(response);
    // Sooner or later nobody reads any more.
    soon(async { while frames.send_data(vec![b'.'; 1 << 16].into()).await.is_ok() {} }).await;
}
