//! The rules, one by one.

use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};
use tower_relay::{
    outcome::{Completeness, Verdict},
    provider::{Answer, AnswerReader, Events, Field, Profile, TokenUsage},
};

use crate::support::{AWS, JSON, SSE, events, frame, json, now, read, reader};

fn input(answer: Answer) -> Option<u64> {
    answer.usage().input_tokens()
}

fn verdict(answer: Answer) -> Option<Verdict> {
    answer.failure().map(|failure| failure.verdict())
}

#[test]
fn what_content_says_of_usage_is_not_believed() {
    for content in [
        r#""\"usage\":{\"prompt_tokens\":99}""#,
        r#""}],\"usage\":{\"prompt_tokens\":99},\"x\":[{""#,
        r#"{"usage":{"prompt_tokens":99}}"#,
        r#"[{"text":"\\"},"usage",{"prompt_tokens":99}]"#,
        r#""\\\\\"\\\\""#,
    ] {
        for text in [
            format!(
                r#"{{"choices":[{{"delta":{{"content":{content}}}}}],"usage":{{"prompt_tokens":5}}}}"#
            ),
            format!(
                r#"{{ "usage" : {{ "x" : {content} , "prompt_tokens" : 5 }} , "x" : {content} }}"#
            ),
        ] {
            assert_eq!(input(json(&text)), Some(5), "{text}");
            assert_eq!(
                input(events(&format!("data: {text}\n\n"))),
                Some(5),
                "{text}"
            );
        }
    }
    let deep =
        json(r#"{"message":{"content":{"usage":{"prompt_tokens":99}}},"a":{"error":{"x":1}}}"#);
    assert_eq!((input(deep), deep.failure()), (None, None));
}

#[test]
fn a_key_may_be_escaped() {
    let answer = json(r#"{"\u0075sage":{"prompt\u005ftokens":5,"pr\"ompt_tokens":6}}"#);
    assert_eq!(input(answer), Some(5));
}

#[test]
fn numbers_that_are_no_counts_tell_nothing() {
    for number in [
        "null",
        "-3",
        "1.5",
        "\"7\"",
        "1e400",
        "99999999999999999999",
        "{}",
        "[]",
        "true",
    ] {
        let answer = json(&format!(
            r#"{{"usage":{{"prompt_tokens":{number},"completion_tokens":2}}}}"#
        ));
        assert_eq!(input(answer), None, "{number}");
        assert_eq!(answer.usage().output_tokens(), Some(2), "{number}");
    }
    for (number, tokens) in [
        ("0", 0),
        ("12.0", 12),
        ("1e3", 1_000),
        ("18446744073709551615", u64::MAX),
    ] {
        let answer = json(&format!(r#"{{"usage":{{"prompt_tokens":{number}}}}}"#));
        assert_eq!(input(answer), Some(tokens), "{number}");
    }
}

#[test]
fn the_last_figure_counts_but_a_zero_replaces_nothing() {
    let of = |figures: [u64; 2]| {
        let [first, last] = figures.map(|tokens| {
            format!(
                "data: {{\"usage\":{{\"input_tokens\":{tokens},\"output_tokens\":{tokens}}}}}\n\n"
            )
        });
        events(&(first + &last)).usage()
    };
    assert_eq!(of([3, 7]), TokenUsage::UNKNOWN.input(7).output(7));
    assert_eq!(of([7, 3]), TokenUsage::UNKNOWN.input(3).output(3));
    assert_eq!(of([7, 0]), TokenUsage::UNKNOWN.input(7).output(7));
    assert_eq!(of([0, 0]), TokenUsage::UNKNOWN.input(0).output(0));
}

#[test]
fn an_error_that_is_null_false_or_empty_is_none() {
    for error in ["null", "false", "\"\"", "{}", "[ ]", "{ \n}"] {
        let answer = json(&format!(
            r#"{{"error":{error},"usage":{{"prompt_tokens":5}}}}"#
        ));
        assert_eq!(
            (answer.failure(), input(answer)),
            (None, Some(5)),
            "{error}"
        );
    }
    for error in ["true", "\"no\"", "7", "{\"code\":1}", "[[]]", "{\"a\":{}}"] {
        let answer = json(&format!(
            r#"{{"error":{error},"usage":{{"prompt_tokens":5}}}}"#
        ));
        assert!(answer.failure().is_some(), "{error}");
        assert_eq!(input(answer), Some(5), "what was reported stays: {error}");
    }
}

#[test]
fn a_terminal_event_completes_at_once_and_an_error_after_it_spoils_that() {
    let mut reader = reader(&Profile::openai(), SSE);
    reader.feed(
        b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
        now,
    );
    let finished = reader.answer().completeness();
    assert_eq!(finished, Completeness::Partial, "usage may follow");
    reader.feed(b"data: [DONE]\n\n", now);
    assert_eq!(reader.answer().completeness(), Completeness::Complete);
    reader.feed(b"data: {\"error\":{\"code\":1}}\n\n", now);
    reader.finish(now);
    assert_eq!(reader.answer().completeness(), Completeness::Partial);
    assert!(reader.answer().failure().is_some());
}

#[test]
fn content_after_a_reason_to_finish_means_that_another_choice_goes_on() {
    let finish = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    let goes_on = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"and\"}}]}\n\n";
    assert_eq!(events(finish).failure(), None);
    let cut = events(&[finish, goes_on].concat());
    assert_eq!(verdict(cut), Some(Verdict::ServerFault));
    assert_eq!(events(&[finish, goes_on, finish].concat()).failure(), None);
}

#[test]
fn an_event_that_the_end_cuts_counts_if_its_data_is_whole() {
    assert_eq!(events("data: [DONE]").failure(), None);
    assert_eq!(events("event: message_stop\ndata: {}\n").failure(), None);
    let cut = events("event: message_stop\ndata: {\"a\":");
    assert_eq!(verdict(cut), Some(Verdict::ServerFault));
}

#[test]
fn lines_of_data_are_joined_by_line_ends() {
    let cut = events("data: [DO\ndata: NE]\n\n");
    assert_eq!(verdict(cut), Some(Verdict::ServerFault));
    let number = "data: {\"usage\":{\"prompt_tokens\":1\ndata: 2}}\n\ndata: [DONE]\n\n";
    assert_ne!(input(events(number)), Some(12));
}

#[test]
fn an_event_without_data_is_none() {
    assert_eq!(events("event: error\n\ndata: [DONE]\n\n").failure(), None);
    assert!(
        events("event: error\ndata:\n\ndata: [DONE]\n\n")
            .failure()
            .is_some()
    );
}

#[test]
fn an_event_has_the_last_name_it_was_given_and_none_of_the_event_before() {
    let answer = events("event: error\nevent: ping\ndata: {}\n\ndata: {}\n\ndata: [DONE]\n\n");
    assert_eq!(answer.failure(), None);
}

#[test]
fn a_line_that_looks_like_json_and_is_none_is_passed_over() {
    let answer = events(
        "{not json\n[neither\n{\"a\nb\":1}\ndata: {\"usage\":{\"prompt_tokens\":5}}\n\ndata: [DONE]\n\n",
    );
    assert_eq!((input(answer), answer.failure()), (Some(5), None));
}

#[test]
fn a_refused_prompt_is_the_callers_fault_and_a_whole_answer() {
    let answer = events(
        "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":15}}\n\n",
    );
    assert_eq!(verdict(answer), Some(Verdict::CallerFault));
    assert_eq!(answer.completeness(), Completeness::Complete);
    assert_eq!(input(answer), Some(15));
}

#[test]
fn a_reason_is_one_however_long_it_is() {
    let long = "x".repeat(1_000);
    let text = format!("data: {{\"choices\":[{{\"finish_reason\":\"{long}\"}}]}}\n\n");
    assert_eq!(events(&text).failure(), None);
    assert_eq!(read(SSE, text.as_bytes().chunks(1)).failure(), None);
}

#[test]
fn a_name_that_is_too_long_is_not_known() {
    let events = Events::none().field(&"n".repeat(65), Field::Input);
    let profile = Profile::generic().events(events);
    let body = format!("{{\"{}\":5}}", "n".repeat(65));
    for size in [1, 1_000] {
        let mut reader = reader(&profile, JSON);
        for piece in body.as_bytes().chunks(size) {
            reader.feed(piece, now);
        }
        assert_eq!(input(reader.answer()), None);
    }
}

#[test]
fn the_first_error_stands() {
    let refused = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n";
    let broken = "event: error\ndata: {\"error\":{}}\n\n";
    let answer = events(&[refused, broken].concat());
    assert_eq!(verdict(answer), Some(Verdict::CallerFault));
    assert_eq!(answer.completeness(), Completeness::Partial);
}

#[test]
fn what_is_not_understood_is_whole_and_counts_as_content() {
    for body in [
        "hello",
        "<html>",
        "{not json}",
        "\"text\"",
        "12",
        "da",
        "\0\0\0\u{10}nothing",
        "\0",
    ] {
        let answer = read("", [body.as_bytes()]);
        let told = (
            answer.completeness(),
            answer.failure(),
            answer.has_content(),
        );
        assert_eq!(told, (Completeness::Complete, None, true), "{body:?}");
        assert_eq!(answer.usage(), TokenUsage::UNKNOWN);
    }
    let empty = read("application/json", []);
    assert_eq!(
        (empty.completeness(), empty.has_content()),
        (Completeness::Complete, false)
    );
    let compressed = {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        headers.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let mut reader = AnswerReader::new(&Profile::generic(), &headers);
        reader.feed(b"data: {\"error\":{\"code\":1}}\n\n", now);
        reader.finish(now);
        reader.answer()
    };
    assert_eq!(
        (compressed.failure(), compressed.has_content()),
        (None, true)
    );
}

#[test]
fn blank_lines_without_a_body_are_a_queue_that_was_closed() {
    let answer = read("application/json; charset=utf-8", [b"\n\n\n".as_slice()]);
    assert_eq!(verdict(answer), Some(Verdict::ServerFault));
    assert_eq!(answer.completeness(), Completeness::Partial);
    assert!(!answer.has_content());
    assert_eq!(verdict(read("text/plain", [b"\n\n".as_slice()])), None);
}

#[test]
fn what_has_passed_of_a_message_that_is_cut_counts() {
    let text =
        r#"{"usage":{"prompt_tokens":5,"completion_tokens":6},"choices":[{"message":{"content":"a"#;
    for answer in [json(text), events(&format!("data: {text}"))] {
        assert_eq!(answer.usage(), TokenUsage::UNKNOWN.input(5).output(6));
        assert!(answer.has_content());
        assert_eq!(verdict(answer), Some(Verdict::ServerFault));
    }
    // What may be half a figure is none.
    assert_eq!(input(json(r#"{"usage":{"prompt_tokens":5"#)), None);
}

#[test]
fn a_message_cut_between_its_end_and_that_of_its_framing_counts() {
    let payload = r#"{"usage":{"inputTokens":2}}"#;
    let mut bytes = frame("event", "contentBlockDelta", payload);
    for _ in 0..4 {
        bytes.pop();
        for size in [1, 7, 1_000] {
            assert_eq!(input(read(AWS, bytes.chunks(size))), Some(2));
        }
    }
    let array = b"data: [{\"usage\":{\"prompt_tokens\":2}}";
    for size in [1, 7, 1_000] {
        assert_eq!(input(read(SSE, array.chunks(size))), Some(2));
    }
}

#[test]
fn half_a_message_takes_nothing_back() {
    let mut reader = reader(&Profile::gemini(), SSE);
    reader.feed(
        b"data: {\"usageMetadata\":{\"thoughtsTokenCount\":40}}\n\n",
        now,
    );
    reader.feed(
        b"data: {\"usageMetadata\":{\"candidatesTokenCount\":2,",
        now,
    );
    assert_eq!(reader.answer().usage().output_tokens(), Some(40));
    reader.feed(b"\"thoughtsTokenCount\":41}}\n\n", now);
    assert_eq!(reader.answer().usage().output_tokens(), Some(43));
}

#[test]
fn a_line_end_in_a_string_is_nonsense_wherever_it_is_cut() {
    let body = b"data: {\"error\":\"a\nb\"}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\n";
    let whole = read(SSE, [body.as_slice()]);
    for cut in 0..body.len() {
        assert_eq!(read(SSE, [&body[..cut], &body[cut..]]), whole, "{cut}");
    }
}

#[test]
fn several_values_in_a_body_are_read_one_after_another() {
    let lines = "{\"usage\":{\"prompt_tokens\":5}}\n{\"usage\":{\"completion_tokens\":6}}\n";
    assert_eq!(json(lines).usage(), TokenUsage::UNKNOWN.input(5).output(6));
    assert_eq!(
        verdict(json(&lines[..lines.len() - 2])),
        Some(Verdict::ServerFault)
    );
}

#[test]
fn frames_out_of_step_are_a_stream_that_broke_off() {
    let delta = frame("event", "contentBlockDelta", r#"{"delta":{"text":"a"}}"#);
    let end = frame("event", "metadata", r#"{"usage":{"inputTokens":2}}"#);
    let mut bytes = [delta.clone(), end].concat();
    assert_eq!(read(AWS, [&*bytes]).failure(), None);
    // In the second frame's checksum.
    bytes[delta.len() + 9] ^= 1;
    let answer = read(AWS, [&*bytes]);
    assert_eq!(verdict(answer), Some(Verdict::ServerFault));
    assert_eq!(input(answer), None);
    assert!(answer.has_content());
}

#[test]
fn an_error_frame_is_one_whatever_its_payload() {
    let mut bytes = frame("event", "unknown", "");
    let whole = frame("event", "metadata", "{\"usage\":{\"inputTokens\":2}}");
    bytes.extend(&whole);
    assert_eq!(read(AWS, [&*bytes]).failure(), None);
    for payload in ["", "{}", "no"] {
        let error = frame("exception", "brandNewException", payload);
        let answer = read(AWS, [&*error, &*whole]);
        assert!(answer.failure().is_some(), "{payload}");
        assert_eq!(input(answer), Some(2));
    }
}

#[test]
fn a_table_of_ones_own_replaces_what_is_known() {
    let events = Events::none()
        .field("cost.in", Field::Input)
        .field("piece", Field::Content)
        .field("why", Field::Finish)
        .failing("broke")
        .error("oops")
        .end("bye");
    let profile = Profile::generic().events(events.clone());
    let told = |profile: &Profile, text: &str| {
        let mut reader = reader(profile, SSE);
        reader.feed(text.as_bytes(), now);
        reader.finish(now);
        reader.answer()
    };
    let answer = told(
        &profile,
        "data: {\"piece\":\"a\",\"cost\":{\"in\":4}}\n\nevent: bye\ndata: {\"error\":1}\n\n",
    );
    assert_eq!((input(answer), answer.failure()), (Some(4), None));
    assert!(answer.has_content());
    assert_eq!(
        verdict(told(&profile, "data: [DONE]\n\n")),
        Some(Verdict::ServerFault)
    );
    assert!(
        told(&profile, "data: {\"why\":\"broke\"}\n\ndata: bye\n\n")
            .failure()
            .is_some()
    );
    assert!(
        told(&profile, "event: oops\ndata: x\n\ndata: bye\n\n")
            .failure()
            .is_some()
    );
    assert_eq!(
        told(&profile, "data: {\"why\":\"done\"}\n\n").failure(),
        None
    );
    let endless = Profile::generic().events(events.any_end());
    assert_eq!(told(&endless, "data: {}\n\n").failure(), None);
}
