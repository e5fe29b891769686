/// The tokens of one answer as its provider reported them.
///
/// The figures are the provider's own: whether its input tokens include those read from a cache is
/// told by its [`Charging`](super::Charging), which also makes of them what a quota is charged.
///
/// ```
/// use tower_relay::provider::TokenUsage;
///
/// let usage = TokenUsage::UNKNOWN.input(1_200).cached_input(1_000).output(80);
/// assert_eq!(usage.input_tokens(), Some(1_200));
/// assert_eq!(usage.cached_input_tokens(), Some(1_000));
/// assert_eq!(usage.cache_write_tokens(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
}

impl TokenUsage {
    /// Nothing was reported.
    pub const UNKNOWN: Self = Self {
        input: None,
        cached_input: None,
        cache_write: None,
        output: None,
    };

    /// This usage with the input tokens, as the provider counts them.
    #[must_use]
    pub const fn input(mut self, tokens: u64) -> Self {
        self.input = Some(tokens);
        self
    }

    /// This usage with the input tokens that were read from a cache.
    #[must_use]
    pub const fn cached_input(mut self, tokens: u64) -> Self {
        self.cached_input = Some(tokens);
        self
    }

    /// This usage with the input tokens that were written into a cache.
    #[must_use]
    pub const fn cache_write(mut self, tokens: u64) -> Self {
        self.cache_write = Some(tokens);
        self
    }

    /// This usage with all output tokens so far, reasoning included.
    #[must_use]
    pub const fn output(mut self, tokens: u64) -> Self {
        self.output = Some(tokens);
        self
    }

    /// The input tokens, if they were reported.
    #[must_use]
    pub const fn input_tokens(&self) -> Option<u64> {
        self.input
    }

    /// The input tokens read from a cache, if they were reported.
    #[must_use]
    pub const fn cached_input_tokens(&self) -> Option<u64> {
        self.cached_input
    }

    /// The input tokens written into a cache, if they were reported.
    #[must_use]
    pub const fn cache_write_tokens(&self) -> Option<u64> {
        self.cache_write
    }

    /// The output tokens, if they were reported.
    #[must_use]
    pub const fn output_tokens(&self) -> Option<u64> {
        self.output
    }
}
