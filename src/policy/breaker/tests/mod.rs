//! The traps of circuit breakers that the policy alone can avoid, each as a claim.

mod config;
mod half_open;
mod invariants;
mod modes;
mod open_time;
mod ramp;
mod table;
mod traps;
mod window;

use std::time::Duration;

use super::*;
use crate::policy::{Rng, Timestamp};

const T0: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const WELL: Signal = Signal::Success {
    first_byte: Duration::from_millis(300),
};
const LATE: Signal = Signal::Success {
    first_byte: Duration::from_secs(20),
};

/// Bits that are always the same.
struct Bits(u64);

impl Rng for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0
    }
}

const fn least() -> Bits {
    Bits(0)
}

const fn most() -> Bits {
    Bits(u64::MAX)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn told(seconds: u64) -> Signal {
    Signal::Failure {
        hint: Some(secs(seconds)),
    }
}

fn build(builder: BreakerConfigBuilder) -> BreakerConfig {
    builder.build().expect("it is valid")
}

/// Opens by consecutive failures alone, and closes without a ramp.
fn plain() -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .no_conditions()
        .consecutive_failures(5)
        .open(secs(5), secs(300))
        .ramp(Duration::ZERO)
}

/// A breaker with its configuration, its time and chance that never adds anything.
struct Run {
    config: BreakerConfig,
    breaker: Breaker,
    now: Timestamp,
    asked: u32,
}

impl Run {
    fn new(builder: BreakerConfigBuilder) -> Self {
        let config = build(builder);
        let breaker = Breaker::new(&config, T0);
        let now = T0;
        Self {
            config,
            breaker,
            now,
            asked: 0,
        }
    }

    fn pass_time(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn ask(&mut self) -> Admission {
        self.asked += 1;
        assert!(self.asked < 100_000, "what the test waits for never comes");
        self.breaker.ask(&self.config, self.now, &mut least())
    }

    #[track_caller]
    fn pass(&mut self) -> Ticket {
        match self.ask() {
            Admission::Pass(ticket) => ticket,
            Admission::Refuse(refusal) => panic!("{refusal:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self) -> Refusal {
        match self.ask() {
            Admission::Refuse(refusal) => refusal,
            Admission::Pass(ticket) => panic!("{ticket:?}"),
        }
    }

    fn report(&mut self, ticket: Ticket, signal: Signal) -> Receipt {
        let (config, now) = (&self.config, self.now);
        self.breaker
            .report(config, ticket, signal, now, &mut least())
    }

    #[track_caller]
    fn call(&mut self, signal: Signal) -> Receipt {
        let ticket = self.pass();
        self.report(ticket, signal)
    }

    fn amend(&mut self, receipt: Receipt, signal: Signal) {
        let (config, now) = (&self.config, self.now);
        self.breaker
            .amend(config, receipt, signal, now, &mut least());
    }

    #[track_caller]
    fn calls(&mut self, count: usize, signal: Signal) {
        for _ in 0..count {
            self.call(signal);
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        self.breaker.set_mode(&self.config, mode, self.now);
    }

    fn snapshot(&self) -> Snapshot {
        self.breaker.snapshot(&self.config, self.now)
    }

    fn state(&self) -> State {
        self.snapshot().state()
    }

    fn news(&mut self) -> Option<Transition> {
        let news = self.breaker.next_transition();
        assert_eq!(self.breaker.next_transition(), None, "told once");
        news
    }

    /// Fails calls until it refuses one, and says how many it took.
    #[track_caller]
    fn break_down(&mut self) -> usize {
        let mut failed = 0;
        while let Admission::Pass(ticket) = self.ask() {
            assert!(failed < 1_000, "it does not open");
            self.report(ticket, Signal::FAILURE);
            failed += 1;
        }
        assert_eq!(self.state(), State::Open);
        failed
    }

    /// Opens and waits until it lets probes pass.
    #[track_caller]
    fn sit_out(&mut self) {
        self.break_down();
        self.now = self.snapshot().until().expect("it is open");
    }

    /// Lets as many probes succeed as close it.
    #[track_caller]
    fn close(&mut self) {
        for _ in 0..self.config.successes {
            self.call(WELL);
        }
        assert_eq!(self.state(), State::Closed);
    }

    /// How long it is open now.
    #[track_caller]
    fn time_open(&self) -> Duration {
        self.snapshot().until().expect("it is open").since(self.now)
    }
}
