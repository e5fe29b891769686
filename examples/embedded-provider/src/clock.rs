//! The provider's clock: the only place that reads time and the only one that knows the scale.

use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Provider time: what the scaled clock shows, counted from the provider's start.
pub(crate) type Timestamp = Duration;

/// No wait and no date lies further ahead than this, so that arithmetic on dates cannot overflow.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// Wall time at `origin`; later wall times are derived, so they follow tokio's paused time as
    /// well.
    wall_origin: SystemTime,
    scale: f64,
    /// How fast the clock really runs by that of the runtime: the scale and a drift that the
    /// provider itself knows nothing of.
    pace: f64,
}

impl Clock {
    /// A clock that starts now; `scale` is finite and positive, `drift` within -0.5 and 0.5.
    pub(crate) fn start(scale: f64, drift: f64) -> Self {
        Self {
            origin: Instant::now(),
            wall_origin: SystemTime::now(),
            scale,
            pace: scale * (1.0 + drift),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        scaled(self.origin.elapsed(), self.pace).unwrap_or(Duration::MAX)
    }

    /// How long `span` of provider time takes in real time as far as the provider knows, at most 30
    /// years.
    pub(crate) fn real(&self, span: Duration) -> Duration {
        scaled(span, self.scale.recip()).map_or(FAR, |real| real.min(FAR))
    }

    /// The instant of the runtime at which the provider's clock shows `at`.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let real = scaled(at, self.pace.recip()).map_or(FAR, |real| real.min(FAR));
        self.origin + real
    }

    /// The real date now, in seconds since 1970.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.wall(self.now())
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    /// The real date at which the provider's clock shows `at`.
    pub(crate) fn wall(&self, at: Timestamp) -> SystemTime {
        self.wall_origin + self.real(at)
    }
}

fn scaled(span: Duration, factor: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(span.as_secs_f64() * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn provider_time_runs_scale_times_faster() {
        let clock = Clock::start(60.0, 0.0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), Duration::from_secs(120));
        assert_eq!(
            clock.real(Duration::from_secs(30)),
            Duration::from_millis(500)
        );
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_drifts_does_not_know_it() {
        let clock = Clock::start(1.0, 0.01);
        tokio::time::advance(Duration::from_secs(100)).await;
        let shown = clock.now();
        assert_eq!(shown, Duration::from_secs(101));
        assert_eq!(clock.instant(shown), Instant::now());
        assert_eq!(
            clock.real(shown),
            shown,
            "it takes its seconds for real ones"
        );
        let origin = clock.wall(Duration::ZERO);
        assert_eq!(clock.wall(shown), origin + shown);
    }

    #[tokio::test(start_paused = true)]
    async fn spans_beyond_reason_saturate() {
        let clock = Clock::start(1e-300, 0.0);
        assert_eq!(clock.real(Duration::from_secs(1)), FAR);
        assert_eq!(clock.instant(Duration::MAX), Instant::now() + FAR);
    }
}
