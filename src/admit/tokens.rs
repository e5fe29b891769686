use std::{convert::Infallible, time::Duration};

use super::resource::{Claim, Resource, Spent};
use crate::{
    outcome::Outcome,
    policy::{Cost, Part, Quota, Reservation, Timestamp, TokenBucket, pool::Unservable},
};

/// A token bucket with a queue before it.
#[derive(Debug)]
pub(crate) struct Tokens {
    bucket: TokenBucket,
    /// What all waiters together want, and how many they are.
    ahead: Cost,
    waiters: usize,
    /// The largest part of each unit that any of them wants or wanted.
    largest: Cost,
    claimed: bool,
}

impl Tokens {
    pub(crate) fn new(quota: &Quota, now: Timestamp) -> Self {
        Self {
            bucket: TokenBucket::new(quota, now),
            ahead: Cost::ZERO,
            waiters: 0,
            largest: Cost::ZERO,
            claimed: false,
        }
    }

    pub(crate) fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    /// How far back a late grant of this quota is charged.
    #[cfg(feature = "key-rotation")]
    pub(crate) const fn slack(&self) -> Duration {
        self.bucket.slack()
    }

    pub(crate) fn set_quota(&mut self, quota: &Quota, now: Timestamp) {
        self.bucket.set_quota(quota, now);
    }

    /// Hears what the server shows in its answer to the call of a reservation.
    #[cfg(feature = "rate-limit")]
    pub(crate) fn observe(
        &mut self,
        call: &Reservation,
        seen: &crate::policy::Readings,
        now: Timestamp,
    ) {
        self.bucket.observe(call, seen, now);
    }
}

impl Resource for Tokens {
    type Ask = Cost;
    type Grant = Reservation;
    type Notice = Infallible;

    #[inline]
    fn is_free(&self, cost: &Cost, now: Timestamp) -> bool {
        self.bucket.is_ready(cost, now)
    }

    fn begin_pass(&mut self) {
        self.claimed = false;
    }

    fn claim(&mut self, cost: &Cost, from: Timestamp, now: Timestamp) -> Claim {
        if self.claimed {
            return Claim::Nothing;
        }
        match self.bucket.ready_at(cost) {
            Err(too_large) => Claim::Never(Unservable::TooLarge(too_large)),
            Ok(ready) if ready <= now => Claim::Ready(ready),
            Ok(ready) => {
                self.claimed = ready > from;
                Claim::At(ready)
            }
        }
    }

    #[inline]
    fn take(&mut self, cost: &Cost, at: Timestamp, now: Timestamp) -> Reservation {
        self.bucket.take_late(cost, at, now)
    }

    #[inline]
    fn is_inert(_: &Reservation, spent: Spent) -> bool {
        spent.is_as_reserved()
    }

    fn release(
        &mut self,
        reservation: Reservation,
        spent: Spent,
        _: Option<&Outcome>,
        now: Timestamp,
    ) {
        match spent {
            Spent::Nothing => self.bucket.refund(reservation, now),
            spent if spent.is_as_reserved() => {}
            spent => {
                let used = spent.of(reservation.cost());
                self.bucket.settle(reservation, &used, now);
            }
        }
    }

    fn undo(&mut self, reservation: Reservation, now: Timestamp) -> Cost {
        let cost = *reservation.cost();
        self.bucket.refund(reservation, now);
        cost
    }

    fn expect(&self, cost: &Cost, ahead: Part, now: Timestamp) -> Result<Timestamp, Unservable> {
        let ahead = self.ahead.part(ahead);
        let ready = self.bucket.ready_after(&ahead, &self.largest, cost);
        Ok(ready.map_err(Unservable::TooLarge)?.max(now))
    }

    fn work(&self, cost: &Cost) -> u64 {
        nanos(self.bucket.time_of(cost))
    }

    fn joined(&mut self, cost: &Cost) {
        self.waiters += 1;
        self.ahead.add(cost);
        self.largest = self.largest.max(cost);
    }

    fn left(&mut self, cost: &Cost) {
        self.waiters -= 1;
        self.ahead.sub(cost);
        if self.waiters == 0 {
            (self.ahead, self.largest) = (Cost::ZERO, Cost::ZERO);
        }
    }
}

/// A time as [`work`](Resource::work).
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
