//! What a call is charged, and when: the rules of the providers.

use crate::quota::PerDimension;

/// By which provider's rule calls are charged.
///
/// Input tokens are those of [`count_input_tokens`](crate::count_input_tokens), the *estimate*,
/// unless the request says otherwise; see the [crate's manual](crate). Where a call is settled, the
/// difference is given back or charged when its answer has ended, into debt if need be. A call
/// whose client goes away is settled by what was produced until then, and one that fails by the
/// provider's fault keeps what it was charged, but for Anthropic's.
///
/// | | at admission | later | a refused call |
/// |---|---|---|---|
/// | `Fixed` | input + `max_tokens` | | is free |
/// | `Generic`, `Mistral` | input + `max_tokens` | settled | is free |
/// | `Anthropic` | estimated input; asks for output that is left, and takes none | input corrected without that from a cache when the answer begins; output as it is produced | is free |
/// | `OpenAi` | the larger of `max_tokens` and estimated input | | takes what is left |
/// | `Azure` | estimated input + `max_tokens` | | is free |
/// | `Gemini` | input | | is free |
/// | `Bedrock` | input not from a cache + `max_tokens` | settled, each token of output as five | is free |
/// | `Groq` | input + `max_tokens` | settled, without input from a cache | is free |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChargingRule {
    /// Input and `max_tokens`, never settled.
    #[default]
    Fixed,
    /// Input and `max_tokens`, settled at the end.
    Generic,
    /// Anthropic's: output counts as it is produced, input from a cache is free.
    Anthropic,
    /// OpenAI's: the larger of the two, for good; refused calls count.
    OpenAi,
    /// Azure OpenAI's: the sum, for good.
    Azure,
    /// Gemini's: input alone.
    Gemini,
    /// Bedrock's: output counts five times, but only at the end.
    Bedrock,
    /// Groq's: input from a cache is free.
    Groq,
    /// Mistral's, as `Generic`.
    Mistral,
}

/// How many tokens of quota Bedrock takes for one of output.
const BEDROCK_OUTPUT: u64 = 5;

/// What a request says and asks of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// By the length of the text.
    pub(crate) estimated: u64,
    /// All of the input, as the model reads it.
    pub(crate) input: u64,
    /// Of the input, read from a cache.
    pub(crate) cached: u64,
    /// Of the input, written into a cache.
    pub(crate) written: u64,
    /// Of output, at most.
    pub(crate) max: u64,
}

/// What one call has been charged so far, beside its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) combined: u64,
}

impl Charge {
    const fn sum(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            combined: input.saturating_add(output),
        }
    }

    /// In every dimension, for a call that is one request.
    pub(crate) const fn per_dimension(self) -> PerDimension<u64> {
        [1, 1, self.input, self.output, self.combined]
    }
}

impl ChargingRule {
    /// What a call takes to be admitted.
    pub(crate) fn at_admission(self, call: &Tokens) -> Charge {
        match self {
            Self::Fixed | Self::Generic | Self::Mistral | Self::Groq => {
                Charge::sum(call.input, call.max)
            }
            Self::Anthropic => Charge::sum(call.estimated, 0),
            Self::OpenAi => Charge {
                input: call.estimated,
                output: call.max,
                combined: call.estimated.max(call.max),
            },
            Self::Azure => Charge::sum(call.estimated, call.max),
            Self::Gemini => Charge::sum(call.input, 0),
            Self::Bedrock => Charge::sum(call.uncached(), call.max),
        }
    }

    /// What must be left in each dimension for the call to be admitted.
    pub(crate) fn needs(self, charge: Charge) -> PerDimension<u64> {
        let mut needs = charge.per_dimension();
        if self == Self::Anthropic {
            // Who has used up the output has to wait, however little is asked for.
            let [.., output, _] = &mut needs;
            *output = 1;
        }
        needs
    }

    /// The charge of a call that has produced so much and goes on, if it is another now.
    pub(crate) fn as_produced(self, call: &Tokens, produced: u64) -> Option<Charge> {
        match self {
            Self::Anthropic => Some(Charge::sum(call.uncached(), produced)),
            _ => None,
        }
    }

    /// The charge of a call that has ended after so much output, if it is another now.
    pub(crate) fn at_end(self, call: &Tokens, produced: u64) -> Option<Charge> {
        match self {
            Self::Fixed | Self::OpenAi | Self::Azure => None,
            Self::Generic | Self::Mistral => Some(Charge::sum(call.input, produced)),
            Self::Anthropic | Self::Groq => Some(Charge::sum(call.uncached(), produced)),
            Self::Gemini => Some(Charge::sum(call.input, 0)),
            Self::Bedrock => Some(Charge::sum(
                call.uncached(),
                produced.saturating_mul(BEDROCK_OUTPUT),
            )),
        }
    }

    /// The charge of a call that failed by the provider's fault, if it is another now.
    pub(crate) fn at_failure(self) -> Option<Charge> {
        (self == Self::Anthropic).then(Charge::default)
    }

    /// Whether a refused call takes what is left.
    pub(crate) fn counts_refused(self) -> bool {
        self == Self::OpenAi
    }

    /// Whether answers are charged while they are produced.
    pub(crate) fn is_in_real_time(self) -> bool {
        self == Self::Anthropic
    }
}

impl Tokens {
    /// The input but for what was read from a cache.
    const fn uncached(&self) -> u64 {
        self.input.saturating_sub(self.cached)
    }
}
