//! How long an answer will be, learned from how long answers were, and a prompt likewise.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::InvalidConfig;

mod calls;
mod ratio;

pub use self::calls::{Estimate, Estimator, Learned, Lesson};

/// How many of the last answers of a kind are remembered.
const WINDOW: usize = 512;
/// Shorter answers are counted exactly, longer ones in steps of an eighth of a power of two.
const EXACT: u64 = 16;
const STEPS: u64 = 8;
/// From here on (2²⁴ tokens) all answers are alike.
const BUCKETS: usize = (EXACT + 20 * STEPS) as usize;

/// Estimates the output of a call by the answers that calls of its kind had: the quantile that a
/// stated share of them did not exceed.
///
/// A request's own maximum is often ten times what the answer takes, and a reservation of all of
/// it keeps others waiting. The estimate never exceeds that maximum, and it *is* that maximum until
/// enough answers are known to say better: with `n` answers the one of rank `⌈(n + 1) × share⌉`
/// is taken, if there is one. So, if answers come as they came, the next one exceeds its estimate
/// with a probability of at most `1 - share` after any number of answers (the split conformal
/// bound, Vovk, Gammerman and Shafer 2005). Deviations: lengths are rounded up by at most an
/// eighth, and only the last 512 of a kind count, so that a change is followed.
///
/// Memory is bounded: some 900 bytes for each of at most [`kinds`](Self::MOST_KINDS) kinds; the
/// kind that was asked for least recently makes room for a new one.
///
/// ```
/// use tower_relay::policy::{AnswerKind, OutputEstimator};
///
/// let mut estimator = OutputEstimator::new(0.95)?;
/// let kind = AnswerKind::of(Some("large-1"), 1_200);
/// assert_eq!(estimator.estimate(kind, 4_096), 4_096, "nothing is known yet");
/// for tokens in 1..=100 {
///     estimator.learn(kind, tokens);
/// }
/// // The 96th of them, as the rank is rounded up; lengths from 96 to 103 are counted as one.
/// assert_eq!(estimator.estimate(kind, 4_096), 103);
/// assert_eq!(estimator.estimate(kind, 50), 50);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct OutputEstimator {
    share: f64,
    kinds: HashMap<AnswerKind, Lengths>,
    /// Counts the uses, to tell which kind was used least recently.
    uses: u64,
}

/// Calls whose answers are taken to be alike: those of one model with prompts of like size. Of two
/// models one in 67 million pairs is taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKind(u32);

impl AnswerKind {
    /// The kind of a call of this model with a prompt of this many tokens: prompts are alike whose
    /// sizes lie between the same powers of four.
    #[must_use]
    pub fn of(model: Option<&str>, input_tokens: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        let size = (u64::BITS - input_tokens.leading_zeros()) / 2;
        Self(hasher.finish() as u32 & !SIZES | size)
    }

    /// What it has in common with the kinds of other sizes.
    const fn model(self) -> u32 {
        self.0 & !SIZES
    }
}

/// The bits of a kind that tell the size of a prompt.
const SIZES: u32 = 0x3f;

impl OutputEstimator {
    /// How many kinds are told apart.
    pub const MOST_KINDS: usize = 256;

    /// An estimator whose estimates `share` of the answers do not exceed, such as 0.95. A higher
    /// share waits for more, a lower one is surprised more often; what exceeds an estimate is
    /// settled afterwards.
    ///
    /// # Errors
    ///
    /// If `share` is not between 0.5 and 0.99: more than 0.99 takes more answers than are kept.
    pub fn new(share: f64) -> Result<Self, InvalidConfig> {
        if !(0.5..=0.99).contains(&share) {
            return Err(InvalidConfig::new(
                "share",
                "must lie between 0.5 and 0.99: 0.95 exceeds one estimate in twenty",
            ));
        }
        Ok(Self {
            share,
            kinds: HashMap::new(),
            uses: 0,
        })
    }

    /// The output to reserve for a call of this kind that asks for at most `limit` tokens.
    #[must_use]
    pub fn estimate(&mut self, kind: AnswerKind, limit: u64) -> u64 {
        self.uses += 1;
        let share = self.share;
        let known = self.kinds.get_mut(&kind).and_then(|lengths| {
            lengths.used = self.uses;
            lengths.quantile(share)
        });
        known.map_or(limit, |tokens| tokens.min(limit))
    }

    /// Learns the length of an answer that came to its end. Answers that broke off say nothing
    /// of how long they would have become and are not to be told.
    pub fn learn(&mut self, kind: AnswerKind, output_tokens: u64) {
        self.uses += 1;
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= Self::MOST_KINDS {
            self.forget_one();
        }
        let lengths = self.kinds.entry(kind).or_insert_with(Lengths::new);
        lengths.used = self.uses;
        lengths.add(bucket(output_tokens));
    }

    /// How many kinds have been learned of.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }

    fn forget_one(&mut self) {
        let oldest = self.kinds.iter().min_by_key(|(_, lengths)| lengths.used);
        if let Some(kind) = oldest.map(|(kind, _)| *kind) {
            self.kinds.remove(&kind);
        }
    }
}

/// The lengths of the last answers of a kind.
#[derive(Clone, Debug)]
struct Lengths {
    /// How many of the window are in each bucket.
    counts: [u16; BUCKETS],
    /// The buckets of the last answers, the oldest at `next` once the window is full.
    window: Vec<u8>,
    next: usize,
    used: u64,
}

impl Lengths {
    const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            window: Vec::new(),
            next: 0,
            used: 0,
        }
    }

    fn add(&mut self, bucket: u8) {
        self.counts[usize::from(bucket)] += 1;
        if self.window.len() < WINDOW {
            self.window.push(bucket);
            return;
        }
        let oldest = std::mem::replace(&mut self.window[self.next], bucket);
        self.counts[usize::from(oldest)] -= 1;
        self.next = (self.next + 1) % WINDOW;
    }

    /// The length that `share` of all answers do not exceed, if enough are known to say so.
    fn quantile(&self, share: f64) -> Option<u64> {
        let known = self.window.len();
        let rank = ((known + 1) as f64 * share).ceil() as usize;
        let mut above = known.checked_sub(rank)?;
        for (bucket, &count) in self.counts.iter().enumerate().rev() {
            let count = usize::from(count);
            if count > above {
                return Some(longest(bucket as u64));
            }
            above -= count;
        }
        None
    }
}

/// The bucket of an answer of this length.
fn bucket(tokens: u64) -> u8 {
    let bucket = match tokens {
        0..EXACT => tokens,
        _ => {
            let power = u64::from(tokens.ilog2());
            let step = (tokens >> (power - 3)) - STEPS;
            EXACT + (power - 4) * STEPS + step
        }
    };
    bucket.min(BUCKETS as u64 - 1) as u8
}

/// The longest answer in a bucket.
const fn longest(bucket: u64) -> u64 {
    if bucket < EXACT {
        return bucket;
    }
    if bucket == BUCKETS as u64 - 1 {
        return u64::MAX;
    }
    let (power, step) = ((bucket - EXACT) / STEPS + 4, (bucket - EXACT) % STEPS);
    ((STEPS + step + 1) << (power - 3)) - 1
}

#[cfg(test)]
mod tests;
