//! A file line by line, none longer than it may be, and what all of it comes to.

use std::{
    fmt::Write as _,
    io::{self, BufRead},
};

use ring::digest::{Context, SHA256};

/// UTF-8's mark, which some editors put at the beginning of a file.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// What a line may have beside what counts: the mark and its end.
const BESIDE: usize = BOM.len() + 2;

/// Reads lines, of which it holds one at a time, in the caller's buffer.
pub(super) struct Lines<R> {
    from: R,
    longest: usize,
    number: u64,
    bytes: u64,
    digest: Context,
}

/// What was read into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Whole {
        /// Whether the file has its end; only the last line may lack it.
        is_ended: bool,
    },
    /// A line of more bytes than there may be; the buffer is empty.
    TooLong,
    /// There are no more lines.
    None,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R, longest: usize) -> Self {
        Self {
            from,
            longest,
            number: 0,
            bytes: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// The number of the line last read, from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes the lines read so far had, with their ends.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line, without its `\n` or `\r\n` and without the mark of UTF-8.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let (mut length, mut is_ended) = (0_usize, false);
        loop {
            let read = match self.from.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read.is_empty() {
                break;
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(read.len(), |end| end + 1);
            self.digest.update(&read[..taken]);
            length += taken;
            // What is too long is read to its end and not kept.
            if length <= self.longest + BESIDE {
                line.extend_from_slice(&read[..taken]);
            } else {
                *line = Vec::new();
            }
            self.from.consume(taken);
            if end.is_some() {
                is_ended = true;
                break;
            }
        }
        if length == 0 {
            return Ok(Line::None);
        }
        self.number += 1;
        self.bytes += length as u64;
        if is_ended && !line.is_empty() {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if self.number == 1 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        if length > self.longest + BESIDE || line.len() > self.longest {
            *line = Vec::new();
            return Ok(Line::TooLong);
        }
        Ok(Line::Whole { is_ended })
    }

    /// The SHA-256 of all that was read, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let digest = self.digest.clone().finish();
        let mut text = String::new();
        for byte in digest.as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], buffer: usize) -> Vec<(u64, Line, String)> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, bytes), 4);
        let (mut line, mut found) = (Vec::new(), Vec::new());
        loop {
            match lines.next(&mut line).expect("it is in memory") {
                Line::None => return found,
                read => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    found.push((lines.number(), read, text));
                }
            }
        }
    }

    const ENDED: Line = Line::Whole { is_ended: true };

    #[test]
    fn lines_come_without_their_ends_and_the_mark_however_they_are_cut() {
        for buffer in 1..20 {
            assert_eq!(
                read(b"\xef\xbb\xbfab\r\n\nc\rd\nabcd\r\nlast", buffer),
                [
                    (1, ENDED, "ab".to_owned()),
                    (2, ENDED, String::new()),
                    (3, ENDED, "c\rd".to_owned()),
                    (4, ENDED, "abcd".to_owned()),
                    (5, Line::Whole { is_ended: false }, "last".to_owned()),
                ]
            );
        }
    }

    #[test]
    fn a_line_too_long_is_not_kept_and_the_next_is_whole() {
        for buffer in 1..20 {
            assert_eq!(
                read(b"abcde\nabcdefgh\nx\n", buffer),
                [
                    (1, Line::TooLong, String::new()),
                    (2, Line::TooLong, String::new()),
                    (3, ENDED, "x".to_owned()),
                ]
            );
        }
    }

    #[test]
    fn the_digest_is_that_of_the_file() {
        let mut lines = Lines::new(&b"ab\nc"[..], 10);
        let mut line = Vec::new();
        while lines.next(&mut line).expect("in memory") != Line::None {}
        // sha256sum's.
        assert_eq!(
            lines.digest(),
            "0acdf9a2665198da784232d827b01ae3d24af5db060d723950cfcd47cd82ac07"
        );
    }
}
