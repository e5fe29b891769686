//! Bodies that take their time.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::{
    client::{send, soon},
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
