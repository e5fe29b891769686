//! A pool of keys under twenty thousand calls from many threads, with all that can happen to it.
#![cfg(all(feature = "key-rotation", feature = "retry"))]
#![allow(
    clippy::disallowed_methods,
    reason = "it runs in real time, on many threads"
)]

use std::{
    fmt,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::{KeyPool, KeyPoolBuilder, KeyRotationHandle, KeyRotationLayer, Scope, Source},
    outcome::{Outcome, Verdict},
    policy::{
        Backoff, Growth, Quota, QuotaBuilder, RetryPolicy, Unit,
        pool::{ScopeSnapshot, Strategy},
    },
    retry::RetryLayer,
};

const SCOPES: usize = 20;
const KEYS: usize = 3;
const CALLERS: u64 = 100;
/// In flight over all scopes, and in each.
const MOST: u64 = 60;
const MOST_OF_SCOPE: u64 = 6;
/// Fewer than are left over when all places are taken.
const MOST_WAITING: usize = 30;
const MODELS: [Option<&str>; 4] = [None, Some("small"), Some("large-1"), Some("large-2")];

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone)]
struct Job {
    model: Option<&'static str>,
    /// What becomes of each attempt is drawn from it.
    seed: u64,
    scope: usize,
}

struct Answer;

/// What the server said in the place of an answer.
#[derive(Debug)]
struct Refusal(Verdict);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server said {:?}", self.0)
    }
}

impl std::error::Error for Refusal {}

fn classify(result: Result<&Answer, &BoxError>) -> Outcome {
    let Err(error) = result else {
        return Outcome::SUCCESS;
    };
    if let Some(rejected) = Rejected::find(&**error) {
        let outcome = Outcome::new(Verdict::RefusedLocally);
        return rejected
            .retry_after()
            .map_or(outcome, |wait| outcome.after(wait));
    }
    let refusal = error.downcast_ref::<Refusal>().expect("no other error");
    match refusal.0 {
        Verdict::Throttled => Outcome::new(refusal.0).after(Duration::from_millis(2)),
        verdict => Outcome::new(verdict),
    }
}

/// What the server has seen.
#[derive(Default)]
struct Books {
    called: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    panicked: AtomicU64,
    in_flight: Together,
    of_scopes: [Together; SCOPES],
}

/// Calls at a time.
#[derive(Default)]
struct Together {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Together {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

/// A call at the server; dropped when it is over, however it ends.
struct Served {
    books: Arc<Books>,
    scope: usize,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.books.in_flight.leave();
        self.books.of_scopes[self.scope].leave();
    }
}

#[derive(Clone)]
struct Server(Arc<Books>);

impl Service<Job> for Server {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job) -> Self::Future {
        let books = Arc::clone(&self.0);
        let number = books.called.fetch_add(1, Relaxed);
        let mut chance = Chance(job.seed ^ number.rotate_left(32));
        let fate = chance.below(1_000);
        if fate < 3 {
            books.panicked.fetch_add(1, Relaxed);
            // Without the hook, which would print a backtrace.
            resume_unwind(Box::new("in `call`"));
        }
        books.in_flight.enter();
        books.of_scopes[job.scope].enter();
        let served = Served {
            books,
            scope: job.scope,
        };
        Box::pin(async move {
            match chance.below(10) {
                0 => tokio::time::sleep(Duration::from_millis(chance.below(4))).await,
                turns @ 1..=6 => {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                }
                _ => {}
            }
            let books = &served.books;
            let verdict = match fate {
                0..6 => {
                    books.panicked.fetch_add(1, Relaxed);
                    resume_unwind(Box::new("in the future"));
                }
                6..36 => Verdict::Throttled,
                36..41 => Verdict::Exhausted,
                41..46 => Verdict::KeyRejected,
                46..51 => Verdict::ModelDenied,
                51..71 => Verdict::ServerFault,
                71..91 => Verdict::Overloaded,
                91..101 => Verdict::CallerFault,
                _ => {
                    books.answered.fetch_add(1, Relaxed);
                    return Ok(Answer);
                }
            };
            books.refused.fetch_add(1, Relaxed);
            Err(Refusal(verdict).into())
        })
    }
}

