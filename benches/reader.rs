//! How fast answers are read as they pass: streams in events a second, bodies in bytes.
//!
//! `cargo bench -p tower-relay-benches --bench reader`
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures with the real clock"
)]

use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tower_relay::provider::{AnswerReader, Profile, TokenUsage};

const EVENTS: usize = 100_000;
/// The size of a large body.
const LARGE: usize = 64 << 20;
/// What a client reads from a connection at once.
const PIECE: usize = 16 << 10;
const RUNS: u32 = 5;

/// A figure that must be kept.
enum Must {
    /// So many million events a second.
    Events(f64),
    /// So many GiB a second.
    Bytes(f64),
}

/// A body, and how it comes.
struct Case {
    name: &'static str,
    profile: Profile,
    content_type: &'static str,
    pieces: Vec<Vec<u8>>,
    events: usize,
    must: Must,
}

fn main() {
    println!(
        "{:46} {:>10} {:>10} {:>8}",
        "", "M events/s", "ns/event", "GiB/s"
    );
    for case in cases() {
        row(&case);
    }
}

fn cases() -> Vec<Case> {
    let stream = |name, profile, (first, event, last): (&str, &str, &str), each| Case {
        name,
        profile,
        content_type: "text/event-stream",
        pieces: if each {
            let middle = (0..EVENTS).map(|_| event.as_bytes().to_vec());
            let ends = [first, last].map(|end| end.as_bytes().to_vec());
            let [first, last] = ends;
            [first].into_iter().chain(middle).chain([last]).collect()
        } else {
            pieces(&[first, &event.repeat(EVENTS), last].concat())
        },
        events: EVENTS,
        must: Must::Events(1.0),
    };
    let body = |name, text: &str| Case {
        name,
        profile: Profile::openai(),
        content_type: "application/json",
        pieces: pieces(text),
        events: 1,
        must: Must::Bytes(1.0),
    };
    let prose = "Usage is what the \\\"usage\\\" field says, and it says: nothing of interest.\\n";
    let prose = prose.repeat(LARGE / prose.len());
    let numbers = "-0.012345678,0.9876543,".repeat(LARGE / 23);
    let big_event = &prose[..10 << 20];
    vec![
        stream(
            "OpenAI chat, an event a piece",
            Profile::openai(),
            OPENAI,
            true,
        ),
        stream(
            "OpenAI chat, 16 KiB a piece",
            Profile::openai(),
            OPENAI,
            false,
        ),
        stream(
            "Anthropic, an event a piece",
            Profile::anthropic(),
            ANTHROPIC,
            true,
        ),
        stream(
            "Anthropic, 16 KiB a piece",
            Profile::anthropic(),
            ANTHROPIC,
            false,
        ),
        stream(
            "OpenAI Responses, 16 KiB a piece",
            Profile::openai(),
            RESPONSES,
            false,
        ),
        stream("Gemini, 16 KiB a piece", Profile::gemini(), GEMINI, false),
        body(
            "64 MiB of text, usage last",
            &format!(r#"{{"choices":[{{"message":{{"content":"{prose}"}}}}],"usage":{USAGE}}}"#),
        ),
        body(
            "64 MiB of text, usage first",
            &format!(r#"{{"usage":{USAGE},"choices":[{{"message":{{"content":"{prose}"}}}}]}}"#),
        ),
        body(
            "64 MiB of numbers, usage last",
            &format!(r#"{{"data":[{{"embedding":[{numbers}0]}}],"usage":{USAGE}}}"#),
        ),
        Case {
            name: "a stream with an event of 10 MiB",
            profile: Profile::openai(),
            content_type: "text/event-stream",
            pieces: pieces(&format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{big_event}\"}}}}],\"usage\":{USAGE}}}\n\ndata: [DONE]\n\n"
            )),
            events: 2,
            must: Must::Bytes(1.0),
        },
    ]
}

fn pieces(text: &str) -> Vec<Vec<u8>> {
    text.as_bytes().chunks(PIECE).map(<[u8]>::to_vec).collect()
}

fn row(case: &Case) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let (began, busy) = (Instant::now(), busy());
        let usage = read(case);
        let elapsed = match (busy, self::busy()) {
            (Some(before), Some(after)) => after - before,
            _ => began.elapsed(),
        };
        best = best.min(elapsed);
        assert_eq!(usage.input_tokens(), Some(12), "{}", case.name);
        assert_eq!(usage.output_tokens(), Some(34), "{}", case.name);
    }
    let bytes: usize = case.pieces.iter().map(Vec::len).sum();
    let seconds = best.as_secs_f64();
    let events = case.events as f64 / seconds / 1e6;
    let gib = bytes as f64 / f64::from(1 << 30) / seconds;
    let (shown, must) = match case.must {
        Must::Events(must) => (
            format!("{events:10.2} {:10.0}", 1e3 / events),
            format!("must {must} M events/s"),
        ),
        Must::Bytes(must) => (format!("{:10} {:10}", "", ""), format!("must {must} GiB/s")),
    };
    println!("{:46} {shown} {gib:8.2}   {must}", case.name);
}

/// How long this thread has had a core, where the system tells: another process that has it
/// meanwhile does not count.
fn busy() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn read(case: &Case) -> TokenUsage {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(case.content_type));
    let mut reader = AnswerReader::new(&case.profile, &headers);
    for piece in &case.pieces {
        reader.feed(black_box(piece), SystemTime::now);
    }
    reader.finish(SystemTime::now);
    let answer = reader.answer();
    assert_eq!(answer.failure(), None, "{}", case.name);
    answer.usage()
}

const USAGE: &str = r#"{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}"#;

/// What comes first, what is repeated, and what comes last.
type Shape = (&'static str, &'static str, &'static str);

const OPENAI: Shape = (
    ": open\n\n",
    "data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"gpt-5.1-2025-11-13\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" world\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"8hJkLmN\"}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34,\"total_tokens\":46}}\n\ndata: [DONE]\n\n",
);

const ANTHROPIC: Shape = (
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and so it goes\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":34}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const RESPONSES: Shape = (
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"usage\":null}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"item_id\":\"msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654\",\"output_index\":0,\"content_index\":0,\"delta\":\" world\",\"logprobs\":[],\"obfuscation\":\"tK3Qp5sVx\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":34}}}\n\n",
);

const GEMINI: Shape = (
    "",
    "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"and so it goes\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 12,\"candidatesTokenCount\": 30,\"totalTokenCount\": 42,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 12}]},\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"hmXkaOKqIvKLz7IPmq\"}\r\n\r\n",
    "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \".\"}]},\"finishReason\": \"STOP\"}],\"usageMetadata\": {\"promptTokenCount\": 12,\"candidatesTokenCount\": 34}}\r\n\r\n",
);
