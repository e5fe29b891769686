//! A provider that serves so many calls at once, lets some wait, and refuses the others.
//!
//! Time is paused: it passes as fast as everything can be computed, so that the figures do not
//! depend on the machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use embedded_provider::{Capacity, Latency, Limits, Provider, Scope};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer, error::BoxError, policy::limit::SizedVegas,
};

use crate::judge::{Format, Request, client};

const SERVED: u64 = 8;
const QUEUE: u64 = 32;
const WORKERS: usize = 64;
/// Some 1,200 calls.
const WHILE: Duration = Duration::from_secs(12);

const fn capacity(at_once: u64) -> Capacity {
    Capacity {
        at_once,
        queue: QUEUE,
    }
}

async fn provider() -> Provider {
    // An answer takes 64 to 100 ms.
    let latency = Latency {
        first_token: Duration::from_millis(60),
        per_token: Duration::from_millis(2),
    };
    Provider::builder()
        .scope(Scope::new("org", ["key-1"], Limits::default()))
        .latency(latency)
        .capacity(capacity(SERVED))
        .start()
        .await
        .expect("it starts")
}

/// Workers that each send one call after the other, until they are dropped; a refused one
/// sends its next call at once.
struct Workers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Workers {
    fn start<S, B>(number: usize, service: &S, provider: &Provider) -> Self
    where
        S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Error: std::fmt::Debug, Data: Send> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..number {
            let (service, stop, url) = (service.clone(), Arc::clone(&stop), provider.url());
            tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    let mut request = Format::Messages.request(&url, "m", false);
                    let key = http::HeaderValue::from_static("key-1");
                    request.headers_mut().insert("x-api-key", key);
                    let answer = service.clone().oneshot(request).await.map_err(Into::into);
                    let body = answer.expect("an answer").into_body();
                    body.collect().await.expect("a body");
                }
            });
        }
        Self { tasks, stop }
    }

    /// Lets them finish what they have begun.
    async fn end(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
    }
}

/// Calls answered and turned away in the next [`WHILE`].
async fn count(provider: &Provider) -> (u64, u64) {
    let before = provider.counters();
    tokio::time::sleep(WHILE).await;
    let after = provider.counters();
    (
        after.answered - before.answered,
        after.overloaded - before.overloaded,
    )
}

/// What so many workers without any limit get, one for each place.
async fn of_exactly(at_once: u64) -> u64 {
    let provider = provider().await;
    provider
        .set_capacity(Some(capacity(at_once)))
        .expect("a valid capacity");
    let workers = Workers::start(at_once as usize, &client(), &provider);
    let (answered, refused) = count(&provider).await;
    workers.end().await;
    assert_eq!(refused, 0);
    answered
}

#[track_caller]
fn assert_share(answered: u64, of: u64) {
    let share = answered as f64 / of as f64;
    println!("{answered} of {of}: {share:.3}");
    assert!(share >= 0.95, "{answered} of {of}: {share:.3}");
}

/// The limit may look for more, but not as far as the line goes.
#[track_caller]
fn assert_settled(limit: usize, at_once: u64, refused: u64) {
    println!("limit {limit} for {at_once}, {refused} turned away");
    assert!(limit as u64 <= 3 * at_once, "a limit of {limit}");
    assert_eq!(refused, 0);
}

#[tokio::test(start_paused = true)]
async fn with_the_default_limit_a_crowd_gets_what_exactly_as_many_as_fit_get() {
    let eight = of_exactly(SERVED).await;
    let four = of_exactly(SERVED / 2).await;

    let provider = provider().await;
    let layer = AdaptiveConcurrencyLayer::http(SizedVegas::default());
    let limit = layer.handle();
    let workers = Workers::start(WORKERS, &layer.layer(client()), &provider);
    // From the first call on.
    let (answered, refused) = count(&provider).await;
    assert_settled(limit.limit(), SERVED, refused);
    assert_share(answered, eight);

    provider
        .set_capacity(Some(capacity(SERVED / 2)))
        .expect("a valid capacity");
    let (answered, refused) = count(&provider).await;
    assert_settled(limit.limit(), SERVED / 2, refused);
    assert_share(answered, four);

    provider
        .set_capacity(Some(capacity(SERVED)))
        .expect("a valid capacity");
    let (answered, refused) = count(&provider).await;
    assert_settled(limit.limit(), SERVED, refused);
    assert_share(answered, eight);
    workers.end().await;
}
