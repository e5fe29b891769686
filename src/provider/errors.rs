//! What a provider's errors mean.

mod general;
mod midnight;
mod prose;
mod rule;
mod said;
mod scan;
mod words;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header::CONTENT_TYPE};

pub use self::rule::Rule;
use self::{said::Said, words::Quotes};
use crate::{
    http::{Hints, advice, verdict},
    outcome::{Outcome, Verdict},
};

/// Headers with the name of an error.
const ERROR_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-amzn-errortype"),
    HeaderName::from_static("x-ms-error-code"),
    HeaderName::from_static("x-error-code"),
];
/// A quota that returns sooner than this is no long one, whatever period it has: its window rolls.
const SHORT_WAIT: Duration = Duration::from_secs(3_600);

/// How a provider's failures are read from status, headers and body.
///
/// In this order; the first that knows an answer gives it:
/// 1. the rules that were added with [`rule`](Self::rule), in the order in which they were added;
/// 2. the rules of the provider, where the profile has any;
/// 3. the general rules: families of codes, types and reasons, and of wordings, as all providers
///    use them;
/// 4. the status, as [`classify_head`](crate::http::classify_head) reads it.
///
/// The body may have any shape (an `error` that is an object or a text, a list, Google's
/// `details`, AWS's `__type`, JSON inside a text, a page of HTML), be cut, or be missing. Of what
/// belongs to the request nothing is read: no `input` or `prompt` that is sent back, and under
/// 400 no quotation.
///
/// # The hint
///
/// It is the first of: the explicit headers (`retry-after-ms`, `retry-after`); the body's field
/// (`retryDelay`, `retry_after`, `resets_at`, or headers quoted in it); the reset of a dimension
/// that is spent, as [`retry_hint`](crate::http::retry_hint) reads it, for limits and overload
/// alone; and, if [`Prose::LastResort`] is set, a sentence of the message. `RetryInfo` beside a
/// daily quota speaks of a smaller window and is left out.
///
/// # Who may serve it
///
/// | verdict | same scope | another scope |
/// |---|---|---|
/// | throttled, overloaded, server fault | after the hint or a backoff | yes |
/// | ramp limit | later and slower | yes |
/// | exhausted, key rejected, model denied | no | yes |
/// | region | no | another endpoint |
/// | caller's fault | no | no |
///
/// [`Advice`](crate::outcome::Advice), from `x-should-retry`, outranks the table. Two things it
/// cannot tell: that a limit is the account's, so that no other key helps, and that a request too
/// large for one scope (a caller's fault here) might fit into another.
///
/// # Cost
///
/// Time linear in the body, of which the first 64 KiB are read, and memory for the few kilobytes
/// of its words. It never panics.
#[derive(Clone, Debug)]
#[must_use]
pub struct Errors {
    rules: Vec<Rule>,
    of_provider: Vec<Rule>,
    general: General,
    prose: Prose,
    daily: Daily,
}

/// Whether times in sentences are hints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prose {
    /// They are not: wording changes without notice.
    #[default]
    Ignored,
    /// They are where nothing else says when to come back: "Please try again in 20s".
    LastResort,
}

/// Whether the general rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum General {
    Asked,
    LeftOut,
}

/// When daily quotas return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Daily {
    Unknown,
    MidnightPacific,
}

impl Errors {
    /// The general rules, and times in sentences ignored.
    const NEW: Self = Self {
        rules: Vec::new(),
        of_provider: Vec::new(),
        general: General::Asked,
        prose: Prose::Ignored,
        daily: Daily::Unknown,
    };

    /// No rules but those that are added: what they do not know is read from the status alone.
    pub fn by_status() -> Self {
        let mut errors = Self::NEW;
        errors.general = General::LeftOut;
        errors
    }

    /// These rules of a provider, behind the user's and before the general ones.
    pub(super) fn of_provider(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.of_provider.extend(rules);
        self
    }

    /// When the provider's daily quotas return.
    pub(super) fn daily(mut self, daily: Daily) -> Self {
        self.daily = daily;
        self
    }

    /// This reading with another rule, asked after those that were added before it.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Whether times in sentences are hints. Default: [`Prose::Ignored`].
    pub fn prose(mut self, prose: Prose) -> Self {
        self.prose = prose;
        self
    }

