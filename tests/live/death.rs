//! Keys that die under load, and come back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use embedded_provider::{Counters, Latency, Limits, Provider, Scope};
use futures::future::join_all;
use http_body_util::BodyExt;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::BoxError,
    http::stack,
    key_rotation::{self, KeyPool, KeyPoolBuilder, KeyRotationHandle, Source, Transition},
    outcome::Hint,
    policy::{
        Charge, Quota, Unit,
        pool::{KeyState, ScopeState},
    },
    retry::RetryEvent,
};

use crate::judge::{Format, Request, client};

/// Scopes with their keys; a key's alias is its secret's last two characters.
const SCOPES: [(&str, &[&str]); 4] = [
    ("org-a", &["secret-a1", "secret-a2"]),
    ("org-b", &["secret-b1", "secret-b2"]),
    ("org-c", &["secret-c1"]),
    ("org-d", &["secret-d1"]),
];
const REVOKED: &str = "secret-b1";
const EXHAUSTED: &str = "secret-c1";
const THROTTLED: &str = "secret-d1";

const MINUTE: Duration = Duration::from_secs(60);

/// Any two scopes can serve the whole load.
const LIMITS: Limits = Limits {
    requests_per_minute: Some(3_000),
    burst: Duration::from_secs(1),
    ..Limits::NONE
};

async fn provider() -> Provider {
    let latency = Latency {
        first_token: Duration::from_millis(15),
        ..Latency::default()
    };
    let scopes = SCOPES.map(|(name, keys)| Scope::new(name, keys.to_vec(), LIMITS));
    let builder = scopes
        .into_iter()
        .fold(Provider::builder(), |builder, scope| builder.scope(scope));
    builder.latency(latency).start().await.expect("it starts")
}

fn alias(secret: &str) -> &str {
    &secret["secret-".len()..]
}

fn builder() -> KeyPoolBuilder {
    let quota = Quota::builder()
        .requests_per_minute(2_400)
        .burst(Unit::REQUESTS, 40)
        .build()
        .expect("a valid quota");
    let scopes = SCOPES.map(|(name, keys)| {
        let scope = key_rotation::Scope::new(name).quota(quota.clone());
        let keys = keys.iter();
        keys.fold(scope, |scope, &key| {
            scope.key(alias(key), Source::value(key))
        })
    });
    scopes
        .into_iter()
        .fold(KeyPool::builder(), KeyPoolBuilder::scope)
}

fn pool() -> KeyPool {
    builder().build().expect("a valid pool")
}

