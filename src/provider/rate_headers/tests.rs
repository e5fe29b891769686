use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// The instant that the clock shows.
const NOW: Duration = Duration::from_secs(1_711_483_000);

fn read(profile: &RateHeaders, pairs: &[(&'static str, &str)]) -> Vec<Reading> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    let now = SystemTime::UNIX_EPOCH + NOW;
    profile.read(&headers, || now).iter().copied().collect()
}

fn minute(unit: Unit, limit: u64, remaining: u64) -> Reading {
    Reading::new(unit, MINUTE).limit(limit).remaining(remaining)
}

#[test]
fn anthropic_s_tokens_are_rounded_and_the_tightest_limit_counts_only_alone() {
    let tightest = [
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-tokens-limit", "25000"),
        ("anthropic-ratelimit-tokens-remaining", "16000"),
        ("anthropic-ratelimit-tokens-reset", "2024-03-26T20:00:00Z"),
        ("anthropic-ratelimit-unified-5h-utilization", "0.42"),
    ];
    let requests = minute(Unit::REQUESTS, 50, 49);
    let of_tokens = |unit, limit, left| minute(unit, limit, left).rounded_to(1_000);
    let anthropic = RateHeaders::anthropic();
    assert_eq!(
        read(&anthropic, &tightest),
        [requests, of_tokens(Unit::TOKENS, 25_000, 16_000)]
    );
    let all = [
        ("anthropic-ratelimit-input-tokens-limit", "20000"),
        ("anthropic-ratelimit-input-tokens-remaining", "19000"),
        ("anthropic-ratelimit-output-tokens-limit", "4000"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
    ];
    let all = [&tightest[..], &all[..]].concat();
    assert_eq!(
        read(&anthropic, &all),
        [
            requests,
            of_tokens(Unit::INPUT_TOKENS, 20_000, 19_000),
            of_tokens(Unit::OUTPUT_TOKENS, 4_000, 0),
        ]
    );
}

#[test]
fn the_same_header_is_of_a_minute_or_a_day_as_the_provider_means_it() {
    let shown = |limit, left, reset| {
        [
            ("x-ratelimit-limit-requests", limit),
            ("x-ratelimit-remaining-requests", left),
            ("x-ratelimit-reset-requests", reset),
        ]
    };
    let requests = |period, limit, left| {
        Reading::new(Unit::REQUESTS, period)
            .limit(limit)
            .remaining(left)
    };
    let openai = RateHeaders::openai();
    assert_eq!(
        read(&openai, &shown("500", "499", "120ms")),
        [requests(MINUTE, 500, 499)]
    );
    assert_eq!(
        read(&openai, &shown("10000", "9999", "8.64s")),
        [requests(DAY, 10_000, 9_999)]
    );
    // Nothing is missing: it cannot be told, and the one limit of its unit is meant.
    assert_eq!(
        read(&openai, &shown("500", "500", "0s")),
        [requests(Duration::ZERO, 500, 500)]
    );
    assert_eq!(
        read(&RateHeaders::groq(), &shown("14400", "14370", "2m59.56s")),
        [requests(DAY, 14_400, 14_370)]
    );
}

#[test]
fn azure_s_minus_one_and_zero_and_whatever_is_no_plain_number_say_nothing() {
    let tokens = |limit: &'static str, left: &'static str| {
        [
            ("x-ratelimit-limit-tokens", limit),
            ("x-ratelimit-remaining-tokens", left),
        ]
    };
    let (azure, openai) = (RateHeaders::azure_openai(), RateHeaders::openai());
    assert_eq!(
        read(&azure, &tokens("8000", "1014")),
        [minute(Unit::TOKENS, 8_000, 1_014)]
    );
    assert_eq!(read(&azure, &tokens("8000", "0")), []);
    assert_eq!(
        read(&openai, &tokens("8000", "0")),
        [minute(Unit::TOKENS, 8_000, 0)]
    );
    let many = "9".repeat(40);
    for hostile in [
        "-1",
        "NaN",
        "1e9",
        "",
        " ",
        "7.5",
        "+7",
        "0x10",
        many.as_str(),
    ] {
        for headers in [&azure, &openai] {
            let shown = [
                ("x-ratelimit-limit-tokens", "8000"),
                ("x-ratelimit-remaining-tokens", hostile),
            ];
            assert_eq!(read(headers, &shown), [], "{hostile}");
            let shown = [
                ("x-ratelimit-limit-tokens", hostile),
                ("x-ratelimit-remaining-tokens", "5"),
            ];
            assert_eq!(read(headers, &shown), [], "{hostile}");
        }
    }
    // Twice is not known; without a limit the quota's own must say.
    let twice = [tokens("8000", "5"), tokens("8000", "6")].concat();
    assert_eq!(read(&openai, &twice), []);
    assert_eq!(
        read(&openai, &tokens("8000", "5")[1..]),
        [Reading::new(Unit::TOKENS, MINUTE).remaining(5)]
    );
}

#[test]
fn mistral_s_two_spellings_are_one_limit() {
    let new = [
        ("x-ratelimit-limit-req-minute", "720"),
        ("x-ratelimit-remaining-req-minute", "717"),
        ("x-ratelimit-limit-tokens-minute", "5000000"),
        ("x-ratelimit-remaining-tokens-minute", "4999911"),
    ];
    let old = [
        ("x-ratelimitbysize-limit-minute", "500000"),
        ("x-ratelimitbysize-remaining-minute", "499900"),
        ("x-ratelimitbysize-remaining-month", "12"),
    ];
    let mistral = RateHeaders::mistral();
    let expected = [
        minute(Unit::REQUESTS, 720, 717),
        minute(Unit::TOKENS, 5_000_000, 4_999_911),
    ];
    assert_eq!(read(&mistral, &[&new[..], &old[..]].concat()), expected);
    assert_eq!(
        read(&mistral, &old),
        [minute(Unit::TOKENS, 500_000, 499_900)]
    );
}

#[test]
fn a_flood_of_items_is_read_to_a_bound() {
    let good = (r#""day";r=100"#, r#""day";q=5000;w=86400"#);
    let flood = "x,".repeat(200_000);
    for (before, heard) in [(15, 1), (16, 0), (200_000, 0)] {
        let fields = [good.0, good.1].map(|item| flood[..2 * before].to_owned() + item);
        let shown = [("ratelimit", &*fields[0]), ("ratelimit-policy", &fields[1])];
        assert_eq!(read(&RateHeaders::standard(), &shown).len(), heard);
    }
}

#[test]
fn the_standard_fields_are_read_with_the_policy_of_their_name() {
    let seconds = Duration::from_secs;
    let standard = RateHeaders::standard();
    let policy = r#""hour";q=1000;w=3600, "day";q=5000;w=86400"#;
    let shown = [
        ("ratelimit", r#""day";r=100;t=36000"#),
        ("ratelimit-policy", policy),
    ];
    let day = Reading::new(Unit::REQUESTS, DAY)
        .limit(5_000)
        .remaining(100);
    assert_eq!(read(&standard, &shown), [day.resets_in(seconds(36_000))]);
    for (field, policy) in [
        (r#""day";r=100"#, r#""hour";q=1000;w=3600"#),
        (r#""day";r=100, "day";r=7"#, policy),
        (r#""day";r=-1"#, policy),
        (r#""day";r=1"#, r#""day";q=5000;w=0"#),
        (r#""day";r=1"#, r#""day";q=5000;w=60;qu="content-bytes""#),
        ("limit=9, remaining=0, reset=30", policy),
        (r#""a;b,c";r"#, r#""a;b,c";q=1;w=1"#),
    ] {
        let shown = [("ratelimit", field), ("ratelimit-policy", policy)];
        assert_eq!(read(&standard, &shown), [], "{field}");
    }
    let shown = [
        ("ratelimit", r#""a;b,c";r=1;pk=:x:"#),
        ("ratelimit-policy", r#""a;b,c";q=2;w=3;qu="requests""#),
    ];
    let odd = Reading::new(Unit::REQUESTS, seconds(3))
        .limit(2)
        .remaining(1);
    assert_eq!(read(&standard, &shown), [odd]);
}

#[test]
fn a_window_s_reset_is_read_in_every_form() {
    let at = |form, value: &str| {
        let name = HeaderName::from_static;
        let shown = RateHeader::new(Unit::REQUESTS, name("left")).window(name("reset"), form);
        read(
            &RateHeaders::none().and(shown),
            &[("left", "3"), ("reset", value)],
        )
    };
    let expected = Reading::new(Unit::REQUESTS, MINUTE).remaining(3);
    let expected = [expected.resets_in(Duration::from_secs(20))];
    for (form, value) in [
        (ResetForm::GoDuration, "20s"),
        (ResetForm::Seconds, "20"),
        (ResetForm::Rfc3339, "2024-03-26T19:57:00Z"),
        (ResetForm::EpochSeconds, "1711483020"),
        (ResetForm::EpochMilliseconds, "1711483020000"),
    ] {
        assert_eq!(at(form, value), expected, "{form:?}");
        // Without a reset nobody knows when it is whole.
        assert_eq!(at(form, "-20"), [], "{form:?}");
    }
    assert_eq!(at(ResetForm::EpochSeconds, "5"), []);
}

proptest! {
    #[test]
    fn no_values_make_a_reader_panic_or_show_what_is_not_there(
        values in prop::collection::vec("[ -~]{0,50}|[0-9]{1,20}|\"[a-z;,]{0,5}\";[rqwt]=[0-9]{1,20}", 8)
    ) {
        let names = [
            "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
            "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
            "ratelimit", "ratelimit-policy", "anthropic-ratelimit-input-tokens-remaining",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in names.iter().zip(&values) {
            headers.append(*name, HeaderValue::from_str(value).expect("visible"));
        }
        for shown in [
            RateHeaders::openai(), RateHeaders::azure_openai(), RateHeaders::groq(),
            RateHeaders::anthropic(), RateHeaders::mistral(), RateHeaders::standard(),
        ] {
            let readings = shown.read(&headers, || SystemTime::UNIX_EPOCH + NOW);
            for reading in readings.iter() {
                let (low, high) = reading.bounds();
                prop_assert!(low <= high);
            }
        }
    }
}
