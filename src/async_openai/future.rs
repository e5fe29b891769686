use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use async_openai::{error::OpenAIError, middleware::HttpRequestFactory};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use reqwest::ResponseBuilderExt;
use tower_service::Service;

use super::error::to_openai;
use crate::error::BoxError;

type Answer = Result<reqwest::Response, OpenAIError>;

/// The response of an [`AsyncOpenAi`](super::AsyncOpenAi).
///
/// It is boxed: a factory lends itself to a future that has no name. The client boxes its calls
/// anyhow.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    future: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

impl ResponseFuture {
    pub(super) fn new<S, B>(factory: HttpRequestFactory, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let future = Box::pin(call(factory, service));
        Self { future }
    }
}

impl Future for ResponseFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

async fn call<S, B>(factory: HttpRequestFactory, mut service: S) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    let request = factory.build().await?;
    // What is in memory is taken as it is; of a file this is where it is read.
    drop(factory);
    let url = request.url().clone();
    let (head, body) = Request::<reqwest::Body>::try_from(request)?.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = Request::from_parts(head, Full::new(body));

    let ready = poll_fn(|cx| service.poll_ready(cx)).await;
    ready.map_err(|error| to_openai(error.into()))?;
    let response = service.call(request).await;
    let mut response = response.map_err(|error| to_openai(error.into()))?;
    // Only a builder can say where a response is from.
    let (origin, ()) = Response::builder()
        .url(url)
        .body(())
        .map_or_else(|_| Response::new(()).into_parts(), Response::into_parts);
    response.extensions_mut().extend(origin.extensions);
    Ok(response.map(reqwest::Body::wrap).into())
}
