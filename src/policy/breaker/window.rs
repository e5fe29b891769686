use crate::policy::Timestamp;

/// One call, where counts are weighted: a 65,536th is as fine as a part of a slice is told.
pub(super) const ONE: u64 = 1 << 16;
/// How many slices make a window.
pub(super) const SLICES: u64 = 9;
/// How many there are, with the one that is only partly inside.
const RING: usize = SLICES as usize + 1;
/// The most calls of a window of calls.
pub(super) const MOST_CALLS: u32 = 256;

/// How the calls went that a closed breaker remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Time {
        /// Where the present slice stands in the ring.
        newest: u8,
        /// When it began.
        start: Timestamp,
        slices: [Slice; RING],
    },
    Calls(Calls),
}

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Nanoseconds of one slice.
    Time { slice: u64 },
    /// This many calls, at most [`MOST_CALLS`].
    Calls(u16),
}

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    Failed,
    Slow,
}

/// How many calls there were, in parts of [`ONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

/// The calls of one slice: three counters of 21 bits, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice(u64);

/// The last calls, two bits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calls {
    failed: [u64; 4],
    slow: [u64; 4],
    /// How many there are.
    calls: u16,
    failures: u16,
    slows: u16,
    /// Where the next one goes.
    next: u16,
}

// === impl Window ===

impl Window {
    pub(super) const fn new(span: Span, now: Timestamp) -> Self {
        match span {
            Span::Time { .. } => Self::Time {
                newest: 0,
                start: now,
                slices: [Slice(0); RING],
            },
            Span::Calls(_) => Self::Calls(Calls {
                failed: [0; 4],
                slow: [0; 4],
                calls: 0,
                failures: 0,
                slows: 0,
                next: 0,
            }),
        }
    }

    /// Counts a call.
    #[inline]
    pub(super) fn count(&mut self, span: Span, kind: Kind, now: Timestamp) {
        match (&mut *self, span) {
            (
                Self::Time {
                    newest,
                    start,
                    slices,
                },
                Span::Time { slice },
            ) => {
                // Time that went backwards counts as none.
                let passed = now.as_nanos().saturating_sub(start.as_nanos());
                if passed >= slice {
                    advance(newest, start, slices, passed / slice, slice);
                }
                slices[usize::from(*newest)].add(kind);
            }
            (Self::Calls(calls), Span::Calls(most)) => calls.push(kind, most),
            _ => self.recount(span, kind, now),
        }
    }

    /// Counts a call where the configuration is another one than before.
    #[cold]
    #[inline(never)]
    fn recount(&mut self, span: Span, kind: Kind, now: Timestamp) {
        *self = Self::new(span, now);
        self.count(span, kind, now);
    }

    /// Forgets the last success, if there is one.
    pub(super) fn take_back(&mut self) {
        match self {
            Self::Time { newest, slices, .. } => {
                let newest = usize::from(*newest);
                let latest = (0..RING).map(|age| (newest + RING - age) % RING);
                for at in latest {
                    if slices[at].take_success() {
                        return;
                    }
                }
            }
            Self::Calls(calls) => calls.pop_success(),
        }
    }

    /// The calls inside the window that ends now.
    pub(super) fn counts(&self, span: Span, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        match (self, span) {
            (
                Self::Time {
                    newest,
                    start,
                    slices,
                },
                Span::Time { slice },
            ) => {
                let passed = now.as_nanos().saturating_sub(start.as_nanos());
                let (steps, into) = (passed / slice, passed % slice);
                // What has not become a slice of its own yet was empty.
                let inside = SLICES.saturating_sub(steps) as usize;
                let newest = usize::from(*newest);
                let at = |age: usize| slices[(newest + RING - age) % RING];
                for age in 0..inside {
                    counts.add(at(age), ONE);
                }
                if steps <= SLICES {
                    // A slice is shorter than 2⁴⁴ nanoseconds.
                    counts.add(at(inside), (slice - into) * ONE / slice);
                }
            }
            (Self::Calls(calls), Span::Calls(_)) => {
                counts = Counts {
                    calls: u64::from(calls.calls) * ONE,
                    failures: u64::from(calls.failures) * ONE,
                    slow: u64::from(calls.slows) * ONE,
                };
            }
            _ => {}
        }
        counts
    }
}

/// Begins as many new slices as have passed.
fn advance(
    newest: &mut u8,
    start: &mut Timestamp,
    slices: &mut [Slice; RING],
    steps: u64,
    slice: u64,
) {
    *start = Timestamp::from_nanos(start.as_nanos() + steps * slice);
    for _ in 0..steps.min(RING as u64) {
        *newest = (*newest + 1) % RING as u8;
        slices[usize::from(*newest)] = Slice(0);
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, slice: Slice, weight: u64) {
        let [good, failed, slow] = slice.counters();
        self.calls += (good + failed + slow) * weight;
        self.failures += failed * weight;
        self.slow += slow * weight;
    }
}

// === impl Slice ===

