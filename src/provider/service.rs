use std::task::{Context, Poll};

use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{Profile, ResponseBody, ResponseFuture, layer::Settings};

/// The service that [`ProviderLayer`](super::ProviderLayer) builds.
///
/// It is ready when the client is, and its errors are the client's own.
///
/// The client's response body must be `Unpin`, as those of hyper, reqwest and `http-body-util`
/// are, because it is read before and after it is handed on; box one that is not.
#[derive(Clone, Debug)]
pub struct Provider<S> {
    inner: S,
    profile: Profile,
    settings: Settings,
}

impl<S> Provider<S> {
    pub(super) const fn new(inner: S, profile: Profile, settings: Settings) -> Self {
        Self {
            inner,
            profile,
            settings,
        }
    }
}

impl<S, Q, B> Service<Request<Q>> for Provider<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // What it is told of a body that HEAD leaves out says nothing of an answer.
        let has_answer = request.method() != Method::HEAD && request.method() != Method::CONNECT;
        let future = self.inner.call(request);
        ResponseFuture::new(future, self.profile.clone(), self.settings, has_answer)
    }
}
