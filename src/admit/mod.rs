//! The one place where calls wait.
//!
//! An [`Admission`] is a queue over a [`Resource`]: a token bucket, slots under a limit, or
//! several at once ([`Joint`]). A call is granted everything it asks for under one lock, with
//! one reading of the clock, and holds it through one guard, [`Held`].
//!
//! - `resource` says what can be asked of a resource, and joins two of them;
//! - `tokens` and `slots` are two resources, and `limiter` is slots whose limit is learned;
//! - `queue` is the rule: who is served next, and when. It has no lock, clock or waker calls;
//! - `admission` is the plumbing: the lock and the timers; `held` is the guard;
//! - `future` is a call's way through a layer that waits, whatever it waits for.
//!
//! # Who is served
//!
//! First come first served among those who can use the same thing. The queue keeps a line for
//! each set of asks that the resource calls equal ([`Resource::line`]) and walks the waiters in
//! order of arrival: each claims what serves it soonest, later ones see the rest, and a line is
//! closed when its next waiter finds everything claimed. So a call that must wait for a resting
//! scope blocks nobody who can use another.
//!
//! Where classes of callers have shares ([`Shares`](crate::policy::Shares)) there is a line for each
//! class, and the walk takes the lines by [`Turns`](crate::policy::Turns): of the class that is behind,
//! whoever came first. Grants use turns up, claims only for the rest of the pass.
//!
//! # Who keeps the time
//!
//! No task is spawned and nothing polls. Every waiter has one timer; the claimant's is set to the
//! instant it can be served, every other's to the soonest instant it could be, or to a quarter
//! of the slack after the call before it if that is sooner. When a claim comes nearer, the
//! claimant and the next in line are woken. Whoever wakes, arrives or releases serves all that
//! are due, so a waiter whose task is not polled delays nobody behind it; several in a row delay
//! those behind by one turn each beyond the first. A place in flight that is granted to a task
//! which is never polled stays taken until that call is dropped.
#![cfg_attr(
    not(any(feature = "rate-limit", feature = "key-rotation")),
    allow(dead_code, unused_imports, reason = "the joint form is theirs")
)]

mod admission;
mod counts;
mod future;
mod held;
#[cfg(any(feature = "key-rotation", feature = "adaptive-concurrency"))]
mod limiter;
mod queue;
mod resource;
mod slots;
#[cfg(test)]
mod tests;
mod tokens;

#[cfg(any(feature = "key-rotation", feature = "adaptive-concurrency"))]
pub(crate) use self::limiter::{Algorithm, Limiter};
#[cfg(feature = "rate-limit")]
pub(crate) use self::slots::Slots;
pub(crate) use self::{
    admission::{Admission, Entry, Limits, OnWait, Stats, Waiting},
    future::{CallFuture, Conduct, Permit},
    held::Held,
    queue::ClassCounts,
    resource::{Joint, Resource, Spent},
    tokens::Tokens,
};
#[cfg(feature = "key-rotation")]
pub(crate) use self::{resource::Claim, tokens::nanos};
