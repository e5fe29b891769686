//! A running upstream: how a call gets a key and is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE, uri::Authority};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::{task::AbortHandle, time::Instant};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    call::{self, Facts, FactsLayer, ReadFacts, RequestLayer},
    circuit_breaker::{KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer},
    error::{BoxError, Rejected},
    http::{Reported, classify_error, classify_head},
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer},
    outcome::{Idempotency, Outcome, Verdict},
    policy::{
        Cost,
        limit::{Aimd, SizedVegas},
        pool::KeyState,
    },
    protocol::timestamp,
    provider::{JsonFacts, ProviderLayer},
    retry::RetryLayer,
};

use crate::complain;

use super::{
    client::HttpClient,
    config::{self, Algorithm},
    headers::fit_credential,
    paths::Pattern,
    status::{BreakerStatus, ConcurrencyStatus, ScopeStatus, UpstreamStatus},
    timeouts::{Clockwork, Timed},
};

/// A request for a path, without host and credential.
pub(super) type Call = Request<Full<Bytes>>;
/// Forwarded frame by frame.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;
type Service = BoxCloneSyncService<Call, Response<Body>, BoxError>;

pub(super) struct Upstream {
    config: config::Upstream,
    service: Service,
    keys: KeyRotationHandle,
    breakers: KeyedCircuitBreakerHandle<Option<Authority>>,
    /// Whether its scopes are at several hosts.
    is_spread: Arc<AtomicBool>,
    /// What a reload changes of the client.
    clockwork: Clockwork,
    second_chances: Arc<SecondChances>,
}

impl Upstream {
    pub(super) fn new(config: config::Upstream) -> Self {
        let profile = config.provider.profile();
        let is_spread = Arc::new(AtomicBool::new(hosts(&config).len() > 1));
        let spread = Arc::clone(&is_spread);
        let rotation = rotation(&config)
            .max_wait(config.max_wait)
            .max_waiting(config.max_waiting)
            .protocol(profile.clone())
            .classify(move |result: Result<&_, &_>| blame(result, spread.load(Relaxed)))
            .noted();
        let keys = rotation.handle();
        let breaker = config.breaker.policy();
        let breaker = breaker.expect("it was checked when it was read");
        let breaker = KeyedCircuitBreakerLayer::new(breaker, host).protocol(profile.clone());
        let breakers = breaker.handle();
        let clockwork = Clockwork::new(config.timeouts);
        let client = Timed::new(HttpClient::new(&config), clockwork.clone());
        let fits_credential = config.provider.name == "anthropic";
        let longest = config.max_wait;
        let outcome = move |result: Result<&_, &_>| refused_is_final(result, longest);
        let service = ServiceBuilder::new()
            // Which calls may be repeated is for the callers to say: anything is forwarded.
            .layer(FactsLayer::new(JsonAlone(
                profile.facts().idempotency(Idempotency::Unknown),
            )))
            .layer(
                RetryLayer::default()
                    .protocol(Reported)
                    .classify(outcome)
                    .noted(),
            )
            .layer(rotation)
            .layer(breaker.noted())
            .layer(RequestLayer)
            .layer(ProviderLayer::new(profile))
            .map_request(move |mut call: Call| {
                if fits_credential {
                    fit_credential(call.headers_mut());
                }
                call
            })
            .service(client)
            .map_response(|response| response.map(|body| body.boxed_unsync()));
        Self {
            service: BoxCloneSyncService::new(service),
            second_chances: Arc::new(SecondChances::of(keys.clone())),
            keys,
            breakers,
            is_spread,
            clockwork,
            config,
        }
    }

    /// The same with another configuration; what is known of scopes and keys that stay is kept.
    /// The bounds of its queue, its breakers and its concurrency stay as they were.
    pub(super) fn reloaded(&self, config: config::Upstream) -> Self {
        let bounds = |config: &config::Upstream| (config.max_wait, config.max_waiting);
        if bounds(&config) != bounds(&self.config) {
            let name = &config.name;
            complain(&format!(
                "warning: upstream {name}: a new `max_wait` or `max_waiting` takes a restart; \
                 the rest is reloaded"
            ));
        }
        let learned = |config: &config::Upstream| (config.breaker, config.concurrency);
        if learned(&config) != learned(&self.config) {
            let name = &config.name;
            complain(&format!(
                "warning: upstream {name}: another `breaker` or `concurrency` takes a restart; \
                 the rest is reloaded"
            ));
        }
        let connecting = |config: &config::Upstream| (config.timeouts.connect, config.http2);
        if connecting(&config) != connecting(&self.config) {
            let name = &config.name;
            complain(&format!(
                "warning: upstream {name}: another `timeouts.connect`, `http2` or \
                 `streams_per_connection` takes a restart; the rest is reloaded"
            ));
        }
        self.clockwork.set(config.timeouts);
        self.is_spread.store(hosts(&config).len() > 1, Relaxed);
        self.keys.reload(pool(&config));
        Self {
            config: config::Upstream {
                breaker: self.config.breaker,
                concurrency: self.config.concurrency,
                http2: self.config.http2,
                timeouts: config::Timeouts {
                    connect: self.config.timeouts.connect,
                    ..config.timeouts
                },
                ..config
            },
            breakers: self.breakers.clone(),
            is_spread: Arc::clone(&self.is_spread),
            clockwork: self.clockwork.clone(),
            service: self.service.clone(),
            keys: self.keys.clone(),
            second_chances: Arc::clone(&self.second_chances),
        }
    }

    pub(super) const fn config(&self) -> &config::Upstream {
        &self.config
    }

