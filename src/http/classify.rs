//! What a response's head or a client's error says of an attempt.

use std::{error::Error, io, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};

use super::hint::Hints;
use crate::{
    clock,
    error::BoxError,
    outcome::{Advice, Effect, Outcome, Verdict},
    protocol,
};

/// A server's word on trying again, as several providers send it.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What an attempt turned out to be, by the head of its response alone.
///
/// | status | verdict |
/// |---|---|
/// | below 400 | success, whatever the headers say |
/// | 401 | key rejected |
/// | 402 | exhausted; throttled if it says when to come back |
/// | 403 | model denied; throttled if it says when to come back or names a spent quota |
/// | 429 | throttled |
/// | 451 | region |
/// | 498, 503, 529 | overloaded |
/// | 408, 409, 424, other 5xx | server fault, which may have acted |
/// | other 4xx | caller's fault |
///
/// A failure carries its [`retry_hint`](super::retry_hint) and, from `x-should-retry`, the
/// server's [`Advice`]. Resets of quotas explain a refusal and are read on 403, 429, 498, 503
/// and 529 only. Two statuses mean at hosts of models what they mean nowhere else: 498 a lack of
/// capacity, 424 that the model behind the endpoint failed.
///
/// This is the general rule; what only the body tells (a quota that is exhausted under 429, a
/// key refused with 400) is for a provider's own classification.
///
/// ```
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_relay::{http::classify_head, outcome::{Hint, Verdict}};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("retry-after", HeaderValue::from_static("7"));
/// let outcome = classify_head(StatusCode::TOO_MANY_REQUESTS, &headers);
/// assert_eq!(outcome.verdict(), Verdict::Throttled);
/// assert_eq!(outcome.hint(), Some(Hint::After(std::time::Duration::from_secs(7))));
/// assert!(classify_head(StatusCode::OK, &headers).is_success());
/// ```
#[inline]
pub fn classify_head(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        ..400 => Outcome::SUCCESS,
        failure => classify_failure(failure, headers),
    }
}

#[cold]
fn classify_failure(status: u16, headers: &HeaderMap) -> Outcome {
    let hints = Hints::new(headers, clock::wall);
    let said = hints.explicit();
    // Resets of quotas explain a refusal and no fault.
    let hint = match status {
        403 => said.or_else(|| hints.resets().spent),
        429 | 498 | 503 | 529 => said.or_else(|| hints.resets().any()),
        _ => said,
    };
    let outcome = Outcome::new(verdict(status, hint)).with_advice(advice(headers));
    match hint {
        Some(wait) => outcome.after(wait),
        None => outcome,
    }
}

/// What a failure's status means; `ends` where the server said when to come back.
pub(crate) const fn verdict(status: u16, ends: Option<Duration>) -> Verdict {
    use Verdict::{
        CallerFault, Exhausted, KeyRejected, ModelDenied, Overloaded, Region, ServerFault,
        Throttled,
    };

    match (status, ends) {
        (401, _) => KeyRejected,
        // A refusal that ends by itself is a limit, whatever its status calls it.
        (402 | 403, Some(_)) | (429, _) => Throttled,
        (402, None) => Exhausted,
        (403, None) => ModelDenied,
        (451, _) => Region,
        (498 | 503 | 529, _) => Overloaded,
        (408 | 409 | 424 | 500.., _) => ServerFault,
        _ => CallerFault,
    }
}

/// The server's word on trying again.
pub(crate) fn advice(headers: &HeaderMap) -> Advice {
    match headers.get(X_SHOULD_RETRY).map(|value| value.as_bytes()) {
        Some(b"true") => Advice::Retry,
        Some(b"false") => Advice::Stop,
        _ => Advice::Unsaid,
    }
}

