//! A running upstream: how a call gets a key and is sent.
//!
//! A stub: the first key serves every call under its scope's first quota. The real thing puts a
//! key rotation layer in the place of `FirstKey` and of the rate limit.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_relay::{
    error::BoxError,
    policy::{Quota, pool::Pool},
    protocol::timestamp,
    rate_limit::{RateLimitHandle, RateLimitLayer},
};

use super::{
    client::HttpClient,
    config,
    paths::Pattern,
    status::{ScopeStatus, UpstreamStatus},
    target::{Target, credential},
};

/// A request for a path, without host and credential.
pub(super) type Call = Request<Full<Bytes>>;
/// Forwarded frame by frame.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;
type Service = BoxCloneSyncService<Call, Response<Body>, BoxError>;

pub(super) struct Upstream {
    config: config::Upstream,
    service: Service,
    queue: RateLimitHandle,
    pool: Mutex<Pool>,
}

impl Upstream {
    pub(super) fn new(config: config::Upstream, client: &HttpClient) -> Self {
        let pool = config.pool().expect("it was checked when it was read");
        let limit = RateLimitLayer::http(first_quota(&config))
            .max_wait(config.max_wait)
            .max_waiting(config.max_waiting);
        let queue = limit.handle();
        let service = limit
            .layer(first_key(&config, client.clone()))
            .map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Self {
            service: BoxCloneSyncService::new(service),
            queue,
            pool: Mutex::new(Pool::new(&pool, timestamp(Instant::now()))),
            config,
        }
    }

    /// The same with another configuration. What is in flight goes on under the old one.
    pub(super) fn reloaded(&self, config: config::Upstream, client: &HttpClient) -> Self {
        Self::new(config, client)
    }

    pub(super) const fn config(&self) -> &config::Upstream {
        &self.config
    }

    pub(super) async fn call(&self, call: Call) -> Result<Response<Body>, BoxError> {
        self.service.clone().oneshot(call).await
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        let now = timestamp(Instant::now());
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes = pool.snapshot(now);
        UpstreamStatus {
            name: self.config.name.clone(),
            provider: self.config.provider.name,
            base_url: self.config.base_url.to_string(),
            paths: self.config.paths.iter().map(Pattern::to_string).collect(),
            queue: (&self.queue.snapshot()).into(),
            scopes: scopes
                .iter()
                .map(|scope| ScopeStatus::new(scope, now))
                .collect(),
        }
    }
}

fn first_quota(config: &config::Upstream) -> Quota {
    let quota = config.scopes[0].quotas.first();
    quota.map_or_else(
        || {
            let unlimited = Quota::builder().max_in_flight(1_000_000).build();
            unlimited.expect("it is above zero")
        },
        |class| class.quota.clone(),
    )
}

/// Sends every call to the first scope with its first key.
fn first_key(
    config: &config::Upstream,
    client: HttpClient,
) -> impl tower::Service<
    Call,
    Response = Response<hyper::body::Incoming>,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let scope = &config.scopes[0];
    let target = Target::new(config, scope);
    let (name, value) = credential(&config.provider.credential, &scope.keys[0]);
    service_fn(move |mut call: Call| {
        let aimed = target.aim(&mut call);
        call.headers_mut().insert(name.clone(), value.clone());
        let client = client.clone();
        async move {
            aimed?;
            Ok(client.request(call).await?)
        }
    })
}
