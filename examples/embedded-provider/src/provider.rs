//! The handle on a running provider.

use crate::{
    access::Credit,
    books::Books,
    builder::Builder,
    config::{Capacity, Denial, Faults, InvalidConfig, Latency, Limits},
    counters::Counters,
    service::ProviderService,
    state::Shared,
};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::task::AbortHandle;

/// A handle on a running provider; the server and its connections end when the last clone of it is
/// dropped.
#[derive(Clone)]
pub struct Provider {
    running: Arc<Running>,
}

struct Running {
    /// Of port 0 without a server.
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: Option<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Provider {
    /// A provider to be configured; it needs at least one [`scope`](Builder::scope).
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn running(addr: SocketAddr, shared: Arc<Shared>, server: AbortHandle) -> Self {
        let running = Running {
            addr,
            shared,
            server: Some(server),
        };
        Self {
            running: Arc::new(running),
        }
    }

    pub(crate) fn in_process(shared: Arc<Shared>) -> Self {
        let running = Running {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            shared,
            server: None,
        };
        Self {
            running: Arc::new(running),
        }
    }

    /// The provider as a service in this process, on the same quotas as its socket.
    ///
    /// ```
    /// use embedded_provider::{Limits, Provider, Scope};
    /// use http_body_util::{BodyExt, Full};
    /// use tower_service::Service;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scope = Scope::new("org-a", ["key-1"], Limits::default());
    /// let provider = Provider::builder().scope(scope).start_in_process()?;
    /// let body = r#"{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}"#;
    /// let request = http::Request::post("/v1/chat/completions")
    ///     .header("authorization", "Bearer key-1")
    ///     .body(Full::<bytes::Bytes>::from(body))?;
    /// let response = provider.service().call(request).await?;
    /// assert_eq!(response.status(), 200);
    /// response.into_body().collect().await?;
    /// assert_eq!(provider.counters().answered, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn service(&self) -> ProviderService {
        ProviderService::new(Arc::clone(&self.running.shared))
    }

    /// The loopback address it listens on; of port 0 if it was started
    /// [in process](Builder::start_in_process).
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

