//! One message of an answer: a JSON body, a chunk, an event's data.

use std::time::SystemTime;

use super::skim::{Place, Skim, Told};
use crate::{
    outcome::{Completeness, Outcome, Verdict},
    provider::{Answer, Field, Profile, TokenUsage},
};

/// Of a message that is an error this much is handed to the rules of errors.
const MOST_PAYLOAD: usize = 64 << 10;
/// Of a longer one, this much of the field that is the error.
const MOST_ERROR: usize = 16 << 10;

/// Reads a message as it passes.
#[derive(Debug)]
pub(super) struct Message {
    kind: Kind,
    skim: Skim,
    found: Found,
    payload: Bounded<MOST_PAYLOAD>,
    error: Bounded<MOST_ERROR>,
    wrapping: Wrapping,
}

/// What is known of an answer, and by whose rules.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) profile: Profile,
    pub(super) answer: Answer,
    /// What whole messages have reported.
    settled: TokenUsage,
    /// There was a reason to finish, and no content after it.
    finished: bool,
    /// There was a terminal event.
    ended: bool,
    /// There was an error.
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blank,
    Json,
    /// The JSON has ended.
    Whole,
    Text,
}

/// What a message has told so far.
#[derive(Debug)]
struct Found {
    usage: TokenUsage,
    more_output: Option<u64>,
    has_content: bool,
    is_finish: bool,
    is_refused: bool,
    is_error: bool,
    is_end: bool,
}

/// Whether there may be a message in base64 within a message.
#[derive(Debug)]
enum Wrapping {
    Never,
    Possible(Option<Box<Wrapped>>),
}

#[derive(Debug)]
struct Wrapped {
    message: Message,
    /// Up to three characters of six bits.
    bits: u32,
    count: u32,
}

#[derive(Debug)]
struct Bounded<const MOST: usize> {
    bytes: Vec<u8>,
    is_whole: bool,
}

// === impl Message ===

impl Message {
    pub(super) const fn new() -> Self {
        Self::wrapping(Wrapping::Never)
    }

    /// One that may have another one in it.
    pub(super) const fn new_wrapping() -> Self {
        Self::wrapping(Wrapping::Possible(None))
    }

    const fn wrapping(wrapping: Wrapping) -> Self {
        Self {
            kind: Kind::Blank,
            skim: Skim::new(),
            found: Found::NONE,
            payload: Bounded::new(),
            error: Bounded::new(),
            wrapping,
        }
    }

    /// Reads on; stops where a value or an element of an array ends. Says how much was read.
    ///
    /// Usage and content count as they pass, so that they are known of a message that is cut.
    pub(super) fn feed(&mut self, bytes: &[u8], account: &mut Account) -> (usize, Place) {
        let (read, place) = self.read(bytes, &account.profile);
        account.glimpse(&self.found);
        (read, place)
    }

