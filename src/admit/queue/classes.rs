use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::{Line, Place, Queue, Stage, taken, work_of};
use crate::{
    admit::resource::Resource,
    policy::{Part, Shares, Turns},
};

/// The classes of callers that share a queue's resource, and whose turn it is.
pub(in crate::admit) struct Classes {
    pub(super) shares: Shares,
    pub(super) turns: Turns,
    counts: Vec<(u64, u64)>,
}

/// What is known of a class of callers: its name if it is a named one, and how many of its calls
/// wait, were admitted and were refused.
#[derive(Clone, Debug)]
pub(crate) struct ClassCounts {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) weight: u32,
    pub(crate) waiting: usize,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
}

impl Classes {
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            turns: Turns::new(&shares),
            counts: vec![(0, 0); shares.len()],
            shares,
        }
    }

    /// Keeps the counts of the classes of the same name.
    pub(super) fn keep_counts(&mut self, old: &Self) {
        for (number, counts) in self.counts.iter_mut().enumerate() {
            let name = self.shares.name(number).map(|name| &**name);
            let before = old.shares.number(name);
            if old.shares.name(before).map(|name| &**name) == name {
                *counts = old.counts[before];
            }
        }
    }

    #[inline]
    pub(super) fn admitted(&mut self, class: usize) {
        self.counts[class].0 += 1;
    }

    /// An admission is undone, and the turn of so much work that it was.
    pub(super) fn undone(&mut self, class: usize, work: u32) {
        self.turns.give_back(class, work.into());
        let admitted = &mut self.counts[class].0;
        *admitted = admitted.saturating_sub(1);
    }

    pub(super) fn refused(&mut self, class: usize) {
        self.counts[class].1 += 1;
    }

    /// Whether another call of a class may wait where all together are as many as may be: each has
    /// its share of the places.
    pub(super) fn has_room(&self, class: usize, places: usize) -> bool {
        self.turns.waiting(class) < self.shares.share(class, places)
    }

    pub(super) fn all(&self) -> Vec<ClassCounts> {
        let classes = self.shares.classes().enumerate();
        classes
            .map(|(class, (_, weight))| ClassCounts {
                name: self.shares.name(class).cloned(),
                weight,
                waiting: self.turns.waiting(class),
                admitted: self.counts[class].0,
                refused: self.counts[class].1,
            })
            .collect()
    }
}

impl<R: Resource> Queue<R> {
    /// The number of a class of callers; zero where classes have no shares.
    #[inline]
    pub(in crate::admit) fn class(&self, name: Option<&str>) -> usize {
        match &self.classes {
            None => 0,
            Some(classes) => classes.shares.number(name),
        }
    }

    /// Whether another call of a class may wait where so many may.
    pub(in crate::admit) fn has_room(&self, class: usize, most: usize) -> bool {
        let has_share = || {
            let classes = self.classes.as_ref();
            classes.is_some_and(|classes| classes.has_room(class, most))
        };
        self.waiting < most || has_share()
    }

    /// The part of those that wait for the same things as `ask` that is served before it.
    pub(in crate::admit) fn ahead(&self, ask: &R::Ask, class: usize) -> Part {
        let Some(classes) = &self.classes else {
            return Part::WHOLE;
        };
        let first = self.resource.line(ask) * self.cursors.classes();
        let backlog = |class| {
            self.lines
                .get(first + class)
                .map_or(0, |line: &Line| line.work)
        };
        classes.turns.before(class, backlog)
    }

    /// What is known of each class.
    pub(in crate::admit) fn class_counts(&self) -> Vec<ClassCounts> {
        self.classes
            .as_ref()
            .map_or_else(Vec::new, |classes| classes.all())
    }

