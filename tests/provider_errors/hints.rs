//! When to come back, wherever it stands.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};
use tower_relay::{
    outcome::{Advice, Effect, Hint, Outcome, Verdict},
    provider::{Errors, Profile, Prose},
};

use crate::now;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        let value = value.parse().expect("a test's header is valid");
        (HeaderName::from_static(name), value)
    });
    lines.collect()
}

fn at(errors: &Errors, status: u16, lines: &[(&'static str, &'static str)], body: &str) -> Outcome {
    let status = StatusCode::from_u16(status).expect("it is a status");
    errors.classify(status, &headers(lines), body.as_bytes(), now())
}

fn millis(outcome: Outcome) -> Option<u128> {
    match outcome.hint()? {
        Hint::After(wait) => Some(wait.as_millis()),
        _ => None,
    }
}

const SPENT: [(&str, &str); 2] = [
    ("x-ratelimit-remaining-tokens", "0"),
    ("x-ratelimit-reset-tokens", "50s"),
];
const IN_BODY: &str = r#"{"error":{"message":"Try again in 30s","retry_after":40}}"#;
const IN_PROSE: &str = r#"{"error":{"message":"Rate limit. Try again in 30s"}}"#;

#[test]
fn a_hint_is_taken_from_the_most_explicit_place() {
    let errors = Errors::default().prose(Prose::LastResort);
    let [remaining, reset] = SPENT;
    let said = ("retry-after", "60");
    assert_eq!(
        millis(at(&errors, 429, &[said, remaining, reset], IN_BODY)),
        Some(60_000)
    );
    assert_eq!(millis(at(&errors, 429, &SPENT, IN_BODY)), Some(40_000));
    assert_eq!(millis(at(&errors, 429, &SPENT, IN_PROSE)), Some(50_000));
    assert_eq!(millis(at(&errors, 429, &[], IN_PROSE)), Some(30_000));
}

#[test]
fn a_sentence_is_no_hint_unless_it_is_asked_for() {
    assert_eq!(millis(at(&Errors::default(), 429, &[], IN_PROSE)), None);
}

