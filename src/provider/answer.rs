//! What an answer tells of itself as its bytes pass.

use std::time::SystemTime;

use http::HeaderMap;

use super::{Profile, TokenUsage};
use crate::outcome::{Completeness, Outcome};

/// Reads a successful answer's bytes as they pass: plain JSON, server-sent events or an AWS event
/// stream, told apart by `content-type`.
///
/// It is pure: it keeps no more of the bytes than one unfinished event, and that bounded.
#[derive(Debug)]
pub struct AnswerReader {
    profile: Profile,
    answer: Answer,
}

/// What is known of an answer so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    usage: TokenUsage,
    completeness: Completeness,
    failure: Option<Outcome>,
    has_content: bool,
}

impl AnswerReader {
    /// A reader of an answer with these headers.
    pub fn new(profile: &Profile, headers: &HeaderMap) -> Self {
        let _ = headers;
        Self {
            profile: profile.clone(),
            answer: Answer::default(),
        }
    }

    /// Reads the next bytes of the body, cut wherever they may be. `now` is the instant of
    /// receipt and is read only for an error that names an instant.
    pub fn feed(&mut self, bytes: &[u8], now: impl Fn() -> SystemTime) {
        let _ = (bytes, now, &self.profile);
    }

    /// The body came to its end without an error.
    pub fn finish(&mut self, now: impl Fn() -> SystemTime) {
        let _ = now;
        self.answer.completeness = Completeness::Complete;
    }

    /// What is known so far.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        self.answer
    }
}

impl Answer {
    /// The tokens reported so far.
    #[must_use]
    pub const fn usage(&self) -> TokenUsage {
        self.usage
    }

    /// Whether the answer came to its own end: the whole of a JSON body, or a stream's terminal
    /// event.
    #[must_use]
    pub const fn completeness(&self) -> Completeness {
        self.completeness
    }

    /// The error inside the answer: what the provider said, or a
    /// [`ServerFault`](crate::outcome::Verdict::ServerFault) for a stream that ended without its
    /// terminal event.
    #[must_use]
    pub const fn failure(&self) -> Option<Outcome> {
        self.failure
    }

    /// Whether any generated content has passed: text, reasoning or a tool's input. Comments,
    /// pings and opening events are none.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        self.has_content
    }
}
