//! All layers behind an `async-openai` client.
//!
//! # The problem
//!
//! An `async-openai` client hands its HTTP service not a request but a factory of requests, and
//! wants a `reqwest::Response` back; between the two nothing can read what a call costs, put a
//! pooled key into it or hold a place until its stream ends. [`AsyncOpenAiLayer`] translates: it
//! builds the factory once, into an `http::Request` that every layer understands and may repeat, and
//! turns the layers' response into the client's.
//!
//! # Where it stands
//!
//! Outermost, around the layers; the innermost service is a
//! [`ReqwestClient`](crate::reqwest::ReqwestClient) or any other client.
//!
//! ```text
//! async-openai -> AsyncOpenAiLayer -> layers, such as http::stack -> ReqwestClient
//! ```
//!
//! # Example
//!
//! A pool of keys for every call of the client, plain or streamed:
//!
//! ```
//! use async_openai::{Client, config::OpenAIConfig};
//! use tower::ServiceBuilder;
//! use tower_relay::{
//!     async_openai::AsyncOpenAiLayer,
//!     http::stack,
//!     key_rotation::{KeyPool, Source},
//!     policy::Quota,
//!     provider::Profile,
//!     reqwest::ReqwestClient,
//! };
//!
//! # fn main() -> Result<(), tower_relay::error::BoxError> {
//! let quota = Quota::builder().requests_per_minute(500).tokens_per_minute(200_000).build()?;
//! let keys = [("a", Source::value("sk-a")), ("b", Source::value("sk-b"))];
//! let stack = stack(KeyPool::accounts(quota, keys)?, Profile::openai());
//! let handle = stack.handle();
//!
//! let service = ServiceBuilder::new()
//!     .layer(AsyncOpenAiLayer::new())
//!     .layer(stack)
//!     .service(ReqwestClient::build(reqwest::Client::builder())?);
//! // The pool's key takes the place of the configuration's.
//! let config = OpenAIConfig::new().with_api_key("none");
//! let client = Client::with_config(config).with_http_service(service);
//! assert_eq!(handle.scopes().len(), 2);
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! Any layers whose service takes `http::Request<Full<Bytes>>` do, and any client:
//!
//! ```
//! use async_openai::{Client, config::OpenAIConfig};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, service_fn};
//! use tower_relay::{async_openai::AsyncOpenAiLayer, rate_limit::RateLimitLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let model = r#"{"id": "m-1", "choices": [], "created": 0, "model": "m", "object": "chat.completion"}"#;
//! let client = service_fn(async move |request: http::Request<Full<bytes::Bytes>>| {
//!     assert_eq!(request.uri().path(), "/v1/chat/completions");
//!     Ok::<_, http::Error>(http::Response::new(model.to_owned()))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(AsyncOpenAiLayer::new())
//!     .layer(RateLimitLayer::per_second(50))
//!     .service(client);
//! let config = OpenAIConfig::new().with_api_base("http://localhost/v1");
//! let client = Client::with_config(config).with_http_service(service);
//! assert_eq!(client.chat().create(Default::default()).await?.id, "m-1");
//! # Ok(())
//! # }
//! ```
//!
//! # What its errors mean
//!
//! | what happened | what the client's caller gets |
//! |---|---|
//! | an answer of 400 or above, the layers' attempts being spent | `OpenAIError::ApiError` with its status, message, type and code, as without the layers |
//! | a layer refused the call | `OpenAIError::Boxed` with a [`Rejected`](crate::error::Rejected) |
//! | no connection, or one that broke | `OpenAIError::Reqwest`, where the client inside is reqwest's |
//! | a stream that broke off | `OpenAIError::StreamError`, as without the layers |
//! | another error of the service inside | `OpenAIError::Boxed` with it |
//! | a file that cannot be read | `OpenAIError::FileReadError`; no layer has seen the call |
//!
//! [`Rejected::find`](crate::error::Rejected::find) sees through `OpenAIError`, so that a caller learns when to come back:
//!
//! ```
//! use std::time::Duration;
//! use async_openai::error::OpenAIError;
//! use tower_relay::error::Rejected;
//!
//! fn come_back_in(error: &OpenAIError) -> Option<Duration> {
//!     Rejected::find(error)?.retry_after()
//! }
//! assert_eq!(come_back_in(&OpenAIError::InvalidArgument("n".into())), None);
//! ```
//!
//! # How it differs from async-openai's own
//!
//! Its default service retries 429 and 5xx with a backoff of a call's own. A service that is
//! set takes the place of that, so no call is retried twice.
//!
//! # Limits
//!
//! - A request is in memory as a whole while it is under way, a file that is uploaded too.
//! - A stack for a language model takes all calls to be safe to repeat. An upload whose answer was
//!   lost may so be stored twice; `stack.facts(..)` with
//!   [`JsonFacts::idempotency`](crate::provider::JsonFacts::idempotency) says otherwise.
//! - What the configuration sets besides the key, such as an organisation, goes with every key of a
//!   pool; [`Endpoint`](crate::http::Endpoint) sets headers by scope.
//! - The settings of the client given to `Client::with_http_client` are not used: what sends is the
//!   service inside.
//! - Calls that do not go through the client's HTTP service (realtime over WebSockets, images that
//!   are downloaded from where an answer says) are not seen.

mod error;
mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::AsyncOpenAiLayer, service::AsyncOpenAi};
