//! What is asked: sizes with heavy tails, some of it streamed, some of it cached.

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use http_body_util::Full;

use super::row::{Estimates, Format, Row};

/// The sizes of one call, which the provider alone knows exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Bytes of prompt.
    text: usize,
    /// Tokens of prompt, as the model reads it.
    input: u64,
    /// Of these from a cache.
    cached: u64,
    pub(super) output: u64,
    max_tokens: u64,
    pub(super) is_stream: bool,
    /// How many times the real tokens its bytes are taken for, where each call has its own factor.
    error: f64,
}

/// Carries that factor to whoever estimates.
pub(super) const ERROR: &str = "x-estimate-error";
/// The factors by which estimates are wrong where one is for all calls.
const ERRORS: [f64; 5] = [0.1, 0.25, 0.5, 2.0, 4.0];

/// The longest prompt, in bytes.
const LONGEST: usize = 4 * 8_000;

/// Text is about four bytes a token; by how much at most a prompt differs.
const TOKENIZER: f64 = 0.1;

impl Sizes {
    pub(super) fn draw(rng: &mut Rng, row: &Row) -> Self {
        let estimated = log_normal(rng, 900.0, 1.0).clamp(100.0, 8_000.0);
        let output = log_normal(rng, 180.0, 1.0).clamp(10.0, 1_500.0);
        let input = estimated * (1.0 + TOKENIZER * (2.0 * rng.f64() - 1.0));
        // People ask for more than they get, in round numbers.
        let wanted = output * (1.0 + (row.most_wanted - 1.0) * rng.f64());
        let max_tokens = (wanted / 64.0).ceil() * 64.0;
        let is_cached = rng.f64() < 0.25;
        let cached = if is_cached { 0.8 * input } else { 0.0 };
        let is_stream = rng.f64() < 0.3;
        let error = match row.estimates {
            Estimates::EachWrong => 0.1 * 40_f64.powf(rng.f64()),
            _ => 1.0,
        };
        Self {
            text: 4 * estimated as usize,
            input: input as u64,
            cached: cached as u64,
            output: output as u64,
            max_tokens: max_tokens as u64,
            is_stream,
            error,
        }
    }

    pub(super) fn request(&self, format: Format) -> Request<Full<Bytes>> {
        let text = &FILLER[..self.text.min(LONGEST)];
        let text = std::str::from_utf8(text).expect("it is ASCII");
        let (max, stream) = (self.max_tokens, self.is_stream);
        let message = |content: &str| format!(r#"[{{"role":"user","content":{content}}}]"#);
        let (path, body) = match format {
            Format::Anthropic => {
                let messages = message(&format!("\"{text}\""));
                let body = format!(
                    r#"{{"model":"m","max_tokens":{max},"stream":{stream},"messages":{messages}}}"#
                );
                ("/v1/messages", body)
            }
            Format::OpenAi => {
                let messages = message(&format!("\"{text}\""));
                let options = match stream {
                    true => r#","stream":true,"stream_options":{"include_usage":true}"#,
                    false => "",
                };
                let body =
                    format!(r#"{{"model":"m","max_tokens":{max}{options},"messages":{messages}}}"#);
                ("/v1/chat/completions", body)
            }
            Format::Gemini => {
                let body = format!(
                    r#"{{"contents":[{{"role":"user","parts":[{{"text":"{text}"}}]}}],"generationConfig":{{"maxOutputTokens":{max}}}}}"#
                );
                let path = match stream {
                    true => "/v1beta/models/m:streamGenerateContent?alt=sse",
                    false => "/v1beta/models/m:generateContent",
                };
                (path, body)
            }
            Format::Bedrock => {
                let messages = message(&format!(r#"[{{"text":"{text}"}}]"#));
                let body =
                    format!(r#"{{"messages":{messages},"inferenceConfig":{{"maxTokens":{max}}}}}"#);
                let path = match stream {
                    true => "/model/m/converse-stream",
                    false => "/model/m/converse",
                };
                (path, body)
            }
        };
        Request::post(format!("http://provider{path}"))
            .header("content-type", "application/json")
            .header("x-input-tokens", self.input)
            .header("x-cached-tokens", self.cached)
            .header("x-output-tokens", self.output)
            .header(ERROR, self.error.to_string())
            .body(Full::from(body))
            .expect("a valid request")
    }
}

static FILLER: [u8; LONGEST] = [b'a'; LONGEST];

/// By which factor all estimates of a run are wrong: each in five runs, with another burst each time.
pub(super) fn error_of_all(row: &Row, seed: u64) -> f64 {
    match row.estimates {
        Estimates::AllWrong => {
            let place = (2 * (seed % 5) + seed / 5) % 5;
            ERRORS[usize::try_from(place).expect("less than five")]
        }
        _ => 1.0,
    }
}

/// Of this median; `spread` is the deviation of its logarithm.
fn log_normal(rng: &mut Rng, median: f64, spread: f64) -> f64 {
    // The sum of twelve is close enough to a normal deviate, and never far out.
    let deviate: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    median * (spread * deviate).exp()
}
