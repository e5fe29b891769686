//! A refusal of this crate as a response, for those who stand in front of callers of their own.

use std::{num::NonZeroU64, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::{
    error::Rejected,
    outcome::{Outcome, Verdict},
};

/// 429 with a `retry-after`, 413 for what is too large ever to be admitted, or 503 where every key
/// of a pool is out; the text says which limit.
///
/// The response carries the refusal's [`Outcome`] as an extension, so
/// that a layer outside knows that the server was not asked.
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_relay::error::Rejected;
///
/// fn to_response(refusal: &Rejected) -> Response<String> {
///     let response = Response::from(refusal);
///     assert!(!response.status().is_success());
///     response
/// }
/// ```
impl<B: From<String>> From<&Rejected> for Response<B> {
    fn from(rejected: &Rejected) -> Self {
        let mut response = Self::new(rejected.to_string().into());
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        let outcome = Outcome::new(Verdict::RefusedLocally);
        let (status, outcome) = match rejected.retry_after() {
            Some(wait) => {
                headers.insert(RETRY_AFTER, whole_seconds(wait).get().into());
                (StatusCode::TOO_MANY_REQUESTS, outcome.after(wait))
            }
            None => {
                let status = match rejected {
                    Rejected::NobodyCanServe(_) => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::PAYLOAD_TOO_LARGE,
                };
                (status, outcome)
            }
        };
        *response.status_mut() = status;
        response.extensions_mut().insert(outcome);
        response
    }
}

/// As the conversion from a reference.
impl<B: From<String>> From<Rejected> for Response<B> {
    fn from(rejected: Rejected) -> Self {
        Self::from(&rejected)
    }
}

/// `wait` in whole seconds, rounded up so that nobody comes too early.
fn whole_seconds(wait: Duration) -> NonZeroU64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    NonZeroU64::new(wait.as_secs().saturating_add(more)).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::QueueFull,
        outcome::Hint,
        policy::{CostTooLarge, Unit},
    };

    fn full(retry_after: Duration) -> Rejected {
        Rejected::QueueFull(QueueFull {
            layer: "rate limit",
            waiting: 7,
            retry_after,
        })
    }

    #[test]
    fn a_refusal_for_now_is_a_429_that_rounds_up() {
        for (wait, header) in [
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::from_millis(1_001), "2"),
            (Duration::ZERO, "1"),
            (Duration::MAX, "18446744073709551615"),
        ] {
            let response = Response::<String>::from(full(wait));
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[RETRY_AFTER], header, "{wait:?}");
        }
    }

    #[test]
    fn a_refusal_for_ever_is_a_413_without_a_time() {
        let rejected = Rejected::CostTooLarge(CostTooLarge::new(Unit::TOKENS, 5, 2));
        let response = Response::<String>::from(&rejected);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        assert_eq!(*response.body(), rejected.to_string());
    }

    #[test]
    fn the_response_says_that_the_server_was_not_asked() {
        let wait = Duration::from_millis(40);
        let response = Response::<String>::from(full(wait));
        let outcome = response.extensions().get::<Outcome>().expect("it is there");
        assert_eq!(outcome.verdict(), Verdict::RefusedLocally);
        assert_eq!(outcome.hint(), Some(Hint::After(wait)));
    }
}
