//! The queue and its resources, without lock, runtime or clock.

mod model;
mod queue;
mod resources;
mod shares;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use super::{
    counts::Counts,
    queue::{Look, Queue},
    resource::{Claim, Joint, Resource, Spent},
    slots::Slots,
    tokens::{Tokens, Wanted},
};
use crate::{
    outcome::{Outcome, Usage},
    policy::{Cost, CostTooLarge, Part, Quota, Timestamp, Unit, pool::Unservable},
};

const SLACK: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

fn too_large() -> Unservable {
    Unservable::TooLarge(CostTooLarge::new(Unit::REQUESTS, 2, 1))
}

// === a resource of two scopes ===

/// Two scopes, each of which serves one call and then rests.
struct Scopes {
    rests_until: [Timestamp; 2],
    rest: Duration,
    claimed: [bool; 2],
    /// Claimed by others at the beginning of every pass.
    taken: [bool; 2],
    /// Nobody may ask for this scope any more.
    closed: Option<usize>,
    waiters: [usize; 3],
}

/// What a call can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Only(usize),
    Either,
}

impl Scopes {
    fn new(first: u64, second: u64) -> Self {
        Self {
            rests_until: [at(first), at(second)],
            rest: Duration::from_secs(1_000),
            claimed: [false; 2],
            taken: [false; 2],
            closed: None,
            waiters: [0; 3],
        }
    }
}

impl Resource for Scopes {
    type Ask = Ask;
    type Grant = (usize, Ask);
    type Notice = std::convert::Infallible;

    fn lines(&self) -> usize {
        3
    }

    fn line(&self, ask: &Ask) -> usize {
        match ask {
            Ask::Only(scope) => *scope,
            Ask::Either => 2,
        }
    }

    fn is_free(&self, ask: &Ask, now: Timestamp) -> bool {
        let usable = |scope: usize| *ask == Ask::Either || *ask == Ask::Only(scope);
        (0..2).any(|scope| usable(scope) && self.rests_until[scope] <= now)
    }

    fn begin_pass(&mut self) {
        self.claimed = self.taken;
    }

    fn claim(&mut self, ask: &Ask, _: Timestamp, now: Timestamp) -> Claim {
        let usable = |scope: &usize| *ask == Ask::Either || *ask == Ask::Only(*scope);
        if self.closed.is_some_and(|closed| *ask == Ask::Only(closed)) {
            return Claim::Never(too_large());
        }
        let free = (0..2).filter(usable).filter(|scope| !self.claimed[*scope]);
        let Some(scope) = free.min_by_key(|scope| self.rests_until[*scope]) else {
            return Claim::Nothing;
        };
        let ready = self.rests_until[scope];
        if ready == Timestamp::MAX {
            self.claimed[scope] = true;
            return Claim::OnRelease;
        }
        if ready <= now {
            return Claim::Ready(ready);
        }
        self.claimed[scope] = true;
        Claim::At(ready)
    }

    fn take(&mut self, ask: &Ask, _: Timestamp, now: Timestamp) -> (usize, Ask) {
        let scope = match *ask {
            Ask::Only(scope) => scope,
            Ask::Either if self.rests_until[0] <= self.rests_until[1] => 0,
            Ask::Either => 1,
        };
        self.rests_until[scope] = now + self.rest;
        (scope, *ask)
    }

    fn is_inert(_: &(usize, Ask), _: Spent) -> bool {
        false
    }

    fn release(&mut self, (scope, _): (usize, Ask), _: Spent, _: Option<&Outcome>, now: Timestamp) {
        self.rests_until[scope] = now;
    }

    fn undo(&mut self, (scope, ask): (usize, Ask), now: Timestamp) -> Ask {
        self.rests_until[scope] = now;
        ask
    }

    fn expect(&self, _: &Ask, _: Part, now: Timestamp) -> Result<Timestamp, Unservable> {
        Ok(now)
    }

