use std::{fmt, sync::Arc};

use crate::{
    admit::{Admission, Joint, Limits, OnWait, Resource, Slots, Tokens},
    clock,
    policy::{Estimator, Learned, Quota, Shares, Timestamp, Unit},
    snapshot::{ShareSnapshot, Snapshot},
};

/// What one limiter admits to: the quota's dimensions and the places in flight, jointly.
pub(super) type Metered = Joint<Tokens, Slots>;

/// The bounds of one limiter's queue, and who is told of it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) shares: Option<Shares>,
    pub(super) on_transition: Option<Arc<dyn Fn(Transition) + Send + Sync>>,
    /// One that has learned nothing.
    pub(super) estimator: Option<Estimator>,
    pub(super) on_wait: Option<OnWait>,
}

/// As many calls may wait as a night's batch has workers, and a leak still shows in a day.
const MAX_WAITING: usize = 10_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits {
                layer: "rate limit",
                max_waiting: MAX_WAITING,
                max_wait: None,
            },
            shares: None,
            on_transition: None,
            estimator: None,
            on_wait: None,
        }
    }
}

impl Settings {
    /// A limiter of its own state.
    pub(super) fn admission(&self, quota: &Quota) -> Arc<Admission<Metered>> {
        self.admission_since(quota, clock::now())
    }

    /// A limiter whose windows are counted from `since`.
    pub(super) fn admission_since(
        &self,
        quota: &Quota,
        since: Timestamp,
    ) -> Arc<Admission<Metered>> {
        let tokens = Tokens::new(quota, since).estimate(self.estimator.clone());
        let metered = Joint(tokens, Slots::new(quota.max_in_flight()));
        let on_transition = self.on_transition.clone();
        let callback = on_transition.map(|callback| -> Arc<dyn Fn(bool) + Send + Sync> {
            Arc::new(move |waits| {
                callback(if waits {
                    Transition::Saturated
                } else {
                    Transition::Cleared
                });
            })
        });
        let admission = Admission::new(metered, quota.slack(), self.limits);
        let admission = admission.shares(self.shares.clone());
        Arc::new(admission.on_waiting(callback).on_wait(self.on_wait.clone()))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limits.fmt(f)
    }
}

/// A change that a limiter tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transition {
    /// A call has to wait where none did.
    Saturated,
    /// The last call that waited is admitted or gone.
    Cleared,
}

/// Reads and changes a running limiter.
///
/// ```
/// use tower_relay::{policy::{Quota, Unit}, rate_limit::RateLimitLayer};
///
/// let quota = Quota::builder().requests_per_second(50).burst(Unit::REQUESTS, 10).build()?;
/// let handle = RateLimitLayer::new(quota).handle();
/// assert_eq!(handle.available(Unit::REQUESTS), Some(10));
/// assert_eq!(handle.available(Unit::TOKENS), None);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitHandle {
    pub(super) admission: Arc<Admission<Metered>>,
}

impl RateLimitHandle {
    /// Totals, and what is in flight and in the queue.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.admission.stats())
    }

    /// Every class of callers that has a share, first those of no class; none without shares.
    #[must_use]
    pub fn shares(&self) -> Vec<ShareSnapshot> {
        ShareSnapshot::all(self.admission.classes())
    }

    /// Shares otherwise from now on, with callers queued: they keep their class, if that is one of
    /// the new ones too, and their place in it. Those that came while there were no shares are of no
    /// class. What classes were served before counts no more.
    pub fn set_shares(&self, shares: &Shares) {
        self.admission.set_shares(Some(shares.clone()));
    }

    /// Serves in the order of arrival from now on, with callers queued.
    pub fn remove_shares(&self) {
        self.admission.set_shares(None);
    }

    /// How much of `unit` could be taken now, right without traffic too; negative in debt,
    /// `None` if the quota does not meter it.
    #[must_use]
    pub fn available(&self, unit: Unit) -> Option<i64> {
        self.admission
            .read(|metered, now| metered.0.bucket().available(unit, now))
    }

    /// What has been learned of the calls of this model; `None` if nothing is
    /// [estimated](crate::rate_limit::RateLimitLayer::estimate).
    #[must_use]
    pub fn learned(&self, model: Option<&str>) -> Option<Learned> {
        self.admission.read(|metered, _| {
            let estimator = metered.0.estimator();
            estimator.map(|estimator| estimator.learned(model))
        })
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn remaining(&self) -> Vec<(Unit, i64)> {
        self.admission
            .read(|metered, now| metered.0.bucket().remaining(now))
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn max_in_flight(&self) -> Option<usize> {
        let limit = self.admission.read(|metered, _| metered.1.limit());
        (limit < usize::MAX).then_some(limit)
    }

    /// Changes the quota, up or down, with callers queued: who can be served now is served at
    /// once, and who never can is refused. What has been spent stays spent, see
    /// [`TokenBucket::set_quota`](crate::policy::TokenBucket::set_quota). Calls that were admitted
    /// while nothing limited those in flight do not count under a new limit of them.
    pub fn set_quota(&self, quota: &Quota) {
        set_quota(&self.admission, quota);
    }
}

pub(super) fn set_quota(admission: &Admission<Metered>, quota: &Quota) {
    admission.set_slack(quota.slack());
    admission.reconfigure(|Joint(tokens, slots), now| {
        tokens.set_quota(quota, now);
        slots.set_limit(quota.max_in_flight(), now);
    });
}

/// When a limiter nobody uses is as good as new.
pub(super) fn forgettable_at(admission: &Admission<Metered>) -> Option<Timestamp> {
    let stats = admission.stats();
    let is_idle = stats.active == 0 && stats.waiting == 0;
    is_idle.then(|| admission.read(|metered, _| metered.0.bucket().full_at()))
}

const _: fn() = || {
    fn is_a_resource<R: Resource>() {}
    is_a_resource::<Metered>();
};
