//! The profiles of the providers that are known.
//!
//! Each is data as of its [`date`](Profile::date): what is said of charging is what the provider's
//! documentation says, or its support. Where nothing is said, everything counts.

use http::{HeaderName, header};

use super::{
    CachedInput, CachedShare, Charging, CredentialHeader, Errors, Failures, Output, Profile,
    RateHeaders, Reserved, Rule, Settlement, errors::Daily,
};
use crate::{outcome::Verdict, policy::Ramp};

/// The month in which all that stands here was checked.
const CHECKED: &str = "2026-11";

impl Profile {
    /// Anthropic: input and output have quotas of their own, per organisation and class of model.
    ///
    /// Input counts as it comes in, cache writes included and beside the input tokens of the
    /// answer; reads of the cache are free but for a few older models, for which
    /// [`anthropic_without_free_cache`](Self::anthropic_without_free_cache) is. Output counts as
    /// it is produced and `max_tokens` takes nothing, but how much will be produced is not known
    /// when a call is admitted: so `max_tokens` is reserved, and what was not produced is given
    /// back when the answer has told its usage. A call that is refused uses no tokens.
    ///
    /// The credential goes in `x-api-key`, as in the documentation's requests, which every version
    /// of the API takes. Newer clients send it as a bearer token:
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_relay::provider::{CredentialHeader, Profile};
    ///
    /// let name = HeaderName::from_static("x-api-key");
    /// let profile = Profile::anthropic();
    /// assert_eq!(*profile.credential_header(), CredentialHeader::Named(name));
    ///
    /// let newer = profile.credential(CredentialHeader::Bearer);
    /// assert_eq!(*newer.credential_header(), CredentialHeader::Bearer);
    /// ```
    pub fn anthropic() -> Self {
        profile("anthropic")
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

    /// Anthropic's older models (Haiku 3.5 and before), for which reads of the cache count like
    /// any input.
    ///
    /// ```
    /// use tower_relay::provider::{Profile, TokenUsage};
    ///
    /// let used = TokenUsage::UNKNOWN.input(10).cached_input(900);
    /// let charged = |profile: Profile| profile.charging_rule().settle(&used).input();
    /// assert_eq!(charged(Profile::anthropic()), Some(10));
    /// assert_eq!(charged(Profile::anthropic_without_free_cache()), Some(910));
    /// ```
    pub fn anthropic_without_free_cache() -> Self {
        let newer = Self::anthropic();
        let charging = newer.charging_rule().cached_input(CachedInput::Counted);
        newer.charging(charging)
    }

    /// What OpenAI bears of growth, in input tokens: above a million a minute no more than 50 % in a
    /// quarter of an hour, else it answers `slow_down`. Nothing uses it until a
    /// [quota](crate::policy::QuotaBuilder::ramp) does.
    ///
    /// ```
    /// use tower_relay::{policy::{Quota, Unit}, provider::Profile};
    ///
    /// let quota = Quota::builder()
    ///     .input_tokens_per_minute(30_000_000)
    ///     .ramp(Unit::INPUT_TOKENS, Profile::OPENAI_RAMP);
    /// assert!(quota.build().is_ok());
    /// ```
    pub const OPENAI_RAMP: Ramp = Ramp::above_per_minute(1_000_000);

    /// OpenAI: one quota of tokens for input and output, per organisation, project and model.
    ///
    /// At admission the larger of the request's maximum and an estimate of its input is taken; it
    /// is not given back when less was used, and calls that fail count as well. Cached input
    /// counts.
    pub fn openai() -> Self {
        profile("openai")
            .rate_headers(RateHeaders::openai())
            .charging(
                Charging::NEW
                    .reservation(Reserved::Larger)
                    .settlement(Settlement::Stands),
            )
    }

    /// Azure OpenAI: one quota of tokens per deployment; the estimate of the prompt and the
    /// maximum are taken at admission and stay taken.
    ///
    /// Its API management in front says 403 with `retry-after` for a call quota that is used up.
    pub fn azure_openai() -> Self {
        profile("azure-openai")
            .credential(named("api-key"))
            .rate_headers(RateHeaders::azure_openai())
            .charging(Charging::NEW.settlement(Settlement::Stands))
    }

    /// Gemini, of AI Studio and Vertex: only input counts, per project. Cached input counts, no
    /// source exempts it.
    ///
    /// Quotas of a day return at midnight Pacific, which is the hint where the server gives no
    /// better one.
    pub fn gemini() -> Self {
        profile("gemini")
            .credential(named("x-goog-api-key"))
            .charging(Charging::NEW.output(Output::Free))
            .errors(Errors::default().daily(Daily::MidnightPacific))
    }

    /// Bedrock: one quota of tokens per model, region and account.
    ///
    /// Input, cache writes and the request's maximum (unset, the model's) are taken at admission;
    /// at the end a token of output is settled as five, as models of the Claude family are, into
    /// debt if need be. Reads of the cache are free: the worked example of its documentation
    /// leaves them out, another page counts them until the end. Requests are signed, or carry a
    /// bearer token.
    pub fn bedrock() -> Self {
        let rule = |name, verdict| Rule::code(name, verdict);
        let errors = Errors::default().of_provider([
            rule("ModelNotReadyException", Verdict::Overloaded),
            rule("ModelTimeoutException", Verdict::ServerFault),
            rule("ModelErrorException", Verdict::ServerFault),
            rule("ModelStreamErrorException", Verdict::ServerFault),
            rule("InternalServerException", Verdict::ServerFault),
            rule("ServiceUnavailableException", Verdict::Overloaded),
        ]);
        profile("bedrock").errors(errors).charging(
            Charging::NEW
                .cached_input(CachedInput::Exempt)
                .cached_share(CachedShare::Beside)
                .output_factor(5),
        )
    }

    /// Groq: quotas per organisation; cached input is free. Requests have a quota of a day, which
    /// rolls: its reset is that of one request.
    ///
    /// 498 is a lack of capacity in the flex tier.
    pub fn groq() -> Self {
        let errors = Errors::default().of_provider([
            Rule::code("blocked_api_access", Verdict::Exhausted),
            Rule::status(498, Verdict::Overloaded),
        ]);
        profile("groq")
            .errors(errors)
            .rate_headers(RateHeaders::groq())
            .charging(Charging::NEW.cached_input(CachedInput::Exempt))
    }

    /// Mistral: quotas per workspace, of requests a second and tokens a minute and month. Nothing
    /// is documented of how it charges, so everything counts.
    pub fn mistral() -> Self {
        profile("mistral")
            .rate_headers(RateHeaders::mistral())
            .errors(Errors::default().of_provider([
                Rule::code("1300", Verdict::Throttled),
                Rule::code("3505", Verdict::Overloaded),
            ]))
    }

    /// DeepSeek: no fixed quotas but a limit of calls in flight that shrinks with the balance.
    /// Nothing is documented of how it charges, so everything counts.
    pub fn deepseek() -> Self {
        profile("deepseek").errors(Errors::default().of_provider([Rule::code(
            "insufficient_system_resource",
            Verdict::Overloaded,
        )]))
    }

    /// OpenRouter: account-wide, so that more keys or accounts do not help. Calls in flight hold
    /// an estimate against the balance. Nothing is documented of how tokens count.
    ///
    /// Its 502 says that the provider behind it could not serve. A 402 for the budget in flight
    /// ends by itself.
    pub fn openrouter() -> Self {
        profile("openrouter").errors(Errors::default().of_provider([
            Rule::code("in_flight_budget_exhausted", Verdict::Throttled),
            Rule::code("weight_exceeds_budget", Verdict::CallerFault),
            Rule::status(502, Verdict::Overloaded),
        ]))
    }

    /// The profile of a provider by its name in kebab case: that of its function here.
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

fn profile(name: &'static str) -> Profile {
    Profile::generic().named(name).dated(CHECKED)
}

fn named(name: &'static str) -> CredentialHeader {
    let name = HeaderName::from_static(name);
    debug_assert_ne!(name, header::AUTHORIZATION);
    CredentialHeader::Named(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Usage, policy::Unit, provider::TokenUsage};

    const NAMES: [&str; 10] = [
        "anthropic",
        "azure-openai",
        "bedrock",
        "deepseek",
        "gemini",
        "generic",
        "groq",
        "mistral",
        "openai",
        "openrouter",
    ];

    fn of(name: &str) -> Profile {
        Profile::of(name).expect("it is a provider")
    }

    #[test]
    fn every_profile_is_found_by_its_name_and_has_a_date() {
        for name in NAMES {
            assert_eq!(of(name).name(), name);
            assert_eq!(of(name).date(), CHECKED);
        }
    }

    #[test]
    fn the_credential_goes_where_the_provider_expects_it() {
        for name in NAMES {
            let expected = match name {
                "anthropic" => CredentialHeader::Named(HeaderName::from_static("x-api-key")),
                "azure-openai" => CredentialHeader::Named(HeaderName::from_static("api-key")),
                "gemini" => CredentialHeader::Named(HeaderName::from_static("x-goog-api-key")),
                _ => CredentialHeader::Bearer,
            };
            assert_eq!(*of(name).credential_header(), expected, "{name}");
        }
    }

    /// 1,000 tokens of input, 600 of them cached, and 20 written where that is told; 30 of output.
    fn settled(name: &str) -> Usage {
        let used = TokenUsage::UNKNOWN.cached_input(600).output(30);
        let used = match name {
            "anthropic" | "bedrock" => used.input(380).cache_write(20),
            _ => used.input(1_000),
        };
        of(name).charging_rule().settle(&used)
    }

    #[test]
    fn an_answer_is_charged_as_the_provider_charges_it() {
        let prompt = Usage::UNKNOWN.prompt_tokens(1_000);
        let usage = |input, output| Usage::UNKNOWN.input_tokens(input).output_tokens(output);
        for (name, expected) in [
            ("anthropic", usage(400, 30)),
            ("bedrock", usage(400, 150).prompt_tokens(1_000)),
            ("groq", usage(400, 30).prompt_tokens(1_000)),
            ("gemini", usage(1_000, 0)),
            ("mistral", usage(1_000, 30)),
            ("deepseek", usage(1_000, 30)),
            ("openrouter", usage(1_000, 30)),
            ("openai", prompt),
            ("azure-openai", prompt),
        ] {
            assert_eq!(settled(name), expected, "{name}");
        }
    }

    #[test]
    fn a_request_reserves_what_the_provider_takes() {
        for (name, expected) in [
            ("openai", 500),
            ("azure-openai", 800),
            ("bedrock", 800),
            ("gemini", 0),
            ("groq", 800),
            // It counts when it is produced, but nobody knows yet how much that will be.
            ("anthropic", 800),
        ] {
            let cost = of(name).charging_rule().reserve(300, 800);
            assert_eq!(cost.get(Unit::INPUT_TOKENS), 300, "{name}");
            assert_eq!(cost.get(Unit::OUTPUT_TOKENS), expected, "{name}");
        }
        let output = of("anthropic").charging_rule().output_rule();
        assert_eq!(output, Output::AsProduced);
    }

    #[test]
    fn a_call_that_fails_is_charged_where_failures_count() {
        let free = Usage::UNKNOWN.input_tokens(0).output_tokens(0);
        let failed = |name| of(name).charging_rule().settle_failure();
        assert_eq!(failed("openai"), Usage::UNKNOWN);
        assert_eq!(failed("anthropic"), free);
    }
}
