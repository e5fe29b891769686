//! Request bodies that come as a stream, sent again through a retry layer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_relay::{
    call::{Facts, FactsLayer, RequestLayer, facts_fn},
    error::BoxError,
    http::{ReplayBody, ReplayBuffer},
    policy::{Cost, Reason},
    retry::RetryLayer,
};

use crate::support::{Step, Steps, data, pause};

type Upload = Request<ReplayBody<Steps>>;

/// What a client does with an attempt: reads so many frames of its body, or all of them, then
/// answers with a status or fails.
#[derive(Clone, Copy)]
struct Conduct {
    frames: Option<usize>,
    status: Option<u16>,
    /// Leaves the body to a task that goes on reading it.
    goes_on: bool,
}

const fn after(frames: usize, status: Option<u16>) -> Conduct {
    Conduct {
        frames: Some(frames),
        status,
        goes_on: false,
    }
}

const ALL: Conduct = Conduct {
    frames: None,
    status: Some(200),
    goes_on: false,
};

#[derive(Clone)]
struct Server {
    conduct: Arc<Mutex<VecDeque<Conduct>>>,
    /// What arrived of each attempt.
    arrived: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(conduct: impl IntoIterator<Item = Conduct>) -> Self {
        Self {
            conduct: Arc::new(Mutex::new(conduct.into_iter().collect())),
            arrived: Arc::default(),
        }
    }

    fn arrived(&self) -> Vec<String> {
        self.arrived.lock().expect("not poisoned").clone()
    }
}

async fn read(body: &mut ReplayBody<Steps>, frames: Option<usize>, text: &mut String) {
    let mut left = frames.unwrap_or(usize::MAX);
    while left > 0 {
        left -= 1;
        match body.frame().await {
            None => return text.push('.'),
            Some(Err(_)) => return text.push('!'),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => text.push_str(std::str::from_utf8(&data).expect("text")),
                Err(_) => text.push('#'),
            },
        }
    }
}

impl Service<Upload> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Upload) -> Self::Future {
        let this = self.clone();
        let conduct = this.conduct.lock().expect("not poisoned").pop_front();
        Box::pin(async move {
            let conduct = conduct.expect("it is expected");
            let mut body = request.into_body();
            let mut text = String::new();
            read(&mut body, conduct.frames, &mut text).await;
            this.arrived.lock().expect("not poisoned").push(text);
            if conduct.goes_on {
                tokio::spawn(async move { read(&mut body, None, &mut String::new()).await });
            }
            let status = conduct.status.ok_or("connection reset")?;
            let response = Response::builder().status(status);
            Ok(response.body(Full::default())?)
        })
    }
}

fn upload(steps: impl IntoIterator<Item = Step>) -> Request<Steps> {
    Request::put("/upload")
        .body(Steps::new(steps))
        .expect("a valid request")
}

fn steps() -> [Step; 5] {
    [data("a"), pause(5), data("b"), data("c"), Step::Trailers]
}

#[tokio::test(start_paused = true)]
async fn a_streaming_body_that_the_client_left_half_way_is_sent_again_whole() {
    let server = Server::new([after(0, None), after(1, None), after(2, Some(503)), ALL]);
    let retry = RetryLayer::http().replay(ReplayBuffer::default());
    let service = retry.layer(server.clone());
    let response = service.oneshot(upload(steps())).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(server.arrived(), ["", "a", "ab", "abc#."]);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_bound_is_sent_once_and_its_failure_returned_as_it_was() {
    let server = Server::new([after(3, Some(503))]);
    let retry = RetryLayer::http().replay(ReplayBuffer::new(100));
    let handle = retry.handle();
    let service = retry.layer(server.clone());
    let response = service.oneshot(upload(steps())).await.expect("the failure");
    assert_eq!(response.status(), 503);
    assert_eq!(server.arrived(), ["abc"]);
    assert_eq!(handle.snapshot().given_up(Reason::NotReplayable), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_broke_off_is_not_sent_again() {
    let server = Server::new([after(9, Some(503))]);
    let retry = RetryLayer::http().replay(ReplayBuffer::default());
    let service = retry.layer(server.clone());
    let broken = upload([data("a"), Step::Fail]);
    let response = service.oneshot(broken).await.expect("the failure");
    assert_eq!(response.status(), 503);
    assert_eq!(server.arrived(), ["a!"]);
}

#[tokio::test(start_paused = true)]
async fn facts_travel_with_a_body_that_is_replayed() {
    let server = Server::new([after(1, Some(503)), ALL]);
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(facts_fn(|_: &Request<Steps>| {
            Facts::new(Cost::REQUEST)
        })))
        .layer(RetryLayer::http().noted().replay(ReplayBuffer::default()))
        .layer(RequestLayer)
        .service(server.clone());
    let response = service.oneshot(upload(steps())).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(server.arrived(), ["a", "abc#."]);
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_takes_nothing_from_the_next_attempt_while_the_first_is_still_sent() {
    let early = Conduct {
        goes_on: true,
        ..after(1, Some(503))
    };
    let slow = [data("a"), pause(50), data("b"), pause(50), data("c")];
    let server = Server::new([early, early, ALL]);
    let retry = RetryLayer::http().replay(ReplayBuffer::default());
    let service = retry.layer(server.clone());
    let response = service.oneshot(upload(slow)).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(server.arrived(), ["a", "a", "abc."]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_final_lets_the_upload_go_on_beyond_the_bound() {
    let early = Conduct {
        goes_on: true,
        ..after(1, Some(400))
    };
    let long = Bytes::from(vec![b'x'; 60]);
    let steps = (0..50).flat_map(|_| [Step::Data(long.clone()), pause(1)]);
    let upload = upload(steps);
    let log = Arc::clone(&upload.body().log);
    let retry = RetryLayer::http().replay(ReplayBuffer::new(100));
    let mut service = retry.layer(Server::new([early]));
    // The future is kept, as `select!` keeps those that are done.
    let ready = ServiceExt::<Request<Steps>>::ready(&mut service).await;
    let mut call = Box::pin(ready.expect("ready").call(upload));
    let response = (&mut call).await.expect("the failure");
    assert_eq!(response.status(), 400);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(log.is_dropped(), "it was sent to its end");
    drop(call);
}
