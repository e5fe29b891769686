use std::time::Duration;

use super::{
    Bounds, Change, LimitAlgorithm, Reason, Sample, Signal, When,
    losses::Losses,
    sizing::Sizing,
    window::{Centre, Window},
};
use crate::policy::Timestamp;

/// As many calls as the server serves at once, and a few more: an estimate of its queue.
///
/// TODO
#[derive(Clone, Debug)]
pub struct SizedVegas {
    bounds: Bounds,
    limit: f64,
    phase: Phase,
    window: Window,
    baseline: Option<Baseline>,
    losses: Losses,
    sizing: Option<Sizing>,
    /// A moving mean of the latency: a round trip, in seconds.
    round_trip: f64,
    /// Windows in a row without a queue.
    clear: i32,
    /// The next look without a queue.
    probe_due: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Doubling, up to a limit.
    SlowStart { until: f64 },
    /// Following the queue.
    Steady,
    /// Below what the server serves, to see its latency without a queue.
    Probe(Probe),
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    began: Timestamp,
    /// What was seen at the limit before.
    back_to: f64,
    rate: f64,
    mean: f64,
    /// The limit and the latency of the last stage.
    stage_limit: f64,
    stage_mean: f64,
    stage_variance: f64,
}

/// The latency when nobody waits.
#[derive(Clone, Copy, Debug)]
struct Baseline {
    mean: f64,
    variance: f64,
    count: f64,
    /// Whether a lower limit has shown that nobody waited.
    is_confirmed: bool,
}

impl Baseline {
    const fn of(centre: Centre, is_confirmed: bool) -> Self {
        Self {
            mean: centre.mean,
            variance: centre.variance,
            count: centre.count,
            is_confirmed,
        }
    }

    /// Averages another reading in, each with the weight of its calls.
    fn merge(&mut self, centre: Centre) {
        let share = centre.count / (self.count + centre.count);
        self.mean += share * (centre.mean - self.mean);
        let keep = 1.0 - share;
        self.variance = keep * keep * self.variance + share * share * centre.variance;
        self.count = (self.count + centre.count).min(BASELINE_MEMORY);
    }
}

/// The queue to keep, in square roots of the limit: chance moves the number of calls that a
/// server holds by about its root, so a shorter queue runs dry and a longer one only waits.
const TARGET: f64 = 0.8;
const FEWEST: u32 = 16;
const MOST_ROUNDS: f64 = 8.0;
const BASELINE_MEMORY: f64 = 1_024.0;
const DEPTH: f64 = 0.9;
const DEEPEST: f64 = 0.5;
const PROBE_SHARE: u32 = 30;
const PROPORTIONAL: f64 = 0.75;

