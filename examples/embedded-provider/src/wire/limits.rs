//! The headers that show the state of the quota, in the style of a provider.

use super::{Format, anthropic, message::whole_seconds_up, openai};
use crate::{
    clock::Clock,
    config::LimitHeaders,
    quota::{Dimension, Gauge},
};
use http::HeaderMap;

/// Adds the state of the quota.
pub(crate) fn stamp(
    headers: &mut HeaderMap,
    style: LimitHeaders,
    format: Format,
    gauges: &[Gauge],
    clock: &Clock,
) {
    match (style, format) {
        (LimitHeaders::Off, _) | (LimitHeaders::OfFormat, Format::Gemini | Format::Bedrock) => {}
        (LimitHeaders::Anthropic, _) | (LimitHeaders::OfFormat, Format::Anthropic) => {
            anthropic::stamp(headers, gauges, clock);
        }
        (LimitHeaders::OpenAi, _) | (LimitHeaders::OfFormat, Format::OpenAi) => {
            openai::stamp(headers, gauges, Dimension::Requests, clock);
        }
        (LimitHeaders::Groq, _) => {
            openai::stamp(headers, gauges, Dimension::RequestsPerDay, clock);
        }
        (LimitHeaders::Mistral, _) => mistral(headers, gauges, clock),
    }
}

fn mistral(headers: &mut HeaderMap, gauges: &[Gauge], clock: &Clock) {
    let of = |dimension| gauges.iter().find(|gauge| gauge.dimension == dimension);
    if let Some(gauge) = of(Dimension::Requests) {
        headers.insert("x-ratelimit-limit-req-minute", gauge.limit.into());
        headers.insert("x-ratelimit-remaining-req-minute", gauge.remaining.into());
    }
    if let Some(gauge) = of(Dimension::Tokens) {
        headers.insert("x-ratelimit-limit-tokens-minute", gauge.limit.into());
        headers.insert(
            "x-ratelimit-remaining-tokens-minute",
            gauge.remaining.into(),
        );
        headers.insert("x-ratelimitbysize-limit-minute", gauge.limit.into());
        headers.insert("x-ratelimitbysize-remaining-minute", gauge.remaining.into());
        let until_full = clock.real(gauge.full_at.saturating_sub(clock.now()));
        headers.insert("ratelimitbysize-reset", whole_seconds_up(until_full).into());
    }
}
