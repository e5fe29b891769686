use std::time::Duration;

use super::TokenBucket;
use crate::policy::Cost;

impl TokenBucket {
    /// How long the quota takes to grant `cost`: in the dimension in which that takes longest, as
    /// if nothing else were taken and nothing had been saved up. It is what a call takes from all
    /// others that wait (cf. the dominant resource of Ghodsi et al. 2011). Zero without a limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::policy::{Cost, Quota, Timestamp, TokenBucket};
    ///
    /// let quota = Quota::builder().requests_per_second(10).tokens_per_minute(60_000).build()?;
    /// let bucket = TokenBucket::new(&quota, Timestamp::ZERO);
    /// let small = Cost::REQUEST.input_tokens(20);
    /// assert_eq!(bucket.time_of(&small), Duration::from_millis(100));
    /// let large = Cost::REQUEST.input_tokens(30_000);
    /// assert_eq!(bucket.time_of(&large), Duration::from_secs(30));
    /// # Ok::<(), tower_relay::policy::InvalidConfig>(())
    /// ```
    #[must_use]
    pub fn time_of(&self, cost: &Cost) -> Duration {
        let times = self.dimensions.iter().map(|dimension| {
            let limit = &dimension.limit;
            let time = u128::from(cost.get(limit.unit)) * u128::from(limit.period);
            time.div_ceil(u128::from(limit.amount))
        });
        let nanos = times.max().unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
