//! Keys and scopes: counted, revoked, out of credit, denied a model.

use crate::client::{call, chat, post, prompt, requests, send, start};
use embedded_provider::{Counters, Denial, Faults, Provider, Scope};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Two keys of `org-a`, one of `org-b`, and more quota than any test uses.
pub(crate) async fn three_keys() -> Provider {
    start(
        Provider::builder()
            .scope(Scope::new("org-a", ["key-1", "key-2"], requests(99)))
            .scope(Scope::new("org-b", ["key-3"], requests(99))),
    )
    .await
}

#[tokio::test]
async fn every_key_has_its_own_count() {
    let provider = three_keys().await;
    for (key, calls) in [("key-1", 1), ("key-2", 2), ("key-3", 3)] {
        for _ in 0..calls {
            assert_eq!(call(&provider, key).await, 200);
        }
        let counters = provider.key_counters(key).expect("a configured key");
        assert_eq!((counters.calls, counters.answered), (calls, calls));
    }
    assert_eq!(call(&provider, "key-4").await, 401);
    assert_eq!(provider.key_counters("key-4"), None);
    let scope = provider.scope_counters("org-a").expect("a scope");
    assert_eq!((scope.calls, provider.counters().calls), (3, 7));

    provider.reset_counters();
    let fresh = provider.key_counters("key-1").expect("a configured key");
    assert_eq!(fresh, Counters::default());
}

#[tokio::test]
async fn revoked_key_is_unauthorized_until_it_is_restored() {
    let provider = three_keys().await;
    provider.revoke_key("key-1").expect("a configured key");
    let refused = send(&provider, post("key-1", &prompt(1, false))).await;
    let unknown = send(&provider, post("key-4", &prompt(1, false))).await;
    assert_eq!(
        (refused.status.as_u16(), unknown.status.as_u16()),
        (401, 401)
    );
    assert_eq!(
        refused.json()["error"],
        unknown.json()["error"],
        "it is told apart from no key at all"
    );
    assert_eq!(refused.header("anthropic-ratelimit-requests-limit"), "");
    assert_eq!(
        call(&provider, "key-2").await,
        200,
        "a key of the same scope"
    );

    provider.reset_counters();
    assert_eq!(
        call(&provider, "key-1").await,
        401,
        "a reset restores no key"
    );
    provider.restore_key("key-1").expect("a configured key");
    assert_eq!(call(&provider, "key-1").await, 200);
    let key = provider.key_counters("key-1").expect("a configured key");
    assert_eq!((key.calls, key.answered, key.unauthorized), (2, 1, 1));
    let scope = provider.scope_counters("org-a").expect("a scope");
    assert_eq!((scope.unauthorized, scope.requests_charged), (1, 1));
}

#[tokio::test]
async fn unknown_key_is_an_error_that_does_not_repeat_it() {
    let provider = three_keys().await;
    let errors = [
        provider.revoke_key("key-4").expect_err("no such key"),
        provider.restore_key("key-4").expect_err("no such key"),
        provider
            .deny_model_to_key("key-4", "claude-test", Denial::NotFound)
            .expect_err("no such key"),
        provider
            .allow_model_to_key("key-4", "claude-test")
            .expect_err("no such key"),
    ];
    for error in errors {
        assert_eq!(error.field(), "key");
        assert!(!format!("{error} {error:?}").contains("key-4"));
    }
    let mistaken = provider.exhaust_credit("key-2").expect_err("no scope");
    assert_eq!(mistaken.field(), "name");
    assert!(!format!("{mistaken} {mistaken:?}").contains("key-2"));
    provider.revoke_key("key-1").expect("a configured key");
    assert!(!format!("{provider:?}").contains("key-1"));
}

#[tokio::test]
async fn scope_out_of_credit_is_turned_away_until_it_is_restored() {
    let provider = three_keys().await;
    provider.exhaust_credit("org-a").expect("a scope");
    for key in ["key-1", "key-2"] {
        let answer = send(&provider, post(key, &prompt(1, false))).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status.as_u16(), &error["type"]),
            (400, &"invalid_request_error".into())
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("credit balance is too low"));
        assert_eq!(answer.header("retry-after"), "");
    }
    assert_eq!(call(&provider, "key-3").await, 200, "another account");
    let scope = provider.scope_counters("org-a").expect("a scope");
    assert_eq!((scope.calls, scope.exhausted, scope.invalid), (2, 2, 0));
    assert_eq!(scope.requests_charged, 0);
    assert_eq!(
        provider.key_counters("key-1").map(|key| key.exhausted),
        Some(1)
    );

    provider.restore_credit("org-a").expect("a scope");
    assert_eq!(call(&provider, "key-1").await, 200);
    let unknown = provider.exhaust_credit("org-z").expect_err("no such scope");
    assert_eq!(unknown.field(), "name");
}

