//! What one attempt turned out to be: the one vocabulary that every policy consumes.
//!
//! An [`Outcome`] carries no key and no scope: each layer blames what its own guard holds.

use std::time::Duration;

use crate::policy::Timestamp;

/// What an attempt turned out to be, and so what is to blame for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// A complete answer.
    Success,
    /// A rate, token or concurrency limit of the scope: come back later.
    Throttled,
    /// Money, credit, a spend cap or a daily quota is used up: another account only.
    Exhausted,
    /// The traffic of the scope grew too fast: later and slower.
    RampLimit,
    /// The credential is refused: another key at once.
    KeyRejected,
    /// This key may not use this model: another key.
    ModelDenied,
    /// The place the call came from is refused: another endpoint.
    Region,
    /// The endpoint is out of capacity; never a key's fault.
    Overloaded,
    /// The endpoint or the way to it failed otherwise.
    ServerFault,
    /// The request itself is wrong; nobody else is to blame and nobody can serve it.
    CallerFault,
    /// The caller went away; counts as nothing.
    Cancelled,
    /// A layer of this crate refused; the server was not asked.
    RefusedLocally,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: &[Self] = &[
        Self::Success,
        Self::Throttled,
        Self::Exhausted,
        Self::RampLimit,
        Self::KeyRejected,
        Self::ModelDenied,
        Self::Region,
        Self::Overloaded,
        Self::ServerFault,
        Self::CallerFault,
        Self::Cancelled,
        Self::RefusedLocally,
    ];

    /// The name that logs, metrics and status pages show, in snake case: `error.type`.
    ///
    /// ```
    /// use tower_relay::outcome::Verdict;
    ///
    /// assert_eq!(Verdict::RampLimit.name(), "ramp_limit");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Throttled => "throttled",
            Self::Exhausted => "exhausted",
            Self::RampLimit => "ramp_limit",
            Self::KeyRejected => "key_rejected",
            Self::ModelDenied => "model_denied",
            Self::Region => "region",
            Self::Overloaded => "overloaded",
            Self::ServerFault => "server_fault",
            Self::CallerFault => "caller_fault",
            Self::Cancelled => "cancelled",
            Self::RefusedLocally => "refused_locally",
        }
    }

    /// Whether a key, its scope or its access to a model is to blame.
    #[inline]
    pub(crate) const fn concerns_keys(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::RampLimit
                | Self::Exhausted
                | Self::KeyRejected
                | Self::ModelDenied
                | Self::Region
        )
    }
}

/// When the server, or whoever absorbed its word, wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// The server's own word, counted from the receipt of the answer. Never zero.
    After(Duration),
    /// A layer has absorbed the server's hint and says when this very call can be served:
    /// waiting for it costs neither an attempt nor retry budget.
    Absorbed(Timestamp),
}

/// Whether the server may have acted on the request before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// It certainly did not: the connection failed, or the server refused before any work.
    /// Safe to send again whatever the method.
    None,
    /// It may have: only an idempotent request is safe to send again.
    Possible,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Idempotency {
    /// Sending it twice has the effect of sending it once.
    Idempotent,
    /// Nobody promises that.
    Unknown,
}

/// What the server itself says about trying again (`x-should-retry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing was said; the verdict decides.
    #[default]
    Unsaid,
    /// The server asks for another try.
    Retry,
    /// The server asks not to try again.
    Stop,
}

/// One attempt's verdict with what belongs to it.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::outcome::{Effect, Hint, Outcome, Verdict};
///
/// let outcome = Outcome::new(Verdict::Throttled).after(Duration::from_secs(2));
/// assert_eq!(outcome.verdict(), Verdict::Throttled);
/// assert_eq!(outcome.hint(), Some(Hint::After(Duration::from_secs(2))));
/// assert_eq!(outcome.effect(), Effect::None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    verdict: Verdict,
    hint: Option<Hint>,
    effect: Effect,
    advice: Advice,
}

impl Outcome {
    /// A complete answer.
    pub const SUCCESS: Self = Self::new(Verdict::Success);

    /// An outcome without a hint. Its [`effect`](Self::effect) is the usual one of the verdict:
    /// of the failures only a [`Verdict::ServerFault`] leaves open whether the server acted.
    pub const fn new(verdict: Verdict) -> Self {
        let effect = match verdict {
            Verdict::ServerFault | Verdict::Success | Verdict::Cancelled => Effect::Possible,
            _ => Effect::None,
        };
        Self {
            verdict,
            hint: None,
            effect,
            advice: Advice::Unsaid,
        }
    }

