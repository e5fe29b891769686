//! A reqwest client behind the layers.
//!
//! # The problem
//!
//! `reqwest::Client` is a Tower service, but of requests and responses of its own types, which the
//! layers for HTTP cannot read. [`ReqwestClient`] is the same client as a service of
//! `http::Request` with any body.
//!
//! # Where it stands
//!
//! Innermost: it is the client.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_relay::{policy::Quota, rate_limit::RateLimitLayer, reqwest::ReqwestClient, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}/hello", listener.local_addr()?);
//! # let app = axum::Router::new().fallback(async || "hello");
//! # tokio::spawn(axum::serve(listener, app).into_future());
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::http())
//!     .layer(RateLimitLayer::http(Quota::builder().requests_per_minute(600).build()?))
//!     .service(ReqwestClient::build(reqwest::Client::builder())?);
//!
//! let request = http::Request::get(url).body(Full::<Bytes>::default())?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! // As reqwest's own, to read it as one is used to.
//! assert_eq!(reqwest::Response::from(response.map(reqwest::Body::wrap)).text().await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! Whatever a `reqwest::ClientBuilder` can set. This crate asks reqwest for none of its features:
//! for `https`, name it in your own Cargo.toml with one, such as
//! `reqwest = { version = "0.13", features = ["rustls"] }`, and for HTTP/2 its `http2`.
//!
//! ```
//! # use tower_relay::reqwest::ReqwestClient;
//! use std::time::Duration;
//!
//! let builder = reqwest::Client::builder()
//!     .connect_timeout(Duration::from_secs(5))
//!     .read_timeout(Duration::from_secs(60));
//! let client = ReqwestClient::build(builder)?;
//! assert!(format!("{client:?}").contains("ReqwestClient"));
//! # Ok::<(), reqwest::Error>(())
//! ```
//!
//! # What its errors mean
//!
//! [`classify_error`](crate::http::classify_error) tells them apart, however they are wrapped:
//!
//! | error | verdict | sent again |
//! |---|---|---|
//! | no connection: refused, DNS, TLS, `connect_timeout` | server fault without effect | any method |
//! | a request that reqwest cannot build: no host, a scheme that is not HTTP | caller's fault | never |
//! | everything else | server fault that may have acted | if the call may be repeated |
//!
//! # Limits
//!
//! - Two allocations a call are reqwest's: one for its future, one for the request's body. Two more
//!   are for the response's.
//! - Request bodies must be `Send + Sync`, as those of `http-body-util` and a
//!   retry layer's are; axum's is not.
//! - Bodies are streams to reqwest, so it cannot repeat one after a redirect with 307 or 308.
//! - A limit of the whole call (`ClientBuilder::timeout`) that ends while it connects counts as a
//!   call that may have acted, because reqwest does not say.

mod future;
mod service;

pub use self::{future::ResponseFuture, service::ReqwestClient};
