//! What an answer tells of itself as its bytes pass.

use std::{fmt, time::SystemTime};

use http::HeaderMap;

use self::{
    aws::Aws,
    message::{Account, Message},
    skim::Place,
    sse::Sse,
};
use super::{Profile, TokenUsage, declared::Declared};
use crate::outcome::{Completeness, Outcome, Verdict};

mod aws;
mod message;
mod skim;
mod sse;

/// Reads a successful answer's bytes as they pass: plain JSON, server-sent events or an AWS event
/// stream, told apart by their first bytes and, where those leave it open, by `content-type`.
///
/// What it looks for is said by the profile's [`Events`](super::Events), what an error in it
/// means by its [`Errors`](super::Errors).
///
/// It is pure, and the cuts between the bytes it is fed change nothing. It keeps none of them but
/// of one event, one element of a JSON array or one JSON body: its first 64 KiB, and 16 KiB of a
/// field that is an error, to hand to the rules of errors. Usage, content and the end are found
/// wherever they stand, in an event of any size. So a reader holds at most 80 KiB, and as much
/// again for what Bedrock wraps in its events.
///
/// It is small until it knows from the first bytes that there is something to read. What it needs
/// then, some hundred bytes, is one allocation; an answer that is none of the known kinds, or has no bytes,
/// costs none.
///
/// - JSON: complete at its end. A body that is cut is a
///   [`ServerFault`](crate::outcome::Verdict::ServerFault), and so are blank lines without a body.
///   Of a top-level array every element is read like an event.
/// - Events: complete after a terminal event, or where the stream ends after a reason to finish. A
///   stream that ends otherwise is a `ServerFault`; so is an empty one.
/// - Anything else, compressed bodies included: complete at its end; the usage is unknown, and it
///   counts as content.
///
/// An error inside makes the answer partial; the first one stands. What was reported of the usage
/// until then stays.
///
/// ```
/// use std::time::SystemTime;
/// use http::HeaderMap;
/// use tower_relay::{
///     outcome::Completeness,
///     provider::{AnswerReader, Profile, TokenUsage},
/// };
///
/// let mut reader = AnswerReader::new(&Profile::openai(), &HeaderMap::new());
/// for cut in [
///     "data: {\"choices\":[{\"delta\":{\"content\":\"Hel",
///     "lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"usage\":{\"prompt_tokens\":1",
///     "2,\"completion_tokens\":1}}\n\nda",
///     "ta: [DONE]\n\n",
/// ] {
///     reader.feed(cut.as_bytes(), SystemTime::now);
/// }
/// reader.finish(SystemTime::now);
/// let answer = reader.answer();
/// assert_eq!(answer.usage(), TokenUsage::UNKNOWN.input(12).output(1));
/// assert_eq!(answer.completeness(), Completeness::Complete);
/// assert!(answer.has_content());
/// assert_eq!(answer.failure(), None);
/// ```
pub struct AnswerReader {
    profile: Profile,
    declared: Declared,
    state: State,
}

enum State {
    /// What it is has yet to be seen.
    Opening(Opening),
    /// It is of no known kind.
    Plain(Plain),
    /// Out of the way: responses are moved through every layer, most of them before the first
    /// byte has come.
    Framed(Box<Framed>),
}

/// An answer of which nothing can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plain {
    has_content: bool,
    end: PlainEnd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PlainEnd {
    #[default]
    Open,
    Whole,
    Cut,
}

struct Framed {
    account: Account,
    framing: Framing,
}

/// How the bytes are to be read.
enum Framing {
    Json(Json),
    Events(Sse),
    Frames(Aws),
    /// They are not what they were taken for.
    Opaque,
}

/// The first bytes, as long as they leave open what follows.
#[derive(Default)]
struct Opening {
    bytes: [u8; 8],
    length: usize,
    /// There were blanks before.
    blank: bool,
}

/// A body of one JSON value, or of several.
struct Json {
    message: Message,
    /// After a value.
    ended: bool,
}

/// Whether the bytes are what they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Some,
    None,
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
        Self::of(profile, Declared::by(headers))
    }

    pub(super) fn of(profile: &Profile, declared: Declared) -> Self {
        Self {
            profile: profile.clone(),
            declared,
            state: match declared {
                Declared::Encoded => State::Plain(Plain::default()),
                _ => State::Opening(Opening::default()),
            },
        }
    }

    /// Reads the next bytes of the body, cut wherever they may be. `now` is the instant of
    /// receipt and is read only for an error that names an instant.
    pub fn feed(&mut self, bytes: &[u8], now: impl Fn() -> SystemTime) {
        let mut rest = bytes;
        while let (State::Opening(opening), [first, after @ ..]) = (&mut self.state, rest) {
            rest = after;
            let Some(framing) = opening.read(*first, self.declared) else {
                continue;
            };
            let (head, length) = (opening.bytes, opening.length);
            self.state = match framing {
                Framing::Opaque => State::Plain(Plain::SOME),
                framing => State::Framed(Box::new(Framed {
                    account: Account::new(self.profile.clone()),
                    framing,
                })),
            };
            // All at once, if it came at once.
            rest = match (bytes.len() - after.len()).checked_sub(length) {
                Some(from) => &bytes[from..],
                None => {
                    self.read(&head[..length], &now);
                    after
                }
            };
        }
        self.read(rest, &now);
    }

    /// The body came to its end without an error.
    pub fn finish(&mut self, now: impl Fn() -> SystemTime) {
        match &mut self.state {
            State::Opening(opening) => self.state = State::Plain(opening.finish(self.declared)),
            State::Plain(plain) if plain.end == PlainEnd::Open => plain.end = PlainEnd::Whole,
            State::Plain(_) => {}
            State::Framed(framed) => framed.finish(&now),
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match &self.state {
            State::Opening(_) => Answer::default(),
            State::Plain(plain) => plain.answer(),
            State::Framed(framed) => framed.account.answer,
        }
    }

    pub(super) const fn profile(&self) -> &Profile {
        &self.profile
    }

    fn read(&mut self, bytes: &[u8], now: &dyn Fn() -> SystemTime) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.state {
            State::Opening(_) => {}
            State::Plain(plain) => plain.has_content = true,
            State::Framed(framed) => framed.read(bytes, now),
        }
    }
}

