//! What a provider has not done in time.

use std::{error::Error, fmt, time::Duration};

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Connect,
    FirstByte,
    Idle,
    Total,
}

/// A provider took too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedOut {
    part: Part,
    limit: Duration,
}

impl TimedOut {
    pub(crate) const fn new(part: Part, limit: Duration) -> Self {
        Self { part, limit }
    }

    pub(crate) const fn part(&self) -> Part {
        self.part
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = humantime::format_duration(self.limit);
        match self.part {
            Part::Connect => write!(f, "no connection within {limit} (timeouts.connect)"),
            Part::FirstByte => write!(f, "no answer within {limit} (timeouts.first_byte)"),
            Part::Idle => write!(f, "nothing more within {limit} (timeouts.idle)"),
            Part::Total => write!(f, "not done within {limit} (timeouts.total)"),
        }
    }
}

impl Error for TimedOut {}
