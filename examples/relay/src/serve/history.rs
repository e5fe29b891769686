//! How it went over the last minutes: a sample a second of each upstream, so that who opens the page
//! late sees what was before.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

/// How often a sample is taken.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Samples kept of each upstream: ten minutes, in about 40 KiB.
const KEPT: usize = 600;

/// What an upstream has counted since it began, and how it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Calls that the provider answered.
    pub(super) answered: u64,
    /// Calls that it refused: a quota, a key, credit.
    pub(super) refused_upstream: u64,
    /// Calls that failed at the provider's, or that it found wrong.
    pub(super) failed: u64,
    /// Calls that the relay refused, in the queue or by a breaker.
    pub(super) refused_here: u64,
    pub(super) waiting: u64,
    pub(super) in_flight: u64,
    /// None if there is none.
    pub(super) limit: Option<u64>,
}

/// The samples of every upstream, by name.
#[derive(Debug)]
pub(super) struct History {
    /// Tells this run of the relay from the one before it, whose cursors mean nothing here.
    run: String,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of all samples taken.
    count: u64,
    taken: Option<Instant>,
    upstreams: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    name: String,
    last: Reading,
    samples: VecDeque<Sample>,
}

/// What has been counted since the sample before it, and how it was at its end.
#[derive(Clone, Copy, Debug)]
struct Sample {
    ms: u64,
    since: Reading,
}

/// What `/-/history` tells.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// What to ask with, as `?after=`, for what comes next.
    cursor: String,
    /// Whether this is all there is, rather than what came after a cursor.
    is_whole: bool,
    upstreams: Vec<Columns>,
}

/// An item in each for every sample, the newest last.
#[derive(Debug, Default, Serialize)]
struct Columns {
    name: String,
    /// How long each took: more than a second if the machine slept or was busy.
    ms: Vec<u64>,
    answered: Vec<u64>,
    refused_upstream: Vec<u64>,
    failed: Vec<u64>,
    refused_here: Vec<u64>,
    waiting: Vec<u64>,
    in_flight: Vec<u64>,
    limit: Vec<Option<u64>>,
}

impl History {
    /// `run` is in every cursor.
    pub(super) fn new(run: String) -> Self {
        Self {
            run,
            kept: Mutex::default(),
        }
    }

    /// Takes a sample of what is served; who is served no more is forgotten.
    pub(super) fn take(&self, now: Instant, readings: Vec<(String, Reading)>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept.taken.replace(now).unwrap_or(now);
        let ms = now.saturating_duration_since(taken).as_millis() as u64;
        kept.count += 1;
        let mut before = std::mem::take(&mut kept.upstreams);
        let rings = readings.into_iter().map(|(name, reading)| {
            match before.iter().position(|ring| ring.name == name) {
                Some(place) => {
                    let mut ring = before.swap_remove(place);
                    ring.push(ms, reading);
                    ring
                }
                // What it counted before there was somebody to watch is of no second.
                None => Ring {
                    name,
                    last: reading,
                    samples: VecDeque::new(),
                },
            }
        });
        kept.upstreams = rings.collect();
    }

    /// The samples after `cursor`, or all if it is not one of this run's.
    pub(super) fn after(&self, cursor: Option<&str>) -> Told {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = cursor.and_then(|cursor| {
            let (run, count) = cursor.split_once('-')?;
            let count = count.parse().ok()?;
            (run == self.run && count <= kept.count).then_some(count)
        });
        let new = seen.map_or(u64::MAX, |seen: u64| kept.count - seen);
        Told {
            cursor: format!("{}-{}", self.run, kept.count),
            is_whole: seen.is_none(),
            upstreams: kept.upstreams.iter().map(|ring| ring.last(new)).collect(),
        }
    }
}

impl Ring {
    fn push(&mut self, ms: u64, reading: Reading) {
        // A scope that is gone takes its counts with it.
        let last = std::mem::replace(&mut self.last, reading);
        let since = Reading {
            answered: reading.answered.saturating_sub(last.answered),
            refused_upstream: reading
                .refused_upstream
                .saturating_sub(last.refused_upstream),
            failed: reading.failed.saturating_sub(last.failed),
            refused_here: reading.refused_here.saturating_sub(last.refused_here),
            ..reading
        };
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { ms, since });
    }

    fn last(&self, count: u64) -> Columns {
        let old = usize::try_from(count).map_or(0, |new| self.samples.len().saturating_sub(new));
        let samples = || self.samples.iter().skip(old);
        let column = |of: fn(&Reading) -> u64| {
            samples()
                .map(|sample| of(&sample.since))
                .collect::<Vec<_>>()
        };
        Columns {
            name: self.name.clone(),
            ms: samples().map(|sample| sample.ms).collect(),
            answered: column(|reading| reading.answered),
            refused_upstream: column(|reading| reading.refused_upstream),
            failed: column(|reading| reading.failed),
            refused_here: column(|reading| reading.refused_here),
            waiting: column(|reading| reading.waiting),
            in_flight: column(|reading| reading.in_flight),
            limit: samples().map(|sample| sample.since.limit).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(answered: u64) -> Reading {
        Reading {
            answered,
            waiting: answered * 10,
            ..Reading::default()
        }
    }

    /// Samples at whole seconds of one upstream that has answered so many by then.
    fn sampled(answered: impl IntoIterator<Item = u64>) -> History {
        let history = History::new("run".to_owned());
        let began = Instant::now();
        for (second, answered) in answered.into_iter().enumerate() {
            let now = began + EVERY * second as u32;
            history.take(now, vec![("a".to_owned(), reading(answered))]);
        }
        history
    }

    #[test]
    fn a_sample_is_what_was_counted_since_the_last_and_how_it_is_now() {
        let told = sampled([5, 7, 7, 3, 4]).after(None);
        assert!(told.is_whole);
        assert_eq!(told.cursor, "run-5");
        let columns = &told.upstreams[0];
        assert_eq!(columns.name, "a");
        assert_eq!(columns.answered, [2, 0, 0, 1]);
        assert_eq!(columns.waiting, [70, 70, 30, 40]);
        assert_eq!(columns.ms, [1_000; 4]);
        assert_eq!(columns.limit, [None; 4]);
    }

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let told = sampled(0..2_000).after(None);
        assert_eq!(told.upstreams[0].waiting.len(), 600);
        assert_eq!(told.upstreams[0].waiting[0], 14_000);
        assert_eq!(told.upstreams[0].waiting[599], 19_990);
    }

    #[test]
    fn a_cursor_gets_what_came_after_it_and_one_of_another_run_gets_all() {
        let history = sampled(0..10);
        for (cursor, expected) in [
            ("run-10", 0),
            ("run-8", 2),
            ("run-0", 9),
            ("run-11", 9),
            ("other-8", 9),
            ("run-", 9),
            ("8", 9),
        ] {
            let told = history.after(Some(cursor));
            assert_eq!(told.upstreams[0].ms.len(), expected, "{cursor}");
        }
        assert!(!history.after(Some("run-8")).is_whole);
        assert!(history.after(Some("other-8")).is_whole);
    }

    #[test]
    fn who_is_served_no_more_is_forgotten_and_who_is_new_begins_with_nothing() {
        let history = sampled(0..3);
        let now = Instant::now() + EVERY * 3;
        history.take(now, vec![("b".to_owned(), reading(50))]);
        history.take(now + EVERY, vec![("b".to_owned(), reading(51))]);
        let told = history.after(None);
        assert_eq!(told.upstreams.len(), 1);
        assert_eq!(told.upstreams[0].name, "b");
        assert_eq!(told.upstreams[0].answered, [1]);
    }
}
