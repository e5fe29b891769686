use std::time::Duration;

use crate::{
    outcome::{Outcome, Usage},
    policy::{Cost, Lesson, Part, Timestamp, Unit, pool::Unservable},
};

/// What the queue knows of the thing it admits to.
pub(crate) trait Resource {
    /// What one call wants.
    type Ask;
    /// What one call holds.
    type Grant;

    /// A change of state worth telling outside the lock.
    type Notice;

    /// How many lines of waiters there are. Fixed, but for the first of a [`Joint`].
    fn lines(&self) -> usize {
        1
    }

    /// The line of all asks that can be served by the same things as this one, which has joined.
    fn line(&self, ask: &Self::Ask) -> usize {
        let _ = ask;
        0
    }

    /// Tells an ask that is about to join how long it may wait. One that is choosy may become less
    /// so.
    fn hurry(&self, ask: &mut Self::Ask, room: Duration) {
        let _ = (ask, room);
    }

    /// Whether `ask` can be served at `now` if nobody waits.
    fn is_free(&self, ask: &Self::Ask, now: Timestamp) -> bool;

    /// Forgets all claims: a new pass over the waiters begins.
    fn begin_pass(&mut self);

    /// What `ask` finds at `now` among what nobody before it in this pass has claimed. Claims
    /// what it will have to wait for beyond `from`, before which it cannot be sent anyhow.
    fn claim(&mut self, ask: &Self::Ask, from: Timestamp, now: Timestamp) -> Claim;

    /// Takes what `ask` wants if it is free at `now`, where nobody waits.
    #[inline]
    fn try_take(&mut self, ask: &Self::Ask, now: Timestamp) -> Option<Self::Grant> {
        self.is_free(ask, now).then(|| self.take(ask, now, now))
    }

    /// Takes what was found [`Claim::Ready`], as of the instant `at` and sent at `now`.
    fn take(&mut self, ask: &Self::Ask, at: Timestamp, now: Timestamp) -> Self::Grant;

    /// Whether returning `grant` changes nothing that anybody could wait for. It then need not
    /// be returned.
    fn is_inert(grant: &Self::Grant, spent: Spent) -> bool;

    /// Whether the instant at which `grant` is returned has no part in anything, if nothing of it
    /// comes back and nobody waits.
    #[inline]
    fn is_timeless(grant: &Self::Grant) -> bool {
        let _ = grant;
        true
    }

    /// Hears what the answer of a call said that it used, before [`release`](Self::release).
    #[inline]
    fn count_usage(&mut self, grant: &Self::Grant, reported: &Usage) {
        let _ = (grant, reported);
    }

    /// Returns the grant of a call that ended in `outcome`, if anybody knows.
    fn release(
        &mut self,
        grant: Self::Grant,
        spent: Spent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    );

    /// Returns a grant that was not used, and what had been asked for.
    fn undo(&mut self, grant: Self::Grant, now: Timestamp) -> Self::Ask;

    /// The soonest instant at which `ask` could be served if it joined the waiters now, of whom
    /// this part would be served before it.
    fn expect(&self, ask: &Self::Ask, ahead: Part, now: Timestamp)
    -> Result<Timestamp, Unservable>;

    /// What serving `ask` takes from all others, by which classes of callers are compared: the time
    /// that the scarcest quota takes to grant it, in nanoseconds. Zero where calls are alike, or
    /// nothing is known.
    fn work(&self, ask: &Self::Ask) -> u64 {
        let _ = ask;
        0
    }

    /// Counts a waiter in.
    fn joined(&mut self, ask: &Self::Ask);

    /// Counts a waiter out.
    fn left(&mut self, ask: &Self::Ask);

    /// Whether a change has not been told yet.
    #[inline]
    fn has_notice(&self) -> bool {
        false
    }

    /// The oldest change that has not been told yet.
    fn next_notice(&mut self) -> Option<Self::Notice> {
        None
    }
}

/// What a waiter finds in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It can be served, and could have been since this instant.
    Ready(Timestamp),
    /// It has claimed what will serve it at this instant.
    At(Timestamp),
    /// It has claimed what the next release will bring.
    OnRelease,
    /// All it could use is claimed by waiters before it.
    Nothing,
    /// It can never be served.
    Never(Unservable),
}

/// What a call has really used of its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Nothing: it was never sent.
    Nothing,
    /// This much, and what is unknown as reserved.
    Exactly(Usage),
    /// At least this much, and never less than reserved.
    AtLeast(Usage),
}

impl Spent {
    /// As much as was reserved, for all anybody knows.
    pub(crate) const AS_RESERVED: Self = Self::AtLeast(Usage::UNKNOWN);

    /// Whether the reservation stands as it was made.
    #[inline]
    pub(crate) fn is_as_reserved(self) -> bool {
        matches!(
            self,
            Self::Exactly(usage) | Self::AtLeast(usage)
                if usage.input().is_none() && usage.output().is_none()
        )
    }

    /// Whether the answer of a call with this lesson tells how large calls like it are.
    pub(crate) fn teaches(self, lesson: &Lesson) -> bool {
        matches!(self, Self::Exactly(usage) if lesson.is_learned_from(&usage))
    }

