use proptest::prelude::*;

use super::*;

const DATE_1: &str = "Tue, 26 Mar 2024 19:59:59 GMT";
const DATE_21: &str = "Tue, 26 Mar 2024 20:00:20 GMT";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_str(value).expect("a test's value is valid");
        (HeaderName::from_static(name), value)
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}

/// The hint by a wall clock that agrees with `DATE_1`.
fn hint(lines: &[(&'static str, &str)]) -> Option<Duration> {
    retry_hint(&headers(lines), http_date(DATE_1).expect("it is a date"))
}

fn secs(secs: u64) -> Option<Duration> {
    Some(Duration::from_secs(secs))
}

fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

#[test]
fn milliseconds_outrank_seconds_and_both_outrank_resets() {
    let all = [
        ("ratelimit", "\"a\";r=0;t=40"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1m0.052s"),
        ("retry-after", "2"),
        ("x-ms-retry-after-ms", "1500"),
        ("retry-after-ms", "494"),
    ];
    assert_eq!(hint(&all), millis(494));
    assert_eq!(hint(&all[..5]), millis(1_500));
    assert_eq!(hint(&all[..4]), secs(2));
    assert_eq!(hint(&all[..3]), millis(60_052));
    assert_eq!(hint(&all[..1]), secs(40));
}

#[test]
fn retry_after_is_an_integer_a_decimal_or_a_date() {
    assert_eq!(hint(&[("retry-after", "20")]), secs(20));
    assert_eq!(hint(&[("retry-after", " 1.5 ")]), millis(1_500));
    assert_eq!(hint(&[("retry-after", "1m30s")]), secs(90));
    assert_eq!(hint(&[("retry-after", DATE_21)]), secs(21));
}

#[test]
fn a_date_is_relative_to_the_servers_own_clock() {
    let later = "Tue, 26 Mar 2024 20:00:15 GMT";
    assert_eq!(hint(&[("retry-after", DATE_21), ("date", later)]), secs(5));
    assert_eq!(
        hint(&[("retry-after", DATE_21), ("date", "soon")]),
        secs(21)
    );
}

#[test]
fn zero_negative_past_and_malformed_values_are_no_hint() {
    let forty = "9".repeat(40);
    let past = "Tue, 26 Mar 2024 19:59:58 GMT";
    for value in [
        "0",
        "0.0",
        "-1",
        "-0.5",
        "+3",
        "NaN",
        "inf",
        "1e308",
        &forty,
        "",
        " ",
        ",",
        "soon",
        "5,",
        "0x10",
        "1 2",
        past,
        DATE_1,
        "Fri, 99 Sep 2024 99:99:99 GMT",
        "∞",
        "1.2.3",
    ] {
        let bytes = HeaderValue::from_bytes(value.as_bytes()).expect("no control characters");
        let headers = HeaderMap::from_iter([(RETRY_AFTER, bytes)]);
        let now = http_date(DATE_1).expect("it is a date");
        assert_eq!(retry_hint(&headers, now), None, "{value}");
    }
}

#[test]
fn a_hint_stands_however_long() {
    assert_eq!(hint(&[("retry-after", "1209600")]), secs(1_209_600));
    let most = u64::MAX.to_string();
    assert_eq!(hint(&[("retry-after", &most)]), secs(u64::MAX));
}

#[test]
fn of_two_values_the_longer_valid_one_counts() {
    let two = [("retry-after", "5"), ("retry-after", "30")];
    assert_eq!(hint(&two), secs(30));
    assert_eq!(hint(&[("retry-after", "5, 30")]), secs(30));
    assert_eq!(hint(&[("retry-after", "7"), ("retry-after", "x")]), secs(7));
    assert_eq!(hint(&[("retry-after", "0"), ("retry-after", "7")]), secs(7));
    assert_eq!(
        hint(&[("retry-after", "5"), ("retry-after", DATE_21)]),
        secs(21)
    );
}

#[test]
fn an_invalid_hint_lets_the_next_source_speak() {
    let said = [("retry-after-ms", "0"), ("retry-after", "3")];
    assert_eq!(hint(&said), secs(3));
    let said = [
        ("retry-after", "0"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "9"),
    ];
    assert_eq!(hint(&said), secs(9));
}

#[test]
fn only_spent_dimensions_count_and_the_last_of_them_decides() {
    let said = [
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "10m"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "12ms"),
    ];
    assert_eq!(hint(&said), millis(12));
    let both = [
        said[1],
        said[2],
        said[3],
        ("x-ratelimit-remaining-requests", "0"),
    ];
    assert_eq!(hint(&both), secs(600));
    assert_eq!(hint(&said[..2]), None);
}

#[test]
fn the_last_reset_decides_in_whatever_order_they_come() {
    let [a, b] = [
        ("ratelimit", "\"a\";r=0;t=20"),
        ("ratelimit", "\"b\";r=0;t=30"),
    ];
    assert_eq!(hint(&[a, b]), secs(30));
    assert_eq!(hint(&[b, a]), secs(30));
    let [spent, early, late] = [
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "20"),
        ("ratelimit-reset", "30"),
    ];
    assert_eq!(hint(&[spent, early, late]), secs(30));
    assert_eq!(hint(&[late, early, spent]), secs(30));
}

#[test]
fn a_remaining_of_minus_one_says_nothing() {
    let said = [
        ("x-ratelimit-remaining-tokens", "-1"),
        ("x-ratelimit-reset-tokens", "0"),
    ];
    assert_eq!(hint(&said), None);
}

#[test]
fn a_reset_is_read_in_every_form_that_providers_use() {
    for (reset, wait) in [
        ("2024-03-26T20:00:00Z", secs(1)),
        ("2024-03-26T20:00:00.500Z", millis(1_500)),
        ("2024-03-26T20:00:00+00:00", secs(1)),
        (DATE_21, secs(21)),
        ("6m0s", secs(360)),
        ("1.5", millis(1_500)),
        ("1711483220", secs(21)),
        ("1711483220500", millis(21_500)),
        ("1711483199", None),
        ("9999999999", None),
        ("99999999999999", None),
        ("18446744073709551615", None),
        ("0", None),
        ("0s", None),
        ("2024-03-26T19:00:00Z", None),
        ("later", None),
    ] {
        for (remaining, name) in [
            (
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ),
            (
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ),
            ("x-ratelimit-remaining", "x-ratelimit-reset"),
            ("x-rate-limit-remaining", "x-rate-limit-reset"),
            ("ratelimit-remaining", "ratelimit-reset"),
        ] {
            assert_eq!(
                hint(&[(remaining, "0"), (name, reset)]),
                wait,
                "{name}: {reset}"
            );
            assert_eq!(
                hint(&[(remaining, "7"), (name, reset)]),
                None,
                "{name}: {reset}"
            );
        }
    }
}

#[test]
fn a_rejected_window_is_a_spent_dimension() {
    let said = [
        ("anthropic-ratelimit-unified-5h-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-reset", "1711483220"),
        ("anthropic-ratelimit-unified-7d-status", "allowed"),
        ("anthropic-ratelimit-unified-7d-reset", "1711999999"),
    ];
    assert_eq!(hint(&said), secs(21));
}

#[test]
fn where_nothing_tells_what_remains_the_first_reset_counts() {
    assert_eq!(hint(&[("x-rate-limit-reset-tokens", "55")]), secs(55));
    let two = [
        ("x-rate-limit-reset-tokens", "55"),
        ("x-rate-limit-reset-requests", "5"),
    ];
    assert_eq!(hint(&two), secs(5));
    let told = [two[0], ("x-rate-limit-remaining-requests", "5")];
    assert_eq!(hint(&told), None);
}

#[test]
fn the_ietf_field_is_read_in_both_its_forms() {
    for (field, wait) in [
        ("\"a\";r=0;t=20", secs(20)),
        ("\"a\";r=15;t=40", None),
        ("\"a\";r=0;t=20, \"b\";r=0;t=50,\"c\";r=1;t=90", secs(50)),
        ("\"a,b;r=1;t=70\"; r=0; t=20", secs(20)),
        ("\"a\\\",\";r=0;t=20", secs(20)),
        ("default;r=0;t=20;pk=:AbC=:", secs(20)),
        ("limit=100, remaining=0, reset=30", secs(30)),
        ("limit=100, remaining=50, reset=30", None),
        ("limit=100;w=60, remaining=0, reset=30", secs(30)),
        ("remaining=0", None),
        ("\"a\";r=0", None),
        ("\"", None),
        (";=,;=", None),
    ] {
        assert_eq!(hint(&[("ratelimit", field)]), wait, "{field}");
    }
}

#[test]
fn a_name_beyond_all_reason_is_passed_over() {
    let name = format!("x-ratelimit-remaining-{}", "y".repeat(500));
    let name = HeaderName::try_from(name).expect("it is a valid name");
    let mut headers = headers(&[("retry-after", "x")]);
    headers.insert(name, HeaderValue::from_static("0"));
    assert_eq!(retry_hint(&headers, SystemTime::UNIX_EPOCH), None);
}

const NAMES: [&str; 14] = [
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "date",
    "ratelimit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-rate-limit-reset",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-unified-status",
    "anthropic-ratelimit-unified-reset",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "[0-9eE.+:TZGMs, -]{0,45}".prop_map(String::into_bytes),
        "(\"[a-z]*\"(;[rt]=[0-9]{0,22}){0,3},? ?){0,3}".prop_map(String::into_bytes),
        Just(b"0".to_vec()),
        Just(b"rejected".to_vec()),
        any::<u64>().prop_map(|n| n.to_string().into_bytes()),
        any::<f64>().prop_map(|n| n.to_string().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_hint_is_zero(
        lines in proptest::collection::vec((0..NAMES.len(), value()), 0..12),
        now in any::<u32>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(NAMES[name]), value);
            }
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.into());
        let wait = retry_hint(&headers, now);
        prop_assert_ne!(wait, Some(Duration::ZERO));
        let outcome = crate::http::classify_head(http::StatusCode::TOO_MANY_REQUESTS, &headers);
        prop_assert_eq!(outcome.verdict(), crate::outcome::Verdict::Throttled);
    }
}
