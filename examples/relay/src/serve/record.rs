//! One line in the log for each request: how it was answered and how long that took. Never a query
//! and never a header: there may be credentials in both.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, Version};
use tokio::time::Instant;
use tracing::Level;

use super::refusal::Reason;
use crate::config::Upstream;

/// How the answer ended for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// It broke off at the provider's.
    Broken,
    /// It was broken off because nothing more came in time.
    TimedOut,
    /// The caller has gone before.
    Gone,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::TimedOut => "timed_out",
            Self::Gone => "caller_gone",
        }
    }
}

/// What is known of a request; written down when it is dropped.
#[derive(Debug)]
pub(super) struct Record {
    method: Method,
    path: String,
    version: &'static str,
    upstream: Option<(String, &'static str)>,
    began: Instant,
    head: Option<(u16, Duration)>,
    refused: Option<Reason>,
    request_id: Option<HeaderValue>,
    pub(super) bytes: u64,
    end: End,
}

/// What `RUST_LOG` calls these lines.
const TARGET: &str = "relay::request";

impl Record {
    /// None if nobody wants to read it.
    pub(super) fn of<B>(request: &Request<B>, upstream: Option<&Upstream>) -> Option<Box<Self>> {
        if !tracing::enabled!(target: TARGET, Level::DEBUG) {
            return None;
        }
        Some(Box::new(Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            version: match request.version() {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
            upstream: upstream.map(|config| (config.name.clone(), config.provider.name)),
            began: Instant::now(),
            head: None,
            refused: None,
            request_id: None,
            bytes: 0,
            end: End::Gone,
        }))
    }

    pub(super) const fn refused(&mut self, reason: Reason) {
        self.refused = Some(reason);
    }

    /// The answer has begun.
    pub(super) fn head<B>(&mut self, response: &Response<B>) {
        self.head = Some((response.status().as_u16(), self.began.elapsed()));
        let ids = ["request-id", "x-request-id"].iter();
        let id = ids.filter_map(|name| response.headers().get(*name)).next();
        self.request_id = id.cloned();
    }

    /// The answer has ended, which it does once.
    pub(super) fn end(&mut self, end: End) {
        if self.end == End::Gone {
            self.end = end;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (status, first_byte) = self.head.unzip();
        let (upstream, provider) = match &self.upstream {
            Some((upstream, provider)) => (Some(&**upstream), Some(*provider)),
            None => (None, None),
        };
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        tracing::debug!(
            target: TARGET,
            {
                http.request.method = self.method.as_str(),
                url.path = self.path,
                network.protocol.version = self.version,
                http.response.status_code = status,
                http.response.body.size = self.bytes,
                gen_ai.provider.name = provider,
                relay.upstream = upstream,
                relay.error = self.refused.map(Reason::name),
                relay.request_id = id,
                relay.end = self.end.name(),
                relay.first_byte_ms = first_byte.map(millis),
                relay.duration_ms = millis(self.began.elapsed()),
            },
            "request"
        );
    }
}

fn millis(duration: Duration) -> f64 {
    // Whole microseconds: more would be noise.
    duration.as_micros() as f64 / 1e3
}
