//! What the tests of the learned limit share: a server of known capacity, and algorithms that
//! tell what they heard.

#[path = "../support/mod.rs"]
mod shared;

pub(crate) use self::shared::*;

use std::{
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::{AdaptiveConcurrencyHandle, AdaptiveConcurrencyLayer},
    error::BoxError,
    outcome::{Outcome, Verdict},
    policy::{
        Timestamp,
        limit::{Aimd, Bounds, Change, Fixed, LimitAlgorithm, Sample, SizedVegas, When},
    },
    protocol,
};

pub(crate) fn fixed(calls: usize) -> Fixed {
    Fixed::new(NonZeroUsize::new(calls).expect("it is not zero"))
}

pub(crate) fn bounds(min: usize, initial: usize, max: usize) -> Bounds {
    let bounds = Bounds::new(min..=max).expect("they are in order");
    bounds.starting_at(initial).expect("it is between them")
}

pub(crate) fn aimd(min: usize, initial: usize, max: usize) -> Aimd {
    Aimd::new(bounds(min, initial, max))
}

pub(crate) fn vegas(min: usize, initial: usize, max: usize) -> SizedVegas {
    SizedVegas::new(bounds(min, initial, max))
}

pub(crate) fn assert_idle(handle: &AdaptiveConcurrencyHandle) {
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
}

/// The outcome of an answer that is a status.
pub(crate) fn status(result: Result<&u16, &BoxError>) -> Outcome {
    match result {
        Ok(429) => Outcome::new(Verdict::Throttled),
        Ok(500) => Outcome::new(Verdict::ServerFault),
        Ok(400) => Outcome::new(Verdict::CallerFault),
        Ok(_) => Outcome::SUCCESS,
        Err(error) => protocol::classify(Err(error)),
    }
}

// === algorithms ===

/// A user's own algorithm: a limit that the test sets, and every sample that it heard.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) limit: Arc<AtomicUsize>,
    pub(crate) when: When,
    heard: Arc<Mutex<Vec<(Sample, Timestamp)>>>,
}

impl Recorder {
    pub(crate) fn new(limit: usize, when: When) -> Self {
        Self {
            limit: Arc::new(AtomicUsize::new(limit)),
            when,
            heard: Arc::default(),
        }
    }

    pub(crate) fn heard(&self) -> Vec<Sample> {
        let heard = self.heard.lock().expect("no test panics inside");
        heard.iter().map(|(sample, _)| *sample).collect()
    }
}

impl LimitAlgorithm for Recorder {
    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn record(&mut self, sample: &Sample, now: Timestamp) -> Option<Change> {
        let mut heard = self.heard.lock().expect("no test panics inside");
        heard.push((*sample, now));
        None
    }

    fn when(&self) -> When {
        self.when
    }
}

/// The limits that a layer has told of, in their order.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Change>>>);

impl Told {
    pub(crate) fn by<P>(&self, layer: AdaptiveConcurrencyLayer<P>) -> AdaptiveConcurrencyLayer<P> {
        let told = Arc::clone(&self.0);
        layer.on_change(move |change| told.lock().expect("no panic").push(*change))
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.lock().expect("no panic").clone()
    }

    pub(crate) fn raises(&self) -> usize {
        let changes = self.changes();
        changes.iter().filter(|c| c.to() > c.from()).count()
    }
}

// === the server ===

/// A server that works on so many calls at once, for so long each; others wait in line, up to a
/// length above which it refuses at once.
#[derive(Clone)]
pub(crate) struct Server {
    places: Arc<Semaphore>,
    time: Duration,
    room: Arc<AtomicUsize>,
    there: Arc<AtomicUsize>,
    pub(crate) peak: Arc<AtomicUsize>,
    pub(crate) refused: Arc<AtomicUsize>,
    pub(crate) served: Arc<AtomicUsize>,
}

impl Server {
    /// It queues without end.
    pub(crate) fn queueing(capacity: usize, time: u64) -> Self {
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            time: ms(time),
            room: Arc::new(AtomicUsize::new(usize::MAX)),
            there: Arc::default(),
            peak: Arc::default(),
            refused: Arc::default(),
            served: Arc::default(),
        }
    }

    /// It queues nothing and answers 429 after a millisecond.
    pub(crate) fn refusing(capacity: usize, time: u64) -> Self {
        let server = Self::queueing(10_000, time);
        server.room.store(capacity, Ordering::Relaxed);
        server
    }

    /// Of one that refuses.
    pub(crate) fn set_room(&self, calls: usize) {
        self.room.store(calls, Ordering::Relaxed);
    }

    /// Of one that queues.
    pub(crate) fn add(&self, calls: usize) {
        self.places.add_permits(calls);
    }

    /// Of one that queues: as soon as they are free.
    pub(crate) fn remove(&self, calls: u32) {
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            for _ in 0..calls {
                places.acquire().await.expect("it is open").forget();
            }
        });
    }
}

struct There(Arc<AtomicUsize>);

impl Drop for There {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service<u32> for Server {
    type Response = u16;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u16, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        let server = self.clone();
        let before = server.there.fetch_add(1, Ordering::Relaxed);
        server.peak.fetch_max(before + 1, Ordering::Relaxed);
        let there = There(Arc::clone(&server.there));
        Box::pin(async move {
            let _there = there;
            if before >= server.room.load(Ordering::Relaxed) {
                server.refused.fetch_add(1, Ordering::Relaxed);
                sleep(ms(1)).await;
                return Ok(429);
            }
            let _place = server.places.acquire().await?;
            sleep(server.time).await;
            server.served.fetch_add(1, Ordering::Relaxed);
            Ok(200)
        })
    }
}

/// So many callers call again and again until the time is over.
pub(crate) async fn load<S>(service: &S, callers: usize, time: Duration)
where
    S: Service<u32> + Clone,
{
    let until = Instant::now() + time;
    let callers = (0..callers).map(|_| async {
        while Instant::now() < until {
            drop(service.clone().oneshot(0).await);
        }
    });
    futures::future::join_all(callers).await;
}
