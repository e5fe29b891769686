//! The provider is away for three seconds: it refuses every call, or answers none.
//!
//! Time is paused: it passes as fast as everything can be computed, so that the figures do not
//! depend on the machine.

use std::{ops::Range, time::Duration};

use embedded_provider::{Faults, Latency, Limits, Provider, Scope};
use http_body_util::BodyExt;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tower::{Service, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    call::{Facts, FactsLayer, RequestLayer, facts_fn},
    circuit_breaker::{CircuitBreakerHandle, CircuitBreakerLayer},
    error::BoxError,
    http::{Credential, Http},
    key_rotation::{self, KeyPool, KeyRotationLayer, Source},
    outcome::Idempotency,
    policy::{
        Cost, Quota,
        breaker::{BreakerConfig, State},
        limit::{Bounds, SizedVegas},
    },
    retry::RetryLayer,
};

use crate::judge::{Format, Request, client};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const BEFORE: Duration = Duration::from_secs(2);
const BLACKOUT: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(5);
/// Calls per second.
const OFFERED: u32 = 50;
/// What the provider allows: enough to make up for the blackout in six seconds.
const QUOTA: u64 = 75;
/// The most calls that may reach the provider while it is down.
const MOST_REACHED: u64 = 15;

/// A caller of three does not wait for the end.
const IMPATIENT: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Away {
    Refusing,
    Hanging,
}

const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(20),
    per_token: Duration::ZERO,
};
/// Ten times what an answer takes.
const ATTEMPT: Duration = Duration::from_millis(200);

async fn provider() -> Provider {
    let limits = Limits {
        requests_per_minute: Some(QUOTA * 60),
        burst: 100 * MS,
        ..Limits::default()
    };
    Provider::builder()
        .scope(Scope::new("org", ["secret-1", "secret-2"], limits))
        .latency(LATENCY)
        .start()
        .await
        .expect("it starts")
}

fn set(provider: &Provider, away: Option<Away>) {
    let all_overloaded = Faults {
        overloaded_share: 1.0,
        ..Faults::default()
    };
    let an_hour = Latency {
        first_token: 3_600 * SECOND,
        ..LATENCY
    };
    let (faults, latency) = match away {
        None => (Faults::default(), LATENCY),
        Some(Away::Refusing) => (all_overloaded, LATENCY),
        Some(Away::Hanging) => (Faults::default(), an_hour),
    };
    provider.set_faults(faults).expect("valid shares");
    provider.set_latency(latency);
}

/// A breaker that finds a blackout's end at most half a second late, at the price of two calls a
/// second; all else is the default. A time that doubles, as the default's, finds it as late as the
/// blackout was long if it is unlucky: with the times that hanging probes take, it asks this one after
/// 0.5, 1.7 and 3.9 s.
fn breaker() -> BreakerConfig {
    let config = BreakerConfig::builder().open(500 * MS, 500 * MS).probes(1);
    config.build().expect("a valid breaker")
}

fn pool() -> KeyPool {
    let quota = Quota::builder().requests_per_minute(QUOTA * 60).build();
    let scope = key_rotation::Scope::new("org")
        .quota(quota.expect("a valid quota"))
        .key("k1", Source::value("secret-1"))
        .key("k2", Source::value("secret-2"));
    KeyPool::builder()
        .scope(scope)
        .build()
        .expect("a valid pool")
}

/// The deadline that a request carries in a header, in milliseconds from now.
fn facts(request: &Request) -> Facts {
    let within = request.headers()["x-within"].to_str().expect("text");
    let within = Duration::from_millis(within.parse().expect("a number"));
    Facts::new(Cost::REQUEST)
        .idempotency(Idempotency::Idempotent)
        .deadline(Instant::now() + within)
}

/// How a caller fared.
#[derive(Clone, Copy, Debug)]
struct Caller {
    sent: Instant,
    ended: Instant,
    within: Duration,
    is_answered: bool,
}

async fn call<S, B>(service: S, request: Request, within: Duration) -> Caller
where
    S: Service<Request, Response = http::Response<B>, Error = BoxError>,
    B: http_body::Body,
{
    let sent = Instant::now();
    let is_answered = match service.oneshot(request).await {
        Ok(answer) => answer.status() == 200 && answer.into_body().collect().await.is_ok(),
        Err(_) => false,
    };
    Caller {
        sent,
        ended: Instant::now(),
        within,
        is_answered,
    }
}

