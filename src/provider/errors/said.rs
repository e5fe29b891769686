//! What the body of a failure says, in whatever shape.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    scan::{self, Leaf, Visitor},
    words::{Lines, Quotes},
};
use crate::http::value;

/// Of a body no more than this is read.
const LONGEST_BODY: usize = 64 * 1024;
/// Of one text no more than this is read.
const LONGEST_TEXT: usize = 8 * 1024;
/// No more of texts than this is kept.
const MOST_WORDS: usize = 4 * 1024;
/// No more of codes than this is kept.
const MOST_CODES: usize = 2 * 1024;
/// A string longer than this is no code.
const LONGEST_CODE: usize = 96;
/// How often JSON may stand inside a string of JSON.
const DEEPEST_NESTING: usize = 3;
/// Headers that a body quotes, at most.
const MOST_HEADERS: usize = 32;
/// Keys longer than this mean nothing.
const LONGEST_KEY: usize = 32;

/// What a failure says of itself.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Codes, types, reasons and names of exceptions.
    pub(super) codes: Lines,
    /// What was written for people.
    pub(super) text: Lines,
    /// The same as it was written, for the times in it.
    pub(super) raw: String,
    /// The status that the body repeats, or that a proxy wrapped.
    pub(super) status: Option<u16>,
    /// The parameter of the request that is to blame.
    pub(super) parameter: Parameter,
    /// Whether it is a page for people rather than an answer to programs.
    pub(super) is_page: bool,
    /// When to try again, as a field of the body says.
    pub(super) retry: Option<Duration>,
    /// Whether that came as `RetryInfo`, which speaks of the smallest window.
    pub(super) is_retry_info: bool,
    /// When a quota returns, as a field of the body says.
    pub(super) reset: Option<Duration>,
    /// Headers of another response that the body quotes.
    pub(super) headers: HeaderMap,
}

/// Which parameter of the request a body blames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Parameter {
    /// None that it names.
    #[default]
    Unsaid,
    /// The model's name.
    Model,
    /// Another one: whatever the text says is said of it.
    Other,
}

/// What a key's value is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Code,
    Message,
    Status,
    RetryMilliseconds,
    RetrySeconds,
    RetryInfo,
    Reset,
    Parameter,
    /// What belongs to the request, or to an answer: nothing in it is about the failure.
    Foreign,
    Unknown,
}

impl Said {
    /// Reads a body. `is_page` where its type is known to be HTML.
    pub(super) fn read(body: &[u8], is_page: bool, quotes: Quotes, now: SystemTime) -> Self {
        let body = &body[..body.len().min(LONGEST_BODY)];
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let mut reader = Reader {
            said: Self::default(),
            quotes,
            now,
            nesting: 0,
        };
        match text.bytes().next() {
            // Whatever its type is said to be.
            Some(b'{' | b'[') => scan::walk(text, &mut reader),
            Some(b'<') => reader.page(text),
            _ if is_page => reader.page(text),
            _ => reader.message(text),
        }
        reader.said
    }

    /// Adds a code that came beside the body.
    pub(super) fn code(&mut self, code: &str) {
        let code = code.rsplit('#').next().unwrap_or(code);
        let code = code.split(':').next().unwrap_or(code).trim();
        if !code.is_empty() && code.len() <= LONGEST_CODE && !code.starts_with("http") {
            self.codes.code(code, MOST_CODES);
        }
    }
}

struct Reader {
    said: Said,
    quotes: Quotes,
    now: SystemTime,
    nesting: usize,
}

impl Reader {
    /// Of a page only its title is read: the rest is advice and navigation.
    fn page(&mut self, page: &str) {
        self.said.is_page = true;
        let lower = page
            .as_bytes()
            .windows(6)
            .position(|window| window.eq_ignore_ascii_case(b"<title"));
        let title = lower.and_then(|at| page.get(at..)).and_then(|rest| {
            let (_, rest) = rest.split_once('>')?;
            rest.split('<').next()
        });
        if let Some(title) = title {
            self.words(title);
        }
    }

    fn message(&mut self, text: &str) {
        self.words(text);
        self.nested(text);
    }

    fn words(&mut self, text: &str) {
        let text = cut(text, LONGEST_TEXT);
        self.said.text.prose(text, self.quotes, MOST_WORDS);
        let room = MOST_WORDS.saturating_sub(self.said.raw.len());
        if room > 0 {
            self.said.raw.push_str(cut(text, room));
            self.said.raw.push('\n');
        }
    }

    /// JSON inside a text, as gateways write the error that they were given.
    fn nested(&mut self, text: &str) {
        let Some(at) = text.find(['{', '[']) else {
            return;
        };
        if self.nesting < DEEPEST_NESTING {
            self.nesting += 1;
            scan::walk(&text[at..], self);
            self.nesting -= 1;
        }
    }

    fn status(&mut self, text: &str) {
        let status = text.trim().parse().ok();
        let status = status.filter(|status| (400..600).contains(status));
        self.said.status = self.said.status.or(status);
    }

    fn retry(&mut self, wait: Option<Duration>) {
        let wait = wait.filter(|wait| !wait.is_zero());
        self.said.retry = self.said.retry.max(wait);
    }

