//! What is to be known of a provider so that a call can be sent to it: its profile, and where.

use tower_relay::provider::Profile;

/// A provider by its name.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    /// Where the callers' paths begin; `None` if everybody has their own.
    pub(crate) base_url: Option<&'static str>,
}

const fn provider(name: &'static str, base_url: Option<&'static str>) -> Provider {
    Provider { name, base_url }
}

/// The base URLs are those to which `/v1/..` is added, so that a client of OpenAI's finds all of
/// them under the path it knows.
const PROVIDERS: [Provider; 9] = [
    provider("anthropic", Some("https://api.anthropic.com")),
    provider("openai", Some("https://api.openai.com")),
    provider("azure-openai", None),
    provider("gemini", Some("https://generativelanguage.googleapis.com")),
    provider("groq", Some("https://api.groq.com/openai")),
    provider("mistral", Some("https://api.mistral.ai")),
    provider("deepseek", Some("https://api.deepseek.com")),
    provider("openrouter", Some("https://openrouter.ai/api")),
    provider("generic", None),
];

/// It is known and cannot be served.
pub(super) const BEDROCK: &str = "bedrock";

impl Provider {
    pub(crate) fn of(name: &str) -> Option<Self> {
        PROVIDERS.into_iter().find(|known| known.name == name)
    }

    /// How it charges, and what its headers, errors and answers mean.
    pub(crate) fn profile(&self) -> Profile {
        Profile::of(self.name).expect("every provider of the table has a profile")
    }

    /// The names of all, for who wrote another.
    pub(crate) fn names() -> String {
        PROVIDERS.map(|known| known.name).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_own_profile() {
        for provider in PROVIDERS {
            assert_eq!(provider.profile().name(), provider.name);
        }
    }
}
