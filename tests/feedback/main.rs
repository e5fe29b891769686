//! The feedback path over HTTP: guards in bodies, with the allocations counted.
#![cfg(feature = "http")]

mod script;

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Empty, Full};
use tower_relay::{
    http::{Http, Report, Reported, ResponseBody, UntilHead},
    outcome::{Ending, Outcome, Usage, Verdict},
    protocol::{Guard, Protocol},
};

use self::script::{Heard, Recorder, Script, Step, script};

fn usage(output: u64) -> Usage {
    Usage::UNKNOWN.input_tokens(3).output_tokens(output)
}

type Polled<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

fn poll<B: Body + Unpin>(body: &mut B) -> Polled<B> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(body).poll_frame(&mut cx)
}

/// Polls until the body ends, fails or waits.
fn drain<B: Body + Unpin>(body: &mut B) {
    while let Poll::Ready(Some(Ok(_))) = poll(body) {}
}

fn opaque<'a, B: Body>(body: B, heard: &'a RefCell<Vec<Heard>>) -> ResponseBody<B, Recorder<'a>> {
    ResponseBody::new(body, Recorder::new(heard))
}

fn reported<'a, B: Body + Report>(
    body: B,
    heard: &'a RefCell<Vec<Heard>>,
) -> ResponseBody<B, Recorder<'a>, Reported> {
    ResponseBody::new(body, Recorder::new(heard))
}

const COMPLETE: Heard = Heard::Finished(Ending::complete(Usage::UNKNOWN));
const PARTIAL: Heard = Heard::Finished(Ending::UNKNOWN);

#[test]
fn a_body_that_is_empty_from_the_start_releases_at_once() {
    let heard = RefCell::default();
    let body = opaque(Empty::<Bytes>::new(), &heard);
    assert_eq!(*heard.borrow(), [COMPLETE]);
    drop(body);
    assert_eq!(heard.borrow().len(), 1);
}

#[test]
fn the_frame_after_which_nothing_comes_releases() {
    let heard = RefCell::default();
    let mut body = opaque(Full::new(Bytes::from_static(b"all")), &heard);
    assert!(heard.borrow().is_empty());
    assert!(poll(&mut body).is_ready());
    assert_eq!(*heard.borrow(), [COMPLETE]);
    drain(&mut body);
    drop(body);
    assert_eq!(heard.borrow().len(), 1);
}

#[test]
fn the_end_of_a_stream_that_did_not_foresee_it_releases() {
    let heard = RefCell::default();
    let mut body = opaque(
        script([Step::Data("a"), Step::Wait, Step::Data("b")]),
        &heard,
    );
    drain(&mut body);
    drain(&mut body);
    assert_eq!(*heard.borrow(), [COMPLETE]);
}

#[test]
fn nothing_is_released_while_the_stream_runs() {
    let heard = RefCell::default();
    let mut body = opaque(
        script([Step::Data("a"), Step::Wait, Step::Data("b")]),
        &heard,
    );
    drain(&mut body);
    assert!(heard.borrow().is_empty());
}

#[test]
fn trailers_release() {
    let heard = RefCell::default();
    let mut body = opaque(
        script([Step::Data("a"), Step::Trailers, Step::Wait]),
        &heard,
    );
    assert!(poll(&mut body).is_ready());
    assert!(heard.borrow().is_empty());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
    assert_eq!(*heard.borrow(), [COMPLETE]);
}

#[test]
fn an_error_is_a_partial_answer_and_the_servers_fault() {
    let heard = RefCell::default();
    let mut body = opaque(script([Step::Data("a"), Step::Fail]), &heard);
    drain(&mut body);
    let failure = Outcome::new(Verdict::ServerFault);
    assert_eq!(
        *heard.borrow(),
        [Heard::Finished(Ending::UNKNOWN.failed(failure))]
    );
}

#[test]
fn a_dropped_body_is_a_partial_answer() {
    let heard = RefCell::default();
    let mut body = opaque(script([Step::Data("a"), Step::Data("b")]), &heard);
    let _ = poll(&mut body);
    drop(body);
    drop(opaque(script([]), &heard));
    assert_eq!(*heard.borrow(), [PARTIAL, PARTIAL]);
}

