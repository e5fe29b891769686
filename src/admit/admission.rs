use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use tokio::time::Sleep;

use super::{
    counts::Counts,
    held::Held,
    queue::{ClassCounts, Look, Queue},
    resource::Resource,
};
use crate::{
    clock,
    error::{QueueFull, Rejected, TooLate},
    policy::{Shares, Timestamp},
};

/// When nobody has been served yet and nothing says how long a call takes.
const UNKNOWN_LATENCY: Duration = Duration::from_secs(1);

/// What bounds the waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The layer that refuses, for its errors.
    pub(crate) layer: &'static str,
    pub(crate) max_waiting: usize,
    pub(crate) max_wait: Option<Duration>,
}

/// Called outside the lock when the first call has to wait (`true`) and when the last one that
/// waited is gone (`false`).
pub(crate) type OnWaiting = Arc<dyn Fn(bool) + Send + Sync>;

/// Called outside the lock with each change of state that the resource tells.
pub(crate) type OnNotice<N> = Arc<dyn Fn(N) + Send + Sync>;

/// Called outside the lock with the time that each call has waited, once it is admitted.
pub(crate) type OnWait = Arc<dyn Fn(Duration) + Send + Sync>;

/// A queue over a resource, shared by all clones of a service.
pub(crate) struct Admission<R: Resource> {
    queue: Mutex<Queue<R>>,
    pub(super) ended: Ended,
    /// Whether classes of callers have shares, read without the lock.
    has_classes: AtomicBool,
    limits: Limits,
    on_waiting: Option<OnWaiting>,
    on_wait: Option<OnWait>,
    on_notice: Option<OnNotice<R::Notice>>,
}

/// Calls that ended without the lock, because they changed nothing else.
#[derive(Debug, Default)]
pub(super) struct Ended {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Sent, but their caller went away.
    cancelled: AtomicU64,
}

impl Ended {
    #[inline]
    fn total(&self) -> u64 {
        let counts = [&self.succeeded, &self.failed, &self.cancelled];
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    #[inline]
    pub(super) fn count(&self, is_success: Option<bool>) {
        let count = match is_success {
            Some(true) => &self.succeeded,
            Some(false) => &self.failed,
            None => &self.cancelled,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Totals since the beginning, and what is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) cancelled: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) active: u64,
    pub(crate) peak_active: u64,
    pub(crate) waiting: usize,
    pub(crate) mean_latency: Option<Duration>,
}

/// What a call meets at the door.
pub(crate) enum Entry<R: Resource> {
    Admitted(Held<R>),
    Queued(Waiting<R>),
    Refused(Rejected),
}

impl<R: Resource> Admission<R> {
    pub(crate) fn new(resource: R, slack: Duration, limits: Limits) -> Self {
        Self {
            queue: Mutex::new(Queue::new(resource, slack)),
            ended: Ended::default(),
            has_classes: AtomicBool::new(false),
            limits,
            on_waiting: None,
            on_wait: None,
            on_notice: None,
        }
    }

    pub(crate) fn on_waiting(mut self, callback: Option<OnWaiting>) -> Self {
        self.on_waiting = callback;
        self
    }

    pub(crate) fn shares(self, shares: Option<Shares>) -> Self {
        if shares.is_some() {
            self.set_shares(shares);
        }
        self
    }

    pub(crate) fn on_wait(mut self, callback: Option<OnWait>) -> Self {
        self.on_wait = callback;
        self
    }

    #[cfg(any(feature = "key-rotation", feature = "adaptive-concurrency"))]
    pub(crate) fn on_notice(mut self, callback: OnNotice<R::Notice>) -> Self {
        self.on_notice = Some(callback);
        self
    }