    /// This outcome with the server's hint; a hint of zero is no hint.
    pub const fn after(mut self, wait: Duration) -> Self {
        self.hint = if wait.is_zero() {
            None
        } else {
            Some(Hint::After(wait))
        };
        self
    }

    /// This outcome, its hint absorbed by a layer that can serve the call at `instant`.
    pub const fn absorbed(mut self, instant: Timestamp) -> Self {
        self.hint = Some(Hint::Absorbed(instant));
        self
    }

    /// This outcome with another [`Effect`].
    pub const fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// This outcome with the server's advice.
    pub const fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    /// What the attempt turned out to be.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When to come back, if anybody said.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// Whether the server may have acted.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// What the server says about trying again.
    #[must_use]
    pub const fn advice(&self) -> Advice {
        self.advice
    }

    /// Whether the answer was complete.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.verdict, Verdict::Success)
    }
}

/// The tokens that one call really used, as far as they were reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    /// Nothing was reported.
    pub const UNKNOWN: Self = Self {
        prompt_tokens: None,
        input_tokens: None,
        output_tokens: None,
    };

    /// This usage with all tokens of the prompt, whatever of them counts against the quota: what
    /// an estimate of the next prompt learns from. Where it is not told, the input is.
    ///
    /// ```
    /// use tower_relay::outcome::Usage;
    ///
    /// // Most of it came from a cache, which is free.
    /// let usage = Usage::UNKNOWN.prompt_tokens(1_000).input_tokens(200);
    /// assert_eq!((usage.prompt(), usage.input()), (Some(1_000), Some(200)));
    /// ```
    #[must_use]
    pub const fn prompt_tokens(mut self, tokens: u64) -> Self {
        self.prompt_tokens = Some(tokens);
        self
    }

    /// This usage with the input tokens that count against the quota.
    #[must_use]
    pub const fn input_tokens(mut self, tokens: u64) -> Self {
        self.input_tokens = Some(tokens);
        self
    }

    /// This usage with the output tokens seen so far.
    #[must_use]
    pub const fn output_tokens(mut self, tokens: u64) -> Self {
        self.output_tokens = Some(tokens);
        self
    }

    /// All tokens of the prompt, if they were reported.
    #[must_use]
    pub const fn prompt(&self) -> Option<u64> {
        self.prompt_tokens
    }

    /// The input tokens, if they were reported.
    #[must_use]
    pub const fn input(&self) -> Option<u64> {
        self.input_tokens
    }

    /// The output tokens, if they were reported.
    #[must_use]
    pub const fn output(&self) -> Option<u64> {
        self.output_tokens
    }
}

/// Whether an answer came to its proper end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completeness {
    /// It broke off, was dropped, or nobody can tell: its usage is a lower bound.
    #[default]
    Partial,
    /// It came to its end: its usage is final.
    Complete,
}

/// What is known of an answer when its body ends: the third channel of the feedback path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    usage: Usage,
    /// None if it is the usage.
    reported: Option<Usage>,
    completeness: Completeness,
    failure: Option<Outcome>,
}

impl Ending {
    /// Nothing is known: what a body that does not report says.
    pub const UNKNOWN: Self = Self {
        usage: Usage::UNKNOWN,
        reported: None,
        completeness: Completeness::Partial,
        failure: None,
    };

    /// A complete answer that used this much.
    #[must_use]
    pub const fn complete(usage: Usage) -> Self {
        Self {
            usage,
            reported: None,
            completeness: Completeness::Complete,
            failure: None,
        }
    }

    /// An answer that broke off after this much was seen.
    #[must_use]
    pub const fn partial(usage: Usage) -> Self {
        Self {
            usage,
            reported: None,
            completeness: Completeness::Partial,
            failure: None,
        }
    }

    /// This ending with an error that came inside the answer.
    #[must_use]
    pub const fn failed(mut self, outcome: Outcome) -> Self {
        self.failure = Some(outcome);
        self
    }

