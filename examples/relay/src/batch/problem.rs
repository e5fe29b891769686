//! Why a batch does not begin or does not go on.

use std::{error::Error, fmt};

/// One line, and whether it is the user's to mend before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The command line or the input, nothing was sent.
    Wrong,
    /// A line of the input, likewise.
    Line,
    /// Something on the way.
    Failed,
}

impl Problem {
    /// Of the command line or of files.
    pub(super) const fn wrong(text: String) -> Self {
        let kind = Kind::Wrong;
        Self { text, kind }
    }

    /// Of a line of a file.
    pub(super) fn of_line(file: &str, line: u64, problem: &str) -> Self {
        Self {
            text: format!("{file}:{line}: {problem}"),
            kind: Kind::Line,
        }
    }

    /// Of the machine, the disk or the provider.
    pub(super) const fn failed(text: String) -> Self {
        let kind = Kind::Failed;
        Self { text, kind }
    }

    /// Whether other lines may be looked at nevertheless.
    pub(super) fn is_of_a_line(&self) -> bool {
        self.kind == Kind::Line
    }

    /// Whether the command line or the input has to be mended.
    pub(crate) fn is_usage(&self) -> bool {
        self.kind != Kind::Failed
    }

    /// The same found on the way, when it was right before.
    pub(super) fn on_the_way(self) -> Self {
        Self::failed(self.text)
    }

    /// How many other lines are wrong as well.
    pub(super) fn and_more(mut self, lines: u64) -> Self {
        match lines {
            0 => {}
            1 => self.text += " (one more line is wrong)",
            _ => self.text += &format!(" ({lines} more lines are wrong)"),
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Problem {}
