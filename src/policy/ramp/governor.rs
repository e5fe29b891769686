use std::time::Duration;

use super::{Ramp, RampSnapshot, RampState, step_nanos};
use crate::policy::{Timestamp, Unit};

/// How finely a window is known. A step of a quarter of an hour is 2.5 s.
pub(super) const STEPS: usize = 360;
/// The shortest time over which a server compares: a minute of a quarter of an hour.
const GLANCE: usize = 24;
/// What is remembered: two windows, and a glance on either side.
const KEPT: usize = 2 * STEPS + GLANCE + 4;
/// What is left to clocks that do not run alike and to ways that do not take equally long.
const KEPT_BACK: f64 = 0.005;
/// The largest call to expect, as a share of what the shortest time over which a server compares
/// grants at the floor: the first of its size is no surprise then.
const EXPECTED_SHARE: f64 = 1.0 / 32.0;
/// What is left of what was allowed when the server says that it was too much.
const HELD: f64 = 0.75;
/// And the least, as a share of the floor: it may have been lowered.
const LEAST_SHARE: f64 = 1.0 / 64.0;

pub(super) const fn step(window: Duration) -> Duration {
    Duration::from_nanos(super::nanos(window) / STEPS as u64)
}

/// What has been used of a unit, and what its growth allows.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Governor {
    /// Per second.
    floor: f64,
    /// Whether calls are of different sizes.
    varies: bool,
    /// How many times what was used.
    growth: f64,
    /// In nanoseconds.
    step: u64,
    origin: Timestamp,
    /// The present step, counted from the origin.
    present: u64,
    used: Box<[u64]>,
    /// What the past allows, per second.
    earned: f64,
    /// After a refusal: the most, when it was last lowered, and until when it stays.
    hold: Option<Hold>,
    /// The last refusal that lowered it.
    refused: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    most: f64,
    until: Timestamp,
}

impl Governor {
    /// It knows nothing but what `ramp` resumes, or is at the floor.
    pub(in crate::policy) fn new(unit: Unit, ramp: &Ramp, now: Timestamp) -> Self {
        let mut governor = Self {
            floor: 0.0,
            varies: unit != Unit::REQUESTS,
            growth: 1.0,
            step: step_nanos(ramp.window),
            origin: now,
            present: 0,
            used: vec![0; KEPT].into_boxed_slice(),
            earned: 0.0,
            hold: None,
            refused: None,
        };
        governor.set(ramp);
        if let Some((state, age)) = &ramp.resumed {
            governor.resume(state, *age);
        }
        governor
    }

    /// Takes another floor and growth.
    pub(in crate::policy) fn set(&mut self, ramp: &Ramp) {
        self.floor = ramp.floor as f64 / 60.0;
        self.growth = 1.0 + f64::from(ramp.percent) / 100.0;
        self.earned = self.earn();
    }

    fn resume(&mut self, state: &RampState, age: Duration) {
        let steps = super::nanos(age).div_ceil(self.step);
        for (ago, used) in (steps..KEPT as u64).zip(state.used.iter().rev()) {
            *self.at_mut(ago as usize) = *used;
        }
        self.earned = self.earn();
    }

    /// Brings it up to `now`; time going backwards is no time.
    fn advance(&mut self, now: Timestamp) {
        let passed = now.as_nanos().saturating_sub(self.origin.as_nanos());
        let step = passed / self.step;
        if step <= self.present {
            return;
        }
        let unused = (step - self.present).min(KEPT as u64);
        self.present = step;
        for ago in 0..unused as usize {
            *self.at_mut(ago) = 0;
        }
        self.earned = self.earn();
        if let Some(hold) = &mut self.hold {
            let window = Duration::from_nanos(self.step * STEPS as u64);
            while now >= hold.until && hold.most < self.earned.max(self.floor) {
                (hold.most, hold.until) = (hold.most * self.growth, hold.until + window);
            }
            if hold.most >= self.earned.max(self.floor) {
                self.hold = None;
            }
        }
    }

    /// The place of what was used so many steps ago, fewer than are kept. It wraps around.
    fn place(&self, ago: usize) -> usize {
        ((self.present % KEPT as u64) as usize + KEPT - ago) % KEPT
    }

    fn at_mut(&mut self, ago: usize) -> &mut u64 {
        let place = self.place(ago);
        &mut self.used[place]
    }

    fn at(&self, ago: usize) -> u64 {
        self.used[self.place(ago)]
    }

    /// A call of this size is sent.
    pub(in crate::policy) fn sent(&mut self, amount: u64, now: Timestamp) {
        self.advance(now);
        let used = self.at_mut(0);
        *used = used.saturating_add(amount);
    }