    /// The class of a call as `class` says it, where classes have shares: it is not asked otherwise.
    #[inline]
    pub(crate) fn class_of<'a>(&self, class: impl FnOnce() -> Option<&'a str>) -> Option<&'a str> {
        match self.has_classes.load(Ordering::Relaxed) {
            true => class(),
            false => None,
        }
    }

    /// Admits, queues or refuses a call of `class` that can wait until `deadline`. `ask` says under
    /// the lock what it wants.
    #[inline(always)]
    pub(crate) fn enter(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut R) -> R::Ask,
        class: Option<&str>,
        deadline: Option<Timestamp>,
    ) -> Entry<R> {
        let now = clock::now_shared();
        let mut queue = self.lock();
        let ask = ask(&mut queue.resource);
        let number = queue.class(class);
        if let Some(held) = self.try_enter(&mut queue, &ask, number, deadline, now) {
            return Entry::Admitted(held);
        }
        drop(queue);
        self.enter_late(ask, class, deadline, now)
    }

    /// Admits a call at once, unless it has to wait or its deadline has passed.
    #[inline(always)]
    fn try_enter(
        self: &Arc<Self>,
        queue: &mut Queue<R>,
        ask: &R::Ask,
        class: usize,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Held<R>> {
        if deadline.is_some_and(|deadline| deadline < now) {
            return None;
        }
        let grant = queue.try_admit(ask, class, now)?;
        queue.counts.note_peak(self.ended.total());
        let is_timed = queue.counts.is_timed(now);
        Some(Held::new(Arc::clone(self), grant, now, is_timed))
    }

    /// The lock was free for a moment, so the call may be admitted at once after all.
    #[cold]
    fn enter_late(
        self: &Arc<Self>,
        ask: R::Ask,
        class: Option<&str>,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Entry<R> {
        self.with(|queue, wake| {
            let class = queue.class(class);
            if let Some(held) = self.try_enter(queue, &ask, class, deadline, now) {
                return Entry::Admitted(held);
            }
            match self.join(queue, ask, class, deadline, now, wake) {
                Ok(waiting) => Entry::Queued(waiting),
                Err(rejected) => {
                    queue.count_refusal(class);
                    Entry::Refused(rejected)
                }
            }
        })
    }

    /// Puts a call into the queue, if it may wait for as long as it must.
    fn join(
        self: &Arc<Self>,
        queue: &mut Queue<R>,
        mut ask: R::Ask,
        class: usize,
        deadline: Option<Timestamp>,
        now: Timestamp,
        wake: &mut Vec<Waker>,
    ) -> Result<Waiting<R>, Rejected> {
        let max_waiting = self.limits.max_waiting;
        if !queue.has_room(class, max_waiting) {
            // Those who are due make room, also where no timer has fired yet.
            queue.pass(now, wake);
        }
        let ahead = queue.ahead(&ask, class);
        let expected = queue.resource.expect(&ask, ahead, now);
        let expected = expected.map_err(Rejected::from)?;
        let patience = self
            .limits
            .max_wait
            .map_or(Timestamp::MAX, |wait| now + wait);
        let bound = deadline.unwrap_or(Timestamp::MAX).min(patience);
        if bound < now {
            return Err(self.too_late(queue, expected, bound, now, now));
        }
        let (waiting, has_room) = (queue.waiting(), queue.has_room(class, max_waiting));
        let room = match has_room {
            true => bound.since(now),
            false => Duration::ZERO,
        };
        queue.resource.hurry(&mut ask, room);
        let (ticket, fallback) = queue.join(ask, class, expected, now);
        queue.pass(now, wake);
        // Those before it may wait for what this call does not need: what it has found for itself
        // goes before the estimate, and whoever is served at once needs no room.
        if let Some(due) = queue.due(ticket) {
            let expected = due.unwrap_or(expected);
            let refused = if !has_room {
                Some(Rejected::QueueFull(QueueFull {
                    layer: self.limits.layer,
                    waiting,
                    retry_after: remainder(queue, expected, now),
                }))
            } else {
                (expected > bound).then(|| self.too_late(queue, expected, bound, now, now))
            };
            if let Some(refused) = refused {
                let _none = queue.leave(ticket, now);
                return Err(refused);
            }
        }
        Ok(Waiting {
            admission: Arc::clone(self),
            ticket: Some(ticket),
            entered: now,
            fallback,
            bound,
            alarm: Timestamp::MAX,
        })
    }

    fn too_late(
        &self,
        queue: &Queue<R>,
        expected: Timestamp,
        bound: Timestamp,
        entered: Timestamp,
        now: Timestamp,
    ) -> Rejected {
        Rejected::TooLate(TooLate {
            layer: self.limits.layer,
            bound: bound.since(entered),
            retry_after: remainder(queue, expected, now),
        })
    }

    /// Reads or changes the resource, then serves all whom a change lets in.
    pub(crate) fn reconfigure<T>(&self, change: impl FnOnce(&mut R, Timestamp) -> T) -> T {
        let now = clock::now();
        self.with(|queue, wake| {
            let result = change(&mut queue.resource, now);
            queue.pass(now, wake);
            result
        })
    }

    pub(crate) fn set_slack(&self, slack: Duration) {
        self.with(|queue, _| queue.set_slack(slack));
    }

    /// Shares among classes of callers, or among all alike, with callers queued.
    pub(crate) fn set_shares(&self, shares: Option<Shares>) {
        let now = clock::now();
        let _old = self.with(|queue, wake| {
            self.has_classes.store(shares.is_some(), Ordering::Relaxed);
            let old = queue.set_shares(shares);
            queue.pass(now, wake);
            old
        });
    }

    /// What is known of each class of callers that has a share; none where there are no shares.
    pub(crate) fn classes(&self) -> Vec<ClassCounts> {
        self.with(|queue, _| queue.class_counts())
    }

    /// Reads the resource as it is.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&R, Timestamp) -> T) -> T {
        let now = clock::now();
        self.with(|queue, _| read(&queue.resource, now))
    }

    pub(crate) fn stats(&self) -> Stats {
        let (counts, waiting) = self.with(|queue, _| (queue.counts, queue.waiting()));
        let Counts {
            admitted,
            refused,
            abandoned,
            peak_active,
            ended,
            ..
        } = counts;
        let unlocked = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            admitted,
            refused,
            cancelled: abandoned + ended.cancelled + unlocked(&self.ended.cancelled),
            succeeded: ended.succeeded + unlocked(&self.ended.succeeded),
            failed: ended.failed + unlocked(&self.ended.failed),
            active: admitted.saturating_sub(ended.total() + self.ended.total()),
            peak_active,
            waiting,
            mean_latency: counts.mean_latency(),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the queue for whoever may change it: what must happen outside the lock happens
    /// after it. What `work` returns must be safe to drop, in case the callback panics.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Queue<R>, &mut Vec<Waker>) -> T) -> T {
        let (mut wake, mut notices) = (Vec::new(), Vec::new());
        let (result, waited, waits) = {
            let mut queue = self.lock();
            let waited = queue.waiting() > 0;
            let result = work(&mut queue, &mut wake);
            queue.counts.note_peak(self.ended.total());
            // A panic in a callback would then end the process: somebody else tells.
            if !thread::panicking() {
                while let Some(notice) = queue.resource.next_notice() {
                    notices.push(notice);
                }
            }
            (result, waited, queue.waiting() > 0)
        };
        for waker in wake {
            waker.wake();
        }
        if let Some(callback) = &self.on_notice {
            notices.into_iter().for_each(|notice| callback(notice));
        }
        if waited != waits {
            note_waiting(self.limits.layer, waits);
            // A second panic would end the process.
            if let Some(callback) = self.on_waiting.as_ref().filter(|_| !thread::panicking()) {
                callback(waits);
            }
        }
        result
    }
}

