use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{Key, keys::Pooled};
use crate::{
    admit::Admission,
    clock,
    outcome::{Outcome, Verdict},
    policy::{Timestamp, pool::Check},
};

/// Nothing is asked more often than this.
const SHORTEST: Duration = Duration::from_millis(1);
/// So many turns are taken before others in the runtime have theirs, where nothing has to wait.
const MOST_TURNS: u32 = 64;
/// The distance between two questions varies by up to this part of it in both directions.
const JITTER: f64 = 0.1;

pin_project! {
    /// Asks the keys of a pool in turn whether they are well, for as long as the pool lives; made by
    /// [`KeyRotationHandle::probe`](super::KeyRotationHandle::probe). Spawn it, or poll it in a task
    /// of your own: the library spawns nothing.
    ///
    /// Each key in use is asked once in [`every`](Self::every), one at a time: the questions are
    /// spread evenly over that time, with a jitter, and the first comes after a random part of the
    /// first distance. Disabled and draining keys are not asked. If answers take longer than the
    /// distances, the keys are asked one after the other without a pause, and each less often.
    ///
    /// | outcome | what happens |
    /// |---|---|
    /// | success | a rejected key is used again, a scope without credit as well, and an open breaker lets probes pass at once |
    /// | key rejected | the key is out, as after a call |
    /// | exhausted, region | the scope is out, as after a call |
    /// | throttled, ramp limit | the class of all other models of the scope rests |
    /// | overloaded, server fault | counts in the key's breaker as a call would |
    /// | all others | nothing |
    ///
    /// A question takes no quota and no place in flight from the pool, and counts in no totals: ask
    /// something that costs the account little. It cuts no rest of a throttled class short, because
    /// that is the server's word and ends by itself. Where credit is to be found back, ask something
    /// that costs credit, or the pool believes in vain.
    ///
    /// An answer that takes longer than [`timeout`](Self::timeout) is dropped and counts as a fault
    /// of the server. A panic of the function ends its question, which then says nothing; one of the
    /// pool's [`on_transition`](super::KeyRotationLayer::on_transition) ends nothing.
    ///
    /// The future is ready when nobody has the pool any more: no layer, service, handle or call. It
    /// finds out at the next question.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the question that is under way; nothing of the pool is held.
    ///
    /// # Panics
    ///
    /// If it is polled outside a tokio runtime with its timer enabled.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_relay::{
    ///     key_rotation::{Key, KeyPool, KeyRotationLayer, Scope, Source},
    ///     outcome::{Outcome, Verdict},
    ///     policy::pool::KeyState,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_relay::error::BoxError> {
    /// let scope = Scope::new("org-a")
    ///     .key("a1", Source::value("sk-1"))
    ///     .key("a2", Source::value("sk-2"));
    /// let layer = KeyRotationLayer::new(KeyPool::builder().scope(scope).build()?);
    /// let handle = layer.handle();
    /// let probe = handle
    ///     .probe(async |key: Key| match key.alias() {
    ///         "a1" => Outcome::new(Verdict::KeyRejected), // a cheap request would go here
    ///         _ => Outcome::SUCCESS,
    ///     })
    ///     .every(Duration::from_secs(10));
    /// let task = tokio::spawn(probe);
    ///
    /// tokio::time::sleep(Duration::from_secs(12)).await;
    /// let states: Vec<_> = handle.scopes()[0].keys().iter().map(|key| key.state()).collect();
    /// assert_eq!(states, [KeyState::Rejected(None), KeyState::Usable]);
    ///
    /// drop((layer, handle));
    /// task.await?; // nobody has the pool any more
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct Probe<F, Fut> {
        pool: Weak<Admission<Pooled>>,
        ask: F,
        every: Duration,
        timeout: Duration,
        round: Round,
        check: Option<Check>,
        #[pin]
        asking: Option<Fut>,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// Whose turn it is, and when.
struct Round {
    keys: Vec<Arc<str>>,
    next: usize,
    /// `None` before the first.
    due: Option<Timestamp>,
    chance: fastrand::Rng,
}

// === impl Probe ===

impl Probe<(), ()> {
    /// How often each key is asked: a key that is back is used within half a minute, at a cost of
    /// two cheap requests a minute.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(30);
    /// How long an answer may take: a cheap request that takes longer is no sign of health.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
}

impl<F, Fut> Probe<F, Fut> {
    pub(super) fn new(pool: &Arc<Admission<Pooled>>, ask: F) -> Self {
        Self {
            pool: Arc::downgrade(pool),
            ask,
            every: Probe::DEFAULT_EVERY,
            timeout: Probe::DEFAULT_TIMEOUT,
            round: Round {
                keys: Vec::new(),
                next: 0,
                due: None,
                chance: fastrand::Rng::new(),
            },
            check: None,
            asking: None,
            timer: None,
        }
    }

    /// How often each key is asked, at least 1 ms. Default: 30 s.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.max(SHORTEST);
        self
    }

    /// How long an answer may take, at least 1 ms. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(SHORTEST);
        self
    }
}

