//! Reads JSON as it passes, cut anywhere, and keeps nothing of it but where it is.

use std::{borrow::Cow, str};

use memchr::memchr3;

use crate::provider::{
    Field,
    events::{Node, Tree},
};

/// Containers within each other that are looked into. Paths are shorter.
const DEEPEST: usize = 16;
/// Names of fields and events that are longer are none that is known.
const LONGEST_TEXT: usize = 64;
/// Told in the place of a text that is too long.
const UNKNOWN: &[u8] = b"?";

/// A reader of one JSON object or array.
///
/// Where something may be told it checks the grammar. What tells nothing is skipped by looking
/// for quotes and brackets alone, so malformed JSON may pass in there.
#[derive(Debug)]
pub(super) struct Skim {
    state: State,
    /// Where the value, key or text is that is being read.
    node: Node,
    open: [(Node, Container); DEEPEST],
    depth: usize,
    /// Open containers of no interest, the outermost of them included.
    skipped: u64,
    /// A backslash was the last byte of a string.
    cut_escape: bool,
    /// The string has had a backslash.
    escaped: bool,
    text: Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value comes.
    Value,
    /// The first value of an array comes, or its end.
    First,
    /// A key comes.
    Key,
    /// The first key of an object comes, or its end.
    FirstKey,
    /// The colon after a key comes.
    Colon,
    /// A value has ended.
    After,
    InKey,
    InString(Option<Field>),
    InNumber(Option<Field>),
    InWord,
    Skipping(Skipping),
    SkippingString(Skipping),
}

/// What is done with a container that tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipping {
    Over,
    /// It may be an error, if there is anything in it.
    MaybeError,
    /// It is one.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// What a field had to tell.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// A number of tokens.
    Number(u64),
    /// A whole string, and a short one.
    Text(&'a [u8]),
    /// The next part of a string.
    Part(&'a [u8]),
    /// The next part of the text of a container.
    Raw(&'a [u8]),
    /// It is there and not empty.
    Present,
}

/// Where the bytes have led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All are read and the value goes on.
    Inside,
    /// An element of the outermost array has ended.
    ElementEnd,
    /// The value has ended.
    End,
    /// This is no JSON.
    Nonsense,
}

/// Whether a part of a string is its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Here,
    Later,
}

enum StringEnd {
    At(usize),
    Later,
    /// A bare line end, which no string has.
    Never(usize),
}

