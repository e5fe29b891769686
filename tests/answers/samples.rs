//! Answers in every shape that is known, and what should be made of them.

use tower_relay::provider::TokenUsage;

use crate::support::{AWS, JSON, SSE, frame};

pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) usage: TokenUsage,
    pub(crate) ends: Ends,
    pub(crate) content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Whole,
    /// Without its terminal event.
    Cut,
    /// With an error inside.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Some,
    None,
}

use Content::{None as Nothing, Some as Something};
use Ends::{Cut, Failed, Whole};

/// Input, cached input, cache writes, output.
fn used(
    input: Option<u64>,
    cached: Option<u64>,
    written: Option<u64>,
    output: Option<u64>,
) -> TokenUsage {
    let mut usage = TokenUsage::UNKNOWN;
    usage = input.map_or(usage, |tokens| usage.input(tokens));
    usage = cached.map_or(usage, |tokens| usage.cached_input(tokens));
    usage = written.map_or(usage, |tokens| usage.cache_write(tokens));
    output.map_or(usage, |tokens| usage.output(tokens))
}

pub(crate) fn samples() -> Vec<Sample> {
    let sample = |name, content_type, body: Vec<u8>, usage, ends, content| Sample {
        name,
        content_type,
        body,
        usage,
        ends,
        content,
    };
    let unknown = TokenUsage::UNKNOWN;
    let mut samples = Vec::new();
    for (name, text, usage, ends, content) in streams() {
        samples.push(sample(name, SSE, text.into(), usage, ends, content));
    }
    for (name, text, usage, ends, content) in bodies() {
        samples.push(sample(name, JSON, text.into(), usage, ends, content));
    }
    let start = frame("event", "messageStart", r#"{"role":"assistant"}"#);
    let delta = frame(
        "event",
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"text":"cedar"},"p":"abc"}"#,
    );
    let stop = frame("event", "messageStop", r#"{"stopReason":"end_turn"}"#);
    let metadata = frame(
        "event",
        "metadata",
        r#"{"usage":{"inputTokens":27,"cacheReadInputTokens":8,"cacheWriteInputTokens":1,"outputTokens":5}}"#,
    );
    let exception = frame("exception", "throttlingException", r#"{"message":"slow"}"#);
    // {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}
    let wrapped_start = frame(
        "event",
        "chunk",
        r#"{"bytes":"eyJ0eXBlIjoibWVzc2FnZV9zdGFydCIsIm1lc3NhZ2UiOnsidXNhZ2UiOnsiaW5wdXRfdG9rZW5zIjo5LCJvdXRwdXRfdG9rZW5zIjoxfX19"}"#,
    );
    // {"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":9,"outputTokenCount":7}}
    let wrapped_stop = frame(
        "event",
        "chunk",
        r#"{"p":"abcd","bytes":"eyJ0eXBlIjoibWVzc2FnZV9zdG9wIiwiYW1hem9uLWJlZHJvY2staW52b2NhdGlvbk1ldHJpY3MiOnsiaW5wdXRUb2tlbkNvdW50Ijo5LCJvdXRwdXRUb2tlbkNvdW50Ijo3fX0="}"#,
    );
    let frames = [
        (
            "bedrock-converse",
            [&*start, &delta, &stop, &metadata].concat(),
            used(Some(27), Some(8), Some(1), Some(5)),
            Whole,
            Something,
        ),
        (
            "bedrock-without-metadata",
            [&*start, &delta, &stop].concat(),
            unknown,
            Cut,
            Something,
        ),
        (
            "bedrock-exception",
            [&*start, &exception].concat(),
            unknown,
            Failed,
            Nothing,
        ),
        (
            "bedrock-wrapped",
            [&*wrapped_start, &wrapped_stop].concat(),
            used(Some(9), None, None, Some(7)),
            Whole,
            Nothing,
        ),
        ("bedrock-nothing", vec![], unknown, Cut, Nothing),
    ];
    for (name, bytes, usage, ends, content) in frames {
        samples.push(sample(name, AWS, bytes, usage, ends, content));
    }
    samples
}

type Told = (&'static str, &'static str, TokenUsage, Ends, Content);

fn streams() -> Vec<Told> {
    let unknown = TokenUsage::UNKNOWN;
    vec![
        (
            "chat",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\u{2028}\"},\"finish_reason\":null}],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":100,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n",
            used(Some(12), Some(4), None, Some(100)),
            Whole,
            Something,
        ),
        (
            "chat-without-done",
            "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n",
            used(Some(9), None, None, Some(2)),
            Whole,
            Something,
        ),
        (
            "chat-cut",
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n",
            unknown,
            Cut,
            Something,
        ),
        (
            "chat-tool",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":99}}\"}}]}}]}\r\n\r\ndata: [DONE]\r\n\r\n",
            unknown,
            Whole,
            Something,
        ),
        (
            "byte-order-mark-comment-id-retry-returns",
            "\u{feff}: open\rretry: 3000\r\rid: 1\rdata: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\r\rdata:[DONE]\r\r",
            used(Some(7), None, None, Some(1)),
            Whole,
            Nothing,
        ),
        (
            "lines-of-data",
            "event: ping\n\ndata: {\ndata: \"choices\":[{\"delta\":{\"content\":\"hi\"},\ndata:\ndata: \"finish_reason\":\"stop\"}],\ndata: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n",
            used(Some(5), None, None, Some(1)),
            Whole,
            Something,
        ),
        (
            "groq",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"usage\":{\"prompt_tokens\":15,\"completion_tokens\":4,\"queue_time\":0.2}}}\n\ndata: [DONE]\n\n",
            used(Some(15), None, None, Some(4)),
            Whole,
            Nothing,
        ),
        (
            "deepseek-lacks-resources",
            ": keep-alive\n\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"par\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}],\"usage\":{\"prompt_tokens\":8,\"prompt_cache_hit_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n",
            used(Some(8), Some(3), None, Some(1)),
            Failed,
            Something,
        ),
        (
            "deepseek-closes-the-queue",
            ": keep-alive\n\n: keep-alive\n\n",
            unknown,
            Cut,
            Nothing,
        ),
        (
            "responses",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"usage\":null}}\n\nevent: response.output_text.delta\ndata: {\"delta\":\"pong\",\"type\":\"response.output_text.delta\"}\n\nevent: response.completed\ndata: {\"response\":{\"error\":null,\"usage\":{\"input_tokens\":15,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":2}},\"type\":\"response.completed\"}\n\n",
            used(Some(15), Some(3), None, Some(2)),
            Whole,
            Something,
        ),
        (
            "responses-failed",
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"slow_down\"},\"usage\":{\"input_tokens\":15,\"output_tokens\":0}}}\n\n",
            used(Some(15), None, None, Some(0)),
            Failed,
            Nothing,
        ),
        (
            "anthropic",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":1024,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":6},\"delta\":{\"stop_reason\":\"end_turn\"},\"type\":\"message_delta\"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            used(Some(25), Some(1024), Some(2), Some(6)),
            Whole,
            Something,
        ),
        (
            "anthropic-overloaded",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":472,\"output_tokens\":1}}}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}              }\n\n",
            used(Some(472), None, None, None),
            Failed,
            Nothing,
        ),
        (
            "gemini",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"PO\"}]}}],\"usageMetadata\":{\"promptTokenCount\":9,\"thoughtsTokenCount\":40}}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"NG\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"cachedContentTokenCount\":4,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":41}}\r\n\r\n",
            used(Some(9), Some(4), None, Some(43)),
            Whole,
            Something,
        ),
        (
            "gemini-fails-outside-of-the-framing",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"PO\"}]}}]}\n\n{\n  \"error\": {\n    \"code\": 503,\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n",
            unknown,
            Failed,
            Something,
        ),
        (
            "vllm-error",
            "data: {\"object\":\"error\",\"message\":\"no\",\"code\":500}\n\ndata: [DONE]\n\n",
            unknown,
            Failed,
            Nothing,
        ),
        (
            "openrouter-error",
            ": OPENROUTER PROCESSING\n\ndata: {\"error\":{\"code\":\"server_error\"},\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
            unknown,
            Failed,
            Nothing,
        ),
        ("nothing", "", unknown, Cut, Nothing),
    ]
}

