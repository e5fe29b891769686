//! What the runs of a row are worth.

use std::{collections::HashMap, ops::Range, time::Duration};

use super::{
    row::{Event, Row},
    run::Record,
};

/// Targets of the design.
const STAYED: f64 = 0.90;
const LARGEST: f64 = 1.25;
const USED: f64 = 0.99;
/// Sessions that move though their key is there, beyond those of the same run without the removal:
/// loads are evened in either, and not by the same moves. That the removal itself moves none is for
/// the policy's tests, which ask the same pool with and without it.
const MOVED: f64 = 4.0;
/// What is looked at of the time before the event and after it, to tell who moved.
const AROUND: Duration = Duration::from_secs(300);
/// A session with fewer calls in that time has no main key there.
const FEWEST: usize = 10;

/// One run with affinity beside the same without.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// The part of the calls that were with their session's main key.
    pub(super) stayed: f64,
    pub(super) stayed_without: f64,
    /// The load of the key with the largest over the mean.
    pub(super) largest: f64,
    /// Calls served over those served without affinity.
    pub(super) used: f64,
    /// Sessions whose main key is another after the event though the first is there still.
    pub(super) moved: usize,
    /// The same of the same run, if this has a removal, without that.
    pub(super) moved_anyway: Option<usize>,
    /// The part of the tokens of prompts that were cached.
    pub(super) cached: f64,
    pub(super) cached_without: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) p99_without: Duration,
}

#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) row: Row,
    pub(super) runs: Vec<Figures>,
}

impl Figures {
    pub(super) fn new(row: &Row, with: &Record, without: &Record, twin: Option<&Record>) -> Self {
        let percentile = |record: &Record, share: f64| {
            let at = (record.waits.len() as f64 * share) as usize;
            record.waits.get(at).copied().unwrap_or_default()
        };
        Self {
            stayed: stayed(row, with),
            stayed_without: stayed(row, without),
            largest: with
                .settled
                .iter()
                .map(|range| largest(row, with, range))
                .fold(0.0, f64::max),
            used: with.seen.len() as f64 / without.seen.len() as f64,
            moved: moved(with, with.removed),
            moved_anyway: twin.map(|twin| moved(twin, with.removed)),
            cached: cached(with),
            cached_without: cached(without),
            p50: percentile(with, 0.5),
            p99: percentile(with, 0.99),
            p99_without: percentile(without, 0.99),
        }
    }

    /// By how much more sessions moved than without the removal.
    pub(super) fn moved_more(&self) -> f64 {
        self.moved_anyway
            .map_or(0.0, |anyway| self.moved as f64 - anyway as f64)
    }
}

impl Verdict {
    pub(super) fn mean(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).sum::<f64>() / self.runs.len() as f64
    }

    pub(super) fn most(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).fold(f64::MIN, f64::max)
    }

    pub(super) fn least(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.runs.iter().map(figure).fold(f64::MAX, f64::min)
    }

    pub(super) fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        let mut check = |is_kept: bool, what: String| {
            if !is_kept {
                misses.push(format!("{}: {what}", self.row.name()));
            }
        };
        let stayed = self.least(|run| run.stayed);
        check(
            stayed >= STAYED,
            format!("{stayed:.3} stayed with their key, not {STAYED}"),
        );
        let largest = self.most(|run| run.largest);
        let is_possible = self.row.has_room_for_the_largest();
        check(
            largest <= LARGEST || !is_possible,
            format!("a key has {largest:.3} of the mean load, not {LARGEST}"),
        );
        let used = self.least(|run| run.used);
        check(
            used >= USED,
            format!("{used:.3} of the calls served, not {USED}"),
        );
        let moved = self.mean(Figures::moved_more);
        check(
            moved <= MOVED,
            format!("{moved} sessions more than without the removal moved"),
        );
        misses
    }
}

/// Of the calls of each half, or of all if nothing is taken away or added.
fn stayed(row: &Row, record: &Record) -> f64 {
    let halves: &[Range<Duration>] = match row.event {
        Event::Nothing | Event::Rest => &[Duration::ZERO..record.end],
        _ => &[Duration::ZERO..record.middle, record.middle..Duration::MAX],
    };
    let (mut main, mut all) = (0, 0);
    for range in halves {
        for keys in by_session(record, range).values() {
            main += keys.values().max().copied().unwrap_or_default();
            all += keys.values().sum::<usize>();
        }
    }
    main as f64 / all as f64
}

fn largest(row: &Row, record: &Record, range: &Range<Duration>) -> f64 {
    let mut keys: HashMap<usize, usize> = HashMap::new();
    for seen in record.seen.iter().filter(|seen| range.contains(&seen.at)) {
        *keys.entry(seen.key).or_default() += 1;
    }
    let is_after = range.start > record.middle;
    let removed = record.removed.filter(|_| is_after);
    let scopes = row.scopes + usize::from(is_after && row.event == Event::ScopeAdded)
        - usize::from(removed.is_some() && row.keys == 1);
    let mean = keys.values().sum::<usize>() as f64 / scopes as f64;
    // Of a scope that has lost a key the others have more each: its quota is the same.
    let shares = keys.iter().map(|(key, calls)| {
        let scope = key / row.keys;
        let is_bereft = removed.is_some_and(|removed| removed / row.keys == scope);
        *calls as f64 * (row.keys - usize::from(is_bereft)) as f64
    });
    shares.fold(0.0, f64::max) / mean
}

fn moved(record: &Record, removed: Option<usize>) -> usize {
    let main = |range: &Range<Duration>| -> HashMap<usize, usize> {
        let sessions = by_session(record, range).into_iter();
        let often = sessions.filter(|(_, keys)| keys.values().sum::<usize>() >= FEWEST);
        often
            .filter_map(|(session, keys)| {
                let main = keys.into_iter().max_by_key(|&(key, calls)| (calls, key));
                Some((session, main?.0))
            })
            .collect()
    };
    let middle = record.middle;
    let [before, after] = [
        middle.saturating_sub(AROUND)..middle,
        middle..middle + AROUND,
    ]
    .map(|range| main(&range));
    before
        .iter()
        .filter(|&(_, key)| Some(*key) != removed)
        .filter(|&(session, key)| after.get(session).is_some_and(|now| now != key))
        .count()
}

fn cached(record: &Record) -> f64 {
    let all: u64 = record.seen.iter().map(|seen| seen.tokens).sum();
    let cached = record.seen.iter().filter(|seen| seen.is_cached);
    cached.map(|seen| seen.tokens).sum::<u64>() as f64 / all as f64
}

fn by_session(record: &Record, range: &Range<Duration>) -> HashMap<usize, HashMap<usize, usize>> {
    let mut sessions: HashMap<usize, HashMap<usize, usize>> = HashMap::new();
    for seen in record.seen.iter().filter(|seen| range.contains(&seen.at)) {
        *sessions
            .entry(seen.session)
            .or_default()
            .entry(seen.key)
            .or_default() += 1;
    }
    sessions
}