/// How a call ended for its caller.
#[derive(Default)]
struct Ends {
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    gone: AtomicU64,
}

fn quota(requests_per_second: u64) -> QuotaBuilder {
    Quota::builder()
        .requests_per_second(requests_per_second)
        .burst(Unit::REQUESTS, 200)
}

/// The scopes that this pool is of; whether it is another than before in weights and secrets.
fn pool(scopes: usize, is_other: bool) -> KeyPool {
    let moment = Duration::from_millis(5);
    let scopes = (0..scopes).map(|number| {
        let quota = quota(2_000 + 100 * (number as u64 % 3)).max_in_flight(MOST_OF_SCOPE as usize);
        let scope = Scope::new(format!("org-{number}"))
            .quota(quota.build().expect("a valid quota"))
            .attach(number);
        (0..KEYS).fold(scope, |scope, key| {
            let alias = format!("{number}-{key}");
            let secret = format!("secret-{alias}-{is_other}");
            let weight = 1 + u32::from(is_other) + key as u32;
            scope.weighted_key(alias, weight, Source::value(secret))
        })
    });
    let builder = scopes.fold(KeyPool::builder(), KeyPoolBuilder::scope);
    builder
        .strategy(match is_other {
            true => Strategy::Weighted,
            false => Strategy::MostHeadroom,
        })
        .default_rest(moment)
        .longest_rest(moment)
        .exhausted_rest(moment)
        .reprobe_rejected(moment)
        .build()
        .expect("a valid pool")
}

fn aliases() -> impl Iterator<Item = String> {
    (0..SCOPES).flat_map(|scope| (0..KEYS).map(move |key| format!("{scope}-{key}")))
}

fn hasty() -> RetryPolicy {
    let moment = Duration::from_millis(1);
    let backoff = Backoff::new(Growth::Constant, moment, moment).expect("a valid backoff");
    let policy = RetryPolicy::builder().attempts(3).backoff(backoff).build();
    policy.expect("a valid policy")
}