/// What an attempt turned out to be, by the error that came instead of a response.
///
/// A [`Rejected`](crate::error::Rejected) of this crate anywhere in the chain of sources is a
/// local refusal, and with the feature `reqwest` a request that its client could not build is
/// the caller's fault. Any other error is a server fault: one that certainly had no effect if the
/// chain shows that no connection came about (an [`io::Error`] such as "connection refused", or
/// with the features `hyper-util` and `reqwest` their clients' connect errors, DNS and TLS
/// included), otherwise one that may have acted.
///
/// ```
/// use std::io;
/// use tower_relay::{error::BoxError, http::classify_error, outcome::{Effect, Verdict}};
///
/// let refused: BoxError = io::Error::from(io::ErrorKind::ConnectionRefused).into();
/// let outcome = classify_error(&refused);
/// assert_eq!(outcome.verdict(), Verdict::ServerFault);
/// assert_eq!(outcome.effect(), Effect::None);
/// ```
pub fn classify_error(error: &BoxError) -> Outcome {
    let outcome = protocol::classify(Err(error));
    #[cfg(feature = "reqwest")]
    if outcome.verdict() == Verdict::ServerFault && never_built(&**error) {
        return Outcome::new(Verdict::CallerFault);
    }
    if outcome.verdict() == Verdict::ServerFault && never_connected(&**error) {
        return outcome.with_effect(Effect::None);
    }
    outcome
}

/// Whether `error`, or what caused it, says that the server was not reached.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        #[cfg(feature = "hyper-util")]
        {
            let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
            if client.is_some_and(|client| client.is_connect()) {
                return true;
            }
        }
        #[cfg(feature = "reqwest")]
        {
            let client = error.downcast_ref::<reqwest::Error>();
            if client.is_some_and(reqwest::Error::is_connect) {
                return true;
            }
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| is_unreachable(io.kind())) {
            return true;
        }
        // An `io::Error` names as its source that of the error in it, not that error.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// Whether `error`, or what caused it, says that there was no request to send.
#[cfg(feature = "reqwest")]
fn never_built(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let client = error.downcast_ref::<reqwest::Error>();
        if client.is_some_and(reqwest::Error::is_builder) {
            return true;
        }
        next = error.source();
    }
    false
}

