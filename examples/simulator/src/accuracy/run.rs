//! One run: workers, the library's layers, and the provider, on one thread in virtual time.
#![allow(
    clippy::disallowed_methods,
    reason = "the workers live in virtual time and measure it"
)]

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use embedded_provider::{Latency, Provider, ProviderService, Scope};
use fastrand::Rng;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    call::{Facts, ReadFacts},
    error::BoxError,
    http::{BytesPerToken, stack},
    key_rotation::{self, KeyPool, Source},
    policy::Estimator,
    provider::JsonFacts,
};

use super::{
    figures::{Figures, Reading},
    load::{self, Sizes},
    row::{Estimates, Row},
};

const WORKERS: usize = 200;
const SCOPE: &str = "org-a";
const KEY: &str = "key-1";
const MINUTE: Duration = Duration::from_secs(60);

const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(400),
    per_token: Duration::from_millis(15),
};

/// What the provider is like without telling anybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secrets {
    pub(super) drift: f64,
    pub(super) jitter: Duration,
    pub(super) burst: Duration,
    /// What headers say of the burst, if it is not so.
    pub(super) shown: Option<Duration>,
}

impl Secrets {
    /// The first two have the extremes of drift with the smallest burst; others are drawn.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5ec2e7);
        let bursts = [1, 1, 3, 10, 60];
        let drift = match seed {
            0 => -0.01,
            1 => 0.01,
            _ => 0.02 * rng.f64() - 0.01,
        };
        let seconds = bursts[usize::try_from(seed % 5).expect("less than five")];
        Self {
            drift,
            jitter: Duration::from_millis(20),
            burst: Duration::from_secs(seconds),
            shown: (seed % 2 == 1).then_some(MINUTE),
        }
    }
}

/// What the workers have seen.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    /// Calls that ended without their answer, and why the first of them did.
    lost: u64,
    first_loss: Option<String>,
    /// From the question to the answer's head, without the time of generation.
    waits: Vec<Duration>,
}

pub(super) fn run(row: &Row, seed: u64, minutes: u64) -> Figures {
    // The layers' own chance.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let end = MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX);
    LocalSet::new().block_on(&runtime, simulate(row, seed, end))
}

async fn simulate(row: &Row, seed: u64, end: Duration) -> Figures {
    let provider = provider(row, seed);
    let service = client(row, seed, provider.service());
    let began = Instant::now();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let rng = Rng::with_seed(seed.wrapping_mul(WORKERS as u64) + number as u64);
            let worker = work(
                service.clone(),
                row.clone(),
                rng,
                began + end,
                Rc::clone(&seen),
            );
            tokio::task::spawn_local(worker)
        })
        .collect();
    sleep(MINUTE).await;
    let warm = read(&provider);
    sleep(end - MINUTE).await;
    let last = read(&provider);
    for worker in workers {
        worker.await.expect("no worker panics");
    }
    let mut seen = seen.take();
    seen.waits.sort_unstable();
    let percentile = |share: f64| {
        let at = (seen.waits.len() as f64 * share) as usize;
        seen.waits.get(at).copied().unwrap_or_default()
    };
    Figures {
        seed,
        secrets: Secrets::of(seed),
        warm,
        last,
        lost: seen.lost,
        answered: seen.answered,
        first_loss: seen.first_loss.take(),
        p50: percentile(0.5),
        p99: percentile(0.99),
    }
}

fn provider(row: &Row, seed: u64) -> Provider {
    let secrets = Secrets::of(seed);
    let mut limits = row.limits;
    limits.burst = secrets.burst;
    limits.shown_burst = secrets.shown;
    Provider::builder()
        .scope(Scope::new(SCOPE, [KEY], limits))
        .seed(seed)
        .charging(row.charging)
        .limit_headers(row.headers)
        .clock_drift(secrets.drift)
        .arrival_jitter(secrets.jitter)
        .latency(LATENCY)
        .start_in_process()
        .expect("all rows are valid")
}

fn read(provider: &Provider) -> Reading {
    Reading {
        books: provider.books(SCOPE).expect("the scope is configured"),
        counters: provider.counters(),
    }
}

/// The library's layers in the recommended order before the provider.
fn client(
    row: &Row,
    seed: u64,
    provider: ProviderService,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + use<>>,
    Error = BoxError,
> + Clone
+ use<> {
    let mut scope = key_rotation::Scope::new(SCOPE).key("a1", Source::value(KEY));
    scope = scope.quota(row.quota());
    let pool = KeyPool::builder().scope(scope).build();
    let pool = pool.expect("one scope with one key");
    let error = load::error_of_all(row, seed);
    let stack = stack(pool, row.profile()).facts(Guess {
        facts: row.profile().facts(),
        error,
    });
    let stack = match row.estimates {
        Estimates::Stated => stack,
        _ => stack.key_rotation(|layer| layer.estimate(Estimator::new())),
    };
    stack.layer(provider)
}

/// Reads facts, and takes the bytes for so many times the real tokens.
#[derive(Clone, Copy)]
struct Guess {
    facts: JsonFacts,
    error: f64,
}

impl ReadFacts<Request<Full<Bytes>>> for Guess {
    fn read(&self, request: &Request<Full<Bytes>>) -> Facts {
        let own = request.headers().get(load::ERROR);
        let own = own.and_then(|error| error.to_str().ok()?.parse::<f64>().ok());
        let ratio = BytesPerToken::new(4.0 / (self.error * own.unwrap_or(1.0)));
        let ratio = ratio.expect("all errors are between a tenth and four");
        self.facts.bytes_per_token(ratio).read(request)
    }
}

async fn work<S, B>(service: S, row: Row, mut rng: Rng, end: Instant, seen: Rc<RefCell<Seen>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError> + Clone,
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    while Instant::now() < end {
        let sizes = Sizes::draw(&mut rng, &row);
        let asked = Instant::now();
        let answer = service.clone().oneshot(sizes.request(row.format)).await;
        let waited = asked.elapsed();
        let result = match answer {
            Ok(response) if response.status() == 200 => {
                let body = response.into_body().collect().await;
                body.map(drop).map_err(|error| error.into().to_string())
            }
            Ok(response) => Err(format!("status {}", response.status())),
            Err(error) => Err(error.to_string()),
        };
        let mut seen = seen.borrow_mut();
        match result {
            Ok(()) => {
                seen.answered += 1;
                seen.waits.push(waited.saturating_sub(generation(&sizes)));
            }
            Err(reason) => {
                seen.lost += 1;
                seen.first_loss.get_or_insert(reason);
            }
        }
    }
}

/// What passes at the provider before the head of the answer.
fn generation(sizes: &Sizes) -> Duration {
    match sizes.is_stream {
        true => Duration::ZERO,
        false => {
            let tokens = u32::try_from(sizes.output).expect("answers are short");
            LATENCY.first_token + LATENCY.per_token * tokens
        }
    }
}