#[tokio::test]
async fn credit_runs_out_with_the_tokens_charged() {
    let provider = three_keys().await;
    // Each call takes 6 of prompt and 1 of answer.
    provider.set_credit("org-a", Some(15)).expect("a scope");
    for round in 0..2 {
        for status in [200, 200, 200, 400, 400] {
            assert_eq!(call(&provider, "key-1").await, status, "in round {round}");
        }
        provider.reset_counters();
    }
    provider.set_credit("org-a", Some(1)).expect("a scope");
    assert_eq!(
        call(&provider, "key-2").await,
        200,
        "whatever is left is enough"
    );
    assert_eq!(call(&provider, "key-2").await, 400);
}

#[tokio::test]
async fn model_is_denied_to_a_scope_or_to_one_key() {
    let provider = three_keys().await;
    let ask = async |key: &str| send(&provider, post(key, &prompt(1, false))).await;
    provider
        .deny_model("org-a", "claude-test", Denial::NotFound)
        .expect("a scope");
    provider
        .deny_model_to_key("key-2", "claude-test", Denial::Forbidden)
        .expect("a key");
    provider
        .deny_model("org-b", "claude-other", Denial::NotFound)
        .expect("a scope");
    for (key, status, kind) in [
        ("key-1", 404, "not_found_error"),
        ("key-2", 403, "permission_error"),
    ] {
        let answer = ask(key).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status.as_u16(), &error["type"]),
            (status, &kind.into())
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("claude-test"), "{message}");
    }
    assert_eq!(
        call(&provider, "key-3").await,
        200,
        "another model is denied"
    );

    provider
        .allow_model("org-a", "claude-test")
        .expect("a scope");
    assert_eq!(call(&provider, "key-1").await, 200);
    assert_eq!(
        call(&provider, "key-2").await,
        403,
        "denied to the key itself"
    );
    provider
        .allow_model_to_key("key-2", "claude-test")
        .expect("a key");
    assert_eq!(call(&provider, "key-2").await, 200);

    let scope = provider.scope_counters("org-a").expect("a scope");
    assert_eq!(
        (scope.denied, scope.invalid, scope.requests_charged),
        (3, 0, 2)
    );
    let key = provider.key_counters("key-2").expect("a key");
    assert_eq!((key.calls, key.denied, key.answered), (3, 2, 1));
    let unknown = provider
        .deny_model("org-z", "claude-test", Denial::NotFound)
        .expect_err("no such scope");
    assert_eq!(unknown.field(), "name");
}

/// One count for each outcome.
fn outcomes(counters: &Counters) -> [u64; 8] {
    [
        counters.answered,
        counters.refused,
        counters.unauthorized,
        counters.exhausted,
        counters.denied,
        counters.invalid,
        counters.server_errors,
        counters.overloaded,
    ]
}

fn assert_books(provider: &Provider) {
    let scopes = ["org-a", "org-b"].map(|scope| provider.scope_counters(scope));
    let keys = ["key-1", "key-2", "key-3"].map(|key| provider.key_counters(key));
    let known = scopes.into_iter().chain(keys).flatten();
    for counters in known.chain([provider.counters()]) {
        let sum: u64 = outcomes(&counters).iter().sum();
        assert_eq!(counters.calls, sum, "{counters:?}");
    }
}

#[tokio::test]
async fn calls_are_the_sum_of_their_outcomes_at_every_moment() {
    let faults = Faults {
        server_error_share: 0.1,
        overloaded_share: 0.1,
        ..Faults::default()
    };
    let builder = Provider::builder()
        .scope(Scope::new("org-a", ["key-1", "key-2"], requests(40)))
        .scope(Scope::new("org-b", ["key-3"], requests(99)));
    let provider = start(builder.faults(faults)).await;
    let over = Arc::new(AtomicBool::new(false));
    let observer = std::thread::spawn({
        let (provider, over) = (provider.clone(), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Relaxed) {
                assert_books(&provider);
            }
        }
    });
    for round in 0..5 {
        let changed = match round {
            1 => provider.revoke_key("key-1"),
            2 => provider.set_credit("org-b", Some(30)),
            3 => provider.deny_model_to_key("key-2", "claude-test", Denial::Forbidden),
            4 => provider.allow_model_to_key("key-2", "claude-test"),
            _ => Ok(()),
        };
        changed.expect("known keys and scopes");
        let calls = (0..40).map(|number| {
            let provider = provider.clone();
            let key = ["key-1", "key-2", "key-3", "key-4"][number % 4];
            let body = prompt(u64::from(number % 9 != 0), false);
            let request = match number % 3 {
                0 => post(key, &body),
                _ => chat(key, &body),
            };
            tokio::spawn(async move { drop(send(&provider, request).await) })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no call panics");
        }
    }
    over.store(true, Ordering::Relaxed);
    observer.join().expect("the books agreed all the time");
    let counters = provider.counters();
    assert_eq!((counters.calls, counters.in_flight), (200, 0));
    let seen = outcomes(&counters).iter().all(|count| *count > 0);
    assert!(seen, "every outcome has happened: {counters:?}");
}