/// Writes down what it is shown.
struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Notes<T> {
    fn add(&self, note: T) {
        self.0.lock().expect("not poisoned").push(note);
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

/// Sends calls one after the other at 50 a second, and never two at a time to catch up; each must
/// be answered.
async fn offer<S, B>(
    service: &S,
    provider: &Provider,
    format: Format,
    calls: usize,
    half: impl Fn(),
) where
    S: Service<Request, Response = http::Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Error: std::fmt::Debug, Data: Send> + Send,
{
    let mut pace = interval(Duration::from_millis(20));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answers = Vec::new();
    for number in 0..calls {
        pace.tick().await;
        if number == calls / 2 {
            half();
        }
        let request = format.request(&provider.url(), "m", false);
        let service = service.clone();
        answers.push(tokio::spawn(async move {
            let response = service.oneshot(request).await.expect("an answer");
            let status = response.status().as_u16();
            response.into_body().collect().await.expect("a body");
            status
        }));
    }
    for answer in join_all(answers).await {
        assert_eq!(answer.expect("no panic"), 200);
    }
}

fn of_key(provider: &Provider, secret: &str) -> Counters {
    provider.key_counters(secret).expect("a configured key")
}

fn key_state(handle: &KeyRotationHandle, secret: &str) -> KeyState {
    let scopes = handle.scopes();
    let mut keys = scopes.iter().flat_map(|scope| scope.keys());
    let key = keys.find(|key| key.alias() == alias(secret));
    key.expect("a configured key").state()
}

/// Nobody waited for what the server asked of one key while others could serve.
fn assert_free(retries: &[RetryEvent]) {
    for retry in retries {
        assert_eq!(retry.charge(), Charge::Free, "{retry:?}");
        assert!(
            matches!(retry.outcome().hint(), Some(Hint::Absorbed(_))),
            "{retry:?}"
        );
        assert_eq!(retry.wait(), Duration::ZERO, "{retry:?}");
    }
}

async fn dies_and_comes_back(format: Format, revive: impl Fn(&KeyRotationHandle)) {
    let provider = provider().await;
    let (retries, transitions) = (Notes::default(), Notes::default());
    let (on_retry, on_transition) = (retries.clone(), transitions.clone());
    let stack = stack(pool(), format.profile())
        .retry(|layer| layer.on_retry(move |event| on_retry.add(*event)))
        .key_rotation(|layer| layer.on_transition(move |change| on_transition.add(change.clone())));
    let handle = stack.handle();
    let service = stack.layer(client());

    offer(&service, &provider, format, 60, || {
        assert_eq!(retries.take().len(), 0);
        provider.revoke_key(REVOKED).expect("a known key");
        provider.exhaust_credit("org-c").expect("a known scope");
        let one_a_minute = Limits {
            requests_per_minute: Some(1),
            ..LIMITS
        };
        provider
            .set_limits("org-d", one_a_minute)
            .expect("valid limits");
    })
    .await;

    let revoked = of_key(&provider, REVOKED).unauthorized;
    let exhausted = of_key(&provider, EXHAUSTED).exhausted;
    let throttled = of_key(&provider, THROTTLED).refused;
    for (what, calls) in [("revoked", revoked), ("exhausted", exhausted)] {
        assert!((1..=2).contains(&calls), "{calls} calls of the {what} key");
    }
    // The last answer's headers may have told before anybody was refused.
    assert!(throttled <= 2, "{throttled} calls of the throttled key");
    let refusals = revoked + exhausted + throttled;
    let retried = retries.take();
    assert_eq!(retried.len() as u64, refusals);
    assert_free(&retried);
    let waited = |change: &Transition| matches!(change, Transition::Saturated);
    assert!(!transitions.take().iter().any(waited), "a call was queued");
    let counters = provider.counters();
    assert_eq!(counters.answered, 60);
    assert_eq!(counters.calls, 60 + refusals);
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.completed(), counters.calls);
    assert_eq!(snapshot.admitted(), counters.calls);
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
    assert_eq!(key_state(&handle, REVOKED), KeyState::Rejected(None));
    let credit = handle.scopes()[2].state();
    assert!(matches!(credit, ScopeState::Exhausted(_)), "{credit:?}");
    let resting = handle.scopes()[3].classes()[0].rests_until().is_some();
    assert_eq!(resting, throttled > 0);

    provider.restore_key(REVOKED).expect("a known key");
    provider.restore_credit("org-c").expect("a known scope");
    provider.set_limits("org-d", LIMITS).expect("valid limits");
    let dead = [REVOKED, EXHAUSTED, THROTTLED];
    let before = dead.map(|key| of_key(&provider, key).answered);
    revive(&handle);
    handle.reopen("org-c").expect("a known scope");
    handle.reopen("org-d").expect("a known scope");
    // What the headers of org-d have shown holds as long as they said.
    sleep(2 * MINUTE).await;
    offer(&service, &provider, format, 30, || ()).await;
    let after = dead.map(|key| of_key(&provider, key).answered);
    for ((key, before), after) in dead.iter().zip(before).zip(after) {
        assert!(after > before, "{key} is not used again");
        assert_eq!(key_state(&handle, key), KeyState::Usable);
    }
    assert_free(&retries.take());
    assert!(!transitions.take().iter().any(waited), "a call was queued");
}

#[tokio::test(start_paused = true)]
async fn keys_that_die_under_load_cost_no_caller_anything_and_come_back_when_enabled() {
    dies_and_comes_back(Format::Messages, |handle| {
        handle.enable(alias(REVOKED)).expect("a known key");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_die_under_load_cost_no_caller_anything_and_come_back_with_a_reload() {
    dies_and_comes_back(Format::Chat, |handle| {
        assert_eq!(handle.reload(pool()), []);
    })
    .await;
}

#[tokio::test]
async fn what_is_restored_is_found_by_single_calls() {
    let moment = Duration::from_millis(100);
    let provider = provider().await;
    let pool = builder().reprobe_rejected(moment).exhausted_rest(moment);
    let stack = stack(pool.build().expect("a valid pool"), Format::Chat.profile());
    let handle = stack.handle();
    let service = stack.layer(client());
    let call = async || {
        let request = Format::Chat.request(&provider.url(), "m", false);
        let response = service.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a body");
    };
    provider.revoke_key(REVOKED).expect("a known key");
    provider.exhaust_credit("org-c").expect("a known scope");
    let patience = Duration::from_secs(60);
    let found_out = async {
        // They are tried more than once, and stay out.
        while of_key(&provider, REVOKED).unauthorized < 3
            || of_key(&provider, EXHAUSTED).exhausted < 3
        {
            call().await;
        }
    };
    timeout(patience, found_out).await.expect("they are tried");
    provider.restore_key(REVOKED).expect("a known key");
    provider.restore_credit("org-c").expect("a known scope");
    let back = async {
        while of_key(&provider, REVOKED).answered == 0 || of_key(&provider, EXHAUSTED).answered == 0
        {
            call().await;
        }
    };
    timeout(patience, back).await.expect("they are used again");
    assert_eq!(key_state(&handle, REVOKED), KeyState::Usable);
    assert_eq!(handle.scopes()[2].state(), ScopeState::Open);
}

#[tokio::test]
async fn a_call_that_every_key_refuses_ends_with_the_last_refusal() {
    for format in [Format::Messages, Format::Chat] {
        let provider = provider().await;
        let stack = stack(pool(), format.profile());
        let retries = stack.retry_handle();
        let service = stack.layer(client());
        for key in SCOPES.iter().flat_map(|(_, keys)| keys.iter()) {
            provider.revoke_key(key).expect("a known key");
        }
        let call = || {
            let request = format.request(&provider.url(), "m", false);
            service.clone().oneshot(request)
        };
        let answer = call().await.expect("the refusal as it was");
        assert_eq!(answer.status(), 401);
        let text = answer.into_body().collect().await.expect("a body");
        let text = text.to_bytes();
        assert!(
            text.windows(7)
                .any(|word| word == b"api_key" || word == b"api-key")
        );
        assert_eq!(provider.counters().unauthorized, 6);
        let error = call().await.expect_err("nobody is left");
        assert_eq!(
            error.to_string(),
            "no key can serve the call: a1 was rejected by the server, a2 was rejected by the \
             server, b1 was rejected by the server, b2 was rejected by the server, c1 was \
             rejected by the server, d1 was rejected by the server"
        );
        assert_eq!(provider.counters().calls, 6, "nobody was asked again");
        assert_eq!(retries.snapshot().retries(), 0);
        assert_eq!(retries.snapshot().budget_level(), 500);
    }
}