impl<F, Fut> Future for Probe<F, Fut>
where
    F: Fn(Key) -> Fut,
    Fut: Future<Output = Outcome>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let mut turns = 0;
        loop {
            let Some(asking) = this.asking.as_mut().as_pin_mut() else {
                let Some(pool) = this.pool.upgrade() else {
                    return Poll::Ready(());
                };
                let due = match this.round.due {
                    Some(due) => due,
                    None => this.round.begin(&pool, *this.every),
                };
                if clock::now() < due {
                    // The pool is not held meanwhile.
                    drop(pool);
                    ready!(wait(this.timer.as_mut(), due, cx));
                    continue;
                }
                if turns == MOST_TURNS {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                turns += 1;
                this.timer.set(None);
                let alias = this.round.turn(&pool, *this.every);
                let found = alias.and_then(|alias| {
                    caught(|| pool.read(|pooled, _| pooled.keys().check(&alias))).flatten()
                });
                let Some((key, check)) = found else {
                    continue;
                };
                let ask = &*this.ask;
                if let Some(asking) = caught(|| ask(key)) {
                    *this.check = Some(check);
                    this.asking.set(Some(asking));
                    let until = clock::now() + *this.timeout;
                    this.timer.set(Some(clock::sleep_until(until)));
                }
                continue;
            };
            let answer = match caught(|| asking.poll(cx)) {
                Some(Poll::Ready(outcome)) => Some(outcome),
                Some(Poll::Pending) => {
                    let timer = this.timer.as_mut().as_pin_mut();
                    ready!(timer.expect("a question has its time").poll(cx));
                    Some(Outcome::new(Verdict::ServerFault))
                }
                None => None,
            };
            this.timer.set(None);
            let asking = &mut this.asking;
            // Dropping it is the user's code as well.
            caught(|| asking.set(None));
            let check = this.check.take();
            if let (Some(pool), Some(check), Some(outcome)) = (this.pool.upgrade(), check, answer) {
                let checked = |pooled: &mut Pooled, now| {
                    pooled.keys_mut().checked(check, &outcome, now);
                };
                caught(|| pool.reconfigure(checked));
            }
        }
    }
}

/// Ready at `due`, or before where that is far away.
fn wait(mut timer: Pin<&mut Option<Sleep>>, due: Timestamp, cx: &mut Context<'_>) -> Poll<()> {
    if timer.is_none() {
        timer.set(Some(clock::sleep_until(due)));
    }
    let timer_set = timer.as_mut().as_pin_mut().expect("it was just set");
    ready!(timer_set.poll(cx));
    timer.set(None);
    Poll::Ready(())
}

impl<F, Fut> fmt::Debug for Probe<F, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("every", &self.every)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What `work` returns, unless it panics: it is the user's code or the pool's, which calls
/// listeners. A panic over one key must not end the questions to all others.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

// === impl Round ===

impl Round {
    /// Sets the first turn.
    fn begin(&mut self, pool: &Admission<Pooled>, every: Duration) -> Timestamp {
        self.list(pool);
        let due = clock::now() + self.distance(every).mul_f64(self.chance.f64());
        self.due = Some(due);
        due
    }

    /// Whose turn it is; sets the next one.
    fn turn(&mut self, pool: &Admission<Pooled>, every: Duration) -> Option<Arc<str>> {
        if self.next >= self.keys.len() {
            self.list(pool);
            self.next = 0;
        }
        let alias = self.keys.get(self.next).cloned();
        self.next += 1;
        let jitter = 1.0 + JITTER * (2.0 * self.chance.f64() - 1.0);
        let distance = self.distance(every).mul_f64(jitter);
        // What was late is not made up for by a burst.
        let now = clock::now();
        self.due = Some(self.due.map_or(now, |due| due + distance).max(now));
        alias
    }

    /// Lists all keys, outside the lock.
    fn list(&mut self, pool: &Admission<Pooled>) {
        if let Some(source) = caught(|| pool.read(|pooled, _| pooled.keys().source().clone())) {
            self.keys = source.keys().map(Key::shared_alias).cloned().collect();
        }
    }

    /// Between two keys.
    fn distance(&self, every: Duration) -> Duration {
        let keys = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        (every / keys.max(1)).max(Duration::from_nanos(1))
    }
}
