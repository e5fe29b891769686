//! What a run is worth, by the provider's books.

use std::time::Duration;

use embedded_provider::{Book, Books, Counters};

use super::{
    row::{Row, Target},
    run::Secrets,
};

/// The provider's books and counters at one instant.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) books: Books,
    pub(super) counters: Counters,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) seed: u64,
    pub(super) secrets: Secrets,
    /// After the first minute.
    pub(super) warm: Reading,
    pub(super) last: Reading,
    pub(super) answered: u64,
    pub(super) lost: u64,
    pub(super) first_loss: Option<String>,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// All runs of a row.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) target: Target,
    pub(super) runs: Vec<Figures>,
}

/// Shares above this are overshoot, below it rounding.
const ROUNDING: f64 = 1e-9;

impl Figures {
    /// The dimension that was used most after the warm-up, and by how much of what flowed in.
    pub(super) fn binding(&self) -> (&'static str, f64) {
        let warm = |name| {
            let mut books = self.warm.books.dimensions.iter();
            books.find(|(of, _)| *of == name).map(|(_, book)| *book)
        };
        // A day is longer than a run, so its window binds in none.
        let books = self.last.books.dimensions.iter();
        let books = books.filter(|(name, _)| !name.ends_with("_per_day"));
        let used = books.map(|(name, last)| {
            let warm = warm(*name).unwrap_or_default();
            (
                *name,
                share(last.charged - warm.charged, last.refilled - warm.refilled),
            )
        });
        let most = used.max_by(|(_, one), (_, other)| one.total_cmp(other));
        most.unwrap_or(("nothing", 0.0))
    }

    /// Of the binding dimension since the first call, what it held at the beginning not counted.
    pub(super) fn used_as_a_whole(&self) -> f64 {
        let (name, _) = self.binding();
        self.book(name, |book| share(book.charged, book.refilled))
    }

    /// Charged beyond all there was, debt at the end included, by what flowed in; of the worst
    /// dimension.
    pub(super) fn overshoot(&self) -> f64 {
        let books = self.last.books.dimensions.iter();
        books
            .map(|(_, book)| share(book.overshoot(), book.refilled))
            .filter(|share| *share > ROUNDING)
            .fold(0.0, f64::max)
    }

    /// Refused calls of all that reached the provider after the warm-up.
    pub(super) fn refused(&self) -> f64 {
        let (warm, last) = (&self.warm.counters, &self.last.counters);
        let calls = last.calls - warm.calls;
        share((last.refused - warm.refused) as f64, calls as f64)
    }

    /// Refused calls in the first minute.
    pub(super) fn refused_while_warming(&self) -> f64 {
        let counters = &self.warm.counters;
        share(counters.refused as f64, counters.calls as f64)
    }

    /// Calls that reached the provider for each that it answered.
    pub(super) fn calls_per_answer(&self) -> f64 {
        let counters = &self.last.counters;
        share(counters.calls as f64, counters.answered as f64)
    }

    fn book(&self, name: &str, read: impl Fn(&Book) -> f64) -> f64 {
        let mut books = self.last.books.dimensions.iter();
        books
            .find(|(of, _)| *of == name)
            .map_or(0.0, |(_, book)| read(book))
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Verdict {
    pub(super) fn new(row: &Row, runs: Vec<Figures>) -> Self {
        Self {
            name: row.name,
            target: row.target(),
            runs,
        }
    }

    /// Which targets were missed in which runs.
    pub(super) fn misses(&self) -> Vec<String> {
        let misses = self.runs.iter().flat_map(|run| {
            let Figures { seed, lost, .. } = run;
            let percent = |what, share: f64, bound, target: f64| {
                let (share, target) = (share * 100.0, target * 100.0);
                format!(
                    "{}, seed {seed}: {what} {share:.3} %, {bound} {target} %",
                    self.name
                )
            };
            let (_, used) = run.binding();
            let Target {
                used: least,
                refused: most,
            } = self.target;
            let checks = [
                (used < least).then(|| percent("used", used, "at least", least)),
                (run.refused() > most).then(|| percent("refused", run.refused(), "at most", most)),
                (run.overshoot() > 0.0)
                    .then(|| percent("overshoot", run.overshoot(), "at most", 0.0)),
                (*lost > 0).then(|| {
                    let why = run.first_loss.as_deref().unwrap_or("unknown");
                    format!(
                        "{}, seed {seed}: {lost} answers lost, the first to: {why}",
                        self.name
                    )
                }),
            ];
            checks.into_iter().flatten()
        });
        misses.collect()
    }

    pub(super) fn holds(&self) -> bool {
        self.misses().is_empty()
    }

    pub(super) fn mean(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).sum::<f64>() / self.runs.len() as f64
    }

    pub(super) fn most(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).fold(f64::MIN, f64::max)
    }

    pub(super) fn least(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).fold(f64::MAX, f64::min)
    }
}
