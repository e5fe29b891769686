//! The provider without sockets.

use crate::{answer::AnswerBody, server, state::Shared};
use bytes::Buf;
use http::{Request, Response, header};
use http_body::Body;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// A provider as a service in this process: the same engine without sockets, exact in tokio's
/// paused time, and always ready.
///
/// Made by [`Provider::service`](crate::Provider::service). It keeps working after the last
/// [`Provider`](crate::Provider) is gone. The future may be dropped at any point: a call that was
/// admitted counts as disconnected then. Responses carry a `date` by the provider's clock. It
/// fails only if the request's body does.
#[derive(Clone)]
pub struct ProviderService {
    shared: Arc<Shared>,
}

impl ProviderService {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl fmt::Debug for ProviderService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderService")
            .field("scopes", &self.shared.names())
            .finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for ProviderService
where
    B: Body<Data: Buf + Send> + Send + 'static,
{
    type Response = Response<AnswerBody>;
    type Error = B::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, B::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), B::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let mut response = server::respond(Arc::clone(&shared), request).await?;
            let date = server::date(&shared.clock);
            response.headers_mut().insert(header::DATE, date);
            Ok(response)
        })
    }
}
