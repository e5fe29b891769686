//! What a provider is configured with, and what is wrong with it.

use std::{error::Error, fmt, time::Duration};

/// An account at the provider: a name, the keys that belong to it and the quota they share.
///
/// `Debug` shows how many keys there are, never the keys.
#[derive(Clone)]
pub struct Scope {
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
    pub(crate) limits: Limits,
}

impl Scope {
    /// A scope with at least one key; a key is visible ASCII and belongs to one scope.
    pub fn new(
        name: impl Into<String>,
        keys: impl IntoIterator<Item = impl Into<String>>,
        limits: Limits,
    ) -> Self {
        Self {
            name: name.into(),
            keys: keys.into_iter().map(Into::into).collect(),
            limits,
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.name)
            .field("keys", &format_args!("[{} redacted]", self.keys.len()))
            .field("limits", &self.limits)
            .finish()
    }
}

/// The quota of a scope; a dimension that is `None` is not limited and sends no headers. The
/// default limits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls admitted per minute of provider time, at least 1.
    pub requests_per_minute: Option<u64>,
    /// Judges `requests_per_minute` in windows of this length, one after the other from the start
    /// on, each with its share of the minute and at least 1: 1 s for a limit per second, 10 s for
    /// Azure. More than zero; by default there is a bucket instead.
    pub requests_window: Option<Duration>,
    /// Calls admitted per window of a day, at least 1.
    pub requests_per_day: Option<u64>,
    /// When the first of these windows ends, in provider time from the start; more than zero, by
    /// default 24 hours.
    pub day_ends_in: Duration,
    /// Input tokens per minute, at least 1, charged as the
    /// [`ChargingRule`](crate::ChargingRule) says.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens per minute, at least 1, charged likewise.
    pub output_tokens_per_minute: Option<u64>,
    /// Input and output tokens together per minute, at least 1, charged likewise. It may stand
    /// beside the other two.
    pub tokens_per_minute: Option<u64>,
    /// Calls at a time, at least 1, each from its admission to the end of its response body.
    pub max_in_flight: Option<u64>,
    /// How much of its rate each bucket holds, in provider time; more than zero, by default one
    /// second, as where 60 requests per minute act as 1 per second. Nobody tells the client.
    ///
    /// No bucket holds less than one request or token. A call that costs more than a bucket holds
    /// is admitted when that bucket is full, and leaves it in debt.
    pub burst: Duration,
    /// How much of its rate each bucket is said to hold: where a minute is told and less is held,
    /// calls are refused of whose limit much remains. More than zero; by default headers tell what is held.
    pub shown_burst: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Limits {
    /// No limits; what a constant begins with.
    pub const NONE: Self = Self {
        requests_per_minute: None,
        requests_window: None,
        requests_per_day: None,
        day_ends_in: DAY,
        input_tokens_per_minute: None,
        output_tokens_per_minute: None,
        tokens_per_minute: None,
        max_in_flight: None,
        burst: Duration::from_secs(1),
        shown_burst: None,
    };

    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, limit) in [
            ("requests_per_minute", self.requests_per_minute),
            ("requests_per_day", self.requests_per_day),
            ("input_tokens_per_minute", self.input_tokens_per_minute),
            ("output_tokens_per_minute", self.output_tokens_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("max_in_flight", self.max_in_flight),
        ] {
            if limit == Some(0) {
                return Err(InvalidConfig::new(
                    field,
                    "is zero, so nothing could pass; use 1 or more, or None",
                ));
            }
        }
        for (field, span) in [
            ("burst", Some(self.burst)),
            ("shown_burst", self.shown_burst),
            ("day_ends_in", Some(self.day_ends_in)),
            ("requests_window", self.requests_window),
        ] {
            if span.is_some_and(|span| span.is_zero()) {
                return Err(InvalidConfig::new(
                    field,
                    "is zero; use a duration above zero, such as one second",
                ));
            }
        }
        Ok(())
    }
}

