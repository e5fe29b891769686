//! By how much estimates of the input are off.

/// The most, and its inverse the least, that an estimate is corrected by: a ratio of bytes to tokens
/// that is off by more is another setting than the one meant.
pub(super) const MOST: f64 = 32.0;
/// One answer counts for no more than this many times what was expected, and no less than its inverse.
const OUTLIER: f64 = 16.0;
/// Each answer takes this part of what is known.
const FORGOTTEN: f64 = 1.0 / 256.0;

/// How many real tokens there are for each estimated one: the sums of both over the last answers,
/// those of some 256 ago counting a third.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ratio {
    real: f64,
    estimated: f64,
    pub(super) used: u64,
}

impl Ratio {
    /// Real tokens for an estimated one, if any answer has told.
    pub(super) fn value(&self) -> Option<f64> {
        let is_known = self.estimated > 0.0;
        is_known.then(|| millionths(self.real / self.estimated) as f64 / 1e6)
    }

    pub(super) fn learn(&mut self, estimated: u32, real: u64) {
        if estimated == 0 {
            return;
        }
        let estimated = f64::from(estimated);
        let ratio = (real as f64 / estimated).clamp(1.0 / MOST, MOST);
        let ratio = match self.value() {
            Some(known) => ratio.clamp(known / OUTLIER, known * OUTLIER),
            None => ratio,
        };
        let keep = 1.0 - FORGOTTEN;
        self.real = self.real * keep + ratio * estimated;
        self.estimated = self.estimated * keep + estimated;
    }
}

/// `tokens` corrected by `ratio`, rounded up; not zero if it was not.
pub(super) fn corrected(tokens: u64, ratio: f64) -> u64 {
    let corrected = (u128::from(tokens) * millionths(ratio)).div_ceil(1_000_000);
    u64::try_from(corrected).unwrap_or(u64::MAX)
}

/// A ratio within its bounds as a whole number, so that what comes out even is even.
fn millionths(ratio: f64) -> u128 {
    (ratio.clamp(1.0 / MOST, MOST) * 1e6).round() as u128
}
