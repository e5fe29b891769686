//! Which headers show the state of a provider's quotas.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use crate::{
    http::{
        hint::unquoted,
        value::{go_duration, rfc3339, seconds, text},
    },
    policy::{Reading, Readings, Unit},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// As many digits always fit.
const MOST_DIGITS: usize = 18;
/// Of the fields of the IETF's draft, whose items are compared with one another. Four are heard.
const MOST_ITEMS: usize = 16;

/// The headers by which a provider shows its quotas, and what they are in.
///
/// Values that are no plain number (negative, decimal, of more than 18 digits) and headers that
/// are repeated say nothing. Headers that are not named here, such as
/// `anthropic-ratelimit-unified-*`, whose shares are of no unit that a quota knows, are not read.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, HeaderValue};
/// use tower_relay::{policy::{Reading, Readings, Unit}, provider::RateHeaders};
///
/// let mut headers = HeaderMap::new();
/// for (name, value) in [
///     ("x-ratelimit-limit-tokens", "200000"),
///     ("x-ratelimit-remaining-tokens", "149984"),
///     ("x-ratelimit-remaining-requests", "-1"),
/// ] {
///     headers.insert(name, HeaderValue::from_static(value));
/// }
/// let tokens = Reading::new(Unit::TOKENS, Duration::from_secs(60));
/// let expected = Readings::NONE.with(tokens.limit(200_000).remaining(149_984));
/// assert_eq!(RateHeaders::openai().read(&headers, SystemTime::now), expected);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RateHeaders {
    shown: Vec<RateHeader>,
    is_standard: bool,
    is_zero_unknown: bool,
}

/// The headers of one limit.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, HeaderName, HeaderValue};
/// use tower_relay::{
///     policy::Unit,
///     provider::{RateHeader, RateHeaders, ResetForm},
/// };
///
/// // 5,000 an hour, all back at an instant.
/// let name = HeaderName::from_static;
/// let hourly = RateHeader::new(Unit::REQUESTS, name("x-ratelimit-remaining"))
///     .limit(name("x-ratelimit-limit"))
///     .period(Duration::from_secs(3_600))
///     .window(name("x-ratelimit-reset"), ResetForm::EpochSeconds);
/// let house = RateHeaders::none().and(hourly);
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-ratelimit-remaining", HeaderValue::from_static("4987"));
/// headers.insert("x-ratelimit-limit", HeaderValue::from_static("5000"));
/// headers.insert("x-ratelimit-reset", HeaderValue::from_static("1000000300"));
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
/// let readings = house.read(&headers, || now);
/// assert_eq!(readings.iter().next().map(|shown| shown.bounds()), Some((4_987, 4_987)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RateHeader {
    unit: Unit,
    period: Period,
    limit: Option<HeaderName>,
    remaining: HeaderName,
    reset: Option<(HeaderName, ResetForm)>,
    is_window: bool,
    rounding: u64,
    is_fallback: bool,
}

/// How a header says when a limit is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetForm {
    /// `6m0s`, `12ms`.
    GoDuration,
    /// A decimal number of seconds from now.
    Seconds,
    /// An instant such as `2024-03-26T20:00:00Z`.
    Rfc3339,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Fixed(Duration),
    /// A minute or a day, by how long what is missing takes to come back.
    ByReset,
}

// === impl RateHeaders ===

impl RateHeaders {
    /// Headers that show nothing.
    pub const fn none() -> Self {
        Self {
            shown: Vec::new(),
            is_standard: false,
            is_zero_unknown: false,
        }
    }

    /// The fields `RateLimit` and `RateLimit-Policy` of the IETF's draft, where they are of
    /// requests, named alike, and say amount and window. What `t` names is taken for the instant at which
    /// the window is whole again. The first 16 items of each field are read.
    pub const fn standard() -> Self {
        Self {
            shown: Vec::new(),
            is_standard: true,
            is_zero_unknown: false,
        }
    }

    /// Anthropic's: requests, input and output tokens per minute, tokens rounded to the nearest
    /// thousand. `anthropic-ratelimit-tokens-*` shows the tightest limit in force, whichever that
    /// is: it is read where no other of tokens is there.
    pub fn anthropic() -> Self {
        let requests = named(
            Unit::REQUESTS,
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
        );
        let input = named(
            Unit::INPUT_TOKENS,
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
        );
        let output = named(
            Unit::OUTPUT_TOKENS,
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
        );
        let tightest = named(
            Unit::TOKENS,
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
        );
        Self::none()
            .and(requests)
            .and(input.rounded_to(1_000))
            .and(output.rounded_to(1_000))
            .and(tightest.rounded_to(1_000).fallback())
    }

