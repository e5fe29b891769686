//! What a provider's answers tell of themselves.

use std::sync::{Arc, OnceLock};

mod common;
mod tree;

pub(super) use self::tree::{Node, Tree};

/// Where an answer, plain or streamed, tells its usage, its errors and its end.
///
/// It is a table of fields, each known by its path from the top of a JSON body, of a chunk or of
/// an event's data, and of the names of events. Arrays do not count in a path: in
/// `choices.delta.content` the choices are a list. Fields that are absent, null or of another
/// type tell nothing. Where several fields tell the same, the last one read counts, but a zero
/// does not replace more.
///
/// The default knows the shapes of Anthropic, OpenAI (chat and Responses) with those who imitate it,
/// Gemini, and Bedrock (Converse, and what `InvokeModelWithResponseStream` wraps).
///
/// ```
/// use std::time::SystemTime;
/// use http::HeaderMap;
/// use tower_relay::provider::{AnswerReader, Events, Field, Profile, TokenUsage};
///
/// let events = Events::common()
///     .field("billing.tokens_in", Field::Input)
///     .field("billing.tokens_out", Field::Output);
/// let profile = Profile::generic().events(events);
///
/// let mut reader = AnswerReader::new(&profile, &HeaderMap::new());
/// reader.feed(br#"{"billing":{"tokens_in":12,"tokens_out":3}}"#, SystemTime::now);
/// reader.finish(SystemTime::now);
/// assert_eq!(reader.answer().usage(), TokenUsage::UNKNOWN.input(12).output(3));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Events {
    rules: Arc<Rules>,
}

/// What a field of an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// A number: the input tokens, as the provider counts them.
    Input,
    /// A number: the input tokens read from a cache.
    CachedInput,
    /// A number: the input tokens written into a cache.
    CacheWrite,
    /// A number: the output tokens so far.
    Output,
    /// A number: output tokens that [`Output`](Self::Output) does not include, such as thoughts.
    MoreOutput,
    /// A string: generated content, unless it is empty.
    Content,
    /// A string: why the answer ended. A stream that ends after it is complete; one of the
    /// [failing](Events::failing) reasons is an error.
    Finish,
    /// A string: why the prompt was refused, which is the caller's fault and the answer's end.
    Refused,
    /// A string: the name of the event or chunk, like an SSE `event` field.
    Name,
    /// Anything but null, false or empty: an error.
    Error,
    /// Anything but null or false: the answer's end.
    End,
    /// A string: another event's JSON, in base64. Read in AWS event streams only.
    Wrapped,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    tree: Tree,
    ends: Vec<Box<str>>,
    errors: Vec<Box<str>>,
    failing: Vec<Box<str>>,
    ending: Ending,
}

/// Whether a stream of events needs a terminal event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    #[default]
    Marked,
    Any,
}

impl Events {
    /// The shapes that are known, together: the default.
    pub fn common() -> Self {
        static COMMON: OnceLock<Events> = OnceLock::new();
        COMMON.get_or_init(common::events).clone()
    }

    /// No field and no name: a table to begin with.
    pub fn none() -> Self {
        Self {
            rules: Arc::default(),
        }
    }

    /// This table with the field at `path`, names joined by dots. It replaces what was said of
    /// that path. Fields inside more than 16 objects and arrays are not found, nor names longer
    /// than 64 bytes.
    pub fn field(self, path: &str, tells: Field) -> Self {
        self.with(|rules| rules.tree.insert(path, tells))
    }

    /// This table with an event, known by its `event` field, a [`Field::Name`] or as data that is
    /// no JSON, after which the answer is complete.
    pub fn end(self, name: &str) -> Self {
        self.with(|rules| rules.ends.push(name.into()))
    }

    /// This table with the name of an event that is an error.
    pub fn error(self, name: &str) -> Self {
        self.with(|rules| rules.errors.push(name.into()))
    }

    /// This table with a reason to finish that is an error.
    pub fn failing(self, reason: &str) -> Self {
        self.with(|rules| rules.failing.push(reason.into()))
    }

    /// This table for streams that have no terminal event: they are complete when they end.
    pub fn any_end(self) -> Self {
        self.with(|rules| rules.ending = Ending::Any)
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.rules.tree
    }

    pub(super) fn is_end(&self, name: &[u8]) -> bool {
        has(&self.rules.ends, name)
    }

    pub(super) fn is_error(&self, name: &[u8]) -> bool {
        has(&self.rules.errors, name)
    }

    pub(super) fn is_failing(&self, reason: &[u8]) -> bool {
        has(&self.rules.failing, reason)
    }

    pub(super) fn needs_end(&self) -> bool {
        self.rules.ending == Ending::Marked
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::common()
    }
}

fn has(names: &[Box<str>], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}
