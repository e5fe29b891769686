//! Tools the benches share: a counting allocator, a bare service, and a clock for loops.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures with the real clock"
)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use tower::Service;
use tower_relay::policy::{Quota, Unit};

/// The request of every figure.
pub type Request = http::Request<Full<Bytes>>;

/// A service that answers at once with a body of one frame: what every figure includes.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl<Req> Service<Req> for Bare {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(Ok(http::Response::new(Full::new(Bytes::from_static(
            b"{}",
        )))))
    }
}

/// A request without headers, or with the six that an API client sends.
#[must_use]
pub fn request(has_headers: bool) -> Request {
    let mut request = http::Request::new(Full::new(Bytes::from_static(b"{}")));
    *request.method_mut() = http::Method::POST;
    if has_headers {
        for (name, value) in [
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("user-agent", "bench"),
            ("authorization", "Bearer none"),
            ("x-request-id", "1"),
            ("accept-encoding", "identity"),
        ] {
            let name = http::HeaderName::from_static(name);
            let value = http::HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
    }
    request
}

/// Makes one call and reads its body to the end, all of which is ready at once.
///
/// # Panics
///
/// If anything is not ready at once, or fails.
pub fn call<S, Req, B>(service: &mut S, request: Req)
where
    S: Service<Req, Response = http::Response<B>>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else {
        panic!("the service is ready");
    };
    let future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.poll(&mut cx) else {
        panic!("the answer is ready");
    };
    let mut body = pin!(response.into_body());
    while !body.is_end_stream() {
        let Poll::Ready(frame) = body.as_mut().poll_frame(&mut cx) else {
            panic!("the body is ready");
        };
        if std::hint::black_box(frame).is_none() {
            break;
        }
    }
}

/// Nanoseconds of one `work`: the least of several rounds, which other load disturbs least.
pub fn nanos(times: u32, mut work: impl FnMut()) -> f64 {
    let rounds = (0..25).map(|_| {
        let start = Instant::now();
        for _ in 0..times {
            work();
        }
        start.elapsed().as_nanos() as f64 / f64::from(times)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// A quota that admits whatever a bench can ask for.
///
/// # Panics
///
/// Never: the quota is valid.
#[must_use]
pub fn ample() -> Quota {
    const MUCH: u64 = 1_000_000_000_000;
    Quota::builder()
        .requests_per_second(MUCH)
        .burst(Unit::REQUESTS, MUCH)
        .build()
        .expect("a valid quota")
}
