use std::time::Duration;

use crate::policy::{Cost, Quota, Timestamp, nanos};

/// Half of all load is forgotten in each of these times, as long as prompts are cached. In less,
/// chance alone makes loads differ by as much as a session that moves is there to even.
const TURN: Duration = Duration::from_secs(300);
/// What is never too much, in nanoseconds of quota: what a thirtieth of the quota comes to. Where
/// that little is asked for, loads are chance, and hashing alone decides.
pub(super) const ALLOWANCE: u64 = nanos(TURN) / 20;
/// What a call takes where no quota says: as if there were ten a second.
const UNMETERED: u64 = 100_000_000;
/// More than a call's part of any quota that a call fits into.
const MOST: u64 = 1 << 50;

/// What was asked for lately, in nanoseconds of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy::pool) struct Load {
    amount: u64,
    turn: u64,
}

/// The number of halvings before `now`.
pub(in crate::policy::pool) fn turn(now: Timestamp) -> u64 {
    now.as_nanos() / nanos(TURN)
}

impl Load {
    pub(in crate::policy::pool) const fn at(&self, turn: u64) -> u64 {
        let halvings = turn.saturating_sub(self.turn);
        if halvings < 64 {
            self.amount >> halvings
        } else {
            0
        }
    }

    pub(super) fn add(&mut self, amount: u64, turn: u64) {
        let amount = self.at(turn).saturating_add(amount);
        *self = Self {
            amount,
            turn: turn.max(self.turn),
        };
    }

    pub(super) fn sub(&mut self, amount: u64, turn: u64) {
        let amount = self.at(turn).saturating_sub(amount);
        *self = Self {
            amount,
            turn: turn.max(self.turn),
        };
    }
}

/// How long a quota is taken up by a call, in the dimension in which it is for the longest.
pub(super) fn time_of(quota: Option<&Quota>, cost: &Cost) -> u64 {
    let limits = quota.map_or(&[][..], Quota::limits);
    if limits.is_empty() {
        return UNMETERED;
    }
    let times = limits.iter().map(|limit| {
        let amount = u128::from(cost.get(limit.unit));
        amount * u128::from(limit.period) / u128::from(limit.amount)
    });
    let time = times.max().unwrap_or_default();
    u64::try_from(time).unwrap_or(MOST).clamp(1, MOST)
}

/// `load` of a quota that such a call takes up for `from`, in the time of one that it takes up for `to`.
pub(super) fn converted(load: u64, from: u64, to: u64) -> u64 {
    if from == to {
        return load;
    }
    let load = u128::from(load) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(load).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_load_is_forgotten_in_each_turn() {
        let mut load = Load::default();
        load.add(1_000, 3);
        assert_eq!(
            [3, 4, 5, 80].map(|turn| load.at(turn)),
            [1_000, 500, 250, 0]
        );
        load.add(100, 4);
        load.sub(350, 5);
        assert_eq!(load.at(5), 0);
        // Time that goes backwards is none.
        load.add(7, 2);
        assert_eq!((load.at(1), load.at(6)), (7, 3));
    }

    #[test]
    fn a_call_takes_up_the_quota_that_it_takes_most_of() {
        let quota = Quota::builder()
            .requests_per_second(10)
            .input_tokens_per_minute(60_000);
        let quota = quota.build().expect("valid");
        let time = |tokens| time_of(Some(&quota), &Cost::REQUEST.input_tokens(tokens));
        assert_eq!([time(10), time(500)], [100_000_000, 500_000_000]);
        assert_eq!(time_of(None, &Cost::REQUEST), UNMETERED);
        assert_eq!(time(u64::MAX), MOST);
        assert_eq!(converted(100, 10, 5), 50);
    }
}