    fn parameter(&mut self, name: &str) {
        let name = name.trim();
        if name.is_empty() || name == "null" || name == "None" {
            return;
        }
        self.said.parameter = match name.rsplit('.').next() {
            Some("model" | "model_id" | "modelId") => Parameter::Model,
            _ => Parameter::Other,
        };
    }

    fn header(&mut self, name: &str, value: &str) {
        if self.said.headers.len() >= MOST_HEADERS {
            return;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.trim());
        if let (Ok(name), Ok(value)) = (name, value) {
            self.said.headers.append(name, value);
        }
    }
}

impl Visitor for Reader {
    fn enter(&mut self, key: &str) -> bool {
        if matches!(key, "loc" | "fieldViolations" | "field_violations") {
            self.said.parameter = Parameter::Other;
        }
        !matches!(role(key), Role::Foreign)
    }

    fn leaf(&mut self, parent: &str, key: &str, leaf: Leaf<'_>) {
        let value: Cow<'_, str> = match leaf {
            Leaf::Text(raw) => scan::unescape(raw),
            Leaf::Bare("null" | "true" | "false" | "None" | "True" | "False") => return,
            Leaf::Bare(bare) => Cow::Borrowed(bare),
        };
        let value = value.trim();
        if parent.eq_ignore_ascii_case("headers") {
            self.header(key, value);
            return;
        }
        match role(key) {
            Role::Code if value.contains(char::is_whitespace) => self.message(value),
            Role::Code => {
                self.status(value);
                self.said.code(value);
            }
            Role::Status => self.status(value),
            // A single word there is a code.
            Role::Message if key == "error" && !value.contains(char::is_whitespace) => {
                self.said.code(value);
                self.nested(value);
            }
            Role::Message if matches!(leaf, Leaf::Text(_)) => self.message(value),
            Role::RetryMilliseconds => self.retry(value::milliseconds(value)),
            Role::RetryInfo => {
                self.said.is_retry_info = true;
                self.retry(value::seconds(value).or_else(|| value::go_duration(value)));
            }
            Role::RetrySeconds => {
                self.retry(value::reset(value, || self.now));
            }
            Role::Reset => {
                let wait = value::reset(value, || self.now);
                self.said.reset = self.said.reset.max(wait);
            }
            Role::Parameter => self.parameter(value),
            Role::Unknown if parent == "retryDelay" && key == "seconds" => {
                self.said.is_retry_info = true;
                self.retry(value::seconds(value));
            }
            Role::Unknown if value.starts_with(['{', '[']) => self.nested(value),
            Role::Foreign | Role::Unknown | Role::Message => {}
        }
    }
}

/// `text` without what is beyond `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn role(key: &str) -> Role {
    let mut buffer = [0; LONGEST_KEY];
    let mut length = 0;
    for byte in key.bytes().filter(u8::is_ascii_alphanumeric) {
        let Some(slot) = buffer.get_mut(length) else {
            return Role::Unknown;
        };
        *slot = byte.to_ascii_lowercase();
        length += 1;
    }
    match &buffer[..length] {
        b"code" | b"type" | b"status" | b"reason" | b"errorcode" | b"errortype" | b"errtype"
        | b"errcode" | b"exception" | b"kind" | b"category" | b"subtype" | b"quotaid"
        | b"quotalimit" | b"quotametric" | b"limitsource" | b"limittype" | b"finishreason"
        | b"blockreason" | b"subcode" => Role::Code,
        b"message" | b"msg" | b"detail" | b"details" | b"error" | b"errors" | b"title" | b"raw"
        | b"errordescription" | b"errormessage" | b"errormsg" | b"errmsg" | b"description"
        | b"faultstring" | b"statusmsg" | b"statusmessage" | b"explanation" | b"cause"
        | b"info" => Role::Message,
        b"statuscode" | b"httpstatus" | b"httpstatuscode" | b"httpcode" | b"rawstatuscode" => {
            Role::Status
        }
        b"retryafterms" | b"retryafterinms" | b"retrydelayms" | b"retryinms" => {
            Role::RetryMilliseconds
        }
        b"retryafter" | b"retryafterseconds" | b"retryaftersecs" | b"retryaftersec"
        | b"retryin" | b"retryinseconds" | b"waitseconds" | b"estimatedtime" => Role::RetrySeconds,
        b"retrydelay" => Role::RetryInfo,
        b"resetsat"
        | b"resetat"
        | b"resettime"
        | b"retryat"
        | b"resetsinseconds"
        | b"resetinseconds"
        | b"resetsin"
        | b"resetafter"
        | b"resetafterseconds"
        | b"resetsatms"
        | b"quotareset"
        | b"quotaresettimestamp" => Role::Reset,
        b"param" | b"parameter" | b"field" | b"fieldname" => Role::Parameter,
        b"input"
        | b"inputs"
        | b"prompt"
        | b"messages"
        | b"flaggedinput"
        | b"request"
        | b"requestbody"
        | b"requestheaders"
        | b"failedgeneration"
        | b"content"
        | b"contents"
        | b"text"
        | b"delta"
        | b"output"
        | b"arguments"
        | b"tools"
        | b"functions"
        | b"ctx"
        | b"loc"
        | b"contentfilterresult"
        | b"contentfilterresults"
        | b"links"
        | b"usage"
        | b"usagemetadata"
        | b"candidates"
        | b"safetyratings" => Role::Foreign,
        _ => Role::Unknown,
    }
}
