//! What to expect of a call as a whole.

use std::{collections::HashMap, num::NonZeroU32};

use super::{
    AnswerKind, OutputEstimator,
    ratio::{self, Ratio},
};
use crate::{
    outcome::Usage,
    policy::{CallSize, Cost, CostTooLarge, InvalidConfig, Unit},
};

/// The share of answers that stay within their estimate. Of 0.5 to 0.99 it did best with output
/// that counts while it is produced: less lets too many calls into flight, more waits too long for
/// answers to learn from.
const SAFETY: f64 = 0.95;

/// Expects of calls what calls like them have turned out to need: a setting of the rate limit and the
/// key rotation.
///
/// - *Input:* the estimate of a request's input is corrected by the ratio of real to estimated tokens
///   in the last answers of its model, so that a ratio of bytes to tokens which is wrong for a
///   language, or for the JSON around it, is right after the first answers. Until then the estimate
///   stands. The correction is never more than by 32 either way, and no single answer counts for
///   more than 16 times what was expected.
/// - *Output* that the provider counts while it is produced is expected to be as long as a stated
///   share of the answers to calls of the same model with prompts of like size, by an
///   [`OutputEstimator`]. Until enough of them are known, and never above it, it is the request's own
///   limit. A limit that the provider itself reserves is never lowered, because there it is what
///   the call costs.
///
/// It learns from complete answers alone, from each once. Memory is bounded by
/// [`MOST_KINDS`](OutputEstimator::MOST_KINDS) kinds of calls and as many models.
///
/// ```
/// use tower_relay::{
///     outcome::Usage,
///     policy::{CallSize, Cost, Estimator},
/// };
///
/// let mut estimator = Estimator::new();
/// let size = CallSize::new(1_000, 4_096).as_produced();
/// let estimate = estimator.estimate(Some("m"), &size);
/// assert_eq!(*estimate.cost(), size.cost(), "nothing is known yet");
///
/// for _ in 0..50 {
///     let estimate = estimator.estimate(Some("m"), &size);
///     estimator.learn(&estimate.lesson(), &Usage::UNKNOWN.input_tokens(1_500).output_tokens(15));
/// }
/// let expected = Cost::REQUEST.input_tokens(1_500).output_tokens(15);
/// assert_eq!(*estimator.estimate(Some("m"), &size).cost(), expected);
/// ```
#[derive(Clone, Debug)]
pub struct Estimator {
    output: OutputEstimator,
    /// By model.
    ratios: HashMap<u32, Ratio>,
    uses: u64,
    answers: u64,
}

/// What is expected of a call, and what there is to learn from its answer.
///
/// ```
/// use tower_relay::policy::{CallSize, CostTooLarge, Estimator, Quota, Timestamp, TokenBucket, Unit};
///
/// let quota = Quota::builder().output_tokens_per_minute(600_000).burst(Unit::OUTPUT_TOKENS, 2_000);
/// let bucket = TokenBucket::new(&quota.build()?, Timestamp::ZERO);
/// let size = CallSize::new(100, 4_096).as_produced();
/// let mut estimate = Estimator::new().estimate(None, &size);
/// let too_large = bucket.ready_at(estimate.cost()).unwrap_err();
/// assert!(estimate.cut(&too_large), "it is a guess, and may be less");
/// assert_eq!(estimate.cost().get(Unit::OUTPUT_TOKENS), 2_000);
/// assert!(bucket.ready_at(estimate.cost()).is_ok());
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    cost: Cost,
    least: Cost,
    lesson: Lesson,
}

/// What of an [`Estimate`] is kept to learn from the call's answer: eight bytes, because guards and
/// waiting calls hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    kind: AnswerKind,
    /// Twice the input as it was estimated before any correction, and one more if the output is to
    /// be learned; plus one.
    told: NonZeroU32,
}

/// A longer prompt is taken to be of this many tokens.
const LONGEST_PROMPT: u64 = 1 << 30;

/// What an [`Estimator`] has learned of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    kinds: usize,
    answers: u64,
    input_ratio: Option<f64>,
}

impl Estimator {
    /// An estimator that has learned nothing, whose estimates of output 95 % of the answers do not
    /// exceed.
    #[must_use]
    pub fn new() -> Self {
        Self::of(OutputEstimator::new(SAFETY).expect("the default is valid"))
    }

    /// An estimator whose estimates of output `share` of the answers do not exceed. Default: 0.95.
    ///
    /// ```
    /// use tower_relay::policy::Estimator;
    ///
    /// assert!(Estimator::safety(0.95).is_ok());
    /// assert_eq!(Estimator::safety(1.0).unwrap_err().field(), "share");
    /// ```
    ///
    /// # Errors
    ///
    /// If `share` is not between 0.5 and 0.99.
    pub fn safety(share: f64) -> Result<Self, InvalidConfig> {
        OutputEstimator::new(share).map(Self::of)
    }

