//! Successes: what passes, and what is reported.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_relay::{
    http::Report,
    outcome::{Completeness, Ending, Outcome, Usage, Verdict},
    provider::{Profile, Provider, ProviderLayer, ResponseBody, ResponseFuture},
};

use crate::support::{Answer, Client, Step, Steps, answer, data, events, json, request};

async fn send(answer: Answer) -> http::Response<ResponseBody<Steps>> {
    let service = ProviderLayer::new(Profile::generic()).layer(Client::new([answer]));
    service.oneshot(request("{}")).await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn a_success_goes_on_before_anything_of_its_body_is_read() {
    let answer = events([data("data: 1\n\n")]);
    let log = answer.log();
    let response = send(answer).await;
    assert_eq!(log.polls(), 0);
    assert!(response.extensions().get::<Outcome>().is_none());
}

#[tokio::test(start_paused = true)]
async fn every_frame_passes_in_the_poll_in_which_it_came_and_none_is_copied() {
    let bytes = [
        Bytes::from("data: {\"a\":1}\n"),
        Bytes::from("\nda"),
        Bytes::from("ta: "),
    ];
    let steps = bytes.iter().cloned().map(Step::Data);
    let answer = events(steps.chain([Step::Trailers]));
    let log = answer.log();
    let mut body = send(answer).await.into_body();
    assert_eq!(body.size_hint().exact(), Some(21));
    let mut cx = Context::from_waker(Waker::noop());
    for (polls, bytes) in (1..).zip(&bytes) {
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
            panic!("a frame was held back");
        };
        let data = frame.into_data().expect("data");
        assert_eq!((data.as_ptr(), data.len()), (bytes.as_ptr(), bytes.len()));
        assert_eq!(log.polls(), polls);
    }
    let trailers = body.frame().await.expect("trailers").expect("no error");
    assert_eq!(trailers.into_trailers().expect("trailers")["x-sum"], "7");
    assert!(body.frame().await.is_none());
    assert_eq!(log.polls(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_body_reads_no_further() {
    let answer = events([data("data: 1\n\n"), data("data: 2\n\n")]);
    let log = answer.log();
    let mut body = send(answer).await.into_body();
    body.frame().await.expect("a frame").expect("no error");
    drop(body);
    tokio::task::yield_now().await;
    assert!(log.is_dropped());
    assert_eq!(log.polls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_and_what_follows_pass_as_they_are() {
    let mut body = send(events([Step::Fail, data("more")])).await.into_body();
    assert!(matches!(body.frame().await, Some(Err("reset"))));
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_a_partial_answer_and_the_servers_fault() {
    for steps in [vec![Step::Fail], vec![data("{\"usage\""), Step::Fail]] {
        let answer = answer(200, "application/json", steps);
        let mut body = send(answer).await.into_body();
        assert_eq!(body.report(), Ending::UNKNOWN);
        while body.frame().await.is_some() {}
        assert_eq!(body.report().completeness(), Completeness::Partial);
        let failure = body.report().failure().expect("it broke");
        assert_eq!(failure.verdict(), Verdict::ServerFault);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_a_content_encoding_is_opaque_and_ends_with_its_bytes() {
    let usage = "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
    for coding in ["gzip", "br", "identity, zstd"] {
        let answer = json(200, usage).header("content-encoding", coding);
        let mut body = send(answer).await.into_body();
        assert_eq!(body.report(), Ending::UNKNOWN);
        while body.frame().await.is_some() {}
        assert_eq!(body.report(), Ending::complete(Usage::UNKNOWN), "{coding}");
    }
    let cut = answer(200, "application/json", [data("{"), Step::Fail]);
    let mut body = send(cut.header("content-encoding", "gzip"))
        .await
        .into_body();
    while body.frame().await.is_some() {}
    let failure = Outcome::new(Verdict::ServerFault);
    assert_eq!(body.report(), Ending::UNKNOWN.failed(failure));
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_codings_all_change_nothing_is_read() {
    let usage = "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
    for coding in ["", "Identity", "identity, identity", ",,identity,"] {
        let answer = json(200, usage).header("content-encoding", coding);
        let mut body = send(answer).await.into_body();
        while body.frame().await.is_some() {}
        let used = Usage::UNKNOWN.input_tokens(1).output_tokens(2);
        assert_eq!(body.report(), Ending::complete(used), "{coding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_body_is_complete_whatever_its_head_says_of_one() {
    let layer = ProviderLayer::new(Profile::generic());
    for (method, status) in [("HEAD", 200), ("POST", 204), ("POST", 304), ("POST", 205)] {
        let client = Client::new([answer(status, "text/event-stream", []).foreseen()]);
        let request = Request::builder().method(method).body(());
        let response = layer.layer(client).oneshot(request.expect("valid")).await;
        let body = response.expect("an answer").into_body();
        assert!(body.is_end_stream());
        assert_eq!(
            body.report(),
            Ending::complete(Usage::UNKNOWN),
            "{method} {status}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_errors_of_the_client_are_its_own() {
    #[derive(Debug, PartialEq)]
    struct Mine;
    let client = service_fn(async |_: Request<()>| Err::<http::Response<Full<Bytes>>, _>(Mine));
    let service = ProviderLayer::new(Profile::generic()).layer(client);
    assert_eq!(
        service
            .oneshot(Request::new(()))
            .await
            .expect_err("it fails"),
        Mine
    );
}

#[test]
fn it_is_send_sync_and_unpin_where_its_parts_are() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<ProviderLayer>();
    check::<Provider<Client>>();
    check::<ResponseBody<Full<Bytes>>>();
    check::<ResponseBody<Steps>>();
    fn sync<T: Send + Sync>() {}
    sync::<ResponseFuture<std::future::Ready<()>, Full<Bytes>>>();
}
