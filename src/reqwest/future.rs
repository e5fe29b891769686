use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;
use reqwest::{Client, Request};
use tower_service::Service;

/// reqwest's own future, which has no name.
type Pending = <Client as Service<Request>>::Future;

pin_project! {
    /// The response of a [`ReqwestClient`](super::ReqwestClient).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Sent {
            #[pin]
            future: Pending,
        },
        Failed {
            error: Option<reqwest::Error>,
        },
    }
}

impl ResponseFuture {
    pub(super) const fn sent(future: Pending) -> Self {
        let state = State::Sent { future };
        Self { state }
    }

    pub(super) const fn failed(error: reqwest::Error) -> Self {
        let error = Some(error);
        let state = State::Failed { error };
        Self { state }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<reqwest::Body>, reqwest::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sent { future } => future
                .poll(cx)
                .map_ok(Response::from)
                .map_err(without_secrets),
            StateProj::Failed { error } => {
                let error = error.take().expect("a future is not polled after its end");
                Poll::Ready(Err(without_secrets(error)))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// `error` with no more of its URL than whom it was for.
fn without_secrets(mut error: reqwest::Error) -> reqwest::Error {
    let Some(url) = error.url_mut() else {
        return error;
    };
    url.set_query(None);
    url.set_fragment(None);
    let is_clean = url.username().is_empty() && url.password().is_none();
    if is_clean || (url.set_username("").is_ok() && url.set_password(None).is_ok()) {
        return error;
    }
    error.without_url()
}