#[test]
fn a_body_whose_poll_panics_releases_the_guard_once() {
    for reporting in [false, true] {
        let heard = RefCell::default();
        let steps = script([Step::Data("a"), Step::Panic]);
        let result = catch_unwind(AssertUnwindSafe(|| {
            if reporting {
                drain(&mut reported(steps, &heard));
            } else {
                drain(&mut opaque(steps, &heard));
            }
        }));
        assert!(result.is_err());
        assert_eq!(*heard.borrow(), [Heard::Released]);
    }
}

#[test]
fn the_body_is_passed_on_as_it_is() {
    let heard = RefCell::default();
    let mut body = opaque(script([Step::Data("a"), Step::Wait, Step::Fail]), &heard);
    assert_eq!(body.size_hint().exact(), Some(77));
    assert!(!body.is_end_stream());
    let frame = poll(&mut body);
    assert!(matches!(frame, Poll::Ready(Some(Ok(f))) if f.data_ref().is_some_and(|d| d == "a")));
    assert!(poll(&mut body).is_pending());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err("reset")))));
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

type Log = RefCell<Vec<Heard>>;

/// Three guards of three layers around one reporting body, as three stacked layers leave it.
fn nested<'a>(body: Script, heard: &'a [Log; 3]) -> impl Body<Data = Bytes> + Report + Unpin + 'a {
    let [first, second, third] = heard;
    reported(reported(reported(body, first), second), third)
}

fn logs() -> [Log; 3] {
    std::array::from_fn(|_| RefCell::new(Vec::with_capacity(4)))
}

fn all_heard(logs: &[Log; 3], ending: Ending) {
    for log in logs {
        assert_eq!(*log.borrow(), [Heard::Finished(ending)]);
    }
}

#[test]
fn three_guards_hear_the_usage_of_a_complete_stream() {
    let heard = logs();
    drain(&mut nested(
        script(["a", "b", "[done]"].map(Step::Data)),
        &heard,
    ));
    all_heard(&heard, Ending::complete(usage(30)));
}

#[test]
fn three_guards_hear_the_usage_when_the_end_is_foreseen() {
    let heard = logs();
    let mut steps = script(["a", "[done]"].map(Step::Data));
    steps.foresees = true;
    let mut body = nested(steps, &heard);
    let _ = poll(&mut body);
    let _ = poll(&mut body);
    all_heard(&heard, Ending::complete(usage(20)));
}

#[test]
fn three_guards_hear_what_was_seen_of_a_dropped_stream() {
    let heard = logs();
    let mut body = nested(script(["a", "b", "[done]"].map(Step::Data)), &heard);
    let _ = poll(&mut body);
    drop(body);
    all_heard(&heard, Ending::partial(usage(10)));
}

#[test]
fn three_guards_hear_of_an_error_inside_the_stream() {
    let heard = logs();
    drain(&mut nested(
        script(["a", "[error]"].map(Step::Data)),
        &heard,
    ));
    let failure = Outcome::new(Verdict::Overloaded);
    all_heard(&heard, Ending::partial(usage(20)).failed(failure));
}

#[test]
fn an_error_that_was_not_reported_is_the_servers_fault() {
    let heard = logs();
    drain(&mut nested(script([Step::Data("a"), Step::Fail]), &heard));
    let failure = Outcome::new(Verdict::ServerFault);
    all_heard(&heard, Ending::partial(usage(10)).failed(failure));
}

#[test]
fn a_reported_error_stands_when_the_stream_breaks_after_it() {
    let heard = logs();
    drain(&mut nested(
        script([Step::Data("[error]"), Step::Fail]),
        &heard,
    ));
    let failure = Outcome::new(Verdict::Overloaded);
    all_heard(&heard, Ending::partial(usage(10)).failed(failure));
}

#[test]
fn an_answer_that_was_complete_stays_so_whatever_follows() {
    let broken = logs();
    drain(&mut nested(
        script([Step::Data("[done]"), Step::Fail]),
        &broken,
    ));
    all_heard(&broken, Ending::complete(usage(10)));

    let dropped = logs();
    let mut body = nested(script([Step::Data("[done]"), Step::Wait]), &dropped);
    let _ = poll(&mut body);
    drop(body);
    all_heard(&dropped, Ending::complete(usage(10)));
}

