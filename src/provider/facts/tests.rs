use std::{collections::VecDeque, convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use proptest::prelude::*;

use super::*;
use crate::{
    clock,
    policy::{CallSize, Unit},
};

fn read(body: &str) -> Facts {
    let request = Request::post("/").body(Full::<Bytes>::from(body.to_owned()));
    JsonFacts::new().read(&request.expect("it is a valid request"))
}

fn cost(input: u64, output: u64) -> Cost {
    Cost::REQUEST.input_tokens(input).output_tokens(output)
}

#[test]
fn cost_and_model_are_read_from_the_body() {
    let facts = read(r#"{"messages":[{"max_tokens":1}],"model":"m","max_tokens":800}"#);
    assert_eq!(facts.model_name(), Some("m"));
    assert_eq!(facts.cost(), cost(15, 800));
}

#[test]
fn the_largest_of_the_maxima_counts() {
    let facts = read(r#"{"max_completion_tokens":7,"max_output_tokens":9,"max_tokens":8}"#);
    assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 9);
}

#[test]
fn an_absurd_field_does_not_spoil_the_others() {
    for absurd in [
        "-1",
        "1e300",
        "\"many\"",
        "null",
        "[1,[2]]",
        "{\"a\":{}}",
        "0.5",
        "1e400",
    ] {
        let facts = read(&format!(r#"{{"max_tokens":{absurd},"model":"m"}}"#));
        assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 1_024, "{absurd}");
        assert_eq!(facts.model_name(), Some("m"), "{absurd}");
        let facts = read(&format!(r#"{{"model":{absurd},"max_tokens":5}}"#));
        assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 5, "{absurd}");
        let name = (absurd == "\"many\"").then_some("many");
        assert_eq!(facts.model_name(), name, "{absurd}");
    }
}

#[test]
fn what_is_no_json_object_costs_its_size_and_the_default() {
    for body in [
        "{",
        "[1,2]",
        "--boundary\r\n",
        "{\"model\":\"m\"",
        "\u{0}",
        "7",
    ] {
        let facts = read(body);
        assert_eq!(
            facts.cost(),
            cost((body.len() as u64).div_ceil(4), 1_024),
            "{body}"
        );
        assert_eq!(facts.model_name(), None);
    }
}

#[test]
fn a_request_without_a_body_costs_one_request() {
    assert_eq!(read("").cost(), Cost::REQUEST);
}

fn post(path: &str, body: &'static str) -> Facts {
    let request = Request::post(path).body(Full::<Bytes>::from(body));
    JsonFacts::new().read(&request.expect("it is a valid request"))
}

#[test]
fn the_model_of_the_path_goes_before_that_of_the_body_and_only_a_post_has_one() {
    let path = "/openai/deployments/large/chat/completions";
    assert_eq!(post(path, "{\"model\":\"m\"}").model_name(), Some("large"));
    assert_eq!(post("/v1/x", "{\"model\":\"m\"}").model_name(), Some("m"));
    assert_eq!(post(path, "").model_name(), Some("large"));
    assert_eq!(post(path, "").cost(), Cost::REQUEST);
    assert_eq!(post(path, "no JSON").model_name(), Some("large"));
    let get = Request::get(path).body(Full::<Bytes>::default());
    let facts = JsonFacts::new().read(&get.expect("it is a valid request"));
    assert_eq!(facts.model_name(), None);
}

#[test]
fn the_maxima_inside_of_gemini_and_bedrock_count_and_so_does_the_number_of_answers() {
    for (body, limit) in [
        (r#"{"generationConfig":{"maxOutputTokens":70}}"#, Some(70)),
        (
            r#"{"generationConfig":{"maxOutputTokens":70,"candidateCount":3}}"#,
            Some(210),
        ),
        (
            r#"{"inferenceConfig":{"maxTokens":50,"temperature":1}}"#,
            Some(50),
        ),
        (r#"{"max_tokens":7,"n":4}"#, Some(28)),
        (r#"{"max_tokens":7,"n":0}"#, Some(7)),
        (r#"{"max_tokens":7,"n":-1}"#, Some(7)),
        (r#"{"max_tokens":7,"n":1025}"#, Some(7)),
        (
            r#"{"max_tokens":7,"n":1e99,"generationConfig":[],"inferenceConfig":"x"}"#,
            Some(7),
        ),
        (
            r#"{"max_tokens":18446744073709551615,"n":2}"#,
            Some(u64::MAX),
        ),
        (r#"{"n":4}"#, None),
    ] {
        let facts = read(body);
        assert_eq!(facts.output_limit(), limit, "{body}");
        let expected = limit.unwrap_or(4 * 1_024);
        assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), expected, "{body}");
    }
}

#[test]
fn a_stream_is_known_by_the_body_or_by_the_path() {
    assert!(read("{\"stream\":true}").is_streamed());
    for body in [
        "{\"stream\":false}",
        "{\"stream\":\"true\"}",
        "{\"stream\":1}",
        "{}",
    ] {
        assert!(!read(body).is_streamed(), "{body}");
    }
    assert!(post("/v1beta/models/m:streamGenerateContent", "{}").is_streamed());
    assert!(!post("/v1beta/models/m:generateContent", "{}").is_streamed());
}

#[test]
fn the_first_session_that_is_named_is_the_affinity_and_else_the_prompts_beginning() {
    let key = |body: &str| read(body).affinity_key();
    let session = key(r#"{"session_id":"s"}"#);
    assert!(session.is_some());
    for body in [
        r#"{"prompt_cache_key":"s","session_id":"t","user":"u"}"#,
        r#"{"session_id":"s","metadata":{"user_id":"t"},"messages":["a"]}"#,
        r#"{"metadata":{"user_id":"s"},"user":"t"}"#,
        r#"{"user":"s","metadata":[7]}"#,
        r#"{"user":"s","session_id":null,"prompt_cache_key":""}"#,
    ] {
        assert_eq!(key(body), session, "{body}");
    }
    let system = "x".repeat(2_000);
    let chat = |system: &str, question: &str| {
        key(&format!(
            r#"{{"system":"{system}","messages":["{question}"]}}"#
        ))
    };
    assert_eq!(
        chat(&system, "a"),
        chat(&system, "b"),
        "they share a long beginning"
    );
    assert_ne!(chat("short", "a"), chat("short", "b"));
    assert_eq!(key(r#"{"model":"m"}"#), None);
    assert_eq!(read("no JSON").affinity_key(), None);
    let nothing = JsonFacts::new().affinity(Affinity::Nothing);
    let request = Request::new(Full::<Bytes>::from(r#"{"user":"s","prompt":"p"}"#));
    assert_eq!(nothing.read(&request).affinity_key(), None);
}

#[test]
fn a_profile_reserves_as_it_charges() {
    let body = r#"{"max_tokens":500,"messages":"......................................"}"#;
    let of = |profile: Profile| {
        let request = Request::new(Full::<Bytes>::from(body));
        profile.facts().read(&request).cost()
    };
    let input = (body.len() as u64).div_ceil(4);
    assert_eq!(of(Profile::generic()), cost(input, 500));
    assert_eq!(of(Profile::openai()), cost(input, 500 - input));
    assert_eq!(of(Profile::gemini()), cost(input, 0));
}

#[test]
fn settings_replace_the_defaults() -> Result<(), crate::policy::InvalidConfig> {
    let reader = JsonFacts::new()
        .bytes_per_token(BytesPerToken::new(0.5)?)
        .default_output_tokens(3);
    let request = Request::new(Full::<Bytes>::from("{}"));
    assert_eq!(reader.read(&request).cost(), cost(4, 3));
    Ok(())
}

#[test]
fn the_class_travels_along() {
    let mut request = Request::new(Full::<Bytes>::from("{}"));
    assert_eq!(JsonFacts::new().read(&request).class_name(), None);
    request.extensions_mut().insert(Class::new("batch"));
    assert_eq!(JsonFacts::new().read(&request).class_name(), Some("batch"));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_the_word_on_repeats_travel_along() {
    let mut request = Request::new(Full::<Bytes>::from("{}"));
    let instant = clock::sleep_until(clock::now() + Duration::from_secs(1)).deadline();
    request.extensions_mut().insert(Deadline::at(instant));
    let unknown = JsonFacts::new().idempotency(Idempotency::Unknown);
    for (reader, idempotency) in [
        (JsonFacts::new(), Idempotency::Idempotent),
        (unknown, Idempotency::Unknown),
    ] {
        let facts = reader.read(&request);
        let expected = Facts::of_size(CallSize::new(1, 1_024))
            .deadline(instant)
            .idempotency(idempotency);
        assert_eq!(format!("{facts:?}"), format!("{expected:?}"));
    }
}

/// Frames, of which `None` is one that has yet to come.
#[derive(Clone)]
struct Pieces(VecDeque<Option<&'static str>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.pop_front() {
            Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            Some(None) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(400)
    }
}

fn read_pieces(pieces: &[Option<&'static str>]) -> (Facts, usize) {
    let request = Request::new(Pieces(pieces.iter().copied().collect()));
    let facts = JsonFacts::new().read(&request);
    (facts, request.body().0.len())
}

#[test]
fn a_body_in_pieces_is_put_together_and_left_whole() {
    let (facts, left) = read_pieces(&[Some("{\"max_tok"), Some("ens\":9,"), Some("\"a\":0}")]);
    assert_eq!(facts.cost(), cost(6, 9));
    assert_eq!(left, 3);
}

#[test]
fn a_body_that_is_not_all_there_is_taken_by_its_size_hint() {
    let (facts, left) = read_pieces(&[Some("{\"max_tokens\":9"), None, Some("}")]);
    assert_eq!(facts.cost(), cost(100, 1_024));
    assert_eq!(left, 3);
}

#[derive(Clone)]
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

#[test]
fn an_endless_body_is_given_up() {
    let facts = JsonFacts::new().read(&Request::new(Endless));
    assert_eq!(facts.cost(), cost(0, 1_024));
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = JsonFacts::new().read(&Request::new(Full::new(Bytes::from(bytes))));
    }

    #[test]
    fn no_field_makes_it_panic(field in "max_tokens|model|n|generationConfig|metadata|system|x", value in "\\PC{0,40}") {
        let _ = read(&format!("{{\"{field}\":{value}}}"));
    }
}