impl fmt::Debug for AnswerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it has read is nobody's business.
        f.debug_struct("AnswerReader")
            .field("profile", &self.profile)
            .field("answer", &self.answer())
            .finish_non_exhaustive()
    }
}

// === impl Plain ===

impl Plain {
    const SOME: Self = Self {
        has_content: true,
        end: PlainEnd::Open,
    };

    fn answer(self) -> Answer {
        let answer = Answer {
            has_content: self.has_content,
            ..Answer::default()
        };
        match self.end {
            PlainEnd::Open => answer,
            PlainEnd::Whole => Answer {
                completeness: Completeness::Complete,
                ..answer
            },
            PlainEnd::Cut => Answer {
                failure: Some(Outcome::new(Verdict::ServerFault)),
                ..answer
            },
        }
    }
}

// === impl Framed ===

impl Framed {
    fn read(&mut self, bytes: &[u8], now: &dyn Fn() -> SystemTime) {
        let account = &mut self.account;
        let sense = match &mut self.framing {
            Framing::Json(json) => json.feed(bytes, account, now),
            Framing::Events(events) => events.feed(bytes, account, now),
            Framing::Frames(frames) => frames.feed(bytes, account, now),
            Framing::Opaque => Sense::None,
        };
        if sense == Sense::None {
            self.framing = Framing::Opaque;
            account.answer.has_content = true;
        }
    }

    fn finish(&mut self, now: &dyn Fn() -> SystemTime) {
        let account = &mut self.account;
        match &mut self.framing {
            Framing::Json(json) => account.end(json.ended),
            Framing::Events(events) => events.finish(account, now),
            Framing::Frames(frames) if frames.is_certain() => account.end_of_stream(),
            Framing::Frames(_) => {
                account.answer.has_content = true;
                account.end(true);
            }
            Framing::Opaque => account.end(true),
        }
    }
}

// === impl Opening ===

impl Opening {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    /// How server-sent events begin.
    const EVENTS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];

    /// Reads one more byte; says what it is if that is clear now.
    fn read(&mut self, byte: u8, declared: Declared) -> Option<Framing> {
        if self.length == 0 && matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            self.blank = true;
            return None;
        }
        self.bytes[self.length] = byte;
        self.length += 1;
        let head = &self.bytes[..self.length];
        if head == Self::BYTE_ORDER_MARK {
            self.length = 0;
            return None;
        }
        match head {
            [b'{' | b'[', ..] => {
                return Some(match declared {
                    // Perhaps an error in the place of the first event.
                    Declared::Events => Framing::Events(Sse::new()),
                    _ => Framing::Json(Json::new()),
                });
            }
            // A frame begins with its length, which is less than 32 MiB.
            [0 | 1, ..] if !self.blank => {
                return Some(Framing::Frames(Aws::new(declared == Declared::Frames)));
            }
            _ => {}
        }
        let could_be = |known: &[u8]| known.starts_with(head);
        if Self::EVENTS.iter().any(|known| head.starts_with(known)) {
            return Some(Framing::Events(Sse::new()));
        }
        if could_be(Self::BYTE_ORDER_MARK) {
            return None;
        }
        if declared == Declared::Events {
            return Some(Framing::Events(Sse::new()));
        }
        let is_open = Self::EVENTS.iter().any(|known| could_be(known));
        (!is_open).then_some(Framing::Opaque)
    }

    /// The body has ended with nothing but this.
    const fn finish(&self, declared: Declared) -> Plain {
        let has_content = self.length > 0;
        let is_cut = !has_content
            && match declared {
                Declared::Events | Declared::Frames => true,
                Declared::Json => self.blank,
                Declared::Encoded | Declared::Other => false,
            };
        Plain {
            has_content,
            end: if is_cut {
                PlainEnd::Cut
            } else {
                PlainEnd::Whole
            },
        }
    }
}

// === impl Json ===

impl Json {
    const fn new() -> Self {
        Self {
            message: Message::new(),
            ended: false,
        }
    }

    fn feed(&mut self, bytes: &[u8], account: &mut Account, now: &dyn Fn() -> SystemTime) -> Sense {
        let mut rest = bytes;
        while let [first, after @ ..] = rest {
            if self.ended {
                match first {
                    b'{' | b'[' => self.ended = false,
                    _ => {
                        rest = after;
                        continue;
                    }
                }
            }
            let (read, place) = self.message.feed(rest, account);
            rest = &rest[read..];
            match place {
                Place::Inside => {}
                Place::ElementEnd => self.message.end_element(account, now),
                Place::End => {
                    self.message.end(None, account, now);
                    self.ended = true;
                }
                Place::Nonsense => return Sense::None,
            }
        }
        Sense::Some
    }
}

// === impl Answer ===

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
