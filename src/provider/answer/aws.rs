//! An AWS event stream (`application/vnd.amazon.eventstream`), as it passes.
//!
//! A frame is its length, the length of its headers and a checksum of both, four bytes each; the
//! headers; the payload; and a checksum of it all. The first checksum is verified, so that bytes
//! out of step are noticed. The last is left to the client that the bytes go to.

use std::{str, time::SystemTime};

use super::{
    Sense,
    message::{Account, Message},
};

const PRELUDE: usize = 12;
const TRAILER: u32 = 4;
/// Of longer headers the rest is passed over. Those of Bedrock take about 100 bytes.
const MOST_HEADERS: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Aws {
    part: Part,
    prelude: [u8; PRELUDE],
    headers: Vec<u8>,
    payload: u32,
    message: Message,
    /// The head said so, or a checksum did.
    is_certain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// So many bytes of the prelude are there.
    Prelude(usize),
    /// So many bytes are yet to come of each.
    Headers(u32),
    Payload(u32),
    Trailer(u32),
    /// The bytes are out of step.
    Lost,
}

/// What the headers say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head<'a> {
    event: Option<&'a str>,
    exception: Option<&'a str>,
}

struct Header<'a> {
    name: &'a [u8],
    /// Its value, if that is a string.
    text: Option<&'a [u8]>,
    /// What comes after it.
    rest: &'a [u8],
}

impl Aws {
    pub(super) const fn new(is_declared: bool) -> Self {
        Self {
            part: Part::Prelude(0),
            prelude: [0; PRELUDE],
            headers: Vec::new(),
            payload: 0,
            message: Message::new_wrapping(),
            is_certain: is_declared,
        }
    }

    /// Whether these are frames indeed.
    pub(super) const fn is_certain(&self) -> bool {
        self.is_certain
    }

    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        account: &mut Account,
        now: &dyn Fn() -> SystemTime,
    ) -> Sense {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.part {
                Part::Prelude(have) => {
                    let (part, rest) = rest.split_at(rest.len().min(PRELUDE - have));
                    let have = have + part.len();
                    self.prelude[have - part.len()..have].copy_from_slice(part);
                    self.part = Part::Prelude(have);
                    if have == PRELUDE {
                        self.begin();
                    }
                    rest
                }
                Part::Headers(left) => {
                    let (part, rest, left) = take(rest, left);
                    let room = MOST_HEADERS - self.headers.len();
                    self.headers
                        .extend_from_slice(&part[..part.len().min(room)]);
                    self.part = Part::Headers(left);
                    rest
                }
                Part::Payload(left) => {
                    let (part, rest, left) = take(rest, left);
                    self.message.feed_all(part, account);
                    self.part = Part::Payload(left);
                    rest
                }
                Part::Trailer(left) => {
                    let (_, rest, left) = take(rest, left);
                    self.part = Part::Trailer(left);
                    rest
                }
                Part::Lost if self.is_certain => return Sense::Some,
                Part::Lost => return Sense::None,
            };
            self.go_on(account, now);
        }
        match self.part {
            Part::Lost if !self.is_certain => Sense::None,
            _ => Sense::Some,
        }
    }

    fn begin(&mut self) {
        let number = |at: usize| {
            let bytes = &self.prelude[at..at + 4];
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u32::from(byte))
        };
        let (total, headers) = (number(0), number(4));
        let around = headers.checked_add(PRELUDE as u32 + TRAILER);
        let payload = around.and_then(|around| total.checked_sub(around));
        self.part = match payload {
            Some(payload) if number(8) == crc32(&self.prelude[..8]) => {
                self.is_certain = true;
                self.payload = payload;
                self.headers.clear();
                Part::Headers(headers)
            }
            _ => Part::Lost,
        };
    }

    /// Passes on from parts that are read.
    fn go_on(&mut self, account: &mut Account, now: &dyn Fn() -> SystemTime) {
        if self.part == Part::Headers(0) {
            self.part = Part::Payload(self.payload);
        }
        if self.part == Part::Payload(0) {
            self.part = Part::Trailer(TRAILER);
        }
        if self.part == Part::Trailer(0) {
            let head = Head::read(&self.headers);
            if let Some(exception) = head.exception {
                self.message.mark_error();
                self.message.end(Some(exception), account, now);
            } else {
                self.message.end(head.event, account, now);
            }
            self.part = Part::Prelude(0);
        }
    }
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut head = Self::default();
        let mut rest = bytes;
        while let Some(header) = Header::read(rest) {
            let value = header.text.and_then(|text| str::from_utf8(text).ok());
            match header.name {
                b":event-type" => head.event = value,
                b":exception-type" | b":error-code" => head.exception = value,
                b":message-type" if matches!(value, Some("error" | "exception")) => {
                    head.exception = head.exception.or(value);
                }
                _ => {}
            }
            rest = header.rest;
        }
        head
    }
}

impl<'a> Header<'a> {
    /// The first one, if it is all there.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        const STRING: u8 = 7;
        let (&length, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (&kind, rest) = rest.split_first()?;
        let (length, rest) = match kind {
            // True and false have no value; numbers, instants and identifiers have their size.
            0 | 1 => (0, rest),
            2 => (1, rest),
            3 => (2, rest),
            4 => (4, rest),
            5 | 8 => (8, rest),
            9 => (16, rest),
            6 | STRING => {
                let (&length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(length)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        Some(Self {
            name,
            text: (kind == STRING).then_some(value),
            rest,
        })
    }
}

fn take(bytes: &[u8], left: u32) -> (&[u8], &[u8], u32) {
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    let (part, rest) = bytes.split_at(bytes.len().min(most));
    // No longer than what is left, which is a `u32`.
    (part, rest, left - part.len() as u32)
}

/// CRC-32 as in IEEE 802.3, bit by bit: it is asked for eight bytes of a frame.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}
