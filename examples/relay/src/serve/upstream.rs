//! A running upstream: its layers, and what it was configured with.

use std::collections::BTreeMap;

use http::Response;
use tokio::time::Instant;
use tower_relay::{
    error::BoxError,
    outcome::{Idempotency, Verdict},
    policy::RetryPolicy,
    protocol::timestamp,
};

use super::{
    history::Reading,
    ramps::{SavedRamp, in_order},
    status::{
        BreakerStatus, ConcurrencyStatus, LearnedStatus, ScopeStatus, ShareStatus, UpstreamStatus,
    },
    timeouts::{Clockwork, Timed},
};
use crate::{
    complain,
    config::{self, Pattern},
    upstream::{Body, Call, HttpClient, Stack, hosts, labels},
};

pub(super) struct Upstream {
    config: config::Upstream,
    stack: Stack,
    /// What a reload changes of the client.
    clockwork: Clockwork,
}

impl Upstream {
    pub(super) fn new(config: config::Upstream) -> Self {
        let clockwork = Clockwork::new(config.timeouts);
        let client = Timed::new(HttpClient::new(&config), clockwork.clone());
        // Which calls may be repeated is for the callers to say: anything is forwarded.
        let (anything, retry) = (Idempotency::Unknown, RetryPolicy::default());
        let stack = Stack::new(&config, client, anything, retry);
        Self {
            config,
            stack,
            clockwork,
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
        let facts = |config: &config::Upstream| (config.affinity, config.estimate);
        if facts(&config) != facts(&self.config) {
            let name = &config.name;
            complain(&format!(
                "warning: upstream {name}: another `affinity` or `estimate` takes a restart; the \
                 rest is reloaded"
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
        let config = config::Upstream {
            affinity: self.config.affinity,
            estimate: self.config.estimate,
            breaker: self.config.breaker,
            concurrency: self.config.concurrency,
            http2: self.config.http2,
            timeouts: config::Timeouts {
                connect: self.config.timeouts.connect,
                ..config.timeouts
            },
            ..config
        };
        self.stack.reload(&config);
        Self {
            config,
            stack: self.stack.clone(),
            clockwork: self.clockwork.clone(),
        }
    }

    pub(super) const fn config(&self) -> &config::Upstream {
        &self.config
    }

    pub(super) async fn call(&self, call: Call) -> Result<Response<Body>, BoxError> {
        self.stack.call(call).await
    }

    /// What was used of those of its quotas whose growth is bounded.
    pub(super) fn ramps(&self) -> Vec<SavedRamp> {
        let mut saved = Vec::new();
        for scope in self.stack.keys().scopes() {
            for class in scope.classes() {
                for (unit, ramp) in class.ramps() {
                    let state = ramp.state();
                    saved.push(SavedRamp {
                        upstream: self.config.name.clone(),
                        scope: scope.name().to_owned(),
                        models: in_order(class.models()),
                        unit: unit.name().to_owned(),
                        step: state.step().as_nanos() as u64,
                        used: state.used().to_vec(),
                    });
                }
            }
        }
        saved
    }

    /// Tells the recorder of metrics how it is.
    pub(super) fn publish(&self) {
        let labels = labels::of(&self.config);
        self.stack.keys().publish(&labels);
        self.stack.retries().publish(&labels);
        for host in hosts(&self.config) {
            // A host that no call has gone to yet has no breaker.
            if let Some(breaker) = self.stack.breakers().get(&Some(host.clone())) {
                breaker.publish(&labels::of_host(&labels, &host));
            }
        }
    }

    /// What the answers of each model have taught, of those that were asked for.
    fn learned(&self) -> BTreeMap<String, LearnedStatus> {
        let models = self.stack.models().into_iter();
        let learned = models.filter_map(|model| {
            let learned = self.stack.keys().learned(Some(&model))?;
            Some((model.to_string(), LearnedStatus::new(&learned)?))
        });
        learned.collect()
    }

    /// What has been counted so far, and how it is.
    pub(super) fn reading(&self) -> Reading {
        let keys = self.stack.keys();
        let queue = keys.snapshot();
        let mut reading = Reading {
            refused_here: queue.refused(),
            waiting: queue.waiting() as u64,
            in_flight: queue.active(),
            limit: keys.concurrency().map(|limit| limit.get() as u64),
            ..Reading::default()
        };
        for host in hosts(&self.config) {
            let breaker = self.stack.breakers().get(&Some(host));
            reading.refused_here += breaker.map_or(0, |breaker| breaker.refused());
        }
        for scope in keys.scopes() {
            for verdict in Verdict::ALL {
                let count = scope.totals().get(*verdict);
                match verdict {
                    Verdict::Success => reading.answered += count,
                    Verdict::Throttled
                    | Verdict::Exhausted
                    | Verdict::RampLimit
                    | Verdict::KeyRejected
                    | Verdict::ModelDenied
                    | Verdict::Region => reading.refused_upstream += count,
                    Verdict::Cancelled | Verdict::RefusedLocally => {}
                    _ => reading.failed += count,
                }
            }
        }
        reading
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        let scopes = self.stack.keys().scopes();
        let now = timestamp(Instant::now());
        UpstreamStatus {
            name: self.config.name.clone(),
            provider: self.config.provider.name,
            base_url: self.config.base_url.to_string(),
            paths: self.config.paths.iter().map(Pattern::to_string).collect(),
            queue: (&self.stack.keys().snapshot()).into(),
            shares: {
                let shares = self.stack.keys().shares();
                let shared = shares.iter().map(ShareStatus::from).collect();
                (!shares.is_empty()).then_some(shared)
            },
            sessions: self
                .config
                .affinity
                .policy()
                .map(|_| self.stack.keys().sessions()),
            learned: self.config.estimate.policy().map(|_| self.learned()),
            concurrency: self
                .stack
                .keys()
                .concurrency()
                .map(|limit| ConcurrencyStatus::new(limit, &self.stack.keys().snapshot())),
            breakers: self.config.breaker.is_enabled().then(|| {
                let hosts = hosts(&self.config).into_iter();
                hosts
                    .map(|host| {
                        let name = host.to_string();
                        BreakerStatus::new(name, self.stack.breakers().get(&Some(host)), now)
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
