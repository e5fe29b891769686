//! Classes of callers, sessions and estimates, each from the file to what it does.

use embedded_provider::{Limits, Provider, Scope};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    client::{Answer, ask, get, post},
    echo::Echo,
    relay::{File, Relay},
};

/// An upstream with so many accounts of one key, and these lines in it and in each quota.
pub(crate) fn config(url: &str, accounts: usize, lines: &str, quota: &str) -> String {
    let mut config = format!(
        "[[upstream]]\nname = \"pretend\"\nprovider = \"openai\"\nbase_url = \"{url}\"\n{lines}\n"
    );
    for account in 0..accounts {
        config += &format!(
            "[[upstream.scope]]\nname = \"org-{account}\"\n\
             key = [{{ alias = \"k{account}\", value = \"secret-{account}\" }}]\n\
             [[upstream.scope.quota]]\n{quota}\n"
        );
    }
    config
}

async fn provider(accounts: usize) -> Provider {
    let scopes = (0..accounts).map(|account| {
        let key = format!("secret-{account}");
        Scope::new(format!("org-{account}"), [key], Limits::default())
    });
    let provider = scopes.fold(Provider::builder(), |provider, scope| provider.scope(scope));
    provider.start().await.expect("a port")
}

pub(crate) fn question(session: Option<&str>) -> Value {
    let mut question = json!({
        "model": "some-model",
        "max_tokens": 500,
        "messages": [{ "role": "user", "content": "Hello!" }],
    });
    if let Some(session) = session {
        question["user"] = json!(session);
    }
    question
}

pub(crate) async fn upstream(relay: &Relay) -> Value {
    // Where no token is asked for it does no harm.
    let status = get(relay.at("/-/status?key=token")).await.json();
    status["upstreams"][0].clone()
}

/// How many calls each class has had admitted, by its name.
async fn admitted(relay: &Relay) -> Vec<(String, u64)> {
    let shares = upstream(relay).await["shares"].clone();
    let shares = shares.as_array().expect("there are shares").iter();
    let mut admitted: Vec<_> = shares
        .map(|share| {
            let name = share["class"].as_str().expect("a text");
            let admitted = share["admitted"].as_u64().expect("a count");
            (name.to_owned(), admitted)
        })
        .collect();
    admitted.sort();
    admitted
}