impl SizedVegas {
    /// Starts at the first limit of `bounds`.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let mut window = Window::new();
        window.reopen(Timestamp::ZERO, 4);
        Self {
            bounds,
            limit: bounds.initial() as f64,
            phase: Phase::SlowStart {
                until: f64::INFINITY,
            },
            window,
            baseline: None,
            losses: Losses::new(bounds),
            sizing: None,
            round_trip: 0.0,
            clear: 0,
            probe_due: Timestamp::ZERO,
        }
    }

    /// Judges by the whole latency, less what the [size](Sample::size) explains.
    #[must_use]
    pub fn by_size(mut self) -> Self {
        self.sizing = Some(Sizing::default());
        self
    }

    fn success(&mut self, sample: &Sample, now: Timestamp) -> Option<Reason> {
        if let Some(before) = self.losses.success(sample, now) {
            self.phase = Phase::SlowStart { until: before };
            self.restart(now, now);
        }
        let latency = self.latency(sample)?;
        let weight = if self.round_trip == 0.0 { 1.0 } else { 1.0 / 16.0 };
        self.round_trip += weight * (latency - self.round_trip);
        if !self
            .window
            .add(latency, sample.is_at_limit(), sample.sent(), now)
        {
            return None;
        }
        let rate = self.window.rate(now)?;
        let centre = self.window.centre()?;
        match self.phase {
            Phase::SlowStart { until } => self.slow_start(until, centre, rate, now),
            Phase::Steady => self.steady(centre, rate, now),
            Phase::Probe(probe) => self.probe(probe, centre, rate, now),
        }
    }

    fn latency(&mut self, sample: &Sample) -> Option<f64> {
        match &mut self.sizing {
            None => sample.latency(),
            Some(sizing) => {
                let total = sample.to_end()?.as_secs_f64();
                let size = sample.known_size().unwrap_or(0);
                Some(sizing.normalised(total, size))
            }
        }
    }

    fn target(&self) -> f64 {
        TARGET * self.limit.sqrt()
    }

    /// Calls that wait, and the standard error of that number: Little's law on the wait.
    fn queue(&self, centre: Centre, rate: f64) -> (f64, f64) {
        self.baseline.map_or((0.0, 0.0), |baseline| {
            let queue = rate * (centre.mean - baseline.mean);
            let error = rate * (centre.variance + baseline.variance).sqrt();
            (queue.min(self.limit), error)
        })
    }

    fn slow_start(
        &mut self,
        until: f64,
        centre: Centre,
        rate: f64,
        now: Timestamp,
    ) -> Option<Reason> {
        let (queue, error) = self.queue(centre, rate);
        if queue - 2.0 * error > self.target() {
            return self.start_probe(queue, centre, rate, now);
        }
        match &mut self.baseline {
            None => self.baseline = Some(Baseline::of(centre, false)),
            Some(baseline) => baseline.merge(centre),
        }
        if !self.window.is_saturated() {
            self.restart_steady(now);
            return None;
        }
        let most = until.min(self.losses.cap());
        let next = (self.limit * 2.0).min(most);
        if next >= most {
            self.phase = Phase::Steady;
        }
        self.move_to(next.max(self.limit));
        self.restart(now, now);
        Some(Reason::Room)
    }

    fn steady(&mut self, centre: Centre, rate: f64, now: Timestamp) -> Option<Reason> {
        let (queue, error) = self.queue(centre, rate);
        let target = self.target();
        let off = queue - target;
        let enough = error <= target / 2.0
            || off.abs() > 3.0 * error
            || f64::from(self.window.count()) >= MOST_ROUNDS * self.limit.max(4.0);
        let round = now.since(self.window.opened()).as_secs_f64() >= self.round_trip;
        if !enough || !round {
            if enough {
                self.window.look_soon();
            } else {
                self.window.look_later();
            }
            return None;
        }
        if !self.window.is_saturated() {
            if queue.abs() <= target.max(2.0 * error) {
                if let Some(baseline) = &mut self.baseline {
                    baseline.merge(centre);
                }
            }
            self.clear = 0;
            self.restart_steady(now);
            return None;
        }
        if off > target + 2.0 * error {
            return self.start_probe(queue, centre, rate, now);
        }
        let is_limited = queue > target / 3.0;
        if is_limited && now >= self.probe_due {
            return self.start_probe(queue, centre, rate, now);
        }
        self.clear = if is_limited { 0 } else { (self.clear + 1).min(6) };
        let certain = off * off / (off * off + 4.0 * error * error);
        let step = -off * certain;
        let next = if step > 0.0 {
            let step = step * f64::from(self.clear.max(1) - 1).exp2();
            (self.limit + step.min(self.limit / 2.0)).min(self.losses.cap().max(self.limit))
        } else {
            self.limit + step
        };
        let is_large = (next - self.limit).abs() > self.limit / 10.0;
        let reason = if step > 0.0 { Reason::Room } else { Reason::Queue };
        self.move_to(next);
        if is_large {
            self.restart(now, now);
        } else {
            self.restart_steady(now);
        }
        Some(reason)
    }

    fn start_probe(
        &mut self,
        queue: f64,
        centre: Centre,
        rate: f64,
        now: Timestamp,
    ) -> Option<Reason> {
        let below = ((self.limit - queue) * DEPTH).clamp(self.limit * DEEPEST, self.limit - 1.0);
        self.phase = Phase::Probe(Probe {
            began: now,
            back_to: self.limit,
            rate,
            mean: centre.mean,
            stage_limit: self.limit,
            stage_mean: centre.mean,
            stage_variance: centre.variance,
        });
        self.move_to(below.floor());
        self.restart(now, now + self.settling());
        Some(Reason::Probe)
    }

    fn probe(
        &mut self,
        probe: Probe,
        centre: Centre,
        rate: f64,
        now: Timestamp,
    ) -> Option<Reason> {
        let (queue, _) = self.queue(centre, rate);
        let target = TARGET * probe.back_to.sqrt();
        let error = rate * centre.variance.sqrt();
        let most = (MOST_ROUNDS * self.limit).max(2.0 * f64::from(FEWEST));
        if error > target / 3.0 && f64::from(self.window.count()) < most {
            self.window.look_later();
            return None;
        }
        // Does the latency fall as it would if everybody at both limits waited?
        let fall = probe.stage_mean - centre.mean;
        let fall_error = (probe.stage_variance + centre.variance).sqrt();
        let whole_fall = (probe.stage_limit - self.limit) / rate;
        let is_known = self.baseline.is_some_and(|baseline| {
            baseline.is_confirmed
                && centre.mean - baseline.mean
                    <= 2.0 * (baseline.variance + centre.variance).sqrt()
        });
        let is_deeper_possible = self.limit > self.bounds.min() as f64;
        if !is_known
            && is_deeper_possible
            && fall >= PROPORTIONAL * whole_fall
            && fall > 2.0 * fall_error
        {
            self.phase = Phase::Probe(Probe {
                stage_limit: self.limit,
                stage_mean: centre.mean,
                stage_variance: centre.variance,
                ..probe
            });
            let below = ((self.limit - queue) * DEPTH)
                .clamp(self.limit * DEEPEST, (self.limit - 1.0).max(1.0));
            self.move_to(below.floor());
            self.restart(now, now + self.settling());
            return Some(Reason::Probe);
        }
        let baseline = match self.baseline {
            Some(mut baseline)
                if (centre.mean - baseline.mean).abs()
                    <= 3.0 * (baseline.variance + centre.variance).sqrt() =>
            {
                baseline.merge(centre);
                baseline.is_confirmed = true;
                baseline
            }
            _ => Baseline::of(centre, true),
        };
        self.baseline = Some(baseline);
        // What waited before, by what is known now.
        let waited = (probe.rate * (probe.mean - baseline.mean)).clamp(0.0, probe.back_to);
        let next = if waited > 0.0 {
            probe.back_to - waited + TARGET * (probe.back_to - waited).max(1.0).sqrt()
        } else {
            probe.back_to
        };
        self.move_to(next.min(probe.back_to.max(self.limit)));
        self.probe_due = now + now.since(probe.began) * PROBE_SHARE;
        self.phase = Phase::Steady;
        self.clear = 0;
        self.restart(now, now + self.settling());
        Some(Reason::ProbeEnd)
    }

    fn settling(&self) -> Duration {
        Duration::try_from_secs_f64(self.round_trip).unwrap_or(Duration::MAX)
    }

    fn move_to(&mut self, limit: f64) {
        self.limit = self.bounds.clamp(limit);
    }

    /// A new window, of calls sent from now on alone.
    fn restart(&mut self, since: Timestamp, settled: Timestamp) {
        let first = match self.phase {
            Phase::SlowStart { .. } => ((self.limit / 2.0) as u32).max(4),
            _ => FEWEST,
        };
        self.window.reopen(settled, first);
        self.window.only(since, settled);
    }

    /// A new window of whatever finishes from now on.
    fn restart_steady(&mut self, now: Timestamp) {
        let first = match self.phase {
            Phase::SlowStart { .. } => ((self.limit / 2.0) as u32).max(4),
            _ => FEWEST,
        };
        self.window.reopen(now, first);
    }
}

impl Default for SizedVegas {
    /// From 8, between 1 and 1,000, by the time to the first byte.
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl LimitAlgorithm for SizedVegas {
    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn record(&mut self, sample: &Sample, now: Timestamp) -> Option<Change> {
        let from = self.limit();
        let reason = match sample.signal() {
            Signal::Success => self.success(sample, now)?,
            Signal::Neutral => return None,
            signal => {
                let (limit, reason) = if signal == Signal::Loss {
                    self.losses.loss(sample, self.limit, now)?
                } else {
                    self.losses.failure(sample, self.limit, now)?
                };
                self.limit = limit;
                self.phase = Phase::Steady;
                self.clear = 0;
                self.restart(now, now);
                reason
            }
        };
        let to = self.limit();
        (from != to).then(|| Change::new(from, to, reason))
    }

    fn when(&self) -> When {
        if self.sizing.is_some() {
            When::End
        } else {
            When::FirstByte
        }
    }
}