fn bodies() -> Vec<Told> {
    let unknown = TokenUsage::UNKNOWN;
    vec![
        (
            "plain-chat-after-blank-lines",
            "\n\n \r\n{\"choices\":[{\"message\":{\"content\":\"o\\\"k\\u00e9\"},\"finish_reason\":\"stop\"}],\"error\":null,\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":2}}\n",
            used(Some(12), None, None, Some(2)),
            Whole,
            Something,
        ),
        (
            "plain-anthropic",
            "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"ok\"}],\"usage\":{\"input_tokens\":12,\"cache_creation\":{\"ephemeral_1h_input_tokens\":3},\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":0,\"output_tokens\":4}}",
            used(Some(12), Some(0), Some(3), Some(4)),
            Whole,
            Something,
        ),
        (
            "plain-bedrock",
            "{\"output\":{\"message\":{\"content\":[{\"text\":\"Rust\"}]}},\"usage\":{\"inputTokens\":0,\"cacheReadInputTokens\":27,\"outputTokens\":48}}",
            used(Some(0), Some(27), None, Some(48)),
            Whole,
            Something,
        ),
        (
            "array-of-chunks",
            "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":9}}\n,\r\n{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":2}}]",
            used(Some(9), None, None, Some(2)),
            Whole,
            Something,
        ),
        (
            "array-with-an-error",
            "[{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}]",
            unknown,
            Failed,
            Nothing,
        ),
        (
            "plain-error",
            "{\"id\":\"gen\",\"error\":{\"code\":502,\"message\":\"\"}}",
            unknown,
            Failed,
            Nothing,
        ),
        (
            "some-json",
            "{\"question\":[1,2.5e3,true,{\"usage\":{\"prompt_tokens\":3}}]}",
            unknown,
            Whole,
            Nothing,
        ),
    ]
}