    /// Reads on through to the end of the bytes: what follows a value is of no interest.
    pub(super) fn feed_all(&mut self, bytes: &[u8], account: &mut Account) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (read, _) = self.feed(rest, account);
            rest = &rest[read..];
        }
    }

    fn read(&mut self, bytes: &[u8], profile: &Profile) -> (usize, Place) {
        let mut from = 0;
        if self.kind == Kind::Blank {
            let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace());
            from = blanks.count();
            let Some(first) = bytes.get(from) else {
                return (from, Place::Inside);
            };
            self.kind = match first {
                b'{' | b'[' => Kind::Json,
                _ => Kind::Text,
            };
        }
        if self.kind != Kind::Json {
            self.payload.push(&bytes[from..]);
            return (bytes.len(), Place::Inside);
        }
        let rules = profile.event_rules();
        let Self {
            skim,
            found,
            error,
            wrapping,
            ..
        } = self;
        let (read, place) = skim.feed(
            &bytes[from..],
            rules.tree(),
            &mut |field, told| match told {
                Told::Raw(part) => error.push_whole(part),
                Told::Part(part) => {
                    if let Wrapping::Possible(wrapped) = wrapping {
                        let wrapped = wrapped.get_or_insert_with(|| Box::new(Wrapped::new()));
                        wrapped.decode(part, profile);
                    }
                }
                told => found.note(field, &told, profile),
            },
        );
        self.payload.push(&bytes[from..from + read]);
        match place {
            Place::End => self.kind = Kind::Whole,
            Place::Nonsense => self.kind = Kind::Text,
            Place::Inside | Place::ElementEnd => {}
        }
        (from + read, place)
    }

    /// Another line of an event's data comes.
    pub(super) fn feed_newline(&mut self, account: &mut Account) {
        self.feed_all(b"\n", account);
    }

    /// The message is an error, whatever it has in it.
    pub(super) fn mark_error(&mut self) {
        self.found.is_error = true;
    }

    /// Whether a value has begun and not ended.
    pub(super) fn is_cut(&self) -> bool {
        self.kind == Kind::Json
    }

    /// The message has ended; the next one may begin.
    pub(super) fn end(
        &mut self,
        event: Option<&str>,
        account: &mut Account,
        now: &dyn Fn() -> SystemTime,
    ) {
        self.settle(event, account, now);
        self.reset();
    }

    /// The element of an array has ended; the array goes on.
    pub(super) fn end_element(&mut self, account: &mut Account, now: &dyn Fn() -> SystemTime) {
        self.settle(None, account, now);
        self.found = Found::NONE;
        self.payload.clear();
        self.error.clear();
    }

    pub(super) fn reset(&mut self) {
        self.kind = Kind::Blank;
        self.skim.reset();
        self.found = Found::NONE;
        self.payload.clear();
        self.error.clear();
        if let Wrapping::Possible(Some(wrapped)) = &mut self.wrapping {
            wrapped.reset();
        }
    }

    fn settle(&mut self, event: Option<&str>, account: &mut Account, now: &dyn Fn() -> SystemTime) {
        if let Wrapping::Possible(Some(wrapped)) = &mut self.wrapping {
            wrapped.message.settle(None, account, now);
        }
        if let Some(event) = event {
            self.found.note_name(event.as_bytes(), &account.profile);
        }
        if self.kind == Kind::Text {
            let text = self.payload.bytes.trim_ascii();
            self.found.note_name(text, &account.profile);
        }
        account.count(&self.found);
        if self.found.is_error {
            let failure = self.classify(event, account, now);
            account.break_off(failure);
        }
        let found = &self.found;
        if found.is_refused {
            let refusal = Outcome::new(Verdict::CallerFault);
            account.answer.failure.get_or_insert(refusal);
        }
        account.finished = found.is_finish || (account.finished && !found.has_content);
        account.ended |= found.is_end || found.is_refused;
        account.complete_if(account.ended);
    }

    fn classify(
        &mut self,
        event: Option<&str>,
        account: &Account,
        now: &dyn Fn() -> SystemTime,
    ) -> Outcome {
        let rules = account.profile.error_rules();
        rules.classify_inside(event, self.error_payload(), now())
    }

    /// What the rules of errors are shown: the message, or of one too long the error alone, in an
    /// object of its own.
    fn error_payload(&mut self) -> &[u8] {
        let Self { payload, error, .. } = self;
        if !payload.is_whole && !error.bytes.is_empty() {
            // There is room for it, where the message was.
            payload.bytes.clear();
            for part in [b"{\"error\":".as_slice(), &error.bytes, b"}"] {
                payload.push(part);
            }
        }
        self.text_of_element()
    }

    /// The message without the bracket or comma that stands before an array's element.
    fn text_of_element(&self) -> &[u8] {
        let mut text = self.payload.bytes.trim_ascii();
        while let [b'[' | b',', rest @ ..] = text {
            text = rest.trim_ascii_start();
        }
        text
    }
}

impl Found {
    const NONE: Self = Self {
        usage: TokenUsage::UNKNOWN,
        more_output: None,
        has_content: false,
        is_finish: false,
        is_refused: false,
        is_error: false,
        is_end: false,
    };

    fn usage(&self) -> TokenUsage {
        match (self.usage.output_tokens(), self.more_output) {
            (_, None) => self.usage,
            (output, Some(more)) => self.usage.output(output.unwrap_or(0).saturating_add(more)),
        }
    }

    fn note(&mut self, field: Field, told: &Told<'_>, profile: &Profile) {
        match (field, told) {
            (Field::Input, &Told::Number(tokens)) => self.usage = self.usage.input(tokens),
            (Field::CachedInput, &Told::Number(tokens)) => {
                self.usage = self.usage.cached_input(tokens);
            }
            (Field::CacheWrite, &Told::Number(tokens)) => {
                self.usage = self.usage.cache_write(tokens);
            }
            (Field::Output, &Told::Number(tokens)) => self.usage = self.usage.output(tokens),
            (Field::MoreOutput, &Told::Number(tokens)) => self.more_output = Some(tokens),
            (Field::Content, Told::Present) => self.has_content = true,
            (Field::Error, Told::Present) => self.is_error = true,
            (Field::End, Told::Present) => self.is_end = true,
            (_, Told::Text([])) => {}
            (Field::Finish, Told::Text(reason)) => {
                self.is_finish = true;
                self.is_error |= profile.event_rules().is_failing(reason);
            }
            (Field::Refused, Told::Text(_)) => self.is_refused = true,
            (Field::Name, Told::Text(name)) => self.note_name(name, profile),
            _ => {}
        }
    }

