//! Quotas: who shares them, what they charge, and how they change.

use crate::client::{call, post, prompt, provider, requests, send, start};
use embedded_provider::{Limits, Provider, Scope};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn keys_of_a_scope_share_its_quota_and_scopes_do_not() {
    let provider = start(
        Provider::builder()
            .scope(Scope::new("org-a", ["key-1", "key-2"], requests(2)))
            .scope(Scope::new("org-b", ["key-3"], requests(1))),
    )
    .await;
    assert_eq!(call(&provider, "key-1").await, 200);
    assert_eq!(call(&provider, "key-2").await, 200);
    assert_eq!(call(&provider, "key-1").await, 429);
    assert_eq!(call(&provider, "key-2").await, 429);
    assert_eq!(call(&provider, "key-3").await, 200);
    let of = |scope| {
        provider
            .scope_counters(scope)
            .map(|counters| (counters.answered, counters.refused))
    };
    assert_eq!(
        (of("org-a"), of("org-b"), of("org-c")),
        (Some((2, 2)), Some((1, 0)), None)
    );
}

#[tokio::test(start_paused = true)]
async fn admission_charges_max_tokens_and_a_refusal_nothing() {
    let minute = Duration::from_secs(60);
    let limits = Limits {
        output_tokens_per_minute: Some(100),
        burst: minute,
        ..requests(1)
    };
    let provider = start(provider(limits)).await;
    let ask = async |max_tokens| {
        send(&provider, post("key-a", &prompt(max_tokens, false)))
            .await
            .status
            .as_u16()
    };
    assert_eq!(ask(70).await, 200);
    tokio::time::advance(minute / 10).await;
    assert_eq!(ask(41).await, 429);
    let counters = provider.counters();
    assert_eq!(
        (counters.requests_charged, counters.output_tokens_charged),
        (1, 70)
    );
    assert!(counters.output_tokens_produced <= 70);
    assert_eq!(counters.input_tokens_charged, 6);

    tokio::time::advance(minute).await;
    assert_eq!(
        ask(1_000).await,
        200,
        "more than the bucket holds, but it is full"
    );
    tokio::time::advance(minute).await;
    assert_eq!(ask(1).await, 429, "the debt lasts");
    tokio::time::advance(9 * minute).await;
    assert_eq!(ask(1).await, 200);
}

#[tokio::test(start_paused = true)]
async fn new_limits_hold_at_once() {
    let provider = start(provider(requests(1))).await;
    assert_eq!(call(&provider, "key-a").await, 200);
    assert_eq!(call(&provider, "key-a").await, 429);
    provider
        .set_limits("org-a", Limits::default())
        .expect("valid limits");
    assert_eq!(call(&provider, "key-a").await, 200);
    provider
        .set_limits("org-a", requests(2))
        .expect("valid limits");
    assert_eq!(call(&provider, "key-a").await, 200);
    assert_eq!(call(&provider, "key-a").await, 200);
    assert_eq!(call(&provider, "key-a").await, 429);

    let unknown = provider
        .set_limits("org-z", requests(1))
        .expect_err("there is no such scope");
    assert_eq!(
        unknown.to_string(),
        "invalid configuration: name of scope \"org-z\" is unknown; use that of a configured one"
    );
    let zero = Limits {
        requests_per_minute: Some(0),
        ..Limits::default()
    };
    assert_eq!(
        provider
            .set_limits("org-a", zero)
            .expect_err("nothing passes")
            .field(),
        "requests_per_minute"
    );
    assert_eq!(
        call(&provider, "key-a").await,
        429,
        "a failed change changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn used_share_compares_charges_with_what_the_time_allowed() {
    let minute = Duration::from_secs(60);
    let limits = Limits {
        requests_per_minute: Some(2),
        input_tokens_per_minute: Some(1_000),
        ..requests(1)
    };
    let provider = start(provider(limits)).await;
    assert_eq!(provider.quota_used_share("org-a"), Some(0.0));
    assert_eq!(provider.quota_used_share("org-z"), None);
    tokio::time::advance(minute).await;
    assert_eq!(call(&provider, "key-a").await, 200);
    tokio::time::advance(minute).await;
    assert_eq!(call(&provider, "key-a").await, 200);
    assert_eq!(call(&provider, "key-a").await, 200);
    tokio::time::advance(minute).await;

    assert_eq!(
        provider.quota_used_share("org-a"),
        Some(0.75),
        "three of a burst of two and a minute at two"
    );
    let counters = provider.counters();
    assert_eq!(
        (counters.first_admission, counters.last_admission),
        (Some(minute), Some(2 * minute))
    );
}

#[tokio::test(start_paused = true)]
async fn reset_clears_counters_and_fills_buckets() {
    let provider = start(provider(requests(1))).await;
    let first = send(&provider, post("key-a", &prompt(1_000, false)))
        .await
        .json();
    assert_eq!(call(&provider, "key-a").await, 429);
    provider.reset_counters();
    assert_eq!(provider.counters(), embedded_provider::Counters::default());
    assert_eq!(provider.quota_used_share("org-a"), Some(0.0));
    let again = send(&provider, post("key-a", &prompt(1_000, false)))
        .await
        .json();
    assert_eq!(
        first["usage"], again["usage"],
        "the generator starts from its seed"
    );
    assert_eq!(provider.counters().first_admission, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn combined_tokens_charge_prompt_and_max_tokens_together() {
    let limits = Limits {
        tokens_per_minute: Some(60),
        burst: Duration::from_secs(60),
        ..Limits::default()
    };
    let provider = start(provider(limits)).await;
    let ask = async |max_tokens| send(&provider, post("key-a", &prompt(max_tokens, false))).await;
    assert_eq!(ask(30).await.status, 200);
    let refused = ask(30).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("retry-after")),
        (429, "12"),
        "6 of prompt and 30 of answer, twice, are 12 too many"
    );
    assert_eq!(refused.header("anthropic-ratelimit-tokens-limit"), "60");
    assert_eq!(ask(18).await.status, 200);
    assert_eq!(provider.quota_used_share("org-a"), Some(1.0));
}