    /// What the calls with one key have counted; `None` if no scope has that key.
    ///
    /// Those of a revoked key are among them, as `unauthorized`.
    pub fn key_counters(&self, key: &str) -> Option<Counters> {
        self.shared().with_key(key, |state| state.counters)
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

    /// What each dimension of a scope's quota has come to, as of now; `None` if there is no scope of
    /// that name.
    ///
    /// Two readings tell how much of what flowed in between was used.
    pub fn books(&self, scope: &str) -> Option<Books> {
        self.shared().books(scope)
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
        self.shared()
            .set_limits(scope, limits)
            .ok_or_else(|| self.no_scope(scope))
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

    /// Changes how many calls are served at once and wait in line; with `None` any number is
    /// served.
    ///
    /// Those served and those waiting go on, also where there are more than fit now.
    ///
    /// # Errors
    ///
    /// Fails if nothing could be served; nothing changes then.
    pub fn set_capacity(&self, capacity: Option<Capacity>) -> Result<(), InvalidConfig> {
        capacity.as_ref().map_or(Ok(()), Capacity::validate)?;
        self.shared().lock().line.set_capacity(capacity);
        Ok(())
    }

    /// Answers 401 to a key from now on, as to one that never existed; calls already admitted go on.
    ///
    /// Unlike those of a key that never existed, its calls count in its scope.
    ///
    /// # Errors
    ///
    /// Fails if no scope has that key; which one it was is not said.
    pub fn revoke_key(&self, key: &str) -> Result<(), InvalidConfig> {
        self.set_revoked(key, true)
    }

    /// Takes a [`revoke_key`](Self::revoke_key) back.
    ///
    /// # Errors
    ///
    /// Fails if no scope has that key; which one it was is not said.
    pub fn restore_key(&self, key: &str) -> Result<(), InvalidConfig> {
        self.set_revoked(key, false)
    }

    /// Gives a scope the credit for so many tokens, or with `None`, the default, for any number.
    ///
    /// Admitted calls take their input tokens and their `max_tokens` from it. A call is admitted
    /// while anything is left; the one that takes the last of it may take more. From then on
    /// every call of the scope is turned away as out of credit, which no wait cures: with 400 in
    /// Anthropic's format, with a 429 that is no rate limit in OpenAI's.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope of that name.
    pub fn set_credit(&self, scope: &str, tokens: Option<u64>) -> Result<(), InvalidConfig> {
        self.shared()
            .with_scope(scope, |state| state.credit = Credit::of(tokens))
            .ok_or_else(|| self.no_scope(scope))
    }

    /// Takes all credit from a scope: [`set_credit`](Self::set_credit) to zero.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope of that name.
    pub fn exhaust_credit(&self, scope: &str) -> Result<(), InvalidConfig> {
        self.set_credit(scope, Some(0))
    }

    /// Gives a scope credit without end: [`set_credit`](Self::set_credit) to `None`.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope of that name.
    pub fn restore_credit(&self, scope: &str) -> Result<(), InvalidConfig> {
        self.set_credit(scope, None)
    }

    /// Turns calls of a scope for `model` away from now on; the name is compared as it is.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope of that name.
    pub fn deny_model(
        &self,
        scope: &str,
        model: &str,
        denial: Denial,
    ) -> Result<(), InvalidConfig> {
        self.shared()
            .with_scope(scope, |state| state.denied.insert(model.to_owned(), denial))
            .map_or_else(|| Err(self.no_scope(scope)), |_| Ok(()))
    }

    /// Takes a [`deny_model`](Self::deny_model) back; what is denied to a key stays denied to it.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope of that name; a model that was not denied is no error.
    pub fn allow_model(&self, scope: &str, model: &str) -> Result<(), InvalidConfig> {
        self.shared()
            .with_scope(scope, |state| state.denied.remove(model))
            .map_or_else(|| Err(self.no_scope(scope)), |_| Ok(()))
    }

    /// Turns calls with one key for `model` away from now on; it goes before what its scope says.
    ///
    /// # Errors
    ///
    /// Fails if no scope has that key; which one it was is not said.
    pub fn deny_model_to_key(
        &self,
        key: &str,
        model: &str,
        denial: Denial,
    ) -> Result<(), InvalidConfig> {
        self.shared()
            .with_key(key, |state| state.denied.insert(model.to_owned(), denial))
            .map_or_else(|| Err(InvalidConfig::unknown_key()), |_| Ok(()))
    }

    /// Takes a [`deny_model_to_key`](Self::deny_model_to_key) back; what is denied to its scope
    /// stays denied to the key.
    ///
    /// # Errors
    ///
    /// Fails if no scope has that key; which one it was is not said.
    pub fn allow_model_to_key(&self, key: &str, model: &str) -> Result<(), InvalidConfig> {
        self.shared()
            .with_key(key, |state| state.denied.remove(model))
            .map_or_else(|| Err(InvalidConfig::unknown_key()), |_| Ok(()))
    }

    /// Starts afresh under the same configuration: counters at zero, buckets full, the generator at
    /// its seed.
    ///
    /// What was changed at run time is configuration: revoked keys stay revoked, denied
    /// models denied, and a credit is again what it was set to.
    ///
    /// Calls in flight go on and stay counted as such; nothing else of them is counted any more.
    pub fn reset_counters(&self) {
        self.shared().reset();
    }

    /// A key taken for the name of a scope is not repeated.
    fn no_scope(&self, name: &str) -> InvalidConfig {
        if self.shared().caller(name).is_some() {
            return InvalidConfig::new("name", "is a key; use that of a configured scope");
        }
        InvalidConfig::unknown_scope(name)
    }

    fn set_revoked(&self, key: &str, revoked: bool) -> Result<(), InvalidConfig> {
        self.shared()
            .with_key(key, |state| state.revoked = revoked)
            .ok_or_else(InvalidConfig::unknown_key)
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
