//! What a call asks for: its key, its tokens, its form of answer.

use crate::{
    charging::Tokens,
    wire::{Format, Problem, Target},
};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

/// The largest request body that is read: 4 MiB. A larger one is answered with 413.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// The largest output limit that is accepted: 128 000. A larger one is answered with 400.
pub const MAX_OUTPUT_TOKENS: u64 = 128_000;

/// The output limit of a chat completion that sets none, which it is charged: 1 024.
pub const DEFAULT_OUTPUT_TOKENS: u64 = 1_024;

/// The output limit of a Gemini or Bedrock call that sets none: 8 192, as the model's own maximum.
pub const MODEL_OUTPUT_TOKENS: u64 = 8_192;

/// A body too large is still read this far, so that its client gets to see the answer.
const MAX_DRAINED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Fixes the length of the answer, in tokens.
const OUTPUT_TOKENS_HEADER: &str = "x-output-tokens";

/// Fixes the length of the input, in tokens.
const INPUT_TOKENS_HEADER: &str = "x-input-tokens";

/// How much of the input is read from a cache, in tokens.
const CACHED_TOKENS_HEADER: &str = "x-cached-tokens";

/// How much of the input is written into a cache, in tokens.
const CACHE_WRITE_TOKENS_HEADER: &str = "x-cache-write-tokens";

/// The input tokens that the provider estimates for a request body; `None` if it is not a JSON
/// object.
///
/// The rule is `ceil(bytes / 4)`, at least 1, over the UTF-8 text of `system` and of every message,
/// each of them a string or a list of blocks, of which the `text` counts; for Gemini, of
/// `systemInstruction` and `contents` and their parts. It is the same for all formats.
///
/// ```
/// let body = br#"{"system": "Be brief.", "messages": [{"role": "user", "content": "Hello!"}]}"#;
/// assert_eq!(embedded_provider::count_input_tokens(body), Some(4));
/// ```
pub fn count_input_tokens(body: &[u8]) -> Option<u64> {
    serde_json::from_slice(body).ok().as_ref().map(input_tokens)
}

fn input_tokens(request: &Map<String, Value>) -> u64 {
    let each = |list: &str, text: &'static str| {
        let messages = request.get(list).and_then(Value::as_array);
        let texts = messages.into_iter().flatten();
        texts.map(move |message| text_bytes(&message[text])).sum()
    };
    let instruction = request.get("systemInstruction");
    let bytes: [usize; 4] = [
        each("messages", "content"),
        each("contents", "parts"),
        request.get("system").map_or(0, text_bytes),
        instruction.map_or(0, |content| text_bytes(&content["parts"])),
    ];
    (bytes.iter().sum::<usize>() as u64).div_ceil(4).max(1)
}

fn text_bytes(content: &Value) -> usize {
    match content {
        Value::String(text) => text.len(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block["text"].as_str())
            .map(str::len)
            .sum(),
        _ => 0,
    }
}

/// A valid call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) model: String,
    pub(crate) tokens: Tokens,
    pub(crate) stream: bool,
    /// Whether a stream in OpenAI's format tells its tokens.
    pub(crate) include_usage: bool,
    /// The length the client asked for, within `1..=tokens.max`.
    pub(crate) output_tokens: Option<u64>,
}

impl Call {
    pub(crate) fn parse(format: Format, head: &Parts, body: &[u8]) -> Result<Self, Problem> {
        let mut request: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| Problem::Malformed(error.to_string()))?;
        if format == Format::OpenAi {
            // There null is the same as nothing.
            request.retain(|_, value| !value.is_null());
        }
        let target = Target::of(head.uri.path());
        let model = match target {
            Some(target) => target.model,
            None => field(&request, "model")?.as_str().unwrap_or_default(),
        };
        if model.is_empty() {
            return Err(Problem::wrong("model", "a non-empty string"));
        }
        let messages = match format {
            Format::Gemini => "contents",
            _ => "messages",
        };
        if field(&request, messages)?
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            return Err(Problem::wrong(messages, "a non-empty list"));
        }
        let max = match format {
            Format::Anthropic => output_limit("max_tokens", field(&request, "max_tokens")?)?,
            Format::OpenAi => optional_output_limit(&request)?,
            Format::Gemini => nested_limit(&request, "generationConfig", "maxOutputTokens")?,
            Format::Bedrock => nested_limit(&request, "inferenceConfig", "maxTokens")?,
        };
        let stream = match target {
            Some(target) => target.stream,
            None => flag("stream", request.get("stream"))?,
        };
        if format == Format::Gemini && stream && head.uri.query() != Some("alt=sse") {
            return Err(Problem::wrong("alt", "'sse'"));
        }
        let include_usage = format == Format::OpenAi && include_usage(&request, stream)?;
        let headers = &head.headers;
        let estimated = input_tokens(&request);
        let input = number(headers, INPUT_TOKENS_HEADER)?.map_or(estimated, |input| input.max(1));
        let cached = number(headers, CACHED_TOKENS_HEADER)?
            .unwrap_or(0)
            .min(input);
        let written = number(headers, CACHE_WRITE_TOKENS_HEADER)?.unwrap_or(0);
        let output_tokens = number(headers, OUTPUT_TOKENS_HEADER)?;
        Ok(Self {
            model: model.to_owned(),
            tokens: Tokens {
                estimated,
                input,
                cached,
                written: written.min(input - cached),
                max,
            },
            stream,
            include_usage,
            output_tokens: output_tokens.map(|tokens| tokens.clamp(1, max)),
        })
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|value| value.parse().ok());
    let wrong = || Problem::wrong(name, "an integer");
    Ok(Some(number.ok_or_else(wrong)?))
}