    pub(super) async fn call(&self, call: Call) -> Result<Response<Body>, BoxError> {
        self.service.clone().oneshot(call).await
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        let scopes = self.keys.scopes();
        let now = timestamp(Instant::now());
        UpstreamStatus {
            name: self.config.name.clone(),
            provider: self.config.provider.name,
            base_url: self.config.base_url.to_string(),
            paths: self.config.paths.iter().map(Pattern::to_string).collect(),
            queue: (&self.keys.snapshot()).into(),
            concurrency: self
                .keys
                .concurrency()
                .map(|limit| ConcurrencyStatus::new(limit, &self.keys.snapshot())),
            breakers: self.config.breaker.is_enabled().then(|| {
                let hosts = hosts(&self.config).into_iter();
                hosts
                    .map(|host| {
                        let name = host.to_string();
                        BreakerStatus::new(name, self.breakers.get(&Some(host)), now)
                    })
                    .collect()
            }),
            scopes: scopes
                .iter()
                .map(|scope| ScopeStatus::new(scope, now))
                .collect(),
        }
    }
}

/// Keys, their quotas and, unless it is off, a limit that learns, all in one queue: tokens that were
/// taken before a call waits for a place would be spent too fast when the places come free.
fn rotation(config: &config::Upstream) -> KeyRotationLayer {
    let rotation = KeyRotationLayer::new(pool(config));
    let concurrency = config.concurrency;
    if !concurrency.is_enabled() {
        return rotation;
    }
    let bounds = concurrency.bounds();
    let bounds = bounds.expect("they were checked when they were read");
    match concurrency.algorithm {
        Algorithm::SizedVegas => rotation.concurrency(SizedVegas::new(bounds)),
        Algorithm::Aimd => rotation.concurrency(Aimd::new(bounds)),
    }
}

/// Where its calls go, each host once.
fn hosts(config: &config::Upstream) -> Vec<Authority> {
    let mut hosts = Vec::new();
    for scope in &config.scopes {
        let url = scope.base_url.as_ref().unwrap_or(&config.base_url);
        if !hosts.contains(url.authority()) {
            hosts.push(url.authority().clone());
        }
    }
    hosts
}

/// Where a call goes, once its key has said so.
fn host(call: &call::Call<Call>) -> Option<Authority> {
    call.request().uri().authority().cloned()
}

/// Enables rejected keys from time to time, as long as it lives. A path that no key may call is
/// answered with 401 as well, and must not take them all out for good. The pool's own trials would
/// let callers wait for them.
struct SecondChances(AbortHandle);

/// A key that is dead costs one call in this time.
const SECOND_CHANCE: Duration = Duration::from_secs(300);

impl SecondChances {
    fn of(keys: KeyRotationHandle) -> Self {
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SECOND_CHANCE).await;
                for scope in keys.scopes() {
                    for key in scope.keys() {
                        if matches!(key.state(), KeyState::Rejected(_)) {
                            // A reload may have removed it since.
                            let _ = keys.enable(key.alias());
                        }
                    }
                }
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for SecondChances {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn pool(config: &config::Upstream) -> KeyPool {
    config.pool().expect("it was checked when it was read")
}

/// Whom a failure is about. A 403 or 451 may as well be about one caller's prompt or path, and
/// would take a model from every key or all scopes out: it is the caller's.
///
/// Where scopes are at several hosts, one whose host's breaker is open rests until calls pass, so
/// that those at other hosts serve meanwhile.
fn blame<B>(result: Result<&Response<B>, &BoxError>, is_spread: bool) -> Outcome {
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            return match Rejected::find(&**error) {
                Some(Rejected::BreakerOpen(open)) if is_spread => {
                    let wait = open.retry_after().unwrap_or_default();
                    Outcome::new(Verdict::Throttled).after(wait)
                }
                _ => classify_error(error),
            };
        }
    };
    let outcome = read(response);
    match (response.status(), outcome.verdict()) {
        (
            StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
            Verdict::ModelDenied | Verdict::Region,
        ) => Outcome::new(Verdict::CallerFault),
        _ => outcome,
    }
}

/// What the provider's layer has read of a response, or its head says.
fn read<B>(response: &Response<B>) -> Outcome {
    match response.extensions().get() {
        Some(known) => *known,
        None => classify_head(response.status(), response.headers()),
    }
}

/// A refusal of a queue is final: `max_wait` says how long a call waits there, and it has waited.
/// That of a breaker has cost no time yet, and is waited out if it says so little: the call is sent
/// when the provider is back, and costs it nothing until then.
fn refused_is_final<B>(result: Result<&Response<B>, &BoxError>, longest: Duration) -> Outcome {
    match result {
        Err(error) => match Rejected::find(&**error) {
            Some(Rejected::BreakerOpen(open))
                if open.retry_after().is_some_and(|wait| wait <= longest) =>
            {
                classify_error(error)
            }
            Some(_) => Outcome::new(Verdict::RefusedLocally),
            None => classify_error(error),
        },
        Ok(response) => read(response),
    }
}

/// The facts of JSON requests. What else is forwarded, such as the upload of a file, costs no
/// tokens however large it is; whether it may be repeated is for its method and headers to say.
#[derive(Clone, Copy, Debug)]
struct JsonAlone(JsonFacts);

impl ReadFacts<Call> for JsonAlone {
    fn read(&self, call: &Call) -> Facts {
        let kind = call.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        match kind.eq_ignore_ascii_case("application/json") {
            true => self.0.read(call),
            false => Facts::new(Cost::REQUEST),
        }
    }
}
