//! Quotas that nobody told, and bounds of growth over a restart.
#![cfg(unix)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use embedded_provider::{LimitHeaders, Limits, Provider, Scope};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, post},
    echo::Echo,
    relay::{File, Relay},
    settings::{config, question, upstream},
};

/// It grants a thousand requests a second.
async fn provider(headers: LimitHeaders) -> Provider {
    let limits = Limits {
        requests_per_minute: Some(60_000),
        ..Limits::default()
    };
    let scope = Scope::new("org-0", ["secret-0"], limits);
    Provider::builder()
        .limit_headers(headers)
        .scope(scope)
        .start()
        .await
        .expect("a port")
}

async fn chat(relay: &Relay) -> Answer {
    post(relay.at("/v1/chat/completions"), &question(None)).await
}

/// The state of the only quota.
async fn quota(relay: &Relay) -> Value {
    upstream(relay).await["scopes"][0]["classes"][0].clone()
}

#[tokio::test]
async fn limits_that_only_headers_tell_are_learned_and_kept_by_a_reload() {
    let provider = provider(LimitHeaders::OfFormat).await;
    let text = config(&provider.url(), 1, "", "learn = true");
    let (mut relay, file) = Relay::with(&text).await;
    let left = |quota: Value| {
        quota["remaining"]["requests"]
            .as_i64()
            .expect("it is limited")
    };
    // Until something is known.
    assert_eq!(left(quota(&relay).await), 8);
    let answer = chat(&relay).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let learned = left(quota(&relay).await);
    assert!(learned > 100, "{learned}");
    file.write(&text.replace("openai\"\n", "openai\"\nstrategy = \"round-robin\"\n"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let kept = left(quota(&relay).await);
    assert!(kept > 100, "{kept}");
}

#[tokio::test]
async fn a_rate_is_sought_between_its_bounds_and_kept_by_a_reload() {
    let provider = provider(LimitHeaders::Off).await;
    let seek =
        "seek = { requests_per_minute = [600, 60_000], start = 1_200, preset = \"halving\" }";
    let lines = "concurrency = { enabled = false }";
    let text = config(&provider.url(), 1, lines, seek);
    let (mut relay, file) = Relay::with(&text).await;
    let sought = |quota: &Value| quota["sought"]["requests"].as_f64().expect("it is sought");
    assert!((sought(&quota(&relay).await) - 1_200.0).abs() < 1.0);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let url = relay.at("/v1/chat/completions");
        calls.spawn(async move { post(url, &question(None)).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
    let grown = sought(&quota(&relay).await);
    assert!((1_300.0..60_001.0).contains(&grown), "{grown}");
    file.write(&text.replace("openai\"\n", "openai\"\nstrategy = \"round-robin\"\n"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let kept = sought(&quota(&relay).await);
    assert!((kept - grown).abs() < 1.0, "{kept}, {grown}");
}

const RAMP: &str = "ramp = { requests_per_minute = 600 }";

/// Where the state of the configuration in `file` is.
fn beside(file: &File) -> State {
    State(Path::new(file.path()).with_extension("state.json"))
}

/// It is removed with the test.
struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl State {
    /// So many calls in each step of the last two windows, as it was so many seconds ago.
    fn write(&self, calls: u64, ago: i64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.expect("it is after 1970").as_millis() as i64;
        let state = json!({
            "saved_at": now - ago * 1_000,
            "ramps": [{
                "upstream": "pretend",
                "scope": "org-0",
                "models": [],
                "unit": "requests",
                "step": 2_500_000_000_u64,
                "used": vec![calls; 720],
            }],
        });
        fs::write(&self.0, state.to_string()).expect("the folder can be written");
    }

    fn read(&self) -> Value {
        let text = fs::read(&self.0).expect("it was saved");
        serde_json::from_slice(&text).expect("it is whole")
    }
}

async fn start(file: &File) -> Relay {
    Relay::start(&["--config", file.path()], &[]).await
}

async fn allowed(relay: &Relay) -> f64 {
    let allowed = quota(relay).await["ramps"]["requests"]["allowed_per_minute"].as_f64();
    allowed.expect("it is bounded")
}

#[tokio::test]
async fn growth_goes_on_after_a_restart_and_begins_at_the_floor_where_nothing_is_known() {
    let echo = Echo::start().await;
    let file = File::new(&config(&echo.url(), 1, "", RAMP));
    let state = beside(&file);
    let mut relay = start(&file).await;
    let floor = allowed(&relay).await;
    assert!((300.0..=600.0).contains(&floor), "{floor}");
    for _ in 0..3 {
        assert_eq!(get(relay.at("/v1/models")).await.status, StatusCode::OK);
    }
    relay.signal("TERM").await;
    assert!(relay.ended().await.success());
    let saved = state.read();
    let used = saved["ramps"][0]["used"]
        .as_array()
        .expect("a list")
        .clone();
    let used: u64 = used.iter().filter_map(Value::as_u64).sum();
    assert_eq!(used, 3, "{saved}");

    // 2,400 a minute were used all the time.
    state.write(100, 5);
    let mut relay = start(&file).await;
    let resumed = allowed(&relay).await;
    assert!((2_400.0..=3_600.0).contains(&resumed), "{resumed}");
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let reloaded = allowed(&relay).await;
    assert!((reloaded - resumed).abs() < resumed / 50.0, "{reloaded}");
    relay.signal("TERM").await;
    assert!(relay.ended().await.success());
    let relay = start(&file).await;
    let again = allowed(&relay).await;
    assert!(again <= resumed && again > 2_300.0, "{again}");
    drop(relay);

    // An hour ago, and in the future.
    for ago in [3_600, -60] {
        state.write(100, ago);
        let relay = start(&file).await;
        assert_eq!(allowed(&relay).await, floor, "{ago}");
    }
}

#[tokio::test]
async fn a_state_that_is_none_is_not_overwritten() {
    let echo = Echo::start().await;
    let secret = File::new("sk-some-secret");
    let text = format!(
        "state = \"{}\"\n{}",
        secret.path(),
        config(&echo.url(), 1, "", RAMP)
    );
    let file = File::new(&text);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["serve", "--config", file.path()])
        .output()
        .expect("the program was built for this test");
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "relay: {}: this is no saved state; remove it, or name another file with state\n",
        secret.path()
    );
    assert_eq!(complaint, expected);
    let left = fs::read_to_string(secret.path()).expect("it is there");
    assert_eq!(left, "sk-some-secret");
}

#[tokio::test]
async fn neither_is_one_that_a_reload_begins_to_need() {
    let echo = Echo::start().await;
    let secret = File::new("sk-some-secret");
    let state = format!("state = \"{}\"\n", secret.path());
    let plain = config(&echo.url(), 1, "", "requests_per_minute = 600");
    let (mut relay, file) = Relay::with(&(state.clone() + &plain)).await;
    file.write(&(state + &config(&echo.url(), 1, "", RAMP)));
    relay.signal("HUP").await;
    let complaint = relay.hears("relay: not reloaded").await;
    assert!(complaint.contains("this is no saved state"), "{complaint}");
    relay.signal("TERM").await;
    assert!(relay.ended().await.success());
    let left = fs::read_to_string(secret.path()).expect("it is there");
    assert_eq!(left, "sk-some-secret");
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_said_and_stops_nothing() {
    let echo = Echo::start().await;
    let text = config(&echo.url(), 1, "", RAMP);
    let file = File::new(&format!("state = \"no/such/folder/state.json\"\n{text}"));
    let mut relay = start(&file).await;
    let warning = relay.hears("relay: warning: ").await;
    assert!(
        warning.contains("cannot be written: entity not found"),
        "{warning}"
    );
    assert_eq!(get(relay.at("/v1/models")).await.status, StatusCode::OK);
}
