use std::{task::Waker, time::Duration};

use self::classes::{Classes, Cursors};
use super::{
    counts::Counts,
    resource::{Claim, Resource},
};
use crate::policy::{Timestamp, pool::Unservable};

mod classes;

pub(crate) use self::classes::ClassCounts;

/// As many places are kept when nobody uses any.
const MOST_FREE_PLACES: usize = 1_024;
/// A task has this long to pick its grant up, however small the slack: less would take back
/// every grant in real time.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// Where classes have shares, others may come and go first, and whoever's turn it is is called:
/// looking at an estimate is only for the case that nobody calls, and comes later by this part of it.
const STRETCH: u32 = 8;
/// So does whoever stands by, by this part of what it has waited, rather than be woken each time that
/// others go first.
const PATIENCE: u32 = 4;
/// Marks the end of a line and of the list of free places.
const NONE: u32 = u32::MAX;

/// The waiters of one resource and the rule by which they are served.
///
/// Joining, leaving and being served cost a constant number of steps for one line of waiters,
/// and a number that grows with the lines, not with the waiters, for several.
pub(super) struct Queue<R: Resource> {
    pub(super) resource: R,
    /// Late grants are replayed this far back.
    slack: Duration,
    places: Vec<Place<R>>,
    free: u32,
    /// How many places are taken, by waiters or by what became of them.
    held: usize,
    /// For each line of the resource one of each class of callers.
    lines: Vec<Line>,
    /// If classes of callers have shares. Without, there is one class.
    classes: Option<Box<Classes>>,
    waiting: usize,
    next_arrival: u64,
    /// The soonest instant at which a claimant of the last pass is due.
    next_due: Timestamp,
    /// The first without a claim in the last pass: it stands by, in case that claimant's task is
    /// not polled.
    standby: u32,
    cursors: Cursors,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
    /// When the last that joined can be served at the soonest.
    expected: Timestamp,
    /// The work that all of them are, where classes have shares.
    work: u128,
}

impl Line {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        expected: Timestamp::ZERO,
        work: 0,
    };
}

enum Place<R: Resource> {
    Free(u32),
    Taken(Waiter<R>),
}

struct Waiter<R: Resource> {
    stage: Stage<R>,
    arrival: u64,
    waker: Option<Waker>,
    /// What it takes from other classes, or was charged to its own; zero where there are none.
    work: u32,
    line: u32,
    before: u32,
    after: u32,
}

enum Stage<R: Resource> {
    Waiting(Wait<R::Ask>),
    /// With the instant that it is charged as of.
    Granted(R::Grant, Timestamp),
    Failed(Unservable),
    /// Only while a waiter is moved from one stage to the next.
    Moving,
}

struct Wait<A> {
    ask: A,
    since: Timestamp,
    /// When its claim will serve it; `MAX` without a claim.
    due: Timestamp,
    /// When its timer fires; `MAX` without a timer.
    armed: Timestamp,
}

impl<A> Wait<A> {
    const fn new(ask: A, since: Timestamp) -> Self {
        let (due, armed) = (Timestamp::MAX, Timestamp::MAX);
        Self {
            ask,
            since,
            due,
            armed,
        }
    }
}

/// What a waiter finds when it looks.
pub(super) enum Look<R: Resource> {
    Granted(R::Grant),
    Failed(Unservable),
    /// Not yet: look again at this instant, or when woken.
    Wait(Timestamp),
}

impl<R: Resource> Queue<R> {
    pub(super) fn new(resource: R, slack: Duration) -> Self {
        Self {
            resource,
            slack,
            places: Vec::new(),
            free: NONE,
            held: 0,
            lines: Vec::new(),
            classes: None,
            waiting: 0,
            next_arrival: 0,
            next_due: Timestamp::MAX,
            standby: NONE,
            cursors: Cursors::new(1),
            counts: Counts::default(),
        }
    }

    pub(super) fn set_slack(&mut self, slack: Duration) {
        self.slack = slack;
    }

    /// How many wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The bytes of a place.
    #[cfg(test)]
    pub(super) const PLACE: usize = size_of::<Place<R>>();