    /// What a failed attempt turned out to be. `body` is what was read of it, perhaps nothing;
    /// `now` is the instant of receipt, read only where the server named an instant.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use http::{HeaderMap, StatusCode};
    /// use tower_relay::{outcome::{Hint, Verdict}, provider::{Errors, Prose}};
    ///
    /// let errors = Errors::default();
    /// let read = |errors: &Errors, body: &str| {
    ///     let status = StatusCode::TOO_MANY_REQUESTS;
    ///     errors.classify(status, &HeaderMap::new(), body.as_bytes(), SystemTime::UNIX_EPOCH)
    /// };
    /// let broke = read(&errors, r#"{"error":{"code":"insufficient_quota"}}"#);
    /// assert_eq!(broke.verdict(), Verdict::Exhausted);
    ///
    /// let limited = r#"{"error":{"message":"Rate limit reached. Please try again in 20s."}}"#;
    /// assert_eq!(read(&errors, limited).hint(), None);
    /// let errors = errors.prose(Prose::LastResort);
    /// let hint = Hint::After(Duration::from_secs(20));
    /// assert_eq!(read(&errors, limited).hint(), Some(hint));
    /// ```
    pub fn classify(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Outcome {
        let status = status.as_u16();
        let quotes = match status {
            400 | 404..=428 => Quotes::Masked,
            _ => Quotes::Read,
        };
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let is_page = kind.is_some_and(|kind| kind.get(..9) == Some(b"text/html"));
        let mut said = Said::read(body, is_page, quotes, now);
        for name in &ERROR_HEADERS {
            if let Some(code) = headers.get(name).and_then(|value| value.to_str().ok()) {
                said.code(code);
            }
        }
        // What a gateway wraps in an error of its own is what happened.
        let wrapped = said
            .status
            .filter(|_| matches!(status, 400 | 500 | 502 | 503));
        let status = wrapped.unwrap_or(status);
        self.judge(&said, Some(status), headers, now)
            .with_advice(advice(headers))
    }

    /// What an error turned out to be that came inside an answer which began with 200: `payload`
    /// is the JSON of the event, chunk or body that has it; `event` the name of the event, if any.
    ///
    /// It is never a success unless a rule says so; what nobody knows is a
    /// [`ServerFault`](Verdict::ServerFault). Its [`effect`](Outcome::effect) is that of the
    /// verdict alone: whether anything was generated before it is for the reader of the stream.
    pub fn classify_inside(&self, event: Option<&str>, payload: &[u8], now: SystemTime) -> Outcome {
        let mut said = Said::read(payload, false, Quotes::Masked, now);
        if let Some(event) = event {
            said.code(event);
        }
        let status = said.status;
        self.judge(&said, status, &HeaderMap::new(), now)
    }

    fn judge(
        &self,
        said: &Said,
        status: Option<u16>,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Outcome {
        let hints = Hints::new(headers, || now);
        let quoted = Hints::new(&said.headers, || now);
        let explicit = hints.explicit();
        let spent = || hints.resets().spent.or_else(|| quoted.resets().spent);
        // Asked only of those that ask: most failures name no time at all.
        let prose = || prose::wait(&said.raw, now);
        let in_body = |is_long: bool| {
            let smaller_window = is_long && said.is_retry_info;
            let retry = said.retry.filter(|_| !smaller_window);
            retry.or(said.reset).or_else(|| quoted.explicit())
        };
        let has_short_wait = || {
            let wait = explicit
                .or_else(|| in_body(false))
                .or_else(spent)
                .or_else(prose);
            wait.is_some_and(|wait| wait < SHORT_WAIT)
        };

        let of_rules = || {
            let mut rules = self.rules.iter().chain(&self.of_provider);
            rules.find_map(|rule| rule.apply(said, status))
        };
        let (known, is_long) = match (of_rules(), self.general) {
            (Some(verdict), _) => (Some(verdict), false),
            (None, General::LeftOut) => (None, false),
            (None, General::Asked) => match general::classify(said, status, has_short_wait) {
                Some(found) => (Some(found.verdict), found.is_long),
                None => (None, false),
            },
        };
        let said_when = explicit.or_else(|| in_body(is_long));
        let verdict = known.unwrap_or_else(|| match status {
            Some(403) => verdict(403, said_when.or_else(spent)),
            Some(status) => verdict(status, said_when),
            None => Verdict::ServerFault,
        });
        // Resets of quotas explain a refusal and no fault.
        let hint = said_when.or_else(|| match verdict {
            // Money does not come back with a minute's tokens.
            Verdict::Exhausted if is_long => spent(),
            Verdict::Throttled | Verdict::RampLimit | Verdict::Overloaded => {
                hints.resets().any().or_else(|| quoted.resets().any())
            }
            _ => None,
        });
        let daily = || match self.daily {
            Daily::MidnightPacific if is_long && verdict == Verdict::Exhausted => {
                midnight::until_pacific_midnight(now)
            }
            _ => None,
        };
        let last = || match self.prose {
            Prose::LastResort if !is_long || !said.is_retry_info => prose(),
            _ => None,
        };
        match hint.or_else(daily).or_else(last) {
            Some(wait) if verdict != Verdict::Success => Outcome::new(verdict).after(wait),
            _ => Outcome::new(verdict),
        }
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self::NEW
    }
}
