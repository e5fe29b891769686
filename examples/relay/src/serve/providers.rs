//! What is to be known of a provider so that a call can be sent to it: where, and in which header
//! the credential goes.

use http::HeaderName;

/// A provider by its name.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    /// Where the callers' paths begin; `None` if everybody has their own.
    pub(crate) base_url: Option<&'static str>,
    pub(crate) credential: CredentialHeader,
}

/// Where the credential goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialHeader {
    /// `authorization`, after the word "Bearer".
    Bearer,
    /// A header of its own.
    Named(HeaderName),
}

const fn named(name: &'static str) -> CredentialHeader {
    CredentialHeader::Named(HeaderName::from_static(name))
}

const fn provider(
    name: &'static str,
    base_url: Option<&'static str>,
    credential: CredentialHeader,
) -> Provider {
    Provider {
        name,
        base_url,
        credential,
    }
}

/// The base URLs are those to which `/v1/..` is added, so that a client of OpenAI's finds all of
/// them under the path it knows.
const PROVIDERS: [Provider; 9] = {
    use CredentialHeader::Bearer;
    [
        provider(
            "anthropic",
            Some("https://api.anthropic.com"),
            named("x-api-key"),
        ),
        provider("openai", Some("https://api.openai.com"), Bearer),
        provider("azure-openai", None, named("api-key")),
        provider(
            "gemini",
            Some("https://generativelanguage.googleapis.com"),
            named("x-goog-api-key"),
        ),
        provider("groq", Some("https://api.groq.com/openai"), Bearer),
        provider("mistral", Some("https://api.mistral.ai"), Bearer),
        provider("deepseek", Some("https://api.deepseek.com"), Bearer),
        provider("openrouter", Some("https://openrouter.ai/api"), Bearer),
        provider("generic", None, Bearer),
    ]
};

/// It is known and cannot be served.
pub(super) const BEDROCK: &str = "bedrock";

impl Provider {
    pub(crate) fn of(name: &str) -> Option<Self> {
        PROVIDERS.into_iter().find(|known| known.name == name)
    }

    /// The names of all, for who wrote another.
    pub(crate) fn names() -> String {
        PROVIDERS.map(|known| known.name).join(", ")
    }
}
