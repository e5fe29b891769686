use std::{fmt, num::NonZeroUsize, sync::Arc};

use crate::{
    admit::{Admission, Algorithm, Limiter, Limits, OnWait},
    policy::{
        Quota, Shares,
        limit::{Change, LimitAlgorithm},
    },
    snapshot::{ShareSnapshot, Snapshot},
};

/// How a limit is driven.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) shares: Option<Shares>,
    /// Makes an algorithm that has learned nothing yet.
    pub(super) algorithm: Arc<dyn Fn() -> Algorithm + Send + Sync>,
    pub(super) on_change: Option<OnChange>,
    pub(super) on_wait: Option<OnWait>,
}

type OnChange = Arc<dyn Fn(&Change) + Send + Sync>;

/// As many calls may wait as a night's batch has workers, and a leak still shows in a day.
const MAX_WAITING: usize = 10_000;

impl Settings {
    pub(super) fn new<A: LimitAlgorithm + Clone + Send + Sync + 'static>(algorithm: A) -> Self {
        Self {
            limits: Limits {
                layer: "adaptive concurrency",
                max_waiting: MAX_WAITING,
                max_wait: None,
            },
            shares: None,
            algorithm: Arc::new(move || Box::new(algorithm.clone())),
            on_change: None,
            on_wait: None,
        }
    }

    /// A limit with state of its own.
    pub(super) fn admission(&self) -> Arc<Admission<Limiter>> {
        let limiter = Limiter::new(Some((self.algorithm)()));
        let on_change = self.on_change.clone();
        // Places have no rate, so nothing is made up for.
        let admission = Admission::new(limiter, Quota::DEFAULT_SLACK, self.limits);
        let admission = admission
            .shares(self.shares.clone())
            .on_wait(self.on_wait.clone());
        Arc::new(admission.on_notice(Arc::new(move |change| {
            note(&change);
            if let Some(callback) = &on_change {
                callback(&change);
            }
        })))
    }
}

fn note(change: &Change) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        layer = "adaptive concurrency",
        from = change.from(),
        to = change.to(),
        reason = change.reason().name(),
        "the limit has changed"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = change;
}

/// Reads and changes a running limit.
///
/// ```
/// use std::num::NonZeroUsize;
/// use tower_relay::{adaptive_concurrency::AdaptiveConcurrencyLayer, policy::limit::Fixed};
///
/// let forty = Fixed::new(NonZeroUsize::new(40).expect("it is not zero"));
/// let handle = AdaptiveConcurrencyLayer::new(forty).handle();
/// assert_eq!(handle.limit(), 40);
/// handle.set_algorithm(Fixed::new(NonZeroUsize::MIN));
/// assert_eq!((handle.limit(), handle.snapshot().active()), (1, 0));
/// ```
#[derive(Clone)]
pub struct AdaptiveConcurrencyHandle {
    pub(super) admission: Arc<Admission<Limiter>>,
}

impl AdaptiveConcurrencyHandle {
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

    /// How many calls may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        let limit = self.admission.read(|limiter, _| limiter.limit());
        limit.map_or(usize::MAX, NonZeroUsize::get)
    }

    /// Limits with another algorithm, which has learned nothing yet, with callers queued. Calls in
    /// flight stay, and a smaller limit admits nobody until enough of them have ended.
    pub fn set_algorithm(&self, algorithm: impl LimitAlgorithm + Send + 'static) {
        let algorithm: Algorithm = Box::new(algorithm);
        let _old = self
            .admission
            .reconfigure(|limiter, now| limiter.set_algorithm(Some(algorithm), now));
    }
}

impl fmt::Debug for AdaptiveConcurrencyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConcurrencyHandle")
            .field("limit", &self.limit())
            .field("snapshot", &self.snapshot())
            .finish()
    }
}