    /// This ending with the tokens that the answer itself reported, where a quota is charged for
    /// others: for what was reserved, without what came from a cache, or for several each.
    ///
    /// ```
    /// use tower_relay::outcome::{Ending, Usage};
    ///
    /// let reported = Usage::UNKNOWN.input_tokens(900).output_tokens(40);
    /// let ending = Ending::complete(Usage::UNKNOWN).reporting(reported);
    /// assert_eq!((ending.usage(), ending.reported()), (Usage::UNKNOWN, reported));
    /// ```
    #[must_use]
    pub fn reporting(mut self, reported: Usage) -> Self {
        self.reported = (reported != self.usage).then_some(reported);
        self
    }

    /// The tokens that a quota is charged for, as far as they were seen.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// The tokens that the answer reported, as far as they were seen: all of its input, cached or
    /// not. The [`usage`](Self::usage) where nobody tells them apart.
    #[must_use]
    pub const fn reported(&self) -> Usage {
        match self.reported {
            Some(reported) => reported,
            None => self.usage,
        }
    }

    /// Whether the answer came to its end.
    #[must_use]
    pub const fn completeness(&self) -> Completeness {
        self.completeness
    }

    /// The error inside the answer, if there was one.
    #[must_use]
    pub const fn failure(&self) -> Option<Outcome> {
        self.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_keeps_what_was_seen() {
        let usage = Usage::UNKNOWN.input_tokens(3);
        assert_eq!((usage.input(), usage.output()), (Some(3), None));
        let usage = usage.output_tokens(4);
        assert_eq!((usage.input(), usage.output()), (Some(3), Some(4)));
        let whole = Ending::complete(usage);
        assert_eq!(whole.completeness(), Completeness::Complete);
        assert_eq!(whole.usage(), usage);
        assert_eq!(whole.failure(), None);
        let failure = Outcome::new(Verdict::Overloaded);
        assert_eq!(whole.failed(failure).failure(), Some(failure));
        assert_eq!(Ending::partial(usage).completeness(), Completeness::Partial);
        assert_eq!(Ending::UNKNOWN, Ending::default());
    }

    /// `RampLimit` is `ramp_limit`.
    fn in_snake_case(debug: &str) -> String {
        let mut name = String::new();
        for letter in debug.chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    #[test]
    fn all_verdicts_and_reasons_are_listed_once_under_their_own_names() {
        assert_eq!(Verdict::ALL.len(), Verdict::RefusedLocally as usize + 1);
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
            assert_eq!(verdict.name(), in_snake_case(&format!("{verdict:?}")));
        }
        for reason in crate::policy::Reason::ALL {
            assert_eq!(reason.name(), in_snake_case(&format!("{reason:?}")));
        }
    }

    #[test]
    fn what_an_answer_reported_is_what_is_charged_unless_it_says_otherwise() {
        let charged = Usage::UNKNOWN.input_tokens(3);
        assert_eq!(Ending::complete(charged).reported(), charged);
        let same = Ending::complete(charged).reporting(charged);
        assert_eq!(same, Ending::complete(charged));
        let more = Usage::UNKNOWN.input_tokens(30);
        let ending = Ending::partial(charged).reporting(more);
        assert_eq!((ending.usage(), ending.reported()), (charged, more));
    }

    #[test]
    fn only_a_server_fault_may_have_had_an_effect_and_only_a_success_is_one() {
        for (verdict, effect) in [
            (Verdict::ServerFault, Effect::Possible),
            (Verdict::Throttled, Effect::None),
            (Verdict::Overloaded, Effect::None),
            (Verdict::KeyRejected, Effect::None),
        ] {
            let outcome = Outcome::new(verdict);
            assert_eq!(outcome.effect(), effect, "{verdict:?}");
            assert!(!outcome.is_success());
        }
        assert!(Outcome::SUCCESS.is_success());
        let told = Outcome::new(Verdict::Throttled).after(Duration::ZERO);
        assert_eq!(told.hint(), None, "zero is no hint");
        let advised = told.with_advice(Advice::Stop).with_effect(Effect::Possible);
        assert_eq!(advised.advice(), Advice::Stop);
        assert_eq!(advised.effect(), Effect::Possible);
        let instant = Timestamp::from_nanos(9);
        let absorbed = advised.absorbed(instant);
        assert_eq!(absorbed.hint(), Some(Hint::Absorbed(instant)));
        assert_eq!(absorbed.verdict(), Verdict::Throttled);
    }
}
