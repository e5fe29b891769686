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

/// 429 with a `retry-after`, 413 for what is too large ever to be admitted, 503 where every key of a
/// pool is out, or 503 with a `retry-after` where a circuit breaker is open; the text says which
/// limit.
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
        let wait = rejected.retry_after();
        let outcome = match wait {
            Some(wait) => {
                headers.insert(RETRY_AFTER, whole_seconds(wait).get().into());
                outcome.after(wait)
            }
            None => outcome,
        };
        *response.status_mut() = match (rejected, wait) {
            (Rejected::BreakerOpen(_) | Rejected::NobodyCanServe(_), _) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            (_, Some(_)) => StatusCode::TOO_MANY_REQUESTS,
            (_, None) => StatusCode::PAYLOAD_TOO_LARGE,
        };
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
        error::{BreakerOpen, QueueFull},
        outcome::Hint,
        policy::{
            CostTooLarge, Rng, Timestamp, Unit,
            breaker::{Admission, Breaker, BreakerConfig, Mode, Signal},
        },
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
    fn an_open_breaker_is_a_503_and_says_when_unless_it_was_forced_open() {
        struct Never;
        impl Rng for Never {
            fn next_u64(&mut self) -> u64 {
                0
            }
        }
        let five = Duration::from_secs(5);
        let config = BreakerConfig::builder().open(five, five).build();
        let (config, now) = (config.expect("it is valid"), Timestamp::ZERO);
        let refusal = |breaker: &mut Breaker| {
            let refusal = breaker.peek(&config, now, &mut Never);
            let refusal = refusal.expect("it is open");
            Response::<String>::from(Rejected::BreakerOpen(BreakerOpen { refusal }))
        };
        let mut breaker = Breaker::new(&config, now);
        for _ in 0..BreakerConfig::DEFAULT_CONSECUTIVE_FAILURES {
            let Admission::Pass(ticket) = breaker.ask(&config, now, &mut Never) else {
                panic!("it is closed");
            };
            breaker.report(&config, ticket, Signal::FAILURE, now, &mut Never);
        }
        let open = refusal(&mut breaker);
        assert_eq!(open.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(open.headers()[RETRY_AFTER], "5");
        breaker.set_mode(&config, Mode::ForcedOpen, now);
        let forced = refusal(&mut breaker);
        assert_eq!(forced.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!forced.headers().contains_key(RETRY_AFTER));
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