    /// The call sent at `sent` was this size and turned out to be that one.
    pub(in crate::policy) fn resized(&mut self, from: u64, to: u64, sent: Timestamp) {
        let passed = sent.as_nanos().saturating_sub(self.origin.as_nanos());
        let ago = self.present.saturating_sub(passed / self.step);
        if ago < KEPT as u64 {
            let used = self.at_mut(ago as usize);
            *used = used.saturating_sub(from).saturating_add(to);
        }
    }

    /// The call sent at `sent` has been refused, for its growth or something else: the server may
    /// not count it. Whether less is allowed now.
    pub(in crate::policy) fn refused(
        &mut self,
        amount: u64,
        is_for_growth: bool,
        sent: Timestamp,
        now: Timestamp,
    ) -> bool {
        self.advance(now);
        let was = self.most();
        self.resized(amount, 0, sent);
        if !is_for_growth || self.refused.is_some_and(|refused| sent <= refused) {
            return false;
        }
        self.refused = Some(now);
        let window = Duration::from_nanos(self.step * STEPS as u64);
        self.hold = Some(Hold {
            most: (was * HELD).max(self.floor * LEAST_SHARE),
            until: now + window,
        });
        true
    }

    /// How much may be sent a second, in calls of which the largest is this.
    pub(in crate::policy) fn allowed(&mut self, largest: u64, now: Timestamp) -> f64 {
        self.advance(now);
        self.allows(largest)
    }

    fn allows(&self, largest: u64) -> f64 {
        let held = self.most();
        // A pace lets one call more through than the rate says.
        let largest = largest.max(self.expected()) as f64;
        let paced = held * (1.0 - KEPT_BACK) - largest / self.seconds(GLANCE);
        paced.max(held * LEAST_SHARE)
    }

    /// How much a server would not punish, per second.
    fn most(&self) -> f64 {
        let most = self.earned.max(self.floor);
        self.hold.map_or(most, |hold| hold.most.min(most))
    }

    /// The largest call to expect.
    pub(in crate::policy) fn expected(&self) -> u64 {
        if !self.varies {
            return 1;
        }
        let share = self.floor * self.seconds(GLANCE) * EXPECTED_SHARE;
        (share as u64).max(1)
    }

    /// All of it as of `now`: what is saved ends there, whenever the last call was.
    pub(in crate::policy) fn snapshot(&self, largest: u64, now: Timestamp) -> RampSnapshot {
        let mut present = self.clone();
        present.advance(now);
        present.seen(largest)
    }

    fn seen(&self, largest: u64) -> RampSnapshot {
        let oldest = (0..KEPT).rev().find(|&ago| self.at(ago) > 0);
        let used = (0..=oldest.unwrap_or(0)).rev().map(|ago| self.at(ago));
        let state = RampState::new(Duration::from_nanos(self.step), used.collect::<Vec<_>>());
        let until = self.hold.map(|hold| hold.until);
        RampSnapshot::new(self.allows(largest), until, state)
    }

    /// When nothing that was used counts any more.
    #[cfg(feature = "rate-limit")]
    pub(in crate::policy) fn forgettable_at(&self) -> Timestamp {
        let last = (0..KEPT).find(|&ago| self.at(ago) > 0);
        let steps = last.map_or(0, |ago| self.present + (KEPT - ago) as u64);
        self.origin + Duration::from_nanos(steps.saturating_mul(self.step))
    }

    fn seconds(&self, steps: usize) -> f64 {
        Duration::from_nanos(self.step).as_secs_f64() * steps as f64
    }

    /// What the past allows throughout the present step, per second. A window of a server's begins
    /// somewhere in a step, and what was used in that step may have been before: only steps that are
    /// in it as a whole count.
    fn earn(&self) -> f64 {
        let window = self.least(1, STEPS + 1, STEPS - 1);
        // Windows that end in a moment contain what is to come, which may be nothing.
        let ahead = self.sum(1, STEPS - 1 - GLANCE);
        let mean = window.min(ahead) as f64 / self.seconds(STEPS);
        let glance = self.least(STEPS - GLANCE - 1, STEPS + 3, GLANCE - 1);
        let minute = glance as f64 / self.seconds(GLANCE);
        self.growth * mean.min(minute)
    }

    /// The least sum of so many steps of which the last was between `from` and `to` ago.
    fn least(&self, from: usize, to: usize, many: usize) -> u128 {
        let mut sum = self.sum(from, many);
        let mut least = sum;
        for ago in from..to {
            sum = sum + u128::from(self.at(ago + many)) - u128::from(self.at(ago));
            least = least.min(sum);
        }
        least
    }

    fn sum(&self, from: usize, many: usize) -> u128 {
        (from..from + many)
            .map(|ago| u128::from(self.at(ago)))
            .sum()
    }
}
