//! The layers together, in the recommended order, over HTTP types and in virtual time.
#![cfg(all(feature = "rate-limit", feature = "retry", feature = "provider"))]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the paused clock and sleep on it"
)]

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneService, BoxCloneSyncService},
};
use tower_relay::{
    call::{Facts, FactsLayer, RequestLayer, facts_fn},
    error::{BoxError, Rejected},
    http::{Deadline, Report, Reported},
    outcome::{Ending, Outcome, Usage, Verdict},
    policy::{Cost, Quota, Unit},
    provider::JsonFacts,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

type Request = http::Request<Full<Bytes>>;
type Response = http::Response<Full<Bytes>>;

/// A status, and what `retry-after` says with it.
type Reply = (u16, Option<&'static str>);

/// A client that gives these statuses in turn, then 200, and writes down when it was asked.
#[derive(Clone, Default)]
struct Client {
    statuses: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<Duration>>>,
    start: Option<Instant>,
}

impl Client {
    fn new(statuses: &[Reply]) -> Self {
        Self {
            statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())),
            asked: Arc::default(),
            start: Some(Instant::now()),
        }
    }

    fn asked(&self) -> Vec<u128> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().map(Duration::as_millis).collect()
    }

    fn answer(&self) -> Response {
        let start = self.start.expect("made by new");
        let mut asked = self.asked.lock().expect("not poisoned");
        asked.push(start.elapsed());
        let next = self.statuses.lock().expect("not poisoned").pop_front();
        let (status, retry_after) = next.unwrap_or((200, None));
        let mut response = http::Response::builder().status(status);
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        response.body(Full::from("{}")).expect("a valid response")
    }
}

impl Service<Request> for Client {
    type Response = Response;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        std::future::ready(Ok(self.answer()))
    }
}

fn request(body: &'static str) -> Request {
    http::Request::post("/v1/messages")
        .body(Full::from(body))
        .expect("a valid request")
}

fn quota(requests_per_second: u64, max_in_flight: usize) -> Quota {
    Quota::builder()
        .requests_per_second(requests_per_second)
        .max_in_flight(max_in_flight)
        .build()
        .expect("a valid quota")
}