async fn call(relay: &Relay, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(relay.at("/v1/models"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(request.body(Full::default()).expect("a request")).await
}

#[tokio::test]
async fn a_class_is_said_by_the_header_or_the_token_and_goes_no_further() {
    let echo = Echo::start().await;
    let tokens = "caller_token = [{ value = \"token-of-batch\", class = \"batch\" }, \
                  { value = \"token\" }]\n";
    let quota = "requests_per_minute = 60_000";
    let shares = "shares = { interactive = 20, batch = 80 }";
    let text = tokens.to_owned() + &config(&echo.url(), 1, shares, quota);
    let (relay, _file) = Relay::with(&text).await;
    for (token, class) in [
        ("token", Some("interactive")),
        ("token", Some("batch")),
        ("token", Some("unheard-of")),
        ("token", None),
        ("token-of-batch", None),
        // The token's own goes before what its bearer says.
        ("token-of-batch", Some("interactive")),
    ] {
        let mut headers = vec![("x-api-key", token)];
        headers.extend(class.map(|class| ("x-relay-class", class)));
        let answer = call(&relay, &headers).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert!(!answer.text.contains("x-relay-class"), "{}", answer.text);
    }
    let expected = [("batch", 3), ("interactive", 1), ("others", 2)];
    let expected = expected.map(|(name, calls)| (name.to_owned(), calls));
    assert_eq!(admitted(&relay).await, expected);
}

#[tokio::test]
async fn while_both_wait_classes_are_served_by_their_shares_and_a_reload_changes_them() {
    let echo = Echo::start().await;
    let quota = "requests_per_minute = 1_200";
    let text = |shares: &str| {
        let lines = format!("concurrency = {{ enabled = false }}\n{shares}");
        config(&echo.url(), 1, &lines, quota)
    };
    let (mut relay, file) = Relay::with(&text("shares = { interactive = 80, batch = 20 }")).await;
    let (mut batch, mut interactive) = (0, 0);
    {
        let mut calls: tokio::task::JoinSet<_> = tokio::task::JoinSet::new();
        for class in ["batch", "interactive"] {
            for _ in 0..40 {
                let request = Request::get(relay.at("/v1/models")).header("x-relay-class", class);
                let request = request.body(Full::default()).expect("a request");
                calls.spawn(async move {
                    ask(request).await;
                    class
                });
            }
        }
        // Of the first half, which both classes wanted.
        for _ in 0..40 {
            match calls.join_next().await.expect("eighty").expect("no panic") {
                "batch" => batch += 1,
                _ => interactive += 1,
            }
        }
        while calls.join_next().await.is_some() {}
    }
    assert!((25..=39).contains(&interactive), "{interactive}, {batch}");

    file.write(&text(""));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    assert!(upstream(&relay).await["shares"].is_null());
    file.write(&text("shares = { other = 1 }"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    call(&relay, &[("x-relay-class", "other")]).await;
    let expected = [("other".to_owned(), 1), ("others".to_owned(), 0)];
    assert_eq!(admitted(&relay).await, expected);
}

/// The names of the accounts that have answered, one for each call.
async fn answering(relay: &Relay, provider: &Provider, session: Option<&str>) -> Vec<usize> {
    let mut served = Vec::new();
    for _ in 0..9 {
        let calls = |account: usize| {
            let counters = provider.scope_counters(&format!("org-{account}"));
            counters.expect("it has this account").calls
        };
        let before = [0, 1, 2].map(calls);
        let answer = post(relay.at("/v1/chat/completions"), &question(session)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        served.extend((0..3).filter(|&account| calls(account) > before[account]));
    }
    served
}

#[tokio::test]
async fn a_sessions_calls_stay_with_one_account_and_those_of_none_do_not() {
    let provider = provider(3).await;
    let quota = "requests_per_minute = 60_000";
    let (relay, file) = Relay::with(&config(&provider.url(), 3, "", quota)).await;
    let named = answering(&relay, &provider, Some("me")).await;
    assert!(
        named.iter().all(|account| *account == named[0]),
        "{named:?}"
    );
    assert_eq!(upstream(&relay).await["sessions"], 1);
    let unnamed = answering(&relay, &provider, None).await;
    assert!(
        (0..3).all(|account| unnamed.contains(&account)),
        "{unnamed:?}"
    );
    drop((relay, file));

    let by_prompt = config(&provider.url(), 3, "affinity = \"prompt\"", quota);
    let (mut relay, file) = Relay::with(&by_prompt).await;
    let prompts = answering(&relay, &provider, None).await;
    assert!(
        prompts.iter().all(|account| *account == prompts[0]),
        "{prompts:?}"
    );
    // What belongs together is told for good; the sessions outlive a reload.
    file.write(&by_prompt.replace("\"prompt\"", "\"off\""));
    relay.signal("HUP").await;
    relay
        .hears("relay: warning: upstream pretend: another `affinity`")
        .await;
    relay.hears("relay: reloaded").await;
    assert_eq!(answering(&relay, &provider, None).await, prompts);
    drop((relay, file));

    let off = config(&provider.url(), 3, "affinity = \"off\"", quota);
    let (relay, _file) = Relay::with(&off).await;
    let off = answering(&relay, &provider, Some("me")).await;
    assert!((0..3).all(|account| off.contains(&account)), "{off:?}");
    assert!(upstream(&relay).await["sessions"].is_null());
}

#[tokio::test]
async fn what_answers_teach_is_shown_by_model_and_kept_by_a_reload() {
    let provider = provider(1).await;
    let quota = "requests_per_minute = 60_000\ntokens_per_minute = 6_000_000";
    let text = config(&provider.url(), 1, "", quota);
    let (mut relay, file) = Relay::with(&text).await;
    for _ in 0..4 {
        let answer = post(relay.at("/v1/chat/completions"), &question(None)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    let learned = |status: &Value| status["learned"]["some-model"]["input_ratio"].as_f64();
    let before = learned(&upstream(&relay).await).expect("it has learned");
    assert!((1.0 / 32.0..32.0).contains(&before), "{before}");
    file.write(&text.replace("6_000_000", "7_000_000"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    assert_eq!(learned(&upstream(&relay).await), Some(before));
    drop((relay, file));

    let file = File::new(&config(&provider.url(), 1, "estimate = false", quota));
    let relay = Relay::start(&["--config", file.path()], &[]).await;
    post(relay.at("/v1/chat/completions"), &question(None)).await;
    assert!(upstream(&relay).await["learned"].is_null());
}
