//! One line of the input: a request, or what is wrong with it.

use std::str;

use http::uri::PathAndQuery;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A line in one of the two forms.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// `custom_id`, or the line's number.
    pub(super) id: String,
    pub(super) path: PathAndQuery,
    /// As it stands in the line, byte for byte.
    pub(super) body: String,
}

/// In which form lines are.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// OpenAI's batch format.
    Batch,
    /// Bodies alone, all for this path.
    Bodies(PathAndQuery),
}

/// A line of OpenAI's batch format. What it says beside these would be left unsaid to the
/// provider, so other fields are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enveloped<'l> {
    custom_id: String,
    method: Option<String>,
    url: String,
    #[serde(borrow)]
    body: &'l RawValue,
}

/// What decides whether a body can be sent.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    stream: Option<bool>,
}

/// What tells the two forms apart, for who took the one for the other.
#[derive(Deserialize)]
struct Hint {
    #[serde(default)]
    custom_id: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    body: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    model: Option<serde::de::IgnoredAny>,
}

/// The longest `custom_id`, in bytes.
const LONGEST_ID: usize = 512;

impl Form {
    /// The request in `line`, of that number; `None` of a blank line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to stand behind the line's number.
    pub(super) fn read(&self, number: u64, line: &[u8]) -> Result<Option<Item>, String> {
        let text = str::from_utf8(line).map_err(|error| {
            let at = error.valid_up_to() + 1;
            format!("is no UTF-8, from byte {at} on; write the file in UTF-8")
        })?;
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(None);
        }
        if !text.starts_with('{') {
            return Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => "is no JSON object; each line is one request, as {..}".to_owned(),
                Err(error) => format!("is no JSON: {}", place(&error)),
            });
        }
        let item = match self {
            Self::Batch => batch(text)?,
            Self::Bodies(path) => Item {
                id: number.to_string(),
                path: path.clone(),
                body: body(text)?,
            },
        };
        if let Ok(Body { stream: Some(true) }) = serde_json::from_str(&item.body) {
            let problem = "asks for a stream; a batch takes whole answers, so leave `stream` out";
            return Err(problem.to_owned());
        }
        Ok(Some(item))
    }
}

fn batch(text: &str) -> Result<Item, String> {
    let line: Enveloped<'_> = serde_json::from_str(text).map_err(|error| {
        let hint = serde_json::from_str::<Hint>(text).ok();
        match hint {
            None => format!("is no JSON: {}", place(&error)),
            Some(hint) if hint.body.is_none() && hint.model.is_some() => {
                "looks like a request's body alone; say where such lines go with --path, such as \
                 --path /v1/chat/completions"
                    .to_owned()
            }
            Some(_) => format!("is no request: {}", place(&error)),
        }
    })?;
    if line.custom_id.is_empty() || line.custom_id.len() > LONGEST_ID {
        return Err(format!(
            "has a `custom_id` of {} bytes; use 1 to {LONGEST_ID}",
            line.custom_id.len()
        ));
    }
    if line.method.is_some_and(|method| method != "POST") {
        return Err("has another `method` than \"POST\", which is all a batch sends".to_owned());
    }
    let path = path(&line.url)
        .map_err(|problem| format!("has a `url` that {problem}, such as /v1/chat/completions"))?;
    if !line.body.get().starts_with('{') {
        return Err("has a `body` that is no JSON object".to_owned());
    }
    Ok(Item {
        id: line.custom_id,
        path,
        body: line.body.get().to_owned(),
    })
}

/// `text` if it is an object, and no line of the other form.
fn body(text: &str) -> Result<String, String> {
    let hint: Hint =
        serde_json::from_str(text).map_err(|error| format!("is no JSON: {}", place(&error)))?;
    if hint.custom_id.is_some() && hint.body.is_some() {
        let problem = "is in OpenAI's batch format, which names its own `url`; leave --path out";
        return Err(problem.to_owned());
    }
    Ok(text.to_owned())
}

/// A path to be added to a provider's base URL.
///
/// # Errors
///
/// What is wrong with it, up to an example.
pub(super) fn path(text: &str) -> Result<PathAndQuery, &'static str> {
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.contains('#');
    let path = is_path.then(|| text.parse().ok()).flatten();
    path.ok_or("is no path; leave out the host, which the configuration names, and begin with `/`")
}

/// A message of the parser's, whose only line is the file's.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(" at line 1 column 0", "")
        .replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: &[u8]) -> String {
        Form::Batch.read(3, line).expect_err("it is wrong")
    }

    #[test]
    fn a_body_is_kept_byte_for_byte() {
        let line = br#" {"custom_id":"a\u00e9","url":"/v1/x?y=1","body":{ "n" : 1.0e2, "n":2}} "#;
        let item = Form::Batch
            .read(1, line)
            .expect("right")
            .expect("not blank");
        assert_eq!((&*item.id, item.path.as_str()), ("a\u{e9}", "/v1/x?y=1"));
        assert_eq!(item.body, r#"{ "n" : 1.0e2, "n":2}"#);
        let form = Form::Bodies(PathAndQuery::from_static("/v1/x"));
        let item = form
            .read(7, b"\t{\"a\": 1}")
            .expect("right")
            .expect("not blank");
        assert_eq!((&*item.id, &*item.body), ("7", "{\"a\": 1}"));
        assert!(form.read(8, b" \t").expect("right").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_what_to_do() {
        for (line, beginning) in [
            (
                &b"{\"custom_id\": \"a\xff\"}"[..],
                "is no UTF-8, from byte 17 on; ",
            ),
            (b"nonsense", "is no JSON: expected ident at column 2"),
            (b"[1]", "is no JSON object; "),
            (
                b"{\"custom_id\":",
                "is no JSON: EOF while parsing a value at column 13",
            ),
            (
                b"{}",
                "is no request: missing field `custom_id` at column 2",
            ),
            (
                br#"{"custom_id":1,"url":"/","body":{}}"#,
                "is no request: invalid type: integer",
            ),
            (
                br#"{"custom_id":"a","url":"/","body":{},"headers":{}}"#,
                "is no request: unknown field `headers`, expected one of",
            ),
            (
                br#"{"custom_id":"","url":"/","body":{}}"#,
                "has a `custom_id` of 0 bytes; ",
            ),
            (
                br#"{"custom_id":"a","url":"/","body":[]}"#,
                "has a `body` that is no JSON object",
            ),
            (
                br#"{"custom_id":"a","method":"GET","url":"/","body":{}}"#,
                "has another `method`",
            ),
            (
                br#"{"custom_id":"a","url":"https://h/v1","body":{}}"#,
                "has a `url` that is no path; ",
            ),
            (
                br#"{"custom_id":"a","url":"/","body":{"stream":true}}"#,
                "asks for a stream; ",
            ),
            (br#"{"model":"m"}"#, "looks like a request's body alone; "),
        ] {
            let problem = problem(line);
            assert!(problem.starts_with(beginning), "{problem}");
        }
        let form = Form::Bodies(PathAndQuery::from_static("/v1/x"));
        let other = br#"{"custom_id":"a","url":"/","body":{}}"#;
        let problem = form.read(1, other).expect_err("it is of the other form");
        assert!(
            problem.starts_with("is in OpenAI's batch format"),
            "{problem}"
        );
    }
}
