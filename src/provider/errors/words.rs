//! Words as rules read them: lower case, without punctuation, one clause or code a line.

/// What is done with quoted parts of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They are read like the rest.
    Read,
    /// They are somebody's own words or names and count as one word that says nothing.
    Masked,
}

/// A quotation longer than this is none: the quote was never closed, or was an apostrophe.
const LONGEST_QUOTATION: usize = 240;
/// How far apart the parts of a phrase with a gap may stand: a model's name.
const GAP: usize = 64;

/// How clauses of advice begin. What a server recommends is no statement of what happened: "you
/// can increase your rate limit by adding a payment method".
const ADVICE: [&str; 24] = [
    " please ",
    " to ",
    " you can ",
    " you may ",
    " need ",
    " upgrade ",
    " visit ",
    " see ",
    " for ",
    " add ",
    " contact ",
    " learn ",
    " check ",
    " go ",
    " head ",
    " try ",
    " consider ",
    " if ",
    " increase ",
    " reduce ",
    " retry ",
    " purchase ",
    " refer ",
    " use ",
];

/// What clauses have that speak of a part of the request: "the quota parameter must not exceed
/// 100". Under the statuses where quotations are masked they say nothing of limits or keys.
const OF_REQUEST: [&str; 23] = [
    "must not exceed",
    "must be a$",
    "must be an$",
    "must be at",
    "must be less",
    "must be greater",
    "must be one of",
    "must be in$",
    "must be between",
    "must have",
    "schema",
    "property",
    "parameter",
    "argument",
    "field$",
    "function name",
    "file name",
    "characters",
    "length$",
    "bytes$",
    "prompt$",
    "images",
    "pdf$",
];

/// Lines of words, each with a space at both ends, and no longer together than `most` bytes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
}

