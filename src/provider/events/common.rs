//! The shapes of answers that are known, as of 2026-11.

use super::{
    Events, Field,
    Field::{
        CacheWrite, CachedInput, Content, End, Error, Finish, Input, MoreOutput, Name, Output,
        Refused, Wrapped,
    },
};

/// Where each of these stands there is a usage in the shapes of OpenAI, Anthropic or Bedrock.
const USAGES: [&str; 3] = [
    "usage",
    "x_groq.usage",
    // The Responses API's events.
    "response.usage",
];

const USAGE: [(&str, Field); 14] = [
    ("prompt_tokens", Input),
    ("completion_tokens", Output),
    ("prompt_tokens_details.cached_tokens", CachedInput),
    // DeepSeek.
    ("prompt_cache_hit_tokens", CachedInput),
    // The Responses API, and Anthropic with its own names for the cache.
    ("input_tokens", Input),
    ("output_tokens", Output),
    ("input_tokens_details.cached_tokens", CachedInput),
    ("cache_read_input_tokens", CachedInput),
    ("cache_creation_input_tokens", CacheWrite),
    // Bedrock's Converse.
    ("inputTokens", Input),
    ("outputTokens", Output),
    ("cacheReadInputTokens", CachedInput),
    ("cacheWriteInputTokens", CacheWrite),
    // Mistral.
    ("num_cached_tokens", CachedInput),
];

const FIELDS: [(&str, Field); 26] = [
    // Anthropic's opening event. Its output tokens are a placeholder and do not count.
    ("message.usage.input_tokens", Input),
    ("message.usage.cache_read_input_tokens", CachedInput),
    ("message.usage.cache_creation_input_tokens", CacheWrite),
    // Gemini.
    ("usageMetadata.promptTokenCount", Input),
    ("usageMetadata.cachedContentTokenCount", CachedInput),
    ("usageMetadata.candidatesTokenCount", Output),
    ("usageMetadata.thoughtsTokenCount", MoreOutput),
    // The last chunk of any model that Bedrock invokes.
    ("amazon-bedrock-invocationMetrics", End),
    ("amazon-bedrock-invocationMetrics.inputTokenCount", Input),
    ("amazon-bedrock-invocationMetrics.outputTokenCount", Output),
    (
        "amazon-bedrock-invocationMetrics.cacheReadInputTokenCount",
        CachedInput,
    ),
    (
        "amazon-bedrock-invocationMetrics.cacheWriteInputTokenCount",
        CacheWrite,
    ),
    ("bytes", Wrapped),
    ("type", Name),
    ("event_type", Name),
    // vLLM and Mistral call an error an object.
    ("object", Name),
    ("error", Error),
    ("response.error", Error),
    ("choices.error", Error),
    ("choices.finish_reason", Finish),
    ("candidates.finishReason", Finish),
    ("promptFeedback.blockReason", Refused),
    // Text completions.
    ("choices.text", Content),
    ("choices.delta.content.thinking.text", Content),
    // An event of the Responses API has its piece as a string.
    ("delta", Content),
    ("choices.delta.audio.data", Content),
];

/// Where content stands: a piece of a stream, a block of a plain answer.
const CONTENTS: [(&str, &[&str]); 10] = [
    ("choices.delta", &OPENAI),
    ("choices.message", &OPENAI),
    ("delta", &ANTHROPIC),
    ("content_block", &ANTHROPIC),
    ("content", &ANTHROPIC),
    ("output", &RESPONSES),
    ("response.output", &RESPONSES),
    ("candidates.content.parts", &GEMINI),
    ("delta", &BEDROCK),
    ("output.message.content", &BEDROCK),
];

const OPENAI: [&str; 10] = [
    "content",
    "content.text",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details.text",
    "tool_calls.function.name",
    "tool_calls.function.arguments",
    "function_call.name",
    "function_call.arguments",
];

const ANTHROPIC: [&str; 6] = [
    "text",
    "thinking",
    "signature",
    "partial_json",
    // A tool that is called; redacted thinking.
    "name",
    "data",
];

const RESPONSES: [&str; 6] = [
    "content.text",
    "content.refusal",
    "summary.text",
    "arguments",
    "input",
    "result",
];

const GEMINI: [&str; 5] = [
    "text",
    "functionCall.name",
    "executableCode.code",
    "inlineData.data",
    "thoughtSignature",
];

const BEDROCK: [&str; 7] = [
    "text",
    "toolUse.name",
    "toolUse.input",
    "reasoningContent.text",
    "reasoningContent.signature",
    "reasoningContent.redactedContent",
    "reasoningContent.reasoningText.text",
];

const ENDS: [&str; 5] = [
    "[DONE]",
    "message_stop",
    "response.completed",
    "response.incomplete",
    // Bedrock's, after `messageStop`.
    "metadata",
];

const ERRORS: [&str; 8] = [
    "error",
    "response.failed",
    // Bedrock's, where something has made server-sent events of them.
    "internalServerException",
    "modelStreamErrorException",
    "modelTimeoutException",
    "serviceUnavailableException",
    "throttlingException",
    "validationException",
];

/// OpenRouter's and DeepSeek's.
const FAILING: [&str; 2] = ["error", "insufficient_system_resource"];

pub(super) fn events() -> Events {
    let mut events = Events::none().field("start.toolUse.name", Content);
    for place in USAGES {
        for (name, tells) in USAGE {
            events = events.field(&format!("{place}.{name}"), tells);
        }
    }
    for (place, names) in CONTENTS {
        for name in names {
            events = events.field(&format!("{place}.{name}"), Content);
        }
    }
    for (path, tells) in FIELDS {
        events = events.field(path, tells);
    }
    for name in ENDS {
        events = events.end(name);
    }
    for name in ERRORS {
        events = events.error(name);
    }
    for reason in FAILING {
        events = events.failing(reason);
    }
    events
}
