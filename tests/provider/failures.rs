//! Failures: their bodies are read before they go on, and go on as they came.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_relay::{
    http::Report,
    outcome::{Ending, Hint, Outcome, Usage, Verdict},
    policy::{Cost, Quota, Unit},
    provider::{Charging, Failures, Profile, ProviderLayer, ResponseBody},
    rate_limit::RateLimitLayer,
};

use crate::support::{
    Answer, Client, Step, Steps, answer, data, json, pause, poll_once, read, request,
};

async fn send(answer: Answer) -> Response<ResponseBody<Steps>> {
    let service = ProviderLayer::new(Profile::generic()).layer(Client::new([answer]));
    service.oneshot(request("{}")).await.expect("an answer")
}

fn outcome<B>(response: &Response<B>) -> Outcome {
    let outcome = response.extensions().get();
    *outcome.expect("a failure has an outcome")
}

#[tokio::test(start_paused = true)]
async fn a_429_whose_body_is_a_proxys_html_page_is_a_429() {
    let page = "<html><body><h1>429 Too Many Requests</h1>nginx</body></html>";
    let answer = answer(429, "text/html", [data(page)]).header("retry-after", "7");
    let response = send(answer).await;
    assert_eq!(outcome(&response).verdict(), Verdict::Throttled);
    let seven = Hint::After(Duration::from_secs(7));
    assert_eq!(outcome(&response).hint(), Some(seven));
    assert_eq!(read(response.into_body()).await, page);
}

#[tokio::test(start_paused = true)]
async fn a_failures_body_is_read_first_and_goes_on_as_it_came() {
    let steps = [
        data("{\"error\""),
        pause(300),
        data(":"),
        data("1}"),
        Step::Trailers,
    ];
    let failure = answer(500, "application/json", steps);
    let log = failure.log();
    let start = Instant::now();
    let response = send(failure).await;
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    assert_eq!(outcome(&response).verdict(), Verdict::ServerFault);
    let polls = log.polls();
    let body = response.into_body();
    assert_eq!(body.size_hint().exact(), Some(11));
    assert!(!body.is_end_stream());
    assert_eq!(read(body).await, "{\"error\":1}#");
    assert_eq!(
        log.polls(),
        polls + 1,
        "after trailers the end is asked for"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_breaks_off_goes_on_with_its_error() {
    let failure = answer(503, "text/plain", [data("a"), Step::Fail]);
    let response = send(failure).await;
    assert_eq!(outcome(&response).verdict(), Verdict::Overloaded);
    assert_eq!(read(response.into_body()).await, "a!");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_classified_by_what_is_there_and_goes_on_when_it_does() {
    for (wait, layer) in [
        (5_000, ProviderLayer::new(Profile::generic())),
        (
            200,
            ProviderLayer::new(Profile::generic()).max_error_wait(Duration::from_millis(200)),
        ),
    ] {
        let failure = answer(529, "text/plain", [data("a"), pause(8_000), data("b")]);
        let start = Instant::now();
        let service = layer.layer(Client::new([failure]));
        let response = service.oneshot(request("{}")).await.expect("an answer");
        let waited = start.elapsed().as_millis();
        assert!((wait..=wait + 1).contains(&waited), "{waited}");
        assert_eq!(outcome(&response).verdict(), Verdict::Overloaded);
        assert_eq!(read(response.into_body()).await, "ab");
        assert_eq!(start.elapsed(), Duration::from_secs(8));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_64_kib_are_read_before_a_failure_goes_on() {
    let kib = Bytes::from(vec![b'x'; 1_024]);
    let steps = std::iter::repeat_n(Step::Data(kib), 200);
    let failure = answer(400, "text/plain", steps);
    let log = failure.log();
    let response = send(failure).await;
    assert_eq!(log.polls(), 64);
    let body = response.into_body();
    assert_eq!(body.size_hint().exact(), Some(200 * 1_024));
    assert_eq!(read(body).await.len(), 200 * 1_024);
}

#[tokio::test(start_paused = true)]
async fn endless_empty_frames_do_not_hold_a_failure_up() {
    let steps = std::iter::repeat_n(data(""), 20_000);
    let failure = answer(500, "text/plain", steps);
    let log = failure.log();
    let response = send(failure).await;
    assert_eq!(log.polls(), 4_096);
    assert_eq!(read(response.into_body()).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_inside_has_found_out_stands_and_its_body_is_not_read() {
    let known = Outcome::new(Verdict::Exhausted);
    let failure = json(429, "{}").known(known);
    let log = failure.log();
    let response = send(failure).await;
    assert_eq!((outcome(&response), log.polls()), (known, 0));
}

#[tokio::test(start_paused = true)]
async fn an_encoded_or_missing_body_is_not_waited_for() {
    for failure in [
        answer(429, "application/json", [Step::Never]).header("content-encoding", "gzip"),
        answer(429, "application/json", []).foreseen(),
    ] {
        let log = failure.log();
        let response = send(failure).await;
        assert_eq!(outcome(&response).verdict(), Verdict::Throttled);
        assert_eq!(log.polls(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_while_an_error_is_read_drops_its_body() {
    let failure = answer(500, "text/plain", [data("a"), Step::Never]);
    let log = failure.log();
    let service = ProviderLayer::new(Profile::generic()).layer(Client::new([failure]));
    let mut call = Box::pin(service.oneshot(request("{}")));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!((log.polls(), log.is_dropped()), (2, false));
    drop(call);
    assert!(log.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn a_failure_reports_what_it_is_charged_however_much_is_read_of_it() {
    let free = Charging::NEW.failures(Failures::Free);
    let nothing = Usage::UNKNOWN.input_tokens(0).output_tokens(0);
    for (charging, usage, left) in [
        (Charging::NEW, Usage::UNKNOWN, 1_000 - 150),
        (free, nothing, 1_000),
    ] {
        let profile = Profile::generic().charging(charging);
        let quota = Quota::builder().tokens_per_minute(60);
        let quota = quota.burst(Unit::TOKENS, 1_000).build().expect("valid");
        let limit = RateLimitLayer::new(quota).protocol(profile.clone());
        let limit =
            limit.cost(|_: &http::Request<_>| Cost::REQUEST.input_tokens(100).output_tokens(50));
        let handle = limit.handle();
        let client = Client::new([json(500, "{}"), json(500, "{}")]);
        let service = limit.layer(ProviderLayer::new(profile).layer(client));
        let response = service.clone().oneshot(request("{}")).await;
        let mut body = response.expect("an answer").into_body();
        assert_eq!(body.report(), Ending::complete(usage));
        while body.frame().await.is_some() {}
        assert_eq!(body.report(), Ending::complete(usage));
        assert_eq!(handle.available(Unit::TOKENS), Some(left));
        drop(service.oneshot(request("{}")).await.expect("an answer"));
        let left = 1_000 - 2 * (1_000 - left);
        assert_eq!(handle.available(Unit::TOKENS), Some(left));
    }
}
