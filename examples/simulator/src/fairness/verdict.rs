//! What runs came to, and what they should.

use std::time::Duration;

use super::{
    run::Seen,
    setting::{Comes, Order, Part, RATE, Setting},
};

/// A row with the figures of all its runs together.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) setting: Setting,
    pub(super) classes: Vec<Figures>,
    /// The share of the quota that was used.
    pub(super) used: f64,
    /// Of a call that had to wait, on average over all of them.
    pub(super) polls: f64,
}

/// What became of a class.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Of the quota.
    pub(super) got: f64,
    /// Of what all were served, the worst run.
    pub(super) share_off: f64,
    pub(super) after_pause: f64,
    pub(super) oldest: f64,
    pub(super) polls: f64,
}

impl Verdict {
    pub(super) fn new(setting: &Setting, runs: &[Vec<Seen>]) -> Self {
        let time = (setting.seconds - setting.warm) as f64;
        let quota = RATE * time;
        let got = |seen: &Seen| seen.tokens as f64 / quota;
        let classes = (0..setting.classes.len()).map(|class| {
            let of = || runs.iter().map(|run| &run[class]);
            let mut waits: Vec<_> = of().flat_map(|seen| seen.waits.iter().copied()).collect();
            waits.sort_unstable();
            let percentile = |share: f64| {
                let at = (waits.len() as f64 * share) as usize;
                waits.get(at).map_or(0.0, Duration::as_secs_f64)
            };
            let off = runs.iter().map(|run| {
                let all: f64 = run.iter().map(got).sum();
                (got(&run[class]) / all - setting.promised(class)).abs()
            });
            let (polls, waited) = of().fold((0, 0), |(polls, waited), seen| {
                (polls + seen.polls, waited + seen.waited)
            });
            let after = of().map(|seen| seen.after_pause as f64 / (RATE * 10.0));
            Figures {
                p50: percentile(0.5),
                p99: percentile(0.99),
                got: of().map(got).sum::<f64>() / runs.len() as f64,
                share_off: off.fold(0.0, f64::max),
                after_pause: after.fold(0.0, f64::max),
                oldest: of()
                    .map(|seen| seen.oldest.as_secs_f64())
                    .fold(0.0, f64::max),
                polls: polls as f64 / waited.max(1) as f64,
            }
        });
        let classes: Vec<_> = classes.collect();
        let used = classes.iter().map(|class| class.got).sum();
        let all = runs.iter().flatten();
        let (polls, waited) = all.fold((0, 0), |(polls, waited), seen| {
            (polls + seen.polls, waited + seen.waited)
        });
        Self {
            setting: setting.clone(),
            classes,
            used,
            polls: polls as f64 / waited.max(1) as f64,
        }
    }
}

/// Waits of a class that is served by its own share only are no longer than this times the waits
/// in the order of arrival.
const LONGER: f64 = 1.2;
/// Looks of a call that had to wait, on average.
const MOST_POLLS: f64 = 7.0;
/// Of what a class asked for or was promised: chance moves what comes.
const ENOUGH: f64 = 0.94;
/// Seconds that an oldest wait may always have.
const A_MOMENT: f64 = 30.0;

/// The targets that were missed.
pub(super) fn misses(verdicts: &[Verdict]) -> Vec<String> {
    verdicts
        .iter()
        .flat_map(|verdict| {
            let fifo = verdicts.iter().find(|other| {
                other.setting.order == Order::Arrival && other.setting.name == verdict.setting.name
            });
            miss(verdict, fifo)
        })
        .collect()
}

pub(super) fn miss(verdict: &Verdict, fifo: Option<&Verdict>) -> Vec<String> {
    let setting = &verdict.setting;
    let Order::Shares(weights) = &setting.order else {
        return Vec::new();
    };
    let mut misses = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            let weights = &weights[1..];
            misses.push(format!("{} with shares {weights:?}: {what}", setting.name));
        }
    };
    let polls = verdict.polls;
    expect(
        polls <= MOST_POLLS,
        format!("{polls:.2} polls a waiting call"),
    );
    match setting.part {
        Part::Sizes => {
            let total: f64 = setting.classes.iter().map(|class| class.load()).sum();
            for (number, figures) in verdict.classes.iter().enumerate() {
                let (class, load) = (&setting.classes[number], setting.classes[number].load());
                let got = load.min(setting.promised(number)) * ENOUGH;
                expect(
                    figures.got >= got,
                    format!("{} got {:.3}", class.name, figures.got),
                );
                if total > 1.0 {
                    let excess = (1.0 - setting.promised(number) / load).max(0.0);
                    let most = setting.seconds as f64 * excess + setting.chance(number);
                    expect(
                        figures.oldest <= most,
                        format!("{} waited {:.0} s of {most:.0}", class.name, figures.oldest),
                    );
                }
            }
            let large = &verdict.classes[1];
            let is_of_one_size = setting.classes[1].sizes.len() == 1;
            if let Some(fifo) = fifo.filter(|_| total < 1.0 && is_of_one_size) {
                let ratio = large.p99 / fifo.classes[1].p99;
                let longer = setting.longer();
                expect(
                    ratio <= longer,
                    format!("large calls wait {ratio:.2} times as long, not {longer:.2}"),
                );
            }
        }
        Part::Hurry => {
            let p99 = verdict.classes[0].p99;
            expect(verdict.used >= 0.97, format!("used {:.3}", verdict.used));
            if setting.classes[1].mean_size() <= 2.0 * RATE {
                expect(p99 < 2.0, format!("interactive calls wait {p99:.2} s"));
            }
        }
        Part::Three => {
            let pauses = matches!(setting.classes[0].comes, Comes::Pausing(_));
            for (number, figures) in verdict.classes.iter().enumerate() {
                let off = figures.share_off;
                expect(pauses || off <= 0.01, format!("off by {off:.4}"));
                let most = setting.promised(number) + 0.1;
                let after = figures.after_pause;
                expect(after <= most, format!("{after:.3} after the pause"));
            }
            expect(verdict.used >= 0.97, format!("used {:.3}", verdict.used));
        }
    }
    misses
}

impl Setting {
    /// By how many seconds of its service chance moves the oldest wait of a class: three standard
    /// deviations of what comes.
    fn chance(&self, class: usize) -> f64 {
        let variances = self.classes.iter().map(|class| {
            let calls = class.load() * RATE * self.seconds as f64 / class.mean_size();
            calls * class.mean_size().powi(2)
        });
        let deviation = variances.sum::<f64>().sqrt();
        A_MOMENT + 3.0 * deviation / (RATE * self.promised(class))
    }

    /// How many times as long as in the order of arrival the large calls may wait. What all wait,
    /// weighed by their load, is the same in any order (Kleinrock's conservation law): where the small
    /// ones wait next to nothing because they use less than their share, the large ones wait for both.
    /// Those that have a fifth more than they use need not.
    fn longer(&self) -> f64 {
        let [small, large] = [0, 1].map(|class: usize| self.classes[class].load());
        if self.share(1) >= LONGER * large {
            return LONGER;
        }
        LONGER.max(1.05 * (1.0 + small / large))
    }
}