const fn is_unreachable(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };

    matches!(
        kind,
        ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::{
        error::Rejected,
        outcome::Hint,
        policy::{CostTooLarge, Unit},
    };

    fn head(status: u16, lines: &[(&'static str, &'static str)]) -> Outcome {
        let headers = lines.iter().map(|(name, value)| {
            let value = value.parse().expect("a test's value is valid");
            (HeaderName::from_static(name), value)
        });
        let status = StatusCode::from_u16(status).expect("it is a status");
        classify_head(status, &headers.collect())
    }

    fn after(secs: u64) -> Option<Hint> {
        Some(Hint::After(Duration::from_secs(secs)))
    }

    #[test]
    fn every_status_has_its_verdict() {
        use Verdict::*;

        for (status, verdict) in [
            (101, Success),
            (200, Success),
            (204, Success),
            (304, Success),
            (399, Success),
            (400, CallerFault),
            (401, KeyRejected),
            (402, Exhausted),
            (403, ModelDenied),
            (404, CallerFault),
            (408, ServerFault),
            (409, ServerFault),
            (413, CallerFault),
            (422, CallerFault),
            (424, ServerFault),
            (429, Throttled),
            (451, Region),
            (498, Overloaded),
            (499, CallerFault),
            (500, ServerFault),
            (502, ServerFault),
            (503, Overloaded),
            (504, ServerFault),
            (522, ServerFault),
            (529, Overloaded),
            (999, ServerFault),
        ] {
            assert_eq!(head(status, &[]).verdict(), verdict, "{status}");
        }
    }

    #[test]
    fn only_a_server_fault_may_have_had_an_effect() {
        for status in [408, 409, 424, 500, 502, 504, 522] {
            assert_eq!(head(status, &[]).effect(), Effect::Possible, "{status}");
        }
        for status in [400, 401, 402, 403, 404, 429, 451, 498, 503, 529] {
            assert_eq!(head(status, &[]).effect(), Effect::None, "{status}");
        }
    }

    #[test]
    fn on_a_success_no_header_is_a_hint() {
        let spent = [
            ("retry-after", "7"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-should-retry", "true"),
        ];
        assert_eq!(head(200, &spent), Outcome::SUCCESS);
        assert_eq!(head(302, &spent), Outcome::SUCCESS);
    }

    #[test]
    fn a_429_whose_body_is_a_proxys_html_page_is_still_a_429() {
        let page = [("content-type", "text/html"), ("retry-after", "30")];
        assert_eq!(head(429, &page).verdict(), Verdict::Throttled);
        assert_eq!(head(429, &page).hint(), after(30));
    }

    #[test]
    fn a_refusal_that_ends_by_itself_is_a_limit() {
        let said = [("retry-after", "9")];
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9")];
        for (status, lines) in [(402, &said[..]), (403, &said), (403, &spent)] {
            let outcome = head(status, lines);
            assert_eq!(outcome.verdict(), Verdict::Throttled, "{status}");
            assert_eq!(outcome.hint(), after(9), "{status}");
        }
        assert_eq!(head(403, &spent[1..]).verdict(), Verdict::ModelDenied);
    }

    #[test]
    fn a_reset_explains_a_refusal_but_no_fault() {
        let spent = [("ratelimit-remaining", "0"), ("ratelimit-reset", "9")];
        for status in [429, 498, 503, 529] {
            assert_eq!(head(status, &spent).hint(), after(9), "{status}");
        }
        for status in [400, 401, 500, 502] {
            assert_eq!(head(status, &spent).hint(), None, "{status}");
            assert_eq!(head(status, &[("retry-after", "9")]).hint(), after(9));
        }
    }

    #[test]
    fn the_servers_advice_travels_with_the_outcome() {
        for (value, advice) in [
            ("true", Advice::Retry),
            ("false", Advice::Stop),
            ("maybe", Advice::Unsaid),
        ] {
            assert_eq!(head(500, &[("x-should-retry", value)]).advice(), advice);
        }
    }

    #[derive(Debug)]
    struct Wrapped(BoxError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    fn wrapped(error: impl Into<BoxError>) -> BoxError {
        Box::new(Wrapped(Box::new(Wrapped(error.into()))))
    }

    #[test]
    fn a_connection_that_never_came_about_had_no_effect() {
        use io::ErrorKind;

        for kind in [
            ErrorKind::ConnectionRefused,
            ErrorKind::HostUnreachable,
            ErrorKind::NetworkUnreachable,
            ErrorKind::AddrNotAvailable,
        ] {
            let outcome = classify_error(&wrapped(io::Error::from(kind)));
            assert_eq!(outcome.verdict(), Verdict::ServerFault);
            assert_eq!(outcome.effect(), Effect::None, "{kind:?}");
            let nested = io::Error::other(Wrapped(io::Error::new(kind, "in it").into()));
            assert_eq!(classify_error(&wrapped(nested)).effect(), Effect::None);
            let direct = io::Error::other(io::Error::from(kind));
            assert_eq!(classify_error(&wrapped(direct)).effect(), Effect::None);
        }
        for kind in [
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::TimedOut,
        ] {
            let outcome = classify_error(&wrapped(io::Error::from(kind)));
            assert_eq!(outcome.verdict(), Verdict::ServerFault);
            assert_eq!(outcome.effect(), Effect::Possible, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_of_our_own_is_not_the_servers() {
        let rejected = Rejected::CostTooLarge(CostTooLarge::new(Unit::REQUESTS, 5, 2));
        let outcome = classify_error(&wrapped(rejected));
        assert_eq!(outcome.verdict(), Verdict::RefusedLocally);
    }
}