    fn joined(&mut self, ask: &Ask) {
        self.waiters[self.line(ask)] += 1;
    }

    fn left(&mut self, ask: &Ask) {
        self.waiters[self.line(ask)] -= 1;
    }
}

/// A queue, its clock, and a waker that counts.
struct Bench<R: Resource> {
    queue: Queue<R>,
    now: Timestamp,
    woken: Arc<Count>,
    ended: u64,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<R: Resource> Bench<R> {
    fn new(resource: R) -> Self {
        Self {
            queue: Queue::new(resource, SLACK),
            now: Timestamp::ZERO,
            woken: Arc::default(),
            ended: 0,
        }
    }

    fn join(&mut self, ask: R::Ask) -> u32 {
        self.join_as(0, ask)
    }

    fn join_as(&mut self, class: usize, ask: R::Ask) -> u32 {
        let (ticket, _) = self.queue.join(ask, class, self.now, self.now);
        self.pass();
        ticket
    }

    fn pass(&mut self) {
        let mut wake = Vec::new();
        self.queue.pass(self.now, &mut wake);
        wake.into_iter().for_each(Waker::wake);
    }

    fn look(&mut self, ticket: u32) -> Look<R> {
        self.look_by(ticket, Timestamp::ZERO)
    }

    fn look_by(&mut self, ticket: u32, fallback: Timestamp) -> Look<R> {
        let mut waker = Waker::from(Arc::clone(&self.woken));
        let mut wake = Vec::new();
        let look = self
            .queue
            .look(ticket, fallback, self.now, &mut waker, &mut wake);
        wake.into_iter().for_each(Waker::wake);
        look
    }

    /// When a waiter looks again, if it still waits.
    fn waits(&mut self, ticket: u32) -> Option<Timestamp> {
        match self.look(ticket) {
            Look::Wait(due) => Some(due),
            Look::Granted(_) | Look::Failed(_) => None,
        }
    }

    fn granted(&mut self, ticket: u32) -> R::Grant {
        match self.look(ticket) {
            Look::Granted(grant) => grant,
            Look::Wait(due) => panic!("it waits until {due:?}"),
            Look::Failed(why) => panic!("{why}"),
        }
    }

    fn release(&mut self, grant: R::Grant) {
        self.release_as(grant, Spent::Nothing);
        self.pass();
    }

    fn release_as(&mut self, grant: R::Grant, spent: Spent) {
        self.queue.resource.release(grant, spent, None, self.now);
        self.ended += 1;
    }

    /// Calls in flight, calls admitted so far, calls waiting.
    fn counts(&self) -> (u64, u64, usize) {
        let admitted = self.queue.counts.admitted;
        (admitted - self.ended, admitted, self.queue.waiting())
    }

    fn leave(&mut self, ticket: u32) {
        self.queue.leave(ticket, self.now);
        self.pass();
    }

    /// How many have been woken since the last time this was asked.
    fn woken(&self) -> usize {
        self.woken.0.swap(0, Ordering::Relaxed)
    }
}
/// One scope, as many calls as it has tokens of one per second.
fn tokens(burst: u64) -> Tokens {
    Tokens::new(&quota(burst, None), Timestamp::ZERO)
}

fn quota(burst: u64, max_in_flight: Option<usize>) -> Quota {
    let builder = Quota::builder()
        .input_tokens_per_minute(60)
        .burst(Unit::INPUT_TOKENS, burst)
        .slack(Duration::ZERO);
    let builder = match max_in_flight {
        Some(calls) => builder.max_in_flight(calls),
        None => builder,
    };
    builder.build().expect("valid")
}

fn cost(n: u64) -> Wanted {
    Cost::ZERO.input_tokens(n).into()
}

fn left(tokens: &Tokens, now: u64) -> i64 {
    let left = tokens.bucket().available(Unit::INPUT_TOKENS, at(now));
    left.expect("metered")
}
