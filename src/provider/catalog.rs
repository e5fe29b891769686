//! The profiles of the providers that are known.

use http::{HeaderName, header};

use super::{
    CachedInput, CachedShare, Charging, CredentialHeader, Failures, Output, Profile, RateHeaders,
    Reserved, Settlement,
};

impl Profile {
    /// Anthropic: cached input is free, output counts as it is produced.
    pub fn anthropic() -> Self {
        Self::generic()
            .named("anthropic")
            .credential(named("x-api-key"))
            .rate_headers(RateHeaders::anthropic())
            .charging(
                Charging::NEW
                    .cached_input(CachedInput::Exempt)
                    .cached_share(CachedShare::Beside)
                    .output(Output::AsProduced)
                    .failures(Failures::Free),
            )
    }

    /// OpenAI: the larger of prompt and maximum is taken at admission and stays taken, also by calls that fail.
    pub fn openai() -> Self {
        Self::generic()
            .named("openai")
            .rate_headers(RateHeaders::openai())
            .charging(
                Charging::NEW
                    .reservation(Reserved::Larger)
                    .settlement(Settlement::Stands),
            )
    }

    /// Azure OpenAI: prompt and maximum are taken at admission and stay taken.
    pub fn azure_openai() -> Self {
        Self::generic()
            .named("azure-openai")
            .credential(named("api-key"))
            .rate_headers(RateHeaders::azure_openai())
            .charging(Charging::NEW.settlement(Settlement::Stands))
    }

    /// Gemini: only input counts.
    pub fn gemini() -> Self {
        Self::generic()
            .named("gemini")
            .credential(named("x-goog-api-key"))
            .charging(Charging::NEW.output(Output::Free))
    }

    /// Bedrock: input, cache writes and the maximum are taken at admission; a token of output
    /// is settled as five, into debt if need be.
    pub fn bedrock() -> Self {
        Self::generic().named("bedrock").charging(
            Charging::NEW
                .cached_input(CachedInput::Exempt)
                .cached_share(CachedShare::Beside)
                .output_factor(5),
        )
    }

    /// Groq: cached input is free.
    pub fn groq() -> Self {
        Self::generic()
            .named("groq")
            .rate_headers(RateHeaders::groq())
            .charging(Charging::NEW.cached_input(CachedInput::Exempt))
    }

    /// Mistral.
    pub fn mistral() -> Self {
        Self::generic()
            .named("mistral")
            .rate_headers(RateHeaders::mistral())
    }

    /// DeepSeek, which has no fixed quotas.
    pub fn deepseek() -> Self {
        Self::generic().named("deepseek")
    }

    /// OpenRouter.
    pub fn openrouter() -> Self {
        Self::generic().named("openrouter")
    }

    /// The profile of a provider by its name in kebab case.
    ///
    /// ```
    /// use tower_relay::provider::Profile;
    ///
    /// assert_eq!(Profile::of("azure-openai").unwrap().name(), "azure-openai");
    /// assert!(Profile::of("nobody").is_none());
    /// ```
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "anthropic" => Self::anthropic(),
            "openai" => Self::openai(),
            "azure-openai" => Self::azure_openai(),
            "gemini" => Self::gemini(),
            "bedrock" => Self::bedrock(),
            "groq" => Self::groq(),
            "mistral" => Self::mistral(),
            "deepseek" => Self::deepseek(),
            "openrouter" => Self::openrouter(),
            "generic" => Self::generic(),
            _ => return None,
        })
    }
}

fn named(name: &'static str) -> CredentialHeader {
    let name = HeaderName::from_static(name);
    debug_assert_ne!(name, header::AUTHORIZATION);
    CredentialHeader::Named(name)
}
