//! Building a provider and the handle on a running one.

use crate::{
    clock::Clock,
    config::{Faults, InvalidConfig, Latency, Limits, Scope},
    counters::Counters,
    server,
    state::Shared,
};
use std::{
    collections::HashSet,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{net::TcpListener, task::AbortHandle};

/// A handle on a running provider; the server and its connections end when the last clone of it is
/// dropped.
#[derive(Clone)]
pub struct Provider {
    running: Arc<Running>,
}

struct Running {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Provider {
    /// A provider to be configured; it needs at least one [`scope`](Builder::scope).
    pub fn builder() -> Builder {
        Builder {
            scopes: Vec::new(),
            seed: 0,
            time_scale: 1.0,
            latency: Latency::default(),
            faults: Faults::default(),
        }
    }

    /// The loopback address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    /// The base URL for a client, `http://127.0.0.1:PORT`, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// What the whole provider has counted, including what reached no scope.
    pub fn counters(&self) -> Counters {
        self.shared().total()
    }

    /// What one scope has counted; `None` if there is no scope of that name.
    pub fn scope_counters(&self, scope: &str) -> Option<Counters> {
        self.shared().with_scope(scope, |state| state.counters)
    }

    /// How much of its quota a scope has used; `None` if there is no scope of that name.
    ///
    /// For each configured dimension that is `charged / (bucket burst + rate × (last admission −
    /// first admission))`; the largest of them, the binding one, is returned. 0 when nothing
    /// was admitted. Rates changed by [`set_limits`](Self::set_limits) each count for their own
    /// time. The value is at most 1, unless the last call cost more than a bucket holds.
    pub fn quota_used_share(&self, scope: &str) -> Option<f64> {
        self.shared()
            .with_scope(scope, |state| state.quota.used_share())
    }

    /// Gives a scope other limits, from the next admission on.
    ///
    /// Buckets keep what they hold or owe, cut to their new capacity; those that have not been
    /// used, and those of a dimension that was not limited before, start full.
    ///
    /// # Errors
    ///
    /// Fails if a limit or the burst is zero, or if there is no scope of that name; nothing changes
    /// then.
    pub fn set_limits(&self, scope: &str, limits: Limits) -> Result<(), InvalidConfig> {
        limits.validate().map_err(|error| error.in_scope(scope))?;
        let unknown = || {
            InvalidConfig::new("name", "is unknown; use that of a configured one").in_scope(scope)
        };
        self.shared().set_limits(scope, limits).ok_or_else(unknown)
    }

    /// Changes how long answers take, from the next admission on.
    pub fn set_latency(&self, latency: Latency) {
        self.shared().lock().latency = latency;
    }

    /// Changes which shares of calls fail, from the next admission on.
    ///
    /// # Errors
    ///
    /// Fails if a share is not within 0 and 1, or those of 500 and 529 exceed 1 together; nothing
    /// changes then.
    pub fn set_faults(&self, faults: Faults) -> Result<(), InvalidConfig> {
        faults.validate()?;
        self.shared().lock().faults = faults;
        Ok(())
    }

    /// Starts afresh under the same configuration: counters at zero, buckets full, the generator at
    /// its seed.
    ///
    /// Calls in flight go on and stay counted as such; nothing else of them is counted any more.
    pub fn reset_counters(&self) {
        self.shared().reset();
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("addr", &self.running.addr)
            .field("scopes", &self.shared().names())
            .finish_non_exhaustive()
    }
}

/// The configuration of a [`Provider`] before it runs.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    scopes: Vec<Scope>,
    seed: u64,
    time_scale: f64,
    latency: Latency,
    faults: Faults,
}

impl Builder {
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
        let clock = Clock::start(self.time_scale);
        let shared = Arc::new(Shared::new(
            self.scopes,
            clock,
            self.seed,
            self.latency,
            self.faults,
        ));
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Provider {
            running: Arc::new(Running {
                addr,
                shared,
                server,
            }),
        })
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return Err(InvalidConfig::new(
                "time_scale",
                "is not finite and positive; use 1.0 for real time",
            ));
        }
        if self.scopes.is_empty() {
            return Err(InvalidConfig::new(
                "scope",
                "is missing; add one with Builder::scope",
            ));
        }
        self.faults.validate()?;
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
