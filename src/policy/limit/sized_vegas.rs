use std::time::Duration;

use super::{
    Bounds, Change, LimitAlgorithm, Reason, Sample, Signal, When,
    baseline::Baseline,
    losses::Losses,
    sizing::Sizing,
    window::{Centre, Window},
};
use crate::policy::Timestamp;

/// As many calls as the server serves at once and a short line behind them, from an estimate of
/// how many wait. **The default.**
///
/// By Little's law, calls that each wait longer by `w` at `x` calls a second are `x × w` in line.
/// So the limit moves by the difference between that line and the one wanted, 0.85 times the root
/// of what is served at once: in one step if the estimate is sharp, by less the vaguer it is. A refusal of the
/// server cuts it as it does [`Aimd`](super::Aimd)'s limit, whose memory of the last ceiling and of
/// outages it shares.
///
/// What a call waits is judged by its time to the first byte, which does not depend on how long
/// the answer gets; with [`by_size`](Self::by_size) by the whole latency less what the answer's size
/// explains.
///
/// * **Which latency.** The mean from the tenth to the sixtieth percentile of a window: a common
///   wait moves all of it alike, a few very slow calls move it not at all. A window lasts until
///   its standard error is half of the line wanted, so that it adapts to any rate, and at
///   least a round trip.
/// * **Longer than what.** Than the same mean when nobody waits. That is never a minimum: a
///   minimum of noise goes ever lower. It is measured by probes: the limit goes below what the
///   server serves for a moment. If the latency falls in proportion, everybody still waited,
///   and the probe goes on deeper; if it does not fall at all, the server itself became slower, and
///   the limit returns to where it was. A long line starts a probe too, so a mix of longer calls
///   is told from congestion before it costs anything. Until a first probe has confirmed it, a
///   baseline may be a line's, so that one halves the limit until the latency stops to follow.
///   Readings that keep to one side of the baseline are a server that is changing, and are followed.
///   Probes take a thirtieth of the time at most, and none while no line is seen, but where the
///   baseline is vague or moving, or the limit has doubled since.
/// * **Growth** starts by doubling and again gathers speed while no line shows. Only windows
///   in which most calls were sent at nine tenths of the limit or more raise it.
///
/// Sources: TCP Vegas (Brakmo and Peterson 1995: the queue from the latency above the least one),
/// BBR (Cardwell and others 2016: the bandwidth-delay product in one step, probes of the
/// unloaded latency by draining), square-root staffing (Halfin and Whitt 1981) for the line.
/// Deviations: a trimmed mean and its error instead of minima, the line from the rate instead of the
/// window, steps weighted by their certainty instead of by one, and everything about losses.
///
/// ```
/// use std::time::Duration;
/// use tower_relay::policy::{Timestamp, limit::{LimitAlgorithm, Sample, Signal, SizedVegas}};
///
/// let mut limit = SizedVegas::default();
/// let mut now = Timestamp::ZERO;
/// for _ in 0..40 {
///     // As many calls as it allows, each answered after 300 ms: nobody waits.
///     let in_flight = limit.limit();
///     for _ in 0..in_flight {
///         let sample = Sample::new(Signal::Success, now, in_flight, in_flight)
///             .first_byte(Duration::from_millis(300));
///         limit.record(&sample, now + Duration::from_millis(300));
///     }
///     now = now + Duration::from_millis(300);
/// }
/// assert!(limit.limit() > 100);
/// ```
#[derive(Clone, Debug)]
pub struct SizedVegas {
    bounds: Bounds,
    limit: f64,
    phase: Phase,
    window: Window,
    baseline: Option<Baseline>,
    losses: Losses,
    sizing: Option<Sizing>,
    /// Whether the first window is over.
    has_begun: bool,
    /// A moving mean of the latency: a round trip, in seconds.
    round_trip: f64,
    /// Windows in a row without a queue.
    clear: i32,
    /// The queue, averaged over some windows.
    mean_queue: f64,
    /// The next look without a queue.
    probe_due: Timestamp,
    /// The limit after the last.
    probed_at: f64,
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
    before: Stage,
    /// What was seen last.
    last: Stage,
    stages: u32,
}

/// What was seen at one limit.
#[derive(Clone, Copy, Debug)]
struct Stage {
    limit: f64,
    rate: f64,
    centre: Centre,
}

impl Stage {
    /// Calls that waited, and the standard error of that number.
    fn waited(&self, baseline: &Baseline) -> (f64, f64) {
        let waited = self.rate * (self.centre.mean - baseline.mean);
        let error = self.rate * (self.centre.variance + baseline.variance).sqrt();
        (waited, error)
    }
}

