//! Changes of the file, and what is logged.
#![cfg(unix)]

use std::fs;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{get, http2, post, soon},
    echo::Echo,
    relay::{File, Relay},
};

async fn key(relay: &Relay) -> String {
    let told = get(relay.at("/v1/x")).await.json();
    told["headers"][0].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_changed_file_is_read_without_being_told_and_also_one_in_its_place() {
    let echo = Echo::start().await;
    let config = echo.config("openai", "");
    let (mut relay, file) = Relay::with(&config).await;
    file.write(&config.replace("secret-a", "secret-b"));
    relay.hears("relay: reloaded").await;
    assert_eq!(key(&relay).await, "authorization: Bearer secret-b");

    // As editors do it.
    let other = File::new(&config.replace("secret-a", "secret-c"));
    fs::rename(other.path(), file.path()).expect("one folder");
    relay.hears("relay: reloaded").await;
    assert_eq!(key(&relay).await, "authorization: Bearer secret-c");

    file.write("half a fi");
    let complaint = relay.hears("relay: not reloaded").await;
    assert!(complaint.contains("this is no TOML"), "{complaint}");
    assert_eq!(key(&relay).await, "authorization: Bearer secret-c");

    let status = get(relay.at("/-/status")).await.json();
    let admitted = &status["upstreams"][0]["queue"]["admitted"];
    assert_eq!(admitted, 3, "the books go on");
}

#[tokio::test]
async fn a_reload_that_would_let_everybody_in_changes_nothing() {
    let echo = Echo::start().await;
    let token = "caller_token = { value = \"token-one\" }\n";
    let file = File::new(&(token.to_owned() + &echo.config("openai", "")));
    let arguments = ["--listen", "0.0.0.0:0", "--config", file.path()];
    let mut relay = Relay::start_at(&arguments).await;
    relay.url = relay.url.replace("0.0.0.0", "127.0.0.1");
    file.write(&echo.config("openai", ""));
    relay.signal("HUP").await;
    let complaint = relay.hears("relay: not reloaded").await;
    assert!(complaint.contains("caller_token"), "{complaint}");
    let answer = get(relay.at("/v1/x")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);

    file.write(&(token.replace("one", "two") + &echo.config("openai", "")));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let answer = get(relay.at("/v1/x?key=token-two")).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_no_secret() {
    let echo = Echo::start().await;
    let token = "caller_token = { value = \"token-one\" }\n";
    let file = File::new(&(token.to_owned() + &echo.config("gemini", "http2 = true")));
    let arguments = ["--config", file.path(), "--log-format", "json"];
    let mut relay = Relay::start_logging(&arguments, "trace").await;
    let answer = post(
        relay.at("/v1/x?key=token-one&a=b"),
        &json!({ "model": "m" }),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = get(relay.at("/v1/y?key=callers-own")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let request = http::Request::get(relay.at("/v1/z"))
        .header("x-goog-api-key", "token-one")
        .body(Default::default());
    let over_http2 = soon(http2().request(request.expect("a request"))).await;
    assert_eq!(over_http2.expect("it is answered").status(), StatusCode::OK);
    relay.signal("TERM").await;
    let log = relay.rest().await;
    for secret in ["secret-", "token-", "callers-own"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    let lines = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        line
    });
    let requests: Vec<_> = lines
        .filter(|line| line["target"] == "relay::request")
        .collect();
    let [served, refused, last] = &*requests else {
        panic!("three requests: {log}");
    };
    for (field, value) in [
        ("http.request.method", json!("POST")),
        ("url.path", json!("/v1/x")),
        ("http.response.status_code", json!(200)),
        ("network.protocol.version", json!("1.1")),
        ("gen_ai.provider.name", json!("gemini")),
        ("relay.upstream", json!("echo")),
        ("relay.end", json!("whole")),
    ] {
        assert_eq!(served[field], value, "{field}: {served}");
    }
    assert!(served["relay.duration_ms"].is_f64(), "{served}");
    assert_eq!(last["network.protocol.version"], "2");
    assert_eq!(refused["relay.error"], "unauthorized");
    let id = refused["relay.request_id"].as_str().expect("a text");
    assert_eq!(answer.headers["x-request-id"], id);
}

#[tokio::test]
async fn a_log_level_that_makes_no_sense_is_a_mistake() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_relay"))
        .arg("serve")
        .env("RUST_LOG", "relay=loud")
        .output()
        .expect("the program was built for this test");
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    let expected = "relay: RUST_LOG is no list of levels; write it like info or \
                    relay=debug,tower_relay=info\n";
    assert_eq!(complaint, expected);
}
