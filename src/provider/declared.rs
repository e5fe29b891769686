//! What the head of a response says of its body.

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

/// What the head says that the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Json,
    Events,
    Frames,
    Encoded,
    Other,
}

impl Declared {
    pub(super) fn by(headers: &HeaderMap) -> Self {
        if is_encoded(headers) {
            return Self::Encoded;
        }
        let declared = headers.get(CONTENT_TYPE);
        let declared = declared.map_or(&b""[..], |value| value.as_bytes());
        let end = declared.iter().position(|byte| *byte == b';');
        let essence = declared[..end.unwrap_or(declared.len())].trim_ascii();
        let is = |kind: &str| essence.eq_ignore_ascii_case(kind.as_bytes());
        if is("application/json") || has_suffix(essence, b"+json") {
            Self::Json
        } else if is("text/event-stream") {
            Self::Events
        } else if is("application/vnd.amazon.eventstream") {
            Self::Frames
        } else {
            Self::Other
        }
    }
}

/// Whether the bytes are in a content encoding, which nobody here undoes.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    codings
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

fn has_suffix(text: &[u8], suffix: &[u8]) -> bool {
    let from = text.len().saturating_sub(suffix.len());
    text[from..].eq_ignore_ascii_case(suffix)
}
