use super::*;

fn error(builder: QuotaBuilder) -> String {
    let error = builder.build().expect_err("it is invalid");
    let text = error.to_string();
    assert_eq!(text, format!("{}: {}", error.field(), error.problem()));
    assert!(!error.field().is_empty());
    text
}

#[test]
fn an_impossible_quota_names_the_field_and_the_fix() {
    let day = Duration::from_secs(86_400);
    let zero = "admits nothing; use at least 1, or leave it out for no limit";
    for (builder, expected) in [
        (
            Quota::builder().requests_per_minute(0),
            format!("requests_per_minute: a limit of 0 requests {zero}"),
        ),
        (
            Quota::builder().output_tokens_per_minute(0),
            format!("output_tokens_per_minute: a limit of 0 output tokens {zero}"),
        ),
        (
            Quota::builder().max_in_flight(0),
            format!("max_in_flight: 0 {zero}"),
        ),
        (
            Quota::builder()
                .requests_per_hour(1)
                .burst(Unit::REQUESTS, 0),
            "burst: 0 admits nothing; use at least 1, or leave it out for pacing".into(),
        ),
        (
            Quota::builder().requests_per_hour(1).burst(Unit::TOKENS, 5),
            "burst: no continuous limit meters tokens; add one".into(),
        ),
        (
            Quota::builder()
                .window(Unit::REQUESTS, 5, day, day)
                .burst(Unit::REQUESTS, 5),
            "burst: no continuous limit meters requests; add one".into(),
        ),
        (
            Quota::builder().rate(Unit::TOKENS, 1, Duration::ZERO),
            "rate: the period must be above zero and at most 400 days".into(),
        ),
        (
            Quota::builder().rate(Unit::TOKENS, 1, day * 401),
            "rate: the period must be above zero and at most 400 days".into(),
        ),
        (
            Quota::builder().window(Unit::TOKENS, 1, day, Duration::ZERO),
            "window: resets_in must be above zero and at most the period".into(),
        ),
        (
            Quota::builder().window(Unit::TOKENS, 1, day, day * 2),
            "window: resets_in must be above zero and at most the period".into(),
        ),
        (
            Quota::builder().tokens_per_minute(5).tokens_per_minute(6),
            "tokens_per_minute: tokens are limited twice over the same period; \
             keep one of the two"
                .into(),
        ),
        (
            Quota::builder()
                .rate(Unit::custom(1, "images"), 5, SECOND)
                .rate(Unit::custom(1, "pages"), 5, MINUTE),
            "rate: images and pages are custom units of the same slot; give each its own".into(),
        ),
        (
            Quota::builder(),
            "quota: nothing is limited; add at least one limit, such as requests_per_minute".into(),
        ),
        (
            Quota::builder().requests_per_second(1).slack(SECOND * 2),
            "slack: 2s is above the most allowed, 1 s".into(),
        ),
    ] {
        assert_eq!(error(builder), expected);
    }
}

#[test]
fn bounds_themselves_are_allowed() {
    let quota = Quota::builder()
        .rate(Unit::TOKENS, 1, LONGEST_PERIOD)
        .window(Unit::TOKENS, 1, HOUR, HOUR)
        .slack(LONGEST_SLACK)
        .max_in_flight(1)
        .build()
        .expect("every value is at its bound");
    assert_eq!(quota.slack(), LONGEST_SLACK);
    assert_eq!(quota.limits().len(), 2);
    assert_eq!(quota.max_in_flight(), NonZeroUsize::new(1));
    let unlimited = Quota::builder().requests_per_hour(1).build();
    assert_eq!(unlimited.expect("valid").max_in_flight(), None);
}

#[test]
fn a_later_burst_replaces_an_earlier_one_in_every_limit_of_the_unit() {
    let quota = Quota::builder()
        .requests_per_second(5)
        .requests_per_minute(100)
        .tokens_per_minute(9)
        .input_tokens_per_minute(9)
        .burst(Unit::TOKENS, 7)
        .burst(Unit::REQUESTS, 3)
        .burst(Unit::REQUESTS, 4)
        .build()
        .expect("it is valid");
    let bursts: Vec<_> = quota.limits().iter().map(|limit| limit.shape).collect();
    let burst = |burst| Shape::Continuous { burst };
    let expected = [Some(4), Some(4), Some(7), None].map(burst);
    assert_eq!(bursts, expected);
}

#[test]
fn a_quota_is_uniform_when_all_its_dimensions_drain_alike() {
    let minute = || {
        Quota::builder()
            .requests_per_minute(60)
            .tokens_per_minute(600)
    };
    for (builder, is_uniform) in [
        (minute(), true),
        (minute().burst(Unit::TOKENS, 600), true),
        (minute().burst(Unit::TOKENS, 599), false),
        (minute().requests_per_second(2), false),
        (minute().window(Unit::TOKENS, 9, MINUTE * 2, MINUTE), false),
        (minute().max_in_flight(9), false),
    ] {
        let quota = builder.build().expect("it is valid");
        assert_eq!(quota.is_uniform(), is_uniform, "{quota:?}");
    }
}

#[test]
fn a_margin_is_kept_back_from_every_limit_and_is_at_most_half() {
    let day = Duration::from_secs(86_400);
    let quota = || {
        Quota::builder()
            .requests_per_minute(60)
            .window(Unit::TOKENS, 1_000, day, day)
    };
    let with = |margin| quota().margin_per_mille(margin).build();
    let limits = |margin| with(margin).expect("it is valid").limits().to_vec();
    assert_eq!(limits(0), quota().build().expect("it is valid").limits());
    assert_eq!(limits(200)[0].period, 75_000_000_000);
    assert_eq!(limits(200)[0].nominal, 60_000_000_000);
    assert_eq!(limits(200)[1].amount, 800);
    assert_eq!(
        error(quota().margin_per_mille(501)),
        "margin_per_mille: 501 is above the most allowed, 500"
    );
    assert!(with(500).is_ok());
}

#[test]
fn what_is_to_be_learned_need_not_be_limited() {
    let learned = Quota::builder().learn().build().expect("it is valid");
    assert_eq!(learned, Quota::learned());
    assert!(!learned.is_uniform());
}
