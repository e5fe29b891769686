//! A count that begins anew at fixed instants.

use crate::{books::Book, clock::Timestamp};
use std::time::Duration;

/// A window of `span` that admits so many; what is left at its end is lost.
#[derive(Debug)]
pub(crate) struct Window {
    limit: u64,
    span: Duration,
    ends: Timestamp,
    count: u64,
    ledger: Ledger,
}

#[derive(Debug, Default)]
struct Ledger {
    first: Option<Timestamp>,
    last: Timestamp,
    charged: u64,
    wasted: u64,
}

impl Window {
    /// A window of which nothing is used and that ends in `ends_in`.
    pub(crate) fn new(limit: u64, span: Duration, ends_in: Duration, now: Timestamp) -> Self {
        Self {
            limit,
            span,
            ends: now + ends_in,
            count: 0,
            ledger: Ledger::default(),
        }
    }

    /// How long until `amount` fits; one that is larger than the limit fits a window of its own.
    pub(crate) fn wait(&self, amount: u64, now: Timestamp) -> Duration {
        let count = self.count_at(now);
        if count == 0 || count.saturating_add(amount) <= self.limit {
            return Duration::ZERO;
        }
        self.end(now).saturating_sub(now)
    }

    pub(crate) fn charge(&mut self, amount: u64, now: Timestamp) {
        self.advance(now);
        self.count += amount;
        self.ledger.first.get_or_insert(now);
        self.ledger.last = now;
        self.ledger.charged += amount;
    }

    /// Takes as much of `amount` as there is, for nothing.
    pub(crate) fn waste(&mut self, amount: u64, now: Timestamp) {
        self.advance(now);
        let taken = amount.min(self.limit.saturating_sub(self.count));
        self.count += taken;
        self.ledger.wasted += taken;
    }

    /// Gives back what was charged.
    pub(crate) fn credit(&mut self, amount: u64, now: Timestamp) {
        self.advance(now);
        self.count = self.count.saturating_sub(amount);
        self.ledger.charged = self.ledger.charged.saturating_sub(amount);
    }

    /// Another limit from now on; what is used stays used.
    pub(crate) fn retune(&mut self, limit: u64, span: Duration, now: Timestamp) {
        self.advance(now);
        self.limit = limit;
        if self.span != span {
            self.span = span;
            self.ends = self.ends.min(now + span);
        }
    }

    pub(crate) fn remaining(&self, now: Timestamp) -> u64 {
        self.limit.saturating_sub(self.count_at(now))
    }

    /// When the present window ends.
    pub(crate) fn end(&self, now: Timestamp) -> Timestamp {
        if now < self.ends {
            return self.ends;
        }
        let late = (now - self.ends).as_nanos();
        let windows = late / self.span.as_nanos() + 1;
        self.ends + self.span * u32::try_from(windows).unwrap_or(u32::MAX)
    }

    /// Charged over offered between the first charge and the last; zero before the first.
    pub(crate) fn used_share(&self) -> f64 {
        let Some(first) = self.ledger.first else {
            return 0.0;
        };
        let offered = self.limit as f64 + self.refilled(self.ledger.last - first);
        self.ledger.charged as f64 / offered
    }

    pub(crate) fn book(&self, now: Timestamp) -> Book {
        let since = self
            .ledger
            .first
            .map_or(Duration::ZERO, |first| now - first);
        Book {
            charged: self.ledger.charged as f64,
            wasted: self.ledger.wasted as f64,
            refilled: self.refilled(since),
            held: self.limit as f64,
            deepest_debt: 0.0,
        }
    }

    fn refilled(&self, span: Duration) -> f64 {
        self.limit as f64 * span.as_secs_f64() / self.span.as_secs_f64()
    }

    fn count_at(&self, now: Timestamp) -> u64 {
        if now < self.ends { self.count } else { 0 }
    }

    fn advance(&mut self, now: Timestamp) {
        self.count = self.count_at(now);
        self.ends = self.end(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_window_admits_its_limit_and_no_more() {
        let mut window = Window::new(2, SECOND, SECOND / 2, Duration::ZERO);
        window.charge(1, Duration::ZERO);
        assert!(window.wait(1, Duration::ZERO).is_zero());
        window.charge(1, Duration::ZERO);
        let later = SECOND / 4;
        assert_eq!(window.wait(1, later), SECOND / 4, "to the end of the first");
        let next = SECOND / 2;
        assert_eq!(window.remaining(next), 2);
        window.charge(2, next);
        assert_eq!(window.wait(1, next), SECOND, "to the end of the second");
        let much_later = 10 * SECOND;
        assert_eq!(window.end(much_later), Duration::from_millis(10_500));
        assert!(window.wait(9, much_later).is_zero(), "alone in a window");
    }

    #[test]
    fn books_offer_what_the_time_allowed() {
        let mut window = Window::new(4, SECOND, SECOND, Duration::ZERO);
        window.charge(3, SECOND / 2);
        window.waste(3, SECOND / 2);
        let book = window.book(SECOND * 5 / 2);
        assert_eq!((book.charged, book.wasted), (3.0, 1.0));
        assert_eq!((book.held, book.refilled), (4.0, 8.0));
        assert_eq!(window.used_share(), 0.75);
        window.credit(3, SECOND / 2);
        assert_eq!(window.remaining(SECOND / 2), 3);
    }
}
