//! A place is held as long as its answer lasts.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    error::BoxError,
    http::{Report, Reported},
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::limit::{Sample, Signal, When},
};

use crate::support::*;

type Frames = BoxBody<Bytes, Infallible>;

fn answering(
    body: impl Fn() -> Frames + Clone + Send + Sync,
) -> impl Service<Request<()>, Response = Response<Frames>, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<()>| std::future::ready(Ok(Response::new(body()))))
}

/// A stream that has sent this and stays open.
fn open(frames: Vec<Frame<Bytes>>) -> Frames {
    let frames = stream::iter(frames.into_iter().map(Ok));
    let open = futures::StreamExt::chain(frames, stream::pending());
    BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(open))))
}

/// The stream is made for the test and never shared.
struct SyncStream(
    Pin<Box<dyn stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>,
);

impl stream::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_open_streams_at_limit_one_are_impossible() {
    let layer = AdaptiveConcurrencyLayer::http(fixed(1));
    let service = layer.layer(answering(|| open(Vec::new())));
    let mut calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(service.clone().oneshot(Request::new(()))))
        .collect();
    for left in (0..20).rev() {
        settle().await;
        let snapshot = layer.handle().snapshot();
        assert_eq!((snapshot.active(), snapshot.waiting()), (1, left));
        assert_eq!(calls.iter().filter(|call| call.is_finished()).count(), 1);
        let first = calls.remove(0);
        drop(first.await.expect("no panic").expect("served"));
    }
    assert_idle(&layer.handle());
    assert_eq!(layer.handle().snapshot().peak_active(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_release_at_once() {
    let layer = AdaptiveConcurrencyLayer::http(fixed(1));
    let inner = service_fn(async |request: Request<StatusCode>| {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = *request.body();
        Ok::<_, Infallible>(response)
    });
    let service = layer.layer(inner);
    let mut kept = Vec::new();
    for (method, code) in [
        (Method::HEAD, StatusCode::OK),
        (Method::GET, StatusCode::NO_CONTENT),
        (Method::GET, StatusCode::NOT_MODIFIED),
        (Method::POST, StatusCode::OK),
    ] {
        let mut request = Request::new(code);
        *request.method_mut() = method;
        kept.push(service.clone().oneshot(request).await.expect("served"));
        assert_idle(&layer.handle());
    }
    assert_eq!(layer.handle().snapshot().completed(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_releases_before_the_end_is_asked_for() {
    let layer = AdaptiveConcurrencyLayer::http(fixed(1));
    let service = layer.layer(answering(|| Full::new(Bytes::from("all")).boxed()));
    let response = service.oneshot(Request::new(())).await.expect("served");
    assert_eq!(layer.handle().snapshot().active(), 1);
    let mut body = response.into_body();
    body.frame().await.expect("one").expect("data");
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn trailers_release_though_the_stream_stays_open() {
    let layer = AdaptiveConcurrencyLayer::http(fixed(1));
    let service = layer.layer(answering(|| {
        let data = Frame::data(Bytes::from("some"));
        open(vec![data, Frame::trailers(HeaderMap::new())])
    }));
    let response = service.oneshot(Request::new(())).await.expect("served");
    let mut body = response.into_body();
    body.frame().await.expect("one").expect("data");
    assert_eq!(layer.handle().snapshot().active(), 1);
    let frame = body.frame().await.expect("another").expect("trailers");
    assert!(frame.is_trailers());
    assert_idle(&layer.handle());
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_in_its_middle_lets_the_next_in() {
    let layer = AdaptiveConcurrencyLayer::http(fixed(1));
    let service = layer.layer(answering(|| open(vec![Frame::data(Bytes::from("some"))])));
    let first = service.clone().oneshot(Request::new(())).await;
    let mut body = first.expect("served").into_body();
    body.frame().await.expect("one").expect("data");
    let next = tokio::spawn(service.clone().oneshot(Request::new(())));
    settle().await;
    assert!(!next.is_finished());
    drop(body);
    drop(next.await.expect("no panic").expect("served"));
    assert_idle(&layer.handle());
}

/// So many words, one every 100 ms, each of them a token.
struct Words {
    left: u64,
    said: u64,
    pause: Pin<Box<Sleep>>,
}

impl Words {
    fn new(left: u64) -> Self {
        Self {
            left,
            said: 0,
            pause: Box::pin(sleep(ms(100))),
        }
    }
}

impl Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.pause.as_mut().poll(cx));
        self.pause = Box::pin(sleep(ms(100)));
        self.left -= 1;
        self.said += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from("word ")))))
    }
}

impl Report for Words {
    fn report(&self) -> Ending {
        let usage = Usage::UNKNOWN.output_tokens(self.said);
        match self.left {
            0 => Ending::complete(usage),
            _ => Ending::partial(usage),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reported_body_gives_its_latency_and_size_to_who_learns_at_the_end() {
    let recorder = Recorder::new(1, When::End);
    let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Reported);
    let service = layer.layer(service_fn(async |words: Request<u64>| {
        Ok::<_, Infallible>(Response::new(Words::new(*words.body())))
    }));
    for words in [3, 7] {
        let response = service.clone().oneshot(Request::new(words)).await;
        response.expect("served").collect().await.expect("read");
    }
    let broken_off = service.clone().oneshot(Request::new(9)).await;
    let mut body = broken_off.expect("served").into_body();
    body.frame().await.expect("one").expect("data");
    drop(body);
    let heard: Vec<_> = recorder
        .heard()
        .iter()
        .map(|s| (s.to_end().map(whole), s.known_size()))
        .collect();
    assert_eq!(heard, [(Some(300), Some(3)), (Some(700), Some(7))]);
    assert_idle(&layer.handle());
}

/// An answer that says in its middle that there was no room for it after all.
struct Breaking(Verdict);

impl Body for Breaking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err("it says so in an event".into())))
    }
}

impl Report for Breaking {
    fn report(&self) -> Ending {
        Ending::partial(Usage::UNKNOWN).failed(Outcome::new(self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_in_mid_stream_is_a_loss_and_no_other_failure_there_is() {
    for when in [When::FirstByte, When::End] {
        for (verdict, late) in [
            (Verdict::Overloaded, Some(Signal::Loss)),
            (Verdict::Throttled, Some(Signal::Loss)),
            (Verdict::ServerFault, None),
            (Verdict::CallerFault, None),
        ] {
            let recorder = Recorder::new(1, when);
            let layer = AdaptiveConcurrencyLayer::new(recorder.clone()).protocol(Reported);
            let service = layer.layer(service_fn(async |request: Request<Verdict>| {
                sleep(ms(100)).await;
                Ok::<_, Infallible>(Response::new(Breaking(*request.body())))
            }));
            let response = service.oneshot(Request::new(verdict)).await;
            let mut body = response.expect("it begins well").into_body();
            sleep(ms(400)).await;
            body.frame().await.expect("one").expect_err("it breaks");
            drop(body);
            let heard = recorder.heard();
            let signals: Vec<_> = heard.iter().map(Sample::signal).collect();
            if when == When::FirstByte {
                let told: Vec<_> = [Some(Signal::Success), late]
                    .into_iter()
                    .flatten()
                    .collect();
                assert_eq!(signals, told, "{verdict:?}");
            } else {
                assert_eq!(signals, [Signal::from(verdict)], "told once, at the end");
            }
            if late.is_some() {
                let last = heard.last().expect("it was told");
                assert_eq!(last.to_end().map(whole), Some(500));
            }
            assert_idle(&layer.handle());
        }
    }
}
