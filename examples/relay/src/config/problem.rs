//! What is wrong with a configuration, and where.

use std::{error::Error, fmt};

/// One line: file, line and column where known, field, and how to mend it. Never a part of a
/// secret, so hardly ever a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    file: String,
    at: Option<Position>,
    text: String,
}

/// Both from 1; columns are counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

impl Problem {
    /// Of the whole file.
    pub(super) fn of(file: &str, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            at: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Error for Problem {}

/// The text of a configuration and the name of its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

impl Source<'_> {
    /// What is wrong at a byte of the text.
    pub(super) fn problem(self, at: usize, text: impl Into<String>) -> Problem {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let position = Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        };
        Problem {
            at: Some(position),
            ..Problem::of(self.file, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters_from_one() {
        let source = Source {
            file: "r.toml",
            text: "a = 1\nü = 2\n",
        };
        for (at, place) in [(0, "1:1"), (4, "1:5"), (6, "2:1"), (9, "2:3"), (99, "3:1")] {
            let problem = source.problem(at, "bad").to_string();
            assert_eq!(problem, format!("r.toml:{place}: bad"));
        }
        assert_eq!(source.problem(7, "bad"), source.problem(6, "bad"));
    }
}