impl Slice {
    const BITS: u32 = 21;
    /// The most one counter holds.
    const MOST: u64 = (1 << Self::BITS) - 1;
    /// Every counter with its highest bit cleared, for halving them all at once.
    const HALVES: u64 = {
        let half = Self::MOST >> 1;
        half | half << Self::BITS | half << (2 * Self::BITS)
    };

    #[inline]
    const fn counter(self, kind: Kind) -> u64 {
        self.0 >> Self::shift(kind) & Self::MOST
    }

    #[inline]
    fn add(&mut self, kind: Kind) {
        if self.counter(kind) == Self::MOST {
            self.0 = self.0 >> 1 & Self::HALVES;
        }
        self.0 += 1 << Self::shift(kind);
    }

    /// Takes one success out, a slow one if there is no other.
    fn take_success(&mut self) -> bool {
        for kind in [Kind::Good, Kind::Slow] {
            if self.counter(kind) > 0 {
                self.0 -= 1 << Self::shift(kind);
                return true;
            }
        }
        false
    }

    const fn counters(self) -> [u64; 3] {
        [
            self.counter(Kind::Good),
            self.counter(Kind::Failed),
            self.counter(Kind::Slow),
        ]
    }

    const fn shift(kind: Kind) -> u32 {
        match kind {
            Kind::Good => 0,
            Kind::Failed => Self::BITS,
            Kind::Slow => 2 * Self::BITS,
        }
    }
}

// === impl Calls ===

impl Calls {
    fn push(&mut self, kind: Kind, most: u16) {
        if self.calls > most {
            // The configuration is another one than before.
            (self.calls, self.failures, self.slows, self.next) = (0, 0, 0, 0);
        }
        if self.calls == most {
            // The oldest stands where the next goes, unless the ring is larger than the window.
            let oldest = self.back(most);
            self.failures -= u16::from(is_set(&self.failed, oldest));
            self.slows -= u16::from(is_set(&self.slow, oldest));
        } else {
            self.calls += 1;
        }
        let (failed, slow) = (kind == Kind::Failed, kind == Kind::Slow);
        set(&mut self.failed, self.next, failed);
        set(&mut self.slow, self.next, slow);
        self.failures += u16::from(failed);
        self.slows += u16::from(slow);
        self.next = (self.next + 1) % MOST_CALLS as u16;
    }

    /// Makes the last success a call that never was.
    fn pop_success(&mut self) {
        for age in 1..=self.calls {
            let at = self.back(age);
            if !is_set(&self.failed, at) {
                self.slows -= u16::from(is_set(&self.slow, at));
                // All after it are failures: one of them takes its place, the last one's is free.
                set(&mut self.slow, at, false);
                set(&mut self.failed, at, true);
                self.next = self.back(1);
                self.calls -= 1;
                return;
            }
        }
    }

    /// Where the call stands that was the `age`-th before the next.
    const fn back(&self, age: u16) -> u16 {
        (self.next + MOST_CALLS as u16 - age) % MOST_CALLS as u16
    }
}

const fn is_set(bits: &[u64; 4], at: u16) -> bool {
    bits[at as usize / 64] >> (at % 64) & 1 == 1
}

const fn set(bits: &mut [u64; 4], at: u16, value: bool) {
    let bit = 1 << (at % 64);
    let word = &mut bits[at as usize / 64];
    if value {
        *word |= bit;
    } else {
        *word &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = (1 << 21) - 1;

    fn slice(counters: [u64; 3]) -> Slice {
        let [good, failed, slow] = counters;
        Slice(good | failed << 21 | slow << 42)
    }

    #[test]
    fn a_slice_that_is_full_is_halved_and_keeps_its_ratio() {
        for (before, kind, after) in [
            ([MOST - 1, 100, 1_000], Kind::Good, [MOST, 100, 1_000]),
            ([MOST, 101, 1_000], Kind::Good, [1 << 20, 50, 500]),
            ([3, MOST, 5], Kind::Failed, [1, 1 << 20, 2]),
            ([3, 5, MOST], Kind::Slow, [1, 2, 1 << 20]),
            (
                [MOST, MOST, MOST],
                Kind::Slow,
                [MOST / 2, MOST / 2, 1 << 20],
            ),
            ([MOST, MOST, 7], Kind::Slow, [MOST, MOST, 8]),
        ] {
            let mut slice = slice(before);
            slice.add(kind);
            assert_eq!(slice.counters(), after, "{before:?}, {kind:?}");
        }
    }

    #[test]
    fn the_fullest_window_does_not_overflow() {
        let window = Window::Time {
            newest: 4,
            start: Timestamp::ZERO,
            slices: [slice([MOST; 3]); RING],
        };
        // The longest window, and its last instant.
        let slice = 24 * 3600 * 1_000_000_000_u64 / SLICES;
        let counts = window.counts(Span::Time { slice }, Timestamp::ZERO);
        assert_eq!(counts.calls, 10 * 3 * MOST * ONE);
        assert_eq!(
            (counts.failures, counts.slow),
            (10 * MOST * ONE, 10 * MOST * ONE)
        );
    }
}
