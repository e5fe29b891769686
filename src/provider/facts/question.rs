//! What is read of a request's JSON.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::affinity;

/// More answers to one prompt than any provider gives: a number above it is a mistake.
const MOST_ANSWERS: u64 = 1_024;

/// The fields that are kept, as their text, so that one that makes no sense does not spoil those
/// beside it. The rest is skipped.
#[derive(Default, Deserialize)]
pub(super) struct Question<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow, rename = "generationConfig")]
    generation_config: Option<&'a RawValue>,
    #[serde(borrow, rename = "inferenceConfig")]
    inference_config: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow, rename = "systemInstruction")]
    system_instruction: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
}

/// Gemini's `generationConfig` and Bedrock's `inferenceConfig`.
#[derive(Default, Deserialize)]
struct Config<'a> {
    #[serde(borrow, rename = "maxOutputTokens")]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "maxTokens")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "candidateCount")]
    candidate_count: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
}

impl<'a> Question<'a> {
    pub(super) fn model(&self) -> Option<String> {
        value(self.model?)
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.stream.and_then(value) == Some(true)
    }

    /// The largest maximum of an answer's tokens.
    pub(super) fn output_tokens(&self) -> Option<u64> {
        let maxima = [
            self.max_tokens,
            self.max_completion_tokens,
            self.max_output_tokens,
            inside(self.generation_config).max_output_tokens,
            inside(self.inference_config).max_tokens,
        ];
        maxima.into_iter().flatten().filter_map(value).max()
    }

    /// How many answers are asked for, if the request says.
    pub(super) fn answers(&self) -> Option<u64> {
        let counts = [self.n, inside(self.generation_config).candidate_count];
        let counts = counts.into_iter().flatten().filter_map(value);
        counts.filter(|n| (1..=MOST_ANSWERS).contains(n)).max()
    }

    /// The session that the caller names.
    pub(super) fn session(&self) -> Option<u64> {
        let metadata: Metadata<'_> = inside_of(self.metadata);
        let names = [
            self.prompt_cache_key,
            self.session_id,
            metadata.user_id,
            self.user,
        ];
        let named = |name: &&RawValue| !matches!(name.get(), "null" | "\"\"");
        let name = names.into_iter().flatten().find(named)?;
        Some(affinity::hash(name.get().as_bytes()))
    }

    /// The parts of the prompt in the order in which providers cache them.
    pub(super) fn prompt(&self) -> impl Iterator<Item = &'a [u8]> {
        let parts = [
            self.tools,
            self.system,
            self.system_instruction,
            self.instructions,
            self.messages,
            self.input,
            self.contents,
            self.prompt,
        ];
        parts
            .into_iter()
            .flatten()
            .map(|part| part.get().as_bytes())
    }
}

fn value<T: DeserializeOwned>(field: &RawValue) -> Option<T> {
    serde_json::from_str(field.get()).ok()
}

fn inside(field: Option<&RawValue>) -> Config<'_> {
    inside_of(field)
}

fn inside_of<'a, T: Default + Deserialize<'a>>(field: Option<&'a RawValue>) -> T {
    // A list would do for a struct, field by field.
    let field = field.filter(|field| field.get().starts_with('{'));
    let read = |field: &'a RawValue| serde_json::from_str(field.get()).ok();
    field.and_then(read).unwrap_or_default()
}
