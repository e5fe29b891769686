//! How a call gets a key and is sent: the layers of one upstream.

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
use tokio::task::AbortHandle;
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    call::{self, Facts, FactsLayer, ReadFacts, RequestLayer},
    circuit_breaker::{KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer},
    error::{BoxError, Rejected},
    http::{Class, Reported, classify_error, classify_head},
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer},
    metrics::waits,
    observe::ObserveLayer,
    outcome::{Idempotency, Outcome, Verdict},
    policy::{
        Cost, RetryPolicy, Shares,
        limit::{Aimd, SizedVegas},
        pool::KeyState,
    },
    provider::{JsonFacts, ProviderLayer},
    retry::{RetryHandle, RetryLayer},
};

use super::{labels, models::Models};
use crate::{
    config::{self, Algorithm},
    headers::fit_credential,
};

/// A request for a path, without host and credential.
pub(crate) type Call = Request<Full<Bytes>>;
/// Passed on frame by frame.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
type Layers = BoxCloneSyncService<Call, Response<Body>, BoxError>;

/// The layers of one upstream around a client, and their handles. Clones share all of it.
#[derive(Clone)]
pub(crate) struct Stack {
    layers: Layers,
    keys: KeyRotationHandle,
    retries: RetryHandle,
    breakers: KeyedCircuitBreakerHandle<Option<Authority>>,
    /// Whether its scopes are at several hosts.
    is_spread: Arc<AtomicBool>,
    models: Models,
    _second_chances: Arc<SecondChances>,
}

impl Stack {
    /// `idempotency` is that of calls which do not say it by their method or a header.
    pub(crate) fn new<C, B>(
        config: &config::Upstream,
        client: C,
        idempotency: Idempotency,
        retry: RetryPolicy,
    ) -> Self
    where
        C: Service<Call, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
    {
        let profile = config.provider.profile();
        let is_spread = Arc::new(AtomicBool::new(hosts(config).len() > 1));
        let spread = Arc::clone(&is_spread);
        let labels = labels::of(config);
        let rotation = rotation(config)
            .on_wait(waits("key rotation", &labels))
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
        let fits_credential = config.provider.name == "anthropic";
        let longest = config.max_wait;
        let outcome = move |result: Result<&_, &_>| refused_is_final(result, longest);
        let retry = RetryLayer::new(retry)
            .protocol(Reported)
            .classify(outcome)
            .noted();
        let retries = retry.handle();
        let models = Models::default();
        // Models that a reload names are told apart after a restart.
        let observe = ObserveLayer::of(&profile)
            .operation(labels::operation(config))
            .models(labels::models(config))
            .labels(labels)
            .noted();
        let layers = ServiceBuilder::new()
            .layer(FactsLayer::new(JsonAlone(
                config.estimate.policy().is_some().then(|| models.clone()),
                profile
                    .facts()
                    .idempotency(idempotency)
                    .affinity(config.affinity.facts()),
            )))
            .layer(observe)
            .layer(retry)
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
            .map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Self {
            layers: BoxCloneSyncService::new(layers),
            _second_chances: Arc::new(SecondChances::of(keys.clone())),
            keys,
            retries,
            breakers,
            is_spread,
            models,
        }
    }

    /// Scopes, keys and shares as `config` has them; what is known of those that stay is kept. The
    /// rest is as it was.
    pub(crate) fn reload(&self, config: &config::Upstream) {
        self.is_spread.store(hosts(config).len() > 1, Relaxed);
        let shares = config.classes.as_ref().map(|classes| &classes.shares);
        match shares {
            // New ones forget who was served how much.
            Some(shares) if !self.has_shares(shares) => self.keys.set_shares(shares),
            None => self.keys.remove_shares(),
            Some(_) => {}
        }
        self.keys.reload(pool(config));
    }

    fn has_shares(&self, shares: &Shares) -> bool {
        let present = self.keys.shares();
        let present = present.iter().map(|share| (share.name(), share.weight()));
        present.eq(shares.classes())
    }

    pub(crate) async fn call(&self, call: Call) -> Result<Response<Body>, BoxError> {
        self.layers.clone().oneshot(call).await
    }

    pub(crate) const fn keys(&self) -> &KeyRotationHandle {
        &self.keys
    }

    pub(crate) const fn retries(&self) -> &RetryHandle {
        &self.retries
    }

    /// The models that were asked for, the first few.
    pub(crate) fn models(&self) -> Vec<Arc<str>> {
        self.models.names()
    }

    pub(crate) const fn breakers(&self) -> &KeyedCircuitBreakerHandle<Option<Authority>> {
        &self.breakers
    }
}

/// Keys, their quotas and, unless it is off, a limit that learns, all in one queue: tokens that were
/// taken before a call waits for a place would be spent too fast when the places come free.
fn rotation(config: &config::Upstream) -> KeyRotationLayer {
    let mut rotation = KeyRotationLayer::new(pool(config));
    if let Some(classes) = &config.classes {
        rotation = rotation.shares(classes.shares.clone());
    }
    if let Some(estimator) = config.estimate.policy() {
        rotation = rotation.estimate(estimator);
    }
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
pub(crate) fn hosts(config: &config::Upstream) -> Vec<Authority> {
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
    let outcome = outcome_of(response);
    match (response.status(), outcome.verdict()) {
        (
            StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
            Verdict::ModelDenied | Verdict::Region,
        ) => Outcome::new(Verdict::CallerFault),
        _ => outcome,
    }
}

/// What the provider's layer has read of a response, or its head says.
pub(crate) fn outcome_of<B>(response: &Response<B>) -> Outcome {
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
        Ok(response) => outcome_of(response),
    }
}

/// The facts of JSON requests. What else is forwarded, such as the upload of a file, costs no
/// tokens however large it is; whether it may be repeated is for its method and headers to say.
#[derive(Clone, Debug)]
struct JsonAlone(Option<Models>, JsonFacts);

impl ReadFacts<Call> for JsonAlone {
    fn read(&self, call: &Call) -> Facts {
        let kind = call.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        match kind.eq_ignore_ascii_case("application/json") {
            true => {
                let facts = self.1.read(call);
                if let (Some(models), Some(model)) = (&self.0, facts.model_name()) {
                    models.note(model);
                }
                facts
            }
            false => {
                let facts = Facts::new(Cost::REQUEST);
                match call.extensions().get::<Class>() {
                    Some(class) => facts.class(class.name()),
                    None => facts,
                }
            }
        }
    }
}
