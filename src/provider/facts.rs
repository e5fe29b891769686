//! The facts of a request, from its JSON.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut};
use http::Request;
use http_body::Body;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    call::{Facts, ReadFacts},
    http::{BytesPerToken, Deadline, input_tokens_by_size},
    policy::Cost,
    protocol::Idempotency,
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
/// # Ok::<(), tower_relay::error::InvalidConfig>(())
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
            let question: Question = serde_json::from_slice(bytes).unwrap_or_default();
            (question, bytes.len() as u64)
        });
        let (question, input_tokens) = match read {
            Some((question, bytes)) => (question, self.bytes_per_token.tokens(bytes)),
            None => {
                let estimate = input_tokens_by_size(request, self.bytes_per_token);
                (Question::default(), estimate)
            }
        };
        let output_tokens = question.output_tokens();
        let cost = Cost::REQUEST
            .input_tokens(input_tokens)
            .output_tokens(output_tokens.unwrap_or(self.default_output_tokens));
        match question.model {
            Some(Lenient::Meant(model)) => facts(cost).model(model),
            _ => facts(cost),
        }
    }
}

/// What is read of the JSON; the rest is skipped without being kept.
#[derive(Default, Deserialize)]
struct Question {
    model: Option<Lenient<String>>,
    max_tokens: Option<Lenient<u64>>,
    max_completion_tokens: Option<Lenient<u64>>,
    max_output_tokens: Option<Lenient<u64>>,
}

impl Question {
    fn output_tokens(&self) -> Option<u64> {
        let named = [
            &self.max_tokens,
            &self.max_completion_tokens,
            &self.max_output_tokens,
        ];
        let meant = |field: &Option<Lenient<u64>>| match field {
            Some(Lenient::Meant(tokens)) => Some(*tokens),
            _ => None,
        };
        named.into_iter().filter_map(meant).max()
    }
}

/// A field that may hold anything, without spoiling the fields beside it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Meant(T),
    Other(IgnoredAny),
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
mod tests {
    use std::{collections::VecDeque, convert::Infallible, time::Duration};

    use bytes::Bytes;
    use http_body::{Frame, SizeHint};
    use http_body_util::Full;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::policy::Unit;

    fn read(body: &str) -> Facts {
        let request = Request::post("/").body(Full::<Bytes>::from(body.to_owned()));
        JsonFacts::new().read(&request.expect("it is a valid request"))
    }

    fn cost(input: u64, output: u64) -> Cost {
        Cost::REQUEST.input_tokens(input).output_tokens(output)
    }

    #[test]
    fn cost_and_model_are_read_from_the_body() {
        let facts = read(r#"{"messages":[{"max_tokens":1}],"model":"m","max_tokens":800}"#);
        assert_eq!(facts.model_name(), Some("m"));
        assert_eq!(facts.cost(), cost(15, 800));
    }

    #[test]
    fn the_largest_of_the_maxima_counts() {
        let facts = read(r#"{"max_completion_tokens":7,"max_output_tokens":9,"max_tokens":8}"#);
        assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 9);
    }

    #[test]
    fn an_absurd_field_does_not_spoil_the_others() {
        for absurd in [
            "-1",
            "1e300",
            "\"many\"",
            "null",
            "[1,[2]]",
            "{\"a\":{}}",
            "0.5",
            "1e400",
        ] {
            let facts = read(&format!(r#"{{"max_tokens":{absurd},"model":"m"}}"#));
            assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 1_024, "{absurd}");
            if absurd != "1e400" {
                assert_eq!(facts.model_name(), Some("m"), "{absurd}");
            }
            let facts = read(&format!(r#"{{"model":{absurd},"max_tokens":5}}"#));
            if absurd != "\"many\"" && absurd != "1e400" {
                assert_eq!(facts.model_name(), None, "{absurd}");
                assert_eq!(facts.cost().get(Unit::OUTPUT_TOKENS), 5, "{absurd}");
            }
        }
    }

    #[test]
    fn what_is_no_json_object_costs_its_size_and_the_default() {
        for body in [
            "{",
            "[1,2]",
            "--boundary\r\n",
            "{\"model\":\"m\"",
            "\u{0}",
            "7",
        ] {
            let facts = read(body);
            assert_eq!(
                facts.cost(),
                cost((body.len() as u64).div_ceil(4), 1_024),
                "{body}"
            );
            assert_eq!(facts.model_name(), None);
        }
    }

    #[test]
    fn a_request_without_a_body_costs_one_request() {
        assert_eq!(read("").cost(), Cost::REQUEST);
    }

    #[test]
    fn settings_replace_the_defaults() -> Result<(), crate::error::InvalidConfig> {
        let reader = JsonFacts::new()
            .bytes_per_token(BytesPerToken::new(0.5)?)
            .default_output_tokens(3);
        let request = Request::new(Full::<Bytes>::from("{}"));
        assert_eq!(reader.read(&request).cost(), cost(4, 3));
        Ok(())
    }

    #[test]
    fn the_deadline_and_the_word_on_repeats_travel_along() {
        let mut request = Request::new(Full::<Bytes>::from("{}"));
        let instant = Instant::now() + Duration::from_secs(1);
        request.extensions_mut().insert(Deadline::at(instant));
        let unknown = JsonFacts::new().idempotency(Idempotency::Unknown);
        for (reader, idempotency) in [
            (JsonFacts::new(), Idempotency::Idempotent),
            (unknown, Idempotency::Unknown),
        ] {
            let facts = reader.read(&request);
            let expected = Facts::new(cost(1, 1_024))
                .deadline(instant)
                .idempotency(idempotency);
            assert_eq!(format!("{facts:?}"), format!("{expected:?}"));
        }
    }

    /// Frames, of which `None` is one that has yet to come.
    #[derive(Clone)]
    struct Pieces(VecDeque<Option<&'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(400)
        }
    }

    fn read_pieces(pieces: &[Option<&'static str>]) -> (Facts, usize) {
        let request = Request::new(Pieces(pieces.iter().copied().collect()));
        let facts = JsonFacts::new().read(&request);
        (facts, request.body().0.len())
    }

    #[test]
    fn a_body_in_pieces_is_put_together_and_left_whole() {
        let (facts, left) = read_pieces(&[Some("{\"max_tok"), Some("ens\":9,"), Some("\"a\":0}")]);
        assert_eq!(facts.cost(), cost(6, 9));
        assert_eq!(left, 3);
    }

    #[test]
    fn a_body_that_is_not_all_there_is_taken_by_its_size_hint() {
        let (facts, left) = read_pieces(&[Some("{\"max_tokens\":9"), None, Some("}")]);
        assert_eq!(facts.cost(), cost(100, 1_024));
        assert_eq!(left, 3);
    }

    #[derive(Clone)]
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
        }
    }

    #[test]
    fn an_endless_body_is_given_up() {
        let facts = JsonFacts::new().read(&Request::new(Endless));
        assert_eq!(facts.cost(), cost(0, 1_024));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = JsonFacts::new().read(&Request::new(Full::new(Bytes::from(bytes))));
        }

        #[test]
        fn no_field_makes_it_panic(field in "max_tokens|model|x", value in "\\PC{0,40}") {
            let _ = read(&format!("{{\"{field}\":{value}}}"));
        }
    }
}