/// The output limit inside an object of the request, or that of the model.
fn nested_limit(
    request: &Map<String, Value>,
    object: &'static str,
    name: &'static str,
) -> Result<u64, Problem> {
    match request.get(object).and_then(|object| object.get(name)) {
        None => Ok(MODEL_OUTPUT_TOKENS),
        Some(limit) => output_limit(name, limit),
    }
}

fn field<'a>(request: &'a Map<String, Value>, name: &'static str) -> Result<&'a Value, Problem> {
    request.get(name).ok_or(Problem::Missing(name))
}

fn output_limit(name: &'static str, value: &Value) -> Result<u64, Problem> {
    let wrong = || Problem::wrong(name, format!("an integer from 1 to {MAX_OUTPUT_TOKENS}"));
    value
        .as_u64()
        .filter(|tokens| (1..=MAX_OUTPUT_TOKENS).contains(tokens))
        .ok_or_else(wrong)
}

/// The limit in OpenAI's format: under either name, or the default.
fn optional_output_limit(request: &Map<String, Value>) -> Result<u64, Problem> {
    let (old, new) = ("max_tokens", "max_completion_tokens");
    match (request.get(old), request.get(new)) {
        (None, None) => Ok(DEFAULT_OUTPUT_TOKENS),
        (Some(limit), None) => output_limit(old, limit),
        (None, Some(limit)) => output_limit(new, limit),
        (Some(_), Some(_)) => Err(Problem::wrong(old, format!("nothing beside '{new}'"))),
    }
}

fn include_usage(request: &Map<String, Value>, stream: bool) -> Result<bool, Problem> {
    let name = "stream_options";
    match request.get(name) {
        None => Ok(false),
        Some(_) if !stream => Err(Problem::wrong(name, "nothing unless 'stream' is true")),
        Some(Value::Object(options)) => flag(
            "stream_options.include_usage",
            options.get("include_usage").filter(|flag| !flag.is_null()),
        ),
        Some(_) => Err(Problem::wrong(name, "an object")),
    }
}

/// False if it is absent.
fn flag(name: &'static str, value: Option<&Value>) -> Result<bool, Problem> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Problem::wrong(name, "a valid boolean")),
    }
}

/// The key of a request: in the header of the format, or if that is absent in another one's.
pub(crate) fn key(format: Format, headers: &HeaderMap) -> Option<&str> {
    let own = match format {
        Format::Anthropic => "x-api-key",
        Format::OpenAi | Format::Bedrock => AUTHORIZATION.as_str(),
        Format::Gemini => "x-goog-api-key",
    };
    let all = [
        own,
        AUTHORIZATION.as_str(),
        "x-api-key",
        "api-key",
        "x-goog-api-key",
    ];
    let mut present = all
        .into_iter()
        .filter_map(|name| Some((name, headers.get(name)?)));
    let (name, value) = present.next()?;
    let value = value.to_str().ok()?;
    if name != AUTHORIZATION.as_str() {
        return Some(value);
    }
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Reads a body to its end; `None` if it is larger than [`MAX_BODY_BYTES`].
pub(crate) async fn read<B: Body<Data: Buf>>(body: B) -> Result<Option<Bytes>, B::Error> {
    let mut body = std::pin::pin!(body);
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.as_mut().frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        seen += data.remaining();
        if seen <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        } else if seen > MAX_DRAINED_BYTES {
            break;
        }
    }
    Ok((seen <= MAX_BODY_BYTES).then(|| kept.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_tokens_count_text_alone_and_round_up() {
        let count = |body: &str| count_input_tokens(body.as_bytes());
        assert_eq!(count(r#"{"messages": [{"content": ""}]}"#), Some(1));
        assert_eq!(
            count(r#"{"messages": [{"content": "12345"}, {"content": "678"}]}"#),
            Some(2)
        );
        let blocks = r#"{"system": [{"type": "text", "text": "1234"}],
            "messages": [{"content": [{"type": "image"},
            {"type": "text", "text": "\u00e9567 "}]}]}"#;
        assert_eq!(count(blocks), Some(3), "two bytes for an e with an accent");
        assert_eq!(count("[]"), None);
        assert_eq!(count("{"), None);
    }

    #[test]
    fn key_is_read_from_either_header_and_first_from_that_of_the_format() {
        let mut headers = HeaderMap::new();
        let keys = |headers: &HeaderMap| {
            [Format::Anthropic, Format::OpenAi]
                .map(|format| key(format, headers).map(str::to_owned))
        };
        let both = |first: &str, second: &str| [Some(first.to_owned()), Some(second.to_owned())];
        assert_eq!(keys(&headers), [None, None]);
        headers.insert(AUTHORIZATION, "bearer two".parse().expect("a header value"));
        assert_eq!(keys(&headers), both("two", "two"));
        headers.insert("x-api-key", "one".parse().expect("a header value"));
        assert_eq!(keys(&headers), both("one", "two"));
        headers.remove(AUTHORIZATION);
        assert_eq!(keys(&headers), both("one", "one"));
    }
}
