//! A client that plays scripts, and bodies that tell how they are polled.
#![allow(dead_code, reason = "it is shared by several tests")]

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep};
use tower::Service;
use tower_relay::outcome::Outcome;

pub(crate) const ANTHROPIC: &str = "/v1/messages";

#[derive(Clone)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers,
    Pause(Duration),
    /// Nothing more comes, and no end.
    Never,
    Fail,
}

pub(crate) fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

pub(crate) const fn pause(millis: u64) -> Step {
    Step::Pause(Duration::from_millis(millis))
}

/// What became of a body.
#[derive(Debug, Default)]
pub(crate) struct Log {
    polls: AtomicU32,
    dropped: AtomicBool,
}

impl Log {
    pub(crate) fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed)
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A body that plays its steps.
#[derive(Debug)]
pub(crate) struct Steps {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    pub(crate) log: Arc<Log>,
    /// Whether it says that its last frame is the last.
    foresees: bool,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

impl Steps {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            sleep: None,
            log: Arc::default(),
            foresees: false,
        }
    }
}

impl Body for Steps {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let this = &mut *self;
        this.log.polls.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            return Poll::Ready(match this.steps.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Step::Trailers) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", 7.into());
                    Some(Ok(Frame::trailers(trailers)))
                }
                Some(Step::Fail) => Some(Err("reset")),
                Some(Step::Never) => {
                    this.steps.push_front(Step::Never);
                    return Poll::Pending;
                }
                Some(Step::Pause(time)) => {
                    this.sleep = Some(Box::pin(tokio::time::sleep(time)));
                    continue;
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.foresees && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(left.sum())
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.log.dropped.store(true, Ordering::Relaxed);
    }
}

/// One answer of a client.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Response<Steps>);

pub(crate) fn answer(status: u16, kind: &str, steps: impl IntoIterator<Item = Step>) -> Answer {
    let response = Response::builder()
        .status(status)
        .header("content-type", kind);
    Answer(response.body(Steps::new(steps)).expect("a valid response"))
}

pub(crate) fn json(status: u16, body: &'static str) -> Answer {
    answer(status, "application/json", [data(body)])
}

pub(crate) fn events(steps: impl IntoIterator<Item = Step>) -> Answer {
    answer(200, "text/event-stream", steps)
}

impl Answer {
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        let value = http::HeaderValue::from_static(value);
        self.0.headers_mut().insert(name, value);
        self
    }

    /// What a layer inside has found out.
    pub(crate) fn known(mut self, outcome: Outcome) -> Self {
        self.0.extensions_mut().insert(outcome);
        self
    }

    pub(crate) fn foreseen(mut self) -> Self {
        self.0.body_mut().foresees = true;
        self
    }

    /// The same answer, for another call.
    pub(crate) fn again(&self) -> Self {
        let mut response = Response::new(Steps::new(self.0.body().steps.clone()));
        *response.status_mut() = self.0.status();
        *response.headers_mut() = self.0.headers().clone();
        Self(response)
    }

    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.0.body().log)
    }
}

/// A client that gives its answers in turn, and writes down when and with which key it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(Duration, HeaderMap)>>>,
    start: Instant,
}

impl Client {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::default(),
            start: Instant::now(),
        }
    }

    /// The milliseconds at which it was asked.
    pub(crate) fn asked(&self) -> Vec<u128> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().map(|(at, _)| at.as_millis()).collect()
    }

    /// What was in this header of each request.
    pub(crate) fn seen(&self, name: &str) -> Vec<String> {
        let asked = self.asked.lock().expect("not poisoned");
        let text = |headers: &HeaderMap| {
            let value = headers.get(name).map(|value| value.to_str());
            value.and_then(Result::ok).unwrap_or("").to_owned()
        };
        asked.iter().map(|(_, headers)| text(headers)).collect()
    }
}

impl<Q> Service<Request<Q>> for Client {
    type Response = Response<Steps>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<Steps>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let seen = (self.start.elapsed(), request.headers().clone());
        self.asked.lock().expect("not poisoned").push(seen);
        let answer = self.answers.lock().expect("not poisoned").pop_front();
        std::future::ready(answer.map(|answer| answer.0).ok_or("no answer is left"))
    }
}

pub(crate) fn request(body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://localhost{ANTHROPIC}"));
    request.body(Full::from(body)).expect("a valid request")
}

/// All that a body carries: data, then `#` for trailers, `!` for an error.
pub(crate) async fn read<B>(body: B) -> String
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = body;
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Err(_) => text.push('!'),
            Ok(frame) => match frame.into_data() {
                Ok(data) => text.push_str(std::str::from_utf8(&data).expect("a test's text")),
                Err(_) => text.push('#'),
            },
        }
    }
    text
}

pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
