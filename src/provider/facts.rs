//! The facts of a request, from its JSON and its path.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut};
use http::{Method, Request};
use http_body::Body;

use self::{affinity::Prompt, path::Path, question::Question};
use super::{Charging, Profile};
use crate::{
    call::{Facts, ReadFacts},
    http::{BytesPerToken, Class, Deadline, input_tokens_by_size},
    outcome::Idempotency,
    policy::Cost,
};

mod affinity;
mod path;
mod question;

pub use self::affinity::Affinity;

/// Larger bodies are not parsed; the largest that providers accept are about half of it.
const MOST_BYTES: usize = 64 << 20;
/// Bodies in more pieces are not parsed, so that an endless one cannot hold up its caller.
const MOST_FRAMES: usize = 1 << 16;

/// Reads the facts of a call from its JSON body and its path, once.
///
/// - cost: what the [`Charging`] reserves for the body's bytes as input tokens and, as output
///   tokens, the largest of `max_tokens`, `max_completion_tokens`, `max_output_tokens`,
///   `generationConfig.maxOutputTokens` and `inferenceConfig.maxTokens`, or the default, for each
///   of `n` or `generationConfig.candidateCount` answers; a request without a body is one request
///   and no tokens;
/// - output limit: the same maximum, where the request names one;
/// - model: that of the path, of POSTs to `/models/{model}:{action}` (Gemini),
///   `/model/{model}/{action}` (Bedrock) and `/deployments/{deployment}/..` (Azure), otherwise
///   `model`;
/// - streamed: `"stream": true`, or a path whose action is one of streams;
/// - affinity: see [`Affinity`];
/// - class: the extension [`Class`];
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
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower_relay::{
///     call::ReadFacts,
///     http::BytesPerToken,
///     policy::Unit,
///     provider::{JsonFacts, Profile},
/// };
///
/// let reader = JsonFacts::new()
///     .charging(*Profile::openai().charging_rule())
///     .bytes_per_token(BytesPerToken::new(3.2)?)
///     .default_output_tokens(2_000);
///
/// let body = r#"{"max_tokens": 500, "n": 2, "stream": true}"#;
/// let path = "/openai/deployments/large/chat/completions";
/// let facts = reader.read(&Request::post(path).body(Full::<Bytes>::from(body))?);
/// assert_eq!(facts.model_name(), Some("large"));
/// assert_eq!(facts.output_limit(), Some(1_000));
/// assert!(facts.is_streamed());
/// // OpenAI takes the larger of prompt and maximum, not their sum.
/// assert_eq!(facts.cost().get(Unit::TOKENS), 1_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct JsonFacts {
    bytes_per_token: BytesPerToken,
    default_output_tokens: u64,
    idempotency: Idempotency,
    charging: Charging,
    affinity: Affinity,
}

impl JsonFacts {
    /// A reader with the defaults.
    pub const fn new() -> Self {
        Self {
            bytes_per_token: BytesPerToken::DEFAULT,
            default_output_tokens: 1_024,
            idempotency: Idempotency::Idempotent,
            charging: Charging::NEW,
            affinity: Affinity::Prompt,
        }
    }

    /// How many bytes of the body are taken for one input token. Default:
    /// [`BytesPerToken::DEFAULT`], four. What is wrong about it an
    /// [`Estimator`](crate::policy::Estimator) corrects.
    pub const fn bytes_per_token(mut self, ratio: BytesPerToken) -> Self {
        self.bytes_per_token = ratio;
        self
    }

    /// The output tokens of an answer to a request that names no maximum. Default: 1,024, more
    /// than most answers have, so that the estimate errs towards waiting rather than towards a
    /// refusal.
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

    /// What is made of the tokens at admission. Default: [`Charging::NEW`], their sum.
    pub const fn charging(mut self, charging: Charging) -> Self {
        self.charging = charging;
        self
    }

    /// What makes two calls belong together. Default: [`Affinity::Prompt`].
    pub const fn affinity(mut self, affinity: Affinity) -> Self {
        self.affinity = affinity;
        self
    }
}

impl Profile {
    /// A reader of facts that charges as this provider does, by its ratio of bytes to tokens.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use tower_relay::{call::ReadFacts, policy::Unit, provider::Profile};
    ///
    /// let request = http::Request::new(Full::<Bytes>::from(r#"{"max_tokens": 500}"#));
    /// let facts = Profile::gemini().facts().read(&request);
    /// assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 0, "only input counts");
    /// ```
    pub fn facts(&self) -> JsonFacts {
        JsonFacts::new()
            .charging(*self.charging_rule())
            .bytes_per_token(self.bytes_per_token_ratio())
    }
}

impl Default for JsonFacts {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body + Clone + Unpin> ReadFacts<Request<B>> for JsonFacts {
    fn read(&self, request: &Request<B>) -> Facts {
        let path = match *request.method() {
            Method::POST => Path::of(request.uri().path()),
            _ => Path::default(),
        };
        let asked = if request.body().is_end_stream() {
            None
        } else {
            let read = peek(request.body(), |bytes| self.ask(bytes));
            Some(read.unwrap_or_else(|| Asked {
                input_tokens: input_tokens_by_size(request, self.bytes_per_token),
                ..Asked::default()
            }))
        };
        let facts = match &asked {
            None => Facts::new(Cost::REQUEST),
            Some(asked) => {
                let each = asked.max_tokens.unwrap_or(self.default_output_tokens);
                let output = each.saturating_mul(asked.answers());
                Facts::of_size(self.charging.size(asked.input_tokens, output))
            }
        };
        let mut facts = facts.idempotency(self.idempotency);
        if let Some(deadline) = request.extensions().get::<Deadline>() {
            facts = facts.deadline(deadline.instant());
        }
        if let Some(class) = request.extensions().get::<Class>() {
            facts = facts.class(class.shared_name());
        }
        let asked = asked.unwrap_or_default();
        if let Some(each) = asked.max_tokens {
            facts = facts.max_tokens(each.saturating_mul(asked.answers()));
        }
        if asked.is_streamed || path.is_streamed {
            facts = facts.streamed();
        }
        if let Some(hash) = asked.affinity {
            facts = facts.affinity(hash);
        }
        match (path.model, asked.model) {
            (Some(model), _) => facts.model(&*model),
            (None, Some(model)) => facts.model(model),
            (None, None) => facts,
        }
    }
}

/// What a body asks for.
#[derive(Default)]
struct Asked {
    model: Option<String>,
    input_tokens: u64,
    max_tokens: Option<u64>,
    answers: Option<u64>,
    is_streamed: bool,
    affinity: Option<u64>,
}

impl Asked {
    fn answers(&self) -> u64 {
        self.answers.unwrap_or(1)
    }
}

impl JsonFacts {
    fn ask(&self, bytes: &[u8]) -> Asked {
        let question: Question<'_> = serde_json::from_slice(bytes).unwrap_or_default();
        let affinity = match self.affinity {
            Affinity::Nothing => None,
            Affinity::Session => question.session(),
            Affinity::Prompt => question.session().or_else(|| {
                let mut prompt = Prompt::default();
                question.prompt().for_each(|part| prompt.add(part));
                prompt.hash()
            }),
        };
        Asked {
            model: question.model(),
            input_tokens: self.bytes_per_token.tokens(bytes.len() as u64),
            max_tokens: question.output_tokens(),
            answers: question.answers(),
            is_streamed: question.is_streamed(),
            affinity,
        }
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
