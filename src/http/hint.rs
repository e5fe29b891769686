//! When a server wants to be asked again, read from its headers.

use std::{
    str,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{DATE, RETRY_AFTER},
};

use super::value::{go_duration, http_date, milliseconds, rfc3339, seconds, text};

/// Headers that say the wait in milliseconds, the first of them first.
const MILLISECONDS: [HeaderName; 2] = [
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-ms-retry-after-ms"),
];
/// From here on a number is an instant, not a wait: as seconds it would be 31 years.
const EPOCH_SECONDS: Duration = Duration::from_secs(1_000_000_000);
/// From here on it is an instant in milliseconds.
const EPOCH_MILLISECONDS: Duration = Duration::from_secs(1_000_000_000_000);
/// An instant farther ahead than the longest quota period, a year, was no instant.
const LONGEST_PERIOD: Duration = Duration::from_secs(366 * 86_400);
/// Header names longer than this name no quota.
const LONGEST_NAME: usize = 128;

/// The wait that the headers of a failed response ask for.
///
/// In this order:
/// 1. `retry-after-ms`, then `x-ms-retry-after-ms`;
/// 2. `Retry-After`. RFC 9110 10.2.3: "an HTTP-date or a number of seconds"; a date (5.6.7) is
///    taken relative to the response's own `Date` where that is valid, otherwise to `now`.
///    Beyond the RFC, decimals and Go durations are understood;
/// 3. the reset of a *spent* dimension, the latest if there are several: any
///    `..ratelimit-..reset..` header whose `remaining` twin is 0 or whose `status` twin is
///    `rejected`, and the IETF `RateLimit` field in both its forms. A reset is a Go duration,
///    seconds, an RFC 3339 instant, or seconds or milliseconds since 1970;
/// 4. where no dimension tells what remains, the earliest reset.
///
/// A value that is repeated counts with its longest valid form. Zero, negative, past and
/// malformed values are no hint. The hint stands as the server said it, however long it is.
///
/// Only failures carry hints: on a success the same headers mean nothing.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, HeaderValue};
/// use tower_relay::http::retry_hint;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("0"));
/// headers.insert("x-ratelimit-reset-tokens", HeaderValue::from_static("6m0s"));
/// let now = SystemTime::now();
/// assert_eq!(retry_hint(&headers, now), Some(Duration::from_secs(360)));
///
/// headers.insert("retry-after", HeaderValue::from_static("2"));
/// assert_eq!(retry_hint(&headers, now), Some(Duration::from_secs(2)));
/// ```
#[must_use]
pub fn retry_hint(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let hints = Hints::new(headers, || now);
    hints.explicit().or_else(|| hints.resets().any())
}

/// The hints in a head, with a wall clock that is read only for an instant.
pub(super) struct Hints<'a, W> {
    headers: &'a HeaderMap,
    wall: W,
}

impl<'a, W: Fn() -> SystemTime> Hints<'a, W> {
    pub(super) const fn new(headers: &'a HeaderMap, wall: W) -> Self {
        Self { headers, wall }
    }

    /// What the server says in so many words.
    pub(super) fn explicit(&self) -> Option<Duration> {
        for name in &MILLISECONDS {
            let wait = longest(self.headers, name, milliseconds);
            if wait.is_some() {
                return wait;
            }
        }
        longest(self.headers, &RETRY_AFTER, |text| self.retry_after(text))
    }

    /// What can be concluded from the state of its quotas.
    pub(super) fn resets(&self) -> Resets {
        let mut resets = Resets::default();
        for (name, value) in self.headers {
            let name = name.as_str();
            if !name.contains("ratelimit") && !name.contains("rate-limit") {
                continue;
            }
            let Some(text) = text(value) else { continue };
            if name == "ratelimit" {
                self.ietf(text, &mut resets);
            } else if let Some(at) = word(name, "remaining") {
                resets.tell(seconds(text), || self.twin(name, at, "remaining"));
            } else if let Some(at) = word(name, "status") {
                if text.eq_ignore_ascii_case("rejected") {
                    resets.spend(self.twin(name, at, "status"));
                }
            } else if word(name, "reset").is_some() {
                let wait = self.reset(text);
                resets.earliest = match resets.earliest {
                    Some(earlier) => Some(wait.map_or(earlier, |wait| wait.min(earlier))),
                    None => wait,
                };
            }
        }
        resets
    }

