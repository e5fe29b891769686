//! One run: sessions, the library's layer, and a provider with prompt caches, on one thread in
//! virtual time.
#![allow(
    clippy::disallowed_methods,
    reason = "the workers live in virtual time and measure it"
)]

use std::{cell::RefCell, collections::HashMap, convert::Infallible, rc::Rc, time::Duration};

use fastrand::Rng;
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    error::BoxError,
    key_rotation::{Key, KeyPool, KeyRotationHandle, KeyRotationLayer, Scope, Source},
    outcome::{Outcome, Verdict},
    policy::{Cost, Quota, pool::Affinity},
};

use super::row::{Event, Pressure, Row};

const SESSIONS: usize = 400;
/// The largest session's part of all calls; the others follow Zipf's law from there.
const LARGEST: f64 = 0.05;
/// All scopes together serve so many calls a second.
const CALLS_A_SECOND: u64 = 40;
const WORKERS: usize = 200;
const MINUTE: Duration = Duration::from_secs(60);
const REST: Duration = MINUTE;
/// What a provider keeps of a prompt after its last use.
const CACHE_LIFE: Duration = Duration::from_secs(300);
/// Loads settle, at the beginning and after the event.
const SETTLING: Duration = Duration::from_secs(120);

/// A call as the provider saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) session: usize,
    pub(super) key: usize,
    pub(super) tokens: u64,
    pub(super) is_cached: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) seen: Vec<Seen>,
    pub(super) middle: Duration,
    pub(super) settled: [std::ops::Range<Duration>; 2],
    pub(super) end: Duration,
    /// The number of the key that the event removed.
    pub(super) removed: Option<usize>,
    /// From a call's beginning to its being sent, sorted.
    pub(super) waits: Vec<Duration>,
}

#[derive(Debug)]
struct World {
    row: Row,
    keys: usize,
    weights: Vec<f64>,
    tokens: Vec<u64>,
    began: Instant,
    middle: Duration,
    end: Duration,
    seen: RefCell<Vec<Seen>>,
    waits: RefCell<Vec<Duration>>,
    caches: RefCell<HashMap<(usize, usize), Instant>>,
}

#[derive(Clone, Debug)]
struct Chat {
    session: usize,
    began: Instant,
    key: usize,
}

pub(super) fn run(row: &Row, seed: u64, minutes: u64, is_affine: bool) -> Record {
    // The layer's own chance.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    LocalSet::new().block_on(&runtime, simulate(*row, seed, minutes, is_affine))
}

async fn simulate(row: Row, seed: u64, minutes: u64, is_affine: bool) -> Record {
    let end = Duration::from_secs(60 * minutes);
    let mut rng = Rng::with_seed(seed);
    let mut weights = zipf();
    rng.shuffle(&mut weights);
    let world = Rc::new(World {
        row,
        keys: row.keys,
        weights,
        tokens: (0..SESSIONS).map(|_| rng.u64(1_500..30_000)).collect(),
        began: Instant::now(),
        middle: end / 2,
        end,
        seen: RefCell::default(),
        waits: RefCell::default(),
        caches: RefCell::default(),
    });
    let layer = KeyRotationLayer::new(pool(row, row.scopes, is_affine))
        .affinity(|chat: &Chat| Some(chat.session as u64))
        .cost(|_: &Chat| Cost::REQUEST)
        .classify(|answer: Result<&Outcome, &BoxError>| *answer.expect("this provider answers"))
        .authorize(|chat: &mut Chat, key: &Key| {
            chat.key = key.alias().parse().expect("keys are numbered");
        });
    let handle = layer.handle();
    let provider = {
        let world = Rc::clone(&world);
        let chance = Rc::new(RefCell::new(rng.fork()));
        service_fn(move |chat: Chat| {
            let (world, chance) = (Rc::clone(&world), Rc::clone(&chance));
            async move { Ok::<_, Infallible>(world.serve(&chat, &chance).await) }
        })
    };
    let service = layer.layer(provider);
    let happens = spawn_local(happen(Rc::clone(&world), handle, is_affine));
    match row.pressure {
        Pressure::Saturated => {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| spawn_local(work(service.clone(), Rc::clone(&world), rng.fork())))
                .collect();
            for worker in workers {
                worker.await.expect("no worker panics");
            }
        }
        Pressure::Share(share) => arrive(service, &world, share, rng).await,
    }
    happens.await.expect("nothing of it panics");
    let removed = (row.event == Event::KeyRemoved).then_some(0);
    let mut waits = world.waits.take();
    waits.sort_unstable();
    Record {
        seen: world.seen.take(),
        middle: world.middle,
        settled: [SETTLING..world.middle, world.middle + SETTLING..world.end],
        end,
        removed,
        waits,
    }
}

