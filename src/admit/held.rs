use std::{fmt, sync::Arc};

use super::{
    admission::Admission,
    resource::{Resource, Spent},
};
use crate::{
    clock,
    outcome::{Outcome, Usage, Verdict},
    policy::Timestamp,
};

/// The one guard: everything that one admitted call holds.
///
/// Dropping it is a neutral release. What was reserved then stays spent if the request was on
/// its way, and is refunded if it was not.
#[must_use = "dropping it releases what the call holds"]
pub(crate) struct Held<R: Resource> {
    admission: Arc<Admission<R>>,
    /// `None` once it has been released.
    grant: Option<R::Grant>,
    since: Timestamp,
    is_timed: bool,
    progress: Progress,
}

/// How far the call has come, which decides what giving it up means.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// It has cost nothing yet.
    Granted,
    /// It may have cost what was reserved.
    Sent,
    /// So may it, and its answer has begun.
    Answered(Verdict),
}

impl<R: Resource> Held<R> {
    #[inline(always)]
    pub(super) fn new(
        admission: Arc<Admission<R>>,
        grant: R::Grant,
        since: Timestamp,
        is_timed: bool,
    ) -> Self {
        Self {
            admission,
            grant: Some(grant),
            since,
            is_timed,
            progress: Progress::Granted,
        }
    }

    /// From now on the request may have cost what was reserved.
    #[inline]
    pub(crate) fn sent(&mut self) {
        self.progress = Progress::Sent;
    }

    /// From now on the call is completed when it is over.
    #[inline]
    pub(crate) fn answered(&mut self, verdict: Verdict) {
        self.progress = Progress::Answered(verdict);
    }

    /// How the answer began.
    #[inline]
    pub(crate) const fn verdict(&self) -> Option<Verdict> {
        match self.progress {
            Progress::Answered(verdict) => Some(verdict),
            Progress::Granted | Progress::Sent => None,
        }
    }

    /// What the call holds. Panics if that has been released.
    #[cfg(any(feature = "key-rotation", feature = "adaptive-concurrency"))]
    #[inline]
    pub(crate) fn grant(&self) -> &R::Grant {
        let grant = self.grant.as_ref();
        grant.expect("what is released is not looked at")
    }

    /// Tells the resource something of the call before its end, then serves all whom that lets
    /// in.
    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn inform<T>(
        &mut self,
        tell: impl FnOnce(&mut R, &mut R::Grant, Timestamp) -> T,
    ) -> Option<T> {
        let grant = self.grant.as_mut()?;
        let now = clock::now_shared();
        let mut queue = self.admission.lock();
        let told = tell(&mut queue.resource, grant, now);
        if queue.waiting() > 0 || queue.resource.has_notice() {
            drop(queue);
            self.admission.with(|queue, wake| queue.pass(now, wake));
        }
        Some(told)
    }

    /// Releases everything, once. A call that ended in an `outcome` is completed.
    #[inline]
    pub(crate) fn finish(&mut self, spent: Spent, outcome: Option<&Outcome>) {
        self.finish_with(spent, &Usage::UNKNOWN, outcome);
    }

    /// The same, with what the answer said that it used.
    #[inline]
    pub(crate) fn finish_with(
        &mut self,
        spent: Spent,
        reported: &Usage,
        outcome: Option<&Outcome>,
    ) {
        let Some(grant) = self.grant.take() else {
            return;
        };
        if !self.is_timed && R::is_inert(&grant, spent) {
            let is_success = outcome.map(Outcome::is_success);
            self.admission.ended.count(is_success);
            return;
        }
        self.release(grant, spent, reported, outcome);
    }

    #[inline]
    fn release(&self, grant: R::Grant, spent: Spent, reported: &Usage, outcome: Option<&Outcome>) {
        let is_news = outcome.is_some_and(|outcome| !outcome.is_success());
        let is_plain = !self.is_timed && !is_news && spent.is_as_reserved();
        if is_plain && R::is_timeless(&grant) {
            let mut queue = self.admission.lock();
            if queue.waiting() == 0 {
                // Nobody waits and nothing comes back that time has a part in: the instant of
                // the admission is as good as this one, and need not be read.
                queue.counts.ended.count(outcome.map(Outcome::is_success));
                let resource = &mut queue.resource;
                resource.count_usage(&grant, reported);
                resource.release(grant, spent, outcome, self.since);
                if resource.has_notice() {
                    drop(queue);
                    self.admission.with(|_, _| ());
                }
                return;
            }
        }
        self.release_and_serve(grant, spent, reported, outcome);
    }

    #[inline(never)]
    fn release_and_serve(
        &self,
        grant: R::Grant,
        spent: Spent,
        reported: &Usage,
        outcome: Option<&Outcome>,
    ) {
        let now = clock::now();
        self.admission.with(|queue, wake| {
            if self.is_timed {
                queue.counts.count_time(now.since(self.since));
            }
            // First, because an algorithm may be a user's, which may panic.
            queue.counts.ended.count(outcome.map(Outcome::is_success));
            queue.resource.count_usage(&grant, reported);
            queue.resource.release(grant, spent, outcome, now);
            queue.pass(now, wake);
        });
    }
}

impl<R: Resource> Drop for Held<R> {
    #[inline]
    fn drop(&mut self) {
        if self.grant.is_some() {
            self.give_up();
        }
    }
}

impl<R: Resource> Held<R> {
    /// Releases what nobody has finished.
    #[inline(never)]
    fn give_up(&mut self) {
        let (spent, verdict) = match self.progress {
            Progress::Granted => (Spent::Nothing, None),
            Progress::Sent => (Spent::AS_RESERVED, None),
            Progress::Answered(verdict) => (Spent::AS_RESERVED, Some(verdict)),
        };
        self.finish(spent, verdict.map(Outcome::new).as_ref());
    }
}

impl<R: Resource> fmt::Debug for Held<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("since", &self.since)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
