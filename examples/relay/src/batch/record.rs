//! Lines of the output and of the dead letters.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A line as it is written, in the shape of OpenAI's.
#[derive(Serialize)]
struct Record<'r> {
    /// The line of the input that it answers; by it a later run knows what is done.
    id: String,
    custom_id: &'r str,
    response: Option<Response<'r>>,
    error: Option<Failure<'r>>,
    /// Of a dead letter, so that it can be mended and sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'r RawValue>,
}

/// An answer, or a provider's refusal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Response<'r> {
    pub(super) status_code: u16,
    pub(super) request_id: Option<&'r str>,
    #[serde(borrow)]
    pub(super) body: Content<'r>,
}

/// JSON as it came, or the text that came in its place.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'r> {
    Json(&'r RawValue),
    Text(String),
}

/// Why a line can never succeed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure<'r> {
    pub(super) code: &'r str,
    pub(super) message: &'r str,
}

impl<'r> Content<'r> {
    pub(super) fn of(bytes: &'r [u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

/// The line for an answer.
pub(super) fn answered(line: u64, id: &str, response: Response<'_>) -> String {
    written(&Record {
        id: name(line),
        custom_id: id,
        response: Some(response),
        error: None,
        request: None,
    })
}

/// The line for a request that can never succeed; `request` is its line of the input.
pub(super) fn dead(
    line: u64,
    id: &str,
    response: Option<Response<'_>>,
    failure: Failure<'_>,
    request: &str,
) -> String {
    written(&Record {
        id: name(line),
        custom_id: id,
        response,
        error: Some(failure),
        request: serde_json::from_str(request).ok(),
    })
}

/// In one line, whatever was in the JSON that came: outside of strings, where they would be
/// escaped, ends of lines mean nothing.
fn written(record: &Record<'_>) -> String {
    let mut line = serde_json::to_string(record).expect("all of it is JSON");
    if line.contains(['\n', '\r']) {
        line.retain(|character| !matches!(character, '\n' | '\r'));
    }
    line.push('\n');
    line
}

const LINE: &str = "line-";

fn name(line: u64) -> String {
    format!("{LINE}{line}")
}

/// Which line of the input a written line is about, if it is whole.
pub(super) fn line_of(record: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Named<'r> {
        id: &'r str,
    }
    if record.first() != Some(&b'{') {
        return None;
    }
    let named: Named<'_> = serde_json::from_slice(record).ok()?;
    named.id.strip_prefix(LINE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_json_in_one_line_and_is_read_again() {
        let body = b"{\r\n  \"a\\n\": 1.0e2,\n  \"a\": [ ]\n}";
        let response = Response {
            status_code: 200,
            request_id: None,
            body: Content::of(body),
        };
        let line = answered(7, "x\ny", response);
        assert_eq!(
            line,
            "{\"id\":\"line-7\",\"custom_id\":\"x\\ny\",\"response\":{\"status_code\":200,\
             \"request_id\":null,\"body\":{  \"a\\n\": 1.0e2,  \"a\": [ ]}},\"error\":null}\n"
        );
        assert_eq!(line_of(line.as_bytes()), Some(7));
        for end in 0..line.len() - 1 {
            assert_eq!(line_of(&line.as_bytes()[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_dead_letter_has_the_request_and_text_that_is_no_json() {
        let response = Response {
            status_code: 400,
            request_id: Some("r"),
            body: Content::of(b"<no\xff>"),
        };
        let failure = Failure {
            code: "refused",
            message: "no",
        };
        let line = dead(1, "1", Some(response), failure, "{\"n\": 1}");
        assert_eq!(
            line,
            "{\"id\":\"line-1\",\"custom_id\":\"1\",\"response\":{\"status_code\":400,\
             \"request_id\":\"r\",\"body\":\"<no\u{fffd}>\"},\"error\":{\"code\":\"refused\",\
             \"message\":\"no\"},\"request\":{\"n\": 1}}\n"
        );
    }
}