impl Skim {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Value,
            node: Node::ROOT,
            open: [(Node::NONE, Container::Object); DEEPEST],
            depth: 0,
            skipped: 0,
            cut_escape: false,
            escaped: false,
            text: Text::new(),
        }
    }

    /// For another value.
    pub(super) fn reset(&mut self) {
        self.state = State::Value;
        self.node = Node::ROOT;
        self.depth = 0;
        self.skipped = 0;
        self.cut_escape = false;
        self.escaped = false;
        self.text.clear();
    }

    /// Reads on, to the end of the bytes or of a value; says how many were read. What tells
    /// something is handed to `tell`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        tree: &Tree,
        tell: &mut impl FnMut(Field, Told<'_>),
    ) -> (usize, Place) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let place = match self.state {
                State::Skipping(_) | State::SkippingString(_) => {
                    let (read, place) = self.skip(&bytes[at..], tell);
                    at += read;
                    place
                }
                State::InKey => {
                    let (read, place) = self.key(&bytes[at..], tree);
                    at += read;
                    place
                }
                State::InString(tells) => {
                    let (read, place) = self.string(&bytes[at..], tells, tell);
                    at += read;
                    place
                }
                State::InNumber(tells) => {
                    let digits = bytes[at..].iter();
                    let more = digits.take_while(|&&byte| is_of_number(byte)).count();
                    if tells.is_some() {
                        self.text.push(&bytes[at..at + more]);
                    }
                    at += more;
                    if at < bytes.len() {
                        self.number(tells, tell);
                    }
                    Place::Inside
                }
                State::InWord => {
                    let letters = bytes[at..].iter();
                    at += letters.take_while(|byte| byte.is_ascii_lowercase()).count();
                    if at < bytes.len() {
                        self.state = State::After;
                    }
                    Place::Inside
                }
                _ if is_blank(byte) => {
                    at += 1;
                    Place::Inside
                }
                _ => {
                    let place = self.token(byte, tree, tell);
                    if place != Place::Nonsense {
                        at += 1;
                    }
                    place
                }
            };
            if place != Place::Inside {
                return (at, place);
            }
        }
        (at, Place::Inside)
    }

    #[inline]
    fn token(&mut self, byte: u8, tree: &Tree, tell: &mut impl FnMut(Field, Told<'_>)) -> Place {
        match (self.state, byte) {
            (State::Colon, b':') => self.state = State::Value,
            (State::Key | State::FirstKey, b'"') => self.begin_string(State::InKey),
            (State::After, b',') => match self.open[self.depth - 1] {
                (_, Container::Object) => self.state = State::Key,
                (node, Container::Array) => {
                    self.node = node;
                    self.state = State::Value;
                }
            },
            (State::After | State::FirstKey, b'}') => return self.close(Container::Object),
            (State::After | State::First, b']') => return self.close(Container::Array),
            (State::Value | State::First, _) => return self.value(byte, tree, tell),
            _ => return Place::Nonsense,
        }
        Place::Inside
    }

    #[inline]
    fn value(&mut self, byte: u8, tree: &Tree, tell: &mut impl FnMut(Field, Told<'_>)) -> Place {
        let tells = tree.tells(self.node);
        match byte {
            b'"' => self.begin_string(State::InString(tells)),
            b'{' => self.open(Container::Object, tells, tree, tell),
            b'[' => self.open(Container::Array, tells, tree, tell),
            _ if self.depth == 0 => return Place::Nonsense,
            b'-' | b'0'..=b'9' => {
                self.text.clear();
                self.text.push(&[byte]);
                self.state = State::InNumber(tells);
            }
            b't' | b'f' | b'n' => {
                if let (b't', Some(field @ (Field::Error | Field::End))) = (byte, tells) {
                    tell(field, Told::Present);
                }
                self.state = State::InWord;
            }
            _ => return Place::Nonsense,
        }
        Place::Inside
    }

    fn open(
        &mut self,
        container: Container,
        tells: Option<Field>,
        tree: &Tree,
        tell: &mut impl FnMut(Field, Told<'_>),
    ) {
        if tells == Some(Field::End) {
            tell(Field::End, Told::Present);
        }
        let is_error = tells == Some(Field::Error);
        if is_error || self.depth == DEEPEST || !tree.has_children(self.node) {
            self.skipped = 1;
            self.state = State::Skipping(Skipping::Over);
            if is_error {
                self.state = State::Skipping(Skipping::MaybeError);
                let bracket = match container {
                    Container::Object => b"{",
                    Container::Array => b"[",
                };
                tell(Field::Error, Told::Raw(bracket));
            }
            return;
        }
        self.open[self.depth] = (self.node, container);
        self.depth += 1;
        self.state = match container {
            Container::Object => State::FirstKey,
            Container::Array => State::First,
        };
    }

    fn close(&mut self, container: Container) -> Place {
        match self.depth.checked_sub(1) {
            Some(outside) if self.open[outside].1 == container => {
                self.depth = outside;
                self.ended()
            }
            _ => Place::Nonsense,
        }
    }

    fn ended(&mut self) -> Place {
        self.state = State::After;
        match (self.depth, self.open[0].1) {
            (0, _) => Place::End,
            (1, Container::Array) => Place::ElementEnd,
            _ => Place::Inside,
        }
    }

    fn begin_string(&mut self, state: State) {
        self.state = state;
        self.escaped = false;
        self.text.clear();
    }

    fn key(&mut self, bytes: &[u8], tree: &Tree) -> (usize, Place) {
        match self.string_end(bytes) {
            StringEnd::At(end) => {
                let (object, _) = self.open[self.depth - 1];
                let name = self.text.join(&bytes[..end], self.escaped);
                self.node = name.map_or(Node::NONE, |name| tree.child(object, &name));
                self.state = State::Colon;
                (end + 1, Place::Inside)
            }
            StringEnd::Later => {
                self.text.push(bytes);
                (bytes.len(), Place::Inside)
            }
            StringEnd::Never(at) => (at, Place::Nonsense),
        }
    }

    fn string(
        &mut self,
        bytes: &[u8],
        tells: Option<Field>,
        tell: &mut impl FnMut(Field, Told<'_>),
    ) -> (usize, Place) {
        match self.string_end(bytes) {
            StringEnd::At(end) => {
                self.part(&bytes[..end], End::Here, tells, tell);
                self.state = State::After;
                (end + 1, Place::Inside)
            }
            StringEnd::Later => {
                self.part(bytes, End::Later, tells, tell);
                (bytes.len(), Place::Inside)
            }
            StringEnd::Never(at) => {
                self.part(&bytes[..at], End::Later, tells, tell);
                (at, Place::Nonsense)
            }
        }
    }

    fn part(
        &mut self,
        part: &[u8],
        end: End,
        tells: Option<Field>,
        tell: &mut impl FnMut(Field, Told<'_>),
    ) {
        match tells {
            Some(field @ (Field::Finish | Field::Refused | Field::Name)) => match end {
                End::Here => {
                    let text = self.text.join(part, self.escaped);
                    tell(field, Told::Text(text.as_deref().unwrap_or(UNKNOWN)));
                }
                End::Later => self.text.push(part),
            },
            Some(Field::Wrapped) => tell(Field::Wrapped, Told::Part(part)),
            Some(field @ (Field::Content | Field::Error | Field::End)) if !part.is_empty() => {
                tell(field, Told::Present);
                // The rest tells no more.
                self.state = State::InString(None);
            }
            _ => {}
        }
    }

    fn number(&mut self, tells: Option<Field>, tell: &mut impl FnMut(Field, Told<'_>)) {
        self.state = State::After;
        match tells {
            Some(
                field @ (Field::Input
                | Field::CachedInput
                | Field::CacheWrite
                | Field::Output
                | Field::MoreOutput),
            ) => {
                if let Some(number) = self.text.number() {
                    tell(field, Told::Number(number));
                }
            }
            Some(field @ (Field::Error | Field::End)) => tell(field, Told::Present),
            _ => {}
        }
    }

    fn skip(&mut self, bytes: &[u8], tell: &mut impl FnMut(Field, Told<'_>)) -> (usize, Place) {
        let mut at = 0;
        let place = loop {
            if let State::SkippingString(skipping) = self.state {
                match self.string_end(&bytes[at..]) {
                    StringEnd::At(end) => {
                        at += end + 1;
                        self.state = State::Skipping(skipping);
                    }
                    StringEnd::Later => {
                        at = bytes.len();
                        break Place::Inside;
                    }
                    StringEnd::Never(bad) => {
                        at += bad;
                        break Place::Nonsense;
                    }
                }
            }
            if self.state == State::Skipping(Skipping::MaybeError) {
                at += bytes[at..]
                    .iter()
                    .take_while(|&&byte| is_blank(byte))
                    .count();
                match bytes.get(at) {
                    None => break Place::Inside,
                    Some(b'}' | b']') => {}
                    Some(_) => {
                        tell(Field::Error, Told::Present);
                        self.state = State::Skipping(Skipping::Error);
                    }
                }
            }
            let rest = bytes[at..].iter();
            at += rest
                .take_while(|&&byte| !STRUCTURE[usize::from(byte)])
                .count();
            match bytes.get(at) {
                None => break Place::Inside,
                Some(b'"') => {
                    let State::Skipping(skipping) = self.state else {
                        break Place::Nonsense;
                    };
                    self.state = State::SkippingString(skipping);
                    self.escaped = false;
                }
                Some(b'{' | b'[') => self.skipped += 1,
                Some(_) => self.skipped -= 1,
            }
            at += 1;
            if self.skipped == 0 {
                break Place::End;
            }
        };
        if let State::Skipping(kept) | State::SkippingString(kept) = self.state {
            if kept != Skipping::Over {
                tell(Field::Error, Told::Raw(&bytes[..at]));
            }
        }
        match place {
            Place::End => (at, self.ended()),
            place => (at, place),
        }
    }

    /// Where the string ends in which `bytes` begin.
    #[inline]
    fn string_end(&mut self, bytes: &[u8]) -> StringEnd {
        let mut at = 0;
        if self.cut_escape {
            self.cut_escape = false;
            at = 1;
        }
        while let Some(more) = bytes.get(at..).and_then(next_mark) {
            at += more;
            match bytes[at] {
                b'"' => return StringEnd::At(at),
                b'\\' => {
                    self.escaped = true;
                    at += 2;
                }
                _ => return StringEnd::Never(at),
            }
        }
        // An escape that is cut in two: the byte after the backslash is yet to come.
        self.cut_escape = at > bytes.len();
        StringEnd::Later
    }
}

/// What ends a run of plain characters in a string. Most strings are short: there calling for
/// vectors costs more than they save.
#[inline]
fn next_mark(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let head = &bytes[..bytes.len().min(SHORT)];
    let is_mark = |byte: &u8| matches!(byte, b'"' | b'\\' | b'\n');
    if let Some(at) = head.iter().position(is_mark) {
        return Some(at);
    }
    let at = memchr3(b'"', b'\\', b'\n', bytes.get(SHORT..)?)?;
    Some(SHORT + at)
}

#[inline]
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[inline]
const fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}

/// The bytes that matter in what is skipped.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let mut marks: &[u8] = b"\"{}[]";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

// === impl Text ===

/// A short text that may come in parts.
#[derive(Debug)]
pub(super) struct Text {
    bytes: [u8; LONGEST_TEXT],
    /// More than the longest is too much.
    len: usize,
}

impl Text {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; LONGEST_TEXT],
            len: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let end = self.len.saturating_add(part.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(part);
        }
        self.len = end;
    }

    /// The text, unless it is too long.
    pub(super) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }

    /// The text with its last part.
    fn join<'a>(&'a mut self, last: &'a [u8], escaped: bool) -> Option<Cow<'a, [u8]>> {
        if self.len == 0 && !escaped {
            return (last.len() <= LONGEST_TEXT).then_some(Cow::Borrowed(last));
        }
        self.push(last);
        let text = self.get()?;
        if !escaped {
            return Some(Cow::Borrowed(text));
        }
        let quoted = [b"\"", text, b"\""].concat();
        let plain: String = serde_json::from_slice(&quoted).ok()?;
        Some(Cow::Owned(plain.into_bytes()))
    }

    fn number(&self) -> Option<u64> {
        let text = str::from_utf8(self.get()?).ok()?;
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            let is_count = number.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&number);
            is_count.then_some(number as u64)
        })
    }
}

/// Beyond this floats are not exact.
const MOST_EXACT: f64 = (1_u64 << 53) as f64;