    fn retry_after(&self, text: &str) -> Option<Duration> {
        let date = || http_date(text).and_then(|at| self.until(at));
        // A proxy may have joined two fields into one.
        let joined = || {
            let parts = || text.split(',').map(|part| seconds(part.trim()));
            parts()
                .all(|part| part.is_some())
                .then(|| parts().flatten().max())?
        };
        seconds(text)
            .or_else(|| go_duration(text))
            .or_else(date)
            .or_else(joined)
    }

    /// The value of a reset header as a wait.
    fn reset(&self, text: &str) -> Option<Duration> {
        let Some(number) = seconds(text) else {
            let instant = || rfc3339(text).or_else(|| http_date(text));
            let wait = go_duration(text).or_else(|| self.until(instant()?));
            return wait.filter(|wait| !wait.is_zero());
        };
        let since_1970 = match number {
            wait if wait < EPOCH_SECONDS => return Some(wait).filter(|wait| !wait.is_zero()),
            instant if instant < EPOCH_MILLISECONDS => instant,
            instant => instant / 1_000,
        };
        self.until(SystemTime::UNIX_EPOCH.checked_add(since_1970)?)
            .filter(|wait| *wait <= LONGEST_PERIOD)
    }

    /// The reset of the dimension whose header `name` has `instead` at `at`.
    fn twin(&self, name: &str, at: usize, instead: &str) -> Option<Duration> {
        let mut buffer = [0; LONGEST_NAME];
        let mut length = 0;
        for part in [&name[..at], "reset", &name[at + instead.len()..]] {
            let end = length + part.len();
            buffer
                .get_mut(length..end)?
                .copy_from_slice(part.as_bytes());
            length = end;
        }
        let twin = str::from_utf8(&buffer[..length]).ok()?;
        let values = self.headers.get_all(twin).iter();
        values.filter_map(|value| self.reset(text(value)?)).max()
    }

    /// The IETF field, as `"name";r=0;t=30` (a list) or as `limit=9, remaining=0, reset=30`.
    fn ietf(&self, text: &str, resets: &mut Resets) {
        let mut older = (None, None);
        for item in unquoted(text, ',') {
            let mut parameters = (None, None);
            let pair = match unquoted(item, ';').nth(1) {
                Some(_) => &mut parameters,
                None => &mut older,
            };
            for (key, value) in unquoted(item, ';').filter_map(|part| part.split_once('=')) {
                match key.trim() {
                    "r" | "remaining" => pair.0 = seconds(value.trim()),
                    "t" | "reset" => pair.1 = self.reset(value.trim()),
                    _ => {}
                }
            }
            resets.tell(parameters.0, || parameters.1);
        }
        resets.tell(older.0, || older.1);
    }

    /// How long it is to `instant`, by the server's own clock where it shows it.
    fn until(&self, instant: SystemTime) -> Option<Duration> {
        let date = self.headers.get(DATE).and_then(text).and_then(http_date);
        let now = date.unwrap_or_else(&self.wall);
        let wait = instant.duration_since(now).ok()?;
        (!wait.is_zero()).then_some(wait)
    }
}

/// What the state of the quotas says.
#[derive(Default)]
pub(super) struct Resets {
    /// When the last of the spent dimensions comes back.
    pub(super) spent: Option<Duration>,
    /// The first reset of all.
    earliest: Option<Duration>,
    /// Whether any dimension tells what remains of it.
    told: bool,
}

impl Resets {
    /// The wait for what is spent or, if nobody says what is, for the first thing that returns.
    pub(super) fn any(&self) -> Option<Duration> {
        match self.told {
            true => self.spent,
            false => self.earliest,
        }
    }

    fn tell(&mut self, remaining: Option<Duration>, reset: impl FnOnce() -> Option<Duration>) {
        // `None` is a number that was not said or, as the -1 of some, makes no sense.
        if let Some(remaining) = remaining {
            self.told = true;
            if remaining.is_zero() {
                self.spend(reset());
            }
        }
    }

    fn spend(&mut self, reset: Option<Duration>) {
        self.told = true;
        self.spent = self.spent.max(reset);
    }
}

/// The longest of the values of `name` that `read` understands and that is not zero.
fn longest(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<Duration>,
) -> Option<Duration> {
    let wait = |value: &HeaderValue| read(text(value)?);
    let waits = headers.get_all(name).iter().filter_map(wait);
    waits.max().filter(|wait| !wait.is_zero())
}

/// Where `word` stands between hyphens in `name`.
fn word(name: &str, word: &str) -> Option<usize> {
    let mut start = 0;
    for part in name.split('-') {
        if part == word {
            return Some(start);
        }
        start += part.len() + 1;
    }
    None
}

/// The parts of a structured field between `separator`s that no quotes enclose.
pub(crate) fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && c == '\\' && !escaped;
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests;
