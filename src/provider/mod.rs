//! What is particular to providers of language models.
//!
//! # The problem
//!
//! What a request costs stands in its JSON: the prompt's size, the model whose quota it uses,
//! the longest answer it asks for. Reading that once per attempt and per layer would cost more
//! than all layers together.
//!
//! # Where it stands
//!
//! [`JsonFacts`] belongs into a [`FactsLayer`](crate::call::FactsLayer), outermost; the layers
//! inside it are `noted()`: they find the facts beside the request.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use tower_relay::{
//!     call::ReadFacts,
//!     policy::Cost,
//!     provider::JsonFacts,
//! };
//!
//! let body = r#"{"model":"some-model","max_tokens":800,"messages":[]}"#;
//! let request = Request::post("/v1/messages").body(Full::<Bytes>::from(body))?;
//! let facts = JsonFacts::new().read(&request);
//! assert_eq!(facts.model_name(), Some("some-model"));
//! assert_eq!(facts.cost(), Cost::REQUEST.input_tokens(14).output_tokens(800));
//! # Ok::<(), http::Error>(())
//! ```
//!
//! # Limits
//!
//! - Only the top level is read: a model in the URL, a `maxOutputTokens` inside
//!   `generationConfig`, or several answers to one prompt (`n`) are not seen.
//! - An estimate by bytes takes an image in the prompt for text, which is far too much.
//!
//! # What comes later
//!
//! Profiles of the providers (how they charge, what their headers, errors and stream events
//! mean: data with a date, every part replaceable), and the innermost layer that reads each
//! response once and whose body [`Report`](crate::http::Report)s usage, errors inside the stream
//! and truncation to the guards of all layers outside.

mod answer;
mod catalog;
mod charging;
mod errors;
mod events;
mod facts;
mod profile;
mod rate_headers;
mod tokens;

pub use self::{
    answer::{Answer, AnswerReader},
    charging::{CachedInput, CachedShare, Charging, Failures, Output, Reserved, Settlement},
    errors::Errors,
    events::Events,
    facts::JsonFacts,
    profile::{CredentialHeader, Profile},
    rate_headers::{RateHeader, RateHeaders, ResetForm},
    tokens::TokenUsage,
};