/// How long until `expected`; where that is unknown, as long as a call takes on average.
fn remainder<R: Resource>(queue: &Queue<R>, expected: Timestamp, now: Timestamp) -> Duration {
    if expected > now && expected < Timestamp::MAX {
        return expected.since(now);
    }
    let latency = queue.counts.mean_latency().unwrap_or(UNKNOWN_LATENCY);
    latency.max(Duration::from_millis(1))
}

impl<R: Resource> fmt::Debug for Admission<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("limits", &self.limits)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "tracing")]
fn note_waiting(layer: &'static str, waits: bool) {
    let state = if waits { "saturated" } else { "cleared" };
    tracing::debug!(layer, state, "calls wait, or none does any more");
}

#[cfg(not(feature = "tracing"))]
const fn note_waiting(_: &'static str, _: bool) {}

#[cfg(feature = "tracing")]
fn note_wait(layer: &'static str, wait: Duration) {
    tracing::trace!(layer, ?wait, "admitted after a wait");
}

#[cfg(not(feature = "tracing"))]
const fn note_wait(_: &'static str, _: Duration) {}

// === impl Waiting ===

/// A place in the queue. Dropping it leaves the queue.
pub(crate) struct Waiting<R: Resource> {
    admission: Arc<Admission<R>>,
    /// `None` once it has been given up.
    ticket: Option<u32>,
    entered: Timestamp,
    /// When it looks without being called.
    fallback: Timestamp,
    bound: Timestamp,
    /// What the timer is set to.
    alarm: Timestamp,
}

/// What a waiter sees when it looks, everything granted in its guard already.
enum Sight<R: Resource> {
    Admitted(Held<R>),
    Refused(Rejected),
    Wait(Timestamp),
}

impl<R: Resource> Waiting<R> {
    /// Ready when the call is admitted or refused. `timer` must be the same in every poll.
    pub(crate) fn poll(
        &mut self,
        mut timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Held<R>, Rejected>> {
        loop {
            let now = clock::now();
            let alarm = match self.look(now, cx.waker()) {
                Sight::Admitted(held) => {
                    let wait = now.since(self.entered);
                    note_wait(self.admission.limits.layer, wait);
                    if let Some(callback) = &self.admission.on_wait {
                        callback(wait);
                    }
                    return Poll::Ready(Ok(held));
                }
                Sight::Refused(rejected) => return Poll::Ready(Err(rejected)),
                Sight::Wait(due) if now >= self.bound => {
                    return Poll::Ready(Err(self.give_up(due, now)));
                }
                Sight::Wait(due) => due.min(self.bound),
            };
            if alarm != self.alarm {
                match timer.as_mut().as_pin_mut() {
                    Some(timer) => clock::reset(timer, alarm),
                    None => timer.set(Some(clock::sleep_until(alarm))),
                }
                self.alarm = alarm;
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) if alarm < Timestamp::MAX => {
                    std::task::ready!(timer.poll(cx));
                    // It fired: for the alarm, or because the alarm is farther away than a timer
                    // can be set. Setting it anew serves both.
                    self.alarm = self.alarm.min(clock::now());
                }
                _ => return Poll::Pending,
            }
        }
    }

    fn look(&mut self, now: Timestamp, waker: &Waker) -> Sight<R> {
        let id = self.ticket.expect("a finished wait is not polled");
        // Cloned and dropped outside the lock: both are another's code.
        let mut waker = waker.clone();
        let Self {
            admission,
            ticket,
            fallback,
            alarm,
            ..
        } = self;
        admission.with(|queue, wake| {
            if now >= *alarm || queue.is_due(now) {
                queue.pass(now, wake);
            }
            match queue.look(id, *fallback, now, &mut waker, wake) {
                Look::Granted(grant) => {
                    *ticket = None;
                    Sight::Admitted(Held::new(Arc::clone(admission), grant, now, true))
                }
                Look::Failed(why) => {
                    *ticket = None;
                    Sight::Refused(why.into())
                }
                Look::Wait(due) => Sight::Wait(due),
            }
        })
    }

    fn give_up(&mut self, due: Timestamp, now: Timestamp) -> Rejected {
        let ticket = self.ticket.take().expect("a finished wait is not polled");
        let (rejected, _waker) = self.admission.with(|queue, wake| {
            let rejected = self
                .admission
                .too_late(queue, due, self.bound, self.entered, now);
            let class = queue.class_of(ticket);
            let waker = queue.leave(ticket, now);
            queue.count_refusal(class);
            queue.pass(now, wake);
            (rejected, waker)
        });
        rejected
    }
}

impl<R: Resource> Drop for Waiting<R> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let now = clock::now();
            let _waker = self.admission.with(|queue, wake| {
                let waker = queue.leave(ticket, now);
                queue.counts.abandoned += 1;
                queue.pass(now, wake);
                waker
            });
        }
    }
}

impl<R: Resource> fmt::Debug for Waiting<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("entered", &self.entered)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
