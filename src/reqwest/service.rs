use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use reqwest::{Client, ClientBuilder, redirect};
use tower_service::Service;

use super::ResponseFuture;
use crate::error::BoxError;

/// A `reqwest::Client` as a service of `http::Request`; see the [module](super) for the whole.
///
/// It is always ready, and its clones share the client's connections.
///
/// # Errors
///
/// reqwest's own. Their URL is without its query and without a user's name and password, where
/// people put secrets.
///
/// # Cancel safety
///
/// A call that is dropped is broken off: over HTTP/1.1 its connection is closed, over HTTP/2 its
/// stream is reset. So is one whose response body is dropped before its end.
///
/// ```
/// use tower::ServiceExt;
/// use tower_relay::reqwest::ReqwestClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_relay::error::BoxError> {
/// let client = ReqwestClient::build(reqwest::Client::builder())?;
/// let request = http::Request::get("/no/host?key=s3cret").body(String::new())?;
/// let error = client.oneshot(request).await.expect_err("whom to ask?");
/// assert!(error.is_builder());
/// assert!(!error.to_string().contains("s3cret"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestClient {
    client: Client,
}

impl ReqwestClient {
    /// A client as `builder` has it, that follows no redirect: it hands on a 3xx as it came.
    ///
    /// APIs do not redirect, and reqwest sends every header but `authorization` and cookies along
    /// to whatever host it is redirected to: a key in `x-api-key` would go to a stranger.
    ///
    /// # Errors
    ///
    /// If reqwest cannot build the client, for example for want of certificates.
    ///
    /// ```
    /// use tower_relay::reqwest::ReqwestClient;
    ///
    /// assert!(ReqwestClient::build(reqwest::Client::builder()).is_ok());
    /// ```
    pub fn build(builder: ClientBuilder) -> Result<Self, reqwest::Error> {
        let client = builder.redirect(redirect::Policy::none()).build()?;
        Ok(Self::new(client))
    }

    /// A client that exists already, with its connections and its redirects: by default reqwest
    /// follows ten, which with keys in headers is not wise; see [`build`](Self::build).
    ///
    /// ```
    /// use tower_relay::reqwest::ReqwestClient;
    ///
    /// let shared = reqwest::Client::builder().build()?;
    /// let client = ReqwestClient::new(shared.clone());
    /// assert_eq!(format!("{client:?}"), format!("ReqwestClient {{ client: {shared:?} }}"));
    /// # Ok::<(), reqwest::Error>(())
    /// ```
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

impl<B> Service<Request<B>> for ReqwestClient
where
    B: Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let request = request.map(reqwest::Body::wrap);
        match reqwest::Request::try_from(request) {
            Ok(request) => ResponseFuture::sent(self.client.call(request)),
            Err(error) => ResponseFuture::failed(error),
        }
    }
}
