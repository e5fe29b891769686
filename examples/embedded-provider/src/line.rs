//! The whole provider's capacity: who is served, and the line of those who wait.

use crate::config::Capacity;
use std::collections::VecDeque;
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub(crate) struct Line {
    capacity: Option<Capacity>,
    /// Also while there is no capacity to compare it with, so that one set later holds at once.
    served: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// A call's place, given back with [`Line::leave`].
#[derive(Debug)]
#[must_use]
pub(crate) enum Place {
    Served,
    Waiting {
        number: u64,
        turn: oneshot::Receiver<()>,
    },
}

impl Line {
    pub(crate) fn new(capacity: Option<Capacity>) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Those served and those waiting go on; a larger capacity calls the next ones at once.
    pub(crate) fn set_capacity(&mut self, capacity: Option<Capacity>) {
        self.capacity = capacity;
        self.call_next();
    }

    /// Whether there is no place left, not even in the line.
    pub(crate) fn is_full(&self) -> bool {
        let waiting = self.waiting.len() as u64;
        !self.has_room() && self.capacity.is_some_and(|it| waiting >= it.queue)
    }

    /// Whether another call could be served at once.
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|it| self.served < it.at_once)
    }

    /// At the end of the line, or past it if nobody waits.
    pub(crate) fn join(&mut self) -> Place {
        if self.has_room() {
            self.served += 1;
            return Place::Served;
        }
        let (call, turn) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.waiting.push_back((number, call));
        Place::Waiting { number, turn }
    }

    pub(crate) fn leave(&mut self, place: Place) {
        match place {
            Place::Served => self.served -= 1,
            Place::Waiting { number, mut turn } => {
                if turn.try_recv().is_ok() {
                    // It was called, and went away before it heard.
                    self.served -= 1;
                } else {
                    self.waiting.retain(|(waiting, _)| *waiting != number);
                }
            }
        }
        self.call_next();
    }

    fn call_next(&mut self) {
        while self.has_room() {
            let Some((_, call)) = self.waiting.pop_front() else {
                return;
            };
            self.served += u64::from(call.send(()).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_once: u64, queue: u64) -> Line {
        Line::new(Some(Capacity { at_once, queue }))
    }

    fn is_served(place: &mut Place) -> bool {
        match place {
            Place::Served => true,
            Place::Waiting { turn, .. } => {
                let called = turn.try_recv().is_ok();
                if called {
                    *place = Place::Served;
                }
                called
            }
        }
    }

    #[test]
    fn they_are_served_in_order_of_arrival() {
        let mut line = line(1, 2);
        let mut places = [line.join(), line.join(), line.join()];
        assert!(line.is_full());
        assert_eq!(places.each_mut().map(is_served), [true, false, false]);
        let [first, mut second, mut third] = places;
        line.leave(first);
        assert!(is_served(&mut second) && !is_served(&mut third));
        assert!(!line.is_full());
    }

    #[test]
    fn one_that_goes_away_leaves_no_gap() {
        let mut line = line(1, 3);
        let [first, second, third, mut fourth] =
            [line.join(), line.join(), line.join(), line.join()];
        line.leave(second);
        assert!(!line.is_full());
        // The third is called, and goes before it hears.
        line.leave(first);
        line.leave(third);
        assert!(is_served(&mut fourth));
        line.leave(fourth);
        assert_eq!(line.served, 0);
    }

    #[test]
    fn another_capacity_holds_at_once() {
        let mut line = line(1, 9);
        let first = line.join();
        let mut others = [line.join(), line.join(), line.join()];
        line.set_capacity(Some(Capacity {
            at_once: 3,
            queue: 0,
        }));
        assert_eq!(others.each_mut().map(is_served), [true, true, false]);
        assert!(line.is_full());
        line.set_capacity(Some(Capacity {
            at_once: 1,
            queue: 0,
        }));
        line.leave(first);
        assert!(!is_served(&mut others[2]), "two are served still");
        line.set_capacity(None);
        assert!(is_served(&mut others[2]));
        assert!(!line.is_full());
        line.set_capacity(Some(Capacity {
            at_once: 3,
            queue: 0,
        }));
        assert!(line.is_full(), "those before it count");
    }
}
