//! The configuration of a provider, and its start.

use crate::{
    charging::ChargingRule,
    clock::Clock,
    config::{Capacity, Faults, InvalidConfig, Latency, LimitHeaders, Scope},
    provider::Provider,
    server,
    state::{Setup, Shared},
};
use std::{collections::HashSet, io, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// The configuration of a [`Provider`] before it runs.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    scopes: Vec<Scope>,
    seed: u64,
    time_scale: f64,
    clock_drift: f64,
    arrival_jitter: Duration,
    charging: ChargingRule,
    limit_headers: LimitHeaders,
    latency: Latency,
    faults: Faults,
    capacity: Option<Capacity>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            scopes: Vec::new(),
            seed: 0,
            time_scale: 1.0,
            clock_drift: 0.0,
            arrival_jitter: Duration::ZERO,
            charging: ChargingRule::default(),
            limit_headers: LimitHeaders::default(),
            latency: Latency::default(),
            faults: Faults::default(),
            capacity: None,
        }
    }

    /// Adds a scope; names and keys are each used once.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scopes.push(scope);
        self
    }

    /// Seeds the lengths of answers and the faults; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many times faster than real time the provider's clock runs; finite and positive, 1.0 by
    /// default.
    ///
    /// It scales refill and latency, and with them `retry-after` and the reset headers, which tell
    /// real time.
    pub fn time_scale(mut self, factor: f64) -> Self {
        self.time_scale = factor;
        self
    }

    /// By which share the provider's clock runs faster than everybody else's, or slower if it is
    /// negative; within -0.5 and 0.5, none by default.
    ///
    /// Unlike that of [`time_scale`](Self::time_scale) this is known to nobody: what goes out on
    /// the wire is by the provider's clock, as if it were right.
    pub fn clock_drift(mut self, share: f64) -> Self {
        self.clock_drift = share;
        self
    }

    /// How long a request is under way, at most, before the provider hears of it: a random time
    /// from the seed for each, so that they arrive in another order than they were sent; at most
    /// an hour, by default none.
    pub fn arrival_jitter(mut self, most: Duration) -> Self {
        self.arrival_jitter = most;
        self
    }

    /// By whose rule calls are charged; [`ChargingRule::Fixed`] by default.
    pub fn charging(mut self, rule: ChargingRule) -> Self {
        self.charging = rule;
        self
    }

    /// In which headers answers show the quota; by default in those of the request's format.
    pub fn limit_headers(mut self, headers: LimitHeaders) -> Self {
        self.limit_headers = headers;
        self
    }

    /// How long answers take; by default no time.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Which shares of the calls fail; by default none.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// How many calls are served at once and wait in line; by default any number is served.
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Binds a free port of `127.0.0.1` and serves on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// A configuration that cannot work is an error of kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) around an [`InvalidConfig`]; any other
    /// error is the system's, from binding the port.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn start(self) -> io::Result<Provider> {
        self.validate()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(self.shared());
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Provider::running(addr, shared, server))
    }

    /// A provider without a socket, to be asked through its [`service`](Provider::service) alone.
    ///
    /// # Errors
    ///
    /// A configuration that cannot work.
    pub fn start_in_process(self) -> Result<Provider, InvalidConfig> {
        self.validate()?;
        Ok(Provider::in_process(Arc::new(self.shared())))
    }

    fn shared(self) -> Shared {
        let setup = Setup {
            clock: Clock::start(self.time_scale, self.clock_drift),
            charging: self.charging,
            headers: self.limit_headers,
            jitter: self.arrival_jitter,
            seed: self.seed,
            latency: self.latency,
            faults: self.faults,
            capacity: self.capacity,
        };
        Shared::new(self.scopes, setup)
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return Err(InvalidConfig::new(
                "time_scale",
                "is not finite and positive; use 1.0 for real time",
            ));
        }
        if !(-0.5..=0.5).contains(&self.clock_drift) {
            return Err(InvalidConfig::new(
                "clock_drift",
                "is not within -0.5 and 0.5; use 0.01 for a clock that is 1 % fast",
            ));
        }
        if self.arrival_jitter > Duration::from_secs(3600) {
            return Err(InvalidConfig::new(
                "arrival_jitter",
                "is above an hour; use some milliseconds",
            ));
        }
        if self.scopes.is_empty() {
            return Err(InvalidConfig::new(
                "scope",
                "is missing; add one with Builder::scope",
            ));
        }
        self.faults.validate()?;
        self.capacity.as_ref().map_or(Ok(()), Capacity::validate)?;
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for scope in &self.scopes {
            let wrong =
                |field, problem| Err(InvalidConfig::new(field, problem).in_scope(&scope.name));
            if !names.insert(&scope.name) {
                return wrong("name", "is used twice; give each scope its own");
            }
            if scope.keys.is_empty() {
                return wrong("keys", "are missing; give the scope at least one");
            }
            for key in &scope.keys {
                if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return wrong(
                        "keys",
                        "contain an unusable one; use visible ASCII, not empty",
                    );
                }
                if !keys.insert(key) {
                    return wrong(
                        "keys",
                        "contain one used before; a key belongs to one scope",
                    );
                }
            }
            scope
                .limits
                .validate()
                .map_err(|error| error.in_scope(&scope.name))?;
        }
        Ok(())
    }
}
