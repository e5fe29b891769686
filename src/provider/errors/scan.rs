//! A walk over JSON that may be cut, mangled, or not JSON at all.
//!
//! A parser refuses an error whose end is missing; the walk tells what stands before it. It needs
//! one pass, a stack of bounded depth, and borrows what it tells.

use std::borrow::Cow;

/// Containers deeper than this are passed over.
const DEEPEST: usize = 48;

/// A value that is no container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf<'a> {
    /// A string, its escapes as they were written.
    Text(&'a str),
    /// A number, `true`, `null` or what else stands without quotes.
    Bare(&'a str),
}

/// Who is told what the walk finds.
pub(super) trait Visitor {
    /// A container under `key` begins; whether its leaves are wanted.
    fn enter(&mut self, key: &str) -> bool;

    /// A value under `key`, which stands in the container under `parent`. The items of a list
    /// stand under the key of the list.
    fn leaf(&mut self, parent: &str, key: &str, leaf: Leaf<'_>);
}

struct Container<'a> {
    key: &'a str,
    is_object: bool,
    is_wanted: bool,
}

/// Walks over `json` from its start to its end.
pub(super) fn walk(json: &str, visitor: &mut impl Visitor) {
    let bytes = json.as_bytes();
    let mut stack: Vec<Container<'_>> = Vec::new();
    let mut too_deep = 0_usize;
    let mut key: Option<&str> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' if stack.len() >= DEEPEST => too_deep += 1,
            b'{' | b'[' => {
                let top = stack.last();
                let under = match top {
                    Some(top) if !top.is_object => top.key,
                    _ => key.unwrap_or(""),
                };
                let is_wanted = top.is_none_or(|top| top.is_wanted) && visitor.enter(under);
                stack.push(Container {
                    key: under,
                    is_object: byte == b'{',
                    is_wanted,
                });
                key = None;
            }
            b'}' | b']' => {
                if too_deep > 0 {
                    too_deep -= 1;
                } else {
                    stack.pop();
                }
                key = None;
            }
            b',' => key = None,
            b'"' | b'\'' => {
                let text;
                (text, at) = string(json, at, byte);
                let Some(top) = stack.last().filter(|_| too_deep == 0) else {
                    continue;
                };
                match key.take() {
                    None if top.is_object => key = Some(text),
                    named if top.is_wanted => {
                        visitor.leaf(top.key, named.unwrap_or(top.key), Leaf::Text(text));
                    }
                    _ => {}
                }
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                while bytes.get(at).is_some_and(|&byte| is_bare(byte)) {
                    at += 1;
                }
                // A number that ends with the text may be the beginning of another.
                let Some(top) = stack.last().filter(|_| too_deep == 0 && at < bytes.len()) else {
                    continue;
                };
                let named = key.take().or_else(|| (!top.is_object).then_some(top.key));
                // What is bare is ASCII; anything else begins and ends inside a character.
                if let (Some(named), Some(bare), true) = (named, json.get(start..at), top.is_wanted)
                {
                    visitor.leaf(top.key, named, Leaf::Bare(bare));
                }
            }
        }
    }
}

const fn is_bare(byte: u8) -> bool {
    !matches!(
        byte,
        b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"' | b'\'' | b' ' | b'\t' | b'\r' | b'\n'
    )
}

/// The string that begins at `start`, and where to go on. One that is cut ends with the text.
fn string(json: &str, start: usize, quote: u8) -> (&str, usize) {
    let bytes = json.as_bytes();
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if byte == quote => return (&json[start..at], at + 1),
            _ => at += 1,
        }
    }
    // A cut may leave half an escape, whose second half may not be a character's start.
    (&json[start..], json.len())
}

/// `raw` with its escapes read; what is no escape stays as it is.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut chars = rest.chars();
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b' | 'f') => text.push(' '),
            Some('u') => {
                let code = rest
                    .get(1..5)
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok());
                let Some(code) = code else { continue };
                // A half of a pair is a letter that no rule asks for.
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = &rest[5..];
                continue;
            }
            Some(other) => text.push(other),
            None => break,
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Visitor for Told {
        fn enter(&mut self, key: &str) -> bool {
            key != "input"
        }

        fn leaf(&mut self, parent: &str, key: &str, leaf: Leaf<'_>) {
            let (Leaf::Text(value) | Leaf::Bare(value)) = leaf;
            self.0.push(format!("{parent}.{key}={}", unescape(value)));
        }
    }

    fn told(json: &str) -> Vec<String> {
        let mut told = Told::default();
        walk(json, &mut told);
        told.0
    }

    #[test]
    fn leaves_are_told_with_their_keys() {
        let json = r#"[{"error":{"code":429,"list":["a",{"b":null}],"input":{"c":"no"},"d":"x\"y\u00e9"}}]"#;
        assert_eq!(
            told(json),
            [
                "error.code=429",
                "list.list=a",
                "list.b=null",
                "error.d=x\"yé"
            ]
        );
    }

    #[test]
    fn what_stands_before_a_cut_is_told() {
        assert_eq!(
            told(r#"{"error":{"type":"tokens","message":"Rate lim"#),
            ["error.type=tokens", "error.message=Rate lim"]
        );
        assert_eq!(told(r#"{"a":"b\"#), [r".a=b"]);
        assert_eq!(told(r#"{"a":"b\u12"#), [".a=bu12"]);
        assert_eq!(told(r#"{"a"#), [""; 0]);
        assert_eq!(told(r#"{"a":505"#), [""; 0]);
    }

    #[test]
    fn single_quotes_are_read_as_a_program_prints_them() {
        assert_eq!(
            told("{'error': {'code': None, 'type': 'overloaded_error'}}"),
            ["error.code=None", "error.type=overloaded_error"]
        );
    }

    #[test]
    fn what_is_too_deep_is_passed_over_and_what_follows_is_told() {
        let deep = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(told(&deep), [".b=2"]);
        assert_eq!(told(&"[".repeat(70_000)), [""; 0]);
        assert_eq!(told(&"]".repeat(70_000)), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_walk_panic(text in "[\\[\\]{}\",:'\\\\u0-9a-fé\u{1F600} \n]{0,200}") {
            let _ = told(&text);
        }

        #[test]
        fn no_text_makes_the_escapes_panic(text in "[\\\\u0-9a-fdDé\u{1F600}nq]{0,60}") {
            let _ = unescape(&text);
        }
    }
}