#[test]
fn a_stream_without_its_terminal_event_is_not_complete() {
    let heard = logs();
    drain(&mut nested(script([Step::Data("a")]), &heard));
    all_heard(&heard, Ending::partial(usage(10)));
}

fn hold<P, B, G>(protocol: P, response: Response<B>, guard: G) -> P::Response<G>
where
    P: Protocol<Request<()>, Response<B>>,
    G: Guard,
{
    protocol.hold(response, guard)
}

#[test]
fn a_guard_until_the_head_is_released_before_the_body() {
    let heard = RefCell::default();
    let response = hold(UntilHead, Response::new("body"), Recorder::new(&heard));
    assert_eq!(*heard.borrow(), [COMPLETE]);
    assert_eq!(*response.body(), "body");
}

/// A request as clients send it, with six headers and a body.
fn request() -> Request<Full<Bytes>> {
    Request::post("https://api.example/v1/messages")
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("user-agent", "test")
        .header("authorization", "Bearer REDACTED")
        .header("x-request-id", "1")
        .header("accept-encoding", "gzip")
        .body(Full::from("{}"))
        .expect("it is a valid request")
}

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn a_stream_under_three_guards_allocates_nothing() {
    for dropped in [false, true] {
        let heard = logs();
        let body = script(["a", "b", "[done]"].map(Step::Data));
        let count = allocations(|| {
            let mut body = nested(body, &heard);
            let _ = poll(&mut body);
            if !dropped {
                drain(&mut body);
            }
        });
        assert_eq!(count, 0);
        all_heard(
            &heard,
            match dropped {
                true => Ending::partial(usage(10)),
                false => Ending::complete(usage(30)),
            },
        );
    }
}

#[test]
fn a_success_passes_the_protocol_without_an_allocation() {
    let heard = RefCell::new(Vec::with_capacity(2));
    let mut request = request();
    let mut response = Response::new(script([Step::Data("a")]));
    let count = allocations(|| {
        pass(&Http, &mut request, &mut response);
        pass(&Reported, &mut request, &mut response);
        drain(hold(Http, response, Recorder::new(&heard)).body_mut());
    });
    assert_eq!(count, 0);
    assert!(request.extensions().is_empty());
    assert_eq!(*heard.borrow(), [COMPLETE]);
}

fn pass<P, Q, R>(protocol: &P, request: &mut Q, response: &mut R)
where
    P: Protocol<Q, R>,
{
    let _ = (
        protocol.cost(request),
        protocol.deadline(request),
        protocol.idempotency(request),
    );
    protocol.set_resends(request, 0);
    assert_eq!(protocol.resends(request), 0);
    let outcome = protocol.classify(Ok(response));
    assert!(outcome.is_success());
    protocol.annotate(response, outcome);
}

#[test]
fn a_failures_head_is_read_without_an_allocation() {
    let response = Response::builder()
        .status(429)
        .header("date", "Tue, 26 Mar 2024 19:59:59 GMT")
        .header("x-ratelimit-remaining-tokens", "0")
        .header("x-ratelimit-reset-tokens", "6m0s")
        .header("anthropic-ratelimit-output-tokens-remaining", "0")
        .header(
            "anthropic-ratelimit-output-tokens-reset",
            "2024-03-26T20:00:00Z",
        )
        .header("ratelimit", "\"a\";r=0;t=20")
        .body(())
        .expect("it is a valid response");
    let count = allocations(|| {
        let outcome = tower_relay::http::classify_head(response.status(), response.headers());
        assert!(outcome.hint().is_some());
    });
    assert_eq!(count, 0);
}

#[test]
fn a_guarded_body_is_send_and_sync_where_its_parts_are() {
    fn check<T: Send + Sync + Unpin>() {}

    struct Quiet;
    impl Guard for Quiet {
        fn finish(self, _: Ending) {}
    }
    check::<ResponseBody<Full<Bytes>, Quiet>>();
    check::<ResponseBody<Full<Bytes>, Quiet, Http>>();
    check::<ResponseBody<Script, Quiet, Reported>>();
}

#[test]
fn allocations_are_really_counted() {
    let mut response = Response::new(());
    let outcome = Outcome::new(Verdict::Throttled);
    let count = allocations(|| {
        let annotate = Protocol::<Request<()>, Response<()>>::annotate;
        annotate(&UntilHead, &mut response, outcome);
    });
    assert!(count > 0);
}
