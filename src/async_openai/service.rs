use std::task::{Context, Poll};

use async_openai::{error::OpenAIError, middleware::HttpRequestFactory};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::ResponseFuture;
use crate::error::BoxError;

/// The service that [`AsyncOpenAiLayer`](super::AsyncOpenAiLayer) builds, for
/// `async_openai::Client::with_http_service`.
///
/// It is always ready; a clone of the service inside is asked when the request has been built.
///
/// # Errors
///
/// As the [module](super) has them.
///
/// # Cancel safety
///
/// Dropping the future, the response or the client's stream breaks the call off, and gives back
/// what layers hold for it.
#[derive(Clone, Debug)]
pub struct AsyncOpenAi<S> {
    inner: S,
}

impl<S> AsyncOpenAi<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<HttpRequestFactory> for AsyncOpenAi<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> ResponseFuture {
        ResponseFuture::new(factory, self.inner.clone())
    }
}
