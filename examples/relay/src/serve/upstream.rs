//! A running upstream: how a call gets a key and is sent.

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_relay::{
    call::{Facts, FactsLayer, ReadFacts, RequestLayer},
    error::BoxError,
    http::{Credential, Http},
    key_rotation::{KeyPool, KeyRotationHandle, KeyRotationLayer},
    outcome::Idempotency,
    policy::Cost,
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
            .noted();
        let keys = rotation.handle();
        let service = ServiceBuilder::new()
            .layer(FactsLayer::new(JsonAlone))
            // Which calls may be repeated is for the callers to say: anything is forwarded.
            .layer(RetryLayer::http().noted())
            .layer(rotation)
            .layer(RequestLayer)
            .service(client.clone())
            .map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Self {
            service: BoxCloneSyncService::new(service),
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

fn pool(config: &config::Upstream) -> KeyPool {
    config.pool().expect("it was checked when it was read")
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
