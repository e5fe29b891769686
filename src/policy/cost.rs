use std::fmt;

use super::Part;

/// How many units a cost can name besides requests, input tokens and output tokens.
const CUSTOM_UNITS: usize = 3;
const SLOTS: usize = 3 + CUSTOM_UNITS;

/// What a quota counts: requests, tokens, or something the user names.
///
/// ```
/// use tower_relay::policy::{Cost, Unit};
///
/// const IMAGES: Unit = Unit::custom(0, "images");
/// let cost = Cost::REQUEST.input_tokens(1_200).output_tokens(800).of(IMAGES, 2);
/// assert_eq!(cost.get(Unit::TOKENS), 2_000);
/// assert_eq!(cost.get(IMAGES), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    slot: Slot,
    name: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Own(u8),
    AllTokens,
}

impl Unit {
    /// Calls, whatever their size.
    pub const REQUESTS: Self = Self::own(0, "requests");
    /// Tokens of the prompt.
    pub const INPUT_TOKENS: Self = Self::own(1, "input tokens");
    /// Tokens of the answer.
    pub const OUTPUT_TOKENS: Self = Self::own(2, "output tokens");
    /// Input and output tokens together, for providers that meter the sum. It is derived from
    /// the other two: a [`Cost`] is never set in it.
    pub const TOKENS: Self = Self {
        slot: Slot::AllTokens,
        name: "tokens",
    };

    /// A unit of the user's own, shown as `name` in errors. `slot` tells up to three of them
    /// apart and must be 0, 1 or 2.
    ///
    /// # Panics
    ///
    /// If `slot` is above 2; in a `const`, as recommended, that is an error of compilation.
    #[must_use]
    pub const fn custom(slot: u8, name: &'static str) -> Self {
        assert!(
            (slot as usize) < CUSTOM_UNITS,
            "a custom unit's slot is 0, 1 or 2"
        );
        Self::own(3 + slot, name)
    }

    /// The name that errors and snapshots show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether the two are different units that a cost cannot tell apart.
    pub(super) fn is_mixed_up_with(self, other: Self) -> bool {
        self.slot == other.slot && self.name != other.name
    }

    const fn own(slot: u8, name: &'static str) -> Self {
        Self {
            slot: Slot::Own(slot),
            name,
        }
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What one call takes from each dimension of a quota: estimated before it is sent, settled
/// after. Unnamed units cost nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    amounts: [u64; SLOTS],
}

impl Cost {
    /// No cost at all.
    pub const ZERO: Self = Self {
        amounts: [0; SLOTS],
    };
    /// One request and nothing else: the default cost of a call.
    pub const REQUEST: Self = Self::ZERO.of(Unit::REQUESTS, 1);

    /// This cost with `amount` input tokens.
    #[must_use]
    pub const fn input_tokens(self, amount: u64) -> Self {
        self.of(Unit::INPUT_TOKENS, amount)
    }

    /// This cost with `amount` output tokens.
    #[must_use]
    pub const fn output_tokens(self, amount: u64) -> Self {
        self.of(Unit::OUTPUT_TOKENS, amount)
    }

    /// This cost with `amount` of `unit`.
    ///
    /// # Panics
    ///
    /// If `unit` is [`Unit::TOKENS`], which is the sum of input and output: set those.
    #[must_use]
    pub const fn of(mut self, unit: Unit, amount: u64) -> Self {
        match unit.slot {
            Slot::Own(slot) => self.amounts[slot as usize] = amount,
            Slot::AllTokens => panic!("set input and output tokens instead of their sum"),
        }
        self
    }

    /// How much of `unit` this cost takes.
    #[must_use]
    #[inline]
    pub const fn get(&self, unit: Unit) -> u64 {
        match unit.slot {
            Slot::Own(slot) => self.amounts[slot as usize],
            Slot::AllTokens => self
                .get(Unit::INPUT_TOKENS)
                .saturating_add(self.get(Unit::OUTPUT_TOKENS)),
        }
    }

    /// Unit by unit the larger of the two.
    #[must_use]
    pub fn max(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.amounts.iter_mut().zip(other.amounts) {
            *mine = (*mine).max(theirs);
        }
        self
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.amounts.iter_mut().zip(other.amounts) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// An equal share among `many`, rounded up: as much as the largest part is at the least.
    pub(super) fn share(mut self, many: u64) -> Self {
        for amount in &mut self.amounts {
            *amount = amount.div_ceil(many);
        }
        self
    }

    /// A part of this cost, rounded down.
    pub(crate) fn part(mut self, part: Part) -> Self {
        if part != Part::WHOLE {
            for amount in &mut self.amounts {
                *amount = part.of(*amount);
            }
        }
        self
    }

    /// So many times this cost.
    pub(super) fn times(mut self, many: u64) -> Self {
        for amount in &mut self.amounts {
            *amount = amount.saturating_mul(many);
        }
        self
    }

    /// Its parts, each of one unit, without those that are zero.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let amounts = self.amounts.into_iter().enumerate();
        amounts
            .filter(|(_, amount)| *amount > 0)
            .map(|(slot, amount)| {
                let mut part = Self::ZERO;
                part.amounts[slot] = amount;
                part
            })
    }

