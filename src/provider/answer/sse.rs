//! Server-sent events, as they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").
//!
//! Two things beyond the standard, because providers do them: a JSON value that stands outside
//! of any field is read like an event's data, and an event that the stream's end cuts before its
//! blank line counts if its data is whole.

use std::{str, time::SystemTime};

use memchr::memchr2;

use super::{
    Sense,
    message::{Account, Message},
    skim::{Place, Text},
};

#[derive(Debug)]
pub(super) struct Sse {
    line: Line,
    /// The last byte was a carriage return: a line feed after it ends no other line.
    after_return: bool,
    field: Text,
    event: Text,
    has_data: bool,
    seen: Seen,
    message: Message,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// JSON outside of any field, and no event.
    OnlyJson,
    Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Start,
    /// In the field's name.
    Field,
    /// After the colon: one space is none of the value.
    Colon(Value),
    In(Value),
    /// In a JSON value outside of any field.
    Bare,
}

/// What is done with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Data,
    Event,
    /// A comment, `id`, `retry`, or what nobody knows.
    Ignored,
}

impl Sse {
    pub(super) const fn new() -> Self {
        Self {
            line: Line::Start,
            after_return: false,
            field: Text::new(),
            event: Text::new(),
            has_data: false,
            seen: Seen::Nothing,
            message: Message::new(),
        }
    }

    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        account: &mut Account,
        now: &dyn Fn() -> SystemTime,
    ) -> Sense {
        let mut rest = bytes;
        while let [first, after @ ..] = rest {
            rest = match self.line {
                Line::Start => {
                    let follows_return = self.after_return && *first == b'\n';
                    self.after_return = false;
                    match first {
                        b'\n' if follows_return => after,
                        b'\n' | b'\r' => {
                            self.dispatch(account, now);
                            self.after_return = *first == b'\r';
                            after
                        }
                        b'{' | b'[' => {
                            self.dispatch(account, now);
                            self.line = Line::Bare;
                            rest
                        }
                        _ => {
                            self.field.clear();
                            self.line = Line::Field;
                            rest
                        }
                    }
                }
                Line::Field => self.name(rest, account),
                Line::Colon(value) => {
                    self.line = Line::In(value);
                    rest.strip_prefix(b" ").unwrap_or(rest)
                }
                Line::In(value) => self.value(value, rest, account),
                Line::Bare => self.bare(rest, account, now),
            };
        }
        Sense::Some
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self, account: &mut Account, now: &dyn Fn() -> SystemTime) {
        if self.line != Line::Bare && !self.message.is_cut() {
            self.dispatch(account, now);
        }
        match self.seen {
            // A plain answer under the name of a stream.
            Seen::OnlyJson => account.end(self.line != Line::Bare),
            Seen::Nothing | Seen::Events => account.end_of_stream(),
        }
    }

    fn name<'a>(&mut self, rest: &'a [u8], account: &mut Account) -> &'a [u8] {
        let is_end = |byte: &u8| matches!(byte, b':' | b'\n' | b'\r');
        let Some(end) = rest.iter().position(is_end) else {
            self.field.push(rest);
            return &[];
        };
        self.field.push(&rest[..end]);
        let value = match self.field.get() {
            Some(b"data") => Value::Data,
            Some(b"event") => Value::Event,
            _ => Value::Ignored,
        };
        match value {
            Value::Data if self.has_data => self.message.feed_newline(account),
            Value::Data => self.has_data = true,
            Value::Event => self.event.clear(),
            Value::Ignored => {}
        }
        if rest[end] == b':' {
            self.line = Line::Colon(value);
            return &rest[end + 1..];
        }
        self.end_line(rest[end]);
        &rest[end + 1..]
    }

    fn value<'a>(&mut self, value: Value, rest: &'a [u8], account: &mut Account) -> &'a [u8] {
        let end = memchr2(b'\n', b'\r', rest);
        let text = &rest[..end.unwrap_or(rest.len())];
        match value {
            Value::Data => self.message.feed_all(text, account),
            Value::Event => self.event.push(text),
            Value::Ignored => {}
        }
        let Some(end) = end else { return &[] };
        self.end_line(rest[end]);
        &rest[end + 1..]
    }

    fn bare<'a>(
        &mut self,
        rest: &'a [u8],
        account: &mut Account,
        now: &dyn Fn() -> SystemTime,
    ) -> &'a [u8] {
        let (read, place) = self.message.feed(rest, account);
        match place {
            Place::Inside => {}
            Place::ElementEnd => self.message.end_element(account, now),
            Place::End => {
                self.message.end(None, account, now);
                if self.seen == Seen::Nothing {
                    self.seen = Seen::OnlyJson;
                }
                self.line = Line::In(Value::Ignored);
            }
            Place::Nonsense => {
                self.message.reset();
                self.line = Line::In(Value::Ignored);
            }
        }
        &rest[read..]
    }

    fn end_line(&mut self, end: u8) {
        self.after_return = end == b'\r';
        self.line = Line::Start;
    }

    fn dispatch(&mut self, account: &mut Account, now: &dyn Fn() -> SystemTime) {
        if self.has_data {
            let event = self.event.get().and_then(|name| str::from_utf8(name).ok());
            let event = event.filter(|name| !name.is_empty());
            self.message.end(event, account, now);
            self.seen = Seen::Events;
            self.has_data = false;
        }
        self.event.clear();
    }
}