/// The line to keep, in square roots of the limit: chance moves the number of calls that a server
/// holds by about its root, so a shorter line runs dry and a longer one only waits.
const TARGET: f64 = 0.85;

/// Fewest calls in a window: below, its error cannot be told.
const FEWEST: u32 = 16;

/// Most calls in a window, in limits: what is still vague then is so by nature.
const MOST_ROUNDS: f64 = 8.0;

/// Calls that replace a baseline of as many or more by a lower one. Of hundreds of probes some
/// see 32 calls that are quick by chance, and by theirs everybody seems to wait ever after.
const REFUTED_BY: f64 = 256.0;

/// A probe's share of what the server serves: enough below to empty the line, whatever the
/// estimate's error, and little to lose.
const DEPTH: f64 = 0.9;

/// The lowest share of the limit that one stage of a probe goes down to: a mistaken one then
/// costs half of the throughput for a moment, and five stages reach a thirtieth.
const DEEPEST: f64 = 0.5;

/// Between two probes lies this many times what the last one took: at a tenth of the throughput
/// each, they cost a third of a percent.
const PROBE_SHARE: u32 = 30;

/// The same while the baseline is vague: a wrong one costs more than looking again.
const PROBE_SHARE_VAGUE: u32 = 8;

/// A limit of this many times that of the last probe asks for another at once: it was short of
/// calls then, and long in coming.
const OUTGROWN: f64 = 2.0;

/// The share of a whole fall in latency that says that everybody still waits: an empty line
/// gives at most half of it, with errors of a tenth.
const PROPORTIONAL: f64 = 0.75;

/// The same while nothing is confirmed: too deep costs a moment, not deep enough all that comes.
const PROPORTIONAL_AT_FIRST: f64 = 0.5;

/// The share of it below which the latency does not respond to the limit at all: that is the
/// server's own.
const UNRESPONSIVE: f64 = 0.25;

/// Share of the way to the last ceiling that a window without a line makes.
const CATCH_UP: f64 = 0.25;

/// Share of a window in the mean line, which decides whether it is time for a probe.
const QUEUE_SHARE: f64 = 0.25;

/// What a single call counts for in it at most, in mean round trips.
const LONGEST_IN_ROUND_TRIPS: f64 = 8.0;

/// Share of a call in the mean round trip.
const ROUND_TRIP_SHARE: f64 = 1.0 / 16.0;

/// The line to keep of a limit that holds it and what is served.
fn line_within(limit: f64) -> f64 {
    let root_of_served = (TARGET * TARGET / 4.0 + limit).sqrt() - TARGET / 2.0;
    TARGET * root_of_served
}

