//! Several keys, some of which the provider refuses.

use embedded_provider::{Denial, Limits, Provider, Scope};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, post},
    relay::Relay,
};

const KEYS: [&str; 3] = ["secret-one", "secret-two", "secret-three"];

async fn provider() -> Provider {
    let scopes = KEYS.map(|key| Scope::new(format!("of-{key}"), [key], Limits::default()));
    let provider = scopes
        .into_iter()
        .fold(Provider::builder(), |provider, scope| provider.scope(scope));
    provider.start().await.expect("a port")
}

/// An account for each of the first `keys`.
fn config(provider: &Provider, keys: usize) -> String {
    let url = provider.url();
    let mut config = format!(
        "[[upstream]]\nname = \"pretend\"\nprovider = \"anthropic\"\nbase_url = \"{url}\"\n"
    );
    for (number, key) in KEYS[..keys].iter().enumerate() {
        config += &format!(
            "[[upstream.scope]]\nname = \"org-{number}\"\n\
             key = [{{ alias = \"k{number}\", value = \"{key}\" }}]\n\
             [[upstream.scope.quota]]\nrequests_per_minute = 60_000\n"
        );
    }
    config
}

async fn ask(relay: &Relay) -> Answer {
    let question = json!({
        "model": "some-model",
        "max_tokens": 5,
        "messages": [{ "role": "user", "content": "Hello!" }],
    });
    post(relay.at("/v1/messages"), &question).await
}

/// What `/-/status` says of the upstream's keys, by alias.
async fn key_states(relay: &Relay) -> Vec<(String, String)> {
    let status = get(relay.at("/-/status")).await;
    for key in KEYS {
        assert!(!status.text.contains(&key[..8]), "{}", status.text);
    }
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let status = status.json();
    let scopes = status["upstreams"][0]["scopes"].as_array().expect("a list");
    let keys = scopes
        .iter()
        .flat_map(|scope| scope["keys"].as_array().expect("a list"));
    keys.map(|key| (text(&key["alias"]), text(&key["state"])))
        .collect()
}

#[tokio::test]
async fn a_revoked_key_costs_its_callers_nothing_and_is_called_once() {
    let provider = provider().await;
    let (relay, _file) = Relay::with(&config(&provider, 3)).await;
    provider.revoke_key(KEYS[1]).expect("it has this key");
    for _ in 0..12 {
        assert_eq!(ask(&relay).await.status, StatusCode::OK);
    }
    let dead = provider.key_counters(KEYS[1]).expect("it has this key");
    assert_eq!((dead.calls, dead.unauthorized), (1, 1));
    let states = key_states(&relay).await;
    let states: Vec<_> = states
        .iter()
        .map(|(alias, state)| (&**alias, &**state))
        .collect();
    assert_eq!(
        states,
        [("k0", "usable"), ("k1", "rejected"), ("k2", "usable")]
    );
}

#[tokio::test]
async fn without_a_usable_key_a_call_is_refused_at_once_with_the_reasons() {
    let provider = provider().await;
    let (relay, _file) = Relay::with(&config(&provider, 1)).await;
    provider.revoke_key(KEYS[0]).expect("it has this key");
    // It is not the caller's credential that was refused: the provider's words are not for him.
    let answer = ask(&relay).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let expected = "upstream `pretend`: it rejected every key";
    assert_eq!(answer.json()["error"]["message"], expected);

    let answer = ask(&relay).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let expected = "upstream `pretend`: no key can serve the call: k0 was rejected by the server";
    assert_eq!(answer.json()["error"]["message"], expected);
    assert_eq!(provider.counters().calls, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_reload_brings_keys_in_and_keeps_what_is_known_of_the_others() {
    let provider = provider().await;
    let (mut relay, file) = Relay::with(&config(&provider, 1)).await;
    assert_eq!(ask(&relay).await.status, StatusCode::OK);
    file.write(&config(&provider, 3));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    for _ in 0..5 {
        assert_eq!(ask(&relay).await.status, StatusCode::OK);
    }
    let status = get(relay.at("/-/status")).await.json();
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["queue"]["admitted"], 6, "the books go on");
    let of = |scope: usize| upstream["scopes"][scope]["totals"]["success"].as_u64();
    assert_eq!([of(0), of(1), of(2)], [Some(2), Some(2), Some(2)]);
}

#[tokio::test]
async fn what_one_caller_is_forbidden_closes_no_model_to_others() {
    let provider = provider().await;
    let (relay, _file) = Relay::with(&config(&provider, 3)).await;
    for key in KEYS {
        let denied = provider.deny_model_to_key(key, "some-model", Denial::Forbidden);
        denied.expect("it has this key");
    }
    let answer = ask(&relay).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["error"]["type"], "permission_error");
    assert_eq!(provider.counters().calls, 1, "as it was, and once");
    for key in KEYS {
        let allowed = provider.allow_model_to_key(key, "some-model");
        allowed.expect("it has this key");
    }
    assert_eq!(ask(&relay).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_would_wait_longer_than_may_be_is_refused_and_not_kept() {
    let provider = provider().await;
    let config = config(&provider, 1).replace("60_000", "10").replace(
        "[[upstream.scope]]",
        "max_wait = \"1s\"\n[[upstream.scope]]",
    );
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(ask(&relay).await.status, StatusCode::OK);
    // The next place is six seconds away.
    let answer = ask(&relay).await;
    assert_eq!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        answer.text
    );
    assert_eq!(provider.counters().calls, 1);
}
