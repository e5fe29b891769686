use std::time::Duration;

use super::{Ask, Pool};

/// Rates are counted in so many parts of one per nanosecond.
const WHOLE: u128 = 1 << 64;

impl Pool {
    /// How long the scopes that can serve `ask` take together to grant what it costs, see
    /// [`TokenBucket::time_of`](crate::policy::TokenBucket::time_of). Zero if one of them has no
    /// quota.
    #[must_use]
    pub fn time_of(&self, ask: &Ask) -> Duration {
        let view = &self.views[self.models.get(ask.model).view];
        let mut rate = 0_u128;
        for tier in &view.tiers {
            let Some(&lane) = tier.lanes.first() else {
                continue;
            };
            // Those of one tier have equal quotas.
            let bucket = self.lanes[lane as usize].bucket.as_ref();
            let time = bucket.map_or(0, |bucket| bucket.time_of(&ask.cost).as_nanos());
            if time == 0 {
                return Duration::ZERO;
            }
            rate += tier.lanes.len() as u128 * WHOLE / time;
        }
        let nanos = WHOLE.checked_div(rate).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