/// The longest window of a quota.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// In which headers answers show the state of the quota.
///
/// | | requests | tokens | |
/// |---|---|---|---|
/// | `Anthropic` | `anthropic-ratelimit-requests-*` | `-input-tokens-*`, `-output-tokens-*`, `-tokens-*`, what remains to the nearest thousand | reset as a date, rounded up to the second |
/// | `OpenAi` | `x-ratelimit-*-requests` | `x-ratelimit-*-tokens`, of the limit with the fewest left | reset as a Go duration |
/// | `Groq` | the same name, but of the *day* | the same | the same |
/// | `Mistral` | `x-ratelimit-{limit,remaining}-req-minute` | `x-ratelimitbysize-{limit,remaining}-minute`, `x-ratelimit-{limit,remaining}-tokens-minute` | `ratelimitbysize-reset` in seconds |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitHeaders {
    /// As the format of the request has them: Anthropic's, OpenAI's, or none for Gemini and
    /// Bedrock, which send none.
    #[default]
    OfFormat,
    /// None at all; refusals still tell when to come back as their format does.
    Off,
    /// Anthropic's.
    Anthropic,
    /// OpenAI's.
    OpenAi,
    /// Groq's.
    Groq,
    /// Mistral's.
    Mistral,
}

/// How long an answer takes, in provider time: `first_token + per_token × output tokens`. The
/// default is no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// From admission until generation begins.
    pub first_token: Duration,
    /// For each token of output.
    pub per_token: Duration,
}

/// How many calls the whole provider can hold, whoever makes them; without one there is no bound.
///
/// A call is served from its turn to the end of its response body, and takes as long as
/// [`Latency`] says from its turn on. Calls that fail by [`Faults`] fail at once and take no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Calls served at a time, at least 1.
    pub at_once: u64,
    /// Calls that wait for their turn, in order of arrival; one more is turned away with 529, or
    /// 503 in OpenAI's format, and charged nothing.
    pub queue: u64,
}

impl Capacity {
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        if self.at_once == 0 {
            return Err(InvalidConfig::new(
                "at_once",
                "is zero, so nothing could be served; use 1 or more",
            ));
        }
        Ok(())
    }
}

/// Which shares of the admitted calls fail, each within 0 and 1; the default is none. Failed calls
/// are charged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Calls answered at once with 500.
    pub server_error_share: f64,
    /// Calls answered at once with 529, or 503 in OpenAI's format; together with
    /// `server_error_share` at most 1.
    pub overloaded_share: f64,
    /// Streams, of those that began, that end half-way with an error that says the provider is
    /// overloaded.
    pub stream_error_share: f64,
}

impl Faults {
    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, share) in [
            ("server_error_share", self.server_error_share),
            ("overloaded_share", self.overloaded_share),
            ("stream_error_share", self.stream_error_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(InvalidConfig::new(
                    field,
                    "is not a share; use a number from 0 to 1",
                ));
            }
        }
        if self.server_error_share + self.overloaded_share > 1.0 {
            let problem = "exceeds 1 together with server_error_share; lower one of them";
            return Err(InvalidConfig::new("overloaded_share", problem));
        }
        Ok(())
    }
}

/// How a call for a denied model is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// With 404, as if there were no such model.
    NotFound,
    /// With 403, as a model that exists and is not open to the caller.
    Forbidden,
}

/// A configuration that no provider can run with; names the field and the way out, never a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    field: &'static str,
    problem: &'static str,
    scope: Option<String>,
}

impl InvalidConfig {
    pub(crate) fn new(field: &'static str, problem: &'static str) -> Self {
        Self {
            field,
            problem,
            scope: None,
        }
    }

    /// Of a key: which one is not said.
    pub(crate) fn unknown_key() -> Self {
        Self::new("key", "is unknown; use that of a configured scope")
    }

    pub(crate) fn unknown_scope(name: &str) -> Self {
        Self::new("name", "is unknown; use that of a configured one").in_scope(name)
    }

    pub(crate) fn in_scope(mut self, name: &str) -> Self {
        self.scope = Some(name.to_owned());
        self
    }

    /// The field that is wrong, by the name it has in this crate, such as `time_scale` or `burst`.
    pub fn field(&self) -> &str {
        self.field
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid configuration: {}", self.field)?;
        if let Some(scope) = &self.scope {
            write!(f, " of scope {scope:?}")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl Error for InvalidConfig {}