#[test]
fn fields_of_a_body_are_read_in_all_their_units() {
    let errors = Errors::default();
    for (body, expected) in [
        (r#"{"retry_after":2.5}"#, Some(2_500)),
        (r#"{"error":{"retryAfterSeconds":"3"}}"#, Some(3_000)),
        (r#"{"error":{"retry_after_ms":250}}"#, Some(250)),
        (
            r#"{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}"#,
            Some(1_500),
        ),
        (
            r#"{"error":{"details":[{"retryDelay":{"seconds":"7","nanos":0}}]}}"#,
            Some(7_000),
        ),
        (
            r#"{"error":{"resets_at":"2026-11-20T12:01:00Z"}}"#,
            Some(60_000),
        ),
        (r#"{"error":{"resets_at":1795176060}}"#, Some(60_000)),
        (r#"{"error":{"resets_in_seconds":90}}"#, Some(90_000)),
        (
            r#"{"error":{"metadata":{"headers":{"Retry-After":"9"}}}}"#,
            Some(9_000),
        ),
        (
            r#"{"error":{"metadata":{"headers":{"X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1795176060000"}}}}"#,
            Some(60_000),
        ),
        (
            r#"{"error":{"message":"{\"retry_after\":4}"}}"#,
            Some(4_000),
        ),
        (r#"{"retry_after":0}"#, None),
        (r#"{"retry_after":-3}"#, None),
        (r#"{"retry_after":1e308}"#, None),
        (r#"{"retry_after":"soon"}"#, None),
        (r#"{"resets_at":"2020-01-01T00:00:00Z"}"#, None),
        (r#"{"request":{"retry_after":5}}"#, None),
    ] {
        assert_eq!(millis(at(&errors, 429, &[], body)), expected, "{body}");
    }
}

#[test]
fn the_reset_of_a_quota_is_no_hint_for_a_fault_or_a_refused_key() {
    let errors = Errors::default();
    for status in [400, 401, 500, 502] {
        assert_eq!(millis(at(&errors, status, &SPENT, "")), None, "{status}");
    }
    for status in [429, 503, 529] {
        assert_eq!(
            millis(at(&errors, status, &SPENT, "")),
            Some(50_000),
            "{status}"
        );
    }
}

#[test]
fn money_does_not_come_back_with_the_tokens_of_a_minute() {
    let errors = Errors::default();
    let body = r#"{"error":{"code":"insufficient_quota"}}"#;
    let outcome = at(&errors, 429, &SPENT, body);
    assert_eq!(
        (outcome.verdict(), millis(outcome)),
        (Verdict::Exhausted, None)
    );
    let said = at(&errors, 429, &[("retry-after", "60")], body);
    assert_eq!(
        millis(said),
        Some(60_000),
        "what is said in so many words stands"
    );
    let body = r#"{"error":{"code":"daily_limit"}}"#;
    let spent = [("ratelimit-remaining", "0"), ("ratelimit-reset", "9000")];
    assert_eq!(millis(at(&errors, 429, &spent, body)), Some(9_000_000));
}

#[test]
fn a_body_is_read_by_what_it_is_and_not_by_its_type() {
    let errors = Errors::default();
    let body = r#" {"error":{"code":"insufficient_quota"}}"#;
    for kind in [
        "text/html; charset=utf-8",
        "application/octet-stream",
        "text/plain",
    ] {
        let outcome = at(&errors, 429, &[("content-type", kind)], body);
        assert_eq!(outcome.verdict(), Verdict::Exhausted, "{kind}");
    }
    let page = "Insufficient credit";
    assert_eq!(
        at(&errors, 403, &[("content-type", "text/html")], page).verdict(),
        Verdict::Region
    );
}

#[test]
fn a_daily_quota_waits_for_its_day_and_not_for_the_minute_in_retry_info() {
    let body = r#"{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"36s"},{"violations":[{"quotaId":"RequestsPerDayPerProject"}]}]}}"#;
    let profile = Profile::gemini();
    let daily = at(profile.error_rules(), 429, &[], body);
    assert_eq!(daily.verdict(), Verdict::Exhausted);
    // From noon UTC to midnight Pacific.
    assert_eq!(millis(daily), Some(20 * 3_600_000));
    let minute = body.replace("PerDay", "PerMinute");
    let minute = at(profile.error_rules(), 429, &[], &minute);
    assert_eq!(
        (minute.verdict(), millis(minute)),
        (Verdict::Throttled, Some(36_000))
    );
    let elsewhere = at(&Errors::default(), 429, &[], body);
    assert_eq!(
        (elsewhere.verdict(), millis(elsewhere)),
        (Verdict::Exhausted, None)
    );
}

#[test]
fn a_period_of_a_day_with_a_short_wait_is_a_window_that_rolls() {
    let errors = Errors::default();
    let body = r#"{"error":{"message":"Too many requests per day. Try again in 6s"}}"#;
    assert_eq!(at(&errors, 429, &[], body).verdict(), Verdict::Throttled);
    let body = r#"{"error":{"message":"Too many requests per day."}}"#;
    assert_eq!(at(&errors, 429, &[], body).verdict(), Verdict::Exhausted);
    assert_eq!(
        at(&errors, 429, &[("retry-after", "6")], body).verdict(),
        Verdict::Throttled
    );
    assert_eq!(
        at(&errors, 429, &[("retry-after", "7200")], body).verdict(),
        Verdict::Exhausted
    );
}

#[test]
fn a_refusal_that_ends_by_itself_is_a_limit_wherever_it_says_so() {
    let errors = Errors::default();
    for status in [402, 403] {
        let outcome = at(&errors, status, &[], r#"{"retry_after":5}"#);
        assert_eq!(
            (outcome.verdict(), millis(outcome)),
            (Verdict::Throttled, Some(5_000))
        );
    }
}

#[test]
fn advice_and_effect_travel_with_the_outcome() {
    let errors = Errors::default();
    let outcome = at(&errors, 429, &[("x-should-retry", "false")], "");
    assert_eq!(outcome.advice(), Advice::Stop);
    assert_eq!(outcome.effect(), Effect::None);
    assert_eq!(at(&errors, 500, &[], "").effect(), Effect::Possible);
}

#[test]
fn the_clock_is_needed_only_for_instants() {
    let errors = Errors::default();
    let long_ago = errors.classify(
        StatusCode::TOO_MANY_REQUESTS,
        &HeaderMap::new(),
        br#"{"retry_after":5}"#,
        SystemTime::UNIX_EPOCH,
    );
    assert_eq!(long_ago.hint(), Some(Hint::After(Duration::from_secs(5))));
}