    /// OpenAI's: tokens per minute, and requests per minute or per day, as the reset tells. Those of
    /// the project (`-project-`) and `-tokens_usage_based` are not read.
    pub fn openai() -> Self {
        let reset = HeaderName::from_static("x-ratelimit-reset-requests");
        Self::none()
            .and(requests().period_by_reset(reset, ResetForm::GoDuration))
            .and(tokens())
    }

    /// Azure OpenAI's: requests and tokens per minute, under OpenAI's names. It has sent -1 and 0
    /// where it knew nothing, so zero says nothing.
    pub fn azure_openai() -> Self {
        let mut headers = Self::none().and(requests()).and(tokens());
        headers.is_zero_unknown = true;
        headers
    }

    /// Groq's: OpenAI's names, but requests are per *day*.
    pub fn groq() -> Self {
        Self::none().and(requests().period(DAY)).and(tokens())
    }

    /// Mistral's: requests and tokens per minute. Those of the month are not read, because nothing
    /// says when a month ends.
    pub fn mistral() -> Self {
        let requests = named(
            Unit::REQUESTS,
            "x-ratelimit-limit-req-minute",
            "x-ratelimit-remaining-req-minute",
        );
        let tokens = named(
            Unit::TOKENS,
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
        );
        let by_size = named(
            Unit::TOKENS,
            "x-ratelimitbysize-limit-minute",
            "x-ratelimitbysize-remaining-minute",
        );
        Self::none()
            .and(requests)
            .and(tokens)
            .and(by_size.fallback())
    }

    /// These and those of another limit. Of the limits that one answer shows the first four are
    /// heard.
    pub fn and(mut self, header: RateHeader) -> Self {
        self.shown.push(header);
        self
    }

    /// What the headers of a response show. `wall` reads the clock, where a reset is an instant.
    pub fn read(&self, headers: &HeaderMap, wall: impl Fn() -> SystemTime) -> Readings {
        let mut readings = Readings::NONE;
        for shown in &self.shown {
            let is_told =
                shown.is_fallback && readings.iter().any(|other| other.unit() != Unit::REQUESTS);
            if is_told {
                continue;
            }
            if let Some(reading) = shown.read(headers, self.is_zero_unknown, &wall) {
                readings = readings.with(reading);
            }
        }
        if self.is_standard {
            readings = standard(headers, readings);
        }
        readings
    }
}

// === impl RateHeader ===

impl RateHeader {
    /// A limit of `unit` per minute that refills, whose header `remaining` shows what is left.
    pub const fn new(unit: Unit, remaining: HeaderName) -> Self {
        Self {
            unit,
            period: Period::Fixed(MINUTE),
            limit: None,
            remaining,
            reset: None,
            is_window: false,
            rounding: 1,
            is_fallback: false,
        }
    }

    /// The header that shows what a period grants. Without one the quota must say.
    pub fn limit(mut self, name: HeaderName) -> Self {
        self.limit = Some(name);
        self
    }

    /// The limit's period. Default: a minute.
    pub const fn period(mut self, period: Duration) -> Self {
        self.period = Period::Fixed(period);
        self
    }

    /// The period is a minute or a day, as `reset` tells, which says when all of it will have come
    /// back.
    pub fn period_by_reset(mut self, reset: HeaderName, form: ResetForm) -> Self {
        self.period = Period::ByReset;
        self.reset = Some((reset, form));
        self
    }

    /// The limit does not refill, but is whole again at the instant that `reset` says.
    pub fn window(mut self, reset: HeaderName, form: ResetForm) -> Self {
        self.is_window = true;
        self.reset = Some((reset, form));
        self
    }

    /// What is left is rounded to the nearest multiple of this. Default: 1.
    pub const fn rounded_to(mut self, units: u64) -> Self {
        self.rounding = units;
        self
    }

    /// Only read where no limit but one of requests is shown otherwise.
    pub const fn fallback(mut self) -> Self {
        self.is_fallback = true;
        self
    }

    fn read(
        &self,
        headers: &HeaderMap,
        is_zero_unknown: bool,
        wall: &impl Fn() -> SystemTime,
    ) -> Option<Reading> {
        let remaining = number(single(headers, &self.remaining)?)?;
        if remaining == 0 && is_zero_unknown {
            return None;
        }
        let limit = match &self.limit {
            Some(name) => single(headers, name).map(|text| number(text).filter(|&n| n > 0)),
            None => None,
        };
        // A limit that makes no sense stands beside a remainder that makes none.
        let limit = match limit {
            Some(None) => return None,
            limit => limit.flatten(),
        };
        let reset = || {
            let (name, form) = self.reset.as_ref()?;
            form.read(single(headers, name)?, wall)
        };
        let period = match self.period {
            Period::Fixed(period) => period,
            Period::ByReset => whole(limit, remaining, reset()).unwrap_or(Duration::ZERO),
        };
        let mut reading = Reading::new(self.unit, period)
            .limit(limit.unwrap_or(0))
            .remaining(remaining)
            .rounded_to(self.rounding);
        if self.is_window {
            reading = reading.resets_in(reset()?);
        }
        Some(reading)
    }
}

