//! An LLM provider on loopback that enforces quotas of its own.
//!
//! A client-side limiter is only as good as the server's verdict on it, so this crate is that
//! server: real HTTP/1.1 on `127.0.0.1`, the formats of Anthropic, OpenAI, Gemini and Bedrock, quotas
//! charged as each provider does and enforced with `429`, latency, streaming, injected faults, and
//! keys that die. It shares no code with the limiter it judges.
//!
//! - **Quotas belong to scopes**: all keys of a [`Scope`] draw on the same buckets, two scopes
//!   never do. A call is charged in all dimensions or in none.
//! - **How a call is charged is a [`ChargingRule`]**, whatever its format: by default one request,
//!   its input tokens and its `max_tokens` at admission, never refunded, and a refused call
//!   nothing. [`Provider::books`] tells what that came to. [`Limits::burst`] is how much a bucket
//!   holds, down to a second's worth; requests may be judged over [windows](Limits::requests_window)
//!   and [days](Limits::requests_per_day) as well.
//! - **The path is the format**: see the table below. All formats draw on the same buckets, and each
//!   accepts the credential in `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`;
//!   if several are there, the format's own counts.
//! - **Some things nobody is told**: that the clock is [fast or slow](Builder::clock_drift), how
//!   long requests are [under way](Builder::arrival_jitter), how much a bucket holds.
//! - **With or without sockets**: [`Provider::service`] is the same engine in this process, exact in
//!   tokio's paused time.
//! - **Keys, credit and models change while it runs**: [`Provider::revoke_key`],
//!   [`Provider::set_credit`], [`Provider::deny_model`] and what takes them back.
//!   [`Provider::key_counters`] tells what became of the calls with each key.
//! - **Time has a scale**: with [`Builder::time_scale`] the provider's clock runs faster than the
//!   real one, so a minute of quota passes in a second of test. Configuration and [`Counters`] are
//!   in provider time; what goes out on the wire (`retry-after`, `*-reset`) is in real time,
//!   because that is the clock a client has. Anthropic's are whole seconds, so a large scale makes
//!   them coarse; OpenAI's are milliseconds.
//! - **Capacity is finite, if it is to be**: with a [`Capacity`] so many calls are served at once,
//!   so many wait in line, and one more is answered with `529` or `503`.
//!   [`Provider::set_capacity`] changes it while it runs. A blackout that refuses is
//!   [`Faults::overloaded_share`] at 1, one that hangs a [`Latency`] of an hour.
//! - **Chance has a seed**: output lengths and faults are drawn in the order of admission from one
//!   seeded generator, the time under way in the order of arrival from another.
//!
//! | | Anthropic | OpenAI | Gemini | Bedrock |
//! |---|---|---|---|---|
//! | `POST` | `/v1/messages` | `/v1/chat/completions` | `/v1beta/models/M:generateContent` | `/model/M/converse` |
//! | a stream | `stream` | `stream` | `:streamGenerateContent?alt=sse` | `/converse-stream`, binary frames |
//! | output limit | `max_tokens`, required | `max_tokens` or `max_completion_tokens`, else [`DEFAULT_OUTPUT_TOKENS`] | `generationConfig.maxOutputTokens`, else [`MODEL_OUTPUT_TOKENS`] | `inferenceConfig.maxTokens`, else the same |
//! | [headers](LimitHeaders) | `anthropic-ratelimit-*` | `x-ratelimit-*` | none | none |
//! | quota used up | 429 `rate_limit_error`, `retry-after` | 429 `rate_limit_exceeded`, `retry-after` and `retry-after-ms` | 429 `RESOURCE_EXHAUSTED` with `QuotaFailure` and `RetryInfo`, 36 s for a day | 429 `ThrottlingException`, no hint |
//! | unknown or revoked key | 401 `authentication_error` | 401 `invalid_api_key` | 400 `API_KEY_INVALID` | 403 `UnrecognizedClientException` |
//! | credit spent | 400 `invalid_request_error`, "credit balance is too low" | 429 `insufficient_quota`, no hint | 429, "credits are depleted", no hint | 403 `AccessDeniedException`, `INVALID_PAYMENT_INSTRUMENT` |
//! | [`Denial::NotFound`] | 404 `not_found_error` | 404 `model_not_found` | 404 `NOT_FOUND` | 404 `ResourceNotFoundException` |
//! | [`Denial::Forbidden`] | 403 `permission_error` | 403 `model_not_found` | 403 `PERMISSION_DENIED` | 403 `AccessDeniedException` |
//! | faults, line full | 500 `api_error`, 529 `overloaded_error` | 500 and 503 `server_error` | 500 `INTERNAL`, 503 `UNAVAILABLE` | 500 `InternalServerException`, 503 `ServiceUnavailableException` |
//! | broken stream | `error` event | chunk with `error`, no `[DONE]` | chunk with `error` | `serviceUnavailableException` |
//! | end of a stream | `message_stop` | usage chunk if `stream_options.include_usage`, then `[DONE]` | chunk with `finishReason` | `metadata` with the usage |
//!
//! Only what a quota has to do with shows its state: answers about the key, the credit or the model
//! carry no limit headers. Reasons are looked for in this order: key, request, model, credit,
//! capacity, quota. On any path these request headers fix what is chance or guesswork otherwise:
//!
//! | header | tokens | otherwise |
//! |---|---|---|
//! | `x-output-tokens` | of the answer | drawn, from a tenth of the output limit up to all of it |
//! | `x-input-tokens` | of the prompt, as the model reads it | as estimated by [`count_input_tokens`] |
//! | `x-cached-tokens` | of these, read from a cache | none |
//! | `x-cache-write-tokens` | of these, written into a cache | none |
//!
//! ```
//! use embedded_provider::{Latency, Limits, Provider, Scope};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let limits = Limits {
//!     requests_per_minute: Some(600),
//!     input_tokens_per_minute: Some(40_000),
//!     ..Limits::default()
//! };
//! let provider = Provider::builder()
//!     .seed(7)
//!     .time_scale(10.0)
//!     .scope(Scope::new("org-a", ["key-1", "key-2"], limits))
//!     .latency(Latency {
//!         first_token: Duration::from_millis(300),
//!         per_token: Duration::from_millis(10),
//!     })
//!     .start()
//!     .await?;
//!
//! // Point any Anthropic or OpenAI client at `provider.url()`, run the load, then read the verdict:
//! let counters = provider.counters();
//! assert_eq!(counters.calls, counters.answered + counters.refused);
//! assert_eq!(provider.quota_used_share("org-a"), Some(0.0));
//! # Ok(())
//! # }
//! ```
//!
//! Half-way through a load, keys die and come back:
//!
//! ```
//! # use embedded_provider::{Denial, Limits, Provider, Scope};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let org = |name, keys: [&str; 2]| Scope::new(name, keys, Limits::default());
//! # let provider = Provider::builder()
//! #     .scope(org("org-a", ["key-1", "key-2"]))
//! #     .scope(org("org-b", ["key-3", "key-4"]))
//! #     .start()
//! #     .await?;
//! provider.revoke_key("key-1")?;
//! provider.set_credit("org-b", Some(10_000))?; // runs out as calls are charged
//! provider.deny_model_to_key("key-2", "gpt-large", Denial::NotFound)?;
//!
//! // A pool has understood a dead key if it asks it hardly more than once:
//! let dead = provider.key_counters("key-1").expect("a configured key");
//! assert!(dead.unauthorized <= 2);
//! provider.restore_key("key-1")?;
//! assert!(provider.revoke_key("key-9").is_err());
//! # Ok(())
//! # }
//! ```
//!
//! Known limits: text alone, without tools, images or more than one choice. No call is too large: one
//! that costs more than a bucket holds is admitted when that is full, where OpenAI refuses it for
//! good. A refused call of OpenAI's rule takes what is left of the quota and leaves no debt, so that a
//! crowd that was refused is not locked out for ever. Groq's and Mistral's errors are in OpenAI's form.
//! Gemini's stream is served as events alone, and its key is not read from the URL.
#![allow(
    clippy::disallowed_methods,
    reason = "a server with a clock of its own, in clock.rs"
)]

mod access;
mod answer;
mod books;
mod bucket;
mod builder;
mod charging;
mod clock;
mod config;
mod counters;
mod in_flight;
mod line;
mod provider;
mod quota;
mod request;
mod server;
mod service;
mod state;
mod window;
mod wire;

pub use self::{
    answer::AnswerBody,
    books::{Book, Books},
    builder::Builder,
    charging::ChargingRule,
    config::{Capacity, Denial, Faults, InvalidConfig, Latency, LimitHeaders, Limits, Scope},
    counters::Counters,
    provider::Provider,
    request::{
        DEFAULT_OUTPUT_TOKENS, MAX_BODY_BYTES, MAX_OUTPUT_TOKENS, MODEL_OUTPUT_TOKENS,
        count_input_tokens,
    },
    service::ProviderService,
};
