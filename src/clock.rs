//! The only place that reads a clock or sleeps.
//!
//! Time is tokio's, so that a paused runtime makes every layer run in virtual time. The wall
//! clock, needed for HTTP dates alone, is derived from the same reading and so is virtual too.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads time and sleeps"
)]
#![cfg_attr(
    not(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    )),
    allow(dead_code, reason = "only layers that wait use all of it")
)]

#[cfg(feature = "http")]
use std::time::SystemTime;
use std::{cell::Cell, sync::OnceLock, time::Duration};

use tokio::time::{Instant, Sleep};

use crate::policy::Timestamp;

/// The time line begins this long before the process first asks. A paused runtime may lie
/// before that instant, and instants before it must stay apart.
const HEAD_START: Duration = Duration::from_secs(1 << 30);

/// Timers farther away than this are set to it; whoever waits longer sets the timer again.
const LONGEST_TIMER: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Clone, Copy)]
struct Origin {
    monotonic: std::time::Instant,
    #[cfg(feature = "http")]
    wall: SystemTime,
}

fn origin() -> &'static Origin {
    static ORIGIN: OnceLock<Origin> = OnceLock::new();
    ORIGIN.get_or_init(|| Origin {
        monotonic: std::time::Instant::now(),
        #[cfg(feature = "http")]
        wall: SystemTime::now(),
    })
}

/// The present instant.
#[inline]
pub(crate) fn now() -> Timestamp {
    timestamp(Instant::now())
}

thread_local! {
    /// Nanoseconds of the reading that the layers share while one of them is called or polled:
    /// [`OWN`] if they do not, [`UNREAD`] if none has read yet.
    static SHARED: Cell<u64> = const { Cell::new(OWN) };
}

const OWN: u64 = 0;
const UNREAD: u64 = 1;

/// One `call` or `poll` of the outermost layer, in which [`now_shared`] reads the clock once: a
/// reading costs as much as two locks, and between theirs only nanoseconds pass. Nothing is shared
/// between steps, when any time may pass.
pub(crate) struct Step {
    is_outermost: bool,
}

impl Step {
    /// A `call`: the reading on the way in serves the layers inside.
    #[inline(always)]
    pub(crate) fn inward() -> Self {
        let is_outermost = SHARED.get() == OWN;
        if is_outermost {
            SHARED.set(UNREAD);
        }
        Self { is_outermost }
    }

    /// A `poll`: a reading on the way out serves the layers outside. What was read before is
    /// forgotten, because what is polled may take its time.
    #[inline(always)]
    pub(crate) fn outward() -> Self {
        let is_outermost = SHARED.replace(UNREAD) == OWN;
        Self { is_outermost }
    }
}

impl Drop for Step {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_outermost {
            SHARED.set(OWN);
        }
    }
}

/// The present instant, or the one that a layer around or inside has read in this [`Step`].
#[inline(always)]
pub(crate) fn now_shared() -> Timestamp {
    match SHARED.get() {
        OWN => now(),
        UNREAD => {
            let now = now();
            SHARED.set(now.as_nanos());
            now
        }
        nanos => Timestamp::from_nanos(nanos),
    }
}

/// Where `instant` lies on the time line that all layers share; what a layer of one's own says
/// in [`Hint::Absorbed`](crate::outcome::Hint::Absorbed).
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_relay::{
///     outcome::{Outcome, Verdict},
///     protocol::timestamp,
/// };
///
/// let soonest = Instant::now() + Duration::from_secs(3);
/// let outcome = Outcome::new(Verdict::KeyRejected).absorbed(timestamp(soonest));
/// assert!(outcome.hint().is_some());
/// ```
#[must_use]
#[inline]
pub fn timestamp(instant: Instant) -> Timestamp {
    let instant = instant.into_std();
    let origin = origin().monotonic;
    let head_start = Timestamp::ZERO + HEAD_START;
    match instant.checked_duration_since(origin) {
        Some(after) => head_start + after,
        None => head_start.before(origin.duration_since(instant)),
    }
}

/// The wall clock's reading now.
#[cfg(feature = "http")]
pub(crate) fn wall() -> SystemTime {
    let head_start = Timestamp::ZERO + HEAD_START;
    let (now, origin) = (now(), origin());
    if now >= head_start {
        origin.wall + now.since(head_start)
    } else {
        origin.wall - head_start.since(now)
    }
}

/// The instant to set a timer to, so that it fires at `at` or, if that is far away, before.
fn instant(at: Timestamp) -> Instant {
    let now = Instant::now();
    now + at.since(timestamp(now)).min(LONGEST_TIMER)
}

/// A timer for `at`.
pub(crate) fn sleep_until(at: Timestamp) -> Sleep {
    tokio::time::sleep_until(instant(at))
}

/// Sets a timer to another instant.
pub(crate) fn reset(timer: std::pin::Pin<&mut Sleep>, at: Timestamp) {
    timer.reset(instant(at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_moves_the_time_line() {
        let start = now();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(now().since(start), Duration::from_secs(7));
        sleep_until(now() + Duration::from_millis(250)).await;
        assert_eq!(now().since(start), Duration::from_millis(7_250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_serves_one_step_and_no_other() {
        const PASSES: Duration = Duration::from_secs(7);

        let outer = Step::inward();
        let read = now_shared();
        tokio::time::advance(PASSES).await;
        let inner = Step::inward();
        assert_eq!(now_shared(), read, "the outer layer's serves the inner");
        drop(inner);
        assert_eq!(now_shared(), read);
        assert_eq!(now().since(read), PASSES, "who wants its own reads it");
        drop(outer);
        assert_eq!(now_shared().since(read), PASSES);
        tokio::time::advance(PASSES).await;
        assert_eq!(now_shared().since(read), 2 * PASSES, "outside none is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_forgets_what_was_read_before_and_hands_out_what_is_read_in_it() {
        const PASSES: Duration = Duration::from_secs(7);

        let outer = Step::outward();
        let read = now_shared();
        tokio::time::advance(PASSES).await;
        let inner = Step::outward();
        let later = now_shared();
        assert_eq!(later.since(read), PASSES);
        drop(inner);
        tokio::time::advance(PASSES).await;
        assert_eq!(now_shared(), later, "the inner layer's serves the outer");
        drop(outer);
        assert_eq!(now_shared().since(later), PASSES);
    }

    #[tokio::test(start_paused = true)]
    async fn instants_before_the_origin_keep_their_distance() {
        let _ = now();
        let early = Instant::now() - Duration::from_millis(500);
        let earlier = early - Duration::from_millis(30);
        assert_eq!(
            timestamp(early).since(timestamp(earlier)),
            Duration::from_millis(30)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_for_the_end_of_time_does_not_overflow() {
        let timer = sleep_until(Timestamp::MAX);
        assert!(timer.deadline() > Instant::now() + Duration::from_secs(24 * 3600));
    }

    #[cfg(feature = "http")]
    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_is_virtual_too() {
        let start = wall();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            wall().duration_since(start).expect("it moves forward"),
            Duration::from_secs(3)
        );
    }
}