    /// Shares among classes of callers from now on, or among all alike. Who waits keeps its class
    /// if that is still one, and its place in it. The old classes are for the caller to drop.
    #[must_use]
    pub(in crate::admit) fn set_shares(&mut self, shares: Option<Shares>) -> Option<Box<Classes>> {
        let mut classes = shares.map(|shares| Box::new(Classes::new(shares)));
        if let (Some(new), Some(old)) = (&mut classes, &self.classes) {
            new.keep_counts(old);
        }
        let old = std::mem::replace(&mut self.classes, classes);
        let before = std::mem::replace(
            &mut self.cursors,
            Cursors::new(
                self.classes
                    .as_ref()
                    .map_or(1, |classes| classes.shares.len()),
            ),
        );
        let class_of = |line: u32| {
            let old = old.as_ref().map(|old| &old.shares);
            let name = old.and_then(|old| old.name(before.class(line)));
            self.class(name.map(|name| &**name))
        };
        let mut waiting = Vec::new();
        let tickets = self.places.iter().zip(0..);
        for (place, ticket) in tickets {
            if let Place::Taken(waiter) = place {
                let class = class_of(waiter.line);
                let ask = match &waiter.stage {
                    Stage::Waiting(wait) => Some(&wait.ask),
                    _ => None,
                };
                let line = ask.map_or(0, |ask| self.resource.line(ask));
                let work = match (&self.classes, ask) {
                    (Some(_), Some(ask)) => work_of(&self.resource, ask),
                    // What was granted before is nobody's turn any more.
                    _ => 0,
                };
                waiting.push((waiter.arrival, ticket, line, class, work, ask.is_some()));
            }
        }
        waiting.sort_unstable();
        self.lines.clear();
        self.waiting = 0;
        for (_, ticket, line, class, work, waits) in waiting {
            let line = self.line_of(line, class);
            let waiter = taken(&mut self.places, ticket);
            (waiter.line, waiter.work) = (line, work);
            if waits {
                if let Some(classes) = &mut self.classes {
                    classes.turns.joined(class);
                }
                self.link(ticket);
            }
        }
        old
    }

    /// Counts a refusal.
    pub(in crate::admit) fn count_refusal(&mut self, class: usize) {
        self.counts.refused += 1;
        if let Some(classes) = &mut self.classes {
            classes.refused(class);
        }
    }

    /// The class of a call that has a ticket.
    pub(in crate::admit) fn class_of(&mut self, ticket: u32) -> usize {
        self.cursors.class(taken(&mut self.places, ticket).line)
    }

    /// Takes an admission back, and the turn that it was.
    pub(super) fn count_undone(&mut self, class: usize, work: u32) {
        self.counts.admitted -= 1;
        if let Some(classes) = &mut self.classes {
            classes.undone(class, work);
        }
    }

    pub(super) fn line(&mut self, ask: &R::Ask, class: usize) -> u32 {
        self.line_of(self.resource.line(ask), class)
    }

    /// The line of a class among those that wait for the same things.
    pub(super) fn line_of(&mut self, line: usize, class: usize) -> u32 {
        let line = line * self.cursors.classes() + class;
        if self.lines.len() <= line {
            self.lines.resize(line + 1, Line::EMPTY);
        }
        line as u32
    }
}

// === impl Cursors ===

/// Where the present pass stands in each line, of all classes of callers: a waiter with its
/// arrival, the earliest first.
#[derive(Default)]
pub(super) struct Cursors {
    heaps: Vec<BinaryHeap<Reverse<(u64, u32)>>>,
}

impl Cursors {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            heaps: (0..classes).map(|_| BinaryHeap::new()).collect(),
        }
    }

    /// How many classes there are.
    #[inline]
    pub(super) fn classes(&self) -> usize {
        self.heaps.len()
    }

    pub(super) fn clear(&mut self) {
        self.heaps.iter_mut().for_each(BinaryHeap::clear);
    }

    /// The class whose calls wait in a line.
    #[inline]
    pub(in crate::admit) fn class(&self, line: u32) -> usize {
        line as usize % self.heaps.len()
    }

    pub(super) fn push(&mut self, line: u32, arrival: u64, ticket: u32) {
        let class = self.class(line);
        self.heaps[class].push(Reverse((arrival, ticket)));
    }

    /// The waiter whose turn it is: of the class that is next, the one that came first.
    pub(super) fn pop(&mut self, turns: Option<&Turns>) -> Option<u32> {
        let class = match turns {
            None => 0,
            Some(turns) => turns.next(|class| {
                let Reverse((arrival, _)) = self.heaps[class].peek()?;
                Some(*arrival)
            })?,
        };
        let Reverse((_, ticket)) = self.heaps[class].pop()?;
        Some(ticket)
    }
}
