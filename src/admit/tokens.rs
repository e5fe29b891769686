use std::{convert::Infallible, time::Duration};

use super::resource::{Claim, Resource, Spent};
use crate::{
    outcome::Outcome,
    policy::{
        CallSize, Cost, CostTooLarge, Estimator, Lesson, Part, Quota, Reservation, Timestamp,
        TokenBucket, pool::Unservable,
    },
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
    estimator: Option<Box<Estimator>>,
}

/// What a call wants of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) cost: Cost,
    /// What there is to learn from its answer, where anybody learns.
    lesson: Option<Lesson>,
}

/// What a call holds of them.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) reservation: Reservation,
    lesson: Option<Lesson>,
}

impl From<Cost> for Wanted {
    #[inline]
    fn from(cost: Cost) -> Self {
        Self { cost, lesson: None }
    }
}

impl Tokens {
    pub(crate) fn new(quota: &Quota, now: Timestamp) -> Self {
        Self {
            bucket: TokenBucket::new(quota, now),
            ahead: Cost::ZERO,
            waiters: 0,
            largest: Cost::ZERO,
            claimed: false,
            estimator: None,
        }
    }

    /// These tokens with costs made of what `estimator` expects.
    pub(crate) fn estimate(mut self, estimator: Option<Estimator>) -> Self {
        self.estimator = estimator.map(Box::new);
        self
    }

    pub(crate) fn estimator(&self) -> Option<&Estimator> {
        self.estimator.as_deref()
    }

    /// What a call of this cost wants, as far as it is known; less where an estimate is more than
    /// `fits` here and elsewhere can ever admit.
    #[inline]
    pub(crate) fn want(
        &mut self,
        model: Option<&str>,
        cost: Cost,
        size: Option<CallSize>,
        fits: impl Fn(&Cost) -> Result<(), CostTooLarge>,
    ) -> Wanted {
        match (&self.estimator, size) {
            (Some(_), Some(size)) => self.expect_of(model, &size, fits),
            _ => cost.into(),
        }
    }

    #[inline(never)]
    fn expect_of(
        &mut self,
        model: Option<&str>,
        size: &CallSize,
        fits: impl Fn(&Cost) -> Result<(), CostTooLarge>,
    ) -> Wanted {
        let estimator = self.estimator.as_mut().expect("there is one");
        let mut estimate = estimator.estimate(model, size);
        loop {
            let cost = estimate.cost();
            let checked = self.bucket.ready_at(cost).map(drop);
            match checked.and_then(|()| fits(cost)) {
                Err(too_large) if estimate.cut(&too_large) => {}
                _ => break,
            }
        }
        Wanted {
            cost: *estimate.cost(),
            lesson: Some(estimate.lesson()),
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
    pub(crate) fn observe(&mut self, call: &Taken, seen: &crate::policy::Readings, now: Timestamp) {
        self.bucket.observe(&call.reservation, seen, now);
    }

    #[inline(never)]
    fn learn(&mut self, lesson: &Lesson, spent: Spent, outcome: Option<&Outcome>) {
        if let (Spent::Exactly(usage), Some(estimator)) = (spent, &mut self.estimator) {
            // A failure is complete too, and used nothing or what was reserved.
            if outcome.is_some_and(Outcome::is_success) && lesson.is_learned_from(&usage) {
                estimator.learn(lesson, &usage);
            }
        }
    }
}

impl Resource for Tokens {
    type Ask = Wanted;
    type Grant = Taken;
    type Notice = Infallible;

    #[inline]
    fn is_free(&self, wanted: &Wanted, now: Timestamp) -> bool {
        self.bucket.is_ready(&wanted.cost, now)
    }

    fn begin_pass(&mut self) {
        self.claimed = false;
    }

    fn claim(&mut self, wanted: &Wanted, from: Timestamp, now: Timestamp) -> Claim {
        if self.claimed {
            return Claim::Nothing;
        }
        match self.bucket.ready_at(&wanted.cost) {
            Err(too_large) => Claim::Never(Unservable::TooLarge(too_large)),
            Ok(ready) if ready <= now => Claim::Ready(ready),
            Ok(ready) => {
                self.claimed = ready > from;
                Claim::At(ready)
            }
        }
    }

    #[inline]
    fn take(&mut self, wanted: &Wanted, at: Timestamp, now: Timestamp) -> Taken {
        Taken {
            reservation: self.bucket.take_late(&wanted.cost, at, now),
            lesson: wanted.lesson,
        }
    }

    #[inline]
    fn is_inert(taken: &Taken, spent: Spent) -> bool {
        spent.is_as_reserved() && !taken.lesson.is_some_and(|lesson| spent.teaches(&lesson))
    }

    fn release(&mut self, taken: Taken, spent: Spent, outcome: Option<&Outcome>, now: Timestamp) {
        let Taken {
            reservation,
            lesson,
        } = taken;
        if let Some(lesson) = lesson {
            self.learn(&lesson, spent, outcome);
        }
        match spent {
            Spent::Nothing => self.bucket.refund(reservation, now),
            spent if spent.is_as_reserved() => {}
            spent => {
                let used = spent.of(reservation.cost());
                self.bucket.settle(reservation, &used, now);
            }
        }
    }

    fn undo(&mut self, taken: Taken, now: Timestamp) -> Wanted {
        let Taken {
            reservation,
            lesson,
        } = taken;
        let cost = *reservation.cost();
        self.bucket.refund(reservation, now);
        Wanted { cost, lesson }
    }

    fn expect(
        &self,
        wanted: &Wanted,
        ahead: Part,
        now: Timestamp,
    ) -> Result<Timestamp, Unservable> {
        let ahead = self.ahead.part(ahead);
        let ready = self.bucket.ready_after(&ahead, &self.largest, &wanted.cost);
        Ok(ready.map_err(Unservable::TooLarge)?.max(now))
    }

    fn work(&self, wanted: &Wanted) -> u64 {
        nanos(self.bucket.time_of(&wanted.cost))
    }

    fn joined(&mut self, wanted: &Wanted) {
        self.waiters += 1;
        self.ahead.add(&wanted.cost);
        self.largest = self.largest.max(&wanted.cost);
    }

    fn left(&mut self, wanted: &Wanted) {
        self.waiters -= 1;
        self.ahead.sub(&wanted.cost);
        if self.waiters == 0 {
            (self.ahead, self.largest) = (Cost::ZERO, Cost::ZERO);
        }
    }
}

/// A time as [`work`](Resource::work).
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