/// The period, if what is missing of `limit` comes back within `reset`: a minute or a day.
fn whole(limit: Option<u64>, remaining: u64, reset: Option<Duration>) -> Option<Duration> {
    let limit = limit?;
    let missing = limit
        .checked_sub(remaining)
        .filter(|&missing| missing > 0)?;
    let whole = reset?.as_nanos().checked_mul(u128::from(limit))? / u128::from(missing);
    Some(if whole < HOUR.as_nanos() { MINUTE } else { DAY })
}

impl ResetForm {
    fn read(self, text: &str, wall: &impl Fn() -> SystemTime) -> Option<Duration> {
        let until = |instant: SystemTime| instant.duration_since(wall()).ok();
        let since_1970 = |since| SystemTime::UNIX_EPOCH.checked_add(since);
        match self {
            Self::GoDuration => go_duration(text),
            Self::Seconds => seconds(text),
            Self::Rfc3339 => until(rfc3339(text)?),
            Self::EpochSeconds => until(since_1970(seconds(text)?)?),
            Self::EpochMilliseconds => until(since_1970(Duration::from_millis(number(text)?))?),
        }
    }
}

/// The headers of a limit, by the names of those of the limit and of what remains.
fn named(unit: Unit, limit: &'static str, remaining: &'static str) -> RateHeader {
    let remaining = HeaderName::from_static(remaining);
    RateHeader::new(unit, remaining).limit(HeaderName::from_static(limit))
}

/// Under the names that OpenAI has made common.
fn requests() -> RateHeader {
    let remaining = "x-ratelimit-remaining-requests";
    named(Unit::REQUESTS, "x-ratelimit-limit-requests", remaining)
}

fn tokens() -> RateHeader {
    let remaining = "x-ratelimit-remaining-tokens";
    named(Unit::TOKENS, "x-ratelimit-limit-tokens", remaining)
}

/// The one value of a header, if there is one and no more.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = text(values.next()?)?;
    values.next().is_none().then_some(value)
}

/// A plain whole number.
fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty()
        && text.len() <= MOST_DIGITS
        && text.bytes().all(|digit| digit.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

/// What the fields of the IETF's draft show, each item with the policy of its name.
fn standard(headers: &HeaderMap, mut readings: Readings) -> Readings {
    let items = |name: &'static str| {
        let values = headers.get_all(name).iter();
        values
            .filter_map(text)
            .flat_map(|value| unquoted(value, ','))
            .take(MOST_ITEMS)
    };
    for item in items("ratelimit") {
        let of = name(item);
        let is_alone = |field| items(field).filter(|&other| name(other) == of).count() == 1;
        if !is_alone("ratelimit") || !is_alone("ratelimit-policy") {
            continue;
        }
        let Some(policy) = items("ratelimit-policy").find(|&policy| name(policy) == of) else {
            continue;
        };
        if parameter(policy, "qu").is_some_and(|unit| unit != "\"requests\"") {
            continue;
        }
        let amount = |item, key| number(parameter(item, key)?);
        let (Some(left), Some(limit), Some(window)) =
            (amount(item, "r"), amount(policy, "q"), amount(policy, "w"))
        else {
            continue;
        };
        if limit == 0 || window == 0 {
            continue;
        }
        let reading = Reading::new(Unit::REQUESTS, Duration::from_secs(window));
        let reading = reading.limit(limit).remaining(left);
        readings = readings.with(match amount(item, "t") {
            Some(wait) => reading.resets_in(Duration::from_secs(wait)),
            None => reading,
        });
    }
    readings
}

/// What an item is of.
fn name(item: &str) -> Option<&str> {
    unquoted(item, ';').next().map(str::trim)
}

/// A parameter of an item.
fn parameter<'a>(item: &'a str, key: &str) -> Option<&'a str> {
    let mut parts = unquoted(item, ';')
        .skip(1)
        .filter_map(|part| part.split_once('='));
    let (_, value) = parts.find(|(name, _)| name.trim() == key)?;
    Some(value.trim())
}

#[cfg(test)]
mod tests;