/// Words that a line must have: of every group at least one phrase.
///
/// A phrase matches where its words begin a word of the line, so "exceed" is found in "exceeded".
/// `$` at its end asks for the end of a word, `^` at its start for the start of the line, and
/// ` * ` stands for a few words. Phrases in other scripts match anywhere.
pub(super) type Words = &'static [&'static [&'static str]];

impl Lines {
    /// Adds an identifier: a code, a type, a name of an exception.
    pub(super) fn code(&mut self, code: &str, most: usize) {
        if self.text.len() + 2 * code.len() > most {
            return;
        }
        self.text.push(' ');
        let mut before = ' ';
        let mut chars = code.chars().peekable();
        while let Some(c) = chars.next() {
            let next_is_lower = chars.peek().is_some_and(|next| next.is_lowercase());
            let begins_word = c.is_uppercase()
                && (before.is_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_uppercase() && next_is_lower));
            if begins_word || !c.is_alphanumeric() {
                self.space();
            }
            if c.is_alphanumeric() {
                self.text.extend(c.to_lowercase());
            }
            before = c;
        }
        self.end_line();
    }

    /// Adds a text in sentences, without those of its clauses that advise and, where quotations
    /// are masked, those that speak of a part of the request.
    pub(super) fn prose(&mut self, text: &str, quotes: Quotes, most: usize) {
        let first = self.text.len();
        let mut line = first;
        self.text.push(' ');
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if self.text.len() >= most {
                break;
            }
            let tail = &rest[c.len_utf8()..];
            let in_word = !self.text.ends_with(' ');
            if quotes == Quotes::Masked && !in_word {
                if let Some(after) = unquoted(c, tail) {
                    self.text.push_str("it ");
                    rest = after;
                    continue;
                }
            }
            rest = tail;
            match c {
                c if c.is_alphanumeric() => self.text.extend(c.to_lowercase()),
                '\'' | '’' if in_word => {}
                '.' | '!' | '?' if !tail.is_empty() && !tail.starts_with(is_end) => self.space(),
                '.' | '!' | '?' | ';' | '\n' | '。' | '！' | '？' => {
                    line = self.end_clause(first, line, quotes);
                }
                // "30,000" is one number.
                ',' if self.text.ends_with(|c: char| c.is_ascii_digit())
                    && tail.starts_with(|c: char| c.is_ascii_digit()) => {}
                // What follows a colon explains: no phrase reaches over it, but figures do.
                ':' if begins_with_letter(tail) => {
                    self.space();
                    self.text.push_str(": ");
                }
                _ => {
                    self.space();
                    // "please" begins a clause wherever it stands.
                    if tail
                        .get(..7)
                        .is_some_and(|word| word.eq_ignore_ascii_case("please "))
                    {
                        line = self.end_clause(first, line, quotes);
                    }
                }
            }
        }
        let line = self.end_clause(first, line, quotes);
        self.text.truncate(line);
    }

    /// Whether any line has these words.
    pub(super) fn have(&self, words: Words) -> bool {
        !words.is_empty()
            && self.text.lines().any(|line| {
                let found = |group: &&[&str]| group.iter().any(|phrase| has(line, phrase));
                words.iter().all(found)
            })
    }

    /// Whether any line is these words and no others, whatever separates them.
    pub(super) fn equal(&self, words: &str) -> bool {
        let compact = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
        self.text.lines().any(|line| compact(line) == words)
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    fn space(&mut self) {
        if !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    fn end_line(&mut self) {
        self.space();
        self.text.push('\n');
    }

    /// Ends the clause that began at `line`, drops it if it advises, and begins another.
    fn end_clause(&mut self, first: usize, line: usize, quotes: Quotes) -> usize {
        let clause = &self.text[line..];
        let says_nothing = clause.trim().is_empty();
        // "Make sure that" names what is wrong.
        let advises = line > first
            && ADVICE.iter().any(|advice| clause.starts_with(advice))
            && !clause.starts_with(" please make sure ");
        let of_request =
            || quotes == Quotes::Masked && OF_REQUEST.iter().any(|phrase| has(clause, phrase));
        if says_nothing || advises || of_request() {
            self.text.truncate(line);
        } else {
            self.end_line();
        }
        let line = self.text.len();
        self.text.push(' ');
        line
    }
}

/// All words of `text` in one line that begins with a space.
pub(super) fn plain(text: &str) -> String {
    let mut line = String::from(" ");
    for c in text.chars() {
        if c.is_alphanumeric() {
            line.extend(c.to_lowercase());
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line
}

/// Whether `text` goes on with a space and a letter.
fn begins_with_letter(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some(' ') && chars.next().is_some_and(char::is_alphabetic)
}

fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ')')
}

/// What follows the quotation that `open` begins before `rest`.
fn unquoted(open: char, rest: &str) -> Option<&str> {
    let close = match open {
        '"' | '`' | '\'' => open,
        '“' => '”',
        '‘' => '’',
        _ => return None,
    };
    let mut chars = rest.char_indices();
    loop {
        let (at, c) = chars.next().filter(|(at, _)| *at < LONGEST_QUOTATION)?;
        let after = &rest[at + c.len_utf8()..];
        let is_apostrophe = || after.starts_with(char::is_alphanumeric);
        if c == close && !(matches!(c, '\'' | '’') && is_apostrophe()) {
            return Some(after);
        }
    }
}

/// Whether `line` has `phrase`.
fn has(line: &str, phrase: &str) -> bool {
    if let Some((first, second)) = phrase.split_once(" * ") {
        let mut from = 0;
        while let Some(at) = find(&line[from..], first) {
            let after = from + at + 1;
            let mut end = (after + first.len() + GAP).min(line.len());
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            if has(&line[after..end], second) {
                return true;
            }
            from = after;
            while !line.is_char_boundary(from) {
                from += 1;
            }
        }
        return false;
    }
    if !phrase.is_ascii() {
        return line.contains(phrase);
    }
    if let Some(start) = phrase.strip_prefix('^') {
        return line
            .strip_prefix(' ')
            .is_some_and(|line| line.starts_with(start));
    }
    match phrase.strip_suffix('$') {
        None => find(line, phrase).is_some(),
        Some(whole) => {
            let mut rest = line;
            while let Some(at) = find(rest, whole) {
                rest = &rest[at + 1 + whole.len()..];
                if rest.is_empty() || rest.starts_with(' ') {
                    return true;
                }
            }
            false
        }
    }
}

/// Where the space before `words` stands in `line`.
fn find(line: &str, words: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = line[from..].find(words) {
        let at = from + at;
        if at > 0 && line.as_bytes()[at - 1] == b' ' {
            return Some(at - 1);
        }
        from = at + words.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 4_096;

    fn code(text: &str) -> String {
        let mut lines = Lines::default();
        lines.code(text, MOST);
        lines.text
    }

    fn prose(text: &str, quotes: Quotes) -> String {
        let mut lines = Lines::default();
        lines.prose(text, quotes, MOST);
        lines.text
    }

    #[test]
    fn codes_of_all_conventions_are_the_same_words() {
        for text in [
            "rate_limit_error",
            "RateLimitError",
            "rate-limit.error",
            "RATE_LIMIT_ERROR",
        ] {
            assert_eq!(code(text), " rate limit error \n");
        }
        assert_eq!(code("HTTPError2Big"), " http error2 big \n");
    }

    #[test]
    fn advice_is_left_out_unless_nothing_else_is_said() {
        let text =
            "Rate limit reached on v1.5 (TPM): 3.5 used. You can increase it by adding credits.";
        assert_eq!(
            prose(text, Quotes::Read),
            " rate limit reached on v1 5 tpm 3 5 used \n"
        );
        let text = "Quota exceeded, please check your billing details";
        assert_eq!(prose(text, Quotes::Read), " quota exceeded \n");
        assert_eq!(prose("Please pay!", Quotes::Read), " please pay \n");
        assert_eq!(prose("", Quotes::Read), "");
        assert_eq!(
            prose("Failed: no key. Key: 5", Quotes::Read),
            " failed : no key \n key 5 \n"
        );
    }

    #[test]
    fn quotations_say_nothing_where_they_are_masked() {
        let text = "Don't call 'x' or \"rate limit\" in the user's `y`, it's";
        assert_eq!(
            prose(text, Quotes::Masked),
            " dont call it or it in the users it its \n"
        );
        assert_eq!(prose("a \"b c", Quotes::Masked), " a b c \n");
    }

    #[test]
    fn phrases_begin_with_words_and_may_leave_gaps() {
        let line = " the model gpt 4o was not found in region 10 ";
        for phrase in [
            "model",
            "not fo",
            "model * not found",
            "^the mod",
            "region 10$",
            "found$",
        ] {
            assert!(has(line, phrase), "{phrase}");
        }
        for phrase in [
            "odel",
            "fo$",
            "region 1$",
            "^model",
            "found * model",
            "model * nowhere",
        ] {
            assert!(!has(line, phrase), "{phrase}");
        }
    }

    proptest! {
        #[test]
        fn lines_stay_bounded_and_keep_their_form(text in "\\PC{0,300}", most in 0_usize..400) {
            let mut lines = Lines::default();
            for quotes in [Quotes::Read, Quotes::Masked] {
                lines.prose(&text, quotes, most);
                lines.code(&text, most);
            }
            prop_assert!(lines.text.len() <= most + 64);
            for line in lines.lines() {
                prop_assert!(line.starts_with(' ') && line.ends_with(' '), "{line:?}");
                let _ = (has(line, "model * not"), has(line, "é * x"), has(line, "a$"), find(line, "a"));
            }
        }
    }
}
