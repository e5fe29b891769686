use super::Cost;

/// How many tokens a call is known to have before it is sent, and what of them a provider takes when
/// it admits the call: what a [`Cost`] is made of, and made of anew when an
/// [`Estimator`](super::Estimator) has learned better.
///
/// ```
/// use tower_relay::policy::{CallSize, Cost};
///
/// let size = CallSize::new(1_000, 400);
/// assert_eq!(size.cost(), Cost::REQUEST.input_tokens(1_000).output_tokens(400));
/// assert_eq!(size.larger().cost(), Cost::REQUEST.input_tokens(1_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSize {
    input: u64,
    output_limit: u64,
    taken: Taken,
}

/// What is taken of the answer when the call is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Its limit, beside the input.
    Sum,
    /// What of its limit exceeds the input.
    Larger,
    /// Nothing: it counts while it is produced.
    AsProduced,
}

impl CallSize {
    /// A call with so many tokens of input, by an estimate, and at most so many of output: a
    /// provider that counts output takes all of the limit beside the input. One that does not
    /// count it is told a limit of zero.
    #[must_use]
    pub const fn new(input_tokens: u64, output_limit: u64) -> Self {
        Self {
            input: input_tokens,
            output_limit,
            taken: Taken::Sum,
        }
    }

    /// The same at a provider that takes the larger of input and limit.
    #[must_use]
    pub const fn larger(mut self) -> Self {
        self.taken = Taken::Larger;
        self
    }

    /// The same at a provider that takes nothing of the limit and counts output while it is
    /// produced. How much that will be is not known before, so the limit is what it costs here until
    /// something better is known.
    ///
    /// ```
    /// use tower_relay::policy::{CallSize, Unit};
    ///
    /// let size = CallSize::new(1_000, 400).as_produced();
    /// assert_eq!(size.cost().get(Unit::OUTPUT_TOKENS), 400);
    /// assert_eq!(size.least().get(Unit::OUTPUT_TOKENS), 0);
    /// ```
    #[must_use]
    pub const fn as_produced(mut self) -> Self {
        self.taken = Taken::AsProduced;
        self
    }

    /// The estimated tokens of input.
    #[must_use]
    pub const fn input_tokens(&self) -> u64 {
        self.input
    }

    /// The most tokens of output.
    #[must_use]
    pub const fn output_limit(&self) -> u64 {
        self.output_limit
    }

    /// Whether the output counts while it is produced, so that another number than the limit may be
    /// expected of it.
    #[must_use]
    pub const fn is_counted_as_produced(&self) -> bool {
        matches!(self.taken, Taken::AsProduced)
    }

    /// What to reserve for it when nothing else is known: one request, the input and the limit.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        let output = match self.taken {
            Taken::Sum | Taken::AsProduced => self.output_limit,
            Taken::Larger => self.output_limit.saturating_sub(self.input),
        };
        Cost::REQUEST.input_tokens(self.input).output_tokens(output)
    }

    /// What it takes at the least when it is admitted.
    #[must_use]
    pub const fn least(&self) -> Cost {
        match self.taken {
            Taken::AsProduced => self.output(0).cost(),
            Taken::Sum | Taken::Larger => self.cost(),
        }
    }

    /// The same call with another estimate of its input.
    #[must_use]
    pub(super) const fn input(mut self, tokens: u64) -> Self {
        self.input = tokens;
        self
    }

    /// The same call with another limit.
    #[must_use]
    pub(super) const fn output(mut self, limit: u64) -> Self {
        self.output_limit = limit;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Unit;

    #[test]
    fn a_cost_is_what_the_provider_takes() {
        for (input, limit, tokens) in [(100, 800, 800), (800, 100, 800), (5, 5, 5), (0, 0, 0)] {
            let size = CallSize::new(input, limit);
            assert_eq!(size.larger().cost().get(Unit::TOKENS), tokens);
            assert_eq!(size.cost().get(Unit::TOKENS), input + limit);
            assert_eq!(size.as_produced().cost(), size.cost());
        }
        let most = CallSize::new(u64::MAX, u64::MAX);
        assert_eq!(most.cost().get(Unit::TOKENS), u64::MAX);
        assert_eq!(most.larger().cost().get(Unit::OUTPUT_TOKENS), 0);
    }

    #[test]
    fn only_output_that_counts_as_it_is_produced_is_not_needed_beforehand() {
        let size = CallSize::new(100, 800);
        assert_eq!(size.least(), size.cost());
        assert_eq!(size.larger().least(), size.larger().cost());
        assert_eq!(size.as_produced().least(), Cost::REQUEST.input_tokens(100));
    }
}
