//! What the layer allocates for a success: nothing.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_relay::provider::{Profile, ProviderLayer};

fn now_or_never<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is not ready"),
    }
}

/// Allocations of a call, and of the same call without the layer.
fn count(body: &'static str, headers: &[(&'static str, &'static str)], read: bool) -> (u64, u64) {
    let client = service_fn(|head: Response<()>| {
        std::future::ready(Ok::<_, &str>(head.map(|()| Full::<Bytes>::from(body))))
    });
    let bare = service_fn(move |mut request: Request<Option<Response<()>>>| {
        let head = request.body_mut().take().expect("sent once");
        let mut client = client;
        client.call(head)
    });
    let request = || {
        let mut head = Response::new(());
        for (name, value) in headers {
            head.headers_mut()
                .insert(*name, HeaderValue::from_static(value));
        }
        Request::new(Some(head))
    };
    fn drain<B: Body + Unpin>(mut body: B) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(&mut cx) {}
    }
    let mut layered = ProviderLayer::new(Profile::anthropic()).layer(bare);
    let mut bare = bare;
    let (first, second) = (request(), request());
    let with = allocation_counter::measure(|| {
        let response = now_or_never(layered.call(first)).expect("an answer");
        if read {
            drain(response.into_body());
        }
    });
    let without = allocation_counter::measure(|| {
        let response = now_or_never(bare.call(second)).expect("an answer");
        if read {
            drain(response.into_body());
        }
    });
    (with.count_total, without.count_total)
}

#[test]
fn a_success_costs_no_allocation_and_an_opaque_answer_none_to_its_end() {
    let (with, without) = count("{}", &[("content-type", "application/json")], false);
    assert_eq!(with, without);
    let opaque = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let (with, without) = count("{\"usage\":{}}", &opaque, true);
    assert_eq!(with, without);
    let (with, without) = count("hello", &[], true);
    assert_eq!(with, without);
}

#[test]
fn an_answer_that_is_read_costs_one_allocation_and_those_of_its_longest_event() {
    let json = [("content-type", "application/json")];
    let stream = [("content-type", "text/event-stream")];
    // Nothing has come, so there is nothing to read.
    let (with, without) = count("", &json, true);
    assert_eq!(with, without);
    // The reader's state, and the value as far as it is read.
    let (with, without) = count("{\"usage\":{\"input_tokens\":1}}", &json, true);
    assert_eq!(with, without + 2);
    let events = "data: {\"type\":\"ping\"}\n\ndata: {\"type\":\"message_stop\"}\n\n\
                  data: {\"type\":\"ping\"}\n\n";
    let (with, without) = count(events, &stream, true);
    // The second event is the longest.
    assert_eq!(with, without + 3);
}

#[test]
fn a_body_is_small_enough_to_be_moved_through_the_layers() {
    let body = size_of::<tower_relay::provider::ResponseBody<Full<Bytes>>>();
    assert!(body <= 160, "{body} bytes");
}

#[test]
fn the_future_of_a_call_has_no_room_for_what_only_failures_need() {
    type Bare = std::future::Ready<Result<Response<Full<Bytes>>, &'static str>>;
    type Layered = tower_relay::provider::ResponseFuture<Bare, Full<Bytes>>;
    let (bare, layered) = (size_of::<Bare>(), size_of::<Layered>());
    assert!(layered <= bare + 80, "{layered} bytes around {bare}");
    println!(
        "future: {layered} bytes around {bare}; body: {}",
        size_of::<tower_relay::provider::ResponseBody<Full<Bytes>>>()
    );
}
