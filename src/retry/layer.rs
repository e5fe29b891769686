use std::{fmt, sync::Arc};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{CloneReplay, Replay, Retry, RetryEvent, RetryHandle, handle::State};
use crate::{
    call::Noted,
    error::BoxError,
    outcome::Outcome,
    policy::{Attempts, RetryBudget, RetryPolicy},
    protocol::{AssumeIdempotent, ClassifyFn, DeadlineFn, Plain},
};

type OnRetry = Arc<dyn Fn(&RetryEvent) + Send + Sync>;

/// Sends failed requests again; see the [module](crate::retry) for which, when and how often.
///
/// `P` says what requests and answers mean, `R` how a request is sent more than once. Every
/// clone, and every service that one of them makes, shares one budget, one policy and one set
/// of counters.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_relay::{error::BoxError, retry::RetryLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = RetryLayer::default();
/// let echo = || service_fn(|text: &'static str| async move { Ok::<_, BoxError>(text) });
/// assert_eq!(layer.layer(echo()).oneshot("one").await?, "one");
/// assert_eq!(layer.clone().layer(echo()).oneshot("two").await?, "two");
/// assert_eq!(layer.handle().snapshot().successes(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RetryLayer<P = Plain, R = CloneReplay> {
    state: Arc<State>,
    protocol: P,
    replay: R,
    on_retry: Option<OnRetry>,
}

impl RetryLayer {
    /// A layer that follows `policy`, for any service: every response is a success and every
    /// error a failure that may have had an effect, but for the refusals of this crate's own
    /// layers.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            state: Arc::new(State::new(policy)),
            protocol: Plain,
            replay: CloneReplay,
            on_retry: None,
        }
    }
}

impl Default for RetryLayer {
    /// [`RetryLayer::new`] with the default policy.
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}

impl<P, R> RetryLayer<P, R> {
    /// This layer with another policy. Clones made before follow it too.
    #[must_use]
    pub fn policy(self, policy: RetryPolicy) -> Self {
        self.state.set_policy(policy);
        self
    }

    /// This layer with another protocol. It classifies answers, and knows deadlines,
    /// idempotency and the count of attempts.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> RetryLayer<Q, R> {
        self.map(|_| protocol)
    }

    /// This layer for calls that carry their facts, inside a
    /// [`FactsLayer`](crate::call::FactsLayer).
    #[must_use]
    pub fn noted(self) -> RetryLayer<Noted<P>, R> {
        self.map(Noted::new)
    }

    /// This layer with another [classification](crate::protocol::Protocol::classify) of answers.
    #[must_use]
    pub fn classify<Res, F>(self, classify: F) -> RetryLayer<ClassifyFn<P, F>, R>
    where
        F: Fn(Result<&Res, &BoxError>) -> Outcome,
    {
        self.map(|protocol| ClassifyFn::new(protocol, classify))
    }

    /// This layer with another [deadline](crate::protocol::Protocol::deadline) of requests: no
    /// wait is begun that would not end before it.
    ///
    /// ```
    /// use tokio::time::Instant;
    /// use tower_relay::retry::RetryLayer;
    ///
    /// struct Query {
    ///     deadline: Option<Instant>,
    /// }
    /// let layer = RetryLayer::default().deadline(|query: &Query| query.deadline);
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn deadline<Req, F>(self, deadline: F) -> RetryLayer<DeadlineFn<P, F>, R>
    where
        F: Fn(&Req) -> Option<Instant>,
    {
        self.map(|protocol| DeadlineFn::new(protocol, deadline))
    }

    /// This layer, taking every request to be idempotent: one that failed half-way may be sent
    /// again. Right for reads, for calls of a language model, and for whatever carries an
    /// idempotency key.
    #[must_use]
    pub fn assume_idempotent(self) -> RetryLayer<AssumeIdempotent<P>, R> {
        self.map(AssumeIdempotent::new)
    }

    /// This layer with another budget. Clones made before share it too.
    #[must_use]
    pub fn budget(self, budget: RetryBudget) -> Self {
        self.state.set_budget(budget);
        self
    }

    /// This layer with another way to send a request more than once.
    #[must_use]
    pub fn replay<Q>(self, replay: Q) -> RetryLayer<P, Q> {
        RetryLayer {
            state: self.state,
            protocol: self.protocol,
            replay,
            on_retry: self.on_retry,
        }
    }

    /// This layer with a callback before each wait for another attempt. It runs on the caller's
    /// task with no lock held.
    ///
    /// ```
    /// use std::sync::{
    ///     Arc,
    ///     atomic::{AtomicU32, Ordering},
    /// };
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_relay::{error::BoxError, retry::RetryLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let retries = Arc::new(AtomicU32::new(0));
    /// let counter = retries.clone();
    /// let layer = RetryLayer::default().assume_idempotent().on_retry(move |event| {
    ///     counter.store(event.resends(), Ordering::Relaxed);
    /// });
    /// let broken = service_fn(|_: ()| async { Err::<(), _>(BoxError::from("broken pipe")) });
    /// assert!(layer.layer(broken).oneshot(()).await.is_err());
    /// assert_eq!(retries.load(Ordering::Relaxed), 4);
    /// # }
    /// ```
    #[must_use]
    pub fn on_retry(mut self, callback: impl Fn(&RetryEvent) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(callback));
        self
    }

    /// A handle to read and change this layer while it runs.
    #[must_use]
    pub fn handle(&self) -> RetryHandle {
        RetryHandle::new(self.state.clone())
    }

    fn map<Q>(self, protocol: impl FnOnce(P) -> Q) -> RetryLayer<Q, R> {
        RetryLayer {
            state: self.state,
            protocol: protocol(self.protocol),
            replay: self.replay,
            on_retry: self.on_retry,
        }
    }
}

impl<S, P: Clone, R: Clone> Layer<S> for RetryLayer<P, R> {
    type Service = Retry<S, P, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(
            inner,
            Shared {
                state: self.state.clone(),
                protocol: self.protocol.clone(),
                replay: self.replay.clone(),
                on_retry: self.on_retry.clone(),
            },
        )
    }
}

impl<P, R> fmt::Debug for RetryLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What the calls of one service share.
pub(super) struct Shared<P, R> {
    pub(super) state: Arc<State>,
    pub(super) protocol: P,
    pub(super) replay: R,
    pub(super) on_retry: Option<OnRetry>,
}

impl<P, R> Shared<P, R> {
    /// A copy of the request that is about to be sent, unless that is for the last time.
    #[inline(always)]
    pub(super) fn keep<Req>(&self, attempts: &Attempts, request: &R::Request) -> Option<R::Request>
    where
        R: Replay<Req>,
    {
        if attempts.is_last(self.state.attempts()) {
            return None;
        }
        self.replay.copy(request)
    }
}