    pub(crate) fn sub(&mut self, other: &Self) {
        for (mine, theirs) in self.amounts.iter_mut().zip(other.amounts) {
            *mine = mine.saturating_sub(theirs);
        }
    }
}

/// What many calls have cost together, refunds taken off. It wraps around, so that only what lies
/// between two of them means anything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    amounts: [u64; SLOTS],
}

impl Tally {
    pub(super) fn add(&mut self, cost: &Cost) {
        for (mine, theirs) in self.amounts.iter_mut().zip(cost.amounts) {
            *mine = mine.wrapping_add(theirs);
        }
    }

    pub(super) fn sub(&mut self, cost: &Cost) {
        for (mine, theirs) in self.amounts.iter_mut().zip(cost.amounts) {
            *mine = mine.wrapping_sub(theirs);
        }
    }

    /// How much of `unit` has been added since it was `earlier`, negative if more was taken off.
    pub(super) const fn since(&self, earlier: &Self, unit: Unit) -> i64 {
        match unit.slot {
            Slot::Own(slot) => {
                let (now, then) = (self.amounts[slot as usize], earlier.amounts[slot as usize]);
                now.wrapping_sub(then) as i64
            }
            Slot::AllTokens => self
                .since(earlier, Unit::INPUT_TOKENS)
                .saturating_add(self.since(earlier, Unit::OUTPUT_TOKENS)),
        }
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; SLOTS] = [
            "requests",
            "input_tokens",
            "output_tokens",
            "custom_0",
            "custom_1",
            "custom_2",
        ];
        let mut shown = f.debug_struct("Cost");
        for (name, amount) in NAMES.iter().zip(self.amounts).filter(|(_, n)| *n > 0) {
            shown.field(name, &amount);
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: Unit = Unit::custom(0, "images");
    const PAGES: Unit = Unit::custom(2, "pages");

    #[test]
    fn units_are_kept_apart_and_tokens_are_the_sum() {
        let cost = Cost::REQUEST.input_tokens(3).output_tokens(4).of(PAGES, 9);
        assert_eq!(cost.get(Unit::REQUESTS), 1);
        assert_eq!(cost.get(Unit::INPUT_TOKENS), 3);
        assert_eq!(cost.get(Unit::OUTPUT_TOKENS), 4);
        assert_eq!(cost.get(Unit::TOKENS), 7);
        assert_eq!(cost.get(IMAGES), 0);
        assert_eq!(cost.get(PAGES), 9);
        assert_eq!(PAGES.name(), "pages");
        assert_eq!(format!("{IMAGES:?}"), "images");
    }

    #[test]
    fn sums_saturate_and_maxima_are_unit_by_unit() {
        let huge = Cost::ZERO.input_tokens(u64::MAX).output_tokens(1);
        assert_eq!(huge.get(Unit::TOKENS), u64::MAX);
        let mut sum = huge;
        sum.add(&Cost::REQUEST.input_tokens(5));
        assert_eq!(sum.get(Unit::INPUT_TOKENS), u64::MAX);
        assert_eq!(sum.get(Unit::REQUESTS), 1);
        sum.sub(&Cost::REQUEST.input_tokens(u64::MAX).output_tokens(7));
        assert_eq!(sum, Cost::ZERO);
        let larger = Cost::ZERO.input_tokens(2).output_tokens(9);
        assert_eq!(
            Cost::REQUEST.input_tokens(5).max(&larger),
            Cost::REQUEST.input_tokens(5).output_tokens(9)
        );
    }

    #[test]
    fn a_cost_can_be_multiplied_shared_and_taken_apart() {
        let cost = Cost::REQUEST.output_tokens(5).of(PAGES, u64::MAX);
        let parts: Vec<_> = cost.parts().collect();
        let pages = Cost::ZERO.of(PAGES, u64::MAX);
        let tokens = Cost::ZERO.output_tokens(5);
        assert_eq!(parts, [Cost::REQUEST, tokens, pages]);
        assert_eq!(Cost::ZERO.parts().count(), 0);
        let many = Cost::ZERO.of(Unit::REQUESTS, 3).output_tokens(15);
        assert_eq!(cost.times(3), many.of(PAGES, u64::MAX));
        assert_eq!(
            many.share(2),
            Cost::ZERO.of(Unit::REQUESTS, 2).output_tokens(8)
        );
    }

    #[test]
    fn debug_shows_what_is_not_zero() {
        assert_eq!(
            format!("{:?}", Cost::REQUEST.of(PAGES, 2)),
            "Cost { requests: 1, custom_2: 2 }"
        );
    }

    #[test]
    #[should_panic(expected = "0, 1 or 2")]
    fn a_fourth_custom_unit_is_refused() {
        let _ = Unit::custom(3, "too many");
    }

    #[test]
    #[should_panic(expected = "input and output")]
    fn the_sum_of_tokens_cannot_be_set() {
        let _ = Cost::ZERO.of(Unit::TOKENS, 1);
    }
}
