//! Rules of one's own.

use std::{borrow::Cow, fmt};

use super::{said::Said, words};
use crate::outcome::Verdict;

/// A rule that says what a failure means: conditions, all of which must hold, and the verdict.
///
/// ```
/// use std::time::SystemTime;
/// use http::{HeaderMap, StatusCode};
/// use tower_relay::{outcome::Verdict, provider::{Errors, Rule}};
///
/// let errors = Errors::default()
///     .rule(Rule::code("house_limit", Verdict::Throttled).and_status(400))
///     .rule(Rule::message("tenant is frozen", Verdict::Exhausted));
/// let body = br#"{"error":{"code":"HouseLimit","message":"Not now"}}"#;
/// let outcome = errors.classify(
///     StatusCode::BAD_REQUEST,
///     &HeaderMap::new(),
///     body,
///     SystemTime::UNIX_EPOCH,
/// );
/// assert_eq!(outcome.verdict(), Verdict::Throttled);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Rule {
    verdict: Verdict,
    status: Option<u16>,
    /// Without anything but letters and digits, in lower case.
    code: Option<Cow<'static, str>>,
    /// As a line of words.
    message: Option<Cow<'static, str>>,
}

impl Rule {
    const fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            status: None,
            code: None,
            message: None,
        }
    }

    /// A failure with this code is `verdict`.
    ///
    /// A code is the value of any field that names what happened (`code`, `type`, `status`,
    /// `reason`, `__type`, ...) at any depth, of the header `x-amzn-errortype`, or the name of a
    /// stream's event. Case and what separates its words are ignored: `house_limit` is also
    /// `HouseLimit`.
    pub fn code(code: &str, verdict: Verdict) -> Self {
        Self::new(verdict).and_code(code)
    }

    /// A failure with this status is `verdict`. Inside an answer that began with 200 the status
    /// is the one that the error itself names, if any.
    pub const fn status(status: u16, verdict: Verdict) -> Self {
        Self::new(verdict).and_status(status)
    }

    /// A failure whose message has these words, one after the other, is `verdict`. Case and
    /// punctuation are ignored, and the last word may be the beginning of one.
    pub fn message(words: &str, verdict: Verdict) -> Self {
        Self::new(verdict).and_message(words)
    }

    /// This rule for failures with this code only.
    pub fn and_code(mut self, code: &str) -> Self {
        let letters = code.chars().filter(|c| c.is_alphanumeric());
        self.code = Some(
            letters
                .flat_map(char::to_lowercase)
                .collect::<String>()
                .into(),
        );
        self
    }

    /// This rule for failures with this status only.
    pub const fn and_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// This rule for failures whose message has these words only.
    pub fn and_message(mut self, words: &str) -> Self {
        self.message = Some(words::plain(words).trim_end().to_owned().into());
        self
    }

    /// The verdict if the rule holds.
    pub(super) fn apply(&self, said: &Said, status: Option<u16>) -> Option<Verdict> {
        let holds = (self.status.is_none() || self.status == status)
            && self.code.as_ref().is_none_or(|code| said.codes.equal(code))
            && (self.message.as_ref())
                .is_none_or(|words| words::plain(&said.raw).contains(&**words));
        holds.then_some(self.verdict)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Rule");
        if let Some(status) = self.status {
            debug.field("status", &status);
        }
        if let Some(code) = &self.code {
            debug.field("code", code);
        }
        if let Some(message) = &self.message {
            debug.field("message", &message.trim());
        }
        debug.field("verdict", &self.verdict).finish()
    }
}
