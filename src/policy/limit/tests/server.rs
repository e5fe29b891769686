//! A server of known capacity, without chance, for trajectories.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::super::*;
use crate::policy::Timestamp;

/// Serves `servers` at once; others wait in line, up to `queue`, or are refused after 50 ms.
pub(super) struct Server {
    pub(super) servers: usize,
    pub(super) queue: usize,
    /// Service times, in turn.
    pub(super) service: Vec<Duration>,
    pub(super) is_down: bool,
    turn: usize,
    busy: usize,
    line: std::collections::VecDeque<Sample>,
    /// End, number of arrival, sample, whether a place was held.
    ends: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    calls: Vec<(Sample, bool)>,
    latencies: Vec<Duration>,
    in_flight: usize,
    now: Timestamp,
    pub(super) served: u64,
    pub(super) refused: u64,
}

impl Server {
    pub(super) fn new(servers: usize, service: impl IntoIterator<Item = u64>) -> Self {
        Self {
            servers,
            queue: usize::MAX,
            service: service.into_iter().map(Duration::from_millis).collect(),
            is_down: false,
            turn: 0,
            busy: 0,
            line: std::collections::VecDeque::new(),
            ends: BinaryHeap::new(),
            calls: Vec::new(),
            latencies: Vec::new(),
            in_flight: 0,
            now: Timestamp::ZERO,
            served: 0,
            refused: 0,
        }
    }

    /// How many calls took longer than `target` since this was asked last.
    pub(super) fn exceeding(&mut self, target: Duration) -> usize {
        let latencies = std::mem::take(&mut self.latencies);
        latencies
            .iter()
            .filter(|&&latency| latency > target)
            .count()
    }

    /// Keeps as many calls in flight as `limit` and `demand` allow, for `time`.
    pub(super) fn run(&mut self, limit: &mut dyn LimitAlgorithm, demand: usize, time: Duration) {
        let until = self.now + time;
        loop {
            while self.in_flight < limit.limit().min(demand) {
                self.send(limit.limit());
            }
            let Some(Reverse((end, _, call))) = self.ends.peek().copied() else {
                break;
            };
            if end > until {
                break;
            }
            self.ends.pop();
            self.now = end;
            self.finish(call, limit);
        }
        self.now = until;
    }

    fn send(&mut self, limit: usize) {
        self.in_flight += 1;
        let sample = Sample::new(Signal::Success, self.now, self.in_flight, limit);
        if self.is_down || (self.busy >= self.servers && self.line.len() >= self.queue) {
            self.refused += 1;
            let refused = Sample::new(Signal::Loss, self.now, self.in_flight, limit);
            self.end(refused, false, self.now + Duration::from_millis(50));
        } else if self.busy < self.servers {
            self.start(sample);
        } else {
            self.line.push_back(sample);
        }
    }

    fn start(&mut self, sample: Sample) {
        self.busy += 1;
        let service = self.service[self.turn % self.service.len()];
        self.turn += 1;
        self.end(sample, true, self.now + service);
    }

    fn end(&mut self, sample: Sample, holds_place: bool, at: Timestamp) {
        self.calls.push((sample, holds_place));
        let id = self.calls.len() - 1;
        self.ends.push(Reverse((at, id as u64, id)));
    }

    fn finish(&mut self, call: usize, limit: &mut dyn LimitAlgorithm) {
        let (sample, held_place) = self.calls[call];
        self.in_flight -= 1;
        let latency = self.now.since(sample.sent());
        if held_place {
            self.busy -= 1;
            self.served += 1;
            self.latencies.push(latency);
        }
        while self.busy < self.servers {
            let Some(next) = self.line.pop_front() else {
                break;
            };
            self.start(next);
        }
        limit.record(&sample.first_byte(latency).total(latency), self.now);
    }
}
