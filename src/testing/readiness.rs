use std::task::{Context, Poll, ready};

use tower_service::Service;

/// Checks the contract of [`Service`]: every `call` follows readiness of that very instance.
///
/// A clone starts unready, and each call uses readiness up.
#[derive(Debug)]
pub struct ReadinessProbe<S> {
    inner: S,
    is_ready: bool,
}

impl<S> ReadinessProbe<S> {
    /// Watches how `inner` is called.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            is_ready: false,
        }
    }
}

impl<S: Clone> Clone for ReadinessProbe<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<S: Service<Req>, Req> Service<Req> for ReadinessProbe<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let result = ready!(self.inner.poll_ready(cx));
        self.is_ready = result.is_ok();
        Poll::Ready(result)
    }

    /// Passes the call on.
    ///
    /// # Panics
    ///
    /// If this instance has not been ready since it was made or last called.
    fn call(&mut self, request: Req) -> S::Future {
        assert!(self.is_ready, "a service was called that was not ready");
        self.is_ready = false;
        self.inner.call(request)
    }
}
