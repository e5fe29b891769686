//! What a provider takes from its quotas for a call.

use super::TokenUsage;
use crate::{
    outcome::Usage,
    policy::{CallSize, Cost},
};

/// How a provider charges a call to its quotas: what it takes at admission and what it makes of
/// that once the answer is known.
///
/// ```
/// use tower_relay::{
///     outcome::Usage,
///     policy::{Cost, Unit},
///     provider::{CachedInput, Charging, TokenUsage},
/// };
///
/// let charging = Charging::NEW.cached_input(CachedInput::Exempt).output_factor(5);
/// assert_eq!(charging.reserve(1_000, 200).get(Unit::OUTPUT_TOKENS), 200);
///
/// let used = TokenUsage::UNKNOWN.input(1_000).cached_input(600).output(30);
/// let settled = charging.settle(&used);
/// let charged = Usage::UNKNOWN.input_tokens(400).output_tokens(150);
/// assert_eq!(settled, charged.prompt_tokens(1_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Charging {
    cached_input: CachedInput,
    cached_share: CachedShare,
    output: Output,
    output_factor: u32,
    reservation: Reserved,
    settlement: Settlement,
    failures: Failures,
}

/// Whether input that the provider read from its cache counts against a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CachedInput {
    /// It counts like any other.
    Counted,
    /// It is free.
    Exempt,
}

/// Whether a provider's figure of input tokens includes those of its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CachedShare {
    /// Cached tokens are part of the input tokens.
    Included,
    /// Tokens read from and written to the cache stand beside the input tokens.
    Beside,
}

/// What of the answer counts against a quota, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The request's own maximum is taken at admission.
    Reserved,
    /// Tokens count as they are produced. To the provider a maximum is nothing; it is reserved all
    /// the same, because how many there will be is not known before.
    AsProduced,
    /// The answer does not count.
    Free,
}

/// What is taken at admission where input and output draw on one quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reserved {
    /// The input and the output limit.
    Sum,
    /// The larger of the two.
    Larger,
}

/// What becomes of a reservation when the usage is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// It is replaced by the usage.
    ByUsage,
    /// It stands, whatever was used.
    Stands,
}

/// Whether a call that the provider refused or failed counts against the quotas of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failures {
    /// It counts as it was reserved.
    Counted,
    /// It counts as a request and uses no tokens.
    Free,
}

impl Charging {
    /// Everything counts: cached input, which is part of the input; the request's maximum is
    /// reserved beside it and replaced by the usage; failures count. It never assumes that the
    /// provider forgives, so it may wait too long and does not overshoot.
    pub const NEW: Self = Self {
        cached_input: CachedInput::Counted,
        cached_share: CachedShare::Included,
        output: Output::Reserved,
        output_factor: 1,
        reservation: Reserved::Sum,
        settlement: Settlement::ByUsage,
        failures: Failures::Counted,
    };

    /// Whether cached input counts.
    pub const fn cached_input(mut self, rule: CachedInput) -> Self {
        self.cached_input = rule;
        self
    }

    /// Whether the input tokens include the cached ones.
    pub const fn cached_share(mut self, rule: CachedShare) -> Self {
        self.cached_share = rule;
        self
    }

    /// What of the answer counts.
    pub const fn output(mut self, rule: Output) -> Self {
        self.output = rule;
        self
    }

    /// How many tokens of quota one token of output takes when it is settled. Default: 1; 0 is
    /// taken for 1.
    pub const fn output_factor(mut self, factor: u32) -> Self {
        self.output_factor = if factor == 0 { 1 } else { factor };
        self
    }

    /// What is taken of a quota of input and output together.
    pub const fn reservation(mut self, rule: Reserved) -> Self {
        self.reservation = rule;
        self
    }

    /// What becomes of a reservation.
    pub const fn settlement(mut self, rule: Settlement) -> Self {
        self.settlement = rule;
        self
    }

    /// Whether failures count.
    pub const fn failures(mut self, rule: Failures) -> Self {
        self.failures = rule;
        self
    }

    /// When output counts.
    #[must_use]
    pub const fn output_rule(&self) -> Output {
        self.output
    }