    /// What it is of `reserved`: the tokens that were reported in place of the estimate.
    pub(crate) fn of(self, reserved: &Cost) -> Cost {
        let known = |usage: Usage| {
            let mut cost = *reserved;
            if let Some(tokens) = usage.input() {
                cost = cost.of(Unit::INPUT_TOKENS, tokens);
            }
            if let Some(tokens) = usage.output() {
                cost = cost.of(Unit::OUTPUT_TOKENS, tokens);
            }
            cost
        };
        match self {
            Self::Nothing => Cost::ZERO,
            Self::Exactly(usage) => known(usage),
            Self::AtLeast(usage) => known(usage).max(reserved),
        }
    }
}

/// Two resources, granted together or not at all. Only the first may have lines that grow, and
/// only the first has notices.
#[derive(Debug)]
pub(crate) struct Joint<A, B>(pub(crate) A, pub(crate) B);

impl<A: Resource, B: Resource> Resource for Joint<A, B> {
    type Ask = (A::Ask, B::Ask);
    type Grant = (A::Grant, B::Grant);
    type Notice = A::Notice;

    fn lines(&self) -> usize {
        self.0.lines() * self.1.lines()
    }

    fn line(&self, (a, b): &Self::Ask) -> usize {
        self.0.line(a) * self.1.lines() + self.1.line(b)
    }

    fn hurry(&self, (a, b): &mut Self::Ask, room: Duration) {
        self.0.hurry(a, room);
        self.1.hurry(b, room);
    }

    #[inline]
    fn is_free(&self, (a, b): &Self::Ask, now: Timestamp) -> bool {
        self.0.is_free(a, now) && self.1.is_free(b, now)
    }

    fn begin_pass(&mut self) {
        self.0.begin_pass();
        self.1.begin_pass();
    }

    /// Of the second it claims only what it has to wait for longer than for the first: a call
    /// that waits for a resting scope leaves the bucket to others until then.
    fn claim(&mut self, (a, b): &Self::Ask, from: Timestamp, now: Timestamp) -> Claim {
        let first = self.0.claim(a, from, now);
        let from = match &first {
            Claim::Never(_) => return first,
            Claim::Ready(_) => from,
            Claim::At(at) => from.max(*at),
            Claim::OnRelease | Claim::Nothing => Timestamp::MAX,
        };
        first.and(self.1.claim(b, from, now))
    }

    #[inline]
    fn take(&mut self, (a, b): &Self::Ask, at: Timestamp, now: Timestamp) -> Self::Grant {
        (self.0.take(a, at, now), self.1.take(b, at, now))
    }

    /// The second is asked first: only the first may be dear.
    #[inline]
    fn try_take(&mut self, (a, b): &Self::Ask, now: Timestamp) -> Option<Self::Grant> {
        if !self.1.is_free(b, now) {
            return None;
        }
        let first = self.0.try_take(a, now)?;
        Some((first, self.1.take(b, now, now)))
    }

    #[inline]
    fn is_inert((a, b): &Self::Grant, spent: Spent) -> bool {
        A::is_inert(a, spent) && B::is_inert(b, spent)
    }

    #[inline]
    fn is_timeless((a, b): &Self::Grant) -> bool {
        A::is_timeless(a) && B::is_timeless(b)
    }

    #[inline]
    fn release(
        &mut self,
        (a, b): Self::Grant,
        spent: Spent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) {
        self.0.release(a, spent, outcome, now);
        self.1.release(b, spent, outcome, now);
    }

    fn undo(&mut self, (a, b): Self::Grant, now: Timestamp) -> Self::Ask {
        (self.0.undo(a, now), self.1.undo(b, now))
    }

    fn expect(
        &self,
        (a, b): &Self::Ask,
        ahead: Part,
        now: Timestamp,
    ) -> Result<Timestamp, Unservable> {
        let first = self.0.expect(a, ahead, now)?;
        Ok(first.max(self.1.expect(b, ahead, now)?))
    }

    fn work(&self, (a, b): &Self::Ask) -> u64 {
        self.0.work(a).max(self.1.work(b))
    }

    fn joined(&mut self, (a, b): &Self::Ask) {
        self.0.joined(a);
        self.1.joined(b);
    }

    fn left(&mut self, (a, b): &Self::Ask) {
        self.0.left(a);
        self.1.left(b);
    }

    #[inline]
    fn has_notice(&self) -> bool {
        self.0.has_notice()
    }

    fn next_notice(&mut self) -> Option<A::Notice> {
        self.0.next_notice()
    }
}

impl Claim {
    /// What is found where both are needed.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never(why), _) | (_, Self::Never(why)) => Self::Never(why),
            (Self::Nothing, _) | (_, Self::Nothing) => Self::Nothing,
            (Self::OnRelease, _) | (_, Self::OnRelease) => Self::OnRelease,
            (Self::Ready(a), Self::Ready(b)) => Self::Ready(a.max(b)),
            (Self::At(a) | Self::Ready(a), Self::At(b) | Self::Ready(b)) => Self::At(a.max(b)),
        }
    }
}
