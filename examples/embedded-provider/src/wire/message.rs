//! What one answer consists of, and what all formats write alike.

use super::{anthropic, bedrock, format::Format, gemini, openai};
use crate::charging::Tokens;
use bytes::Bytes;
use http::HeaderValue;
use std::{fmt::Display, time::Duration};

/// The text of answers repeats these words of four bytes, one per token.
const WORDS: [&str; 8] = [
    "the ", "sea ", "and ", "sky ", "are ", "one ", "big ", "sum ",
];

/// One answer, whole or in events.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) format: Format,
    /// Distinguishes it from all others.
    pub(crate) number: u64,
    /// In seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) tokens: Tokens,
    pub(crate) output_tokens: u64,
    /// Whether a stream in OpenAI's format tells its tokens.
    pub(crate) include_usage: bool,
    /// How long the generation takes, in provider time.
    pub(crate) millis: u64,
}

impl Message {
    pub(crate) fn whole(&self) -> Bytes {
        let whole = match self.format {
            Format::Anthropic => anthropic::whole(self),
            Format::OpenAi => openai::whole(self),
            Format::Gemini => gemini::whole(self),
            Format::Bedrock => bedrock::whole(self),
        };
        whole.into()
    }

    /// The events before the first token.
    pub(crate) fn opening(&self) -> Bytes {
        match self.format {
            Format::Anthropic => anthropic::opening(self).into(),
            Format::OpenAi => openai::opening(self).into(),
            // The first token comes with the head, and there is nothing to say before it.
            Format::Gemini => Bytes::new(),
            Format::Bedrock => bedrock::opening(),
        }
    }

    /// Tokens `from..to` of the answer.
    pub(crate) fn delta(&self, from: u64, to: u64) -> Bytes {
        let text = text(from, to);
        match self.format {
            Format::Anthropic => anthropic::delta(&text).into(),
            Format::OpenAi => openai::delta(self, &text).into(),
            Format::Gemini => gemini::delta(self, &text, to).into(),
            Format::Bedrock => bedrock::delta(&text),
        }
    }

    /// The events after the last token.
    pub(crate) fn closing(&self) -> Bytes {
        match self.format {
            Format::Anthropic => anthropic::closing(self).into(),
            Format::OpenAi => openai::closing(self).into(),
            Format::Gemini => gemini::closing(self).into(),
            Format::Bedrock => bedrock::closing(self),
        }
    }

    /// The event that takes the place of the rest when a stream fails.
    pub(crate) fn broken_off(&self) -> Bytes {
        match self.format {
            Format::Anthropic => anthropic::broken_off().into(),
            Format::OpenAi => openai::broken_off().into(),
            Format::Gemini => gemini::broken_off().into(),
            Format::Bedrock => bedrock::broken_off(),
        }
    }

    /// Whether the model came to an end by itself.
    pub(super) fn is_complete(&self) -> bool {
        self.output_tokens < self.tokens.max
    }

    pub(super) fn text(&self) -> String {
        text(0, self.output_tokens)
    }
}

fn text(from: u64, to: u64) -> String {
    (from..to)
        .map(|token| WORDS[token as usize % WORDS.len()])
        .collect()
}

pub(crate) fn whole_seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

pub(crate) fn value(shown: impl Display) -> HeaderValue {
    HeaderValue::try_from(shown.to_string())
        .expect("numbers, dates and identifiers are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        let told = |millis| whole_seconds_up(Duration::from_millis(millis));
        assert_eq!([0, 1, 2_000, 2_001].map(told), [0, 1, 2, 3]);
    }
}
