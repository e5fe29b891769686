//! A running upstream: how a call gets a key and is sent.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::{task::AbortHandle, time::Instant};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    call::{Facts, FactsLayer, ReadFacts, RequestLayer},
    error::{BoxError, Rejected},
    http::{Credential, Http, classify_error, classify_head},
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer},
    outcome::{Idempotency, Outcome, Verdict},
    policy::{Cost, pool::KeyState},
    protocol::timestamp,
    provider::JsonFacts,
    retry::RetryLayer,
};

use crate::complain;

use super::{
    client::HttpClient,
    config,
    paths::Pattern,
    providers::CredentialHeader,
    status::{ScopeStatus, UpstreamStatus},
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
    second_chances: Arc<SecondChances>,
}

impl Upstream {
    pub(super) fn new(config: config::Upstream, client: &HttpClient) -> Self {
        let credential = match &config.provider.credential {
            CredentialHeader::Bearer => Credential::bearer(Http),
            CredentialHeader::Named(name) => Credential::header(Http, name.clone()),
        };
        let rotation = KeyRotationLayer::new(pool(&config))
            .max_wait(config.max_wait)
            .max_waiting(config.max_waiting)
            .protocol(credential)
            .classify(blame)
            .noted();
        let keys = rotation.handle();
        let service = ServiceBuilder::new()
            .layer(FactsLayer::new(JsonAlone))
            // Which calls may be repeated is for the callers to say: anything is forwarded.
            .layer(RetryLayer::http().classify(refused_is_final).noted())
            .layer(rotation)
            .layer(RequestLayer)
            .service(client.clone())
            .map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Self {
            service: BoxCloneSyncService::new(service),
            second_chances: Arc::new(SecondChances::of(keys.clone())),
            keys,
            config,
        }
    }

    /// The same with another configuration; what is known of scopes and keys that stay is kept.
    /// The bounds of its queue stay as they were.
    pub(super) fn reloaded(&self, config: config::Upstream) -> Self {
        let bounds = |config: &config::Upstream| (config.max_wait, config.max_waiting);
        if bounds(&config) != bounds(&self.config) {
            let name = &config.name;
            complain(&format!(
                "warning: upstream {name}: a new `max_wait` or `max_waiting` takes a restart; \
                 the rest is reloaded"
            ));
        }
        self.keys.reload(pool(&config));
        Self {
            config,
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
            scopes: scopes
                .iter()
                .map(|scope| ScopeStatus::new(scope, now))
                .collect(),
        }
    }
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
/// would take a model from every key or all scopes out: by its head alone it is the caller's.
fn blame<B>(result: Result<&Response<B>, &BoxError>) -> Outcome {
    let outcome = match result {
        Ok(response) => classify_head(response.status(), response.headers()),
        Err(error) => classify_error(error),
    };
    match outcome.verdict() {
        Verdict::ModelDenied | Verdict::Region => Outcome::new(Verdict::CallerFault),
        _ => outcome,
    }
}

/// A refusal of the queue has an end: `max_wait` says how long a call waits.
fn refused_is_final<B>(result: Result<&Response<B>, &BoxError>) -> Outcome {
    match result {
        Err(error) if Rejected::find(&**error).is_some() => Outcome::new(Verdict::RefusedLocally),
        Err(error) => classify_error(error),
        Ok(response) => match response.extensions().get() {
            Some(known) => *known,
            None => classify_head(response.status(), response.headers()),
        },
    }
}

/// The facts of JSON requests. What else is forwarded, such as the upload of a file, costs no
/// tokens however large it is; whether it may be repeated is for its method and headers to say.
#[derive(Clone, Copy, Debug)]
struct JsonAlone;

impl ReadFacts<Call> for JsonAlone {
    fn read(&self, call: &Call) -> Facts {
        let kind = call.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        match kind.eq_ignore_ascii_case("application/json") {
            true => JsonFacts::new()
                .idempotency(Idempotency::Unknown)
                .read(call),
            false => Facts::new(Cost::REQUEST),
        }
    }
}