/// Shares of all calls, the largest first.
fn zipf() -> Vec<f64> {
    let rest = |exponent: f64| -> f64 { (1..=SESSIONS).map(|n| (n as f64).powf(-exponent)).sum() };
    // The exponent with which the first has its share.
    let (mut low, mut high) = (0.0, 2.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if 1.0 / rest(middle) < LARGEST {
            low = middle;
        } else {
            high = middle;
        }
    }
    let sum = rest(low);
    (1..=SESSIONS)
        .map(|n| (n as f64).powf(-low) / sum)
        .collect()
}

/// Scopes of equal quotas, with numbered keys.
fn pool(row: Row, scopes: usize, is_affine: bool) -> KeyPool {
    let calls = CALLS_A_SECOND * 60 / row.scopes as u64;
    let quota = Quota::builder().requests_per_minute(calls).build();
    let quota = quota.expect("it is above zero");
    let mut pool = KeyPool::builder();
    for number in 0..scopes {
        let scope = Scope::new(format!("org-{number}")).quota(quota.clone());
        let keys = number * row.keys..(number + 1) * row.keys;
        pool = pool.scope(keys.fold(scope, |scope, key| {
            scope.key(key.to_string(), Source::value(format!("secret-{key}")))
        }));
    }
    if is_affine {
        pool = pool.affinity(Affinity::new());
    }
    pool.build().expect("it is valid")
}

/// What the row has in store halfway.
async fn happen(world: Rc<World>, handle: KeyRotationHandle, is_affine: bool) {
    sleep(world.middle).await;
    match world.row.event {
        // The provider's doing.
        Event::Nothing | Event::Rest => {}
        Event::KeyRemoved => handle.disable("0").expect("it is there"),
        Event::ScopeAdded => {
            let _changes = handle.reload(pool(world.row, world.row.scopes + 1, is_affine));
        }
    }
}

/// A worker that always has a call.
async fn work<S>(service: S, world: Rc<World>, mut rng: Rng)
where
    S: Service<Chat, Response = Outcome, Error = BoxError> + Clone,
{
    while world.began.elapsed() < world.end {
        world.call(&service, &mut rng).await;
    }
}

/// Calls that come whatever became of those before.
async fn arrive<S>(service: S, world: &Rc<World>, share: f64, mut rng: Rng)
where
    S: Service<Chat, Response = Outcome, Error = BoxError, Future: 'static> + Clone + 'static,
{
    let rate = CALLS_A_SECOND as f64 * share;
    while world.began.elapsed() < world.end {
        sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate)).await;
        let (service, world, mut rng) = (service.clone(), Rc::clone(world), rng.fork());
        spawn_local(async move { world.call(&service, &mut rng).await });
    }
}

impl World {
    /// One call of a random session, sent again until it is served.
    async fn call<S>(&self, service: &S, rng: &mut Rng)
    where
        S: Service<Chat, Response = Outcome, Error = BoxError> + Clone,
    {
        let session = self.draw(rng);
        loop {
            let chat = Chat {
                session,
                began: Instant::now(),
                key: 0,
            };
            let outcome = service.clone().oneshot(chat).await;
            let outcome = outcome.expect("nothing is refused for good");
            if outcome.verdict() == Verdict::Success {
                return;
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let mut left = rng.f64();
        for (session, weight) in self.weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return session;
            }
        }
        SESSIONS - 1
    }

    async fn serve(&self, chat: &Chat, chance: &RefCell<Rng>) -> Outcome {
        let at = self.began.elapsed();
        let scope = chat.key / self.keys;
        let until = self.middle + REST;
        if self.row.event == Event::Rest && scope == 0 && (self.middle..until).contains(&at) {
            return Outcome::new(Verdict::Throttled).after(until - at);
        }
        let now = Instant::now();
        self.waits.borrow_mut().push(chat.began.elapsed());
        let before = self.caches.borrow_mut().insert((scope, chat.session), now);
        self.seen.borrow_mut().push(Seen {
            at,
            session: chat.session,
            key: chat.key,
            tokens: self.tokens[chat.session],
            is_cached: before.is_some_and(|before| now - before < CACHE_LIFE),
        });
        let share = chance.borrow_mut().f64();
        let latency = LATENCY.end.saturating_sub(LATENCY.start);
        sleep(LATENCY.start + latency.mul_f64(share)).await;
        Outcome::SUCCESS
    }
}

const LATENCY: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_millis(3_500);