    /// What to reserve for a request with so many input tokens and at most so many of output.
    #[must_use]
    pub const fn reserve(&self, input_tokens: u64, output_limit: u64) -> Cost {
        self.size(input_tokens, output_limit).cost()
    }

    /// The same as what a cost is made of, for those who know the tokens better.
    ///
    /// ```
    /// use tower_relay::{policy::CallSize, provider::Profile};
    ///
    /// let size = |profile: Profile| profile.charging_rule().size(300, 800);
    /// assert_eq!(size(Profile::openai()), CallSize::new(300, 800).larger());
    /// assert_eq!(size(Profile::anthropic()), CallSize::new(300, 800).as_produced());
    /// ```
    #[must_use]
    pub const fn size(&self, input_tokens: u64, output_limit: u64) -> CallSize {
        match (self.output, self.reservation) {
            (Output::Free, _) => CallSize::new(input_tokens, 0),
            (Output::AsProduced, _) => CallSize::new(input_tokens, output_limit).as_produced(),
            (Output::Reserved, Reserved::Sum) => CallSize::new(input_tokens, output_limit),
            (Output::Reserved, Reserved::Larger) => {
                CallSize::new(input_tokens, output_limit).larger()
            }
        }
    }

    /// What a quota is charged for an answer that used so much. What is unknown stays unknown.
    ///
    /// The prompt is told beside it where another number is to be learned from than the input charged:
    /// all of it, but what counts of it where the provider corrects its own estimate while it answers.
    #[must_use]
    pub fn settle(&self, used: &TokenUsage) -> Usage {
        let mut charged = Usage::UNKNOWN;
        let stands = self.settlement == Settlement::Stands;
        if let Some(input) = used.input_tokens() {
            let (prompt, input) = (self.prompt(input, used), self.input(input, used));
            if stands {
                return charged.prompt_tokens(prompt);
            }
            if prompt != input {
                charged = charged.prompt_tokens(prompt);
            }
            charged = charged.input_tokens(input);
        }
        if stands {
            return charged;
        }
        match (self.output, used.output_tokens()) {
            (Output::Free, _) => charged.output_tokens(0),
            (_, None) => charged,
            (_, Some(output)) => {
                charged.output_tokens(output.saturating_mul(u64::from(self.output_factor)))
            }
        }
    }

    /// What an answer said that it used, whatever is charged for it: all of its input, cached or
    /// not, and its output. What is unknown stays unknown.
    #[must_use]
    pub fn reported(&self, used: &TokenUsage) -> Usage {
        let mut reported = Usage::UNKNOWN;
        if let Some(input) = used.input_tokens() {
            let all = self.cached_input(CachedInput::Counted);
            reported = reported.input_tokens(all.input(input, used));
        }
        match used.output_tokens() {
            Some(output) => reported.output_tokens(output),
            None => reported,
        }
    }

    /// What a quota is charged for a call that the provider failed.
    #[must_use]
    pub const fn settle_failure(&self) -> Usage {
        match self.failures {
            Failures::Counted => Usage::UNKNOWN,
            Failures::Free => Usage::UNKNOWN.input_tokens(0).output_tokens(0),
        }
    }

    fn prompt(&self, input: u64, used: &TokenUsage) -> u64 {
        match self.output {
            Output::AsProduced => self.input(input, used),
            Output::Reserved | Output::Free => {
                let all = self.cached_input(CachedInput::Counted);
                all.input(input, used)
            }
        }
    }

    fn input(&self, input: u64, used: &TokenUsage) -> u64 {
        let cached = used.cached_input_tokens().unwrap_or(0);
        match (self.cached_share, self.cached_input) {
            (CachedShare::Included, CachedInput::Counted) => input,
            (CachedShare::Included, CachedInput::Exempt) => input.saturating_sub(cached),
            (CachedShare::Beside, rule) => {
                let read = match rule {
                    CachedInput::Counted => cached,
                    CachedInput::Exempt => 0,
                };
                let written = used.cache_write_tokens().unwrap_or(0);
                input.saturating_add(written).saturating_add(read)
            }
        }
    }
}

impl Default for Charging {
    fn default() -> Self {
        Self::NEW
    }
}

#[cfg(test)]
mod tests;
