//! The servers: each takes calls, and says when they start, answer and end.

use std::collections::VecDeque;

use crate::chance::Chance;

pub(crate) type Nanos = u64;
pub(crate) type CallId = u32;

pub(crate) const SECOND: Nanos = 1_000_000_000;

/// How long it takes to be refused.
pub(crate) const REFUSAL: Nanos = SECOND / 20;

pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).round().max(1.0) as Nanos
}

/// A distribution of times or sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) shape: Shape,
}

/// How a distribution lies around its mean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Lognormal with a coefficient of variation.
    Lognormal(f64),
    /// A power law with this exponent, above 1: at 2 or less its variance is infinite.
    Pareto(f64),
    /// A share of calls takes so many times as long as the others; each kind varies by a fifth.
    Bimodal { share: f64, ratio: f64 },
}

const WITHIN_A_MODE: f64 = 0.2;

impl Spread {
    /// Lognormal.
    pub(crate) const fn new(mean: f64, variation: f64) -> Self {
        Self::of(mean, Shape::Lognormal(variation))
    }

    pub(crate) const fn of(mean: f64, shape: Shape) -> Self {
        Self { mean, shape }
    }

    fn draw(self, chance: &mut Chance) -> f64 {
        let Self { mean, shape } = self;
        match shape {
            Shape::Lognormal(variation) => chance.lognormal(mean, variation),
            Shape::Pareto(exponent) => chance.pareto(mean, exponent),
            Shape::Bimodal { share, ratio } => {
                let quick = mean / (1.0 - share + share * ratio);
                let is_slow = chance.even() < share;
                let mean = if is_slow { quick * ratio } else { quick };
                chance.lognormal(mean, WITHIN_A_MODE)
            }
        }
    }

    /// The 99th percentile.
    fn p99(self) -> f64 {
        let lognormal = |mean: f64, variation: f64, normal: f64| {
            let variance = (1.0 + variation * variation).ln();
            mean * (normal * variance.sqrt() - variance / 2.0).exp()
        };
        match self.shape {
            Shape::Lognormal(variation) => lognormal(self.mean, variation, 2.326),
            Shape::Pareto(exponent) => {
                self.mean * (exponent - 1.0) / exponent * 100.0_f64.powf(1.0 / exponent)
            }
            // That of the slow kind alone: a little too high.
            Shape::Bimodal { share, ratio } => {
                let slow = self.mean * ratio / (1.0 - share + share * ratio);
                lognormal(slow, WITHIN_A_MODE, 2.326)
            }
        }
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self::of(self.mean * factor, self.shape)
    }
}

/// Values that hold from a time on, in seconds, in order.
pub(crate) type Steps = Vec<(f64, f64)>;

fn at(steps: &Steps, now: Nanos) -> f64 {
    let now = now as f64 / 1e9;
    let last = steps.iter().take_while(|(from, _)| *from <= now).last();
    last.map_or(0.0, |(_, value)| *value)
}

/// As [`at`], but on the straight line between two points.
fn between(steps: &Steps, now: Nanos) -> f64 {
    let now = now as f64 / 1e9;
    let after = steps.iter().position(|(from, _)| *from > now);
    match after {
        Some(0) | None => steps.last().map_or(1.0, |(_, value)| *value),
        Some(next) => {
            let ((from, low), (to, high)) = (steps[next - 1], steps[next]);
            low + (high - low) * (now - from) / (to - from)
        }
    }
}

/// What a server is made of.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    /// `servers` serve one call each, others wait in line without end.
    Fifo {
        servers: Steps,
        service: Spread,
        /// How many times as long a service takes, on straight lines between these points; as
        /// long without any.
        pace: Steps,
        /// From and until when, in seconds, every call is refused as a 503.
        down: Option<(f64, f64)>,
    },
    /// A language model: a batch, a short line before it, refusals beyond.
    Llm {
        batch: Steps,
        queue: usize,
        /// Share of long outputs.
        long: Steps,
        first_token: Spread,
        per_token: f64,
    },
    /// At most `slots` at once, others are refused.
    Slots { slots: Steps, service: Spread },
    /// A token bucket, others are refused.
    Bucket {
        rate: f64,
        burst: f64,
        service: Spread,
    },
}