    /// How many places there are, taken or free.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.places.len()
    }

    /// Admits `ask` at once, unless it has to wait. It is nobody's turn then, so none is used up.
    #[inline]
    pub(super) fn try_admit(
        &mut self,
        ask: &R::Ask,
        class: usize,
        now: Timestamp,
    ) -> Option<R::Grant> {
        if self.waiting > 0 {
            return None;
        }
        let grant = self.resource.try_take(ask, now)?;
        self.counts.admitted += 1;
        if let Some(classes) = &mut self.classes {
            classes.admitted(class);
        }
        Some(grant)
    }

    /// Puts `ask`, which can be served at `expected` at the soonest, at the end of its line. The
    /// next [`pass`](Self::pass) may serve it.
    ///
    /// Returns its ticket, and when it must look without being called: no later than it can be
    /// served, nor than a quarter of the slack after the call before it, whose task may not be polled.
    pub(super) fn join(
        &mut self,
        ask: R::Ask,
        class: usize,
        expected: Timestamp,
        now: Timestamp,
    ) -> (u32, Timestamp) {
        self.resource.joined(&ask);
        let line = self.line(&ask, class);
        let work = match &mut self.classes {
            None => 0,
            Some(classes) => {
                classes.turns.joined(class);
                work_of(&self.resource, &ask)
            }
        };
        let expected = match &self.classes {
            Some(_) if expected < Timestamp::MAX => expected + expected.since(now) / STRETCH,
            _ => expected,
        };
        let Line {
            first,
            expected: before,
            ..
        } = &mut self.lines[line as usize];
        let fallback = if *first == NONE {
            expected
        } else {
            expected.min((*before).max(now) + self.slack / 4)
        };
        *before = expected;
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        let ticket = self.place(Waiter {
            stage: Stage::Waiting(Wait::new(ask, now)),
            arrival,
            waker: None,
            work,
            line,
            before: NONE,
            after: NONE,
        });
        self.link(ticket);
        (ticket, fallback)
    }

    /// Serves all that can be served at `now`, and collects the wakers of those who must know:
    /// the served, and claimants whose timer is set too late.
    pub(super) fn pass(&mut self, now: Timestamp, wake: &mut Vec<Waker>) {
        (self.next_due, self.standby) = (Timestamp::MAX, NONE);
        if self.waiting == 0 {
            return;
        }
        self.begin_pass();
        // The waiter whose turn it is among those at which the lines' cursors stand: the one that
        // came first, of the class that is next.
        while let Some(ticket) = self
            .cursors
            .pop(self.classes.as_ref().map(|all| &all.turns))
        {
            let slack = self.slack;
            let waiter = taken(&mut self.places, ticket);
            let (after, class, work) = (waiter.after, self.cursors.class(waiter.line), waiter.work);
            let Stage::Waiting(wait) = &mut waiter.stage else {
                unreachable!("only waiting places are linked");
            };
            match self.resource.claim(&wait.ask, now, now) {
                Claim::Ready(ready) => {
                    let earliest = wait.since.max(now.before(slack));
                    let at = ready.max(earliest).min(now);
                    self.grant(ticket, at, now, wake);
                }
                Claim::At(due) => {
                    if let Some(classes) = &mut self.classes {
                        classes.turns.plan(class, work.into());
                    }
                    self.next_due = self.next_due.min(due);
                    wait.due = due;
                    if due < wait.armed {
                        wait.armed = due;
                        wake.extend(waiter.waker.take());
                    }
                }
                Claim::OnRelease => {
                    if let Some(classes) = &mut self.classes {
                        classes.turns.plan(class, work.into());
                    }
                    wait.due = Timestamp::MAX;
                }
                Claim::Nothing => {
                    wait.due = Timestamp::MAX;
                    // One is enough, or a pass would wake as many as there are lines.
                    if self.standby == NONE && self.next_due < Timestamp::MAX {
                        self.standby = ticket;
                        let standby = self.next_due + slack / 4;
                        let patience = match &self.classes {
                            Some(_) => now.since(wait.since) / PATIENCE,
                            None => Duration::ZERO,
                        };
                        if standby + patience < wait.armed {
                            wait.armed = standby;
                            wake.extend(waiter.waker.take());
                        }
                    }
                    // The line is closed.
                    continue;
                }
                Claim::Never(why) => {
                    let ask = self.unlink(ticket);
                    self.resource.left(&ask);
                    // Part of a joint resource may have been claimed for it: begin anew.
                    self.begin_pass();
                    let waiter = taken(&mut self.places, ticket);
                    waiter.stage = Stage::Failed(why);
                    wake.extend(waiter.waker.take());
                    continue;
                }
            }
            self.set_cursor(after);
        }
    }

    /// When a waiter's claim will serve it, if it has one; `None` if it waits no more.
    pub(super) fn due(&self, ticket: u32) -> Option<Option<Timestamp>> {
        match &self.places[ticket as usize] {
            Place::Taken(waiter) => match &waiter.stage {
                Stage::Waiting(wait) => Some(Some(wait.due).filter(|&due| due < Timestamp::MAX)),
                _ => None,
            },
            Place::Free(_) => None,
        }
    }

    /// Whether a claimant could be served by now: its task may have been woken too late to set
    /// its timer in time.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.next_due <= now
    }

    fn begin_pass(&mut self) {
        (self.next_due, self.standby) = (Timestamp::MAX, NONE);
        self.resource.begin_pass();
        self.cursors.clear();
        if let Some(classes) = &mut self.classes {
            classes.turns.begin_round();
        }
        for line in 0..self.lines.len() {
            self.set_cursor(self.lines[line].first);
        }
    }

    /// Lets the pass go on in a line at this waiter, if it has one.
    fn set_cursor(&mut self, ticket: u32) {
        if ticket != NONE {
            let waiter = taken(&mut self.places, ticket);
            self.cursors.push(waiter.line, waiter.arrival, ticket);
        }
    }

    /// What became of a waiter. If it still waits, `waker` is kept until the next change, and
    /// `fallback` bounds how long it may sleep without a claim of its own. A waker kept before is
    /// left in `waker`: dropping it may run a task's code, which is not for here.
    pub(super) fn look(
        &mut self,
        ticket: u32,
        fallback: Timestamp,
        now: Timestamp,
        waker: &mut Waker,
        wake: &mut Vec<Waker>,
    ) -> Look<R> {
        self.recall_if_stale(ticket, now, wake);
        let is_next = self.standby == ticket;
        let waiter = taken(&mut self.places, ticket);
        if let Stage::Waiting(wait) = &mut waiter.stage {
            let soonest = if is_next {
                let standby = self.next_due.max(now) + self.slack / 4;
                if fallback > now {
                    standby.min(fallback)
                } else {
                    standby
                }
            } else if fallback > now {
                fallback
            } else {
                // The estimate has passed and others are still before it: look again with whoever
                // is due next, less and less often, so that looks stay few.
                let pause = now.since(wait.since) / 4 + Duration::from_millis(1);
                self.next_due.max(now + pause)
            };
            // What was due by now has been served, or lost to a call that came back to its place.
            wait.armed = if wait.due > now && wait.due < Timestamp::MAX {
                wait.due
            } else if self.next_due < Timestamp::MAX {
                soonest
            } else {
                Timestamp::MAX
            };
            match &mut waiter.waker {
                Some(kept) => std::mem::swap(kept, waker),
                none => *none = Some(waker.clone()),
            }
            return Look::Wait(wait.armed);
        }
        let waiter = self.vacate(ticket);
        if let Stage::Failed(_) = waiter.stage {
            self.count_refusal(self.cursors.class(waiter.line));
        }
        match waiter.stage {
            Stage::Granted(grant, _) => Look::Granted(grant),
            Stage::Failed(why) => Look::Failed(why),
            Stage::Waiting(_) | Stage::Moving => unreachable!("handled above"),
        }
    }

    /// Takes a waiter out, whatever became of it. Its waker is for the caller to drop.
    pub(super) fn leave(&mut self, ticket: u32, now: Timestamp) -> Option<Waker> {
        if matches!(taken(&mut self.places, ticket).stage, Stage::Waiting(_)) {
            let ask = self.unlink(ticket);
            self.resource.left(&ask);
        }
        let waiter = self.vacate(ticket);
        if let Stage::Granted(grant, _) = waiter.stage {
            self.resource.undo(grant, now);
            self.count_undone(self.cursors.class(waiter.line), waiter.work);
        }
        waiter.waker
    }

    /// A grant that its task picks up later than the slack after the instant it is charged as of
    /// would be sent at an instant that it was not made for. It goes back, and the call to the
    /// place it had, with all others of that kind.
    fn recall_if_stale(&mut self, ticket: u32, now: Timestamp, wake: &mut Vec<Waker>) {
        let patience = self.slack.max(LEAST_PATIENCE);
        let is_stale = |waiter: &Waiter<R>| match waiter.stage {
            Stage::Granted(_, at) => now.since(at) > patience,
            _ => false,
        };
        if !is_stale(taken(&mut self.places, ticket)) {
            return;
        }
        // All go back before any is granted again: one by one, what came in since would be
        // credited to each of them.
        let mut recalled = Vec::new();
        for (place, ticket) in self.places.iter_mut().zip(0..) {
            let Place::Taken(waiter) = place else {
                continue;
            };
            if !is_stale(waiter) {
                continue;
            }
            let stage = std::mem::replace(&mut waiter.stage, Stage::Moving);
            let Stage::Granted(grant, _) = stage else {
                unreachable!("the lines above say so");
            };
            let ask = self.resource.undo(grant, now);
            self.resource.joined(&ask);
            // A line may have been given up and another begun since.
            let class = self.cursors.class(waiter.line);
            recalled.push((ticket, self.resource.line(&ask), class, waiter.work));
            waiter.stage = Stage::Waiting(Wait::new(ask, now));
        }
        for (ticket, line, class, work) in recalled {
            self.count_undone(class, work);
            if let Some(classes) = &mut self.classes {
                classes.turns.came_back(class);
            }
            let line = self.line_of(line, class);
            taken(&mut self.places, ticket).line = line;
            self.link(ticket);
        }
        self.pass(now, wake);
    }

    fn grant(&mut self, ticket: u32, at: Timestamp, now: Timestamp, wake: &mut Vec<Waker>) {
        if let Some(classes) = &mut self.classes {
            let waiter = taken(&mut self.places, ticket);
            let class = self.cursors.class(waiter.line);
            classes.turns.served(class, waiter.work.into());
            classes.admitted(class);
        }
        let ask = self.unlink(ticket);
        self.resource.left(&ask);
        let grant = self.resource.take(&ask, at, now);
        self.counts.admitted += 1;
        let waiter = taken(&mut self.places, ticket);
        waiter.stage = Stage::Granted(grant, at);
        wake.extend(waiter.waker.take());
    }

    /// Puts a waiter into its line by arrival; only one who returns is not the last.
    fn link(&mut self, ticket: u32) {
        self.waiting += 1;
        let waiter = taken(&mut self.places, ticket);
        let (line, arrival) = (waiter.line as usize, waiter.arrival);
        self.lines[line].work += u128::from(waiter.work);
        let last = self.lines[line].last;
        let is_last = last == NONE || taken(&mut self.places, last).arrival < arrival;
        let (before, after) = if is_last {
            (last, NONE)
        } else {
            let mut after = self.lines[line].first;
            while taken(&mut self.places, after).arrival < arrival {
                after = taken(&mut self.places, after).after;
            }
            (taken(&mut self.places, after).before, after)
        };
        let waiter = taken(&mut self.places, ticket);
        (waiter.before, waiter.after) = (before, after);
        match before {
            NONE => self.lines[line].first = ticket,
            before => taken(&mut self.places, before).after = ticket,
        }
        match after {
            NONE => self.lines[line].last = ticket,
            after => taken(&mut self.places, after).before = ticket,
        }
    }

    /// Takes a waiter out of its line, and what it asked for out of the waiter.
    fn unlink(&mut self, ticket: u32) -> R::Ask {
        self.waiting -= 1;
        let waiter = taken(&mut self.places, ticket);
        let (line, before, after) = (waiter.line as usize, waiter.before, waiter.after);
        let stage = std::mem::replace(&mut waiter.stage, Stage::Moving);
        self.lines[line].work -= u128::from(waiter.work);
        if let Some(classes) = &mut self.classes {
            classes.turns.left(self.cursors.class(line as u32));
        }
        match before {
            NONE => self.lines[line].first = after,
            before => taken(&mut self.places, before).after = after,
        }
        match after {
            NONE => self.lines[line].last = before,
            after => taken(&mut self.places, after).before = before,
        }
        let Stage::Waiting(wait) = stage else {
            unreachable!("only waiting places are linked");
        };
        wait.ask
    }

    fn place(&mut self, waiter: Waiter<R>) -> u32 {
        self.held += 1;
        let waiter = Place::Taken(waiter);
        match self.free {
            NONE => {
                self.places.push(waiter);
                u32::try_from(self.places.len() - 1).expect("fewer than 2^32 calls wait")
            }
            ticket => {
                let place = std::mem::replace(&mut self.places[ticket as usize], waiter);
                let Place::Free(next) = place else {
                    unreachable!("the list of free places holds free places");
                };
                self.free = next;
                ticket
            }
        }
    }

    fn vacate(&mut self, ticket: u32) -> Waiter<R> {
        let place = &mut self.places[ticket as usize];
        let Place::Taken(waiter) = std::mem::replace(place, Place::Free(self.free)) else {
            unreachable!("a ticket's place is taken");
        };
        self.free = ticket;
        self.held -= 1;
        if self.held == 0 && self.places.len() > MOST_FREE_PLACES {
            (self.places, self.free) = (Vec::new(), NONE);
        }
        waiter
    }
}

/// In steps of a microsecond, as many as a place has room for: more than an hour.
fn work_of<R: Resource>(resource: &R, ask: &R::Ask) -> u32 {
    let micros = resource.work(ask).div_ceil(1_000).max(1);
    u32::try_from(micros).unwrap_or(u32::MAX)
}

fn taken<R: Resource>(places: &mut [Place<R>], ticket: u32) -> &mut Waiter<R> {
    match &mut places[ticket as usize] {
        Place::Taken(waiter) => waiter,
        Place::Free(_) => unreachable!("a ticket's place is taken"),
    }
}
