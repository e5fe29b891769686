//! What the HTTP protocols read from requests, responses and a real client's errors.
#![allow(clippy::disallowed_methods, reason = "a test measures and waits")]
#![cfg(feature = "http")]

#[cfg(feature = "hyper-util")]
mod client;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tower_relay::{
    call::{Call, Facts, Noted},
    http::{Class, Deadline, Http, Resends, UntilHead},
    outcome::{Idempotency, Outcome, Verdict},
    policy::Cost,
    protocol::{AssumeIdempotent, Protocol},
};

type Question = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;

/// Fixes the types that a protocol could be for.
fn http() -> impl Protocol<Question, Answer> {
    Http
}

fn answer(status: u16) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::from_u16(status).expect("it is a status");
    answer
}

#[test]
fn a_call_costs_one_request_and_has_no_deadline() {
    let question = Question::default();
    assert_eq!(http().cost(&question), Cost::REQUEST);
    assert_eq!(http().deadline(&question), None);
    assert_eq!(http().resends(&question), 0);
}

#[test]
fn the_deadline_travels_with_the_request() {
    let instant = Instant::now() + Duration::from_secs(3);
    let mut question = Question::default();
    question.extensions_mut().insert(Deadline::at(instant));
    assert_eq!(http().deadline(&question), Some(instant));
    assert_eq!(http().deadline(&question.clone()), Some(instant));
}

#[test]
fn the_class_travels_with_the_request_and_beside_it() {
    let mut question = Question::default();
    assert_eq!(http().class(&question), None);
    question.extensions_mut().insert(Class::new("batch"));
    assert_eq!(http().class(&question.clone()), Some("batch"));
    let until_head =
        |question: &Question| Protocol::<_, Answer>::class(&UntilHead, question).map(String::from);
    assert_eq!(until_head(&question).as_deref(), Some("batch"));
    let noted = Noted::new(Http);
    let class = |facts| {
        let call = Call::new(question.clone(), facts);
        Protocol::<_, Answer>::class(&noted, &call).map(String::from)
    };
    let facts = Facts::new(Cost::REQUEST);
    assert_eq!(class(facts.clone()).as_deref(), Some("batch"));
    assert_eq!(
        class(facts.class("interactive")).as_deref(),
        Some("interactive")
    );
}

#[test]
fn idempotency_is_the_methods_or_the_keys() {
    for (method, idempotency) in [
        (Method::GET, Idempotency::Idempotent),
        (Method::HEAD, Idempotency::Idempotent),
        (Method::OPTIONS, Idempotency::Idempotent),
        (Method::TRACE, Idempotency::Idempotent),
        (Method::PUT, Idempotency::Idempotent),
        (Method::DELETE, Idempotency::Idempotent),
        (Method::POST, Idempotency::Unknown),
        (Method::PATCH, Idempotency::Unknown),
        (Method::CONNECT, Idempotency::Unknown),
    ] {
        let mut question = Question::default();
        *question.method_mut() = method.clone();
        assert_eq!(http().idempotency(&question), idempotency, "{method}");
    }
    for (name, key, idempotency) in [
        ("idempotency-key", "7f3a", Idempotency::Idempotent),
        ("x-idempotency-key", "7f3a", Idempotency::Idempotent),
        ("idempotency-key", "", Idempotency::Unknown),
    ] {
        let question = Request::post("/").header(name, key).body(Full::default());
        let question = question.expect("it is a valid request");
        assert_eq!(http().idempotency(&question), idempotency, "{name}: {key}");
    }
}

#[test]
fn the_count_of_sends_travels_only_when_there_is_one() {
    let mut question = Question::default();
    http().set_resends(&mut question, 0);
    assert!(question.extensions().is_empty());
    http().set_resends(&mut question, 2);
    assert_eq!(question.extensions().get(), Some(&Resends::new(2)));
    assert_eq!(http().resends(&question.clone()), 2);
    http().set_resends(&mut question, 0);
    assert_eq!(http().resends(&question), 0);
}

#[test]
fn a_verdict_beside_the_response_outranks_its_head() {
    let mut failed = answer(429);
    assert_eq!(http().classify(Ok(&failed)).verdict(), Verdict::Throttled);
    http().annotate(&mut failed, Outcome::new(Verdict::Exhausted));
    assert_eq!(http().classify(Ok(&failed)).verdict(), Verdict::Exhausted);
    let absorbed = Outcome::new(Verdict::Throttled).after(Duration::from_secs(1));
    http().annotate(&mut failed, absorbed);
    assert_eq!(http().classify(Ok(&failed)), absorbed);

    // An error inside a 200.
    let mut refused = answer(200);
    http().annotate(&mut refused, Outcome::new(Verdict::Overloaded));
    assert_eq!(http().classify(Ok(&refused)).verdict(), Verdict::Overloaded);
}

#[test]
fn a_success_has_nothing_inserted() {
    let mut fine = answer(200);
    http().annotate(&mut fine, Outcome::SUCCESS);
    assert!(fine.extensions().is_empty());
}

#[test]
fn a_success_overrules_an_earlier_failure() {
    let mut mended = answer(429);
    http().annotate(&mut mended, Outcome::new(Verdict::Throttled));
    http().annotate(&mut mended, Outcome::SUCCESS);
    assert!(http().classify(Ok(&mended)).is_success());
}

#[test]
fn facts_beside_the_request_come_before_its_own() {
    fn idempotency(protocol: impl Protocol<Call<Question>, Answer>) -> [Idempotency; 2] {
        let question = Request::post("/").body(Full::default());
        let question = question.expect("it is a valid request");
        let facts = Facts::new(Cost::REQUEST);
        let sure = facts.clone().idempotency(Idempotency::Idempotent);
        [facts, sure].map(|facts| protocol.idempotency(&Call::new(question.clone(), facts)))
    }

    let (unknown, sure) = (Idempotency::Unknown, Idempotency::Idempotent);
    assert_eq!(idempotency(Noted::new(Http)), [unknown, sure]);
    assert_eq!(
        idempotency(Noted::new(AssumeIdempotent::new(UntilHead))),
        [sure, sure]
    );
}