/// Polls a future that is ready at once.
fn now_or_never<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is not ready"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_admitted_and_charged_anew() {
    let client = Client::new(&[(429, Some("1")), (503, Some("1"))]);
    let limit = RateLimitLayer::http(quota(100, 5));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::http())
        .layer(limit.clone())
        .service(client.clone());
    let response = stack.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(client.asked().len(), 3);
    assert_eq!(limit.handle().snapshot().admitted(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_failed_attempt_is_free_during_the_wait() {
    let client = Client::new(&[(429, Some("60"))]);
    let limit = RateLimitLayer::http(quota(1_000, 1));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::http())
        .layer(limit.clone())
        .service(client.clone());
    let first = tokio::spawn(stack.clone().oneshot(request("{}")));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let second = stack.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(second.status(), 200);
    drop(second);
    assert!(start.elapsed() <= Duration::from_millis(2));
    assert_eq!(first.await.expect("no panic").expect("ok").status(), 200);
    let waited = client.asked()[2];
    assert!((60_000..=66_001).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_ends() {
    let client = Client::new(&[]);
    let limit = RateLimitLayer::http(quota(1_000, 1));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::http())
        .layer(limit.clone())
        .service(client);
    let response = stack.clone().oneshot(request("{}")).await.expect("ok");
    assert_eq!(limit.handle().snapshot().active(), 1);
    let waiting = tokio::spawn(stack.oneshot(request("{}")));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    assert_eq!(limit.handle().snapshot().waiting(), 1);
    response.into_body().collect().await.expect("a body");
    drop(waiting.await.expect("no panic").expect("an answer"));
    assert_eq!(limit.handle().snapshot().active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_local_refusal_is_waited_out_without_an_attempt() {
    let client = Client::new(&[]);
    let limit = RateLimitLayer::http(quota(1, 10)).max_waiting(0);
    let retry = RetryLayer::http();
    let stack = ServiceBuilder::new()
        .layer(retry.clone())
        .layer(limit)
        .service(client.clone());
    let calls = (0..8).map(|_| stack.clone().oneshot(request("{}")));
    for response in join_all(calls).await {
        assert_eq!(response.expect("waited out").status(), 200);
    }
    let snapshot = retry.handle().snapshot();
    assert_eq!(snapshot.retries(), 0);
    assert!(snapshot.waited_out() >= 7);
    assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
    let asked = client.asked();
    assert!(
        asked.windows(2).all(|pair| pair[1] - pair[0] >= 1_000),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_can_never_be_admitted_is_not_retried() {
    let client = Client::new(&[]);
    let quota = Quota::builder()
        .tokens_per_minute(100)
        .build()
        .expect("valid");
    let limit = RateLimitLayer::http(quota).cost(|_: &Request| Cost::REQUEST.input_tokens(101));
    let stack = RetryLayer::http().layer(limit.layer(client.clone()));
    let error = stack.oneshot(request("{}")).await.expect_err("too large");
    let rejected = Rejected::find(&*error).expect("a local refusal");
    assert!(matches!(rejected, Rejected::CostTooLarge(_)));
    assert_eq!(rejected.retry_after(), None);
    assert!(client.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beside_the_request_bounds_the_queue_and_the_retries() {
    let client = Client::new(&[(429, Some("8"))]);
    let limit = RateLimitLayer::http(quota(1, 10));
    let stack = RetryLayer::http().layer(limit.layer(client.clone()));
    let start = Instant::now();
    let within = |seconds| {
        let mut request = request("{}");
        let deadline = Deadline::at(start + Duration::from_secs(seconds));
        request.extensions_mut().insert(deadline);
        stack.clone().oneshot(request)
    };
    // The server's hint does not fit: the failure comes back as it was, at once.
    let response = within(5).await.expect("the response itself");
    assert_eq!(response.status(), 429);
    assert!(response.extensions().get::<Outcome>().is_some());
    assert_eq!(start.elapsed(), Duration::ZERO);
    // The queue's wait fits for three of ten, a hundredth slower since the refusal, and the others
    // are refused at once.
    let calls = (0..10).map(|_| within(4));
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(client.asked(), [0, 1_010, 2_020, 3_030]);
}

#[tokio::test(start_paused = true)]
async fn facts_are_read_once_however_often_a_call_is_sent() {
    let reads = Arc::new(AtomicU32::new(0));
    let reader = {
        let reads = Arc::clone(&reads);
        facts_fn(move |_: &Request| {
            reads.fetch_add(1, Ordering::Relaxed);
            Facts::new(Cost::REQUEST.output_tokens(70))
        })
    };
    let quota = Quota::builder().output_tokens_per_minute(6_000).build();
    let limit = RateLimitLayer::http(quota.expect("valid")).noted();
    let client = Client::new(&[(503, None), (503, None)]);
    let stack = ServiceBuilder::new()
        .layer(FactsLayer::new(reader))
        .layer(RetryLayer::http().noted())
        .layer(limit.clone())
        .layer(RequestLayer)
        .service(client.clone());
    stack.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    let asked = client.asked();
    assert_eq!(asked.len(), 3);
    // 70 tokens at 100 a second: each attempt was charged.
    assert!(asked[1] >= 700 && asked[2] >= 1_400, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_json_of_a_request_decides_what_it_costs() {
    let quota = Quota::builder()
        .input_tokens_per_minute(60_000)
        .output_tokens_per_minute(60_000)
        .burst(Unit::OUTPUT_TOKENS, 5_000)
        .burst(Unit::INPUT_TOKENS, 5_000)
        .build()
        .expect("a valid quota");
    let limit = RateLimitLayer::http(quota).noted();
    let handle = limit.handle();
    let stack = ServiceBuilder::new()
        .layer(FactsLayer::new(JsonFacts::new()))
        .layer(RetryLayer::http().noted())
        .layer(limit)
        .layer(RequestLayer)
        .service(Client::new(&[]));
    let body = r#"{"model":"m","max_tokens":800,"messages":[]}"#;
    drop(stack.oneshot(request(body)).await.expect("an answer"));
    assert_eq!(handle.available(Unit::OUTPUT_TOKENS), Some(4_200));
    assert_eq!(handle.available(Unit::INPUT_TOKENS), Some(5_000 - 11));
}

/// A body that reports, as the innermost provider layer's will.
struct Reporting {
    frames: u32,
    ending: Ending,
}

impl Body for Reporting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.frames == 0 {
            return Poll::Ready(None);
        }
        self.frames -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data")))))
    }
}

impl Report for Reporting {
    fn report(&self) -> Ending {
        self.ending
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_body_reports_settles_three_layers_at_once() {
    let usage = Usage::UNKNOWN.input_tokens(150).output_tokens(40);
    let overloaded = Outcome::new(Verdict::Overloaded);
    for (ending, is_read, left, success_share) in [
        (Ending::complete(usage), true, 1_000 - 190, 1.0),
        // Partial usage never refunds: input above the reservation is added, output stays.
        (Ending::partial(usage), true, 1_000 - 250, 1.0),
        (Ending::partial(usage), false, 1_000 - 250, 1.0),
        (
            Ending::complete(usage).failed(overloaded),
            true,
            1_000 - 190,
            0.0,
        ),
    ] {
        let layer = || {
            let quota = Quota::builder()
                .tokens_per_minute(60)
                .burst(Unit::TOKENS, 1_000)
                .build()
                .expect("a valid quota");
            RateLimitLayer::new(quota)
                .protocol(Reported)
                .cost(|_: &Request| Cost::REQUEST.input_tokens(100).output_tokens(100))
        };
        let (outer, middle, inner) = (layer(), layer(), layer());
        let client = service_fn(move |_: Request| async move {
            let body = Reporting { frames: 2, ending };
            Ok::<_, BoxError>(http::Response::new(body))
        });
        let mut stack = outer.layer(middle.layer(inner.layer(client)));
        let response = stack.ready().await.expect("ready").call(request("{}"));
        let response = response.await.expect("an answer");
        if is_read {
            response.into_body().collect().await.expect("a body");
        } else {
            drop(response);
        }
        for handle in [outer.handle(), middle.handle(), inner.handle()] {
            assert_eq!(handle.available(Unit::TOKENS), Some(left), "{ending:?}");
            assert_eq!(handle.snapshot().success_share(), Some(success_share));
            assert_eq!(handle.snapshot().active(), 0);
        }
    }
}

#[test]
fn the_layers_allocate_nothing_for_a_call_admitted_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _context = runtime.enter();
    let six_headers = || {
        let mut request = request("{}");
        for name in [
            "accept",
            "authorization",
            "content-type",
            "host",
            "te",
            "via",
        ] {
            let value = http::HeaderValue::from_static("x");
            request.headers_mut().insert(name, value);
        }
        request
    };
    #[derive(Clone)]
    struct Bare;
    impl Service<Request> for Bare {
        type Response = Response;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            let body = Full::new(Bytes::from_static(b"{}"));
            std::future::ready(Ok(http::Response::new(body)))
        }
    }

    let limit = || RateLimitLayer::http(quota(1_000_000_000, 100));
    let mut limited = limit().layer(Bare);
    let mut retried = RetryLayer::http().layer(Bare);
    let mut both = RetryLayer::http().layer(limit().layer(limit().layer(Bare)));
    let whole = |service: &mut dyn FnMut(Request)| {
        service(six_headers());
        let request = six_headers();
        allocation_counter::measure(|| service(request)).count_total
    };
    fn read<B: Body>(body: B)
    where
        B::Error: std::fmt::Debug,
    {
        let mut cx = Context::from_waker(Waker::noop());
        let mut body = pin!(body);
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            drop(frame.expect("a frame"));
        }
        assert!(body.is_end_stream());
    }
    let one = six_headers();
    let clone = allocation_counter::measure(|| drop(one.clone())).count_total;
    assert!(
        clone > 0,
        "the counter counts what the caller's own clone allocates"
    );
    let own =
        whole(&mut |request| read(now_or_never(limited.call(request)).expect("ok").into_body()));
    assert_eq!(own, 0, "rate limit");
    let own =
        whole(&mut |request| read(now_or_never(retried.call(request)).expect("ok").into_body()));
    assert_eq!(
        own, clone,
        "retry allocates the caller's clone and nothing else"
    );
    let own = whole(&mut |request| read(now_or_never(both.call(request)).expect("ok").into_body()));
    assert_eq!(own, clone, "retry and two limits");
}

#[tokio::test(start_paused = true)]
async fn the_stack_can_be_boxed_and_given_a_name() {
    type Boxed = BoxCloneSyncService<
        Request,
        http::Response<http_body_util::combinators::BoxBody<Bytes, BoxError>>,
        BoxError,
    >;
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::http())
        .layer(RateLimitLayer::http(quota(100, 5)))
        .service(Client::new(&[]));
    let boxed: Boxed = BoxCloneSyncService::new(
        stack.map_response(|response| response.map(|body| body.map_err(Into::into).boxed())),
    );
    fn is_sync<T: Send + Sync + Clone>(_: &T) {}
    is_sync(&boxed);
    let response = boxed.clone().oneshot(request("{}")).await.expect("ok");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "{}");
}

#[tokio::test(start_paused = true)]
async fn the_layers_stand_under_and_over_a_boxed_client() {
    let client: BoxCloneService<Request, Response, BoxError> =
        BoxCloneService::new(service_fn(|_: Request| -> BoxFuture<'static, _> {
            Box::pin(async { Ok(Response::new(Full::from("{}"))) })
        }));
    let stack = ServiceBuilder::new()
        .load_shed()
        .layer(RetryLayer::http())
        .layer(RateLimitLayer::http(quota(100, 5)))
        .service(client);
    // Each body is dropped as it comes, or five of them would keep all places.
    let calls = (0..20).map(|_| async {
        let answer = stack.clone().oneshot(request("{}")).await;
        answer.map(|response| response.status())
    });
    let start = Instant::now();
    for status in join_all(calls).await {
        assert_eq!(
            status.expect("never shed: the layers are always ready"),
            200
        );
    }
    assert_eq!(start.elapsed().as_millis(), 190);
}

/// As async-openai 0.43 bounds the services of `Client::with_http_service`: the request is a
/// factory that clones, the response is neither `Clone` nor anything else.
mod slot_of_async_openai {
    use super::*;

    #[derive(Clone)]
    struct Factory(u32);
    #[derive(Debug)]
    struct Opaque(u32);
    #[derive(Debug)]
    enum OpenAiError {
        Api(u16),
        Boxed(BoxError),
    }

    impl std::fmt::Display for OpenAiError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }
    impl std::error::Error for OpenAiError {}
    impl From<BoxError> for OpenAiError {
        fn from(error: BoxError) -> Self {
            Self::Boxed(error)
        }
    }

    async fn with_http_service<S>(service: S, request: u32) -> Result<Opaque, OpenAiError>
    where
        S: Service<Factory, Response = Opaque> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<OpenAiError> + Send + Sync + 'static,
    {
        service.oneshot(Factory(request)).await.map_err(Into::into)
    }

    #[tokio::test(start_paused = true)]
    async fn both_layers_fit_it_and_pass_its_errors_on() {
        let calls = Arc::new(AtomicU32::new(0));
        let client = {
            let calls = Arc::clone(&calls);
            service_fn(move |Factory(n): Factory| {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                std::future::ready(match (n, call) {
                    (7, _) => Err(OpenAiError::Api(400)),
                    (_, 0) => Err(OpenAiError::Api(529)),
                    _ => Ok(Opaque(n)),
                })
            })
        };
        let classify = |result: Result<&Opaque, &BoxError>| match result {
            Ok(_) => Outcome::SUCCESS,
            Err(error) => match error.downcast_ref() {
                Some(OpenAiError::Api(529)) => Outcome::new(Verdict::Overloaded),
                _ => Outcome::new(Verdict::CallerFault),
            },
        };
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::default().classify(classify))
            .layer(RateLimitLayer::per_second(10))
            .service(client);
        let answer = with_http_service(stack.clone(), 1).await;
        assert_eq!(answer.expect("retried").0, 1);
        let error = with_http_service(stack, 7).await.expect_err("a 400");
        let OpenAiError::Boxed(error) = error else {
            panic!("{error}");
        };
        assert!(matches!(error.downcast_ref(), Some(OpenAiError::Api(400))));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }
}