impl SizedVegas {
    /// Starts at the first limit of `bounds`.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let mut window = Window::new();
        window.reopen(Timestamp::ZERO, bounds.initial() as u32);
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
            has_begun: false,
            round_trip: 0.0,
            clear: 0,
            mean_queue: 0.0,
            probe_due: Timestamp::ZERO,
            probed_at: 0.0,
        }
    }

    /// Judges by the whole latency, less what the [size](Sample::size) explains: for answers
    /// that come at once, so that their first byte says nothing. A call of unknown size counts as
    /// one of size zero.
    ///
    /// A server that becomes slower with each call it works on, while it still gets more done,
    /// looks a little like one with a line this way; by the first byte it does not.
    #[must_use]
    pub fn by_size(mut self) -> Self {
        self.sizing = Some(Sizing::default());
        self
    }

    fn success(&mut self, sample: &Sample, now: Timestamp) -> Option<Reason> {
        if let Some(before) = self.losses.success(sample, now) {
            self.phase = Phase::SlowStart { until: before };
            self.restart(now);
        }
        let latency = self.latency(sample)?;
        if self.round_trip == 0.0 {
            self.round_trip = latency;
        }
        // One call that took an hour must not make the windows wait for hours.
        let latency_at_most = latency.min(LONGEST_IN_ROUND_TRIPS * self.round_trip);
        self.round_trip += ROUND_TRIP_SHARE * (latency_at_most - self.round_trip);
        if !self
            .window
            .add(latency, sample.is_at_limit(), sample.sent(), now)
        {
            return None;
        }
        let is_young = now.since(self.window.opened()).as_secs_f64() < self.round_trip;
        if matches!(self.phase, Phase::Steady) && is_young {
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

    fn is_confirmed(&self) -> bool {
        self.baseline.is_some_and(|baseline| baseline.is_confirmed)
    }

    fn target(&self) -> f64 {
        line_within(self.limit)
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
            // The quick ones of the first calls came back first: what they took says nothing.
            None if !self.has_begun => {}
            None => self.baseline = Some(Baseline::of(centre, false)),
            Some(baseline) => baseline.merge(centre),
        }
        self.has_begun = true;
        if !self.window.is_saturated() {
            self.reopen(now);
            return None;
        }
        let most = until.min(self.losses.cap());
        let next = (self.limit * 2.0).min(most);
        if next >= most {
            self.phase = Phase::Steady;
        }
        self.move_to(next.max(self.limit));
        self.restart(now);
        Some(Reason::Room)
    }

    fn steady(&mut self, centre: Centre, rate: f64, now: Timestamp) -> Option<Reason> {
        let (queue, error) = self.queue(centre, rate);
        let target = self.target();
        let off = queue - target;
        let is_limited = queue > target / 3.0;
        // Below the level of the last loss the server has already shown that it has room.
        let known_room = if self.losses.ceiling().is_finite() && !is_limited {
            (self.losses.cap() - self.limit).max(0.0)
        } else {
            0.0
        };
        let is_certain = error <= target / 2.0
            || off.abs() > 3.0 * error
            || f64::from(self.window.count()) >= MOST_ROUNDS * self.limit.max(4.0);
        if !is_certain && known_room == 0.0 {
            self.window.look_later();
            return None;
        }
        if !self.window.is_saturated() {
            if queue.abs() <= target.max(2.0 * error) {
                if let Some(baseline) = &mut self.baseline {
                    baseline.merge(centre);
                }
            }
            self.clear = 0;
            self.reopen(now);
            return None;
        }
        if let Some(baseline) = &mut self.baseline {
            // Nobody waits, and this says it better.
            if queue <= 0.0 && centre.variance < baseline.variance {
                baseline.merge(centre);
            }
        }
        self.mean_queue += QUEUE_SHARE * (queue - self.mean_queue);
        let is_confirmed = self.is_confirmed();
        if !is_confirmed && self.limit > self.bounds.min() as f64 {
            // Until a lower limit has been seen, everybody may wait at this one.
            return self.start_probe(queue, centre, rate, now);
        }
        // Few calls at a low limit leave a baseline that is too vague for a higher one.
        let is_vague = self
            .baseline
            .is_some_and(|baseline| rate * baseline.variance.sqrt() > target / 2.0);
        let is_time = now >= self.probe_due || self.limit >= OUTGROWN * self.probed_at;
        let is_due = is_time && (is_vague || self.mean_queue > target / 2.0);
        let is_long = off > target + 2.0 * error;
        if self.limit > self.bounds.min() as f64 && (is_long || (is_limited && is_due)) {
            return self.start_probe(queue, centre, rate, now);
        }
        self.clear = if is_limited {
            0
        } else {
            (self.clear + 1).min(6)
        };
        let certain = off * off / (off * off + 4.0 * error * error);
        let (step, reason) = if known_room > 0.0 {
            (
                known_room.min((known_room * CATCH_UP).max(1.0)),
                Reason::Room,
            )
        } else if off < 0.0 {
            let step = -off * certain * f64::from(self.clear.max(1) - 1).exp2();
            let most = (self.losses.cap() - self.limit).max(0.0);
            (step.min(self.limit / 2.0).min(most), Reason::Room)
        } else {
            (-off * certain, Reason::Queue)
        };
        let is_large = step.abs() > self.limit / 10.0;
        self.move_to(self.limit + step);
        if is_large {
            self.restart(now);
        } else {
            self.reopen(now);
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
        let below = self.below(queue, false);
        let before = Stage {
            limit: self.limit,
            rate,
            centre,
        };
        self.phase = Phase::Probe(Probe {
            began: now,
            before,
            last: before,
            stages: 0,
        });
        self.move_to(below);
        self.restart_probe(now);
        Some(Reason::Probe)
    }

    /// The limit of a probe's next stage: below what the server serves. Where the baseline is not
    /// confirmed, or refuted, nobody knows how many wait.
    fn below(&self, queue: f64, is_refuted: bool) -> f64 {
        let deepest = self.limit * DEEPEST;
        let below = if self.is_confirmed() && !is_refuted {
            ((self.limit - queue) * DEPTH).max(deepest)
        } else {
            deepest
        };
        below.min(self.limit - 1.0).floor()
    }

    fn probe(&mut self, probe: Probe, centre: Centre, rate: f64, now: Timestamp) -> Option<Reason> {
        let (queue, _) = self.queue(centre, rate);
        let Probe { before, last, .. } = probe;
        let target = line_within(before.limit);
        let error = rate * centre.variance.sqrt();
        let most = (MOST_ROUNDS * self.limit).max(4.0 * f64::from(FEWEST));
        let is_vague = error > target / 3.0 || self.window.count() < 2 * FEWEST;
        let is_refuted = self
            .baseline
            .is_some_and(|baseline| baseline.is_well_above(centre));
        let is_confirmed = self.is_confirmed();
        // Does the latency fall as it would if everybody at both limits waited?
        let fall = last.centre.mean - centre.mean;
        let fall_error = (last.centre.variance + centre.variance).sqrt();
        let whole_fall = (last.limit - self.limit) / rate;
        let proportional = if is_confirmed {
            PROPORTIONAL
        } else {
            PROPORTIONAL_AT_FIRST
        };
        let still_falls = fall >= proportional * whole_fall && fall > 2.0 * fall_error;
        let is_contradicted = is_confirmed
            && is_refuted
            && self
                .baseline
                .is_some_and(|baseline| centre.count < baseline.count.min(REFUTED_BY));
        let is_plain = !is_confirmed && still_falls;
        if !is_plain && (is_contradicted || (is_vague && f64::from(self.window.count()) < most)) {
            self.window.look_later();
            return None;
        }
        // What was seen before the probe may have been on its way up: only two stages prove
        // that the server itself became slower.
        let is_above = self.baseline.is_some_and(|baseline| {
            centre.mean - baseline.mean > 3.0 * (baseline.variance + centre.variance).sqrt()
        });
        let responds = probe.stages == 0 || fall > UNRESPONSIVE * whole_fall;
        // Nor that it had no line, while nothing is known of the server.
        let is_first = probe.stages == 0 && !is_confirmed;
        let is_deeper_possible = self.limit > self.bounds.min() as f64;
        if is_deeper_possible && (is_first || still_falls || (is_above && responds)) {
            self.phase = Phase::Probe(Probe {
                // As long as everybody waited, nothing was lost.
                began: if still_falls && !is_confirmed {
                    now
                } else {
                    probe.began
                },
                last: Stage {
                    limit: self.limit,
                    rate,
                    centre,
                },
                stages: probe.stages + 1,
                ..probe
            });
            self.move_to(self.below(queue, is_refuted));
            self.restart_probe(now);
            return Some(Reason::Probe);
        }
        let baseline = match self.baseline {
            Some(mut baseline)
                if baseline.is_confirmed
                    && (centre.mean - baseline.mean).abs()
                        <= 3.0 * (baseline.variance + centre.variance).sqrt() =>
            {
                baseline.follow(centre);
                baseline
            }
            _ => {
                let mut baseline = Baseline::of(centre, true);
                if fall.abs() < UNRESPONSIVE * whole_fall {
                    baseline.merge(last.centre);
                }
                baseline
            }
        };
        self.baseline = Some(baseline);
        let next = if is_above {
            before.limit
        } else {
            // What waited at the stage before, by what is known now; and if that cannot be told
            // from nobody, at the limit before the probe.
            let (waited, error) = last.waited(&baseline);
            let (stage, waited) = if is_confirmed || waited > 2.0 * error {
                (last, waited)
            } else {
                (before, before.waited(&baseline).0)
            };
            if waited > 0.0 {
                let served = (stage.limit - waited).max(1.0);
                served + TARGET * served.sqrt()
            } else {
                stage.limit
            }
        };
        self.move_to(next.min(before.limit).max(self.limit));
        let is_vague = rate * baseline.variance.sqrt() > target / 4.0;
        let pause = if is_vague || baseline.is_leaning() {
            PROBE_SHARE_VAGUE
        } else {
            PROBE_SHARE
        };
        self.probed_at = self.limit;
        self.probe_due = now + now.since(probe.began) * pause;
        self.phase = Phase::Steady;
        self.clear = 0;
        self.restart(now);
        Some(Reason::ProbeEnd)
    }

    fn move_to(&mut self, limit: f64) {
        self.limit = self.bounds.clamp(limit);
    }

    /// A new window that begins a round trip from now: what finishes then was sent under the new
    /// limit, but for the slowest, and their exact latencies do not count. Counting only calls
    /// sent from now on would count too few slow ones.
    fn restart(&mut self, now: Timestamp) {
        self.reopen(now + self.round_trips(1.0));
    }

    /// As [`restart`](Self::restart), but later: first the line at the server has to go.
    fn restart_probe(&mut self, now: Timestamp) {
        self.reopen(now + self.round_trips(2.0));
    }

    fn round_trips(&self, number: f64) -> Duration {
        Duration::try_from_secs_f64(self.round_trip * number).unwrap_or(Duration::MAX)
    }

    fn reopen(&mut self, from: Timestamp) {
        let first = match self.phase {
            Phase::SlowStart { .. } => ((self.limit / 2.0) as u32).max(4),
            _ => FEWEST,
        };
        self.window.reopen(from, first);
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
                let (limit, reason) = self.losses.setback(signal, sample, self.limit, now)?;
                self.limit = limit;
                self.phase = Phase::Steady;
                self.clear = 0;
                self.restart(now);
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
