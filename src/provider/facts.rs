//! The facts of a request, from its JSON.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut};
use http::Request;
use http_body::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    call::{Facts, ReadFacts},
    http::{BytesPerToken, Deadline, input_tokens_by_size},
    outcome::Idempotency,
    policy::Cost,
};

/// Larger bodies are not parsed; the largest that providers accept are about half of it.
const MOST_BYTES: usize = 64 << 20;
/// Bodies in more pieces are not parsed, so that an endless one cannot hold up its caller.
const MOST_FRAMES: usize = 1 << 16;

/// Reads the facts of a call from its JSON body, once.
///
/// - cost: one request, the body's bytes as input tokens, and as output tokens the largest of
///   `max_tokens`, `max_completion_tokens` and `max_output_tokens`, or the default; a request
///   without a body is one request and no tokens;
/// - model: `model`;
/// - deadline: the extension [`Deadline`];
/// - idempotency: idempotent, because asking a model twice changes nothing but the bill.
///
/// The body is cloned, which for bytes in memory costs nothing, and the clone is polled. Where
/// that gives no JSON (it is something else, it is not all there yet, it is malformed, a number
/// is absurd) the rest of the facts stands and the size hint takes the place of the size:
/// reading never fails and never waits.
///
/// A body whose clones share one source must not be read this way: polling the clone would take
/// its frames away.
///
/// ```
/// use tower_relay::{http::BytesPerToken, provider::JsonFacts};
///
/// let facts = JsonFacts::new()
///     .bytes_per_token(BytesPerToken::new(3.2)?)
///     .default_output_tokens(2_000);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct JsonFacts {
    bytes_per_token: BytesPerToken,
    default_output_tokens: u64,
    idempotency: Idempotency,
}

impl JsonFacts {
    /// A reader with the defaults.
    pub const fn new() -> Self {
        Self {
            bytes_per_token: BytesPerToken::DEFAULT,
            default_output_tokens: 1_024,
            idempotency: Idempotency::Idempotent,
        }
    }

    /// How many bytes of the body are taken for one input token. Default:
    /// [`BytesPerToken::DEFAULT`], four.
    pub const fn bytes_per_token(mut self, ratio: BytesPerToken) -> Self {
        self.bytes_per_token = ratio;
        self
    }

    /// The output tokens of a request that names no maximum. Default: 1,024, more than most
    /// answers have, so that the estimate errs towards waiting rather than towards a refusal.
    pub const fn default_output_tokens(mut self, tokens: u64) -> Self {
        self.default_output_tokens = tokens;
        self
    }

    /// Whether a call may be sent twice. Default: it may. With [`Idempotency::Unknown`] the
    /// protocol of each layer decides, by method and header.
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }
}

impl Default for JsonFacts {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body + Clone + Unpin> ReadFacts<Request<B>> for JsonFacts {
    fn read(&self, request: &Request<B>) -> Facts {
        let facts = |cost| {
            let facts = Facts::new(cost).idempotency(self.idempotency);
            match request.extensions().get::<Deadline>() {
                Some(deadline) => facts.deadline(deadline.instant()),
                None => facts,
            }
        };
        if request.body().is_end_stream() {
            return facts(Cost::REQUEST);
        }
        let read = peek(request.body(), |bytes| {
            let question: Question<'_> = serde_json::from_slice(bytes).unwrap_or_default();
            let input_tokens = self.bytes_per_token.tokens(bytes.len() as u64);
            (question.model(), input_tokens, question.output_tokens())
        });
        let (model, input_tokens, output_tokens) = read.unwrap_or_else(|| {
            let estimate = input_tokens_by_size(request, self.bytes_per_token);
            (None, estimate, None)
        });
        let cost = Cost::REQUEST
            .input_tokens(input_tokens)
            .output_tokens(output_tokens.unwrap_or(self.default_output_tokens));
        match model {
            Some(model) => facts(cost).model(model),
            None => facts(cost),
        }
    }
}

/// What is read of the JSON; the rest is skipped without being kept. A field is kept as its
/// text, so that one that makes no sense does not spoil the fields beside it.
#[derive(Default, Deserialize)]
struct Question<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
}

impl Question<'_> {
    fn model(&self) -> Option<String> {
        serde_json::from_str(self.model?.get()).ok()
    }

    fn output_tokens(&self) -> Option<u64> {
        let maxima = [
            self.max_tokens,
            self.max_completion_tokens,
            self.max_output_tokens,
        ];
        let number = |field: &RawValue| serde_json::from_str(field.get()).ok();
        maxima.into_iter().flatten().filter_map(number).max()
    }
}

/// Hands all the bytes of `body` to `read` if they are there already.
fn peek<B, T>(body: &B, read: impl FnOnce(&[u8]) -> T) -> Option<T>
where
    B: Body + Clone + Unpin,
{
    let mut body = body.clone();
    let mut cx = Context::from_waker(Waker::noop());
    let mut gathered = Vec::new();
    for _ in 0..MOST_FRAMES {
        let frame = match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(None) => return Some(read(&gathered)),
            Poll::Ready(Some(Err(_))) | Poll::Pending => return None,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let whole = gathered.is_empty() && body.is_end_stream();
        if data.remaining() > MOST_BYTES - gathered.len() {
            return None;
        }
        if whole && data.chunk().len() == data.remaining() {
            return Some(read(data.chunk()));
        }
        gathered.put(data);
    }
    None
}

#[cfg(test)]
mod tests;
