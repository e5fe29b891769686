//! The service in this process, and what its clients are not told.

use crate::in_process::{ASK, Ask, MINUTE, builder, per_minute, start};
use embedded_provider::{LimitHeaders, Limits, Provider};
use std::time::Duration;
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);

fn one_a_second() -> Limits {
    Limits {
        requests_per_minute: Some(60),
        ..Limits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_fast_refills_faster_and_does_not_say_so() {
    for (drift, admitted, hint) in [(-0.01, 198, "1"), (0.0, 200, "1"), (0.01, 202, "1")] {
        let limits = Limits {
            burst: MINUTE,
            ..one_a_second()
        };
        let provider = start(builder(limits).clock_drift(drift));
        while ASK.status(&provider).await == 200 {}
        let before = provider.counters().answered;
        for _ in 0..200 {
            advance(SECOND).await;
            while ASK.status(&provider).await == 200 {}
        }
        let (_, headers, _) = ASK.send(&provider).await;
        assert_eq!(headers["retry-after"], hint);
        assert_eq!(headers["x-ratelimit-limit-requests"], "60");
        assert_eq!(provider.counters().answered - before, admitted, "{drift}");
        let books = provider.books("org-a").expect("a configured scope");
        let told = books.dimensions[0].1.refilled.round() as u64;
        assert_eq!(told, admitted, "its own books are by its own clock");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_arrive_late_and_out_of_order_as_the_seed_says() {
    let run = async |seed| {
        let builder = builder(Limits::default()).seed(seed);
        let provider = start(builder.arrival_jitter(Duration::from_millis(100)));
        let began = Instant::now();
        let calls = (0..50).map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move {
                ASK.open(&provider).await;
                began.elapsed().as_millis()
            })
        });
        let mut arrived = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            arrived.push(call.await.expect("no panic"));
        }
        arrived
    };
    let arrived = run(1).await;
    assert!(arrived.iter().all(|after| *after <= 101), "{arrived:?}");
    assert!(!arrived.is_sorted());
    let mean = arrived.iter().sum::<u128>() / 50;
    assert!((35..65).contains(&mean), "{mean}");
    assert_eq!(arrived, run(1).await);
    assert_ne!(arrived, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn limits_are_shown_in_the_style_that_is_set() {
    let limits = Limits {
        requests_per_minute: Some(60),
        requests_per_day: Some(1_000),
        ..per_minute(10_000)
    };
    let shown = async |style, path| {
        let provider = start(builder(limits).limit_headers(style));
        let (_, headers, _) = Ask { path, ..ASK }.send(&provider).await;
        let limits = headers
            .iter()
            .filter(|(name, _)| name.as_str().contains("ratelimit"));
        let mut told: Vec<_> = limits
            .filter(|(name, _)| !name.as_str().contains("reset"))
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        told.sort_unstable();
        told
    };
    let (chat, messages) = (ASK.path, "/v1/messages");
    let gemini = "/v1beta/models/m:generateContent";
    let openai = [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-limit-tokens: 10000",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-remaining-tokens: 9850",
    ];
    assert_eq!(shown(LimitHeaders::OfFormat, chat).await, openai);
    assert_eq!(shown(LimitHeaders::OpenAi, gemini).await, openai);
    let groq = [
        "x-ratelimit-limit-requests: 1000",
        openai[1],
        "x-ratelimit-remaining-requests: 999",
        openai[3],
    ];
    assert_eq!(shown(LimitHeaders::Groq, chat).await, groq);
    let mistral = [
        "x-ratelimit-limit-req-minute: 60",
        "x-ratelimit-limit-tokens-minute: 10000",
        "x-ratelimit-remaining-req-minute: 59",
        "x-ratelimit-remaining-tokens-minute: 9850",
        "x-ratelimitbysize-limit-minute: 10000",
        "x-ratelimitbysize-remaining-minute: 9850",
    ];
    assert_eq!(shown(LimitHeaders::Mistral, chat).await, mistral);
    let anthropic = shown(LimitHeaders::OfFormat, messages).await;
    assert_eq!(anthropic.len(), 8);
    assert!(anthropic.contains(&"anthropic-ratelimit-tokens-remaining: 10000".to_owned()));
    for nothing in [
        shown(LimitHeaders::Off, chat).await,
        shown(LimitHeaders::Off, messages).await,
        shown(LimitHeaders::OfFormat, gemini).await,
    ] {
        assert_eq!(nothing, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_can_tell_of_a_minute_where_a_second_is_held() {
    let limits = Limits {
        shown_burst: Some(MINUTE),
        ..one_a_second()
    };
    let provider = start(builder(limits));
    let told = async || {
        let (status, headers, _) = ASK.send(&provider).await;
        let remaining = headers["x-ratelimit-remaining-requests"].to_str();
        (status, remaining.expect("a number").to_owned())
    };
    assert_eq!(told().await, (200, "59".to_owned()));
    assert_eq!(told().await, (429, "59".to_owned()));
    advance(SECOND).await;
    assert_eq!(told().await, (200, "59".to_owned()));
    let books = provider.books("org-a").expect("a configured scope");
    assert_eq!(books.dimensions.len(), 1);
    assert_eq!(
        books.dimensions[0].1.held, 1.0,
        "the books are of what is held"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_when_to_come_back_as_its_provider_does() {
    for (style, told) in [
        (LimitHeaders::OpenAi, (true, true)),
        (LimitHeaders::Groq, (true, false)),
        (LimitHeaders::Mistral, (false, false)),
    ] {
        let provider = start(builder(one_a_second()).limit_headers(style));
        ASK.send(&provider).await;
        let (status, headers, _) = ASK.send(&provider).await;
        assert_eq!(status, 429);
        let has = |name| headers.contains_key(name);
        assert_eq!(
            (has("retry-after"), has("retry-after-ms")),
            told,
            "{style:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn service_and_socket_are_one_provider() {
    let provider = builder(Limits {
        burst: MINUTE,
        ..one_a_second()
    });
    let provider = provider.start().await.expect("a valid configuration");
    assert_eq!(crate::client::call(&provider, "key-a").await, 200);
    let mut admitted = 1;
    while ASK.status(&provider).await == 200 {
        admitted += 1;
    }
    assert_eq!(admitted, 60);
    let service = provider.service();
    let in_process = start(builder(Limits::default()));
    assert_eq!(in_process.addr().port(), 0);
    drop(provider);
    let shown = format!("{service:?} {in_process:?}");
    assert!(shown.contains("org-a") && !shown.contains("key-a"));
}

#[tokio::test]
async fn wrong_settings_of_what_is_not_told_name_their_field() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        builder(limits)
    };
    for (builder, field) in [
        (builder(Limits::default()).clock_drift(0.6), "clock_drift"),
        (
            builder(Limits::default()).clock_drift(f64::NAN),
            "clock_drift",
        ),
        (
            builder(Limits::default()).arrival_jitter(Duration::MAX),
            "arrival_jitter",
        ),
        (
            limits(|limits| limits.requests_window = Some(Duration::ZERO)),
            "requests_window",
        ),
        (
            limits(|limits| limits.shown_burst = Some(Duration::ZERO)),
            "shown_burst",
        ),
        (
            limits(|limits| limits.day_ends_in = Duration::ZERO),
            "day_ends_in",
        ),
        (
            limits(|limits| limits.requests_per_day = Some(0)),
            "requests_per_day",
        ),
        (Provider::builder(), "scope"),
    ] {
        let error = builder.start_in_process().expect_err(field);
        assert_eq!(error.field(), field);
    }
}