    fn note_name(&mut self, name: &[u8], profile: &Profile) {
        let rules = profile.event_rules();
        self.is_error |= rules.is_error(name);
        self.is_end |= rules.is_end(name);
    }
}

// === impl Account ===

impl Account {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            answer: Answer::default(),
            settled: TokenUsage::UNKNOWN,
            finished: false,
            ended: false,
            broken: false,
        }
    }

    /// A stream of events has come to its end.
    pub(super) fn end_of_stream(&mut self) {
        let needs_end = self.profile.event_rules().needs_end();
        self.end(self.ended || self.finished || !needs_end);
    }

    /// The body has come to its end.
    pub(super) fn end(&mut self, is_whole: bool) {
        if !is_whole && self.answer.failure.is_none() {
            self.break_off(Outcome::new(Verdict::ServerFault));
        }
        self.complete_if(is_whole);
    }

    fn complete_if(&mut self, is_whole: bool) {
        if is_whole && !self.broken {
            self.answer.completeness = Completeness::Complete;
        }
    }

    /// The first failure is the cause of those that follow.
    fn break_off(&mut self, failure: Outcome) {
        self.broken = true;
        self.answer.completeness = Completeness::Partial;
        self.answer.failure.get_or_insert(failure);
    }

    /// Counts what a message has told.
    fn count(&mut self, found: &Found) {
        self.settled = merge(self.settled, found.usage(), |before, now| match now {
            // All figures are cumulative; some proxies report zeros in the closing event.
            0 => before,
            now => now,
        });
        self.answer.usage = self.settled;
        self.answer.has_content |= found.has_content;
    }

    /// Counts what a message has told so far, which may be half of it.
    fn glimpse(&mut self, found: &Found) {
        self.answer.usage = merge(self.settled, found.usage(), u64::max);
        self.answer.has_content |= found.has_content;
    }
}

/// Two usages, with a rule for figures that both have.
fn merge(before: TokenUsage, now: TokenUsage, rule: fn(u64, u64) -> u64) -> TokenUsage {
    let of = |figure: fn(&TokenUsage) -> Option<u64>| match (figure(&before), figure(&now)) {
        (Some(before), Some(now)) => Some(rule(before, now)),
        (before, now) => now.or(before),
    };
    let mut merged = TokenUsage::UNKNOWN;
    if let Some(tokens) = of(TokenUsage::input_tokens) {
        merged = merged.input(tokens);
    }
    if let Some(tokens) = of(TokenUsage::cached_input_tokens) {
        merged = merged.cached_input(tokens);
    }
    if let Some(tokens) = of(TokenUsage::cache_write_tokens) {
        merged = merged.cache_write(tokens);
    }
    if let Some(tokens) = of(TokenUsage::output_tokens) {
        merged = merged.output(tokens);
    }
    merged
}

// === impl Wrapped ===

impl Wrapped {
    const fn new() -> Self {
        Self {
            message: Message::new(),
            bits: 0,
            count: 0,
        }
    }

    fn reset(&mut self) {
        self.message.reset();
        self.bits = 0;
        self.count = 0;
    }

    /// Reads base64, RFC 4648 section 4, cut anywhere. What is not in the alphabet (padding, the
    /// backslash of an escaped slash) is passed over.
    fn decode(&mut self, text: &[u8], profile: &Profile) {
        let mut plain = [0; 96];
        let mut length = 0;
        for &character in text {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => continue,
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.count += 6;
            if self.count >= 8 {
                self.count -= 8;
                plain[length] = (self.bits >> self.count) as u8;
                length += 1;
            }
            if length == plain.len() {
                self.read(&plain, profile);
                length = 0;
            }
        }
        self.read(&plain[..length], profile);
    }

    fn read(&mut self, plain: &[u8], profile: &Profile) {
        let mut rest = plain;
        while !rest.is_empty() {
            let (read, _) = self.message.read(rest, profile);
            rest = &rest[read..];
        }
    }
}

// === impl Bounded ===

impl<const MOST: usize> Bounded<MOST> {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            is_whole: true,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.is_whole = true;
    }

    /// Keeps nothing of what is longer than the bound.
    fn push_whole(&mut self, bytes: &[u8]) {
        if self.is_whole {
            self.push(bytes);
        }
        if !self.is_whole {
            self.bytes = Vec::new();
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = MOST - self.bytes.len();
        self.is_whole &= bytes.len() <= room;
        let part = &bytes[..bytes.len().min(room)];
        let needed = self.bytes.len() + part.len();
        if needed > self.bytes.capacity() {
            // A vector left to itself would grow to twice the bound.
            let wanted = (2 * self.bytes.len()).max(needed);
            let wanted = if wanted > MOST / 4 { MOST } else { wanted };
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
