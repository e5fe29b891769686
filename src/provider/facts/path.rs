//! What the path of a request says of it.

use std::borrow::Cow;

/// Names longer than this are none; the longest there are, those of Bedrock's profiles, have two
/// hundred bytes.
const LONGEST_NAME: usize = 1_024;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Path<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) is_streamed: bool,
}

impl<'a> Path<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            let (name, action) = match segment {
                // `/models/{model}:generateContent`
                "models" => match segments
                    .clone()
                    .next()
                    .and_then(|next| next.rsplit_once(':'))
                {
                    Some((name, action)) => (name, Some(action)),
                    None => continue,
                },
                // `/model/{model}/converse`, `/deployments/{deployment}/chat/completions`
                "model" | "deployments" => {
                    let mut next = segments.clone();
                    match (next.next(), next.next()) {
                        (Some(name), action @ Some(_)) => (name, action),
                        _ => continue,
                    }
                }
                _ => continue,
            };
            if let Some(model) = decode(name) {
                return Self {
                    model: Some(model),
                    is_streamed: action.is_some_and(is_streaming),
                };
            }
        }
        Self::default()
    }
}

fn is_streaming(action: &str) -> bool {
    matches!(
        action,
        "streamGenerateContent"
            | "streamRawPredict"
            | "converse-stream"
            | "invoke-with-response-stream"
    )
}

/// A name without its percent encoding (RFC 3986 2.1), if it makes sense.
fn decode(name: &str) -> Option<Cow<'_, str>> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return None;
    }
    if !name.contains('%') {
        return Some(Cow::Borrowed(name));
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_model_stands_in_the_path_at_gemini_bedrock_and_azure() {
        for (path, model, is_streamed) in [
            (
                "/v1beta/models/gemini-2.5-pro:generateContent",
                "gemini-2.5-pro",
                false,
            ),
            (
                "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
                "gemini-2.5-pro",
                true,
            ),
            (
                "/v1/projects/p/locations/eu/publishers/anthropic/models/claude@1:streamRawPredict",
                "claude@1",
                true,
            ),
            (
                "/model/anthropic.claude-v1%3A0/converse",
                "anthropic.claude-v1:0",
                false,
            ),
            (
                "/model/anthropic.claude-v1:0/converse-stream",
                "anthropic.claude-v1:0",
                true,
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fx/invoke",
                "arn:aws:bedrock:eu:1:inference-profile/x",
                false,
            ),
            (
                "/openai/deployments/large-2/chat/completions",
                "large-2",
                false,
            ),
            ("/tunedModels/a/models/b:generateContent", "b", false),
        ] {
            let read = Path::of(path);
            assert_eq!(read.model.as_deref(), Some(model), "{path}");
            assert_eq!(read.is_streamed, is_streamed, "{path}");
        }
    }

    #[test]
    fn a_path_without_a_model_has_none() {
        let long = format!("/model/{}/converse", "m".repeat(LONGEST_NAME + 1));
        for path in [
            "/",
            "",
            "/v1/messages",
            "/v1/models",
            "/v1/models/gpt-4",
            "/v1/models/:generateContent",
            "/model/m",
            "/model//converse",
            "/model/%/converse",
            "/model/%zz/converse",
            "/model/%ff/converse",
            "/deployments/d",
            "/models",
            &long,
        ] {
            assert_eq!(Path::of(path), Path::default(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "(/(models|model|deployments|[a-z%:é]{0,4})){0,6}") {
            let _ = Path::of(&path);
        }
    }
}
