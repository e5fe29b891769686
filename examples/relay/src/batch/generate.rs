//! Requests to try a batch with.

use std::io::{self, BufWriter, Write as _};

use serde_json::json;

const TOPICS: [&str; 6] = [
    "the tides",
    "a lighthouse",
    "the price of bread",
    "how bees find home",
    "a night train",
    "the first telephone",
];

/// Writes `count` lines to standard output.
pub(super) fn generate(count: u64) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let width = count.to_string().len();
    for number in 1..=count {
        let topic = TOPICS[(number % TOPICS.len() as u64) as usize];
        let prompt = format!("Summarise document {number}, which is about {topic}.");
        let body = json!({
            "model": "some-model",
            "max_tokens": 300,
            "messages": [{ "role": "user", "content": prompt }],
        });
        // By hand, so that the id comes first.
        let line = format!(
            "{{\"custom_id\":\"document-{number:0width$}\",\"method\":\"POST\",\
             \"url\":\"/v1/chat/completions\",\"body\":{body}}}"
        );
        writeln!(out, "{line}")?;
    }
    out.flush()
}
