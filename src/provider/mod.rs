//! What is particular to providers of language models.
//!
//! # The problem
//!
//! What a request costs stands in its JSON: the prompt's size, the model whose quota it uses,
//! the longest answer it asks for. Reading that once per attempt and per layer would cost more
//! than all layers together.
//!
//! And what a call turned out to be stands in its body: that a 429 is an empty account and no
//! limit, that a 400 is a bad key, how many tokens an answer used, that a stream which began with
//! 200 ended in an error or not at all.
//!
//! # Where it stands
//!
//! ```text
//! FactsLayer(JsonFacts) -> retry -> key rotation, limits -> breaker -> ProviderLayer -> client
//! ```
//!
//! - [`JsonFacts`] belongs into a [`FactsLayer`](crate::call::FactsLayer), outermost; the layers
//!   inside it are `noted()`: they find the facts beside the request.
//! - [`ProviderLayer`] stands innermost and reads each response once.
//! - A [`Profile`] is what is known of one provider. It is the
//!   [`Protocol`](crate::protocol::Protocol) of all layers between, so that they believe what the
//!   innermost one has found out.
//!
//! `http::stack` puts them together.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_relay::{
//!     call::{FactsLayer, RequestLayer},
//!     policy::{Quota, Unit},
//!     provider::{Profile, ProviderLayer},
//!     rate_limit::RateLimitLayer,
//!     retry::RetryLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_relay::error::BoxError> {
//! let profile = Profile::groq();
//! let quota = Quota::builder().output_tokens_per_minute(60).burst(Unit::OUTPUT_TOKENS, 1_000);
//! let limit = RateLimitLayer::new(quota.build()?).protocol(profile.clone()).noted();
//! let handle = limit.handle();
//! // In a program this is a hyper client.
//! let client = service_fn(async |_: Request<Full<Bytes>>| {
//!     Response::builder().status(200).body(Full::<Bytes>::from("{}"))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(FactsLayer::new(profile.facts()))
//!     .layer(RetryLayer::default().protocol(profile.clone()).noted())
//!     .layer(limit)
//!     .layer(RequestLayer)
//!     .layer(ProviderLayer::new(profile))
//!     .service(client);
//!
//! let body = r#"{"model": "some-model", "max_tokens": 800, "messages": []}"#;
//! let request = Request::post("http://localhost/v1/messages").body(Full::from(body))?;
//! let response = service.oneshot(request).await?;
//! // What was reserved; an answer that tells what it used settles it at its end.
//! assert_eq!(handle.available(Unit::OUTPUT_TOKENS), Some(200));
//! response.into_body().collect().await?;
//! assert_eq!(handle.snapshot().active(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Customised
//!
//! Every part of a profile can be replaced. [`Hold`] keeps the head of an answer back until it has
//! really begun, so that an error right after it is retried:
//!
//! ```
//! use std::time::Duration;
//! use tower_relay::provider::{Charging, Failures, Hold, Profile, ProviderLayer};
//!
//! let charging = Charging::NEW.failures(Failures::Free);
//! let profile = Profile::openai().named("house-gateway").charging(charging);
//! let layer = ProviderLayer::new(profile)
//!     .hold(Hold::FirstEvent)
//!     .max_hold(Duration::from_secs(20));
//! # drop(layer);
//! ```
//!
//! # Limits
//!
//! - An estimate by bytes takes an image in the prompt for text, which is far too much.
//! - What is in a content encoding is not read: its usage is unknown, its errors are judged by the
//!   head. Let the client decode, or do not accept encodings.
//! - After content has reached the caller nothing is retried; what fails then only counts.
//! - While a head is held, the layers outside see no answer: a learned limit and a breaker's slow
//!   calls take the first event for the first byte.
//! - An error inside a stream is charged as it was reserved, with what was seen above it, also where
//!   the provider forgives refused calls.

mod answer;
mod body;
mod catalog;
mod charging;
mod declared;
mod errors;
mod events;
mod facts;
mod future;
mod layer;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod observe;
mod profile;
mod protocol;
mod rate_headers;
mod service;
mod tokens;

pub use self::{
    answer::{Answer, AnswerReader},
    body::ResponseBody,
    charging::{CachedInput, CachedShare, Charging, Failures, Output, Reserved, Settlement},
    errors::{Errors, Prose, Rule},
    events::{Events, Field},
    facts::{Affinity, JsonFacts},
    future::ResponseFuture,
    layer::{Hold, ProviderLayer},
    profile::{CredentialHeader, Profile},
    rate_headers::{RateHeader, RateHeaders, ResetForm},
    service::Provider,
    tokens::TokenUsage,
};
