//! Answers that go on after their head.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};
use tower_relay::{
    circuit_breaker::{CircuitBreakerHandle, CircuitBreakerLayer, ResponseFuture},
    error::BoxError,
    http::{Http, Report, Reported, ResponseBody},
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::breaker::State,
};

use crate::support::*;

type Request = http::Request<()>;
type Body = BoxBody<Bytes, BoxError>;

/// What a server does after its head.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Whole,
    BreaksOff,
}

fn body(rest: Rest) -> Body {
    let first = Ok(Frame::data(Bytes::from_static(b"first ")));
    let last = match rest {
        Rest::Whole => Ok(Frame::data(Bytes::from_static(b"last"))),
        Rest::BreaksOff => Err("connection reset".into()),
    };
    BodyExt::boxed(StreamBody::new(stream::iter([first, last])))
}

#[derive(Clone)]
struct Server(Rest);

impl Service<Request> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        std::future::ready(Ok(http::Response::new(body(self.0))))
    }
}

fn http() -> (CircuitBreakerLayer<Http>, CircuitBreakerHandle) {
    let config = plain().build().expect("it is valid");
    let layer = CircuitBreakerLayer::http(config);
    let handle = layer.handle();
    (layer, handle)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_after_a_200_counts_as_a_failure() {
    let (layer, handle) = http();
    let service = layer.layer(Server(Rest::BreaksOff));
    for n in 0..5 {
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.calls(), snapshot.failures()), (n, n));
        let response = service
            .clone()
            .oneshot(Request::default())
            .await
            .expect("a head");
        assert_eq!(handle.snapshot().failures(), n, "the head says nothing yet");
        assert!(response.into_body().collect().await.is_err());
    }
    // Successes between would break the row, so each of these is one call.
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls(), snapshot.failures()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_off_open_it() {
    let config = plain().no_conditions().failure_ratio(0.5, 5);
    let layer = CircuitBreakerLayer::http(config.build().expect("it is valid"));
    let service = layer.layer(Server(Rest::BreaksOff));
    for _ in 0..5 {
        let response = service
            .clone()
            .oneshot(Request::default())
            .await
            .expect("a head");
        drop(response.into_body().collect().await);
    }
    assert_eq!(layer.handle().snapshot().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_and_a_dropped_one_leave_a_success_a_success() {
    let (layer, handle) = http();
    let whole = layer.layer(Server(Rest::Whole));
    for _ in 0..10 {
        let response = whole
            .clone()
            .oneshot(Request::default())
            .await
            .expect("a head");
        let bytes = response.into_body().collect().await.expect("a body");
        assert_eq!(bytes.to_bytes(), "first last");
    }
    for rest in [Rest::Whole, Rest::BreaksOff] {
        let service = layer.layer(Server(rest));
        for _ in 0..10 {
            let response = service
                .clone()
                .oneshot(Request::default())
                .await
                .expect("a head");
            let mut body = response.into_body();
            assert!(body.frame().await.expect("a frame").is_ok());
            drop(body);
        }
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls(), snapshot.failures()), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probes_answer_that_breaks_off_opens_it_again_or_counts_once_it_is_closed() {
    for (successes, state, failures) in [(2, State::Open, 0), (1, State::Closed, 1)] {
        let config = plain().probes(1).successes(successes);
        let layer = CircuitBreakerLayer::http(config.build().expect("it is valid"));
        let handle = layer.handle();
        let down = layer.layer(tower::service_fn(async |_: Request| {
            Err::<http::Response<Body>, BoxError>("connection refused".into())
        }));
        for _ in 0..5 {
            drop(down.clone().oneshot(Request::default()).await);
        }
        tokio::time::sleep(ms(5_000)).await;
        let service = layer.layer(Server(Rest::BreaksOff));
        let probe = service.oneshot(Request::default()).await.expect("a head");
        assert!(probe.into_body().collect().await.is_err());
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.state(), snapshot.failures()), (state, failures));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_earlier_state_that_breaks_off_decides_nothing() {
    let (layer, handle) = http();
    let service = layer.layer(Server(Rest::BreaksOff));
    let mut responses = Vec::new();
    for _ in 0..10 {
        responses.push(
            service
                .clone()
                .oneshot(Request::default())
                .await
                .expect("a head"),
        );
    }
    handle.reset();
    for response in responses {
        assert!(response.into_body().collect().await.is_err());
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.calls()), (State::Closed, 0));
}

/// A body that reads its own stream: it ended with an error event.
struct Reporting(Full<Bytes>, Ending);

impl http_body::Body for Reporting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

impl Report for Reporting {
    fn report(&self) -> Ending {
        self.1
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_event_inside_a_200_counts_by_what_it_says() {
    for (verdict, failures) in [
        (Verdict::Overloaded, 1),
        (Verdict::ServerFault, 1),
        (Verdict::Throttled, 0),
    ] {
        let layer = CircuitBreakerLayer::default().protocol(Reported);
        let service = layer.layer(tower::service_fn(move |_: Request| {
            let ending = Ending::complete(Usage::UNKNOWN).failed(Outcome::new(verdict));
            let body = Reporting(Full::new(Bytes::from_static(b"event: error")), ending);
            std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
        }));
        let response = service.oneshot(Request::default()).await.expect("a head");
        response.into_body().collect().await.expect("a body");
        let snapshot = layer.handle().snapshot();
        assert_eq!(
            (snapshot.calls(), snapshot.failures()),
            (1, failures),
            "{verdict:?}"
        );
    }
}

#[test]
fn the_body_is_send_and_sync_and_boxes() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<ResponseBody<Full<Bytes>, tower_relay::circuit_breaker::Permit>>();
    shared::<ResponseFuture<Server, Request, Http>>();
    let (layer, _) = http();
    drop(BoxCloneService::new(layer.layer(Server(Rest::Whole))));
}