/// Does to the pool whatever an operator can, until the calls are over.
async fn disturb(
    handle: KeyRotationHandle,
    is_over: Arc<AtomicBool>,
    scopes: &'static [usize],
    seed: u64,
) {
    let mut chance = Chance(seed);
    while !is_over.load(Relaxed) {
        let scope = chance.below(SCOPES as u64);
        let alias = format!("{scope}-{}", chance.below(KEYS as u64));
        // Where a pool lacks the scope, the name is not known.
        match chance.below(14) {
            0 | 1 => drop(handle.disable(&alias)),
            2 => drop(handle.drain(&alias)),
            3..=6 => drop(handle.enable(&alias)),
            7 => drop(handle.reopen(&format!("org-{scope}"))),
            8 => {
                let scopes = scopes[chance.below(scopes.len() as u64) as usize];
                drop(handle.reload(pool(scopes, chance.below(2) == 0)));
            }
            9 if chance.below(40) == 0 => {
                // Nobody is left for a moment, and who waits for a model hears of it.
                let keys: Vec<String> = aliases().collect();
                keys.iter().for_each(|alias| drop(handle.disable(alias)));
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                keys.iter().for_each(|alias| drop(handle.enable(alias)));
            }
            9 => drop(handle.scopes()),
            10 => drop(handle.snapshot()),
            11 => handle.set_concurrency(tower_relay::policy::limit::Fixed::of(
                MOST as usize - chance.below(20) as usize,
            )),
            12 => {
                let quota = quota(20_000 + chance.below(20_000)).build();
                handle.set_rate_limit(&quota.expect("a valid quota"));
            }
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        tokio::task::yield_now().await;
    }
}

fn authorize(job: &mut Job, key: &tower_relay::key_rotation::Key) {
    job.scope = *key.attachment::<usize>().expect("attached to the scope");
    if job.seed % 500 == 0 {
        resume_unwind(Box::new("in `authorize`"));
    }
}

/// One caller's calls, some of which it gives up after a few turns.
async fn call<S>(service: S, ends: Arc<Ends>, caller: u64, calls: u64)
where
    S: Service<Job, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut chance = Chance(caller);
    for _ in 0..calls {
        let job = Job {
            model: MODELS[chance.below(4) as usize],
            seed: chance.below(u64::MAX),
            scope: usize::MAX,
        };
        let patience = match chance.below(5) {
            0 => chance.below(8),
            _ => u64::MAX,
        };
        let call = service.clone().oneshot(job);
        // A task of its own, for a call that panics.
        let end = tokio::spawn(async move {
            let give_up = async {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                end = call => Some(end),
                () = give_up => None,
            }
        });
        let count = match end.await {
            Ok(Some(Ok(Answer))) => &ends.answered,
            Ok(Some(Err(error))) if Rejected::find(&*error).is_some() => &ends.refused,
            Ok(Some(Err(_))) => &ends.failed,
            Ok(None) | Err(_) => &ends.gone,
        };
        count.fetch_add(1, Relaxed);
        if std::ptr::eq(count, &ends.refused) {
            // Or refusals would be nearly all there is.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

struct Run {
    handle: KeyRotationHandle,
    books: Arc<Books>,
    ends: Arc<Ends>,
    calls: u64,
    /// How many calls entered the pool.
    entered: u64,
}

/// What differs between the tests.
struct Load {
    calls: u64,
    is_retried: bool,
    /// How many scopes the pools have that are reloaded.
    scopes: &'static [usize],
    /// One callback of so many panics.
    panics: u64,
}

/// Runs all calls and ends when each has ended.
async fn run(load: Load) -> Run {
    let Load {
        calls,
        is_retried,
        scopes,
        panics,
    } = load;
    let calls = calls / CALLERS;
    let books = Arc::new(Books::default());
    let transitions = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&transitions);
    let layer = KeyRotationLayer::new(pool(SCOPES, false))
        .concurrency(tower_relay::policy::limit::Fixed::of(MOST as usize))
        .max_waiting(MOST_WAITING)
        .on_transition(move |_| {
            if told.fetch_add(1, Relaxed) % panics == panics - 1 {
                resume_unwind(Box::new("in a callback"));
            }
        })
        .model(|job: &Job| job.model)
        .authorize(authorize)
        .classify(classify);
    let handle = layer.handle();
    let entered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&entered);
    let pooled = layer
        .layer(Server(Arc::clone(&books)))
        .map_request(move |job| {
            count.fetch_add(1, Relaxed);
            job
        });
    let ends = Arc::new(Ends::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let disturbance = {
        let (handle, is_over) = (handle.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut seed = 0;
            while !is_over.load(Relaxed) {
                seed += 1;
                let disturbance = disturb(handle.clone(), Arc::clone(&is_over), scopes, seed);
                // A callback may have panicked in it.
                let _ = tokio::spawn(disturbance).await;
            }
        })
    };
    let callers = (0..CALLERS).map(|caller| match is_retried {
        false => tokio::spawn(call(pooled.clone(), Arc::clone(&ends), caller, calls)),
        true => {
            let retry = RetryLayer::new(hasty())
                .assume_idempotent()
                .classify(classify);
            let service = retry.layer(pooled.clone());
            tokio::spawn(call(service, Arc::clone(&ends), caller, calls))
        }
    });
    let all = timeout(Duration::from_secs(120), join_all(callers)).await;
    for end in all.expect("nobody hangs") {
        end.expect("only calls panic");
    }
    is_over.store(true, Relaxed);
    disturbance.await.expect("it does not panic");
    assert!(transitions.load(Relaxed) > 0);
    let entered = entered.load(Relaxed);
    Run {
        handle,
        books,
        ends,
        calls: calls * CALLERS,
        entered,
    }
}

impl Run {
    /// Everything has come back.
    fn check_returned(&self) {
        let snapshot = self.handle.snapshot();
        assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
        for scope in self.handle.scopes() {
            assert_eq!(scope.in_flight(), 0, "{scope:?}");
            assert!(scope.classes().iter().all(|class| class.in_flight() == 0));
            assert!(scope.keys().iter().all(|key| key.in_flight() == 0));
        }
        assert_eq!(self.books.in_flight.now.load(Relaxed), 0);
        assert!(self.books.in_flight.peak.load(Relaxed) <= MOST);
        assert!(snapshot.peak_active() <= MOST);
    }

    /// Every call is counted once, by everybody.
    fn check_counts(&self) {
        let Self {
            handle,
            books,
            ends,
            calls,
            entered,
        } = self;
        let snapshot = handle.snapshot();
        let count = |count: &AtomicU64| count.load(Relaxed);
        let ended = [&ends.answered, &ends.failed, &ends.refused, &ends.gone].map(count);
        assert_eq!(ended.iter().sum::<u64>(), *calls);
        assert!(snapshot.refused() > 0, "some were refused");
        assert!(count(&books.panicked) > 0, "some calls panicked");
        assert!(
            count(&ends.gone) > count(&books.panicked),
            "some were given up"
        );
        let [answered, refused] = [&books.answered, &books.refused].map(count);
        assert_eq!(snapshot.completed(), answered + refused);
        let all = snapshot.completed() + snapshot.refused() + snapshot.cancelled();
        assert_eq!(all, *entered);
        let share = snapshot.success_share().expect("some were answered");
        assert_eq!(
            (share * snapshot.completed() as f64).round() as u64,
            answered
        );
        // Those that were dropped between admission and sending are admitted, too.
        assert!(snapshot.admitted() >= count(&books.called));
        assert!(snapshot.admitted() <= snapshot.completed() + snapshot.cancelled());
    }
}

fn total(scopes: &[ScopeSnapshot], verdict: Verdict) -> [u64; 2] {
    let of_scopes = scopes.iter().map(|scope| scope.totals().get(verdict));
    let keys = scopes.iter().flat_map(|scope| scope.keys());
    let of_keys = keys.map(|key| key.totals().get(verdict));
    [of_scopes.sum(), of_keys.sum()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_any_load_everything_has_come_back_and_the_books_add_up() {
    let run = run(Load {
        calls: 20_000,
        is_retried: false,
        scopes: &[SCOPES],
        panics: u64::MAX,
    })
    .await;
    run.check_returned();
    run.check_counts();
    let (snapshot, ends) = (run.handle.snapshot(), &run.ends);
    assert_eq!(run.entered, run.calls);
    let count = |count: &AtomicU64| count.load(Relaxed);
    assert_eq!(
        snapshot.completed(),
        count(&ends.answered) + count(&ends.failed)
    );
    assert_eq!(snapshot.refused(), count(&ends.refused));
    assert_eq!(snapshot.cancelled(), count(&ends.gone));
    for scope in &run.books.of_scopes {
        assert!(scope.peak.load(Relaxed) <= MOST_OF_SCOPE);
    }
    let scopes = run.handle.scopes();
    let answered = count(&run.books.answered);
    assert_eq!(total(&scopes, Verdict::Success), [answered; 2]);
    let refused: u64 = [
        Verdict::Throttled,
        Verdict::Exhausted,
        Verdict::KeyRejected,
        Verdict::ModelDenied,
        Verdict::ServerFault,
        Verdict::Overloaded,
        Verdict::CallerFault,
    ]
    .map(|verdict| {
        let [of_scopes, of_keys] = total(&scopes, verdict);
        assert_eq!(of_scopes, of_keys);
        of_keys
    })
    .iter()
    .sum();
    assert_eq!(refused, count(&run.books.refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_they_do_with_retries_outside_and_scopes_that_come_and_go() {
    let run = run(Load {
        calls: 6_000,
        is_retried: true,
        scopes: &[SCOPES, 3, SCOPES - 5],
        panics: u64::MAX,
    })
    .await;
    run.check_returned();
    run.check_counts();
    assert!(run.entered > run.calls, "some were sent again");
    let answered = run.ends.answered.load(Relaxed);
    assert!(answered <= run.books.answered.load(Relaxed));
    assert!(answered > run.calls / 2, "{answered} answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_callback_that_panics_keeps_nothing_and_holds_up_nobody() {
    let run = run(Load {
        calls: 2_000,
        is_retried: false,
        scopes: &[SCOPES, 3],
        panics: 20,
    })
    .await;
    run.check_returned();
    // An operator whose calls panic leaves keys disabled, so many are refused.
    assert!(run.ends.answered.load(Relaxed) > run.calls / 10);
}
