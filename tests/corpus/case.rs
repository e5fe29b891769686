//! One line of the corpus.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::DATE};
use serde_json::Value;

pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
    pub(crate) received: Option<SystemTime>,
    pub(crate) is_debatable: bool,
    pub(crate) expect: Expect,
}

impl Case {
    /// Whether it is a success with a body to read, rather than a failure or a bare head.
    pub(crate) fn has_answer(&self) -> bool {
        (200..300).contains(&self.status) && !matches!(self.content, Content::None)
    }
}

pub(crate) enum Content {
    None,
    Body(String),
    Events(String),
    /// Events that travel in AWS's binary framing.
    Binary(String),
}

pub(crate) struct Expect {
    pub(crate) verdict: String,
    /// Of the given hint, its alternatives, or none.
    pub(crate) hints: Vec<Option<f64>>,
    pub(crate) is_in_message: bool,
    /// Input, cached input, output.
    pub(crate) usage: [Option<u64>; 3],
    /// Where it is expected at all.
    pub(crate) cache_write: Option<u64>,
}

pub(crate) fn all() -> Vec<Case> {
    let lines = include_str!("../data/responses.jsonl").lines();
    lines
        .map(|line| read(&serde_json::from_str(line).expect("a line is JSON")))
        .collect()
}

fn read(line: &Value) -> Case {
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    let headers = headers(&line["headers"]);
    let is_binary = line["framing"] == "aws-eventstream";
    let content = match (text("body"), text("sse")) {
        (Some(body), _) => Content::Body(body),
        (None, Some(events)) if is_binary => Content::Binary(events),
        (None, Some(events)) => Content::Events(events),
        (None, None) => Content::None,
    };
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let received = text("received_at").map(|at| rfc3339(&at));
    Case {
        id: text("id").expect("a case has an id"),
        provider: match &*text("provider").expect("a case has a provider") {
            "azure" => "azure-openai".to_owned(),
            provider => provider.to_owned(),
        },
        status: line["status"].as_u64().expect("a case has a status") as u16,
        received: received.or_else(|| httpdate(date?)),
        headers,
        content,
        is_debatable: line["debatable"] == true,
        expect: expect(&line["expect"]),
    }
}

fn expect(expect: &Value) -> Expect {
    let mut hints = vec![expect["hint_seconds"].as_f64()];
    let others = expect["hint_alternatives"].as_array();
    hints.extend(others.into_iter().flatten().map(Value::as_f64));
    let tokens = |key: &str| expect[key].as_u64();
    Expect {
        verdict: expect["verdict"]
            .as_str()
            .expect("a verdict is expected")
            .to_owned(),
        hints,
        is_in_message: expect["hint_from"] == "message",
        usage: [
            tokens("input_tokens"),
            tokens("cached_input_tokens"),
            tokens("output_tokens"),
        ],
        cache_write: tokens("cache_write_input_tokens"),
    }
}

fn headers(lines: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.as_object().into_iter().flatten() {
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values {
            let name: HeaderName = name.parse().expect("a name of a header");
            let value = value.as_str().expect("a header is a text");
            let value = HeaderValue::from_str(value).expect("a value of a header");
            headers.append(name, value);
        }
    }
    headers
}

/// `2026-05-12T11:11:55Z`
fn rfc3339(text: &str) -> SystemTime {
    let number = |range: std::ops::Range<usize>| -> u64 {
        text[range]
            .parse()
            .expect("an instant is written in digits")
    };
    let days = days(number(0..4), number(5..7), number(8..10));
    let seconds = number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    let fraction = text[19..].trim_end_matches('Z').trim_end_matches("+00:00");
    let fraction = fraction.parse::<f64>().unwrap_or(0.0);
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(days * 86_400 + seconds)
        + Duration::from_secs_f64(fraction)
}

/// `Thu, 01 Aug 2024 16:55:23 GMT`
fn httpdate(text: &str) -> Option<SystemTime> {
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(text.get(8..11)?)? as u64 / 3 + 1;
    let at = format!(
        "{}-{month:02}-{}T{}Z",
        &text[12..16],
        &text[5..7],
        &text[17..25]
    );
    Some(rfc3339(&at))
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: u64 = (1970..year)
        .map(|year| 365 + u64::from(is_leap(year)))
        .sum();
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    years + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1
}