impl Model {
    /// The 99th percentile of the time to the first byte when nobody waits.
    pub(crate) fn unloaded_p99(&self) -> f64 {
        match self {
            Self::Fifo { service, .. }
            | Self::Slots { service, .. }
            | Self::Bucket { service, .. } => service.p99(),
            Self::Llm { first_token, .. } => first_token.p99(),
        }
    }
}

const LONG: Spread = Spread::new(1500.0, 0.4);
const SHORT: Spread = Spread::new(60.0, 0.5);
/// How much slower each busy place makes every other.
const CROWDING: f64 = 0.004;

/// What becomes of a call now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It is served: first byte and end.
    Served {
        first: Nanos,
        end: Nanos,
        size: u64,
    },
    Waits,
    /// For lack of room.
    Refused,
    /// The server is down.
    Down,
}

/// The whole answer at once.
const fn served_at(end: Nanos) -> Fate {
    Fate::Served {
        first: end,
        end,
        size: 0,
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    model: Model,
    chance: Chance,
    busy: usize,
    waiting: VecDeque<CallId>,
    tokens: f64,
    filled: Nanos,
}

impl Server {
    pub(crate) fn new(model: Model, chance: Chance) -> Self {
        let tokens = match &model {
            Model::Bucket { burst, .. } => *burst,
            _ => 0.0,
        };
        Self {
            model,
            chance,
            busy: 0,
            waiting: VecDeque::new(),
            tokens,
            filled: 0,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A call arrives.
    pub(crate) fn arrive(&mut self, id: CallId, now: Nanos) -> Fate {
        match &self.model {
            Model::Fifo { down, .. } => {
                let seconds = now as f64 / 1e9;
                if down.is_some_and(|(from, until)| seconds >= from && seconds < until) {
                    return Fate::Down;
                }
            }
            Model::Llm { batch, queue, .. } => {
                if self.busy >= at(batch, now) as usize && self.waiting.len() >= *queue {
                    return Fate::Refused;
                }
            }
            Model::Slots { slots, .. } => {
                if self.busy >= at(slots, now) as usize {
                    return Fate::Refused;
                }
            }
            Model::Bucket { rate, burst, .. } => {
                let passed = (now - self.filled) as f64 / 1e9;
                self.filled = now;
                // A nanosecond's worth of grace for rounding.
                self.tokens = (self.tokens + passed * rate).min(*burst);
                if self.tokens < 1.0 - 1e-7 {
                    return Fate::Refused;
                }
                self.tokens -= 1.0;
            }
        }
        if self.waiting.is_empty() && self.has_room(now) {
            self.start(now)
        } else {
            self.waiting.push_back(id);
            Fate::Waits
        }
    }

    /// A served call ends.
    pub(crate) fn leave(&mut self) {
        self.busy -= 1;
    }

    /// The next call from the line, if there is room for it.
    pub(crate) fn next(&mut self, now: Nanos) -> Option<(CallId, Fate)> {
        if !self.has_room(now) {
            return None;
        }
        let id = self.waiting.pop_front()?;
        Some((id, self.start(now)))
    }

    fn has_room(&self, now: Nanos) -> bool {
        match &self.model {
            Model::Fifo { servers: room, .. }
            | Model::Llm { batch: room, .. }
            | Model::Slots { slots: room, .. } => self.busy < at(room, now) as usize,
            Model::Bucket { .. } => true,
        }
    }

    fn start(&mut self, now: Nanos) -> Fate {
        self.busy += 1;
        let chance = &mut self.chance;
        match &self.model {
            Model::Fifo { service, pace, .. } => {
                served_at(now + nanos(service.draw(chance) * between(pace, now)))
            }
            Model::Slots { service, .. } | Model::Bucket { service, .. } => {
                served_at(now + nanos(service.draw(chance)))
            }
            Model::Llm {
                long,
                first_token,
                per_token,
                ..
            } => {
                let is_long = chance.even() < at(long, now);
                let tokens = if is_long { LONG } else { SHORT }
                    .draw(chance)
                    .round()
                    .max(1.0);
                let first = now + nanos(first_token.draw(chance));
                let slower = 1.0 + CROWDING * self.busy as f64;
                Fate::Served {
                    first,
                    end: first + nanos(tokens * per_token * slower),
                    size: tokens as u64,
                }
            }
        }
    }
}