    fn of(output: OutputEstimator) -> Self {
        Self {
            output,
            ratios: HashMap::new(),
            uses: 0,
            answers: 0,
        }
    }

    /// What to reserve for a call of this model and size.
    #[must_use]
    pub fn estimate(&mut self, model: Option<&str>, size: &CallSize) -> Estimate {
        let kind = AnswerKind::of(model, size.input_tokens());
        self.uses += 1;
        let uses = self.uses;
        let ratio = self.ratios.get_mut(&kind.model()).and_then(|ratio| {
            ratio.used = uses;
            ratio.value()
        });
        let stated = size.input_tokens();
        let input = ratio.map_or(stated, |ratio| ratio::corrected(stated, ratio));
        let least = size.input(stated.min(input)).least();
        let learns_output = size.is_counted_as_produced();
        let output = match learns_output {
            true => self.output.estimate(kind, size.output_limit()),
            false => size.output_limit(),
        };
        Estimate {
            cost: size.input(input).output(output).cost(),
            least,
            lesson: Lesson::new(kind, stated, learns_output),
        }
    }

    /// Learns from the usage of a complete answer to the call of this lesson, once. An answer that
    /// broke off says nothing of how long it would have become and is not to be told.
    pub fn learn(&mut self, lesson: &Lesson, usage: &Usage) {
        self.answers += u64::from(lesson.is_learned_from(usage));
        if let Some(real) = usage.prompt().or_else(|| usage.input()) {
            let model = lesson.kind.model();
            if !self.ratios.contains_key(&model) && self.ratios.len() >= OutputEstimator::MOST_KINDS
            {
                self.forget_one();
            }
            let ratio = self.ratios.entry(model).or_default();
            ratio.used = self.uses;
            ratio.learn(lesson.input(), real);
        }
        if let (Some(output), true) = (usage.output(), lesson.learns_output()) {
            self.output.learn(lesson.kind, output);
        }
    }

    /// What has been learned, of this model where it differs.
    #[must_use]
    pub fn learned(&self, model: Option<&str>) -> Learned {
        let model = AnswerKind::of(model, 0).model();
        Learned {
            kinds: self.output.kinds(),
            answers: self.answers,
            input_ratio: self.ratios.get(&model).and_then(Ratio::value),
        }
    }

    fn forget_one(&mut self) {
        let oldest = self.ratios.iter().min_by_key(|(_, ratio)| ratio.used);
        if let Some(model) = oldest.map(|(model, _)| *model) {
            self.ratios.remove(&model);
        }
    }
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimate {
    /// What to reserve.
    #[must_use]
    pub const fn cost(&self) -> &Cost {
        &self.cost
    }

    /// Reserves no more than fits, if what is too much was expected and not asked for: output that
    /// is counted later, and input beyond the request's own estimate. Says whether that is so; what
    /// the request itself says it needs stays too large.
    pub fn cut(&mut self, too_large: &CostTooLarge) -> bool {
        let mut excess = too_large.cost().saturating_sub(too_large.capacity());
        let mut is_cut = false;
        for unit in [Unit::OUTPUT_TOKENS, Unit::INPUT_TOKENS] {
            if too_large.unit() != unit && too_large.unit() != Unit::TOKENS {
                continue;
            }
            let amount = self.cost.get(unit);
            let cut = excess.min(amount.saturating_sub(self.least.get(unit)));
            self.cost = self.cost.of(unit, amount - cut);
            excess -= cut;
            is_cut |= cut > 0;
        }
        is_cut
    }

    /// What to [learn](Estimator::learn) by from the answer.
    #[must_use]
    pub const fn lesson(&self) -> Lesson {
        self.lesson
    }
}

impl Lesson {
    fn new(kind: AnswerKind, input: u64, learns_output: bool) -> Self {
        let told = 2 * input.min(LONGEST_PROMPT) + u64::from(learns_output);
        let told = u32::try_from(told).unwrap_or(u32::MAX - 1);
        Self {
            kind,
            told: NonZeroU32::MIN.saturating_add(told),
        }
    }

    const fn input(&self) -> u32 {
        (self.told.get() - 1) / 2
    }

    const fn learns_output(&self) -> bool {
        (self.told.get() - 1) % 2 == 1
    }

    /// Whether this usage teaches anything.
    #[must_use]
    pub const fn is_learned_from(&self, usage: &Usage) -> bool {
        usage.prompt().is_some() || usage.input().is_some() || usage.output().is_some()
    }
}

impl Learned {
    /// How many kinds of calls have their lengths of answers known.
    #[must_use]
    pub const fn kinds(&self) -> usize {
        self.kinds
    }

    /// How many answers of all models have been learned from.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// How many real tokens of input there were for each estimated one, between 1/32 and 32. `None`
    /// before the first answer.
    #[must_use]
    pub const fn input_ratio(&self) -> Option<f64> {
        self.input_ratio
    }
}

#[cfg(test)]
mod tests;
