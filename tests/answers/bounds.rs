//! What a reader keeps, whatever it reads.

use tower_relay::{
    outcome::{Completeness, Verdict},
    provider::{AnswerReader, Profile, TokenUsage},
};

use crate::support::{AWS, JSON, SSE, crc32, now, read, reader};

/// Of an event 64 KiB and of a field that is an error 16 KiB; and for a moment what had to grow,
/// or what the rules of errors make of it.
const KEPT: u64 = (64 + 16 + 16) << 10;

/// The most bytes held while these are read in pieces of 16 KiB.
fn held(reader: &mut AnswerReader, bytes: &[u8]) -> u64 {
    let measured = allocation_counter::measure(|| {
        for piece in bytes.chunks(16 << 10) {
            reader.feed(piece, now);
        }
        reader.finish(now);
    });
    measured.bytes_max
}

#[test]
fn an_event_of_ten_mebibytes_is_not_held_and_its_usage_is_found() {
    let text = "a \\\"usage\\\" of words ".repeat(500_000);
    for usage_first in [true, false] {
        let usage = "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}";
        let content = format!("\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]");
        let (first, second) = if usage_first {
            (usage, &*content)
        } else {
            (&*content, usage)
        };
        let stream = format!("data: {{{first},{second}}}\n\ndata: [DONE]\n\n");
        assert!(stream.len() > 10 << 20);
        let mut reader = reader(&Profile::openai(), SSE);
        let most = held(&mut reader, stream.as_bytes());
        assert!(most <= KEPT, "{most} bytes");
        let answer = reader.answer();
        assert_eq!(answer.usage(), TokenUsage::UNKNOWN.input(5).output(6));
        assert_eq!(answer.completeness(), Completeness::Complete);
        assert!(answer.has_content());
    }
}

#[test]
fn lines_and_names_without_end_are_not_held() {
    let long = "x".repeat(10 << 20);
    for stream in [
        long.clone(),
        format!(": {long}"),
        format!("{long}: 1"),
        format!("event: {long}"),
        format!("data: {long}"),
        format!("data: {{\"{long}\":1,\"usage\":{{\"prompt_tokens\":{long}"),
        format!("data: {{\"type\":\"{long}\"}}"),
        format!("data: {{\"error\":{{\"message\":\"{long}\"}}}}\n\n"),
        format!(
            "data: {{\"usage\":{{\"prompt_tokens\":{}",
            "1".repeat(10 << 20)
        ),
        format!("data: {}", "[".repeat(10 << 20)),
        format!("data: {}", "{\"a\":".repeat(2 << 20)),
    ] {
        let mut reader = reader(&Profile::generic(), SSE);
        let most = held(&mut reader, stream.as_bytes());
        assert!(most <= KEPT, "{most} bytes of {}", &stream[..30]);
    }
    let mut blank = reader(&Profile::generic(), JSON);
    assert_eq!(held(&mut blank, " \n".repeat(5 << 20).as_bytes()), 0);
}

#[test]
fn headers_of_a_frame_without_end_are_not_held() {
    // 32 MiB with headers of 16 MiB, and its checksum.
    let mut bytes = vec![1, 255, 255, 255, 0, 255, 255, 255];
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes.extend(vec![200; 17 << 20]);
    let mut reader = reader(&Profile::bedrock(), AWS);
    let most = held(&mut reader, &bytes);
    assert!(most <= 2 * KEPT, "{most} bytes");
    let verdict = reader.answer().failure().map(|failure| failure.verdict());
    assert_eq!(verdict, Some(Verdict::ServerFault));
}

#[test]
fn a_stream_in_small_events_holds_little() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n";
    let stream = event.repeat(10_000);
    let mut reader = reader(&Profile::openai(), SSE);
    let most = held(&mut reader, stream.as_bytes());
    // The reader's own state, and an event.
    assert!(most <= 1024, "{most} bytes");
}

#[test]
fn a_debug_print_has_nothing_of_the_answer() {
    let mut reader = reader(&Profile::openai(), JSON);
    reader.feed(
        b"{\"choices\":[{\"message\":{\"content\":\"tell nobody",
        now,
    );
    assert!(!format!("{reader:?}").contains("nobody"));
    // And the answer is known all the same.
    let answer = read(JSON, [b"{\"usage\":{\"prompt_tokens\":1}}".as_slice()]);
    assert_eq!(answer.usage(), TokenUsage::UNKNOWN.input(1));
}