/// What became of a blackout.
struct Report {
    callers: Vec<Caller>,
    /// When it ended.
    up: Instant,
    reached_while_down: u64,
    breaker: CircuitBreakerHandle,
}

impl Report {
    /// How many answers came so long after its end.
    fn answered(&self, after: Range<Duration>) -> usize {
        let answered = self.callers.iter().filter(|caller| caller.is_answered);
        let times = self.up + after.start..self.up + after.end;
        answered
            .filter(|caller| times.contains(&caller.ended))
            .count()
    }
}

async fn blackout(away: Away, provider: &Provider) -> Report {
    let breaker = CircuitBreakerLayer::http(breaker()).noted();
    let handle = breaker.handle();
    // Fifty calls a second of 20 ms each are one at a time. What hangs until the breaker opens is
    // what is in flight then, and four more in the places of the first four that time out.
    let bounds = Bounds::default().starting_at(4).expect("valid bounds");
    let concurrency = AdaptiveConcurrencyLayer::http(SizedVegas::new(bounds));
    let credential = Credential::header(Http, http::HeaderName::from_static("x-api-key"));
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(facts_fn(facts)))
        .layer(RetryLayer::http().noted())
        .layer(KeyRotationLayer::new(pool()).protocol(credential).noted())
        .layer(concurrency.noted())
        .layer(breaker)
        .layer(TimeoutLayer::new(ATTEMPT))
        .layer(RequestLayer)
        .service(client());

    let begin = Instant::now();
    let (down, up) = (begin + BEFORE, begin + BEFORE + BLACKOUT);
    let url = provider.url();
    let callers = tokio::spawn(async move {
        let (mut callers, mut pace) = (JoinSet::new(), interval(SECOND / OFFERED));
        for number in 0.. {
            if pace.tick().await >= up + AFTER {
                break;
            }
            let within = if number % 3 == 0 { IMPATIENT } else { PATIENT };
            let mut request = Format::Messages.request(&url, "m", false);
            let header = within.as_millis().to_string().parse().expect("a number");
            request.headers_mut().insert("x-within", header);
            callers.spawn(call(service.clone(), request, within));
        }
        callers.join_all().await
    });
    sleep_until(down).await;
    let before = provider.counters().calls;
    set(provider, Some(away));
    sleep_until(up).await;
    let reached_while_down = provider.counters().calls - before;
    set(provider, None);
    Report {
        callers: callers.await.expect("no panic"),
        up,
        reached_while_down,
        breaker: handle,
    }
}

async fn is_outlasted(away: Away) {
    let provider = provider().await;
    let report = blackout(away, &provider).await;
    let (reached, callers) = (report.reached_while_down, &report.callers);
    let lost: Vec<_> = callers.iter().filter(|call| !call.is_answered).collect();
    let in_first = report.answered(Duration::ZERO..SECOND);
    let in_second = report.answered(SECOND..2 * SECOND);
    println!(
        "{away:?}: {reached} calls reached it, the breaker refused {}; {in_first} answers in the \
         first second after it, {in_second} in the next; {} of {} callers lost",
        report.breaker.refused(),
        lost.len(),
        callers.len(),
    );
    assert!(reached <= MOST_REACHED, "{reached} calls");
    for caller in lost {
        // Those who came before them go first, and the quota says how fast.
        assert_eq!(caller.within, IMPATIENT, "{caller:?}");
    }
    for caller in callers {
        // But for an attempt that had begun.
        let latest = caller.sent + caller.within + ATTEMPT;
        assert!(caller.ended <= latest + MS, "{caller:?}");
    }
    assert!(in_first > 0, "it took longer than a second");
    assert!(in_second >= OFFERED as usize, "{in_second} answers");
    let refused = provider.counters().refused;
    assert_eq!(refused, 0, "more came at once than the quota allows");
    assert_eq!(report.breaker.snapshot().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_blackout_that_refuses_is_outlasted_by_who_has_the_time() {
    is_outlasted(Away::Refusing).await;
}

#[tokio::test(start_paused = true)]
async fn a_blackout_that_hangs_is_outlasted_by_who_has_the_time() {
    is_outlasted(Away::Hanging).await;
}
